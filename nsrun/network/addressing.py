"""Which addresses and names: pure functions.

Everything here is decided from values; `network.py` asks the kernel for them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from nsrun.errors import ConflictError, SpecError

IFNAME_MAX = 15
"""Bytes of a link's name (IFNAMSIZ without its NUL)."""

DEFAULT_BRIDGE = "nsrun0"
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

SMALLEST_PREFIX = 29
"""A range needs room for its own address, the gateway, a few pods and the broadcast address."""


@dataclass(frozen=True)
class NetworkConfig:
    """What the network of one root directory is made of.

    Attributes:
        bridge: the bridge's name, at most 15 bytes.
        ranges: where pods' addresses may come from; the first that the host does not use is taken.
        chosen: the user named the range: it is taken unless the host itself has addresses in it.
        table: the nftables table's name.
        mtu: bytes; 0 takes that of the link with the default route.
        tag: three letters that tell this root's links from another's.
    """

    bridge: str = DEFAULT_BRIDGE
    ranges: tuple[IPv4Network, ...] = DEFAULT_RANGES
    chosen: bool = False
    table: str = "nsrun"
    mtu: int = 0
    tag: str = "000"

    @staticmethod
    def for_root(root: str | os.PathLike[str] | None, settings: Mapping[str, Any] | None = None) -> NetworkConfig:
        """The network of a root directory (None: the machine's own).

        Args:
            root: decides names only, so that two roots on one machine never share anything.
            settings: the table `[network]` of etc/config.toml: `range` (an IPv4 network or a list of them), `bridge`, `mtu`.

        Raises:
            SpecError: a setting is of the wrong kind; it names the key.
        """
        settings = dict(settings or {})
        short = hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:8] if root is not None else ""
        bridge = settings.pop("bridge", f"nsr-{short}" if short else DEFAULT_BRIDGE)
        if not isinstance(bridge, str) or not valid_link_name(bridge):
            raise _setting("bridge", bridge, f"a link's name: 1 to {IFNAME_MAX} characters, no blank, no slash")
        mtu = settings.pop("mtu", 0)
        if not isinstance(mtu, int) or isinstance(mtu, bool) or not (mtu == 0 or 576 <= mtu <= 65535):
            raise _setting("mtu", mtu, "a number of bytes, 576 to 65535, or 0 for that of the way out")
        named = settings.pop("range", None)
        if settings:
            raise _setting(next(iter(settings)), next(iter(settings.values())), "one of: range, bridge, mtu", "key")
        return NetworkConfig(
            bridge=bridge,
            ranges=parse_ranges(named) if named is not None else DEFAULT_RANGES,
            chosen=named is not None,
            table=f"nsrun_{short}" if short else "nsrun",
            mtu=mtu,
            tag=_letters(short or "nsrun", 3),
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
    """

    ip: str
    prefix: int
    gateway: str
    mac: str


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


def networks(texts: Iterable[str]) -> set[IPv4Network]:
    """Networks of `address/prefix` texts, host bits allowed."""
    return {ipaddress.IPv4Interface(text).network for text in texts}


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
