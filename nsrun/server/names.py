"""Names of pods: what the resolver is told, and whether there is one.

`run/dns/names.json` is all that it knows; it is replaced whenever a pod comes by an address, loses it, becomes ready or ceases to be. While
many do, it is written once in `TOGETHER_S`. Nothing in it is the truth: it is made of the pods' ledgers.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nsrun.errors import NsrunError
from nsrun.plan import ClusterDns, wants_cluster_dns
from nsrun.server.dns_settings import DnsSettings
from nsrun.server.resolver_process import ResolverProcess, in_words
from nsrun.spec.model import Pod
from nsrun.state.files import write_atomic
from nsrun.status.naming import Entry, naming, service_naming

if TYPE_CHECKING:
    from nsrun.doctor import Check
    from nsrun.server.engine import PodEngine
    from nsrun.server.world import World
    from nsrun.spec.model_kinds import Service

NAMES = "names.json"
TOGETHER_S = 0.02
"""Changes that come so soon after one another are written together."""
SHARE = 10
"""Of many pods it takes longer: no more than one part in so many of the server's time."""
AGAIN_S = 5.0
"""How often is tried to listen where that was not possible."""

_LOG = logging.getLogger("nsrun.names")


class Names:
    """The names of all pods of a server.

    Args:
        world: what all pods share.
        settings: `[dns]` of the configuration.

    Attributes:
        pods: gives all pods; the service sets it.
    """

    def __init__(self, world: World, settings: DnsSettings) -> None:
        self._world = world
        self._settings = settings
        self.pods: Callable[[], Iterable[PodEngine]] = tuple
        self._process = ResolverProcess(world.layout.dns)
        self._entries: dict[str, Entry] = {}
        self._pods: dict[str, Pod] = {}
        self._services: list[Service] | None = None
        self._place: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._serial = 0
        self._trouble = ""
        self._adopted = self._over = False
        self._busy = asyncio.Lock()
        self._writing: asyncio.TimerHandle | None = None
        self._written_at = float("-inf")
        self._write_s = 0.0
        self._retrying: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        world.objects.subscribe(self._object_changed)
        world.networks.connect(needed=self.needed, spares_dns=settings.resolver != "off")

    # for the service

    async def begin(self) -> None:
        """Take over what an earlier server left; once all pods are known."""
        for engine in self.pods():
            self.changed(engine)
        if not self.needed():
            await self.end()
            return
        # A pod with an address sees to what it needs by itself; those with the machine's network, and nobody, do not.
        alone = any(wants_cluster_dns(one.pod) and one.pod.spec.hostNetwork for one in self.pods())
        await self._serve(open_network=alone or self._settings.resolver == "always")

    async def collect(self) -> None:
        """End the resolver if no pod is to ask it.

        Raises:
            OSError: its files cannot be removed.
        """
        if not self.needed():
            await self.end()

    async def remove(self) -> None:
        """No resolver any more, and never again by this server.

        Raises:
            OSError: its files cannot be removed.
        """
        self._over = True
        await self.end()

    async def end(self) -> None:
        """No resolver any more.

        Raises:
            OSError: its files cannot be removed.
        """
        async with self._busy:
            await self._adopt()
            self._cancel()
            self._process.end()
            self._trouble = ""

    async def close(self) -> None:
        """This server ends; the resolver does not."""
        async with self._busy:
            if self._writing is not None:
                self._write()
            self._cancel()
            self._process.leave()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def status(self) -> dict[str, Any]:
        """What `nsrun server status` shows of it."""
        about: dict[str, Any] = {
            "resolver": self._settings.resolver,
            "domain": self._settings.domain,
            "addresses": list(self._process.addresses),
            "pid": self._process.pid or None,
            "starts": self._process.starts,
            "names": len(self._entries),
            "error": self._trouble,
        }
        if self._process.pid:
            try:
                told = await self._process.figures()
            except (OSError, ValueError) as error:
                return about | {"error": f"the resolver does not answer: {error}"}
            for name in ("answers", "forwarded", "failed", "refused", "strangers", "under_way", "servers"):
                about[name] = told.get(name)
        return about

    def checks(self) -> list[Check]:
        """What `nsrun doctor` says of it: nothing as long as nobody asks."""
        from nsrun.doctor import Check

        if self._trouble:
            hint = 'Free that port, or have no resolver: resolver = "off" in [dns] of config.toml.'
            return [Check("names", False, self._trouble, hint)]
        if self._process.addresses:
            return [Check("names", True, f"pods are answered at {', '.join(self._process.addresses)}")]
        return []

    # for pods

    async def cluster_dns(self, pod: Pod) -> ClusterDns:
        """Whom a pod is to ask; for one that is to ask the resolver, that is begun."""
        nobody = ClusterDns(domain=self._settings.domain)
        if self._settings.resolver == "off" or not wants_cluster_dns(pod):
            return nobody
        await self._serve(open_network=pod.spec.hostNetwork is True)
        if self._trouble:
            return nobody
        # One is enough: of several, some clients ask all at once.
        here = self._world.networks.gateways(pod.metadata.uid or "")
        return ClusterDns((here or self._process.addresses)[:1], self._settings.domain)

    def changed(self, engine: PodEngine) -> None:
        """Something about a pod may be another: its addresses, or whether it is ready."""
        entry = naming(engine.pod, engine.ledger.status, engine.ledger.ips, deleting=engine.deleting)
        if entry is None:
            self.gone(engine.uid)
        elif (
            self._entries.get(engine.uid) != entry
            or self._pods[engine.uid].metadata.labels != engine.pod.metadata.labels
        ):
            self._entries[engine.uid] = entry
            self._pods[engine.uid] = engine.pod
            self._write_soon()

    def _object_changed(self, kind: str, _namespace: str, _name: str) -> None:
        if kind == "Service":
            self._services = None
            self._write_soon()

    def gone(self, uid: str) -> None:
        """A pod has no address any more."""
        self._pods.pop(uid, None)
        if self._entries.pop(uid, None) is not None:
            self._write_soon()

    def needed(self) -> bool:
        """Whether any pod is to ask the resolver."""
        if self._over:
            return False
        if self._settings.resolver != "auto":
            return self._settings.resolver == "always"
        return any(wants_cluster_dns(one.pod) and not one.finished for one in self.pods())

    # the work

    async def _adopt(self) -> None:
        if not self._adopted:
            self._adopted = True
            if self._world.layout.dns.exists():
                await asyncio.to_thread(self._process.find)
                self._process.adopt()

    async def _serve(self, *, open_network: bool) -> None:
        """Have a resolver at the addresses that pods reach this machine by; why there is none is in `_trouble`."""
        async with self._busy:
            await self._adopt()
            try:
                if open_network:
                    await self._world.networks.default.open()
                self._listen()
            except (NsrunError, OSError) as error:
                text = in_words(error, self._world.networks.place()[0]) if isinstance(error, OSError) else error.brief
                if text != self._trouble:
                    _LOG.error("pods' names are not answered: %s; tried again every %g s", text, AGAIN_S)
                self._trouble = text
                if self._retrying is None:
                    self._retrying = asyncio.get_running_loop().call_later(AGAIN_S, self._retry)
                return
            if self._trouble:
                _LOG.info("pods' names are answered now")
            self._trouble = ""

    def _listen(self) -> None:
        place, before = self._world.networks.place(), self._process.addresses
        if not place[0]:
            return
        self._process.listen(place[0])
        if place != self._place or before != place[0]:
            self._place = place
            self._write()
        self._process.expect()

    def _retry(self) -> None:
        self._retrying = None
        if self.needed():
            task = asyncio.get_running_loop().create_task(self._serve(open_network=False))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> None:
        for timer in (self._writing, self._retrying):
            if timer is not None:
                timer.cancel()
        self._writing = self._retrying = None
        self._place = ((), ())

    def _write_soon(self) -> None:
        if self._writing is None and self._process.addresses:
            loop = asyncio.get_running_loop()
            pause_s = max(TOGETHER_S, SHARE * self._write_s)
            self._writing = loop.call_at(max(self._written_at + pause_s, loop.time()), self._write)

    def _write(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if not self._process.addresses:
            return
        began = asyncio.get_running_loop().time()
        self._serial = max(self._serial + 1, int(self._world.clock.now())) & 0xFFFFFFFF
        addresses, networks = self._place
        named = [(self._pods[uid], entry) for uid, entry in self._entries.items()]
        services = [service_naming(one, named) for one in self._kept_services()]
        data = {
            "domain": self._settings.domain,
            "serial": self._serial,
            "addresses": addresses,
            "networks": networks,
            "resolv_conf": self._settings.resolv_conf,
            "pods": sorted(self._entries.values(), key=lambda entry: (str(entry[1]), str(entry[0]))),
            "services": [one for one in services if one is not None],
        }
        try:
            write_atomic(self._world.layout.dns / NAMES, json.dumps(data).encode(), mode=0o644)
        except OSError as error:
            _LOG.error("write %s: %s", self._world.layout.dns / NAMES, error)
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(AGAIN_S, self._write)
        self._written_at = asyncio.get_running_loop().time()
        self._write_s = self._written_at - began

    def _kept_services(self) -> list[Service]:
        if self._services is None:
            try:
                self._services = self._world.objects.all_of("Service") if self._world.objects.any_of("Service") else []
            except (NsrunError, OSError) as error:
                _LOG.error("the Services cannot be read: %s", error)
                return []
        return self._services
