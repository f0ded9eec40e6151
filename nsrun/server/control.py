"""The control socket: frames with descriptors, and one task per request.

A frame is a 4-byte big-endian length and that much JSON; descriptors come with the first byte. The header is read by itself,
so that descriptors which arrive with it belong to this frame and to no other.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nsrun._version import __version__
from nsrun.errors import InternalError, NsrunError, PermissionDeniedError, StepError, UnsupportedError, UsageError

PROTOCOL = 1
FRAME_MAX = 64 * 1024 * 1024
"""Bytes of JSON in one frame, either way."""
FDS_MAX = 16
"""Descriptors with one frame."""
FRAMES_AT_ONCE = 64
"""Frames that one system call sends at most."""
BACKLOG_MAX = 128 * 1024 * 1024
"""Bytes that a client may leave unread before its connection is closed."""

_LOG = logging.getLogger("nsrun.control")
_HEADER = struct.Struct("!I")
_CREDENTIALS = struct.Struct("iII")
_SO_PEERGROUPS = 59
"""<asm-generic/socket.h>; Python has no name for it."""
_GROUPS_BYTES = 1024
"""What Python's getsockopt gives at most: 256 groups. Who is in more is not let in by one of them."""
_CMSG_SPACE = socket.CMSG_SPACE(FDS_MAX * 4)


class _Call(msgspec.Struct):
    id: int
    method: str
    params: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(_Call)
_ENCODER = msgspec.json.Encoder()


class Answer:
    """A method's result with descriptors; they are closed once they were sent."""

    __slots__ = ("fds", "result")

    def __init__(self, result: object, fds: Iterable[int] = ()) -> None:
        self.result = result
        self.fds = tuple(fds)


class Request:
    """One call: parameters, descriptors that came with it, and the way to send events before the answer.

    `cancellable` is for the method to set while it only waits or streams: then the end of the connection cancels it.
    Otherwise a request that has begun runs to its end, whoever asked and whatever became of them.
    The descriptors in `fds` are closed after the method has returned.
    """

    __slots__ = ("_connection", "cancellable", "fds", "id", "method", "params")

    def __init__(self, connection: Connection, call: _Call, fds: list[int]) -> None:
        self._connection = connection
        self.id = call.id
        self.method = call.method
        self.params = call.params
        self.fds = fds
        self.cancellable = False

    def event(self, data: object, fds: Iterable[int] = ()) -> None:
        """Send an event; takes the descriptors over and closes them. A closed connection swallows it."""
        self._connection.send({"id": self.id, "event": data}, fds)

    async def room(self, limit: int) -> None:
        """Wait until the client has left no more than `limit` bytes unread."""
        await self._connection.room(limit)

    def text(self, name: str, default: str | None = None) -> str:
        """The string parameter `name`.

        Raises:
            UsageError: it is missing and has no default, or is something else.
        """
        value = self.params.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise UsageError(f"{self.method}: parameter {name!r} must be a string, and it is {_kind(value)}")
        return value

    def text_or_none(self, name: str) -> str | None:
        """The string parameter `name`, or None."""
        return None if self.params.get(name) is None else self.text(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """The boolean parameter `name`."""
        value = self.params.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UsageError(f"{self.method}: parameter {name!r} must be true or false, and it is {_kind(value)}")
        return value

    def number_or_none(self, name: str) -> float | None:
        """The number parameter `name`, or None."""
        value = self.params.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise UsageError(f"{self.method}: parameter {name!r} must be a number from 0 up, and it is {value!r}")
        return float(value)

    def texts(self, name: str) -> list[str]:
        """The list of strings `name`; empty when absent."""
        value = self.params.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{self.method}: parameter {name!r} must be a list of strings, and it is {_kind(value)}")
        return value


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return {str: "a string", bool: "true or false", list: "a list", dict: "an object"}.get(type(value), "a number")


Method = Callable[[Request], Awaitable[object]]


class Connection:
    """One client. Reads frames, runs each request as a task, sends what they answer in the order it was given."""

    def __init__(self, server: ControlSocket, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._header = bytearray()
        self._payload: bytearray | None = None
        self._have = 0
        self._fds: list[int] = []
        self._out: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._queued = 0
        self._room: tuple[int, asyncio.Future[None]] | None = None
        """Who waits until so many bytes are left of what is queued."""
        self._tasks: dict[asyncio.Task[None], Request] = {}
        self._closing = False
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._readable)
        self.send({"nsrun": __version__, "protocol": PROTOCOL, "pid": os.getpid()})

    # reading

    def _readable(self) -> None:
        try:
            while not self.closed and not self._closing and self._read_some():
                pass
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            _LOG.debug("connection lost: %s", error)
            self.close()

    def _read_some(self) -> bool:
        if self._payload is None:
            data, ancillary, flags, _address = self._sock.recvmsg(
                4 - len(self._header), _CMSG_SPACE, socket.MSG_CMSG_CLOEXEC
            )
            self._collect_fds(ancillary)
            if flags & socket.MSG_CTRUNC:
                self._refuse("more descriptors than fit with one request")
                return False
            if not data:
                self.close()
                return False
            self._header += data
            if len(self._header) < 4:
                return True
            (size,) = _HEADER.unpack(self._header)
            self._header.clear()
            if size > FRAME_MAX:
                self._refuse(f"a request of {size} bytes; at most {FRAME_MAX} are taken")
                return False
            self._payload = bytearray(size)
            self._have = 0
            if size:
                return True
        payload = self._payload
        if self._have < len(payload):
            count = self._sock.recv_into(memoryview(payload)[self._have :])
            if count == 0:
                self.close()
                return False
            self._have += count
        if self._have == len(payload):
            self._payload = None
            fds, self._fds = self._fds, []
            self._dispatch(payload, fds)
        return True

    def _collect_fds(self, ancillary: Sequence[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                self._fds.extend(numbers)

    def _refuse(self, why: str) -> None:
        """Tell the client and hang up: what follows on this connection cannot be understood any more."""
        self._closing = True
        self._loop.remove_reader(self._sock.fileno())
        self.send({"id": 0, "error": UsageError(f"the control socket got {why}").as_data()})
        if not self._out:
            self.close()

    def _dispatch(self, payload: bytearray, fds: list[int]) -> None:
        try:
            call = _DECODER.decode(payload)
        except msgspec.MsgspecError as error:
            _close_all(fds)
            self._refuse(f"something that is not a request: {error}")
            return
        request = Request(self, call, fds)
        task = self._loop.create_task(self._run(request), name=call.method)
        self._tasks[task] = request
        self._server.tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._server.tasks.discard(task)

    async def _run(self, request: Request) -> None:
        fds: tuple[int, ...] = ()
        try:
            method = self._server.methods.get(request.method)
            if method is None:
                await self._server.ready.wait()
                method = self._server.methods.get(request.method)
            if method is None:
                raise UnsupportedError(
                    f"this server does not know the request {request.method!r}",
                    details=f"The server is nsrun {__version__}.",
                    resolution="Use command and server of the same version: nsrun server stop, and the next command starts a new one.",
                )
            result = await method(request)
            if isinstance(result, Answer):
                fds = result.fds
                result = result.result
            answer: dict[str, object] = {"id": request.id, "result": result}
        except asyncio.CancelledError:
            if not self.closed:
                raise
            return
        except NsrunError as error:
            answer = {"id": request.id, "error": error.as_data()}
        except OSError as error:
            _LOG.exception("%s failed", request.method)
            step = StepError(request.method, str(error.filename or ""), error.errno or 0)
            answer = {"id": request.id, "error": step.as_data()}
        except Exception as error:
            _LOG.exception("%s failed", request.method)
            problem = InternalError(
                f"{request.method}: {type(error).__name__}: {error}",
                details="This is a bug of nsrun's; the server's log has the traceback.",
                resolution=f"Report it with {self._server.log_hint}.",
            )
            answer = {"id": request.id, "error": problem.as_data()}
        finally:
            _close_all(request.fds)
        self.send(answer, fds)

    # writing

    def send(self, message: object, fds: Iterable[int] = ()) -> None:
        """Queue a frame; takes the descriptors over and closes them once they are sent."""
        owned = tuple(fds)
        if self.closed:
            _close_all(owned)
            return
        data = _ENCODER.encode(message)
        if len(data) > FRAME_MAX:
            _close_all(owned)
            owned = ()
            too_long = UnsupportedError(f"the answer has {len(data)} bytes; at most {FRAME_MAX} fit in a frame")
            number = message.get("id", 0) if isinstance(message, dict) else 0
            data = _ENCODER.encode({"id": number, "error": too_long.as_data()})
        frame = memoryview(_HEADER.pack(len(data)) + data)
        was_empty = not self._out
        self._out.append((frame, owned))
        self._queued += len(frame)
        if was_empty:
            # Not at once: what is sent in one go of the loop goes out with one system call and wakes the client once.
            self._loop.call_soon(self._flush)
        elif self._queued > BACKLOG_MAX:
            _LOG.warning("a client does not read its answers; hanging up")
            self.close()

    def _flush(self) -> None:
        if self.closed or not self._out:
            return
        self._writable()
        if self._out and not self.closed:
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _batch(self) -> list[memoryview]:
        """What one system call sends: the first frame with its descriptors, and those after it that have none."""
        batch = [self._out[0][0]]
        for frame, fds in itertools.islice(self._out, 1, FRAMES_AT_ONCE):
            if fds:
                break
            batch.append(frame)
        return batch

    def _writable(self) -> None:
        try:
            while self._out:
                fds = self._out[0][1]
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                count = self._sock.sendmsg(self._batch(), ancillary, socket.MSG_NOSIGNAL)
                _close_all(fds)
                self._queued -= count
                self._tell_of_room()
                while count:
                    frame = self._out[0][0]
                    if count < len(frame):
                        self._out[0] = (frame[count:], ())
                        break
                    self._out.popleft()
                    count -= len(frame)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            _LOG.debug("connection lost while writing: %s", error)
            self.close()
            return
        self._loop.remove_writer(self._sock.fileno())
        if self._closing:
            self.close()

    async def room(self, limit: int) -> None:
        """Wait until no more than `limit` bytes are queued; one at a time."""
        while self._queued > limit and not self.closed:
            waiter = self._loop.create_future()
            self._room = (limit, waiter)
            await waiter

    def _tell_of_room(self) -> None:
        if self._room is not None and (self.closed or self._queued <= self._room[0]):
            waiter, self._room = self._room[1], None
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Hang up; requests that only wait or stream end with it, the others go on."""
        if self.closed:
            return
        self.closed = True
        number = self._sock.fileno()
        self._loop.remove_reader(number)
        self._loop.remove_writer(number)
        self._sock.close()
        _close_all(self._fds)
        for _frame, fds in self._out:
            _close_all(fds)
        self._out.clear()
        self._tell_of_room()
        self._server.connections.discard(self)
        for task, request in list(self._tasks.items()):
            if request.cancellable:
                task.cancel()


class ControlSocket:
    """The listening socket. `methods` may still be empty: requests wait for `ready`.

    Args:
        path: where it is bound; what a dead server left there is replaced (the caller holds the root's lock).
        log_hint: named in messages about bugs.
        group: id of a group that may connect, too.
    """

    def __init__(self, path: Path, log_hint: str, group: int | None = None) -> None:
        self.path = path
        self.log_hint = log_hint
        self._group = group
        self.methods: dict[str, Method] = {}
        self.ready = asyncio.Event()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._sock = _listen(path, group)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._acceptable)

    def _acceptable(self) -> None:
        while True:
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors: the client waits in the backlog; a moment later some may be free.
                _LOG.warning("cannot accept a connection: %s", error)
                self._loop.remove_reader(self._sock.fileno())
                self._loop.call_later(0.1, self._accept_again)
                return
            sock.setblocking(False)
            _pid, uid, gid = _CREDENTIALS.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if uid not in (0, os.geteuid()) and not (
                self._group is not None and (gid == self._group or self._group in _groups(sock))
            ):
                _turn_away(sock, uid)
                continue
            self.connections.add(Connection(self, sock))

    def _accept_again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._acceptable)

    def close(self) -> None:
        """Stop listening, hang up on everybody, and take the socket's name away."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        for connection in list(self.connections):
            connection.close()


def _groups(sock: socket.socket) -> array.array[int]:
    """The supplementary groups of a peer (unix(7))."""
    found = array.array("I")
    with contextlib.suppress(OSError):
        found.frombytes(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES))
    return found


def _listen(path: Path, group: int | None) -> socket.socket:
    """Bind and listen, 0600 from the first moment, 0660 where a group may connect.

    Longer paths than sun_path has room for go through /proc/self/fd."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=directory)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # A socket's file takes its mode from the socket's inode, less the umask.
        os.fchmod(sock.fileno(), 0o600)
        try:
            sock.bind(f"/proc/self/fd/{directory}/{path.name}")
            if group is not None:
                os.chown(path.name, -1, group, dir_fd=directory, follow_symlinks=False)
                os.chmod(path.name, 0o660, dir_fd=directory)
            sock.listen(512)
        except OSError as error:
            sock.close()
            raise StepError("bind the control socket", str(path), error.errno or 0) from error
        return sock
    finally:
        os.close(directory)


def _turn_away(sock: socket.socket, uid: int) -> None:
    """One frame for a stranger, then the end."""
    error = PermissionDeniedError(
        f"uid {uid} may not give orders to this server",
        resolution="Run it as root: sudo nsrun ...",
    )
    data = _ENCODER.encode({"id": 0, "error": error.as_data()})
    with contextlib.suppress(OSError):
        sock.send(_HEADER.pack(len(data)) + data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    sock.close()


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    if isinstance(fds, list):
        fds.clear()
