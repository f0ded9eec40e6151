"""One connection of the control protocol: frames, descriptors, the greeting (docs/architecture.md, The control protocol)."""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from nsrun._version import __version__
from nsrun.client.roots import SOCKET_NAME, Root
from nsrun.errors import NsrunError, PermissionDeniedError, ServerError, StepError

PROTOCOL = 1
MAX_FRAME = 64 * 1024 * 1024
MAX_DESCRIPTORS = 16
GREETING_TIMEOUT_S = 15
"""How long a server may take to greet: it does so in the first turn of its loop."""

Message = dict[str, Any]


class ConnectionLost(Exception):  # noqa: N818 - an event to react to; what reaches a user is ServerError
    """The server closed the connection, or died; `greeted` tells whether it had said hello."""


class ServerAway(Exception):  # noqa: N818 - an event to react to; what reaches a user is ServerError
    """Nobody listens on the socket."""


class Connection:
    """A connected, greeted control socket; one request at a time.

    Args:
        sock: a connected stream socket; owned by this object from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._last_id = 0
        self.version = ""
        self.protocol = 0
        self.server_pid = 0

    def fileno(self) -> int:
        """The socket's descriptor, for poll."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket; the server cancels what this connection still streams."""
        self._sock.close()

    def detach(self) -> socket.socket:
        """Give the greeted socket away; this object is closed then."""
        return socket.socket(fileno=self._sock.detach())

    def abort(self) -> None:
        """Make a thread that waits on this connection see its end at once."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def greet(self) -> None:
        """Read the server's greeting.

        Raises:
            ConnectionLost: it closed the connection instead.
            ServerError: what listens there is not an nsrun server.
        """
        greeting, fds = self.receive()
        close_all(fds)
        if isinstance(greeting.get("error"), dict):
            raise NsrunError.from_data(greeting["error"])
        if not isinstance(greeting.get("nsrun"), str) or not isinstance(greeting.get("protocol"), int):
            raise not_ours(f"it greets with {json.dumps(greeting)[:80]}")
        self.version = greeting["nsrun"]
        self.protocol = greeting["protocol"]
        self.server_pid = int(greeting.get("pid") or 0)

    def require_same_version(self, root: Root) -> None:
        """Refuse a server of another version.

        Raises:
            ServerError: naming both versions and the command that exchanges the server.
        """
        if self.version == __version__ and self.protocol == PROTOCOL:
            return
        raise ServerError(
            f"the server (pid {self.server_pid}) is nsrun {self.version}, protocol {self.protocol}; "
            f"this is nsrun {__version__}, protocol {PROTOCOL}",
            details="It was started before nsrun was exchanged. Pods run on while a server is exchanged.",
            resolution=f"nsrun {root.option}server restart",
        )

    def send(self, method: str, params: Message, fds: Sequence[int] = ()) -> int:
        """Send one request and return its id.

        Args:
            method: name of the table in docs/architecture.md.
            params: members that are None are left out.
            fds: descriptors that travel with it; the caller keeps its own copies.

        Raises:
            ConnectionLost: the server is gone.
        """
        self._last_id += 1
        request = {
            "id": self._last_id,
            "method": method,
            "params": {key: value for key, value in params.items() if value is not None},
        }
        self._send_frame(json.dumps(request, separators=(",", ":")).encode(), fds)
        return self._last_id

    def _send_frame(self, body: bytes, fds: Sequence[int]) -> None:
        if len(body) > MAX_FRAME:
            raise ServerError(
                f"a request of {len(body)} bytes is larger than the {MAX_FRAME} bytes that the server reads",
                resolution="Send fewer or smaller manifests at once.",
            )
        frame = memoryview(len(body).to_bytes(4, "big") + body)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._sock.sendmsg([frame], ancillary)
            if sent < len(frame):
                self._sock.sendall(frame[sent:])
        except (ConnectionError, TimeoutError) as error:
            raise ConnectionLost(str(error)) from error

    def receive(self) -> tuple[Message, list[int]]:
        """The next frame and its descriptors, which the caller owns.

        Raises:
            ConnectionLost: end of file, also in the middle of a frame.
            ServerError: a frame that is no JSON object or is too long.
        """
        # Descriptors come with a frame's first byte: reading exactly the header cannot pick up those of the next frame.
        fds: list[int] = []
        try:
            header = self._read(4, fds)
            length = int.from_bytes(header, "big")
            if length > MAX_FRAME:
                raise not_ours(f"it announces a frame of {length} bytes")
            body = self._read(length, fds)
            try:
                message = json.loads(body)
            except ValueError as error:
                raise not_ours(f"it sends a frame that is no JSON: {error}") from error
            if not isinstance(message, dict):
                raise not_ours("it sends a frame that is no JSON object")
        except BaseException:
            close_all(fds)
            raise
        return message, fds

    def _read(self, length: int, fds: list[int]) -> bytes:
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
        parts: list[bytes] = []
        missing = length
        while missing:
            try:
                data, ancillary, _flags, _address = self._sock.recvmsg(missing, space, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError as error:
                raise ConnectionLost(str(error)) from error
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                    fds.extend(numbers)
            if not data:
                raise ConnectionLost("end of file")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)


def not_ours(why: str) -> ServerError:
    """The error for a peer that does not speak the protocol."""
    return ServerError(
        f"what listens on the control socket is not an nsrun server: {why}",
        resolution="nsrun server status; if another program owns that directory, choose another one with --root DIR.",
    )


def close_all(fds: Sequence[int]) -> None:
    """Close received descriptors that nobody wants."""
    for fd in fds:
        os.close(fd)


def connect(root: Root) -> Connection:
    """Connect to the root's server and read its greeting.

    Raises:
        ServerAway: no socket, or nobody listens on it.
        ConnectionLost: the server ended while greeting.
        PermissionDeniedError: the socket belongs to somebody else.
        ServerError: something else listens there.
    """
    # The directory is opened first: a root's path may be longer than sun_path, /proc/self/fd/N/… never is.
    try:
        directory = os.open(root.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(error, NotADirectoryError):
            raise StepError(
                "open directory", root.run, error.errno or 0, what="the state directory is not usable"
            ) from error
        raise ServerAway(root.run) from error
    except PermissionError as error:
        raise not_permitted(root, error) from error
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _patience(sock, GREETING_TIMEOUT_S)
        sock.connect(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
        connection = Connection(sock)
        connection.greet()
        _patience(sock, 0)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise ServerAway(root.socket_path) from error
    except PermissionError as error:
        sock.close()
        raise not_permitted(root, error) from error
    except BlockingIOError as error:
        pid = _peer(sock)
        sock.close()
        raise silent(root, pid) from error
    except OSError as error:
        sock.close()
        raise StepError("connect", root.socket_path, error.errno or 0, what="the server cannot be reached") from error
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return connection


def _patience(sock: socket.socket, seconds: int) -> None:
    """Limit what the socket waits for; 0 is for ever. Not `settimeout`: that makes a full queue of connections an error at once."""
    limit = struct.pack("ll", seconds, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


def _peer(sock: socket.socket) -> int:
    """The pid of the process that listens, or 0."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return 0
    pid, _uid, _gid = struct.unpack("3i", data)
    return max(int(pid), 0)


def silent(root: Root, pid: int) -> ServerError:
    """The error for a server that takes the connection and says nothing."""
    who = f"the server (pid {pid})" if pid else "the server"
    return ServerError(
        f"{who} said nothing for {GREETING_TIMEOUT_S:g} s on {root.socket_path}",
        details="It is stopped (SIGSTOP, a debugger), or the machine is very busy. Pods run on without it.",
        resolution=f"kill -CONT {pid or 'PID'} lets a stopped one go on; kill -KILL {pid or 'PID'} ends it, "
        "and the next command starts a new one.",
    )


def not_permitted(root: Root, error: OSError) -> PermissionDeniedError:
    """The error for a caller that may not use the root's socket or directory."""
    if os.geteuid() == 0:
        return PermissionDeniedError(
            f"connect {root.socket_path}: {error.strerror}",
            details="Even root is refused here: a security module, or a directory of another user namespace.",
            resolution="Choose another place with --root DIR or NSRUN_ROOT.",
        )
    return PermissionDeniedError(
        f"connect {root.socket_path}: {error.strerror}",
        details="The server is root's, and so is its socket.",
        resolution=f"sudo nsrun {root.option}...",
    )
