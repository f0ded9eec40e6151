"""Which addresses and names: pure functions.

Everything here is decided from values; `network.py` asks the kernel for them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from nsrun.errors import ConflictError, SpecError

IFNAME_MAX = 15
"""Bytes of a link's name (IFNAMSIZ without its NUL)."""

DEFAULT_BRIDGE = "nsrun0"
DEFAULT_NETWORK = "default"
"""The network of pods that ask for none."""
DEFAULT_RANGES = tuple(
    IPv4Network(text)
    for text in (
        *(f"10.{second}.0.0/16" for second in range(85, 100)),
        *(f"172.{second}.0.0/16" for second in range(24, 32)),
        *(f"192.168.{third}.0/24" for third in range(200, 250)),
        *(f"10.{second}.0.0/16" for second in range(185, 250)),
    )
)
"""Tried in this order. 10.85.0.0/16 is what CRI-O's and the CNI project's examples use; the kubelet's usual 10.244, docker's 172.17 and the
service ranges 10.96 to 10.99 come late or not at all."""

IPV4, IPV6 = "ipv4", "ipv6"
FAMILIES = (IPV4, IPV6)
"""As `families` of the configuration has them; the order is that of `status.podIPs`."""

_KEYS = ("range", "range6", "families", "bridge", "mtu", "namespaces", "isolated")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

SMALLEST_PREFIX = 29
"""A range needs room for its own address, the gateway, a few pods and the broadcast address."""


@dataclass(frozen=True)
class NetworkConfig:
    """What the network of one root directory is made of.

    Attributes:
        bridge: the bridge's name, at most 15 bytes.
        ranges: where pods' addresses may come from; the first that the host does not use is taken.
        chosen: the user named the range: it is taken unless the host itself has addresses in it.
        families: which addresses pods get, the first kind first. IPv4 is always among them.
        ranges6: where their IPv6 addresses may come from; none stands for a prefix of the root's own (`unique_local`).
        table: the nftables table's name.
        mtu: bytes; 0 takes that of the link with the default route.
        tag: three letters that tell this network's links from another's.
        name: of the network; that of pods that ask for none is `DEFAULT_NETWORK`.
        namespaces: pods of these are in it unless they ask for another.
        isolated: nothing goes between its pods and those of the root's other networks, but by ports of the machine.
        beside: bridges of the root's other networks.
    """

    bridge: str = DEFAULT_BRIDGE
    ranges: tuple[IPv4Network, ...] = DEFAULT_RANGES
    chosen: bool = False
    families: tuple[str, ...] = FAMILIES
    ranges6: tuple[IPv6Network, ...] = ()
    table: str = "nsrun"
    mtu: int = 0
    tag: str = "000"
    name: str = DEFAULT_NETWORK
    namespaces: tuple[str, ...] = ()
    isolated: bool = False
    beside: tuple[str, ...] = ()

    @staticmethod
    def all_for_root(
        root: str | os.PathLike[str] | None, settings: Mapping[str, Any] | None = None
    ) -> dict[str, NetworkConfig]:
        """The networks of a root directory by their names, `DEFAULT_NETWORK` first.

        Args:
            root: as of `for_root`.
            settings: the table `[network]` of etc/config.toml, which has tables for further networks: `[network.shop]`.

        Raises:
            SpecError: a setting is of the wrong kind, or two networks share what each needs for itself.
        """
        settings = dict(settings or {})
        further = {name: table for name, table in settings.items() if isinstance(table, dict) and name not in _KEYS}
        own = {key: value for key, value in settings.items() if key not in further}
        for name in further:
            if not _NAME.fullmatch(name) or name == DEFAULT_NETWORK:
                raise SpecError(
                    f"config.toml: [network.{name}]: a network cannot have the name {name!r}",
                    details="A name has up to 63 small letters, digits and hyphens, and begins and ends with a letter or a digit;"
                    f" {DEFAULT_NETWORK} is that of the table [network] itself.",
                    resolution="Correct etc/config.toml and start the server again.",
                )
        every = {DEFAULT_NETWORK: NetworkConfig.for_root(root, own)}
        every |= {name: NetworkConfig.for_root(root, table, name) for name, table in further.items()}
        for name, other in itertools.combinations(every, 2):
            _refuse_shared(every[name], every[other])
        bridges = {one.bridge for one in every.values()}
        return {name: replace(one, beside=tuple(sorted(bridges - {one.bridge}))) for name, one in every.items()}

    @staticmethod
    def for_root(
        root: str | os.PathLike[str] | None, settings: Mapping[str, Any] | None = None, name: str = DEFAULT_NETWORK
    ) -> NetworkConfig:
        """A network of a root directory (None: the machine's own).

        Args:
            root: decides names only, so that two roots on one machine never share anything.
            settings: its table of etc/config.toml: `range` (an IPv4 network or a list of them), `range6` (the same of
                IPv6), `families`, `bridge`, `mtu`, `namespaces`, `isolated`.
            name: of the network; decides names only, as well.

        Raises:
            SpecError: a setting is of the wrong kind; it names the key.
        """
        try:
            return NetworkConfig._for_root(root, dict(settings or {}), name)
        except SpecError as error:
            if name == DEFAULT_NETWORK:
                raise
            # Which of several it is.
            words = error.brief.replace("[network]", f"[network.{name}]")
            raise SpecError(words, details=error.details, resolution=error.resolution) from error

    @staticmethod
    def _for_root(root: str | os.PathLike[str] | None, settings: dict[str, Any], name: str) -> NetworkConfig:
        short = _digits(os.path.realpath(root)) if root is not None else ""
        whole, bridge = f"nsr-{short}" if short else DEFAULT_BRIDGE, f"nsrun-{name}"
        if name == DEFAULT_NETWORK:
            bridge = whole
        elif short or not valid_link_name(bridge):
            bridge = f"nsr-{_digits(f'{short}/{name}')}"
        bridge = settings.pop("bridge", bridge)
        if not isinstance(bridge, str) or not valid_link_name(bridge):
            raise _setting("bridge", bridge, f"a link's name: 1 to {IFNAME_MAX} characters, no blank, no slash")
        mtu = settings.pop("mtu", 0)
        if not isinstance(mtu, int) or isinstance(mtu, bool) or not (mtu == 0 or 576 <= mtu <= 65535):
            raise _setting("mtu", mtu, "a number of bytes, 576 to 65535, or 0 for that of the way out")
        named, named6 = settings.pop("range", None), settings.pop("range6", None)
        families = settings.pop("families", list(FAMILIES))
        if not isinstance(families, list) or families not in (["ipv4"], ["ipv4", "ipv6"], ["ipv6", "ipv4"]):
            raise _setting("families", families, 'one of: ["ipv4"], ["ipv4", "ipv6"], ["ipv6", "ipv4"]')
        isolated, namespaces = settings.pop("isolated", False), settings.pop("namespaces", [])
        if not isinstance(isolated, bool):
            raise _setting("isolated", isolated, "true or false")
        if not isinstance(namespaces, list) or any(not isinstance(one, str) or not one for one in namespaces):
            raise _setting("namespaces", namespaces, 'a list of namespaces such as ["shop", "shop-test"]')
        if namespaces and name == DEFAULT_NETWORK:
            raise _setting("namespaces", namespaces, "left out: this is the network of all that are in no other")
        if settings:
            known = f"one of: {', '.join(_KEYS)}"
            raise _setting(next(iter(settings)), next(iter(settings.values())), known, "key")
        ranges = parse_ranges(named) if named is not None else DEFAULT_RANGES
        return NetworkConfig(
            bridge=bridge,
            ranges=ranges,
            families=tuple(families),
            ranges6=parse_ranges6(named6, ranges) if named6 is not None else (),
            chosen=named is not None,
            table=(f"nsrun_{short}" if short else "nsrun") + ("" if name == DEFAULT_NETWORK else f".{name}"),
            mtu=mtu,
            tag=_letters((short or "nsrun") + ("" if name == DEFAULT_NETWORK else f"/{name}"), 3),
            name=name,
            namespaces=tuple(namespaces),
            isolated=isolated,
        )

    def link_name(self, pod_uid: str) -> str:
        """The host's end of a pod's veth pair: the same for the same pod at any time, so that leftovers can be found."""
        return f"{self.link_prefix}{_letters(pod_uid, 9)}"

    @property
    def link_prefix(self) -> str:
        """How the names of all links of this root begin."""
        return f"nsr{self.tag}"

    @property
    def doomed_group(self) -> int:
        """The link group (`ip link … group`) of links about to be deleted; 24 bits of it are this bridge's own."""
        return 0x6E000000 | int.from_bytes(hashlib.sha256(self.bridge.encode()).digest()[:3], "big")


@dataclass(frozen=True)
class PodAddress:
    """A pod's place in the network.

    Attributes:
        ip: dotted.
        prefix: bits of the network's part.
        gateway: dotted; the bridge's address: the host as the pod sees it.
        mac: of eth0.
        ip6, prefix6, gateway6: the same of IPv6; empty and 0 where the pod has none.
    """

    ip: str
    prefix: int
    gateway: str
    mac: str
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""

    def in_order(self, families: Iterable[str]) -> tuple[str, ...]:
        """The addresses, those of the first family first."""
        return tuple(ip for ip in ((self.ip if family == IPV4 else self.ip6) for family in families) if ip)


@dataclass(frozen=True)
class Ranges:
    """Where the pods of one root have their addresses from.

    Attributes:
        ipv4: always there.
        ipv6: has room for as many; None where pods have no IPv6.
    """

    ipv4: IPv4Network
    ipv6: IPv6Network | None = None

    def place(self, address: IPv4Address) -> PodAddress:
        """The place that goes with an IPv4 address: the IPv6 address is the one with the same number in its range."""
        mac = mac_of(address)
        gateway = gateway_of(self.ipv4)
        if self.ipv6 is None:
            return PodAddress(str(address), self.ipv4.prefixlen, str(gateway), mac)
        ip6 = self.ipv6.network_address + (int(address) - int(self.ipv4.network_address))
        prefixes = self.ipv4.prefixlen, self.ipv6.prefixlen
        return PodAddress(str(address), prefixes[0], str(gateway), mac, str(ip6), prefixes[1], str(self.gateway6))

    @property
    def gateway6(self) -> IPv6Address | None:
        """The bridge's IPv6 address: the first of the range."""
        return None if self.ipv6 is None else self.ipv6.network_address + 1

    def gateways(self, families: Iterable[str]) -> tuple[str, ...]:
        """The bridge's addresses, that of the first family first."""
        both = {IPV4: gateway_of(self.ipv4), IPV6: self.gateway6}
        return tuple(str(both[family]) for family in families if both[family] is not None)


def valid_link_name(name: str) -> bool:
    """As the kernel's dev_valid_name."""
    return (
        0 < len(name.encode()) <= IFNAME_MAX
        and name not in (".", "..")
        and not any(letter in "/:" or letter.isspace() for letter in name)
    )


def parse_ranges(value: object) -> tuple[IPv4Network, ...]:
    """`range` of the configuration: one network or a list of them.

    Raises:
        SpecError: not an IPv4 network, host bits set, or too small.
    """
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise _setting("range", value, "an IPv4 network such as 10.85.0.0/16")
    ranges = []
    for text in texts:
        try:
            network = IPv4Network(text if isinstance(text, str) else "")
        except ValueError as error:
            raise _setting("range", text, f"an IPv4 network such as 10.85.0.0/16 ({error})") from None
        if network.prefixlen > SMALLEST_PREFIX:
            raise _setting("range", text, f"a network of at least 8 addresses (/{SMALLEST_PREFIX})")
        ranges.append(network)
    return tuple(ranges)


def parse_ranges6(value: object, beside: Iterable[IPv4Network]) -> tuple[IPv6Network, ...]:
    """`range6` of the configuration: one network or a list of them.

    Args:
        value: what is written there.
        beside: the IPv4 ranges, each of whose addresses needs one here.

    Raises:
        SpecError: not an IPv6 network for hosts, host bits set, or too small.
    """
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise _setting("range6", value, "an IPv6 network such as fd00:10:85::/64")
    longest = min((96 + network.prefixlen for network in beside), default=112)
    ranges = []
    for text in texts:
        try:
            network = IPv6Network(text if isinstance(text, str) else "")
        except ValueError as error:
            raise _setting("range6", text, f"an IPv6 network such as fd00:10:85::/64 ({error})") from None
        if not 3 <= network.prefixlen <= longest:
            raise _setting(
                "range6", text, f"a network with room for as many addresses as the IPv4 range (/{longest} at most)"
            )
        if network.is_multicast or network.is_link_local or network.is_loopback or network.network_address.ipv4_mapped:
            raise _setting("range6", text, "a network of unicast addresses such as fd00:10:85::/64")
        ranges.append(network)
    return tuple(ranges)


def unique_local(random: bytes) -> IPv6Network:
    """The first /64 of a prefix that is most likely nobody else's (RFC 4193).

    Args:
        random: 5 bytes.
    """
    return IPv6Network((int.from_bytes(b"\xfd" + random[:5].rjust(5, b"\0"), "big") << 80, 64))


def choose_range6(config: NetworkConfig, own: IPv6Network, used: Collection[IPv6Network]) -> IPv6Network:
    """The first range of IPv6 that the host does not use; `own` where the configuration names none.

    Raises:
        ConflictError: every range is in use.
    """
    clashes = []
    for candidate in config.ranges6 or (own,):
        # As with IPv4: what is named may lie inside of a wider route.
        over = (net for net in used if net.prefixlen > 0 and candidate.overlaps(net))
        clash = next((net for net in over if net.prefixlen >= candidate.prefixlen), None)
        if clash is None:
            return candidate
        clashes.append(f"{candidate} (by {clash})")
    raise ConflictError(
        f"pods have no range of IPv6 addresses: this machine already uses {', '.join(clashes[:3])}",
        details="A range that overlaps one of the machine's addresses or routes would cut it off from that network.",
        resolution='Name a free one in config.toml, as in: [network] range6 = "fd12:3456:789a::/64"; or do without: families = ["ipv4"].',
    )


def choose_range(config: NetworkConfig, used: Collection[IPv4Network]) -> IPv4Network:
    """The first range that the host does not use.

    Args:
        config: its ranges in order.
        used: destinations of the host's routes and networks of its addresses, this root's own bridge left out; a default
            route counts for nothing.

    Raises:
        ConflictError: every range is in use; the text names by what.
    """
    clashes = []
    for candidate in config.ranges:
        clash = next((net for net in used if net.prefixlen > 0 and _clashes(candidate, net, config.chosen)), None)
        if clash is None:
            return candidate
        clashes.append(f"{candidate} (by {clash})")
    shown = ", ".join(clashes[:3]) + (f" and {len(clashes) - 3} more" if len(clashes) > 3 else "")
    raise ConflictError(
        f"pods have no address range: this machine already uses {shown}",
        details="A range that overlaps one of the machine's addresses or routes would cut it off from that network.",
        resolution='Name a free one in config.toml, as in: [network] range = "10.200.0.0/16". `ip route` lists what is in use.',
    )


def _clashes(candidate: IPv4Network, used: IPv4Network, chosen: bool) -> bool:
    # Somebody who names 10.200.0.0/16 on a host with a route for 10.0.0.0/8 means a part of it.
    if chosen and used.prefixlen < candidate.prefixlen:
        return False
    return candidate.overlaps(used)


def gateway_of(network: IPv4Network) -> IPv4Address:
    """The bridge's address: the first of the range."""
    return network.network_address + 1


def free_addresses(network: IPv4Network, taken: Collection[str], last: str | None) -> Iterator[IPv4Address]:
    """Addresses that no pod has, beginning after the one given out last: what was freed a moment ago is used again late."""
    first, final = int(network.network_address) + 2, int(network.broadcast_address) - 1
    start = first
    if last is not None and first <= int(IPv4Address(last)) < final:
        start = int(IPv4Address(last)) + 1
    for number in (
        (*range(start, final + 1), *range(first, start)) if final - first < 1024 else _round(start, first, final)
    ):
        address = IPv4Address(number)
        if str(address) not in taken:
            yield address


def _round(start: int, first: int, final: int) -> Iterator[int]:
    yield from range(start, final + 1)
    yield from range(first, start)


def mac_of(address: IPv4Address) -> str:
    """A MAC made of the address: who gets an address again is found under the neighbours' old entry."""
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *address.packed))


def link_local_of(mac: str) -> str:
    """The IPv6 address that everybody on the link expects of a MAC address (RFC 4291, modified EUI-64)."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + bytes((first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]))))


def networks6(texts: Iterable[str]) -> set[IPv6Network]:
    """As `networks`."""
    return {ipaddress.IPv6Interface(text).network for text in texts}


def networks(texts: Iterable[str]) -> set[IPv4Network]:
    """Networks of `address/prefix` texts, host bits allowed."""
    return {ipaddress.IPv4Interface(text).network for text in texts}


def _refuse_shared(one: NetworkConfig, other: NetworkConfig) -> None:
    """Refuse two networks of which each would take the other's for its own."""
    namespaces = sorted({*one.namespaces} & {*other.namespaces})
    shared = ""
    if one.bridge == other.bridge:
        shared = f"the bridge {one.bridge}"
    elif one.tag == other.tag:
        shared = "the beginning of their links' names: give one of them another name"
    elif namespaces:
        shared = f"the namespace {namespaces[0]}"
    else:
        # Of several ranges each takes one that is free.
        for mine, theirs in ((one.ranges, other.ranges), (one.ranges6, other.ranges6)):
            if len(mine) == len(theirs) == 1 and mine[0].overlaps(theirs[0]):
                shared = f"addresses: {mine[0]} and {theirs[0]}"
    if shared:
        raise SpecError(
            f"config.toml: the networks {one.name} and {other.name} share {shared}",
            details="Each network has a bridge, addresses and namespaces of its own.",
            resolution="Correct etc/config.toml and start the server again.",
        )


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _letters(text: str, count: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return "".join(alphabet[number >> 5 * place & 31] for place in range(count))


def _setting(key: str, value: object, wanted: str, what: str = "value") -> SpecError:
    return SpecError(
        f"config.toml: [network] {key}: {what} {value!r} is not possible"
        if what == "value"
        else f"config.toml: [network] has no key {key!r}",
        details=f"It has to be {wanted}.",
        resolution="Correct etc/config.toml and start the server again.",
    )
