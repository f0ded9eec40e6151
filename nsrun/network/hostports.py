"""Ports of the machine that lead to pods: nftables maps, one lookup for a packet however many there are.

Whoever comes to one of the machine's addresses on such a port, also to its loopback, also from the machine itself or from a pod,
gets to the pod, by IPv4 to its IPv4 address and by IPv6 to its IPv6 address. What is asked for is told by `Network`'s owner; nothing
here is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from nsrun.network.addressing import IPV4, IPV6

CHAIN = "to_pods"
PROTOCOLS = ("tcp", "udp", "sctp")
EVERY = {IPV4: "0.0.0.0", IPV6: "::"}


class HostPort(NamedTuple):
    """A port of the machine.

    Attributes:
        protocol: "tcp", "udp" or "sctp".
        address: of the machine; "" is all of them, "0.0.0.0" all of IPv4, "::" all of IPv6.
        port: 1 to 65535.
    """

    protocol: str
    address: str
    port: int

    def of(self, family: str) -> bool:
        """Whether connections of that family come in by it."""
        return not self.address or (":" in self.address) == (family == IPV6)


class PodPort(NamedTuple):
    """Where it leads.

    Attributes:
        address: of the pod.
        address6: its IPv6 address; "" where it has none.
        port: 1 to 65535.
    """

    address: str
    address6: str
    port: int

    def at(self, family: str) -> str:
        """The pod's address of that family."""
        return self.address if family == IPV4 else self.address6


Published = Mapping[HostPort, PodPort]


class Rules(NamedTuple):
    """What the rules have to do besides masquerading.

    Attributes:
        published: where ports lead.
        spares_dns: port 53 of the machine's address on the pods' network leads to no pod.
        beside: bridges of the root's other networks: what goes there keeps its address.
        isolated: nothing goes there, and nothing comes from there, but by ports of the machine.
    """

    published: Published
    spares_dns: bool = False
    beside: tuple[str, ...] = ()
    isolated: bool = False


_WORDS = {IPV4: ("ip", "ipv4_addr"), IPV6: ("ip6", "ipv6_addr")}


def maps(rules: Rules, network: IPv4Network | IPv6Network) -> str:
    """The maps and the chain that looks into them; nothing when no port is published."""
    family = IPV4 if network.version == 4 else IPV6
    pairs = sorted((at, to) for at, to in rules.published.items() if at.of(family) and to.at(family))
    if not pairs:
        return ""
    ip, kind = _WORDS[family]
    everywhere = ("", EVERY[family])
    to_pod = {at: f"{to.at(family)} . {to.port}" for at, to in pairs}
    exact = {
        f"{at.protocol} . {at.address} . {at.port}": to for at, to in to_pod.items() if at.address not in everywhere
    }
    every = {f"{at.protocol} . {at.port}": to for at, to in to_pod.items() if at.address in everywhere}
    protocols = f"meta l4proto {{ {', '.join(PROTOCOLS)} }}"
    return (
        _map("address_ports", f"inet_proto . {kind} . inet_service : {kind} . inet_service", exact)
        + _map("ports", f"inet_proto . inet_service : {kind} . inet_service", every)
        + f"  chain {CHAIN} {{\n"
        + (f"    {ip} daddr {network[1]} meta l4proto {{ tcp, udp }} th dport 53 return\n" if rules.spares_dns else "")
        # A port of one address goes before the same port of all of them.
        + f"    {protocols} dnat {ip} to meta l4proto . {ip} daddr . th dport map @address_ports\n"
        f"    {protocols} dnat {ip} to meta l4proto . th dport map @ports\n"
        "  }\n"
    )


def chains(rules: Rules, bridge: str, network: IPv4Network | IPv6Network) -> str:
    """The chains that lead there: for packets that come in, and for the machine's own."""
    family, published = IPV4 if network.version == 4 else IPV6, rules.published
    if not any(at.of(family) and to.at(family) for at, to in published.items()):
        return ""
    led = (
        "  chain prerouting {\n"
        "    type nat hook prerouting priority dstnat; policy accept;\n"
        + _spared(rules)
        + f"    fib daddr type local jump {CHAIN}\n"
        "  }\n"
        # By its number: older nft knows no name for it in this hook.
        "  chain output {\n"
        "    type nat hook output priority -100; policy accept;\n"
        f"    fib daddr type local jump {CHAIN}\n"
        "  }\n"
    )
    if family == IPV6:
        # There is no route_localnet for IPv6: ::1 leads nowhere, and is to be refused at once, so that clients of `localhost` go on to
        # 127.0.0.1. What comes from outside for ::1 the kernel drops by itself.
        return led.replace("fib daddr type local jump", "ip6 daddr != ::1 fib daddr type local jump")
    return (
        led
        # route_localnet, without which the machine's 127.0.0.1 leads nowhere, would let pods reach it as well.
        + "  chain guard {\n"
        "    type filter hook prerouting priority raw; policy accept;\n"
        f'    iifname "{bridge}" ip daddr 127.0.0.0/8 drop\n'
        "  }\n"
    )


def _spared(rules: Rules) -> str:
    """Pods of other networks that ask the resolver at the bridge's address that they have it at."""
    if not (rules.spares_dns and rules.beside):
        return ""
    questions = "meta l4proto { tcp, udp } th dport 53 return"
    return f"    iifname {names(rules.beside)} fib daddr . iif type local {questions}\n"


def names(links: Iterable[str]) -> str:
    """Links' names as a set of nft."""
    quoted = ", ".join(f'"{link}"' for link in links)
    return f"{{ {quoted} }}"


def way_back(published: Published, network: IPv4Network | IPv6Network, bridge: str) -> str:
    """What the chain postrouting needs besides: answers have to come back over the machine, which knows of the translation."""
    if not published:
        return ""
    if network.version == 6:
        return f"    ct status dnat ip6 saddr {network} ip6 daddr {network} masquerade\n"
    return (
        f"    ct status dnat ip saddr {network} ip daddr {network} masquerade\n"
        f'    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade\n'
    )


def _map(name: str, kind: str, elements: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{key} : {value}" for key, value in elements.items())
    listed = f"    elements = {{ {pairs} }}\n" if elements else ""
    return f"  map {name} {{\n    type {kind}\n{listed}  }}\n"
