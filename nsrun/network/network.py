"""The network of one root directory: a bridge, a veth pair for each pod, masquerading for the way out.

    pod a: eth0 10.85.0.2 ── nsr…a ─┐
                                    ├─ nsrun0 10.85.0.1 (bridge; the host) ── routing, masquerade ── the world
    pod b: eth0 10.85.0.3 ── nsr…b ─┘

Nothing that decides is kept in the process: leases are files, links have names made of the pod's uid, the range stands in
`lib/network.json`, and whether bridge and rules are still there is asked of the kernel before each attach (0.2 ms). Netlink work is
done by one thread in the order of the calls: a request waits for the kernel's network lock, which closing namespaces may hold
for long, and a cancelled attach is over before the detach that follows it begins.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from nsrun.errors import ConflictError, UnsupportedError, errno_text
from nsrun.network import hostports, masquerade, netlink
from nsrun.network.addressing import NetworkConfig, PodAddress, choose_range, gateway_of, mac_of, networks
from nsrun.network.hostports import HostPort, PodPort
from nsrun.network.leases import Leases
from nsrun.network.netlink import Firewall, NetlinkSocket
from nsrun.network.record import NetworkRecord
from nsrun.network.refusals import WAY_OUT, namespace_lock, refusals

POD_LINK = "eth0"
IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"
_T = TypeVar("_T")


class Network:
    """Attaches pods to the network. Nothing happens before the first call; hostNetwork pods never need it.

    Args:
        config: names, ranges, MTU.
        lib_dir: `leases/` and `network.json` live there.

    Attributes:
        wanted_ports: told by the owner: the ports of the machine that pods have, by the pods' uids. Asked whenever a pod is
            attached or detached; the rules follow.
        needed: told by the owner: whether what pods share has to stay although no pod has an address.
        spares_dns: port 53 of the machine's address on the pods' network is never led to a pod.
    """

    def __init__(self, config: NetworkConfig, lib_dir: str | os.PathLike[str]) -> None:
        self.config = config
        self.wanted_ports: Callable[[], Mapping[str, Mapping[HostPort, int]]] = dict
        self.needed: Callable[[], bool] = lambda: False
        self.spares_dns = False
        self._published: dict[HostPort, PodPort] | None = None
        self.leases = Leases(Path(lib_dir, "leases"))
        self._record = NetworkRecord(Path(lib_dir, "network.json"))
        self._thread: ThreadPoolExecutor | None = None
        self._socket: NetlinkSocket | None = None
        self._firewall: Firewall | None = None
        self._bridge = 0
        self._mtu = 0
        self._network: IPv4Network | None = None
        self._generation = -1
        self._probe: tuple[bytes, bytes] = (b"", b"")
        self._warnings: list[str] = []
        self._reserved: set[str] = set()
        self._sweep_thread: ThreadPoolExecutor | None = None
        self._sweep_running: asyncio.Task[None] | None = None
        self._sweep_next: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make, or repair, everything that pods share: bridge, its address, rules, forwarding. Idempotent.

        Raises:
            UnsupportedError: no bridge in this kernel, no nftables; names it and `hostNetwork: true` as the way out.
            ConflictError: no free range, or something else has the bridge's name.
            PermissionDeniedError: not allowed to (CAP_NET_ADMIN).
        """
        await self._call(self._ensure_open)

    async def reserve(self, pod_uid: str) -> str:
        """Take the pod's lease before there is a namespace to attach; everything that pods share is opened as well.

        For whoever wants to know the address while the namespace is still being made. `detach` gives it back.

        Raises:
            NsrunError: as `attach`; then there is no lease but one that was there before.
        """

        def reserve() -> str:
            address, known = self.leases.take(pod_uid, self._ensure_open())
            if not known:
                self._reserved.add(pod_uid)
            return str(address)

        return await self._call(reserve)

    async def attach(self, pod_uid: str, netns_fd: int, netlink_socket: socket.socket | int) -> PodAddress:
        """Give a pod its eth0, address and default route. Idempotent: a pod that has them gets the same answer.

        Args:
            pod_uid: has at most one lease; the address stays the same until `detach`.
            netns_fd: the pod's network namespace; stays the caller's.
            netlink_socket: a NETLINK_ROUTE socket that was opened inside of that namespace; stays the caller's.

        Raises:
            NsrunError: as `open`; ConflictError when the range is exhausted or the pod has an eth0 of somebody else's.
        """
        wanted = dict(self.wanted_ports())
        # Duplicates: when the caller is cancelled and closes its own, the thread must not meet another file under the number.
        namespace = os.dup(netns_fd)
        try:
            pod = NetlinkSocket.borrow(netlink_socket)
        except BaseException:
            os.close(namespace)
            raise

        def attach() -> PodAddress:
            try:
                place = self._attach(pod_uid, namespace, pod)
                self._publish(wanted)
                return place
            finally:
                pod.close()
                os.close(namespace)

        return await self._call(attach)

    async def detach(self, pod_uid: str) -> None:
        """Take a pod's link and lease away; a pod that has none is fine.

        The lease goes at once, the link is gone when this returns.

        Raises:
            NsrunError: the link cannot be removed; the lease is kept then.
        """
        name = self.config.link_name(pod_uid)
        wanted = {uid: ports for uid, ports in self.wanted_ports().items() if uid != pod_uid}

        def part() -> bool:
            # Before the address can be another pod's.
            self._publish(wanted)
            marked = self._mark([name])
            self._reserved.discard(pod_uid)
            self.leases.release(pod_uid)
            return marked

        if await self._call(part):
            await self._sweep()

    async def collect(self, alive: Collection[str]) -> list[str]:
        """Remove the links and leases of pods that are not in `alive` (uids): what a killed server left.

        When no pod has an address any more, bridge and rules go, too; the next attach makes them again (20 ms).
        An attach that is called later than this is safe from it, whatever `alive` holds.

        Returns:
            The names of the links and the addresses that went.
        """
        spared = frozenset(alive)
        wanted = {self.config.link_name(uid) for uid in spared}
        ports = {uid: its for uid, its in self.wanted_ports().items() if uid in spared}

        def part() -> tuple[list[str], list[str]]:
            # if_nameindex: a server without pods must not pay for pyroute2 to see that there is nothing.
            names = [name for _, name in socket.if_nameindex()]
            gone = [name for name in names if name.startswith(self.config.link_prefix) and name not in wanted]
            self._mark(gone)
            freed = self.leases.collect(spared)
            self._publish(ports)
            if not self.leases.count() and not self.needed():
                self._remove()
            return gone, freed

        gone, freed = await self._call(part)
        if gone:
            await self._sweep()
        return gone + freed

    async def close(self, *, remove: bool = False) -> None:
        """Release descriptors and thread; with `remove` also every link, rule and lease of this root.

        Pods keep their network without it.
        """
        try:
            if remove:
                await self.collect(())
            for task in (self._sweep_running, self._sweep_next):
                if task is not None:
                    await asyncio.wait([task])
        finally:
            for thread in (self._thread, self._sweep_thread):
                if thread is not None:
                    thread.shutdown(wait=True)
            self._thread = self._sweep_thread = None
            self._forget()

    def status(self) -> dict[str, Any]:
        """What `nsrun server status` shows: bridge, range, gateway, MTU, number of leases, warnings."""
        network = self._network or self._record.range()
        return {
            "bridge": self.config.bridge,
            "open": self._network is not None,
            "range": str(network) if network else None,
            "gateway": str(gateway_of(network)) if network else None,
            "mtu": self._mtu or None,
            "leases": self.leases.count(),
            "warnings": list(self._warnings),
        }

    def place(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The machine's addresses on the pods' network, and the ranges of pods' addresses; nothing before the first set-up."""
        network = self._network or self._record.range()
        return ((str(gateway_of(network)),), (str(network),)) if network else ((), ())

    async def _call(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nsrun-network")
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # Shielded: work that was asked for is done to its end, so that what it holds is released also when nobody waits any more.
        future.add_done_callback(_retrieve)
        return await asyncio.shield(future)

    async def _sweep(self) -> None:
        """Delete every marked link, in one request for all who ask while the last one is under way.

        The kernel waits 15 to 20 ms for each deletion, be it of one link or of a hundred, without holding up others' requests.
        """
        if self._sweep_next is None:
            self._sweep_next = asyncio.create_task(self._sweep_after(self._sweep_running))
            self._sweep_next.add_done_callback(_retrieve)
        await asyncio.shield(self._sweep_next)

    async def _sweep_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._sweep_running, self._sweep_next = self._sweep_next, None
        if self._sweep_thread is None:
            self._sweep_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nsrun-sweep")
        await asyncio.get_running_loop().run_in_executor(self._sweep_thread, self._delete_marked)

    def _delete_marked(self) -> None:
        with refusals("remove the links of pods"), NetlinkSocket() as route:
            route.one(netlink.link(netlink.RTM_DELLINK, 0, [("IFLA_GROUP", self.config.doomed_group)]), errno.ENODEV)

    # From here on everything runs in the thread.

    def _route(self) -> NetlinkSocket:
        if self._socket is None:
            self._socket = NetlinkSocket()
        return self._socket

    def _rules(self) -> Firewall:
        if self._firewall is None:
            self._firewall = Firewall()
        return self._firewall

    def _forget(self) -> None:
        for holder in (self._socket, self._firewall):
            if holder is not None:
                holder.close()
        self._socket = self._firewall = self._network = None

    def _ensure_open(self) -> IPv4Network:
        if self._network is not None and self._healthy(self._network):
            return self._network
        with refusals("set up the pod network"), namespace_lock():
            self._network = None
            self._network = self._set_up()
        return self._network

    def _healthy(self, network: IPv4Network) -> bool:
        link, gateway = self._route().ask(*self._probe)
        if not link.payloads or not gateway.payloads:
            return False
        here = netlink.parse_link(link.payloads[0])
        if here.index != self._bridge or not here.up or gateway.payloads[0][7] != netlink.RTN_LOCAL:
            return False
        if _read(IP_FORWARD) != "1":
            return False
        generation = self._rules().generation()
        if generation != self._generation:
            # Somebody changed some rule, most likely not ours. Docker may have begun to drop what is forwarded, or taken
            # our exceptions away.
            rules = self._rules()
            if rules.rules_in(self.config.table, masquerade.CHAIN) < 1 or masquerade.forward_policy_drops(rules):
                return False
            self._generation = generation
        return network is self._network

    def _set_up(self) -> IPv4Network:
        route = self._route()
        bridge = route.find_link(self.config.bridge)
        if bridge is not None and bridge.kind != "bridge":
            raise ConflictError(
                f"cannot make the bridge {self.config.bridge}: a link of that name is no bridge ({bridge.kind or 'a device'})",
                details=WAY_OUT,
                resolution='Choose another name in config.toml, as in: [network] bridge = "pods0".',
            )
        network = self._pick_range(bridge.index if bridge else 0)
        gateway = str(gateway_of(network))
        self._mtu = self.config.mtu or self._mtu_of_way_out()
        if bridge is None:
            self._make_bridge(network)
            bridge = route.find_link(self.config.bridge)
            assert bridge is not None
        self._bridge = bridge.index
        answers = route.ask(
            netlink.link(netlink.RTM_NEWLINK, 0, [], index=bridge.index, up=True),
            netlink.address(
                netlink.RTM_NEWADDR,
                netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE,
                bridge.index,
                gateway,
                network.prefixlen,
                str(network.broadcast_address),
            ),
        )
        for answer in answers:
            answer.check()
        self._adopt_links(bridge.index)
        firewall = self._rules()
        before = _read(IP_FORWARD)
        drops = masquerade.forward_policy_drops(firewall)
        # Written down first: who is killed in here must find what to take back.
        self._record.write(network, before, excepted=drops)
        if before != "1":
            _write(IP_FORWARD, "1")
        masquerade.install(self.config.table, network, self.config.bridge, self._published)
        self._let_loopback_out()
        self._warnings = [self._except_from_drop()] if drops else []
        self._generation = firewall.generation()
        self._probe = (
            netlink.link(netlink.RTM_GETLINK, 0, [("IFLA_IFNAME", self.config.bridge)]),
            netlink.route(netlink.RTM_GETROUTE, 0, {"dst_len": 32}, [("RTA_DST", gateway)]),
        )
        return network

    def _publish(self, wanted: Mapping[str, Mapping[HostPort, int]]) -> None:
        """Have the rules lead the machine's ports to the pods that have them, and to no other."""
        addresses = {uid: address for address, uid in self.leases.all().items()} if wanted else {}
        ports = {
            at: PodPort(addresses[uid], inside)
            for uid, its in wanted.items()
            if uid in addresses
            for at, inside in its.items()
        }
        if ports == self._published:
            return
        network = self._network or self._record.range()
        # A server before this one may have left some.
        old = self._published is None and network is not None
        if not ports and not (self._published or (old and self._rules().rules_in(self.config.table, hostports.CHAIN))):
            self._published = {}
            return
        assert network is not None, "a pod has an address of no range"
        masquerade.install(self.config.table, network, self.config.bridge, ports)
        self._reflect([uid for uid, its in wanted.items() if uid in addresses and its])
        self._published = ports
        self._let_loopback_out()
        self._generation = self._rules().generation()

    def _reflect(self, pods: Sequence[str]) -> None:
        """Let the bridge send to these pods what came from them: a pod that asks for a port of its own by the machine's address.

        Where br_netfilter is loaded the translation takes place in the bridge, which does not send a frame back to where it came
        from unless its port says so (hairpin).
        """
        mode = {
            "attrs": [
                ("IFLA_INFO_SLAVE_KIND", "bridge"),
                ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]}),
            ]
        }
        requests = [
            netlink.link(
                netlink.RTM_NEWLINK, 0, [("IFLA_IFNAME", self.config.link_name(uid)), ("IFLA_LINKINFO", mode)], up=True
            )
            for uid in pods
        ]
        if requests:
            for answer in self._route().ask(*requests):
                answer.check(errno.ENODEV)

    def _let_loopback_out(self) -> None:
        """What the machine sends to its own 127.0.0.1 leaves for a pod only where the bridge says that it may."""
        # A bridge that somebody deleted is made again by the next attach, which comes here as well.
        if self._published:
            with suppress(FileNotFoundError):
                _write(f"/proc/sys/net/ipv4/conf/{self.config.bridge}/route_localnet", "1")

    def _except_from_drop(self) -> str:
        """Let forwarded packets of the bridge pass iptables; the words for the status."""
        drops = "iptables drops packets by default (docker and ufw arrange that)"
        name = self.config.bridge
        if masquerade.accept_forwarding(name):
            return f"{drops}; nsrun put rules that accept those of {name} at the head of its FORWARD and INPUT chains"
        return (
            f"{drops} and there is no iptables command to except {name}: pods do not reach the world. Install iptables."
        )

    def _pick_range(self, bridge: int) -> IPv4Network:
        recorded = self._record.range()
        route = self._route()
        addresses = route.addresses()
        if recorded is not None and (
            self.leases.all()
            or f"{gateway_of(recorded)}/{recorded.prefixlen}" in {text for index, text in addresses if index == bridge}
        ):
            # Pods live in it: changing it under them would cut them off.
            return recorded
        others = (text for index, text in (*addresses, *route.routes()) if index != bridge or not bridge)
        return choose_range(self.config, networks(others))

    def _mtu_of_way_out(self) -> int:
        route = self._route()
        outward = {index for index, destination in route.routes() if destination == "0.0.0.0/0"}
        return min((link.mtu for link in route.links() if link.index in outward and link.mtu >= 576), default=1500)

    def _make_bridge(self, network: IPv4Network) -> None:
        # A MAC of its own, or the bridge would take over the smallest of its ports and change it with them.
        attributes = [
            ("IFLA_IFNAME", self.config.bridge),
            ("IFLA_ADDRESS", mac_of(gateway_of(network))),
            ("IFLA_MTU", self._mtu),
            # Without a querier snooping would lose multicast between pods.
            _linkinfo("bridge", [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]),
        ]
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
        try:
            self._route().one(netlink.link(netlink.RTM_NEWLINK, flags, attributes, up=True), errno.EEXIST)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise UnsupportedError(
                    f"cannot make the bridge {self.config.bridge}: {errno_text(error.errno)}",
                    details=f"The kernel has no bridge devices (module `bridge`). {WAY_OUT}",
                    resolution="Load the module: modprobe bridge. `nsrun doctor` shows what else is missing.",
                ) from error
            raise

    def _adopt_links(self, bridge: int) -> None:
        """Make pods' links ports of the bridge again, after it was deleted by hand."""
        requests = [
            netlink.link(netlink.RTM_SETLINK, 0, [("IFLA_MASTER", bridge)], index=link.index, up=True)
            for link in self._route().links()
            if link.name.startswith(self.config.link_prefix) and link.master != bridge
        ]
        if requests:
            for answer in self._route().ask(*requests):
                answer.check(errno.ENODEV)

    def _attach(self, pod_uid: str, namespace: int, pod: NetlinkSocket) -> PodAddress:
        # Reserved a moment ago: everything was looked at then, and there can be no link yet.
        fresh = pod_uid in self._reserved
        self._reserved.discard(pod_uid)
        network = self._network if fresh and self._network is not None else self._ensure_open()
        address, known = self.leases.take(pod_uid, network)
        known = known and not fresh
        place = PodAddress(str(address), network.prefixlen, str(gateway_of(network)), mac_of(address))
        name = self.config.link_name(pod_uid)
        try:
            with refusals(f"attach the pod to {self.config.bridge}"):
                if not (known and self._is_connected(name, pod, place)):
                    self._connect(name, namespace, place)
                self._configure(pod, place)
                self._route().settle(name)
                pod.settle(POD_LINK)
        except BaseException:
            # A new lease goes with its link; an old one belongs to a pod that may live on.
            if not known:
                self._route().ask(_delete(name))
                self.leases.release(pod_uid)
            raise
        return place

    def _is_connected(self, name: str, pod: NetlinkSocket, place: PodAddress) -> bool:
        inside, outside = pod.find_link(POD_LINK), self._route().find_link(name)
        return inside is not None and inside.mac == place.mac and self._is_port(outside)

    def _is_port(self, link: netlink.Link | None) -> bool:
        return link is not None and link.master == self._bridge and link.group != self.config.doomed_group

    def _connect(self, name: str, namespace: int, place: PodAddress) -> None:
        # One message: the kernel makes the peer inside of the pod, plugs our end into the bridge and brings it up. (The peer cannot
        # come up with it: at that moment it has no other end yet, ENOTCONN.)
        peer = {
            "attrs": [
                ("IFLA_IFNAME", POD_LINK),
                ("IFLA_NET_NS_FD", namespace),
                ("IFLA_ADDRESS", place.mac),
                ("IFLA_MTU", self._mtu),
            ],
        }
        request = netlink.link(
            netlink.RTM_NEWLINK,
            netlink.NLM_F_CREATE | netlink.NLM_F_EXCL,
            [
                ("IFLA_IFNAME", name),
                ("IFLA_MTU", self._mtu),
                ("IFLA_MASTER", self._bridge),
                _linkinfo("veth", [("VETH_INFO_PEER", peer)]),
            ],
            up=True,
        )
        answer = self._route().ask(request)[0]
        if answer.error == errno.EEXIST:
            # The pod's last sandbox died and the kernel has not cleaned up yet, or a killed server came this far.
            self._route().ask(_delete(name))
            answer = self._route().ask(request)[0]
            if answer.error == errno.EEXIST:
                raise ConflictError(
                    f"the pod's network namespace already has a link {POD_LINK} that is not nsrun's",
                    resolution="Take the pod down and up again.",
                )
        answer.check()

    def _configure(self, pod: NetlinkSocket, place: PodAddress) -> None:
        inside = pod.find_link(POD_LINK)
        if inside is None:
            raise netlink.NetlinkError(errno.ENODEV, f"no {POD_LINK} in the pod")
        broadcast = str(IPv4Network((place.ip, place.prefix), strict=False).broadcast_address)
        create = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
        answers = pod.ask(
            netlink.link(netlink.RTM_NEWLINK, 0, [], index=inside.index, up=True),
            netlink.address(netlink.RTM_NEWADDR, create, inside.index, place.ip, place.prefix, broadcast),
            netlink.route(
                netlink.RTM_NEWROUTE,
                create,
                # Table main, protocol boot, scope universe, unicast: what `ip route add default via …` sends.
                {"table": 254, "proto": 3, "scope": 0, "type": 1, "dst_len": 0},
                [("RTA_GATEWAY", place.gateway), ("RTA_OIF", inside.index)],
            ),
        )
        for answer in answers:
            answer.check()

    def _mark(self, names: Sequence[str]) -> bool:
        """Put links into the group that `_delete_marked` deletes, and down: their addresses may be in use again before they are gone.

        Returns:
            Whether there were any.
        """
        here = {name for _, name in socket.if_nameindex()}.intersection(names)
        if not here:
            return False
        doomed = ("IFLA_GROUP", self.config.doomed_group)
        requests = [netlink.link(netlink.RTM_SETLINK, 0, [("IFLA_IFNAME", name), doomed], up=False) for name in here]
        with refusals("remove the links of pods"):
            for answer in self._route().ask(*requests):
                answer.check(errno.ENODEV)
        return True

    def _remove(self) -> None:
        self._network = None
        if self.config.bridge in (name for _, name in socket.if_nameindex()):
            with refusals(f"remove the bridge {self.config.bridge}"):
                bridge = self._route().find_link(self.config.bridge)
                if bridge is not None and bridge.kind == "bridge":
                    self._route().one(_delete(self.config.bridge), errno.ENODEV)
        if self._record.exists():
            with refusals("look for rules"):
                if self._rules().has_table(self.config.table):
                    masquerade.remove(self.config.table)
            if self._record.excepted():
                masquerade.stop_accepting(self.config.bridge)
        with suppress(OSError):
            # What is no lease is not ours; the directory stays with it.
            os.rmdir(self.leases.directory)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at the outcome, lest asyncio complains that an abandoned future's error was never seen."""
    if not future.cancelled():
        future.exception()


def _linkinfo(kind: str, data: list[tuple[str, Any]]) -> tuple[str, Any]:
    return ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]})


def _delete(name: str) -> bytes:
    return netlink.link(netlink.RTM_DELLINK, 0, [("IFLA_IFNAME", name)])


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
