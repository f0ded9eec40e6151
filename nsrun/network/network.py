"""The network of one root directory: a bridge, a veth pair for each pod, masquerading for the way out.

    pod a: eth0 10.85.0.2, fd…::2 ── nsr…a ─┐
                                            ├─ nsrun0 10.85.0.1, fd…::1 (bridge; the host) ── routing, masquerade ── the world
    pod b: eth0 10.85.0.3, fd…::3 ── nsr…b ─┘

Nothing that decides is kept in the process: leases are files, links have names made of the pod's uid, the range stands in
`lib/network.json`, and whether bridge and rules are still there is asked of the kernel before each attach (0.2 ms). Netlink work is
done by one thread in the order of the calls: a request waits for the kernel's network lock, which closing namespaces may hold
for long, and a cancelled attach is over before the detach that follows it begins.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Any, TypeVar

from nsrun.errors import ConflictError, NsrunError, UnsupportedError
from nsrun.network import forwarding, guard, hostports, masquerade, netlink, strangers, wiring
from nsrun.network.addressing import (
    IPV6,
    NetworkConfig,
    PodAddress,
    Ranges,
    choose_range,
    choose_range6,
    gateway_of,
    networks,
    networks6,
)
from nsrun.network.firewall import IP6, Firewall
from nsrun.network.hostports import HostPort, PodPort
from nsrun.network.leases import Leases
from nsrun.network.netlink import NetlinkSocket
from nsrun.network.record import NetworkRecord
from nsrun.network.refusals import PORTS, WAY_OUT, full, namespace_lock, refusals
from nsrun.network.watcher import Watcher
from nsrun.network.wiring import POD_LINK

_LOG = logging.getLogger("nsrun.network")
_T = TypeVar("_T")
TABLES = "nsrun"
"""How the names of the tables of all roots and networks begin."""


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
        obstacles: what somebody's firewall does to pods, in words.
        obstructed: called in the loop with what is new of `obstacles`.
        beside: told by the owner: addresses of the root's other networks that pods have, though their bridges may not be there.
    """

    def __init__(self, config: NetworkConfig, lib_dir: str | os.PathLike[str]) -> None:
        self.config = config
        self.wanted_ports: Callable[[], Mapping[str, Mapping[HostPort, int]]] = dict
        self.needed: Callable[[], bool] = lambda: False
        self.spares_dns = False
        self.beside: Callable[[], Iterable[Ranges]] = tuple
        self._published: dict[HostPort, PodPort] | None = None
        self.leases = Leases(Path(lib_dir, "leases"))
        self._record = NetworkRecord(Path(lib_dir, "network.json"))
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: NetlinkSocket | None = None
        self._firewall: Firewall | None = None
        self._bridge = 0
        self._mtu = 0
        self._ranges: Ranges | None = None
        self._gateways: tuple[Ranges, tuple[str, ...]] | None = None
        """What `gateways` gives of which ranges: asked for six times by a pod's start."""
        self._without6 = ""
        self._unguarded = ""
        self._generation = -1
        self._probe: tuple[bytes, ...] = ()
        self._warnings: list[str] = []
        self.obstructed: Callable[[str], None] = lambda _text: None
        self.obstacles: tuple[str, ...] = ()
        self._reserved: set[str] = set()
        self._repaired: list[str] = []
        self._watcher: Watcher | None = None
        self._looking: asyncio.Task[None] | None = None
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
        self._watch()
        await self._call(self._ensure_open)

    async def reserve(self, pod_uid: str) -> tuple[str, ...]:
        """Take the pod's lease before there is a namespace to attach; everything that pods share is opened as well.

        For whoever wants to know the addresses while the namespace is still being made. `detach` gives it back.

        Raises:
            NsrunError: as `attach`; then there is no lease but one that was there before.
        """

        def reserve() -> tuple[str, ...]:
            ranges = self._ensure_open()
            address, known = self._lease(pod_uid, ranges)
            place = ranges.place(address)
            if not known:
                # While the shim makes the namespaces: there is less to do when they are there.
                try:
                    with refusals(f"attach the pod to {self.config.bridge}"):
                        self._admit(guard.Guarded(self.config.link_name(pod_uid), place))
                except BaseException:
                    self.leases.release(pod_uid)
                    raise
                self._reserved.add(pod_uid)
            return place.in_order(self.config.families)

        self._watch()
        return await self._call(reserve)

    async def attach(self, pod_uid: str, netns_fd: int, netlink_socket: socket.socket | int) -> PodAddress:
        """Give a pod its eth0, addresses and default routes. Idempotent: a pod that has them gets the same answer.

        Args:
            pod_uid: has at most one lease; the address stays the same until `detach`.
            netns_fd: the pod's network namespace; stays the caller's.
            netlink_socket: a NETLINK_ROUTE socket that was opened inside of that namespace; stays the caller's.

        Raises:
            NsrunError: as `open`; ConflictError when the range is exhausted, the pod has an eth0 of somebody else's, or a port
                is asked for at an IPv6 address where pods have no IPv6.
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
                place = self._attach(pod_uid, namespace, pod, wanted.get(pod_uid, ()))
                self._publish(wanted)
                return place
            finally:
                pod.close()
                os.close(namespace)

        self._watch()
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
            address = self.leases.release(pod_uid)
            if address is not None and self._ranges is not None:
                self._dismiss(guard.Guarded(name, self._ranges.place(IPv4Address(address))))
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
            if freed and self._ranges is not None and self.leases.count():
                self._set_guard(self._ranges)
            self._publish(ports)
            if not self.leases.count() and not self.needed():
                self._remove()
            return gone, freed

        gone, freed = await self._call(part)
        if gone:
            await self._sweep()
        return gone + freed

    async def keep(self) -> None:
        """Look after what the pods of an earlier server share, as if this one had made it.

        Raises:
            NsrunError: as `open`.
        """
        if self._ranges is None and self.leases.count():
            await self.open()

    async def close(self, *, remove: bool = False) -> None:
        """Release descriptors and thread; with `remove` also every link, rule and lease of this root.

        Pods keep their network without it.
        """
        try:
            if remove:
                await self.collect(())
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
            for task in (self._sweep_running, self._sweep_next, self._looking):
                if task is not None:
                    await asyncio.wait([task])
        finally:
            for thread in (self._thread, self._sweep_thread):
                if thread is not None:
                    thread.shutdown(wait=True)
            self._thread = self._sweep_thread = None
            self._forget()

    def status(self) -> dict[str, Any]:
        """What `nsrun server status` shows: bridge, ranges, gateways, MTU, number of leases, warnings."""
        ranges = self._ranges or self._record.ranges()
        return {
            "bridge": self.config.bridge,
            "open": self._ranges is not None,
            "range": str(ranges.ipv4) if ranges else None,
            "range6": str(ranges.ipv6) if ranges and ranges.ipv6 else None,
            "gateway": str(gateway_of(ranges.ipv4)) if ranges else None,
            "gateway6": str(ranges.gateway6) if ranges and ranges.ipv6 else None,
            "mtu": self._mtu or None,
            "leases": self.leases.count(),
            "repaired": list(self._repaired),
            "warnings": [
                *self._warnings,
                *self.obstacles,
                *forwarding.crowded(self.leases.count()),
                *(one for one in (self._without6, self._unguarded) if one),
            ],
        }

    def ranges_in_use(self) -> Ranges | None:
        """Where its pods have their addresses, while there are any."""
        return (self._ranges or self._record.ranges()) if self.leases.count() else None

    def gateways(self) -> tuple[str, ...]:
        """The machine's addresses on the pods' network, in the order of the configured families; none before the first set-up."""
        ranges = self._ranges
        if ranges is None:
            ranges = self._record.ranges()
            return ranges.gateways(self.config.families) if ranges else ()
        if self._gateways is None or self._gateways[0] is not ranges:
            self._gateways = (ranges, ranges.gateways(self.config.families))
        return self._gateways[1]

    def place(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """`gateways`, and the ranges of pods' addresses; nothing before the first set-up."""
        ranges = self._ranges or self._record.ranges()
        if ranges is None:
            return (), ()
        return self.gateways(), tuple(str(one) for one in (ranges.ipv4, ranges.ipv6) if one is not None)

    async def _call(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nsrun-network")
        self._loop = asyncio.get_running_loop()
        future = self._loop.run_in_executor(self._thread, work)
        # Shielded: work that was asked for is done to its end, so that what it holds is released also when nobody waits any more.
        future.add_done_callback(_retrieve)
        return await asyncio.shield(future)

    def _watch(self) -> None:
        """Have the kernel tell of changes from now on; without that, what was broken by hand is repaired with the next pod."""
        if self._watcher is None:
            with suppress(OSError):
                self._watcher = Watcher(asyncio.get_running_loop(), self._something_changed)

    def _something_changed(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        def look() -> None:
            if self._ranges is not None and (self.leases.count() or self.needed()):
                self._ensure_open()

        try:
            await self._call(look)
        except (NsrunError, OSError) as error:
            _LOG.warning("the pods' network is broken and cannot be repaired: %s", error)

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
        self._socket = self._firewall = self._ranges = None

    def _ensure_open(self) -> Ranges:
        ailment = self._ailment(self._ranges) if self._ranges is not None else ""
        if self._ranges is not None and not ailment:
            return self._ranges
        with refusals("set up the pod network"), namespace_lock():
            self._ranges = None
            self._ranges = self._set_up()
        if ailment:
            _LOG.warning("the pods' network was repaired: %s", ailment)
            self._repaired = [*self._repaired[-4:], ailment]
        return self._ranges

    def _ailment(self, ranges: Ranges) -> str:
        """What somebody has broken since it was set up; "" for nothing."""
        link, *gateways = self._route().ask(*self._probe)
        here = netlink.parse_link(link.payloads[0]) if link.payloads else None
        if here is None or here.index != self._bridge:
            return f"the bridge {self.config.bridge} was gone"
        if not here.up:
            return f"the bridge {self.config.bridge} was down"
        if any(not answer.payloads or answer.payloads[0][7] != netlink.RTN_LOCAL for answer in gateways):
            return f"the bridge {self.config.bridge} had lost an address"
        if not forwarding.forwards(six=ranges.ipv6 is not None):
            return "forwarding was off"
        rules = self._rules()
        generation = rules.generation()
        if generation != self._generation:
            # Somebody changed some rule, most likely not ours. Docker may have begun to drop what is forwarded, or taken
            # our exceptions away.
            guarded = self._unguarded or guard.installed(rules, self.config.table)
            if not guarded or not masquerade.installed(rules, self.config.table, ranges):
                return "rules of nftables were gone"
            if masquerade.forward_policy_drops(rules):
                return "a firewall drops packets by default"
            self._look_for_obstacles()
            self._generation = generation
        return ""

    def _set_up(self) -> Ranges:
        route = self._route()
        bridge = route.find_link(self.config.bridge)
        if bridge is not None and bridge.kind != "bridge":
            raise ConflictError(
                f"cannot make the bridge {self.config.bridge}: a link of that name is no bridge ({bridge.kind or 'a device'})",
                details=WAY_OUT,
                resolution='Choose another name in config.toml, as in: [network] bridge = "pods0".',
            )
        own = self._record.unique_local()
        ranges = self._pick_ranges(bridge.index if bridge else 0, own)
        self._mtu = self.config.mtu or self._mtu_of_way_out()
        if bridge is None:
            wiring.make_bridge(route, self.config.bridge, ranges, self._mtu)
            bridge = route.find_link(self.config.bridge)
            assert bridge is not None
        self._bridge = bridge.index
        wiring.set_up_bridge(route, bridge.index, ranges)
        wiring.adopt(
            route,
            self.config.link_prefix,
            bridge.index,
            {one.link: one.place.mac for one in self._guarded(ranges)},
        )
        firewall = self._rules()
        drops = masquerade.forward_policy_drops(firewall)
        # Written down first: who is killed in here must find what to take back.
        self._record.write(
            ranges, own, forwarding.read(forwarding.IP_FORWARD), excepted=drops, bridge=self.config.bridge
        )
        forwarding.begin()
        if ranges.ipv6 is not None:
            ranges = self._set_up6(ranges)
            if ranges.ipv6 is None:
                self._record.write(ranges, own, "1", excepted=drops, bridge=self.config.bridge)
        if ranges.ipv6 is None:
            masquerade.install(self.config.table, ranges, self.config.bridge, self._rules_wanted())
        self._set_guard(ranges)
        self._reflect_all()
        self._let_loopback_out()
        self._warnings = [self._except_from_drop(six=ranges.ipv6 is not None)] if drops else []
        self._look_for_obstacles()
        self._generation = firewall.generation()
        gateways = [(socket.AF_INET, 32, str(gateway_of(ranges.ipv4)))]
        if ranges.ipv6 is not None:
            gateways.append((socket.AF_INET6, 128, str(ranges.gateway6)))
        self._probe = (
            netlink.link(netlink.RTM_GETLINK, 0, [("IFLA_IFNAME", self.config.bridge)]),
            *(
                netlink.route(netlink.RTM_GETROUTE, 0, {"family": family, "dst_len": length}, [("RTA_DST", gateway)])
                for family, length, gateway in gateways
            ),
        )
        return ranges

    def _look_for_obstacles(self) -> None:
        """What cannot be mended here, as it is somebody's will: pods and the log are told."""
        before = self.obstacles
        try:
            found = strangers.obstacles(self._rules(), TABLES, self.config.bridge)
        except OSError as error:
            _LOG.warning("other firewalls' rules cannot be read: %s", error)
            return
        self.obstacles = tuple(one.text(self.config.bridge) for one in found)
        for text in self.obstacles:
            if text not in before:
                _LOG.warning("%s", text)
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self.obstructed, text)

    def _set_up6(self, ranges: Ranges) -> Ranges:
        """IPv6, and the rules of both; where the machine cannot, pods do without, and the status says why."""
        try:
            forwarding.begin_ipv6(self.config.bridge)
            wiring.set_up_bridge6(self._route(), self._bridge, ranges)
            masquerade.install(self.config.table, ranges, self.config.bridge, self._rules_wanted())
        except OSError as error:
            why = error.strerror or str(error)
        except NsrunError as error:
            why = error.brief
        else:
            return ranges
        self._without6 = f"pods have no IPv6: {why}"
        _LOG.warning("%s", self._without6)
        return Ranges(ranges.ipv4)

    def _guarded(self, ranges: Ranges) -> list[guard.Guarded]:
        leases = ((IPv4Address(address), uid) for address, uid in self.leases.all().items() if uid)
        return [
            guard.Guarded(self.config.link_name(uid), ranges.place(address))
            for address, uid in leases
            if address in ranges.ipv4
        ]

    def _set_guard(self, ranges: Ranges) -> None:
        """Keep pods from using others' addresses; where the kernel cannot, the status says so."""
        before, self._unguarded = self._unguarded, ""
        try:
            guard.install(self.config.table, self.config.link_prefix, self._guarded(ranges))
        except UnsupportedError as error:
            self._unguarded = guard.refuse(error)
            if self._unguarded != before:
                _LOG.warning("%s", self._unguarded)

    def _admit(self, one: guard.Guarded) -> None:
        if not self._unguarded:
            with self._own_change():
                guard.admit(self._rules(), self.config.table, one)

    def _dismiss(self, one: guard.Guarded) -> None:
        if not self._unguarded:
            with refusals("take a pod's addresses back"), self._own_change():
                guard.dismiss(self._rules(), self.config.table, one)

    @contextmanager
    def _own_change(self) -> Iterator[None]:
        """A change of the rules that is not taken for somebody else's afterwards, unless there was one of theirs as well."""
        before = self._rules().generation()
        yield
        after = self._rules().generation()
        if self._generation == before and after == before + 1:
            self._generation = after

    def _reflect_all(self) -> None:
        if self._published:
            ips = {to.address for to in self._published.values()}
            uids = [uid for address, uid in self.leases.all().items() if address in ips]
            wiring.reflect(self._route(), [self.config.link_name(uid) for uid in uids])

    def _rules_wanted(self) -> hostports.Rules:
        return self._rules_for(self._published or {})

    def _rules_for(self, ports: hostports.Published) -> hostports.Rules:
        config = self.config
        return hostports.Rules(ports, self.spares_dns, config.beside, config.isolated)

    def _publish(self, wanted: Mapping[str, Mapping[HostPort, int]]) -> None:
        """Have the rules lead the machine's ports to the pods that have them, and to no other."""
        addresses = {uid: address for address, uid in self.leases.all().items()} if wanted else {}
        ranges = self._ranges or self._record.ranges()
        places = {uid: ranges.place(IPv4Address(address)) for uid, address in addresses.items()} if ranges else {}
        ports = {
            at: PodPort(places[uid].ip, places[uid].ip6, inside)
            for uid, its in wanted.items()
            if uid in places
            for at, inside in its.items()
        }
        if ports == self._published:
            return
        # A server before this one may have left some.
        old = self._published is None and ranges is not None
        if not ports and not (self._published or (old and self._leads_somewhere())):
            self._published = {}
            return
        assert ranges is not None, "a pod has an address of no range"
        masquerade.install(self.config.table, ranges, self.config.bridge, self._rules_for(ports))
        wiring.reflect(
            self._route(), [self.config.link_name(uid) for uid, its in wanted.items() if uid in places and its]
        )
        self._published = ports
        self._let_loopback_out()
        self._generation = self._rules().generation()

    def _leads_somewhere(self) -> bool:
        rules, table = self._rules(), self.config.table
        return bool(rules.rules_in(table, hostports.CHAIN) or rules.rules_in(table, hostports.CHAIN, IP6))

    def _let_loopback_out(self) -> None:
        """What the machine sends to its own 127.0.0.1 leaves for a pod only where the bridge says that it may."""
        # A bridge that somebody deleted is made again by the next attach, which comes here as well.
        if self._published:
            with suppress(FileNotFoundError):
                forwarding.write(f"/proc/sys/net/ipv4/conf/{self.config.bridge}/route_localnet", "1")

    def _except_from_drop(self, *, six: bool) -> str:
        """Let forwarded packets of the bridge pass iptables; the words for the status."""
        drops = "iptables drops packets by default (docker and ufw arrange that)"
        name = self.config.bridge
        if masquerade.accept_forwarding(name, six=six):
            return f"{drops}; nsrun put rules that accept those of {name} at the head of its FORWARD and INPUT chains"
        return (
            f"{drops} and there is no iptables command to except {name}: pods do not reach the world. Install iptables."
        )

    def _pick_ranges(self, bridge: int, own: IPv6Network) -> Ranges:
        recorded = self._record.ranges()
        route = self._route()
        addresses = route.addresses()
        if recorded is not None and (
            self.leases.all()
            or f"{gateway_of(recorded.ipv4)}/{recorded.ipv4.prefixlen}"
            in {text for index, text in addresses if index == bridge}
        ):
            # Pods live in it: changing it under them would cut them off.
            network = recorded.ipv4
        else:
            others = (text for index, text in (*addresses, *route.routes()) if index != bridge or not bridge)
            network = choose_range(self.config, networks(others) | {one.ipv4 for one in self.beside()})
        return Ranges(network, self._pick_range6(recorded, bridge, own))

    def _pick_range6(self, recorded: Ranges | None, bridge: int, own: IPv6Network) -> IPv6Network | None:
        self._without6 = ""
        kept = recorded.ipv6 if recorded is not None and self.leases.all() else None
        if IPV6 not in self.config.families and kept is None:
            return None
        if not forwarding.has_ipv6():
            self._without6 = "pods have no IPv6: this machine has it switched off"
            return None
        if kept is not None:
            return kept
        route = self._route()
        here = (*route.addresses(socket.AF_INET6), *route.routes(socket.AF_INET6))
        try:
            used = networks6(text for index, text in here if index != bridge or not bridge)
            return choose_range6(self.config, own, used | {one.ipv6 for one in self.beside() if one.ipv6 is not None})
        except ConflictError as error:
            self._without6 = f"pods have no IPv6: {error.brief}"
            return None

    def _mtu_of_way_out(self) -> int:
        route = self._route()
        outward = {index for index, destination in route.routes() if destination == "0.0.0.0/0"}
        return min((link.mtu for link in route.links() if link.index in outward and link.mtu >= 576), default=1500)

    def _attach(self, pod_uid: str, namespace: int, pod: NetlinkSocket, ports: Collection[HostPort]) -> PodAddress:
        # Reserved a moment ago: everything was looked at then, and there can be no link yet.
        fresh = pod_uid in self._reserved
        self._reserved.discard(pod_uid)
        ranges = self._ranges if fresh and self._ranges is not None else self._ensure_open()
        address, known = self._lease(pod_uid, ranges)
        known = known and not fresh
        place = ranges.place(address)
        name = self.config.link_name(pod_uid)
        try:
            self._check_ports(ports, ranges)
            with refusals(f"attach the pod to {self.config.bridge}"):
                if not fresh:
                    self._admit(guard.Guarded(name, place))
                if not (known and self._is_connected(name, pod, place)):
                    wiring.connect(self._route(), name, namespace, place, self._bridge, self._mtu)
                place = wiring.configure(pod, place)
                wiring.settle(self._route(), name, pod, place)
        except BaseException:
            # A new lease goes with its link; an old one belongs to a pod that may live on.
            if not known:
                self._route().ask(wiring.delete(name))
                self.leases.release(pod_uid)
                with suppress(NsrunError):
                    self._dismiss(guard.Guarded(name, ranges.place(address)))
            raise
        return place

    def _lease(self, pod_uid: str, ranges: Ranges) -> tuple[IPv4Address, bool]:
        """The pod's address, and whether it had it before; before anything is made for one that the bridge has no port for."""
        if self.leases.count() >= PORTS and self.leases.of(pod_uid) is None:
            raise full()
        return self.leases.take(pod_uid, ranges.ipv4)

    def _check_ports(self, ports: Collection[HostPort], ranges: Ranges) -> None:
        six = next((at for at in ports if ":" in at.address), None)
        if six is not None and ranges.ipv6 is None:
            raise ConflictError(
                f"hostPort {six.port} is asked for at {six.address}, and pods have no IPv6 here",
                details=self._without6 or "config.toml: [network] families has no ipv6.",
                resolution="Leave hostIP out, or name an IPv4 address.",
            )

    def _is_connected(self, name: str, pod: NetlinkSocket, place: PodAddress) -> bool:
        inside, outside = pod.find_link(POD_LINK), self._route().find_link(name)
        return inside is not None and inside.mac == place.mac and self._is_port(outside)

    def _is_port(self, link: netlink.Link | None) -> bool:
        return link is not None and link.master == self._bridge and link.group != self.config.doomed_group

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
        self._ranges = None
        if self.config.bridge in (name for _, name in socket.if_nameindex()):
            with refusals(f"remove the bridge {self.config.bridge}"):
                bridge = self._route().find_link(self.config.bridge)
                if bridge is not None and bridge.kind == "bridge":
                    self._route().one(wiring.delete(self.config.bridge), errno.ENODEV)
        if self._record.exists():
            with refusals("look for rules"):
                masquerade.remove(self._rules(), self.config.table)
                guard.remove(self._rules(), self.config.table)
            if self._record.excepted():
                masquerade.stop_accepting(self.config.bridge)
        with suppress(OSError):
            # What is no lease is not ours; the directory stays with it.
            os.rmdir(self.leases.directory)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at the outcome, lest asyncio complains that an abandoned future's error was never seen."""
    if not future.cancelled():
        future.exception()
