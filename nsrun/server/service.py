"""The methods of the control protocol, and what they work on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nsrun._version import __version__
from nsrun.errors import ConflictError, NotFoundError, NsrunError, TimedOutError, UsageError, brief_of
from nsrun.server import apply, changes, commands, debug, forwarding, logs, rootdir, wait
from nsrun.server.choose import container_name, names_of, running_instance
from nsrun.server.clock import SystemClock
from nsrun.server.containers import signal_number
from nsrun.server.images import ImageMethods
from nsrun.server.metrics_settings import addresses
from nsrun.server.objects import ObjectMethods, Waiters
from nsrun.server.observing import sandbox_state
from nsrun.server.pods import Registry
from nsrun.server.prepared import log_path
from nsrun.server.rotation import Rotation
from nsrun.server.scrape import Endpoint
from nsrun.server.static import StaticPods
from nsrun.server.stats import Stats, answer
from nsrun.server.volume_methods import VolumeMethods
from nsrun.server.world import World
from nsrun.state.files import remove_tree
from nsrun.state.layout import Layout
from nsrun.status.awaited import Deleted, awaited
from nsrun.status.foreign import check_condition
from nsrun.status.selectors import Selector

if TYPE_CHECKING:
    from nsrun.reconcile.model import Instance
    from nsrun.server.api.methods import ApiMethods
    from nsrun.server.control import Method, Request
    from nsrun.server.engine import PodEngine

LAST_DOWN_S = 30.0
"""How long the pods of a server whose owner is gone may take to go; they have no grace period."""
DEFAULT_NAMESPACE = "default"

_LOG = logging.getLogger("nsrun.service")


class Service:
    """One server's methods.

    Args:
        layout: its directories.
        stop: set to end the server.
        temporary: `remove_everything` removes the root directory too.
        metrics: where they are to be had, instead of where the configuration says.
    """

    def __init__(
        self, layout: Layout, stop: asyncio.Event, *, temporary: bool = False, metrics: Sequence[str] = ()
    ) -> None:
        self._layout = layout
        self._stop = stop
        self._temporary = temporary
        self._started = time.monotonic()
        self._world = World(layout, SystemClock())
        self._pods = Registry(self._world)
        self._world.alive = self._pods.uids
        self._world.images_in_use = self._pods.images_in_use
        self._world.ports_besides = self._pods.ports_besides
        self._world.networks.connect(ports=self._pods.published_ports, obstructed=self._pods.obstructed)
        self._world.names.pods = lambda: self._pods
        self._world.requests_besides = self._pods.requests_besides
        self._world.claims.pods = lambda: self._pods
        self._waiters = Waiters(self._world, self._pods)
        self._rotation = Rotation(self._world, lambda: self._pods)
        self._static = StaticPods(self._world, self._pods)
        self._stats = Stats(self._world)
        self._endpoint = Endpoint(self._world, self._pods, self._stats, addresses(self._world.metrics, metrics))
        self._world.namespaces.pods = lambda: self._pods
        self._world.namespaces.protected = self._world.claims.in_use
        self._pods.on_gone = self._pod_gone
        self._objects: ApiMethods | None = None
        """Once somebody asked for it."""

    async def open(self) -> None:
        """Adopt what is there, and look for leftovers."""
        self._world.objects.remove_unfinished()
        await self._pods.adopt()
        self._waiters.begin()
        self._world.claims.begin()
        self._world.namespaces.resume()
        if self._world.objects.any_of("Namespace"):
            # There were such clients: what they began may have to be gone on with.
            asyncio.get_running_loop().call_soon(self._resume_api)
        await self._world.names.begin()
        # Before anybody is answered: a pod that is gone, as the next `down` will be told, must have left nothing.
        await self._world.sweep()
        self._rotation.begin()
        await self._static.open()
        self._world.collect_soon()
        self._world.image_collector.begin()
        self._endpoint.begin()

    async def close(self) -> None:
        """Stop working; the pods run on."""
        await self._endpoint.close()
        await self._rotation.close()
        await self._static.close()
        self._world.namespaces.close()
        if self._objects is not None:
            self._objects.close()
        await self._pods.close()
        await self._world.close()

    async def remove_everything(self) -> None:
        """All pods, at once and without grace; then bridge, rules, cgroups and run/."""
        # Or they would come back.
        await self._static.close()
        for engine in self._pods:
            changes.delete(engine, 0.0)
        deadline = time.monotonic() + LAST_DOWN_S
        for engine in self._pods:
            with contextlib.suppress(NsrunError):
                await wait.until(engine, lambda one: one.gone, max(deadline - time.monotonic(), 0.1), "gone")
        await self._world.collect()
        await self._world.names.remove()
        for work in (
            self._world.networks.close(remove=True),
            asyncio.to_thread(self._world.cgroups.close, remove=True),
        ):
            try:
                await work
            except (NsrunError, OSError) as error:
                _LOG.error("remove everything: %s", error)
        if len(self._pods):
            _LOG.error("%d pods could not be taken down; their directories stay", len(self._pods))
            return
        self._world.objects.close()
        remove_tree(self._layout.run)
        if self._temporary and self._layout.base is not None:
            remove_tree(self._layout.base)

    def _pod_gone(self) -> None:
        self._static.wake()
        self._world.namespaces.pod_gone()

    def methods(self) -> dict[str, Method]:
        """By their names in the protocol."""
        return {
            "server.ping": self._ping,
            "server.status": self._status,
            "server.stop": self._stop_server,
            "pod.up": self._up,
            "pod.down": self._down,
            "pod.list": self._list,
            "pod.get": self._get,
            "pod.watch": self._watch,
            "pod.events": self._events,
            "pod.stats": self._stats_of,
            "pod.wait": self._wait,
            "pod.restart": self._restart,
            "pod.kill": self._kill,
            "pod.condition": self._condition,
            "pod.exec": self._exec,
            "pod.attach": self._attach,
            "pod.logs": self._logs,
            "pod.sockets": self._sockets,
            "pod.root": self._root,
            **ImageMethods(self._world, self._pods).methods(),
            **ObjectMethods(self._world).methods(),
            **VolumeMethods(self._world).methods(),
            "pod.debug": self._debug,
            "api.watch": self._api,
            "api.create": self._api,
            "api.update": self._api,
            "api.delete": self._api,
            "api.event": self._api,
            "doctor": self._doctor,
        }

    # the server

    async def _ping(self, _request: Request) -> object:
        return {}

    async def _status(self, _request: Request) -> object:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "root": None if self._layout.base is None else str(self._layout.base),
            "uptime_s": time.monotonic() - self._started,
            "pods": len(self._pods),
            "memory_bytes": _memory(),
            "network": self._world.networks.status(),
            "cgroups": self._world.cgroup_status(),
            "manifests": self._static.status(),
            "metrics": self._endpoint.status(),
            "dns": await self._world.names.status(),
            "directories": {
                "run": str(self._layout.run),
                "lib": str(self._layout.lib),
                "log": str(self._layout.pod_logs),
                "etc": str(self._layout.etc),
            },
        }

    async def _stop_server(self, _request: Request) -> object:
        asyncio.get_running_loop().call_soon(self._stop.set)
        return {}

    async def _doctor(self, _request: Request) -> object:
        from nsrun.doctor import Check, examine

        checks = await asyncio.to_thread(examine, self._layout.lib)
        hint = "Pods have the event FirewallBlocksNetwork; `nft list ruleset` shows the chain."
        firewalls = [Check("firewall", False, text, hint) for text in self._world.networks.obstacles()]
        firewalls += [Check("neighbours", False, text) for text in self._world.networks.crowded()]
        return {
            "checks": [
                check.as_data()
                for check in (
                    *checks,
                    self._static.check(),
                    *self._world.names.checks(),
                    *firewalls,
                    *self._endpoint.checks(),
                )
            ]
        }

    def _resume_api(self) -> None:
        try:
            self._api_objects()
        except (NsrunError, OSError) as error:
            _LOG.error("objects of the Kubernetes API: %s", brief_of(error))

    async def _api(self, request: Request) -> object:
        return await self._api_objects().answer(request)

    def _api_objects(self) -> ApiMethods:
        """What clients of the Kubernetes API have; with the first of them there is more to be seen to."""
        from nsrun.server.api.methods import ApiMethods

        if self._objects is None:
            self._objects = ApiMethods(self._world, self._pods)
        return self._objects

    # pods

    def _find(self, request: Request) -> PodEngine:
        return self._pods.find(request.text("namespace", DEFAULT_NAMESPACE), request.text("name"))

    async def _up(self, request: Request) -> object:
        return await apply.up(self._world, self._pods, request)

    async def _down(self, request: Request) -> object:
        engines = self._chosen(request)
        force = request.flag("force")
        asked = request.number_or_none("grace_period_s")
        for engine in engines:
            changes.delete(engine, 0.0 if force else asked)
        if request.flag("wait", default=True):
            request.cancellable = True
            await self._until_gone(engines, request.number_or_none("timeout_s"), request)
        return {"pods": [{"name": one.name, "namespace": one.namespace, "uid": one.uid} for one in engines]}

    def _chosen(self, request: Request) -> list[PodEngine]:
        """The pods that a request names: by name, in manifests, or all."""
        namespace = request.text("namespace", DEFAULT_NAMESPACE)
        selector = _selector(request)
        if request.flag("all") or selector:
            everywhere = request.flag("all") and request.params.get("namespace") is None
            chosen = [
                one
                for one in self._pods
                if (everywhere or one.namespace == namespace) and selector.matches(one.published.object())
            ]
            for one in chosen:
                if one.static is not None:
                    text = f"it runs from {one.static}, and stays: remove that file to end it"
                    request.event({"pod": one.label, "kind": "warning", "text": text})
            return [one for one in chosen if one.static is None]
        keys = [(namespace, name) for name in request.texts("names")]
        if request.params.get("documents"):
            keys += apply.names_in(request, request.text_or_none("namespace"))
        if not keys:
            raise UsageError("no pod is named", resolution="Give names, a manifest, or --all: nsrun pod down NAME|FILE")
        found: list[PodEngine] = []
        missing: list[NotFoundError] = []
        for key in dict.fromkeys(keys):
            try:
                found.append(self._pods.find(*key))
            except NotFoundError as error:
                missing.append(error)
        for engine in found:
            if engine.static is not None:
                raise ConflictError(
                    f'pod "{engine.label}" runs from {engine.static}, and would come back as long as that is there',
                    resolution=f"Remove the file to take the pod down: rm {shlex.quote(engine.static)}",
                )
        if missing and not request.flag("missing_ok"):
            if len(keys) == 1:
                raise missing[0]
            labels = [error.brief.split('"')[1] for error in missing]
            raise NotFoundError(
                missing[0].brief if len(missing) == 1 else f"{len(missing)} pods not found: {', '.join(labels)}",
                details="Nothing was taken down." if found else None,
                resolution="nsrun pod ls lists the pods there are"
                + ("; --ignore-not-found takes down those that are there." if found else "."),
            )
        return found

    async def _until_gone(self, engines: list[PodEngine], timeout_s: float | None, request: Request) -> None:
        async def gone(engine: PodEngine) -> None:
            while not engine.gone:
                await engine.changed.wait()
            request.event({"pod": engine.label, "kind": "gone", "text": "down"})

        try:
            await asyncio.wait_for(asyncio.gather(*map(gone, engines)), timeout_s)
        except TimeoutError:
            left = [engine for engine in engines if not engine.gone]
            raise TimedOutError(
                f'pod "{left[0].label}" was not gone after {timeout_s:g} s'
                + (f", nor were {len(left) - 1} others" if len(left) > 1 else ""),
                details=wait.in_words(left[0]),
                resolution="It goes on stopping. To kill it at once: nsrun pod down --force.",
            ) from None

    async def _list(self, request: Request) -> object:
        namespace = request.text_or_none("namespace")
        selector = _selector(request)
        here = [one for one in self._pods if namespace is None or one.namespace == namespace]
        chosen = [(pod, one) for one in here if selector.matches(pod := one.published.object())]
        return {"pods": [pod for pod, _ in chosen], "columns": [one.published.columns() for _, one in chosen]}

    async def _get(self, request: Request) -> object:
        engine = self._find(request)
        return {
            "pod": engine.published.object(),
            "columns": engine.published.columns(),
            "runtime": {
                "shim_pid": engine.link.pid,
                "first_id": engine.world.ids.of(engine.uid) or None,
                "pause_pid": engine.mirror.pause.pid if engine.mirror.pause is not None else None,
                "sandbox": {
                    "state": sandbox_state(engine).value,
                    "attempt": engine.ledger.sandbox_attempt,
                    "ips": list(engine.ledger.ips),
                },
                "instances": [
                    {
                        "id": one.id,
                        "name": one.name,
                        "attempt": one.attempt,
                        "state": one.state.value,
                        "pid": one.pid,
                        "started_at": one.started_at,
                        "finished_at": one.finished_at,
                        "exit_code": one.exit_code,
                        "log": str(log_path(engine, one.name, one.attempt)),
                        "log_error": one.log_error,
                    }
                    for one in known_instances(engine)
                ],
                "directory": str(engine.paths.directory),
                "log_directory": str(engine.log_directory),
            },
        }

    async def _watch(self, request: Request) -> object:
        namespace, name = request.text_or_none("namespace"), request.text_or_none("name")

        selector = _selector(request)
        told: set[str] = set()

        def wanted(pod: dict[str, Any]) -> bool:
            metadata = pod["metadata"]
            return (namespace is None or metadata["namespace"] == namespace) and (
                name is None or metadata["name"] == name
            )

        def changed(kind: str, pod: dict[str, Any], columns: dict[str, Any]) -> None:
            if not wanted(pod):
                return
            # A pod that is changed so that the selector means it no more is gone for the watcher, and the other way round.
            known, meant = pod["metadata"]["uid"] in told, kind != "DELETED" and selector.matches(pod)
            if not (known or meant):
                return
            (told.add if meant else told.discard)(pod["metadata"]["uid"])
            kind = ("MODIFIED" if known else "ADDED") if meant else "DELETED"
            request.event({"type": kind, "object": pod, "columns": columns})

        request.cancellable = True
        for engine in self._pods:
            changed("ADDED", engine.published.object(), engine.published.columns())
        request.event({"type": "BOOKMARK"})
        with self._world.hub.pods(changed):
            await asyncio.Event().wait()
        return {}

    async def _events(self, request: Request) -> object:
        namespace, name = request.text("namespace", DEFAULT_NAMESPACE), request.text_or_none("name")
        everywhere = request.params.get("namespace") is None and name is None
        chosen = (
            [self._pods.find(namespace, name)]
            if name is not None
            else [one for one in self._pods if everywhere or one.namespace == namespace]
        )
        known = [event for one in chosen for event in one.published.events()]
        known.sort(key=lambda pair: pair[0])
        if not request.flag("watch"):
            return {"events": [event for _at, event in known]}
        request.cancellable = True

        def happened(event: dict[str, Any]) -> None:
            about = event["involvedObject"]
            if (everywhere or about["namespace"] == namespace) and (name is None or about["name"] == name):
                request.event({"event": event})

        with self._world.hub.events(happened):
            for _at, event in known:
                request.event({"event": event})
            await asyncio.Event().wait()
        return {}

    async def _stats_of(self, request: Request) -> object:
        return await answer(self._world, self._pods, self._stats, request)

    async def _wait(self, request: Request) -> object:
        request.cancellable = True
        namespace = request.text("namespace", DEFAULT_NAMESPACE)
        what = awaited(request.text("for"))
        keys = [(namespace, name) for name in dict.fromkeys(request.texts("names"))]
        selector = _selector(request)
        if request.flag("all") or (selector and not keys):
            keys = [
                (one.namespace, one.name)
                for one in self._pods
                if one.namespace == namespace and selector.matches(one.published.object())
            ]
            if not keys and not isinstance(what, Deleted):
                raise NotFoundError("no matching resources found", resolution="nsrun pod ls lists the pods there are.")
        elif not keys:
            raise UsageError("no pod is named to wait for", resolution="nsrun pod wait NAME --for=condition=Ready")
        timeout_s = request.number_or_none("timeout_s")
        await wait.wait_for(self._pods, keys, what, timeout_s, lambda name: request.event({"met": name}))
        return {}

    async def _restart(self, request: Request) -> object:
        engine = self._find(request)
        inits = {one.name for one in engine.pod.spec.initContainers if one.restartPolicy != "Always"}
        ephemerals = {one.name for one in engine.pod.spec.ephemeralContainers}
        names = [container_name(engine, name) for name in request.texts("containers")] or [
            name for name in names_of(engine) if name not in inits | ephemerals
        ]
        for name in names:
            if name in ephemerals:
                raise UsageError(
                    f'container "{name}" of pod "{engine.label}" is an ephemeral container, which is never restarted',
                    resolution=f"Add another one: nsrun pod debug {engine.name} --image IMAGE",
                )
            if name in inits:
                raise UsageError(
                    f'container "{name}" of pod "{engine.label}" is an init container; it runs once',
                    resolution="Run the whole pod anew: nsrun pod up --replace FILE",
                )
        before = {name: engine.mirror.running(name) for name in names}
        changes.restart(engine, names, request.number_or_none("grace_period_s"))
        if request.flag("wait"):
            request.cancellable = True
            attempts = {name: -1 if one is None else one.attempt for name, one in before.items()}

            def back(engine: PodEngine) -> bool:
                running = {name: engine.mirror.running(name) for name in names}
                return all(one is not None and one.attempt > attempts[name] for name, one in running.items())

            await wait.until(engine, back, request.number_or_none("timeout_s"), "restarted")
        return {}

    async def _kill(self, request: Request) -> object:
        engine = self._find(request)
        number = signal_number(request.params.get("signal"))
        wanted = request.texts("containers")
        chosen = [running_instance(engine, name) for name in wanted]
        if not wanted:
            chosen = [one for one in engine.mirror.instances() if one.alive] or [running_instance(engine, None)]
        for instance in chosen:
            if engine.shim is None:
                raise NotFoundError(f'pod "{engine.label}" has no running sandbox')
            await engine.shim.signal(instance.id, number)
        return {}

    async def _condition(self, request: Request) -> object:
        engine = self._find(request)
        wanted = request.params.get("conditions")
        if (
            not isinstance(wanted, dict)
            or not wanted
            or not all(isinstance(one, str | None) for one in wanted.values())
        ):
            raise UsageError(
                "pod.condition: parameter 'conditions' must be a table of types and statuses",
                resolution="nsrun pod condition POD example.com/warm=True",
            )
        for type_, status in wanted.items():
            check_condition(type_, status)
        changes.set_conditions(engine, wanted, request.text_or_none("reason"), request.text_or_none("message"))
        return {"conditions": engine.published.object()["status"].get("conditions") or []}

    async def _exec(self, request: Request) -> object:
        return await commands.execute(self._find(request), request)

    async def _attach(self, request: Request) -> object:
        engine = self._find(request)
        instance = running_instance(engine, request.text_or_none("container"))
        return await logs.attach(engine, request, instance.id, instance.name)

    async def _logs(self, request: Request) -> object:
        return await logs.logs(self._find(request), request)

    async def _root(self, request: Request) -> object:
        return rootdir.root(self._find(request), request)

    async def _sockets(self, request: Request) -> object:
        return await forwarding.sockets(self._find(request), request)

    async def _debug(self, request: Request) -> object:
        return debug.add(self._find(request), request)


def _selector(request: Request) -> Selector:
    """The pods that a request means by their labels and fields; all when it says nothing of them."""
    return Selector(request.text_or_none("labels"), request.text_or_none("fields"))


def known_instances(engine: PodEngine) -> list[Instance]:
    """Every instance whose record is there, and the last dead one that the ledger keeps of each container (S-KEEP)."""
    observed = engine.observed
    kept = [known.last for known in observed.ledgers.values() if known.last is not None]
    by_id = {one.id: one for one in (*kept, *observed.older, *observed.current.values())}
    return sorted(by_id.values(), key=lambda one: (one.name, one.attempt))


def _memory() -> int:
    """Resident bytes of this process."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
