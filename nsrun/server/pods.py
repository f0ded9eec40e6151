"""All pods of this server: by uid and by name, created, adopted, found."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from nsrun.errors import ConflictError, InternalError, NotFoundError, NsrunError, StepError
from nsrun.network.hostports import HostPort as PublishedPort
from nsrun.network.network import Network
from nsrun.network.strangers import REASON as FIREWALL_BLOCKS
from nsrun.reconcile.admission import Amounts, HostPort, host_ports, long_running, requests_of
from nsrun.server.engine import PodEngine
from nsrun.server.sandbox import end_unreachable
from nsrun.server.watch import Changed
from nsrun.server.world import World
from nsrun.spec.names import plain_ip
from nsrun.state.files import remove_tree
from nsrun.state.layout import PRIVATE, PodPaths
from nsrun.state.ledger import Ledger, Wish, read_ledger, read_wish, write_wish
from nsrun.status.events import FAILED_SYNC, WARNING

LOOK_S = 3.0
"""How long requests wait for pods that could not be looked at yet."""

_LOG = logging.getLogger("nsrun.pods")


class Registry:
    """The pods. What is on disk is the truth; this is where it is worked on."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.room_made = self._retry_resizes
        self._by_uid: dict[str, PodEngine] = {}
        self._by_name: dict[tuple[str, str], PodEngine] = {}
        self.on_gone: Callable[[], None] = lambda: None
        """Called when nothing is left of a pod."""
        self.gone_too: list[Callable[[PodEngine], None]] = []
        """Called with a pod of which nothing is left, too."""
        self.added = Changed()
        """Told of each new pod."""

    def __iter__(self) -> Iterator[PodEngine]:
        return iter(sorted(self._by_uid.values(), key=lambda engine: (engine.namespace, engine.name)))

    def __len__(self) -> int:
        return len(self._by_uid)

    def uids(self) -> set[str]:
        """Of all pods, those being taken down included."""
        return set(self._by_uid)

    def images_in_use(self) -> dict[str, list[str]]:
        """Image id -> the pods that have containers made from it."""
        used: dict[str, list[str]] = {}
        for engine in self:
            for image_id in engine.image_ids():
                used.setdefault(image_id, []).append(engine.label)
        return used

    def published_ports(self) -> dict[str, dict[PublishedPort, int]]:
        """Ports of the machine that lead to pods, by the pods' uids: those that do not have the machine's network anyhow.

        A `hostIP` that is no address, or ::1, gets here with --ignore-unsupported: its port is not published, neither at all addresses
        nor, as nft would look a name up and read anything else as more rules, as it is written.
        """
        published = {}
        for engine in self:
            spec = engine.pod.spec
            if spec.hostNetwork or not engine.admitted:
                continue
            ports = {
                PublishedPort(
                    (port.protocol or "TCP").lower(), plain_ip(port.hostIP or ""), port.hostPort
                ): port.containerPort
                for container in long_running(engine.pod)
                for port in container.ports
                if port.hostPort and (not port.hostIP or plain_ip(port.hostIP) not in ("", "::1"))
            }
            if ports:
                published[engine.uid] = ports
        return published

    def obstructed(self, network: Network, text: str) -> None:
        """Tell the pods of a network that a firewall is in their way."""
        for engine in self:
            if network.leases.of(engine.uid) is not None:
                engine.note(WARNING, FIREWALL_BLOCKS, text)

    def ports_besides(self, uid: str) -> frozenset[HostPort]:
        """The machine's ports that the pods besides this one have: those that were admitted and have not ended."""
        return frozenset(port for one in self._admitted_besides(uid) for port in host_ports(one.pod))

    def requests_besides(self, uid: str) -> Amounts:
        """What the pods besides this one have requested: those that were admitted and have not ended."""
        return sum((requests_of(one.pod) for one in self._admitted_besides(uid)), Amounts())

    def _admitted_besides(self, uid: str) -> list[PodEngine]:
        return [
            one for one in self if one.uid != uid and one.admitted and one.ledger.failure is None and not one.finished
        ]

    def get(self, namespace: str, name: str) -> PodEngine | None:
        """The pod, or None."""
        return self._by_name.get((namespace, name))

    def find(self, namespace: str, name: str) -> PodEngine:
        """The pod.

        Raises:
            NotFoundError: with the likeliest name, or the namespace it is in.
        """
        engine = self.get(namespace, name)
        if engine is not None:
            return engine
        unreadable = self._unreadable(namespace, name)
        if unreadable is not None:
            raise NotFoundError(
                f'pod "{namespace}/{name}" cannot be found, as its {unreadable} cannot be read',
                resolution=_remove(unreadable),
            )
        others = [engine.namespace for engine in self if engine.name == name]
        here = [engine.name for engine in self if engine.namespace == namespace]
        close = difflib.get_close_matches(name, here, n=1)
        if others:
            hint = f"There is one of this name in namespace {others[0]}: add -n {others[0]}."
        elif close:
            hint = f"Did you mean {close[0]}? nsrun pod ls lists all."
        else:
            hint = "nsrun pod ls lists the pods there are."
        raise NotFoundError(f'pod "{namespace}/{name}" not found', resolution=hint)

    def create(self, wish: Wish) -> PodEngine:
        """Put a new pod on disk and begin to work on it. From the return on a crash does not lose it.

        Raises:
            ConflictError: the name is taken, or the namespace is being removed.
            StepError: the disk is full or the like; nothing is left behind.
        """
        metadata = wish.object.metadata
        self._world.namespaces.seen(metadata.namespace or "default")
        uid, key = metadata.uid or "", (metadata.namespace or "default", metadata.name or "")
        if key in self._by_name:
            raise ConflictError(f'pod "{key[0]}/{key[1]}" is already there')
        unreadable = self._unreadable(*key)
        if unreadable is not None:
            # What it runs may be alive: a second pod of its name would be the same pod twice.
            raise ConflictError(
                f'pod "{key[0]}/{key[1]}" is there already, but its {unreadable} cannot be read',
                resolution=_remove(unreadable),
            )
        paths = self._world.layout.pod(uid)
        if paths.directory.exists():
            # Of a uid that is not a random one: somebody has to look at what is in there.
            raise ConflictError(f"{paths.directory} is there already", resolution=_remove(paths.wish))
        try:
            os.mkdir(paths.directory, PRIVATE)
            write_wish(paths, wish)
        except OSError as error:
            remove_tree(paths.directory)
            raise StepError(
                "write", str(paths.wish), error.errno or 0, what=f'pod "{key[0]}/{key[1]}" could not be created'
            ) from error
        return self._register(uid, wish, Ledger())

    def _unreadable(self, namespace: str, name: str) -> Path | None:
        """The wish of a pod that could not be adopted, if it is of this name (which its log directory tells)."""
        for uid in self._world.broken:
            paths = self._world.layout.pod(uid)
            if paths.directory.exists() and self._world.layout.logs_of(namespace, name, uid).exists():
                # If somebody has removed the file meanwhile, the rest goes now.
                self._world.collect_soon()
                return paths.wish
        return None

    def _register(self, uid: str, wish: Wish, ledger: Ledger) -> PodEngine:
        engine = PodEngine(self._world, uid, wish, ledger, self._gone)
        self._by_uid[uid] = engine
        self._by_name[engine.namespace, engine.name] = engine
        engine.begin()
        self.added.tell()
        return engine

    def _gone(self, engine: PodEngine) -> None:
        self._by_uid.pop(engine.uid, None)
        if self._by_name.get((engine.namespace, engine.name)) is engine:
            del self._by_name[engine.namespace, engine.name]
        self._world.collect_soon()
        self._world.claims.wake_waiting()
        self._retry_resizes()
        self.on_gone()
        for listener in self.gone_too:
            listener(engine)

    def _retry_resizes(self) -> None:
        """Have the pods look again that ask for more than there was."""
        for engine in self._by_uid.values():
            if engine.wish.resize is not None and not engine.wish.resize.accepted:
                engine.wake()

    async def adopt(self) -> None:
        """Take over what earlier servers left: every directory with a wish is a pod.

        Returns once all were looked at, so that whoever asks is told what is; a shim that does not answer holds this up
        for LOOK_S at most.
        """
        end_unreachable(self._world.layout.pods)
        for uid in sorted(os.listdir(self._world.layout.pods)):
            paths = self._world.layout.pod(uid)
            try:
                wish = read_wish(paths)
                if wish is None:
                    continue
                ledger, unreadable = self._ledger(paths)
                if unreadable and wish.changed:
                    # The instances are counted from 0 again.
                    wish.changed = {}
                    write_wish(paths, wish)
            except (InternalError, OSError) as error:
                # The others must not suffer; the directory stays for somebody to look at.
                _LOG.error("pod directory %s is left alone: %s", paths.directory, error)
                self._world.broken.add(uid)
                continue
            try:
                engine = self._register(uid, wish, ledger)
            except NsrunError as error:
                _LOG.error("pod directory %s is left alone: %s", paths.directory, error)
                self._world.broken.add(uid)
                continue
            if unreadable:
                engine.note(WARNING, FAILED_SYNC, unreadable)
            _LOG.info("adopted pod %s/%s (%s)", engine.namespace, engine.name, uid)
        looks = [asyncio.ensure_future(engine.looked.wait()) for engine in self._by_uid.values()]
        if looks:
            _done, late = await asyncio.wait(looks, timeout=LOOK_S)
            for look in late:
                look.cancel()

    def _ledger(self, paths: PodPaths) -> tuple[Ledger, str]:
        """The ledger, and "" or why there is an empty one now: a pod that nobody can take down would be worse than that.

        Raises:
            OSError: not even that works.
        """
        try:
            return read_ledger(paths), ""
        except InternalError as error:
            aside = paths.ledger.with_suffix(".unreadable")
            os.rename(paths.ledger, aside)
            _LOG.error("%s; kept as %s", error.brief, aside)
            return Ledger(), f"{error.brief}; the pod is started anew, the file is kept as {aside.name}"

    async def close(self) -> None:
        """Stop working on the pods; they run on."""
        for engine in list(self._by_uid.values()):
            await engine.close()


def _remove(wish: Path) -> str:
    return f"Look at the file. Removing it removes the pod, processes and all, a few seconds later: rm {wish}; nsrun pod ls"
