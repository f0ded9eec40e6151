"""The synchronous face: a Client for a server, a Pod for a pod.

    with nsrun.connect() as client:
        with client.up("pod.yaml") as pod:
            pod.wait_ready(timeout=30)
            print(pod.exec(["cat", "/etc/hostname"]).stdout.decode())

Times are seconds (float), sizes bytes, dates RFC 3339 text; Kubernetes objects are plain dicts as the API has them.
Every failure is an nsrun.errors.NsrunError.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from nsrun.client import manifests, roots, stats
from nsrun.client.manifests import Manifest
from nsrun.client.pod import Object, Pod
from nsrun.client.requests import Progress, Wait, down, up
from nsrun.client.session import Call, Session
from nsrun.client.wire import ConnectionLost
from nsrun.errors import NsrunError, UsageError

if TYPE_CHECKING:
    pass


class WatchEvent(NamedTuple):
    """A change of a pod: ADDED, MODIFIED or DELETED, and the Pod after it.

    Attributes:
        type: what happened.
        object: the Pod with its status.
        columns: as a table shows it: ready, status, restarts, age_s (seconds), ip.
    """

    type: str
    object: Object
    columns: Object


class Client:
    """The server of one root, which is started when there is none. Methods may be called from any number of threads.

    Args:
        root: directory that holds everything of that server; None for NSRUN_ROOT, else the machine's own server.
        start: start the server when there is none.

    Attributes:
        time_scale: of pods that this client brings up, unless `up` is told otherwise; None is real time.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, *, start: bool = True) -> None:
        self.session = Session(roots.find(root), may_start=start)
        self.time_scale: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Pods and the server run on."""
        self.session.close()

    # Pods

    def up(
        self,
        manifest: Manifest,
        *,
        replace: bool = False,
        ignore_unsupported: bool = False,
        time_scale: float | None = None,
        wait: Wait = "running",
        timeout: float | None = None,
        on_progress: Progress | None = None,
        call: Call | None = None,
    ) -> Pod:
        """Bring up the one pod of a manifest.

        The same manifest again changes nothing; `wait` is waited for all the same.

        Args:
            manifest: path, text, mapping (see nsrun.client.manifests.of).
            replace: exchange a pod of that name whose spec is another one.
            ignore_unsupported: go on where nsrun cannot do what the manifest asks for.
            time_scale: back-off delays and probe periods are divided by it (60: a minute becomes a second), so that a test need
                not wait for them; None takes the client's, and leaves a pod that is there as it is.
            wait: return when the pod is wished for ("none"), its containers run, or it is ready.
            timeout: seconds to wait at most.
            on_progress: called with {"pod", "text", "kind"} while waiting.
            call: lets another thread stop the waiting; the pod stays.

        Raises:
            SpecError: the manifest is not valid; field paths are in `details`.
            ConflictError: a pod of that name is there and differs.
            PodFailedError: it will not get there. TimedOutError: it did not get there in time.
            UsageError: the manifest has more than one pod: `up_all`.
        """
        documents = manifests.of(manifest)
        pods = self._up(documents, replace, ignore_unsupported, time_scale, wait, timeout, on_progress, call)
        if len(pods) != 1:
            raise UsageError(f"the manifest has {len(pods)} pods", resolution="up_all() gives them all.")
        return pods[0]

    def up_all(
        self,
        manifest: Manifest,
        *,
        replace: bool = False,
        ignore_unsupported: bool = False,
        time_scale: float | None = None,
        wait: Wait = "running",
        timeout: float | None = None,
        on_progress: Progress | None = None,
        call: Call | None = None,
    ) -> list[Pod]:
        """Bring up all pods of a manifest; arguments and errors as for `up`."""
        return self._up(
            manifests.of(manifest), replace, ignore_unsupported, time_scale, wait, timeout, on_progress, call
        )

    def _up(
        self,
        documents: list[manifests.Document],
        replace: bool,
        ignore_unsupported: bool,
        time_scale: float | None,
        wait: Wait,
        timeout: float | None,
        on_progress: Progress | None,
        call: Call | None,
    ) -> list[Pod]:
        result = up(
            self.session,
            documents,
            replace=replace,
            ignore_unsupported=ignore_unsupported,
            time_scale=self.time_scale if time_scale is None else time_scale,
            wait=wait,
            timeout=timeout,
            on_progress=on_progress,
            call=call,
        )
        return [Pod(self, one["name"], one["namespace"], one.get("uid", "")) for one in result["pods"]]

    def down(
        self,
        *names: str,
        namespace: str | None = None,
        grace_period: float | None = None,
        force: bool = False,
        missing_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Take pods down and wait until nothing of them is left.

        Args:
            names: of the pods.
            namespace: theirs; None is "default".
            grace_period: seconds between the stop signal and SIGKILL; None takes the pod's own.
            force: SIGKILL at once.
            missing_ok: a pod that is not there is no error.
            timeout: seconds to wait at most.

        Raises:
            NotFoundError, TimedOutError.
        """
        down(
            self.session,
            {"names": list(names), "namespace": namespace},
            grace_period=grace_period,
            force=force,
            missing_ok=missing_ok,
            timeout=timeout,
        )

    def down_all(self, *, grace_period: float | None = None, force: bool = False, timeout: float | None = None) -> None:
        """Take all pods of all namespaces down; arguments as for `down`."""
        down(self.session, {"all": True}, grace_period=grace_period, force=force, missing_ok=True, timeout=timeout)

    def pods(
        self, namespace: str | None = None, *, labels: str | None = None, fields: str | None = None
    ) -> list[Object]:
        """The Pod objects with status.

        Args:
            namespace: theirs; None is all.
            labels: a label selector: `app=web,tier in (a,b)`.
            fields: a field selector: `status.phase=Running`.

        Raises:
            UsageError: a selector cannot be read.
        """
        result = self.session.request("pod.list", {"namespace": namespace, "labels": labels, "fields": fields}).result
        pods: list[Object] = result["pods"]
        return pods

    def pod(self, name: str, namespace: str | None = None) -> Pod:
        """A handle for a pod that is there.

        Raises:
            NotFoundError: it is not.
        """
        found = self.session.request("pod.get", {"name": name, "namespace": namespace}).result["pod"]
        metadata = found["metadata"]
        return Pod(self, metadata["name"], metadata.get("namespace", "default"), metadata.get("uid", ""))

    def watch(
        self,
        namespace: str | None = None,
        name: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        call: Call | None = None,
    ) -> Iterator[WatchEvent]:
        """The pods there are as ADDED, then every change, for ever, also over deaths of the server.

        After a server's death the pods come as they are then: what changed as MODIFIED, what is gone as DELETED. With
        selectors, a pod that they mean no more comes as DELETED. Arguments as for `pods`.
        """
        params = {"namespace": namespace, "name": name, "labels": labels, "fields": fields}
        seen: dict[str, WatchEvent] = {}
        while True:
            fresh: set[str] = set()
            catching_up = True
            try:
                for event, _fds in self.session.stream("pod.watch", params, call):
                    if event["type"] == "BOOKMARK":
                        if catching_up:
                            for uid in [uid for uid in seen if uid not in fresh]:
                                yield seen.pop(uid)._replace(type="DELETED")
                        catching_up = False
                        continue
                    change = WatchEvent(event["type"], event["object"], event.get("columns") or {})
                    uid = change.object["metadata"]["uid"]
                    fresh.add(uid)
                    if change.type == "DELETED":
                        seen.pop(uid, None)
                    else:
                        known = seen.get(uid)
                        if known is not None and catching_up:
                            if known.object == change.object:
                                continue
                            change = change._replace(type="MODIFIED")
                        seen[uid] = change
                    yield change
                return
            except ConnectionLost:
                continue

    def events(self, name: str | None = None, namespace: str | None = None) -> list[Object]:
        """The core/v1 Events there are, oldest first; of one pod, one namespace or all."""
        result = self.session.request("pod.events", {"name": name, "namespace": namespace}).result
        events: list[Object] = result["events"]
        return events

    def stats(
        self,
        *names: str,
        namespace: str | None = None,
        containers: bool = False,
        interval: float = 1.0,
        labels: str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        """What pods use: those named, or all of one namespace or of all that the selectors mean.

        Each is as the kubelet's summary API has it (podRef, cpu, memory, network, process_stats, containers), with additions (limits,
        throttling, diskIO). What nobody counts here is left out, and `missing` says why.

        Args:
            containers: also for each container that runs.
            interval: seconds over which cpu.usageNanoCores is measured; 0 looks once and leaves that out.

        Raises:
            NotFoundError: one of the named is not there.
        """

        def look() -> list[Object]:
            found = stats.take(self.session, names, namespace, containers=containers, labels=labels, fields=fields)
            pods: list[Object] = found["pods"]
            return pods

        first = look()
        if interval <= 0:
            return first
        time.sleep(interval)
        return stats.between(first, look())

    def watch_stats(
        self,
        *names: str,
        namespace: str | None = None,
        containers: bool = False,
        interval: float = 1.0,
        labels: str | None = None,
        fields: str | None = None,
        call: Call | None = None,
    ) -> Iterator[list[Object]]:
        """What `stats` gives, every `interval` seconds, for ever."""
        found = stats.looks(
            self.session,
            names,
            namespace,
            containers=containers,
            interval=interval,
            labels=labels,
            fields=fields,
            call=call,
        )
        for look in found:
            yield look["pods"]

    # Images and the server

    def images(self) -> list[Object]:
        """The images there are: name, id, size (bytes), created, config, used_by."""
        images: list[Object] = self.session.request("image.list", {}).result["images"]
        return images

    def import_image(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        entrypoint: Sequence[str] | None = None,
        cmd: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        workdir: str | None = None,
    ) -> Object:
        """Make an image of a directory or a tar file.

        Args:
            name: under which manifests refer to it.
            path: directory or tar file (also compressed).
            entrypoint, cmd, env, user, workdir: the image's configuration.
        """
        config = {
            "entrypoint": None if entrypoint is None else list(entrypoint),
            "cmd": None if cmd is None else list(cmd),
            "env": None if env is None else [f"{key}={value}" for key, value in env.items()],
            "user": user,
            "workdir": workdir,
        }
        params = {
            "name": name,
            "path": os.path.abspath(path),
            "config": {key: value for key, value in config.items() if value is not None},
        }
        image: Object = self.session.request("image.import", params).result["image"]
        return image

    def pull_image(self, name: str, *, on_progress: Callable[[Object], None] | None = None) -> Object:
        """Bring an image from its registry.

        Args:
            name: as manifests have it.
            on_progress: called with {layer, state: waiting|pulling|here|done, done, total} (bytes).

        Raises:
            NotFoundError: the registry does not have it, or does not answer.
        """

        def told(event: Object, _fds: list[int]) -> None:
            if on_progress is not None:
                on_progress(event)

        image: Object = self.session.request("image.pull", {"name": name}, on_event=told).result["image"]
        return image

    def load_images(self, path: str | os.PathLike[str], *, name: str | None = None) -> list[Object]:
        """Bring images out of a docker-archive, an OCI archive or an OCI layout directory; gives them.

        Args:
            path: of the file or directory.
            name: what the image is to be called, if there is one in it.

        Raises:
            SpecError: it holds no image, or a damaged one. Nothing of it is kept.
        """
        params = {"path": os.path.abspath(path), "name": name}
        images: list[Object] = self.session.request("image.load", params).result["images"]
        return images

    def save_images(self, names: Sequence[str], file: int) -> None:
        """Write images to a descriptor, which may be a pipe, as one archive that docker, podman, skopeo and nsrun load.

        Raises:
            NotFoundError: one of them is not there.
        """
        self.session.request("image.save", {"names": list(names)}, fds=[file], repeat=False)

    def tag_image(self, name: str, new: str) -> Object:
        """Give an image another name, which goes over from the image that has it.

        Raises:
            NotFoundError: it is not there.
        """
        image: Object = self.session.request("image.tag", {"name": name, "new": new}).result["image"]
        return image

    def remove_image(self, name: str) -> None:
        """Remove an image.

        Raises:
            NotFoundError: it is not there. ConflictError: a pod uses it.
        """
        self.session.request("image.remove", {"name": name}, repeat=False)

    def server_status(self) -> Object:
        """version, pid, root, uptime_s (seconds), pods, memory_bytes, network."""
        return self.session.request("server.status", {}).result


def connect(root: str | os.PathLike[str] | None = None, *, start: bool = True) -> Client:
    """Connect to a root's server, starting it when there is none; see Client.

    Raises:
        PermissionDeniedError: not root. ServerError: the server does not start or is of another version.
    """
    client = Client(root, start=start)
    try:
        client.session.release(client.session.connection())
    except NsrunError:
        client.close()
        raise
    return client
