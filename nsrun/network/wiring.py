"""Links, addresses and routes: the requests that make a bridge, plug a pod into it and give its end an address."""

from __future__ import annotations

import errno
import functools
import socket
import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any

from nsrun.errors import ConflictError, UnsupportedError, errno_text
from nsrun.network import netlink
from nsrun.network.addressing import PodAddress, Ranges, gateway_of, link_local_of, mac_of
from nsrun.network.netlink import NetlinkSocket
from nsrun.network.refusals import WAY_OUT, full

POD_LINK = "eth0"
_WORKER_S, _POLL_S = 1.0, 0.0002
_MAKE = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
_SET = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE


def make_bridge(route: NetlinkSocket, name: str, ranges: Ranges, mtu: int) -> None:
    """Make the bridge, up; one that somebody made meanwhile is fine.

    Raises:
        UnsupportedError: the kernel has no bridges.
        NetlinkError: it refused.
    """
    # A MAC of its own, or the bridge would take over the smallest of its ports and change it with them.
    attributes = [
        ("IFLA_IFNAME", name),
        ("IFLA_ADDRESS", mac_of(gateway_of(ranges.ipv4))),
        ("IFLA_MTU", mtu),
        # Without a querier snooping would lose multicast between pods.
        _linkinfo("bridge", [("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]),
    ]
    try:
        route.one(netlink.link(netlink.RTM_NEWLINK, _MAKE, attributes, up=True), errno.EEXIST)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise UnsupportedError(
                f"cannot make the bridge {name}: {errno_text(error.errno)}",
                details=f"The kernel has no bridge devices (module `bridge`). {WAY_OUT}",
                resolution="Load the module: modprobe bridge. `nsrun doctor` shows what else is missing.",
            ) from error
        raise


def set_up_bridge(route: NetlinkSocket, index: int, ranges: Ranges) -> None:
    """Bring the bridge up with the gateway's IPv4 address; what is there already is fine.

    Raises:
        NetlinkError: the kernel refused.
    """
    network = ranges.ipv4
    gateway, broadcast = str(gateway_of(network)), str(network.broadcast_address)
    answers = route.ask(
        netlink.up(index),
        netlink.address(netlink.RTM_NEWADDR, _SET, index, gateway, network.prefixlen, broadcast),
    )
    for answer in answers:
        answer.check()


def set_up_bridge6(route: NetlinkSocket, index: int, ranges: Ranges) -> None:
    """Give the bridge the gateway's IPv6 address.

    Raises:
        NetlinkError: the kernel refused.
    """
    if ranges.ipv6 is not None:
        gateway, prefix = str(ranges.gateway6), ranges.ipv6.prefixlen
        route.one(netlink.address(netlink.RTM_NEWADDR, _SET, index, gateway, prefix))


def adopt(route: NetlinkSocket, prefix: str, bridge: int, macs: Mapping[str, str]) -> None:
    """Make links whose names begin with `prefix` ports of the bridge again, after it was deleted by hand.

    Args:
        route: this machine's socket.
        prefix: of all pods' links.
        bridge: its index.
        macs: the pods' addresses, by the names of their links.

    Raises:
        NetlinkError: the kernel refused.
    """
    lost = [link for link in route.links() if link.name.startswith(prefix) and link.master != bridge]
    requests = []
    for link in lost:
        requests.append(netlink.link(netlink.RTM_SETLINK, 0, [("IFLA_MASTER", bridge)], index=link.index))
        requests += _port_of(link.index, macs.get(link.name, ""))
    if requests:
        for answer in route.ask(*requests):
            answer.check(errno.ENODEV)


def _port_of(index: int, mac: str) -> list[bytes]:
    """Requests that bring a port of the bridge up, which gets what is for the pod's MAC address and for all, and nothing else.

    The bridge does not learn from what pods send: a pod that sends under another's MAC address does not get what is for that one.
    """
    if not mac:
        return [netlink.up(index)]
    return [netlink.neighbour_of_port(index, mac), netlink.at_index(_begin_as_port(), index)]


@functools.cache
def _begin_as_port() -> bytes:
    settings = _port([("IFLA_BRPORT_LEARNING", 0), ("IFLA_BRPORT_UNICAST_FLOOD", 0)])
    return netlink.link(netlink.RTM_NEWLINK, 0, [settings], up=True)


def reflect(route: NetlinkSocket, names: Iterable[str]) -> None:
    """Let the bridge send to these ports what came from them: a pod that asks for a port of its own by the machine's address.

    Where br_netfilter is loaded the translation takes place in the bridge, which does not send a frame back to where it came
    from unless its port says so (hairpin).

    Raises:
        NetlinkError: the kernel refused; a link that is gone is fine.
    """
    requests = [
        netlink.link(netlink.RTM_NEWLINK, 0, [("IFLA_IFNAME", name), _port([("IFLA_BRPORT_MODE", 1)])], up=True)
        for name in names
    ]
    if requests:
        for answer in route.ask(*requests):
            answer.check(errno.ENODEV)


def connect(route: NetlinkSocket, name: str, namespace: int, place: PodAddress, bridge: int, mtu: int) -> None:
    """Make the pod's veth pair: `name` here, a port of the bridge and up; eth0 in the pod's namespace.

    Raises:
        ConflictError: the namespace has an eth0 of somebody else's.
        NetlinkError: the kernel refused.
    """
    # One message: the kernel makes the peer inside of the pod and plugs our end into the bridge. (The peer cannot come up with
    # it: at that moment it has no other end yet, ENOTCONN.)
    made = netlink.veth(name, bridge, mtu, POD_LINK, namespace, place.mac)
    # A port has no use for an address of its own, and would look for doubles of it among the pods.
    requests = [made, netlink.no_link_local(name=name)] if place.ip6 else [made]
    first, *others = route.ask(*requests)
    if first.error == errno.EEXIST:
        # The pod's last sandbox died and the kernel has not cleaned up yet, or a killed server came this far.
        route.ask(delete(name))
        first, *others = route.ask(*requests)
        if first.error == errno.EEXIST:
            raise ConflictError(
                f"the pod's network namespace already has a link {POD_LINK} that is not nsrun's",
                resolution="Take the pod down and up again.",
            )
    if first.error == errno.EXFULL:
        raise full()
    for answer in (first, *others):
        answer.check()
    for answer in route.ask(*_port_of(socket.if_nametoindex(name), place.mac)):
        answer.check()


def configure(pod: NetlinkSocket, place: PodAddress) -> PodAddress:
    """Bring eth0 up with its addresses and default routes; what is there already is fine.

    Returns:
        The place as the pod has it: without IPv6 where its namespace has that switched off.

    Raises:
        NetlinkError: the kernel refused.
    """
    index = pod.index_of(POD_LINK)
    if index == 0:
        raise netlink.NetlinkError(errno.ENODEV, f"no {POD_LINK} in the pod")
    broadcast = str(IPv4Network((place.ip, place.prefix), strict=False).broadcast_address)
    requests = [
        netlink.up(index),
        netlink.address(netlink.RTM_NEWADDR, _SET, index, place.ip, place.prefix, broadcast),
        _default_route(socket.AF_INET, place.gateway, index),
    ]
    if not place.ip6:
        for answer in pod.ask(*requests):
            answer.check()
        return place
    # The kernel would make the link's own address by itself, and use it only a second or two later (duplicate address detection).
    requests.insert(0, netlink.no_link_local(index))
    six = [
        netlink.address(netlink.RTM_NEWADDR, _SET, index, link_local_of(place.mac), 64),
        netlink.address(netlink.RTM_NEWADDR, _SET, index, place.ip6, place.prefix6),
        _default_route(socket.AF_INET6, place.gateway6, index),
    ]
    answers = pod.ask(*requests, *six)
    off = (errno.EACCES, errno.EAFNOSUPPORT)
    # addrconf.c inet6_addr_add: "IPv6 is disabled on this device".
    if answers[len(requests)].error in off or answers[0].error in off:
        for answer in answers[1 : len(requests)]:
            answer.check()
        return PodAddress(place.ip, place.prefix, place.gateway, place.mac)
    for answer in answers:
        answer.check()
    return place


def settle(route: NetlinkSocket, name: str, pod: NetlinkSocket, place: PodAddress) -> None:
    """Return when packets go through both ends of the pod's link: those of the kernel's changes that it makes later by itself are made.

    An address without duplicate address detection is sent from at once, but a packet for it is the pod's own only when a worker
    of the kernel has come to it (net/ipv6/addrconf.c, addrconf_dad_work): on a busy machine the answer to a first question for a
    neighbour would come before that, and be lost for a second.
    """
    route.settle(name)
    pod.settle(POD_LINK)
    if not place.ip6:
        return
    question = netlink.way_to(place.ip6)
    deadline = time.monotonic() + _WORKER_S
    while time.monotonic() < deadline:
        answer = pod.ask(question)[0]
        if answer.payloads and answer.payloads[0][7] == netlink.RTN_LOCAL:
            return
        time.sleep(_POLL_S)


def delete(name: str) -> bytes:
    """A request that the link of that name goes."""
    return netlink.link(netlink.RTM_DELLINK, 0, [("IFLA_IFNAME", name)])


@functools.lru_cache(maxsize=64)
def _default_route(family: int, gateway: str, index: int) -> bytes:
    # Table main, protocol boot, scope universe, unicast: what `ip route add default via …` sends.
    fields = {"family": family, "table": 254, "proto": 3, "scope": 0, "type": 1, "dst_len": 0}
    return netlink.route(netlink.RTM_NEWROUTE, _SET, fields, [("RTA_GATEWAY", gateway), ("RTA_OIF", index)])


def _port(settings: list[tuple[str, Any]]) -> tuple[str, Any]:
    data = ("IFLA_INFO_SLAVE_DATA", {"attrs": settings})
    return ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), data]})


def _linkinfo(kind: str, data: list[tuple[str, Any]]) -> tuple[str, Any]:
    return ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]})
