"""A private server: `nsrun.Engine` is the engine inside a program, gone with it.

The server is a child process that holds the read end of a pipe, the lifeline. Whatever ends this process, SIGKILL too,
closes the write end, and the server takes its pods down, removes what it made and exits. A server that was itself
SIGKILLed has its work finished by another one when the engine is closed. Only when both are killed does the root stay with
its pods running: `nsrun --root DIR pod down --all --force` ends them, and an Engine on that root has them again.
"""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nsrun.client import requests, roots, start
from nsrun.client.library import Client
from nsrun.client.wire import ConnectionLost, ServerAway, connect
from nsrun.errors import ConflictError, ServerError, StepError

if TYPE_CHECKING:
    import subprocess

CLOSE_TIMEOUT_S = 90.0


class Engine(Client):
    """A server of one's own with its pods; use it as a context manager, or call `close`.

    Needs root, as every server does. Nothing of it is visible to the machine's own server.

    Args:
        root: directory for everything of it; None makes one that is removed afterwards.
        time_scale: back-off delays and probe periods of its pods are divided by it, unless `up` is told otherwise; None is
            real time.

    Raises:
        UsageError: the time scale is none. PermissionDeniedError: not root. ConflictError: a server works on that directory already.
        ServerError: the server does not start; its last words are in `details`.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, *, time_scale: float | None = None) -> None:
        requests.check_time_scale(time_scale)
        temporary = root is None
        if os.geteuid() != 0:
            raise start.needs_root(roots.find(root))
        directory = tempfile.mkdtemp(prefix="nsrun-") if temporary else os.fspath(root or "")
        super().__init__(directory, start=False)
        self.time_scale = time_scale
        try:
            self._server, self._lifeline = launch(self.session.root, temporary=temporary)
        except BaseException:
            if temporary:
                remove_empty(directory)
            raise
        _lifelines.add(self._lifeline)
        self._finalizer = weakref.finalize(
            self, finish, self._server, self._lifeline, self.session.root, temporary=temporary
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Take all pods down, end the server and remove what it made. May be called again.

        Raises:
            ServerError: the server is not done after 90 s; it goes on with it. Or it was killed, and another one cannot finish.
        """
        super().close()
        self._finalizer()


class Lifeline:
    """The write end of the pipe that keeps a private server going."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Let go."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


_lifelines: weakref.WeakSet[Lifeline] = weakref.WeakSet()


def _let_go_in_child() -> None:
    # A forked child of the program would keep the server alive after the program's end.
    for lifeline in _lifelines:
        lifeline.close()


os.register_at_fork(after_in_child=_let_go_in_child)


def launch(root: roots.Root, *, temporary: bool) -> tuple[subprocess.Popen[bytes], Lifeline]:
    """Start a private server and wait until it listens."""
    import subprocess

    start.make_run_directory(root)
    with contextlib.suppress(ServerAway, ConnectionLost):
        connect(root).close()
        raise ConflictError(
            f"a server works on {root.given} already",
            resolution="Connect to it with nsrun.connect(), or give the Engine another directory.",
        )
    log = start.open_server_log(root)
    before = os.fstat(log).st_size
    ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
    lifeline_r, lifeline_w = os.pipe2(os.O_CLOEXEC)
    lifeline = Lifeline(lifeline_w)
    options = ["--ready", str(ready_w), "--lifeline", str(lifeline_r), *(["--temporary"] if temporary else [])]
    command = start.server_command(root, options)
    try:
        # A session of its own: Ctrl-C at the program must not end the server before the pods are down.
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=start.server_environment(),
            start_new_session=True,
            pass_fds=[ready_w, lifeline_r],
        )
        os.close(ready_w)
        ready_w = -1
        try:
            wait_listening(root, ready_r, before)
        except BaseException:
            end(server, lifeline)
            raise
    except OSError as error:
        lifeline.close()
        raise StepError("exec", command[0], error.errno or 0, what="the server did not start") from error
    finally:
        for fd in (log, ready_r, ready_w, lifeline_r):
            if fd >= 0:
                os.close(fd)
    return server, lifeline


def wait_listening(root: roots.Root, ready: int, log_offset: int) -> None:
    """Wait for the byte that says it listens."""
    poller = select.poll()
    poller.register(ready, select.POLLIN)
    if poller.poll(start.START_TIMEOUT_S * 1000) and os.read(ready, 1):
        return
    raise start.did_not_start(root, log_offset)


def end(server: subprocess.Popen[bytes], lifeline: Lifeline) -> None:
    """Let go of the lifeline and wait for the server."""
    import subprocess

    lifeline.close()
    try:
        server.wait(CLOSE_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ServerError(
            f"the private server (pid {server.pid}) is not done {CLOSE_TIMEOUT_S:.0f} s after its end was asked for",
            details="It still takes pods down.",
        ) from error


def finish(server: subprocess.Popen[bytes], lifeline: Lifeline, root: roots.Root, *, temporary: bool) -> None:
    """`end`; what a server that was killed left is taken down by another one, whose lifeline has ended already."""
    import subprocess

    end(server, lifeline)
    if server.returncode == 0 or not os.path.isdir(root.run):
        return
    read, write = os.pipe2(os.O_CLOEXEC)
    os.close(write)
    log = -1
    try:
        log = start.open_server_log(root)
        before = os.fstat(log).st_size
        options = ["--lifeline", str(read), *(["--temporary"] if temporary else [])]
        second = subprocess.Popen(
            start.server_command(root, options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=start.server_environment(),
            start_new_session=True,
            pass_fds=[read],
        )
        if second.wait(CLOSE_TIMEOUT_S) == 0:
            return
        details = start.last_words(root, before)
    except (OSError, subprocess.TimeoutExpired) as error:
        details = str(error)
    finally:
        for fd in (read, log):
            if fd >= 0:
                os.close(fd)
    raise ServerError(
        f"the private server (pid {server.pid}) was killed, and what it left in {root.given} could not be taken away",
        details=details,
        resolution=f"nsrun --root {root.given} pod down --all --force",
    )


def remove_empty(directory: str) -> None:
    """Remove a temporary root in which no server ever worked."""
    import shutil

    shutil.rmtree(directory, ignore_errors=True)
