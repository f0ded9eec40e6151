"""The synchronous face: a Client for a server, a Pod for a pod.

    with nsrun.connect() as client:
        with client.up("pod.yaml") as pod:
            pod.wait_ready(timeout=30)
            print(pod.exec(["cat", "/etc/hostname"]).stdout.decode())

Times are seconds (float), sizes bytes, dates RFC 3339 text; Kubernetes objects are plain dicts as the API has them.
Every failure is an nsrun.errors.NsrunError.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nsrun.client import manifests, roots, stats
from nsrun.client.crilog import LogLine
from nsrun.client.manifests import Manifest
from nsrun.client.requests import Progress, Wait, down, up
from nsrun.client.session import Call, Session
from nsrun.client.wire import ConnectionLost, Message
from nsrun.errors import NotFoundError, NsrunError, PodFailedError, TimedOutError, UsageError

if TYPE_CHECKING:
    import socket

    from nsrun.client.copying import Copied, Inside, Owner
    from nsrun.client.forward import Listening

Object = dict[str, Any]


class ExecResult(NamedTuple):
    """How a command in a container ended.

    Attributes:
        exit_code: 0 to 255; 128+n when signal n ended it.
        stdout, stderr: all it wrote. With a terminal everything is in stdout.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """`stdout` as UTF-8, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")


class CommandFailedError(PodFailedError):
    """A command with `check=True` ended with another code than 0; `result` has the ExecResult."""

    def __init__(self, brief: str, result: ExecResult) -> None:
        super().__init__(brief, details=result.stderr.decode("utf-8", "replace").strip() or None)
        self.result = result


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
        self, *names: str, namespace: str | None = None, containers: bool = False, interval: float = 1.0
    ) -> list[Object]:
        """What pods use: those named, or all of one namespace or of all.

        Each is as the kubelet's summary API has it (podRef, cpu, memory, network, process_stats, containers), with additions (limits,
        throttling, diskIO). What nobody counts here is left out, and `missing` says why.

        Args:
            containers: also for each container that runs.
            interval: seconds over which cpu.usageNanoCores is measured; 0 looks once and leaves that out.

        Raises:
            NotFoundError: one of the named is not there.
        """
        first: list[Object] = stats.take(self.session, names, namespace, containers=containers)["pods"]
        if interval <= 0:
            return first
        time.sleep(interval)
        return stats.between(first, stats.take(self.session, names, namespace, containers=containers)["pods"])

    def watch_stats(
        self,
        *names: str,
        namespace: str | None = None,
        containers: bool = False,
        interval: float = 1.0,
        call: Call | None = None,
    ) -> Iterator[list[Object]]:
        """What `stats` gives, every `interval` seconds, for ever."""
        found = stats.looks(self.session, names, namespace, containers=containers, interval=interval, call=call)
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


class Pod:
    """A pod of a server. As a context manager it is taken down at the end of the block.

    Attributes:
        name, namespace, uid: of the pod.
        client: the Client it belongs to.
    """

    def __init__(self, client: Client, name: str, namespace: str, uid: str) -> None:
        self.client = client
        self.name = name
        self.namespace = namespace
        self.uid = uid

    def __repr__(self) -> str:
        return f"<nsrun.Pod {self.namespace}/{self.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(missing_ok=True)

    @property
    def object(self) -> Object:
        """The Pod object with its status, as it is now.

        Raises:
            NotFoundError: it is gone.
        """
        pod: Object = self._get()["pod"]
        return pod

    @property
    def runtime(self) -> Object:
        """What nsrun knows beside the Kubernetes object: shim_pid, sandbox attempt, instances."""
        runtime: Object = self._get()["runtime"]
        return runtime

    def _get(self) -> Message:
        return self.client.session.request("pod.get", {"name": self.name, "namespace": self.namespace}).result

    @property
    def status(self) -> Object:
        """The PodStatus, as it is now."""
        status: Object = self.object.get("status") or {}
        return status

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded or Failed."""
        return str(self.status.get("phase", "Pending"))

    @property
    def ip(self) -> str | None:
        """The pod's address, or None: not yet, or it shares the machine's network."""
        return self.status.get("podIP") or None

    def wait(self, condition: str, timeout: float | None = None) -> None:
        """Wait for a condition, in the words of `kubectl wait --for`.

        Args:
            condition: `condition=Ready`, `phase=Succeeded`, `jsonpath={.status.podIP}=10.1.2.3`, `delete`.
            timeout: seconds to wait at most.

        Raises:
            TimedOutError, PodFailedError: it will not come. NotFoundError: the pod is gone.
        """
        wait(self.client.session, [self.name], self.namespace, condition, timeout)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the pod is ready; as `wait`."""
        self.wait("condition=Ready", timeout)

    def wait_phase(self, phase: str, timeout: float | None = None) -> None:
        """Wait until the pod's phase is `phase`; as `wait`."""
        self.wait(f"phase={phase}", timeout)

    def exec(
        self,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | None = None,
        tty: bool = False,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        call: Call | None = None,
    ) -> ExecResult:
        """Run a command in a container and wait for it.

        Args:
            command: argument vector; no shell reads it.
            container: name; None is the pod's default container.
            stdin: what it reads; None is /dev/null.
            tty: give it a terminal of 24 rows and 80 columns.
            env: variables beside the container's own.
            workdir: directory in the container.
            user: `uid`, `uid:gid` or a name of the image.
            timeout: seconds after which it is killed.
            check: raise when it ends with another code than 0.
            call: lets another thread cancel; the command is killed.

        Raises:
            CommandNotStartedError: the command is not there or cannot be executed.
            NotFoundError: no such pod or container. ConflictError: the container does not run.
            TimedOutError, CommandFailedError.
        """
        from nsrun.client import execute

        if isinstance(command, str) or not command:
            raise UsageError(
                "exec needs the command as a list of words", resolution='For shell words: ["sh", "-c", "..."]'
            )
        request = execute.Request(
            self.name,
            self.namespace,
            command,
            container=container,
            tty=tty,
            env=[f"{key}={value}" for key, value in (env or {}).items()],
            workdir=workdir,
            user=user,
        )
        stdout, stderr = execute.Buffer(), execute.Buffer()
        process = execute.begin(
            self.client.session, request, want_stdin=stdin is not None, stdout=stdout, stderr=stderr, call=call
        )
        try:
            if call is not None:
                call.on_cancel = process.kill
                if call.cancelled:
                    process.kill()
            source = None if stdin is None else execute.Source(stdin)
            code = execute.pump(process, source, timeout_s=timeout)
            if code is None:
                process.kill()
                raise TimedOutError(f"{request.described} still ran after {timeout} s and was killed")
        finally:
            if call is not None:
                call.on_cancel = None
            process.close()
        result = ExecResult(code, bytes(stdout.data), bytes(stderr.data))
        if check and code:
            raise CommandFailedError(f"{request.described} ended with {code}", result)
        return result

    def logs(
        self,
        container: str | None = None,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> str:
        """What a container wrote, stdout and stderr in the order of writing, undecodable bytes replaced.

        Args:
            container: name; None is the pod's default container.
            previous: of the instance before the current one.
            tail: only the last so many lines.
            since: only what is not older than this many seconds.
        """
        parts = []
        for line in self.log_lines(container, previous=previous, tail=tail, since=since):
            parts.append(line.text.decode("utf-8", "replace"))
            if line.complete:
                parts.append("\n")
        return "".join(parts)

    def log_lines(
        self,
        container: str | None = None,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: float | None = None,
        follow: bool = False,
        call: Call | None = None,
    ) -> Iterator[LogLine]:
        """The log line by line; with `follow` until the container has ended for good. Other arguments as for `logs`."""
        from nsrun.client import logs

        moment = logs.moment(since) if since is not None else ""
        query = logs.Query(self.name, self.namespace, container, previous, tail, moment)
        session = self.client.session
        batches = logs.Follower(session, [query], call).lines() if follow else logs.read(session, [query], call)
        for batch in batches:
            yield from batch

    def connect(self, port: int, *, timeout: float | None = None, wait: float = 0.0) -> socket.socket:
        """A TCP connection to a port of the pod's loopback; a port of the manifest need not be declared.

        Args:
            port: 1 to 65535.
            timeout: seconds; None waits as long as the kernel does.
            wait: seconds to wait for something that listens.

        Returns:
            A connected, blocking socket, which the caller owns.

        Raises:
            PodFailedError: nothing listens there. TimeoutError: what listens does not answer.
            NotFoundError: no such pod. ConflictError: it has no sandbox.
        """
        from nsrun.client import podsockets

        return podsockets.connect(self.client.session, self.name, self.namespace, port, timeout, wait)

    def copy_to(
        self,
        path: str | os.PathLike[str],
        to: str,
        *,
        container: str | None = None,
        archive: bool = False,
        on_skipped: Callable[[str], None] = lambda _path: None,
    ) -> Copied:
        """Copy a file or a tree into a running container, which needs no program for it.

        Args:
            path: on this machine. A directory that ends in `/.` is copied without itself.
            to: in the container; relative ones begin in its working directory. An existing directory gets the copy under its own name.
            container: name; None is the pod's default container.
            archive: keep owners and set-id bits; without it everything belongs to the user whom the container runs as.
            on_skipped: called with the path of each device, socket or pipe: they are not copied.

        Raises:
            StepError: what failed on what. UsageError: a directory is to be copied over a file, or the like.
            ConflictError: the container does not run. NotFoundError.
        """
        from nsrun.client import copying

        with self._inside(container) as (side, owner):
            return copying.copy(copying.Here(), os.fspath(path), side, to, None if archive else owner, on_skipped)

    def copy_from(
        self,
        path: str,
        to: str | os.PathLike[str],
        *,
        container: str | None = None,
        archive: bool = False,
        on_skipped: Callable[[str], None] = lambda _path: None,
    ) -> Copied:
        """Copy a file or a tree out of a running container; as `copy_to`. What is made belongs to the caller."""
        from nsrun.client import copying

        with self._inside(container) as (side, _owner):
            owner = None if archive else (os.geteuid(), os.getegid())
            return copying.copy(side, path, copying.Here(), os.fspath(to), owner, on_skipped)

    @contextlib.contextmanager
    def _inside(self, container: str | None) -> Iterator[tuple[Inside, Owner]]:
        from nsrun.client import copying

        params = {"name": self.name, "namespace": self.namespace, "container": container}
        answer = self.client.session.request("pod.root", params)
        (root,) = answer.fds
        try:
            yield (
                copying.Inside(root, self.name, answer.result["workdir"], answer.result["root_id"]),
                (answer.result["uid"], answer.result["gid"]),
            )
        finally:
            os.close(root)

    @contextlib.contextmanager
    def forward(self, *ports: str | int, address: str = "127.0.0.1") -> Iterator[list[Listening]]:
        """Forward ports of this machine to the pod's loopback while the block runs.

        Args:
            ports: `80` takes a free port of this machine for the pod's port 80, `8080:80` port 8080; `53/udp`; `:http` by name.
            address: to listen on; `localhost` is 127.0.0.1 and ::1.

        Returns:
            Where, in the order of the ports: address, local, remote, protocol.

        Raises:
            ConflictError: a port is taken. NotFoundError: no such pod. UsageError: a port cannot be read.
        """
        from threading import Thread

        from nsrun.client import forward
        from nsrun.client import ports as words

        found = self.object
        wanted = [words.parse(port if ":" in port else f":{port}", found) for port in map(str, ports)]
        carrier = forward.Forwarder(self.client.session, self.name, self.namespace, wanted, words.addresses([address]))

        def carry() -> None:
            # A pod that is taken down ends its connections; whoever uses them sees that.
            with contextlib.suppress(NotFoundError):
                carrier.run()

        thread = Thread(target=carry, name="nsrun-forward", daemon=True)
        thread.start()
        try:
            yield carrier.listening
        finally:
            carrier.stop()
            thread.join()
            carrier.close()

    def events(self) -> list[Object]:
        """The pod's core/v1 Events, oldest first."""
        return self.client.events(self.name, self.namespace)

    def restart(self, *containers: str, grace_period: float | None = None) -> None:
        """Stop containers (none named: all) and have them started again in the same sandbox."""
        restart(self.client.session, self.name, self.namespace, containers, grace_period)

    def kill(self, *containers: str, signal: str | int = "SIGKILL") -> None:
        """Send a signal to the root process of containers (none named: all); the restart policy does the rest."""
        kill(self.client.session, self.name, self.namespace, containers, str(signal))

    def set_condition(
        self, kind: str, status: str | bool | None, *, reason: str | None = None, message: str | None = None
    ) -> None:
        """Set a condition of the pod's status that somebody else than nsrun decides about: that of a readiness gate.

        Args:
            kind: its type, a name like `example.com/warm`.
            status: "True", "False", "Unknown" or a bool; None takes the condition away.
            reason: why, in a word.
            message: why, in a sentence.

        Raises:
            UsageError: no such type or status, or a condition of nsrun's own.
        """
        value = str(status) if isinstance(status, bool) else status
        condition(self.client.session, self.name, self.namespace, {kind: value}, reason, message)

    def down(
        self,
        *,
        grace_period: float | None = None,
        force: bool = False,
        missing_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Take the pod down; arguments and errors as for Client.down."""
        self.client.down(
            self.name,
            namespace=self.namespace,
            grace_period=grace_period,
            force=force,
            missing_ok=missing_ok,
            timeout=timeout,
        )


def wait(
    session: Session,
    names: Sequence[str],
    namespace: str | None,
    condition: str,
    timeout: float | None,
    *,
    every: bool = False,
    labels: str | None = None,
    fields: str | None = None,
    on_met: Callable[[str], None] | None = None,
    call: Call | None = None,
) -> None:
    """The request `pod.wait`.

    Args:
        session: to the server.
        names: of pods; none with `every`.
        namespace: of the pods.
        condition: in the words of `kubectl wait --for`.
        timeout: seconds for all of them together; 0 looks once.
        every: all pods of the namespace.
        labels, fields: selectors of pods in the namespace, instead of names.
        on_met: called once with the name of each pod that has come to it.
        call: lets another thread cancel.
    """
    left, met = list(names), set[str]()

    def reached(event: Message, _fds: list[int]) -> None:
        name = str(event["met"])
        if name not in met:
            met.add(name)
            if on_met is not None:
                on_met(name)

    def again(params: Message) -> Message:
        still = [name for name in left if name not in met]
        if left and not still:
            raise _AllMet
        return {**params, "names": still}

    params = {"names": left, "all": every, "namespace": namespace, "for": condition, "timeout_s": timeout}
    params |= {"labels": labels, "fields": fields}
    with contextlib.suppress(_AllMet):
        session.request("pod.wait", params, on_event=reached, changed_for_repeat=again, call=call)


class _AllMet(Exception):  # noqa: N818 - no error
    """Nothing is left to wait for."""


def restart(
    session: Session, name: str, namespace: str | None, containers: Sequence[str], grace_period: float | None
) -> None:
    """The request `pod.restart`; never repeated, for that would restart twice."""
    session.request(
        "pod.restart",
        {"name": name, "namespace": namespace, "containers": list(containers), "grace_period_s": grace_period},
        repeat=False,
    )


def kill(session: Session, name: str, namespace: str | None, containers: Sequence[str], signal: str) -> None:
    """The request `pod.kill`; never repeated."""
    session.request(
        "pod.kill",
        {"name": name, "namespace": namespace, "containers": list(containers), "signal": signal},
        repeat=False,
    )


def condition(
    session: Session,
    name: str,
    namespace: str | None,
    conditions: Mapping[str, str | None],
    reason: str | None = None,
    message: str | None = None,
) -> None:
    """The request `pod.condition`."""
    params = {"name": name, "namespace": namespace, "conditions": dict(conditions)}
    session.request("pod.condition", {**params, "reason": reason, "message": message})


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
