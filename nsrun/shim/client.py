"""One connection to a shim, for asyncio. Any number of them may be open; a lost one is replaced by connecting again."""

from __future__ import annotations

import array
import asyncio
import collections
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nsrun.shim import wire
from nsrun.shim.errors import ShimClosedError, ShimError, ShimStartError
from nsrun.shim.process import SOCKET, directory
from nsrun.shim.records import (
    Event,
    ExecRequest,
    Exited,
    Hello,
    JobEnded,
    JobRequest,
    LogBlocked,
    LogResumed,
    Record,
    StartEnded,
    StartRequest,
)

_lib = wire.lib
_Fds = list[int]
_Records = list[Record]  # `list` is a method's name in the class below
_SEEN_AT_ONCE = 64  # packets handled before other tasks get their turn


class _Answer(NamedTuple):
    """The closing packet of a request with its descriptors, and the RECORD packets before it."""

    message: Any
    fds: list[int]
    records: list[Record]


class _Pending:
    """A request whose answer is still to come."""

    def __init__(self, name: str, subject: str, future: asyncio.Future[_Answer]) -> None:
        self.name = name
        self.subject = subject
        self.future = future
        self.records: list[Record] = []


class ShimClient:
    """A connection to the shim of a pod. Make one with `connect`; every method may be called concurrently.

    Attributes:
        on_event: called with each Event from `subscribe` on, in the order of the shim. Must not block.
        on_close: called once when the connection is lost (not by `close`).
    """

    def __init__(self, sock: socket.socket, pod_dir: str) -> None:
        self._sock = sock
        self._pod_dir = pod_dir
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._pending: dict[int, _Pending] = {}
        self._unsent: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._closed = False
        self.on_event: Callable[[Event], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self._loop.add_reader(sock, self._readable)

    @classmethod
    async def connect(cls, pod_dir: Path | str) -> ShimClient:
        """Connects to the shim that serves the directory.

        Raises:
            ShimClosedError: nobody listens there (ECONNREFUSED), or no socket is there (ENOENT).
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            with directory(pod_dir) as directory_fd:
                delay = 0.001
                while True:
                    try:
                        sock.connect(f"/proc/self/fd/{directory_fd}/{SOCKET}")
                        break
                    except BlockingIOError:  # the listener's queue is full
                        await asyncio.sleep(delay)
                        delay = min(delay * 2, 0.1)
        except OSError as error:
            sock.close()
            raise ShimClosedError("CONNECT", error.errno or 0, str(pod_dir)) from error
        except BaseException:
            sock.close()
            raise
        return cls(sock, str(pod_dir))

    @property
    def closed(self) -> bool:
        """The connection is over, by either side."""
        return self._closed

    def close(self) -> None:
        """Ends the connection; requests without an answer raise ShimClosedError. May be called twice."""
        self._shut(notify=False)

    async def __aenter__(self) -> ShimClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # Requests

    async def hello(self) -> Hello:
        """Who is there.

        Raises:
            ShimError: HELLO with EPROTO when the shim speaks another wire version.
        """
        answer = await self._request("HELLO")
        found = wire.hello(answer.message.u.hello)
        if found.wire_version != _lib.NSR_WIRE_VERSION:
            raise ShimError("HELLO", errno.EPROTO, self._pod_dir)
        return found

    async def subscribe(self) -> None:
        """From now on events come on this connection."""
        await self._request("SUBSCRIBE")

    async def events(self) -> AsyncIterator[Event]:
        """Subscribes, then yields events until the connection is lost."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            await self.subscribe()
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.discard(queue)

    async def sandbox(self, program: bytes, slots: Sequence[int] = ()) -> None:
        """Runs the program in the shim itself, once in its life.

        Raises:
            ShimStartError: one of its steps failed. ShimError: EALREADY when it ran before.
        """
        with _program(program) as program_fd:
            await self._request("SANDBOX", [program_fd, *slots])

    async def network(self) -> tuple[int, socket.socket]:
        """(descriptor of the shim's network namespace, NETLINK_ROUTE SOCK_DGRAM socket opened in it); the caller owns both."""
        answer = await self._request("NETWORK", want_fds=2)
        namespace, netlink = answer.fds
        try:
            return namespace, socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE, fileno=netlink)
        except BaseException:
            os.close(namespace)
            raise

    async def start(self, request: StartRequest) -> Record:
        """Starts a container; returns when its program has exec'ed (or the process has even ended by then).

        Raises:
            ShimStartError: a step of its program failed; a START_FAILED record stays until `forget`.
            ShimError: refused before anything was made: EEXIST (id is known), ENOBUFS (table full), ENOSPC (record), EINVAL;
                ENOENT, ESRCH: its target is not known, or does not run.
        """

        def fill(message: Any) -> None:
            start = message.u.start
            wire.put_text(start.id, request.id)
            wire.put_text(start.name, request.name)
            start.attempt = request.attempt
            start.flags = int(request.flags) | (_lib.NSR_START_NO_CGROUP if request.cgroup_fd is None else 0)
            start.clone_flags = request.clone_flags
            wire.put_text(start.target, request.target)

        with _program(request.program) as program_fd:
            cgroup = [] if request.cgroup_fd is None else [request.cgroup_fd]
            fds = [program_fd, request.log_fd, *cgroup, *request.slots]
            answer = await self._request("START", fds, fill, subject=request.id)
        return wire.record(answer.message.u.record)

    async def exec(self, request: ExecRequest) -> None:
        """Hands an exec to the shim. Returns when it is accepted; all else is told on the status socket.

        Raises:
            ShimError: ESRCH when the target does not run; ENOBUFS, EINVAL.
        """

        def fill(message: Any) -> None:
            start = message.u.start
            wire.put_text(start.target, request.target)
            wire.put_text(start.name, request.name)
            start.flags = (_lib.NSR_START_TERMINAL if request.terminal else 0) | (
                _lib.NSR_START_NO_CGROUP if request.cgroup_fd is None else 0
            )
            start.clone_flags = request.clone_flags
            start.join_flags = request.join_flags

        with _program(request.program) as program_fd:
            cgroup = [] if request.cgroup_fd is None else [request.cgroup_fd]
            stdio = [] if request.terminal or request.stdio is None else [*request.stdio]
            fds = [program_fd, request.status_fd, *cgroup, *stdio, *request.slots]
            await self._request("EXEC", fds, fill, subject=request.target)

    async def job(self, request: JobRequest) -> None:
        """Begins a job. Returns when it is accepted and has its file; its end is told by JobEnded and in the file (`read_job`).

        Raises:
            ShimError: EEXIST when it was begun before, maybe by another client; ESRCH when the target does not run, ENOENT when it is
                not known; ENOSPC and the like when its file cannot be made, ENOBUFS, EINVAL. But for EEXIST nothing ran.
        """

        def fill(message: Any) -> None:
            start = message.u.start
            wire.put_text(start.target, request.target)
            wire.put_text(start.name, request.name)
            start.flags = _lib.NSR_START_NO_CGROUP if request.cgroup_fd is None else 0
            start.clone_flags = request.clone_flags
            start.join_flags = request.join_flags

        with _program(request.program) as program_fd:
            cgroup = [] if request.cgroup_fd is None else [request.cgroup_fd]
            await self._request("JOB", [program_fd, *cgroup, *request.slots], fill, subject=request.target)

    async def signal(self, id: str, signo: int, *, stop: bool = False) -> None:  # noqa: A002 - what it is called everywhere
        """Sends a signal to a container's root process.

        Args:
            stop: it is the one that is to end the container, and is remembered as such in its record.

        Raises:
            ShimError: ESRCH when it is gone, ENOENT when the id is not known.
        """
        await self._request("SIGNAL", fill=_filled(id, signo, stop=stop), subject=id)

    async def kill(self, id: str) -> None:  # noqa: A002
        """SIGKILL to everything in a container. Raises ShimError like `signal`."""
        await self._request("KILL", fill=_filled(id), subject=id)

    async def reopen(self, id: str, log_fd: int) -> None:  # noqa: A002
        """From now on lines go to another log file; no line is split between two."""
        await self._request("REOPEN", [log_fd], _filled(id), subject=id)

    async def attach(
        self,
        id: str,  # noqa: A002
        *,
        output_fd: int | None = None,
        error_fd: int | None = None,
        stdin: bool = False,
    ) -> int | None:
        """Copies what a container writes from now on, as it is, to a socket or pipe; a reader that falls 4 MiB behind is hung up on.

        Args:
            id: the container's.
            output_fd: gets both streams, or stdout alone when `error_fd` is given.
            error_fd: gets stderr.
            stdin: asks for the write end of its stdin (a pty's master with a terminal: write only), which the caller owns.

        Raises:
            ShimError: ESRCH (not running), EPIPE (its stdin is closed or was never open), ENOBUFS, EINVAL (no socket and no pipe).
        """
        outputs = [fd for fd in (output_fd, error_fd) if fd is not None]
        if error_fd is not None and output_fd is None:
            raise ShimError("ATTACH", errno.EINVAL, id)

        def fill(message: Any) -> None:
            wire.put_text(message.u.attach.id, id)
            message.u.attach.want_stdin = stdin
            message.u.attach.has_output = len(outputs)

        answer = await self._request("ATTACH", outputs, fill, subject=id, want_fds=1 if stdin else 0)
        return answer.fds[0] if stdin else None

    async def close_stdin(self, id: str) -> None:  # noqa: A002
        """Closes the shim's own write end of a container's stdin."""
        await self._request("CLOSE_STDIN", fill=_filled(id), subject=id)

    async def resize(self, id: str, rows: int, columns: int) -> None:  # noqa: A002
        """Sets the size of a container's terminal. Raises ShimError ENOTTY when it has none."""
        await self._request("RESIZE", fill=_filled(id, (rows & 0x7FFF) << 16 | (columns & 0xFFFF)), subject=id)

    async def list(self) -> _Records:
        """Every instance the shim knows."""
        return (await self._request("LIST")).records

    async def forget(self, id: str) -> None:  # noqa: A002
        """Drops an ended instance's record. Raises ShimError EBUSY while it runs, ENOENT when it is not known."""
        await self._request("FORGET", fill=_filled(id), subject=id)

    async def quit(self) -> None:
        """Ends the shim. Raises ShimError EBUSY while anything runs."""
        await self._request("QUIT")

    # Packets

    async def _request(
        self,
        name: str,
        fds: Sequence[int] = (),
        fill: Callable[[Any], None] | None = None,
        *,
        subject: str = "",
        want_fds: int = 0,
    ) -> _Answer:
        if self._closed:
            raise ShimClosedError(name, errno.ENOTCONN, subject or self._pod_dir)
        self._seq = self._seq % 0xFFFFFFFF + 1
        seq = self._seq
        message = wire.new_message(name, seq, len(fds))
        if fill is not None:
            try:
                fill(message)
            except OSError as error:
                raise ShimError(name, error.errno or errno.EINVAL, subject) from error
        future: asyncio.Future[_Answer] = self._loop.create_future()
        self._pending[seq] = _Pending(name, subject or self._pod_dir, future)
        try:
            self._send(wire.pack(message), fds)
            answer = await future
        except BaseException:
            self._pending.pop(seq, None)
            if future.done() and not future.cancelled() and future.exception() is None:
                _close_all(future.result().fds)
            raise
        if len(answer.fds) != want_fds:
            _close_all(answer.fds)
            raise ShimError(name, errno.EPROTO, subject or self._pod_dir)
        return answer

    def _send(self, packet: bytes, fds: Sequence[int]) -> None:
        # Copies, because the caller closes its own when it is done waiting, which may be before a full socket lets this go.
        if self._unsent or not self._try_send(packet, fds):
            copies = [os.dup(fd) for fd in fds]
            if not self._unsent:
                self._loop.add_writer(self._sock, self._writable)
            self._unsent.append((packet, copies))

    def _try_send(self, packet: bytes, fds: Sequence[int]) -> bool:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([packet], control, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            self._readable()  # what the shim sent before it hung up, and the end
            self._shut(notify=True)
        except OSError as error:
            raise ShimError("SEND", error.errno or 0, self._pod_dir) from error
        return True

    def _writable(self) -> None:
        while self._unsent and not self._closed:
            packet, fds = self._unsent[0]
            if not self._try_send(packet, fds):
                return
            if self._unsent:
                self._unsent.popleft()
            _close_all(fds)
        if not self._closed:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        for _ in range(_SEEN_AT_ONCE):
            if self._closed:
                return
            try:
                data, control, flags, _address = self._sock.recvmsg(
                    wire.MESSAGE_SIZE + 1, socket.CMSG_SPACE(4 * _lib.NSR_FD_MAX), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except ConnectionResetError:
                # Said once, when the shim hung up with something of ours unread; what it sent before is still there.
                continue
            except OSError:
                self._shut(notify=True)
                return
            fds: array.array[int] = array.array("i")
            for level, kind, content in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(content[: len(content) // 4 * 4])
            if len(data) != wire.MESSAGE_SIZE or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                _close_all(fds)
                self._shut(notify=True)
                return
            self._take(wire.unpack(data), list(fds))

    def _take(self, message: Any, fds: _Fds) -> None:
        kind = int(message.type)
        if message.seq == 0:
            _close_all(fds)
            if kind == _lib.NSR_MSG_FAILED:  # not an answer: the shim does not want us (ENOBUFS: too many clients)
                self._shut(notify=True, error=int(message.error))
                return
            event = _event(kind, message)
            if event is not None:
                if self.on_event is not None:
                    self.on_event(event)
                for queue in self._queues:
                    queue.put_nowait(event)
            return
        pending = self._pending.get(message.seq)
        if pending is None:  # its caller was cancelled
            _close_all(fds)
            return
        if kind == _lib.NSR_MSG_RECORD:
            pending.records.append(wire.record(message.u.record))
            return
        del self._pending[message.seq]
        if pending.future.done():
            _close_all(fds)
        elif kind == _lib.NSR_MSG_FAILED:
            _close_all(fds)
            pending.future.set_exception(_failure(pending, message))
        else:
            pending.future.set_result(_Answer(message, fds, pending.records))

    def _shut(self, *, notify: bool, error: int = errno.ECONNRESET) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        while self._unsent:
            _close_all(self._unsent.popleft()[1])
        pending, self._pending = self._pending, {}
        for one in pending.values():
            if not one.future.done():
                one.future.set_exception(ShimClosedError(one.name, error, one.subject))
        for queue in self._queues:
            queue.put_nowait(None)
        if notify and self.on_close is not None:
            self.on_close()


def _failure(pending: _Pending, message: Any) -> ShimError:
    if message.u.report.kind == _lib.NSR_REPORT_FAILED:
        return ShimStartError(pending.name, wire.report(message.u.report), pending.subject)
    return ShimError(pending.name, int(message.error), pending.subject)


def _event(kind: int, message: Any) -> Event | None:
    if kind == _lib.NSR_MSG_EXITED:
        return Exited(wire.record(message.u.record))
    if kind == _lib.NSR_MSG_START_ENDED:
        return StartEnded(wire.record(message.u.record))
    if kind == _lib.NSR_MSG_JOB_ENDED:
        return JobEnded(wire.record(message.u.record))
    if kind == _lib.NSR_MSG_LOG_BLOCKED:
        return LogBlocked(wire.text(message.u.signal.id), int(message.u.signal.signal))
    if kind == _lib.NSR_MSG_LOG_RESUMED:
        return LogResumed(wire.text(message.u.signal.id))
    return None


def _filled(id: str, signo: int = 0, *, stop: bool = False) -> Callable[[Any], None]:  # noqa: A002
    def fill(message: Any) -> None:
        wire.put_text(message.u.signal.id, id)
        message.u.signal.stop = stop
        message.u.signal.signal = signo

    return fill


@contextlib.contextmanager
def _program(program: bytes) -> Any:
    descriptor = os.memfd_create("nsrun-program", os.MFD_CLOEXEC)
    try:
        view = memoryview(program)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor
    finally:
        os.close(descriptor)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
