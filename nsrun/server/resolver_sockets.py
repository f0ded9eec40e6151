"""The resolver's sockets, and the channel over which a server that is new gets them from a resolver that is old."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

PORT = 53
GROUP = 8
"""UDP sockets for each address: a pod's questions come to one of them, so that a flood from one does not crowd out all others'."""
BACKLOG = 128
CONTROL = "resolver.sock"

_ATTACH_REUSEPORT_CBPF = 51
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
"""ip(7); include/uapi/linux/in6.h. Python knows neither."""
_LOAD_WORD, _MODULO, _RETURN = 0x20, 0x94, 0x16
_NETWORK_HEADER = 0x100000000 - 0x100000
"""SKF_NET_OFF: offsets from the network header (filter(4))."""
_ANSWER_MAX = 1 << 16


@dataclass
class Sockets:
    """Bound, and listening where that applies.

    Attributes:
        addresses: where.
        control: for servers alone.
    """

    addresses: tuple[str, ...]
    udp: list[socket.socket]
    tcp: list[socket.socket]
    control: socket.socket

    def of_clients(self) -> list[socket.socket]:
        """Those that questions come to."""
        return [*self.udp, *self.tcp]

    def close(self) -> None:
        """Give this process's descriptors back."""
        for one in (*self.udp, *self.tcp, self.control):
            one.close()


def bind(addresses: tuple[str, ...], directory: int) -> Sockets:
    """All of them.

    Args:
        addresses: of this machine.
        directory: a descriptor of where the control socket is to lie.

    Raises:
        OSError: EADDRINUSE if somebody listens there already, or at all addresses.
    """
    with contextlib.ExitStack() as stack:
        udp, tcp = [], []
        for address in addresses:
            udp += _group(address, stack)
            tcp.append(_listener(address, stack))
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        stack.callback(control.close)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(CONTROL, dir_fd=directory)
        control.bind(f"/proc/self/fd/{directory}/{CONTROL}")
        os.chmod(CONTROL, 0o600, dir_fd=directory)
        control.listen(8)
        stack.pop_all()
        return Sockets(addresses, udp, tcp, control)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _group(address: str, stack: contextlib.ExitStack) -> list[socket.socket]:
    found: list[socket.socket] = []
    for _ in range(GROUP):
        one = socket.socket(_family(address), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        stack.callback(one.close)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _wait_for_no_address(one)
        one.bind((address, PORT))
        if not found:
            # Before there is a second one: somebody else's that joins in later is never chosen.
            _choose_by_client(one)
        found.append(one)
    return found


def _wait_for_no_address(one: socket.socket) -> None:
    """Let a socket be bound to an address that this machine has only later: the bridge may be gone for a while."""
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)


def _choose_by_client(one: socket.socket) -> None:
    """Have a datagram go to the socket of the group whose number is that of the sender's address, modulo."""
    # Where in the network header the last four bytes of the sender's address are.
    at = 20 if one.family == socket.AF_INET6 else 12
    steps = ((_LOAD_WORD, _NETWORK_HEADER + at), (_MODULO, GROUP), (_RETURN, 0))
    program = array.array("B", b"".join(struct.pack("=HBBI", code, 0, 0, number) for code, number in steps))
    one.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(steps), program.buffer_info()[0]))


def _listener(address: str, stack: contextlib.ExitStack) -> socket.socket:
    one = socket.socket(_family(address), socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    stack.callback(one.close)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _wait_for_no_address(one)
    one.bind((address, PORT))
    one.listen(BACKLOG)
    return one


def ask(directory: int, timeout_s: float) -> dict[str, Any]:
    """What a resolver tells of itself.

    Raises:
        OSError, ValueError: there is none, or it does not answer in time.
    """
    about: dict[str, Any] = json.loads(_ask(directory, b"status", timeout_s)[0])
    return about


def inherit(directory: int, timeout_s: float) -> tuple[dict[str, Any], Sockets]:
    """The same, and the sockets that it has.

    Raises:
        OSError, ValueError: there is none, or it does not answer in time.
    """
    data, sockets = _ask(directory, b"sockets", timeout_s)
    try:
        about: dict[str, Any] = json.loads(data)
        udp, tcp = int(about["udp"]), int(about["tcp"])
        if len(sockets) != udp + tcp + 1:
            raise ValueError(f"{len(sockets)} sockets, not {udp + tcp + 1}")
        addresses = tuple(str(one.getsockname()[0]) for one in sockets[udp : udp + tcp])
        return about, Sockets(addresses, sockets[:udp], sockets[udp : udp + tcp], sockets[-1])
    except (ValueError, KeyError, TypeError) as error:
        for one in sockets:
            one.close()
        raise ValueError(f"the resolver answers what is not understood: {error}") from error


def _ask(directory: int, question: bytes, timeout_s: float) -> tuple[bytes, list[socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as channel:
        channel.settimeout(timeout_s)
        channel.connect(f"/proc/self/fd/{directory}/{CONTROL}")
        channel.send(question)
        space = socket.CMSG_SPACE(4 * 253)
        data, ancillary, _, _ = channel.recvmsg(_ANSWER_MAX, space, socket.MSG_CMSG_CLOEXEC)
    sockets = []
    for _level, _kind, payload in ancillary:
        numbers = array.array("i")
        numbers.frombytes(payload)
        sockets += [socket.socket(fileno=number) for number in numbers]
    for one in sockets:
        one.setblocking(False)
    return data, sockets
