"""The streams of a process in a container: exec and attach.

The server only introduces: it hands our pipe ends and one end of a status socket to the pod's shim. From then on the
process, the pipes and the status socket are between the shim and us, and the server may die.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import Protocol

from nsrun.client.session import Call, Cancelled, Session, hung_up
from nsrun.client.wire import ConnectionLost, Message, close_all
from nsrun.errors import NsrunError, PodFailedError, StepError

BLOCK = 1 << 16
END_OF_FILE_KEY = b"\x04"
DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q leaves an attached terminal, as with docker."""

STDIN_HELD = 1 << 20
"""Bytes read from the caller's input that the container has not taken yet; then reading waits."""

LOOK_AGAIN_MS = 100.0

CANNOT_INVOKE = 126
NOT_FOUND = 127


class CommandNotStartedError(StepError):
    """The command could not be executed in the container: 127 when it is not there, 126 otherwise, as shells say."""

    @property
    def exit_code(self) -> int:
        """127 for ENOENT, 126 for everything else."""
        return NOT_FOUND if self.number == errno.ENOENT else CANNOT_INVOKE


class Sink(Protocol):
    """Where output goes."""

    def take(self, fd: int) -> bool:
        """Move what `fd` has; False at its end, or when nobody wants it any more."""


class Buffer:
    """A sink that keeps everything, for the library."""

    def __init__(self) -> None:
        self.data = bytearray()

    def take(self, fd: int) -> bool:
        """Read once."""
        chunk = os.read(fd, BLOCK)
        self.data += chunk
        return bool(chunk)


class Through:
    """A sink that is a descriptor of ours: spliced where the kernel can, copied where it cannot.

    Args:
        target: descriptor to write to; not owned.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._splice = True

    def take(self, fd: int) -> bool:
        """Move once."""
        try:
            if self._splice:
                try:
                    return os.splice(fd, self.target, 1 << 20) > 0
                except OSError as error:
                    # EINVAL: terminals, files opened for appending and pty masters cannot be spliced.
                    if error.errno != errno.EINVAL:
                        raise
                    self._splice = False
            chunk = memoryview(os.read(fd, BLOCK))
            if not chunk:
                return False
            while chunk:
                chunk = chunk[os.write(self.target, chunk) :]
        except BrokenPipeError:
            return False
        return True


class Source:
    """What the container's process reads: a descriptor of ours, or bytes.

    Args:
        given: a descriptor (not owned), or all there is as bytes.
        keys: a sequence that means detach. Nothing of it reaches the process: its beginning is held back until another
            byte tells that it was not meant. A shell would else have a half-typed key when somebody comes back to it.
    """

    def __init__(self, given: int | bytes, keys: bytes = b"") -> None:
        self.fd = given if isinstance(given, int) else -1
        self.held = bytearray(b"" if isinstance(given, int) else given)
        self.ended = not isinstance(given, int)
        self.detached = False
        self._keys = keys
        self._seen = b""

    def wants_to_read(self) -> bool:
        """Whether more is to be read from our side now."""
        return not self.ended and len(self.held) < STDIN_HELD

    def read(self) -> None:
        """Read once from our side."""
        try:
            chunk = os.read(self.fd, BLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            # A terminal whose other end hung up gives EIO: the end of the input.
            if error.errno != errno.EIO:
                raise
            chunk = b""
        if not chunk:
            self.ended = True
            self.held += self._seen
            return
        if self._keys:
            text = self._seen + chunk
            chunk, found, _ = text.partition(self._keys)
            self.detached = bool(found)
            most = 0 if found else min(len(self._keys) - 1, len(text))
            begun = next((length for length in range(most, 0, -1) if text.endswith(self._keys[:length])), 0)
            chunk, self._seen = chunk[: len(chunk) - begun], chunk[len(chunk) - begun :]
        self.held += chunk

    def write(self, fd: int) -> bool:
        """Write once to the container's side; False when it takes no more."""
        try:
            written = os.write(fd, self.held[:BLOCK])
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return False
        del self.held[:written]
        return True


class Process:
    """A command running in a container, seen from outside.

    Attributes:
        master: the container's terminal, when it has one.
        hung_up: nobody has that terminal open just now.
        pid: as the machine sees it, once it runs.
    """

    def __init__(self, status: socket.socket, stdin: int, outputs: dict[int, Sink], described: str) -> None:
        self.status = status
        self.stdin = stdin
        self.outputs = outputs
        self.described = described
        self.master = -1
        self.pid = 0
        self.exit_code: int | None = None
        self.hung_up = False
        self._pidfd = -1

    def close(self) -> None:
        """Close our ends: the command sees end of file, or EPIPE, and a terminal hangs up."""
        self.status.close()
        for fd in {self.stdin, self.master, self._pidfd, *self.outputs}:
            if fd >= 0:
                os.close(fd)
        self.outputs.clear()
        self.stdin = self.master = self._pidfd = -1

    def kill(self) -> None:
        """SIGKILL the command; nothing happens when it is gone."""
        self.signal(signal.SIGKILL)

    def read_status(self) -> None:
        """Read one message of the shim.

        Raises:
            CommandNotStartedError, StepError: it did not start, and why.
            PodFailedError: the shim is gone.
        """
        from nsrun.native.exec_status import read_status

        message = read_status(self.status)
        if message is None:
            raise PodFailedError(
                f"{self.described} lost its process: the pod's shim ended",
                details="All containers of a pod end with its shim; the restart policy brings them back.",
                resolution="nsrun pod describe POD",
            )
        if message.kind == "started":
            self.pid = message.pid
            if message.terminal is not None:
                self.master = message.terminal
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self.pid)
        elif message.kind == "failed":
            raise self._failure(message.op, message.error, message.subject)
        else:
            self.exit_code = message.exit_code

    def _failure(self, op: int, number: int, subject: str) -> StepError:
        from nsrun import native

        if op == native.lib.NSR_OP_EXEC:
            failure: StepError = CommandNotStartedError("exec", subject, number, what=f"{self.described} did not start")
            failure.details, failure.resolution = exec_hint(number)
            return failure
        return StepError(op_words(op), subject, number, what=f"{self.described} did not start")

    def signal(self, number: int) -> bool:
        """Send a signal to the command; False when it is gone."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True


def op_words(op: int) -> str:
    """The words of an op's number: `pivot root` for NSR_OP_PIVOT_ROOT."""
    from nsrun import native

    for name in dir(native.lib):
        if name.startswith("NSR_OP_") and getattr(native.lib, name) == op:
            return name.removeprefix("NSR_OP_").replace("_", " ").lower()
    return f"step {op}"


def exec_hint(number: int) -> tuple[str | None, str | None]:
    """(details, resolution) for a command that could not be executed."""
    if number == errno.ENOENT:
        return (
            "The command is neither a file in the container nor found in its PATH, or the interpreter that its first line "
            "names is not there.",
            "No shell reads the command line: for shell words use  -- sh -c '...'",
        )
    if number in (errno.EACCES, errno.EISDIR):
        return (
            "It is a directory, has no permission to execute, or lies on a noexec mount.",
            "Name a program: -- ls -l PATH",
        )
    if number == errno.ENOEXEC:
        return (
            "It is no program of this machine's architecture, and its first line names no interpreter (#!).",
            "For a script without one: -- sh SCRIPT",
        )
    return None, None


class Request:
    """What to execute and where.

    Args:
        pod, namespace: of the pod.
        command: the argument vector; no shell reads it.
        container: name, or None for the pod's default container.
        tty: give it a terminal of its own.
        rows, columns: the terminal's size.
        env: variables beside the container's own.
        workdir: directory in the container, or None for the container's own.
        user: `uid[:gid]` or a name of the image, or None for the container's own.
    """

    def __init__(
        self,
        pod: str,
        namespace: str | None,
        command: Sequence[str],
        *,
        container: str | None = None,
        tty: bool = False,
        rows: int = 24,
        columns: int = 80,
        env: Sequence[str] = (),
        workdir: str | None = None,
        user: str | None = None,
    ) -> None:
        self.tty = tty
        self.described = f"exec of {command[0]!r} in pod {pod!r}"
        self.params: Message = {
            "name": pod,
            "namespace": namespace,
            "container": container,
            "command": list(command),
            "tty": tty,
            "rows": rows if tty else None,
            "columns": columns if tty else None,
            "env": list(env) or None,
            "workdir": workdir,
            "user": user,
        }


def begin(
    session: Session,
    request: Request,
    *,
    want_stdin: bool,
    stdout: Sink,
    stderr: Sink,
    call: Call | None = None,
) -> Process:
    """Start a command and return when the shim says it runs.

    The answer of the server only says that the shim has it. When the server dies before answering, the status socket
    knows better: a message means it runs, its end without one that nobody has it and it can be asked for again.

    Raises:
        CommandNotStartedError, StepError: it cannot be executed.
        NsrunError: the pod or container is not there, does not run, ...
    """
    while True:
        process, theirs = prepare(request, want_stdin=want_stdin, stdout=stdout, stderr=stderr)
        try:
            try:
                ask(session, request, theirs, call)
            except ConnectionLost:
                if call is not None and call.cancelled:
                    raise Cancelled from None
                if process.status.recv(1, socket.MSG_PEEK) == b"":
                    process.close()
                    continue
            process.read_status()
            if process.exit_code is None and request.tty and process.master < 0:
                raise PodFailedError(f"{request.described} got no terminal")
            if process.master >= 0:
                os.set_blocking(process.master, False)
                process.outputs[process.master] = stdout
                process.stdin = process.master if want_stdin else -1
            return process
        except BaseException:
            process.close()
            raise


def ask(session: Session, request: Request, theirs: list[int], call: Call | None) -> None:
    """Hand the descriptors in `theirs` to the server with the request, close them here, and wait for its answer.

    Raises:
        ConnectionLost: the server died before it answered.
        NsrunError: its answer.
    """
    reusable = False
    connection = None
    try:
        connection = session.connection()
        if call is not None:
            call.attach(connection)
        number = connection.send("pod.exec", request.params, theirs)
        while theirs:
            os.close(theirs.pop())
        while True:
            answer, fds = connection.receive()
            close_all(fds)
            if hung_up(answer) or (answer.get("id") == number and "event" not in answer):
                break
        reusable = not hung_up(answer)
        if "error" in answer:
            raise NsrunError.from_data(answer["error"])
    finally:
        close_all(theirs)
        if connection is not None:
            if call is not None:
                call.detach(connection)
            if reusable:
                session.release(connection)
            else:
                connection.close()


def prepare(request: Request, *, want_stdin: bool, stdout: Sink, stderr: Sink) -> tuple[Process, list[int]]:
    """Our side of an exec, and the descriptors for the other side."""
    from nsrun.native.exec_status import status_pair

    ours, status = status_pair()
    theirs = [status.detach()]
    stdin = -1
    outputs: dict[int, Sink] = {}
    if not request.tty:
        # Always pipes, never our own terminal or files: a container must not be able to reopen or control those.
        if want_stdin:
            far, stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(stdin, False)
        else:
            far = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        theirs.append(far)
        for sink in (stdout, stderr):
            near, far = os.pipe2(os.O_CLOEXEC)
            outputs[near] = sink
            theirs.append(far)
    return Process(ours, stdin, outputs, request.described), theirs


def pump(process: Process, source: Source | None, *, timeout_s: float | None = None) -> int | None:
    """Move the streams until the command has ended, and what it wrote before that has been read.

    Args:
        source: what goes to the command's standard input.
        timeout_s: seconds until None is returned although it still runs.

    Returns:
        The command's exit code (128+n for signal n), or None: timed out, or detached.
    """
    import time

    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    status_fd = process.status.fileno()
    while process.exit_code is None:
        poller = select.poll()
        poller.register(status_fd, select.POLLIN)
        for fd in process.outputs:
            if not (fd == process.master and process.hung_up):
                poller.register(fd, select.POLLIN)
        if source is not None and process.stdin >= 0 and not process.hung_up:
            feed(process, source, poller)
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0) * 1000
        if process.hung_up:
            # poll would only say POLLHUP over and over; who opens /dev/tty again is heard a little later.
            left = LOOK_AGAIN_MS if left is None else min(left, LOOK_AGAIN_MS)
        events = dict(poller.poll(left))
        if process.hung_up:
            move(process, process.master)
        if not events and deadline is not None and time.monotonic() >= deadline:
            return None
        for fd in [
            fd for fd in process.outputs if events.get(fd, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR)
        ]:
            move(process, fd)
        if source is not None and process.stdin >= 0:
            if source.fd in events and source.wants_to_read():
                source.read()
            if (
                source.held
                and events.get(process.stdin, 0) & (select.POLLOUT | select.POLLERR)
                and not source.write(process.stdin)
            ):
                source.held.clear()
                close_stdin(process, source)
            if source.detached:
                return None
        if status_fd in events:
            process.read_status()
    drain(process)
    return process.exit_code


def feed(process: Process, source: Source, poller: select.poll) -> None:
    """Register what the input needs next; close the container's side when all has been given."""
    if source.wants_to_read():
        poller.register(source.fd, select.POLLIN)
    if source.held:
        mask = select.POLLOUT | (select.POLLIN if process.stdin in process.outputs else 0)
        poller.register(process.stdin, mask)
    elif source.ended:
        close_stdin(process, source)


def close_stdin(process: Process, source: Source) -> None:
    """Tell the command that its input ends. On a terminal that is the end-of-file key: its master stays for the output."""
    if process.stdin == process.master:
        if not (source.fd >= 0 and os.isatty(source.fd)):
            with contextlib.suppress(OSError):
                os.write(process.stdin, END_OF_FILE_KEY)
    else:
        os.close(process.stdin)
    process.stdin = -1


def move(process: Process, fd: int) -> None:
    """Move output once; forget the descriptor at its end."""
    try:
        going_on = process.outputs[fd].take(fd)
        process.hung_up = process.hung_up and fd != process.master
    except BlockingIOError:
        process.hung_up = process.hung_up and fd != process.master
        return
    except OSError as error:
        # The master of a terminal that nobody has open any more. It stays open: a program that has closed its streams and
        # is about to exit would get SIGHUP from our closing it, and another exit code.
        if error.errno != errno.EIO:
            raise
        process.hung_up = True
        return
    if not going_on:
        del process.outputs[fd]
        if fd == process.master:
            process.stdin = -1 if process.stdin == fd else process.stdin
            process.master = -1
        os.close(fd)


def drain(process: Process) -> None:
    """Read what is there now: all that the ended command wrote. Children it left behind may hold the pipes open for ever."""
    for fd in list(process.outputs):
        os.set_blocking(fd, False)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while fd in process.outputs and poller.poll(0):
            move(process, fd)
            if fd == process.master and process.hung_up:
                break


def copy_attached(output: int, stdin: int, sink: Sink, source: Source | None) -> bool:
    """Move an attached container's streams until its output ends; False when the detach keys were pressed.

    Args:
        output: read end of what the container writes.
        stdin: its input (a pipe or the terminal's master), or -1; not closed here except at the input's end.
    """
    process_ended = False
    while not process_ended:
        poller = select.poll()
        poller.register(output, select.POLLIN)
        if source is not None and stdin >= 0:
            if source.wants_to_read():
                poller.register(source.fd, select.POLLIN)
            if source.held:
                poller.register(stdin, select.POLLOUT)
        events = dict(poller.poll())
        if output in events:
            process_ended = not sink.take(output)
        if source is not None and stdin >= 0:
            if source.fd in events:
                source.read()
            if source.detached:
                # What was typed before the keys.
                source.write(stdin)
                return False
            if source.held and not source.write(stdin):
                stdin = -1
            if source.ended and not source.held and stdin >= 0:
                os.close(stdin)
                stdin = -1
    return True
