"""Pod-like network namespaces, and sockets inside of them.

A socket belongs to the namespace it was opened in. A thread joins the namespace, opens the socket and ends; the test uses the socket
from where it is.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

from nsrun import native

_T = TypeVar("_T")


def inside(netns_fd: int, work: Callable[[], _T]) -> _T:
    """The result of `work`, done by a thread in the network namespace."""
    result: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            native.setns(netns_fd, native.lib.CLONE_NEWNET)
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


class Pod:
    """A process in a network namespace with nothing but a loopback that is up, as the sandbox program leaves it.

    Args:
        uid: of the pod.
    """

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec sleep 300"], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"\n"
        self.process.stdout.close()
        self.netns = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.netlink = inside(self.netns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0))
        self.sockets: list[socket.socket] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    def tcp(self, *, six: bool = False) -> socket.socket:
        """A new TCP socket inside of the pod; closed with it."""
        return self._open(socket.SOCK_STREAM, six)

    def udp(self, *, six: bool = False) -> socket.socket:
        """A new UDP socket inside of the pod; closed with it."""
        return self._open(socket.SOCK_DGRAM, six)

    def _open(self, kind: socket.SocketKind, six: bool) -> socket.socket:
        made = inside(self.netns, lambda: socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind))
        made.settimeout(5)
        self.sockets.append(made)
        return made

    def listen(self, ip: str, port: int = 7000) -> socket.socket:
        """A listening TCP socket inside of the pod."""
        made = self.tcp(six=":" in ip)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ip, port))
        made.listen()
        return made

    def close(self) -> None:
        """The namespace has no holder afterwards."""
        for made in (*self.sockets, self.netlink):
            made.close()
        if self.netns != -1:
            os.close(self.netns)
            self.netns = -1
        self.process.kill()
        self.process.wait()


def reach(client: socket.socket, server: socket.socket) -> str:
    """Connect, send a line each way; the client's address as the server sees it."""
    client.connect(server.getsockname())
    peer, address = server.accept()
    with peer:
        peer.settimeout(5)
        client.sendall(b"ping\n")
        assert peer.recv(100) == b"ping\n"
        peer.sendall(b"pong\n")
        assert client.recv(100) == b"pong\n"
    return str(address[0])


def ask_outside(client: socket.socket, address: str, port: int) -> str:
    """The address under which the outside world sees the client."""
    client.connect((address, port))
    client.sendall(b"who\n")
    return client.recv(200).decode().split()[0]
