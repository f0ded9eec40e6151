"""Netlink requests: pyroute2 encodes the messages but for the few that every pod needs, a plain socket carries them.

pyroute2's own sockets start threads, or an asyncio transport per socket; a request to rtnetlink is answered inside of sendto(2), so
a batch is one sendto and the answers are already there. Everything in here blocks for as long as the kernel works on it.

`import pyroute2` executes every protocol the library knows (130 to 250 ms, 22 MB). `messages()` imports the three modules with
the message classes and nothing else (10 ms), and leaves sys.modules as if pyroute2 had never been touched, so that a later
plain import gets the whole library.
"""

from __future__ import annotations

import array
import errno
import fcntl
import functools
import importlib
import importlib.util
import os
import socket
import struct
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWNEIGH = 28
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

IFF_UP = 1
RT_TABLE_LOCAL = 255
RTN_LOCAL = 2

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NLMSGERR_ATTR_MSG = 1
_IFA_F_NODAD = 2
_AT_ONCE = 64
_ROOM, _ROOM_OF_ONE = 1 << 18, 1 << 15
"""Bytes to receive into: of a dump, and of other answers, for which it need not be mapped anew each time."""
_NFT_DUMPS = (1, 4, 13)
"""NFT_MSG_GETTABLE, GETCHAIN, GETSETELEM."""
_SIOCGIFINDEX = 0x8933
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A
HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr."""
ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr."""
_LINK = struct.Struct("=BBHiII")
"""struct ifinfomsg."""
_NUMBER = struct.Struct("=I")
_PATIENCE = 10.0
"""Seconds without any answer after which something is broken: the kernel answers within the request."""


class NetlinkError(OSError):
    """The kernel's answer to one request; strerror has its extended words when it gave some."""


class Answer(NamedTuple):
    """What came back for one request.

    Attributes:
        error: 0 or an errno.
        text: the kernel's extended words for the error.
        payloads: messages of a get or dump, headers cut off.
    """

    error: int
    text: str
    payloads: list[bytes]

    def check(self, *fine: int) -> Answer:
        """Self, when there was no error other than one of `fine`.

        Raises:
            NetlinkError: there was.
        """
        if self.error and self.error not in fine:
            raise NetlinkError(self.error, self.text or os.strerror(self.error))
        return self


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface, as far as nsrun looks at it."""

    index: int
    name: str
    up: bool
    kind: str
    master: int
    mtu: int
    mac: str
    group: int


class Messages(NamedTuple):
    """pyroute2's message classes."""

    link: Any
    address: Any
    route: Any


@functools.cache
def messages() -> Messages:
    """Import the message classes, once."""
    names = ("ifinfmsg", "ifaddrmsg", "rtmsg")
    modules = [f"pyroute2.netlink.rtnl.{name}" for name in names]
    loaded = _import_parts("pyroute2", modules)
    return Messages(*(getattr(module, name) for module, name in zip(loaded, names, strict=True)))


def _import_parts(package: str, modules: Sequence[str]) -> list[ModuleType]:
    """Modules of a package whose own `__init__` is not executed."""
    if package in sys.modules:
        return [importlib.import_module(name) for name in modules]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        return [importlib.import_module(name) for name in modules]
    finally:
        # A half-initialised package must not be what the next import finds.
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]


def _encode(kind: Any, code: int, flags: int, fields: dict[str, int], attributes: Sequence[tuple[str, Any]]) -> bytes:
    message = kind()
    header = message["header"]
    header["type"] = code
    header["flags"] = NLM_F_REQUEST | flags
    header["pid"] = 0
    message.update(fields)
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


def _packed(code: int, flags: int, *parts: bytes) -> bytes:
    """A request of what is asked for every pod: there by-hand packing is a fiftieth of the work."""
    body = b"".join(parts)
    return HEADER.pack(HEADER.size + len(body), code, NLM_F_REQUEST | flags, 0, 0) + body


def link(
    code: int,
    flags: int,
    attributes: Sequence[tuple[str, Any]],
    *,
    index: int = 0,
    up: bool | None = None,
) -> bytes:
    """A request about a link; `up` sets or clears IFF_UP."""
    fields = {"index": index}
    if up is not None:
        fields |= {"flags": IFF_UP if up else 0, "change": IFF_UP}
    return _encode(messages().link, code, flags, fields, attributes)


def no_link_local(index: int = 0, name: str = "") -> bytes:
    """A request that the link with that index or name makes itself no IPv6 address when it comes up."""
    # IFLA_AF_SPEC { AF_INET6 { IFLA_INET6_ADDR_GEN_MODE: none } }; pyroute2 knows it for bridges only.
    added = attribute(26, attribute(socket.AF_INET6, attribute(8, b"\1")))
    named = attribute(3, name.encode(), b"\0") if name else b""
    return _packed(RTM_SETLINK, 0, _LINK.pack(0, 0, 0, index, 0, 0), named, added)


def up(index: int) -> bytes:
    """A request that the link with that index comes up."""
    return _packed(RTM_NEWLINK, 0, _LINK.pack(0, 0, 0, index, IFF_UP, IFF_UP))


def veth(name: str, bridge: int, mtu: int, peer: str, namespace: int, mac: str) -> bytes:
    """A request for a veth pair.

    Args:
        name: of this end, a port of the bridge with the index `bridge`.
        peer: name of the other end, in the network namespace of the descriptor `namespace`, with the address `mac`.
    """
    size = attribute(4, _NUMBER.pack(mtu))
    there = attribute(3, peer.encode(), b"\0") + attribute(28, _NUMBER.pack(namespace)) + attribute(1, mac_bytes(mac))
    kind = attribute(1, b"veth\0") + attribute(2, attribute(1, bytes(_LINK.size), there, size))
    here = attribute(3, name.encode(), b"\0") + size + attribute(10, _NUMBER.pack(bridge))
    return _packed(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, bytes(_LINK.size), here, attribute(18, kind))


def mac_bytes(mac: str) -> bytes:
    """The six bytes of a MAC address."""
    return bytes.fromhex(mac.replace(":", ""))


def at_index(request: bytes, index: int) -> bytes:
    """A request about a link, for the one with that index."""
    start = HEADER.size + 4
    return request[:start] + struct.pack("=i", index) + request[start + 4 :]


def neighbour_of_port(index: int, mac: str) -> bytes:
    """A request that the bridge sends what is for a MAC address out of the port with that index, and never learns otherwise."""
    # struct ndmsg: AF_BRIDGE, state NUD_NOARP ("static" in bridge(8)), flag NTF_MASTER; attribute NDA_LLADDR.
    fields = struct.pack("=BBHiHBB", 7, 0, 0, index, 0x40, 0x04, 0)
    return _packed(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, fields, attribute(2, mac_bytes(mac)))


def address(code: int, flags: int, index: int, ip: str, prefix: int, broadcast: str | None = None) -> bytes:
    """A request about an address of the link with that index; of IPv6 it is usable at once (no duplicate address detection)."""
    family, flag = (socket.AF_INET6, _IFA_F_NODAD) if ":" in ip else (socket.AF_INET, 0)
    packed = socket.inet_pton(family, ip)
    attributes = [attribute(2, packed), attribute(1, packed)]
    if broadcast is not None:
        attributes.append(attribute(4, socket.inet_pton(family, broadcast)))
    return _packed(code, flags, struct.pack("=BBBBI", family, prefix, flag, 0, index), *attributes)


def route(code: int, flags: int, fields: dict[str, int], attributes: Sequence[tuple[str, Any]]) -> bytes:
    """A request about a route; of IPv4 unless `fields` has another family."""
    return _encode(messages().route, code, flags, {"family": socket.AF_INET, **fields}, attributes)


class NetlinkSocket:
    """One netlink socket, used by one thread at a time.

    Args:
        sock: taken over; or made in this process's network namespace when None.
        protocol: NETLINK_ROUTE, NETLINK_NETFILTER …
    """

    def __init__(self, sock: socket.socket | None = None, protocol: int = NETLINK_ROUTE) -> None:
        if sock is None:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sock = sock
        self._seq = 0
        try:
            sock.settimeout(_PATIENCE)
            sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        except BaseException:
            sock.close()
            raise

    @staticmethod
    def borrow(sock: socket.socket | int) -> NetlinkSocket:
        """On a duplicate of somebody's socket, which stays theirs."""
        fd = sock if isinstance(sock, int) else sock.fileno()
        duplicate = os.dup(fd)
        try:
            owned = socket.socket(fileno=duplicate)
        except BaseException:
            os.close(duplicate)
            raise
        return NetlinkSocket(owned)

    def close(self) -> None:
        """Give the descriptor back."""
        self._sock.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, *requests: bytes, silent: Collection[int] = ()) -> list[Answer]:
        """Send requests in one packet; their answers in the same order.

        The kernel carries a packet's requests out one after another and does not stop at the first that fails, but for a
        transaction of netfilter. Of changes by rtnetlink it acknowledges the last alone: errors of those before it come before that.

        Args:
            requests: whole messages; sequence numbers and NLM_F_ACK are set here.
            silent: positions of requests that are answered only when they fail; what begins and ends a transaction.

        Raises:
            OSError: the socket itself failed, or nothing was answered.
            NetlinkError: a silent request failed.
        """
        if len(requests) > _AT_ONCE and not silent:
            # More answers than that do not fit into the socket's buffer (ENOBUFS).
            parts = (requests[start : start + _AT_ONCE] for start in range(0, len(requests), _AT_ONCE))
            return [answer for part in parts for answer in self.ask(*part)]
        packet = bytearray()
        pending: dict[int, int] = {}
        if_wrong: dict[int, int] = {}
        unheard: set[int] = set()
        room = _ROOM_OF_ONE
        for position, request in enumerate(requests):
            self._seq = (self._seq + 1) & 0x7FFFFFFF
            size, code, flags, _, _ = HEADER.unpack_from(request)
            asks = code & 3 == 2 if code < 256 else code & 255 in _NFT_DUMPS
            whole = flags & NLM_F_DUMP == NLM_F_DUMP and asks
            if position in silent:
                unheard.add(self._seq)
            elif code < 256 and not asks and position < len(requests) - 1:
                if_wrong[self._seq] = position
            else:
                pending[self._seq] = position
                if not whole:
                    flags |= NLM_F_ACK
            room = _ROOM if whole else room
            start = len(packet)
            packet += request
            packet += bytes(-len(packet) % 4)
            HEADER.pack_into(packet, start, size, code, flags, self._seq, 0)
        answers = [Answer(0, "", []) for _ in requests]
        if not requests:
            return answers
        # A killed exchange may have left answers behind: their sequence numbers are not pending.
        self._sock.sendto(packet, (0, 0))
        while pending:
            for code, flags, seq, body in _split(self._sock.recv(room)):
                if seq in if_wrong and code == NLMSG_ERROR:
                    answers[if_wrong[seq]] = Answer(*_error(flags, body), [])
                    continue
                position = pending.get(seq, -1)
                if position < 0:
                    if seq in unheard and code == NLMSG_ERROR:
                        Answer(*_error(flags, body), []).check()
                    continue
                if code == NLMSG_ERROR:
                    answers[position] = Answer(*_error(flags, body), answers[position].payloads)
                elif code == NLMSG_DONE:
                    number = struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
                    answers[position] = Answer(-min(number, 0), "", answers[position].payloads)
                else:
                    answers[position].payloads.append(body)
                    continue
                del pending[seq]
        return answers

    def one(self, request: bytes, *fine: int) -> Answer:
        """Send one request.

        Raises:
            NetlinkError: the kernel refused with an errno that is not in `fine`.
        """
        return self.ask(request)[0].check(*fine)

    def find_link(self, name: str) -> Link | None:
        """The link of that name, or None."""
        answer = self.one(link(RTM_GETLINK, 0, [("IFLA_IFNAME", name)]), errno.ENODEV)
        return parse_link(answer.payloads[0]) if answer.payloads else None

    def index_of(self, name: str) -> int:
        """The index of the link of that name, in the socket's network namespace; 0 when there is none."""
        try:
            answer = fcntl.ioctl(self._sock, _SIOCGIFINDEX, struct.pack("16sixxxxxxxxxxxx", name.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return 0
            raise
        return int(struct.unpack_from("=i", answer, 16)[0])

    def settle(self, name: str) -> None:
        """Let a link's coming up take effect now.

        The kernel's link watch does that a little later by itself, and until then a port of a bridge forwards nothing: a first ARP
        request would be lost and repeated after a second. Asking for the carrier by ETHTOOL_GLINK makes the link watch catch
        up on that link (net/ethtool/ioctl.c, ethtool_op_get_link).
        """
        value = array.array("I", [_ETHTOOL_GLINK, 0])
        fcntl.ioctl(self._sock, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), value.buffer_info()[0]))

    def links(self) -> list[Link]:
        """Every link of the socket's network namespace."""
        return [parse_link(payload) for payload in self.one(link(RTM_GETLINK, NLM_F_DUMP, [])).payloads]

    def addresses(self, family: int = socket.AF_INET) -> list[tuple[int, str]]:
        """(index of the link, `address/prefix`) of every address of a family."""
        request = _encode(messages().address, RTM_GETADDR, NLM_F_DUMP, {"family": family}, [])
        found = []
        for payload in self.one(request).payloads:
            prefix, index = payload[1], struct.unpack_from("=I", payload, 4)[0]
            attributes = dict(attributes_of(payload[8:]))
            local = attributes.get(2) or attributes.get(1)
            if local is not None:
                found.append((index, f"{socket.inet_ntop(family, local)}/{prefix}"))
        return found

    def routes(self, family: int = socket.AF_INET) -> list[tuple[int, str]]:
        """(index of the link, 0 without one; destination `address/prefix`) of every unicast route of every table but `local`."""
        found = []
        for payload in self.one(route(RTM_GETROUTE, NLM_F_DUMP, {"family": family}, [])).payloads:
            prefix, table, kind = payload[1], payload[4], payload[7]
            if table == RT_TABLE_LOCAL or kind != 1:
                continue
            attributes = dict(attributes_of(payload[12:]))
            destination = attributes.get(1, bytes(4 if family == socket.AF_INET else 16))
            index = struct.unpack("=I", attributes[4])[0] if 4 in attributes else 0
            found.append((index, f"{socket.inet_ntop(family, destination)}/{prefix}"))
        return found


def _split(packet: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + HEADER.size <= len(packet):
        size, code, flags, seq, _ = HEADER.unpack_from(packet, at)
        if size < HEADER.size:
            return
        yield code, flags, seq, packet[at + HEADER.size : at + size]
        at += size + (-size % 4)


def way_to(ip: str) -> bytes:
    """A question for the route of a packet to an address; the answer's type is RTN_LOCAL where it is the namespace's own."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    packed = socket.inet_pton(family, ip)
    # struct rtmsg: the whole address counts; attribute RTA_DST.
    return _packed(RTM_GETROUTE, 0, bytes([family, 8 * len(packed), *bytes(10)]), attribute(1, packed))


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of each attribute."""
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        size, code = ATTRIBUTE.unpack_from(data, at)
        if size < ATTRIBUTE.size:
            return
        yield code & 0x3FFF, data[at + ATTRIBUTE.size : at + size]
        at += size + (-size % 4)


def attribute(code: int, *content: bytes) -> bytes:
    """An attribute; one that holds others has 0x8000 in its type."""
    data = b"".join(content)
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(data), code) + data + bytes(-len(data) % 4)


def _error(flags: int, body: bytes) -> tuple[int, str]:
    number = -struct.unpack_from("=i", body)[0]
    if not flags & NLM_F_ACK_TLVS:
        return number, ""
    # Behind errno comes the request's header, and the whole request unless it was capped.
    skip = 4 + (HEADER.size if flags & NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0])
    text = dict(attributes_of(body[skip + (-skip % 4) :])).get(_NLMSGERR_ATTR_MSG, b"")
    return number, text.rstrip(b"\0").decode("utf-8", "replace")


def parse_link(payload: bytes) -> Link:
    """A message of RTM_GETLINK."""
    # struct ifinfomsg, then attributes; rtnetlink(7), linux/if_link.h.
    index, flags = struct.unpack_from("=iI", payload, 4)
    attributes = dict(attributes_of(payload[16:]))
    info = dict(attributes_of(attributes.get(18, b"")))
    return Link(
        index=index,
        name=attributes.get(3, b"").rstrip(b"\0").decode(),
        up=bool(flags & IFF_UP),
        kind=info.get(1, b"").rstrip(b"\0").decode(),
        master=struct.unpack("=I", attributes[10])[0] if 10 in attributes else 0,
        mtu=struct.unpack("=I", attributes[4])[0] if 4 in attributes else 0,
        mac=":".join(f"{byte:02x}" for byte in attributes.get(1, b"")),
        group=struct.unpack("=I", attributes[27])[0] if 27 in attributes else 0,
    )
