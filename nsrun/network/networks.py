"""All networks of one root directory: the one of most pods, and those that the configuration has besides.

Each is a `Network`, with a bridge, a range, leases and rules of its own; nothing of one that no pod is in exists. Which network a pod is
in is told by its lease, and as long as it has none by its annotation, by its namespace. Whoever takes a network out of the
configuration has it until the last of its pods is gone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nsrun.errors import NsrunError, SpecError
from nsrun.network import forwarding
from nsrun.network.addressing import DEFAULT_NETWORK, NetworkConfig, Ranges
from nsrun.network.hostports import HostPort
from nsrun.network.network import Network
from nsrun.network.record import NetworkRecord

ANNOTATION = "nsrun.io/network"
"""Of a pod: the name of the network that it is to be in."""
DIRECTORY = "networks"


class Networks:
    """The networks of a root.

    Args:
        configs: by their names, as `NetworkConfig.all_for_root` gives them.
        root: as there.
        lib_dir: the default network keeps its files in there, the others in `networks/NAME`.

    Attributes:
        default: the network of pods that ask for none.
    """

    def __init__(
        self, configs: Mapping[str, NetworkConfig], root: str | os.PathLike[str] | None, lib_dir: str | os.PathLike[str]
    ) -> None:
        self._further = Path(lib_dir, DIRECTORY)
        self.default = Network(configs[DEFAULT_NETWORK], lib_dir)
        self._configured = {name: self.default for name in configs if name == DEFAULT_NETWORK}
        self._by_namespace: dict[str, str] = {}
        for name, config in configs.items():
            if name != DEFAULT_NETWORK:
                self._configured[name] = Network(config, self._further / name)
                self._by_namespace |= dict.fromkeys(config.namespaces, name)
        self._retired = self._left_over(root)
        for one in self._all():
            one.beside = self._ranges_besides(one)

    def _left_over(self, root: str | os.PathLike[str] | None) -> dict[str, Network]:
        """Networks that an earlier configuration had."""
        try:
            names = set(os.listdir(self._further)) - self._configured.keys()
        except FileNotFoundError:
            return {}
        found = {}
        for name in names:
            bridge = NetworkRecord(self._further / name / "network.json").bridge()
            with suppress(SpecError):
                config = NetworkConfig.for_root(root, {"bridge": bridge} if bridge else {}, name)
                found[name] = Network(config, self._further / name)
        return found

    def _all(self) -> list[Network]:
        return [*self._configured.values(), *self._retired.values()]

    def _ranges_besides(self, network: Network) -> Callable[[], list[Ranges]]:
        def ranges() -> list[Ranges]:
            others = (one.ranges_in_use() for one in self._all() if one is not network)
            return [one for one in others if one is not None]

        return ranges

    def connect(
        self,
        *,
        ports: Callable[[], Mapping[str, Mapping[HostPort, int]]] | None = None,
        needed: Callable[[], bool] | None = None,
        spares_dns: bool = False,
        obstructed: Callable[[Network, str], None] | None = None,
    ) -> None:
        """Have all of them ask their owner what `Network` asks for; what pods share without having an address is the default one's."""
        for one in self._all():
            one.wanted_ports = ports or one.wanted_ports
            one.spares_dns = spares_dns or one.spares_dns
            if obstructed is not None:
                one.obstructed = functools.partial(obstructed, one)
        if needed is not None:
            self.default.needed = needed

    def of(self, pod_uid: str) -> Network:
        """The network that a pod has an address in; the default one where it has none."""
        if len(self._configured) + len(self._retired) == 1:
            return self.default
        return next((one for one in self._all() if one.leases.of(pod_uid) is not None), self.default)

    def choose(self, pod_uid: str, namespace: str, annotations: Mapping[str, str]) -> Network:
        """The network that a pod has an address in, or is to have one in.

        Raises:
            SpecError: the pod asks for one that there is not.
        """
        asked = annotations.get(ANNOTATION)
        if asked is None and not self._by_namespace and not self._retired:
            return self.default
        here = next((one for one in self._all() if one.leases.of(pod_uid) is not None), None)
        if here is not None:
            return here
        name = self._by_namespace.get(namespace, DEFAULT_NETWORK) if asked is None else asked
        if name not in self._configured:
            raise SpecError(
                f"the pod is to be in the network {name!r} ({ANNOTATION}), which the configuration does not have",
                details=f"Networks: {', '.join(self._configured)}.",
                resolution=f"Correct the annotation, or add the table [network.{name}] to config.toml and restart the server.",
            )
        return self._configured[name]

    async def detach(self, pod_uid: str) -> None:
        """As `Network.detach`, in the network that the pod has an address in."""
        await self.of(pod_uid).detach(pod_uid)

    async def collect(self, alive: Collection[str]) -> list[str]:
        """As `Network.collect`, in each of them; of those that the configuration has no more nothing stays after the last pod.

        Raises:
            NsrunError: the first of what went wrong; the others were looked at all the same.
        """
        gone: list[str] = []
        failed: NsrunError | None = None
        for one in self._all():
            try:
                gone += await one.collect(alive)
                await one.keep()
            except NsrunError as error:
                failed = failed or error
        for name, one in list(self._retired.items()):
            if not one.leases.count() and failed is None:
                await one.close()
                del self._retired[name]
                (self._further / name / "network.json").unlink(missing_ok=True)
                with suppress(OSError):
                    os.rmdir(self._further / name)
        if failed is not None:
            raise failed
        return gone

    async def close(self, *, remove: bool = False) -> None:
        """As `Network.close`, each of them.

        Raises:
            NsrunError: the first of what went wrong; the others are closed all the same.
        """
        failed: NsrunError | None = None
        for one in self._all():
            try:
                await one.close(remove=remove)
            except NsrunError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def status(self) -> dict[str, Any]:
        """As `Network.status` of the default one, and that of the others in `networks`."""
        others = {name: one.status() for name, one in (*self._configured.items(), *self._retired.items())}
        del others[DEFAULT_NETWORK]
        return self.default.status() | ({"networks": others} if others else {})

    def obstacles(self) -> list[str]:
        """What somebody's firewall does to pods that are there, in words."""
        return [text for one in self._all() if one.leases.count() for text in one.obstacles]

    def crowded(self) -> tuple[str, ...]:
        """What is to be said of the kernel's tables with as many pods as there are."""
        return forwarding.crowded(sum(one.leases.count() for one in self._all()))

    def gateways(self, pod_uid: str) -> tuple[str, ...]:
        """The machine's addresses on the network of a pod; none before the first set-up."""
        return self.of(pod_uid).gateways()

    def place(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The machine's addresses on all networks that pods are in, and the ranges of these; nothing before the first set-up."""
        used = [one for one in self._all() if one.leases.count()]
        if self.default not in used and (self.default.needed() or not used):
            used.insert(0, self.default)
        places = [one.place() for one in used]
        return tuple(ip for ips, _ in places for ip in ips), tuple(net for _, nets in places for net in nets)
