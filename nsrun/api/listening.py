"""Where clients reach the API."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nsrun.errors import StepError, UsageError

DEFAULT = "127.0.0.1:6443"
BACKLOG = 512


class Address(NamedTuple):
    """One address to listen on.

    Attributes:
        path: of a socket file, or "".
        host: name or address, or "".
        port: 0 takes any that is free.
    """

    path: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Nobody but this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(text: str) -> Address:
    """`HOST:PORT`, `[HOST]:PORT` or `unix:PATH`.

    Raises:
        UsageError: it is none of them.
    """
    if text.startswith("unix:") and len(text) > 5:
        return Address(os.path.abspath(text[5:]), "", 0)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(
            f"{text!r} is no address to listen on",
            resolution="--listen 127.0.0.1:6443, [::1]:6443 or unix:/run/api.sock",
        )
    return Address("", host, int(port))


def bound(address: Address) -> list[socket.socket]:
    """Sockets that listen there.

    Raises:
        StepError: somebody else does, or the address is not this machine's.
    """
    if address.path:
        return [_bound_path(address.path)]
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except OSError as error:
        raise UsageError(f"no address is known of {address.host!r}: {error}") from error
    sockets: list[socket.socket] = []
    port = address.port
    for family, kind, protocol, _, where in found:
        if where[0] in {one.getsockname()[0] for one in sockets}:
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((where[0], port, *where[2:]))
            sock.listen(BACKLOG)
            port = port or sock.getsockname()[1]
        except OSError as error:
            sock.close()
            for one in sockets:
                one.close()
            raise StepError(
                "listen on", f"{address.host}:{port}", error.errno or 0, what="the API cannot listen"
            ) from error
        sockets.append(sock)
    return sockets


def files_of(addresses: Iterable[Address]) -> dict[str, tuple[int, int]]:
    """The socket files, a moment after they were made: path -> device and inode."""
    found = {}
    for address in addresses:
        if address.path:
            with contextlib.suppress(OSError):
                facts = os.lstat(address.path)
                found[address.path] = (facts.st_dev, facts.st_ino)
    return found


def remove(files: Mapping[str, tuple[int, int]]) -> None:
    """Take socket files away, but for what somebody has put in the place of one."""
    for path, own in files.items():
        with contextlib.suppress(OSError):
            facts = os.lstat(path)
            if (facts.st_dev, facts.st_ino) == own:
                os.unlink(path)


def _bound_path(path: str) -> socket.socket:
    """A socket file of this user's alone; one that nobody listens on any more is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        sock.close()
        raise StepError(
            "open directory", os.path.dirname(path), error.errno or 0, what="the API cannot listen"
        ) from error
    try:
        short = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(short).st_mode) and not _somebody_listens(short):
                os.unlink(short)
        before = os.umask(0o177)
        try:
            sock.bind(short)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StepError("listen on", path, error.errno or 0, what="the API cannot listen") from error
    finally:
        os.close(directory)
    return sock


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Whose backlog is full would be waited for.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True
