"""The guard at the bridge: a pod sends under its own addresses or not at all.

Root in a pod may have CAP_NET_RAW and CAP_NET_ADMIN there, and so may write any frame. What comes in from a pod's link is compared with
three nftables sets, one lookup for a frame however many pods there are: link, MAC and IPv4 address; link, MAC and IPv6 address;
link and the address that a neighbour advertisement speaks for. Nothing else passes: no other protocol, no VLAN tag, no word of a
router. Frames of a few reserved MAC addresses go by another way in the kernel (br_input.c br_handle_frame) and are dropped there.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nsrun.errors import UnsupportedError
from nsrun.network.addressing import PodAddress, link_local_of
from nsrun.network.firewall import BRIDGE, Element, Firewall
from nsrun.network.masquerade import emptied, nft
from nsrun.network.netlink import NetlinkError

CHAIN = "from_pod"
_PODS, _PODS6, _TARGETS = "pods", "pods6", "targets"


class Guarded(NamedTuple):
    """A link and who may send by it."""

    link: str
    place: PodAddress

    def addresses6(self) -> tuple[str, ...]:
        """The IPv6 addresses, that of the link among them; none where the pod has none."""
        return (self.place.ip6, link_local_of(self.place.mac)) if self.place.ip6 else ()


def ruleset(table: str, prefix: str, guarded: Iterable[Guarded]) -> str:
    """The transaction for `nft -f -`: whatever the table was, afterwards it is this."""
    pods, pods6, targets = [], [], []
    for one in guarded:
        pods.append(f'"{one.link}" . {one.place.mac} . {one.place.ip}')
        for ip in one.addresses6():
            pods6.append(f'"{one.link}" . {one.place.mac} . {ip}')
            targets.append(f'"{one.link}" . {int.from_bytes(socket.inet_pton(socket.AF_INET6, ip), "big"):#x}')
    links = f'iifname "{prefix}*"'
    return (
        emptied("bridge", table)
        + f"table bridge {table} {{\n"
        + _set(_PODS, "type ifname . ether_addr . ipv4_addr", pods)
        + _set(_PODS6, "type ifname . ether_addr . ipv6_addr", pods6)
        + _set(_TARGETS, "typeof iifname . @th,64,128", targets)
        + "  chain prerouting {\n"
        "    type filter hook prerouting priority -300; policy accept;\n"
        f"    {links} goto {CHAIN}\n"
        "  }\n"
        "  chain reserved {\n"
        "    type filter hook input priority -300; policy accept;\n"
        f"    ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 {links} drop\n"
        "  }\n"
        f"  chain {CHAIN} {{\n"
        f"    ether type ip iifname . ether saddr . ip saddr @{_PODS} accept\n"
        "    ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop\n"
        f"    ether type ip6 icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @{_TARGETS} drop\n"
        f"    ether type ip6 iifname . ether saddr . ip6 saddr @{_PODS6} accept\n"
        f"    ether type arp arp htype 1 arp ptype ip iifname . ether saddr . arp saddr ip @{_PODS}"
        f" iifname . arp saddr ether . arp saddr ip @{_PODS} accept\n"
        "    counter drop\n"
        "  }\n"
        "}\n"
    )


def _set(name: str, kind: str, elements: Sequence[str]) -> str:
    listed = f"    elements = {{ {', '.join(elements)} }}\n" if elements else ""
    return f"  set {name} {{\n    {kind}\n{listed}  }}\n"


def install(table: str, prefix: str, guarded: Iterable[Guarded]) -> None:
    """Put the guard in place, for these pods.

    Args:
        table: the table's name, of the family bridge.
        prefix: how the names of all pods' links begin.
        guarded: all of them.

    Raises:
        UnsupportedError: the kernel has no nf_tables for bridges, or nft does not know a word of it.
    """
    nft(ruleset(table, prefix, guarded), "keep pods from using others' addresses")


def installed(firewall: Firewall, table: str) -> bool:
    """Whether it is there, as far as can be seen without reading each rule."""
    return bool(firewall.rules_in(table, CHAIN, BRIDGE))


def admit(firewall: Firewall, table: str, one: Guarded) -> None:
    """Let a pod send; it may be let already.

    Raises:
        NetlinkError: the kernel refused: the guard is not there, say.
    """
    firewall.add(BRIDGE, table, _elements(one))


def dismiss(firewall: Firewall, table: str, one: Guarded) -> None:
    """Take it back; what is gone already is fine.

    Raises:
        NetlinkError: the kernel refused.
    """
    try:
        firewall.remove(BRIDGE, table, _elements(one))
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def remove(firewall: Firewall, table: str) -> None:
    """Remove the guard; one that is not there is fine."""
    if firewall.has_table(table, BRIDGE):
        nft(emptied("bridge", table), f"remove the nftables table bridge {table}")


def refuse(error: UnsupportedError) -> str:
    """What a kernel that cannot means for pods."""
    return f"pods are not kept from using others' addresses: {error.brief}. Root in a pod can pretend to be another; drop NET_RAW"


def _elements(one: Guarded) -> list[Element]:
    # Each part of a concatenated key takes whole words of four bytes (nf_tables' registers).
    link = one.link.encode().ljust(16, b"\0")
    mac = bytes.fromhex(one.place.mac.replace(":", "")) + b"\0\0"
    elements = [Element(_PODS, link + mac + socket.inet_aton(one.place.ip))]
    for ip in one.addresses6():
        address = socket.inet_pton(socket.AF_INET6, ip)
        elements += [Element(_PODS6, link + mac + address), Element(_TARGETS, link + address)]
    return elements
