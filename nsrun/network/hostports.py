"""Ports of the machine that lead to pods: nftables maps, one lookup for a packet however many there are.

Whoever comes to one of the machine's addresses on such a port, also to its loopback, also from the machine itself or from a pod,
gets to the pod. What is asked for is told by `Network`'s owner; nothing here is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import NamedTuple

CHAIN = "to_pods"
PROTOCOLS = ("tcp", "udp", "sctp")


class HostPort(NamedTuple):
    """A port of the machine.

    Attributes:
        protocol: "tcp", "udp" or "sctp".
        address: an IPv4 address of the machine; "" is all of them.
        port: 1 to 65535.
    """

    protocol: str
    address: str
    port: int


class PodPort(NamedTuple):
    """Where it leads.

    Attributes:
        address: of the pod; "" until the pod has one.
        port: 1 to 65535.
    """

    address: str
    port: int


Published = Mapping[HostPort, PodPort]


def maps(published: Published) -> str:
    """The maps and the chain that looks into them; nothing when no port is published."""
    if not published:
        return ""
    pairs = sorted(published.items())
    exact = [f"{at.protocol} . {at.address} . {at.port} : {to.address} . {to.port}" for at, to in pairs if at.address]
    every = [f"{at.protocol} . {at.port} : {to.address} . {to.port}" for at, to in pairs if not at.address]
    protocols = f"meta l4proto {{ {', '.join(PROTOCOLS)} }}"
    return (
        _map("address_ports", "inet_proto . ipv4_addr . inet_service", exact)
        + _map("ports", "inet_proto . inet_service", every)
        + f"  chain {CHAIN} {{\n"
        # A port of one address goes before the same port of all of them.
        f"    {protocols} dnat ip to meta l4proto . ip daddr . th dport map @address_ports\n"
        f"    {protocols} dnat ip to meta l4proto . th dport map @ports\n"
        "  }\n"
    )


def chains(published: Published, bridge: str) -> str:
    """The chains that lead there: for packets that come in, and for the machine's own."""
    if not published:
        return ""
    return (
        "  chain prerouting {\n"
        "    type nat hook prerouting priority dstnat; policy accept;\n"
        f"    fib daddr type local jump {CHAIN}\n"
        "  }\n"
        # By its number: older nft knows no name for it in this hook.
        "  chain output {\n"
        "    type nat hook output priority -100; policy accept;\n"
        f"    fib daddr type local jump {CHAIN}\n"
        "  }\n"
        # route_localnet, without which the machine's 127.0.0.1 leads nowhere, would let pods reach it as well.
        "  chain guard {\n"
        "    type filter hook prerouting priority raw; policy accept;\n"
        f'    iifname "{bridge}" ip daddr 127.0.0.0/8 drop\n'
        "  }\n"
    )


def way_back(published: Published, network: IPv4Network, bridge: str) -> str:
    """What the chain postrouting needs besides: answers have to come back over the machine, which knows of the translation."""
    if not published:
        return ""
    return (
        f"    ct status dnat ip saddr {network} ip daddr {network} masquerade\n"
        f'    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade\n'
    )


def _map(name: str, key: str, elements: list[str]) -> str:
    listed = f"    elements = {{ {', '.join(elements)} }}\n" if elements else ""
    return f"  map {name} {{\n    type {key} : ipv4_addr . inet_service\n{listed}  }}\n"
