"""The resolver seen from the server: begun when somebody asks, watched, begun again when it ends, taken over from a server before this one.

The server binds the sockets and keeps them: while there is no resolver, questions wait in them. It is begun with the first question, or a
moment after the sockets are there (then it answers also when this server is killed), and it outlives the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from nsrun._version import __version__
from nsrun.errors import errno_text
from nsrun.server import resolver_sockets
from nsrun.server.resolver_sockets import PORT, Sockets
from nsrun.state.files import remove_tree

START_AFTER_S = 2.0
"""Without a question: pods that live for less, and ask nothing, do not pay for it."""
LOOK_EVERY_S = 10.0
"""How often a resolver is asked whether it is well."""
ANSWER_S = 3.0
"""How long it may take to say so, before it is exchanged."""
STABLE_S = 10.0
"""One that lived for so long is begun again at once."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Before one that did not, doubling."""
LOG_MAX = 1 << 20
LOCK, LOG = "lock", "log"

_FIRST = 3
_CLEAR_OF_TARGETS = 64
"""Descriptors that are passed on are moved up here first, lest they overwrite one another."""
_LOG = logging.getLogger("nsrun.resolver")


class ResolverProcess:
    """One root's resolver.

    Args:
        directory: of its files; made when it is needed.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory
        self._directory = -1
        self._sockets: Sockets | None = None
        self._pid = 0
        self._pidfd = -1
        self._found: tuple[int, int] | None = None
        self._begun_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._waiting: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self.starts = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens; nothing if nowhere."""
        return self._sockets.addresses if self._sockets is not None else ()

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._pid

    # beginning

    def find(self) -> None:
        """Look for a resolver that an earlier server began. Blocks for `ANSWER_S` at most: for a thread; `adopt` comes after it.

        One that does not answer is killed.
        """
        self._open_directory()
        deadline = time.monotonic() + ANSWER_S
        while (holder := self._holder()) is None and self._locked() and time.monotonic() < deadline:
            # Begun a moment ago: it has not said who it is.
            time.sleep(0.02)
        if holder is None:
            return
        pid, pidfd = holder
        try:
            about, self._sockets = resolver_sockets.inherit(self._directory, max(deadline - time.monotonic(), 0.1))
        except (OSError, ValueError) as error:
            _LOG.warning("the resolver (pid %d) does not answer a new server: %s; it is exchanged", pid, error)
            _kill(pidfd)
            return
        if about.get("version") != __version__:
            _LOG.info("the resolver (pid %d) is of version %s: it is exchanged", pid, about.get("version"))
            _kill(pidfd)
            return
        self._found = holder

    def adopt(self) -> None:
        """Take over what was found: the process, or its sockets alone, in which questions wait."""
        if self._found is not None:
            self._take(*self._found)
            self._found = None
        else:
            self.begin()

    def listen(self, addresses: tuple[str, ...]) -> None:
        """Have the sockets bound there, and a process begun when it is needed.

        Raises:
            OSError: they cannot be bound; nothing is listened at then.
        """
        if self.addresses == addresses:
            return
        self.end()
        self._open_directory()
        self._sockets = resolver_sockets.bind(addresses, self._directory)

    def expect(self) -> None:
        """Begin the process with the first question, or in a while."""
        if self._pid or self._sockets is None or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(START_AFTER_S, self._begin)
        for one in self._sockets.of_clients():
            self._waiting.append(one.fileno())
            loop.add_reader(one.fileno(), self._begin)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            for fd in self._waiting:
                loop.remove_reader(fd)
            self._waiting.clear()

    def begin(self) -> None:
        """Begin the process now, if there is none and there are sockets for it."""
        if self._sockets is not None and not self._pid:
            self._begin()

    def _begin(self) -> None:
        self._expect_nothing()
        if self._pid or self._sockets is None:
            return
        try:
            pid = self._spawn(self._sockets)
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            _LOG.error("the resolver cannot be started: %s", errno_text(error.errno or 0))
            self._again()
            return
        self.starts += 1
        self._take(pid, pidfd)
        _LOG.info("the resolver answers at %s (pid %d)", ", ".join(self.addresses), pid)

    def _spawn(self, sockets: Sockets) -> int:
        with contextlib.ExitStack() as stack:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            lock = os.open(LOCK, flags, 0o600, dir_fd=self._directory)
            stack.callback(os.close, lock)
            # The lock is the descriptor's, not the process's: the resolver has it from its first moment.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
            stack.callback(os.close, log)
            if os.fstat(log).st_size > LOG_MAX:
                os.ftruncate(log, 0)
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, nothing)
            passed = [self._directory, lock, sockets.control.fileno(), *(one.fileno() for one in sockets.of_clients())]
            moved = []
            for fd in (nothing, log, log, *passed):
                moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _CLEAR_OF_TARGETS))
                stack.callback(os.close, moved[-1])
            words = ["-P", "-m", "nsrun.resolver", "--udp", str(len(sockets.udp)), "--tcp", str(len(sockets.tcp))]
            # No more of the environment than Python needs to find its modules: what is in it is not for user nobody.
            environment = {key: value for key, value in os.environ.items() if key.startswith("PYTHON")}
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *words],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(moved)],
                setsid=True,
            )
            with contextlib.suppress(OSError):
                os.pwrite(lock, f"{pid}\n".encode(), 0)
            return pid

    def _take(self, pid: int, pidfd: int) -> None:
        self._pid, self._pidfd = pid, pidfd
        self._begun_at = time.monotonic()
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, self._ended)
        if self._watch is None or self._watch.done():
            self._watch = loop.create_task(self._look_after())

    # watching

    def _ended(self) -> None:
        """It was killed, or is broken: the sockets hold what is asked meanwhile."""
        pid = self._pid
        status = self._forget()
        if time.monotonic() - self._begun_at > STABLE_S:
            self._pause_s = FIRST_PAUSE_S
        _LOG.warning("the resolver (pid %d) ended%s; it is started again", pid, status)
        self._again()

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = 0.0 if self._pause_s == FIRST_PAUSE_S else self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._timer = loop.call_later(delay_s, self._begin)

    def _forget(self) -> str:
        """The process is gone, or is not ours any more: how it ended, in words."""
        words = ""
        if self._pidfd != -1:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            # One that another server began is init's child.
            with contextlib.suppress(ChildProcessError):
                ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
                if ended is not None:
                    killed = ended.si_code != os.CLD_EXITED
                    words = f" ({'signal' if killed else 'status'} {ended.si_status})"
            os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1
        return words

    async def _look_after(self) -> None:
        """Exchange a resolver that lives and does not answer."""
        while self._pid:
            await asyncio.sleep(LOOK_EVERY_S)
            pidfd = self._pidfd
            try:
                await self.figures()
            except (OSError, ValueError) as error:
                if self._pidfd == pidfd != -1 and time.monotonic() - self._begun_at > LOOK_EVERY_S:
                    _LOG.warning("the resolver (pid %d) does not answer: %s; it is exchanged", self._pid, error)
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    async def figures(self) -> dict[str, Any]:
        """What it tells of itself.

        Raises:
            OSError, ValueError: it does not.
        """
        return await asyncio.to_thread(resolver_sockets.ask, self._directory, ANSWER_S)

    def _locked(self) -> bool:
        try:
            lock = os.open(LOCK, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _holder(self) -> tuple[int, int] | None:
        """Pid and a pidfd of the process that holds the lock, if it has said who it is."""
        if not self._locked():
            return None
        try:
            facts = os.stat(LOCK, dir_fd=self._directory)
            with open(os.open(LOCK, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory), "rb") as file:
                pid = int(file.read(32))
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        if _has_open(pid, (facts.st_dev, facts.st_ino)):
            return pid, pidfd
        os.close(pidfd)
        return None

    # ending

    def leave(self) -> None:
        """This server ends: have the process answer without it."""
        self.begin()
        self._expect_nothing()
        if self._watch is not None:
            self._watch.cancel()
        self._forget()
        self._give_back()

    def end(self) -> None:
        """Nobody asks any more: the process, its sockets and its files go."""
        self._expect_nothing()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._pidfd != -1:
            _kill(os.dup(self._pidfd))
        self._forget()
        self._give_back()
        remove_tree(self._path)

    def _give_back(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
        if self._directory != -1:
            os.close(self._directory)
            self._directory = -1

    def _open_directory(self) -> None:
        if self._directory == -1:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._path, 0o755)
            # Whoever reads it has given up being root; above it is a directory that only root enters.
            os.chmod(self._path, 0o755)  # noqa: S103
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _kill(pidfd: int) -> None:
    """SIGKILL, and wait until it is gone: it holds what the next one needs. Closes the descriptor."""
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        gone = select.poll()
        gone.register(pidfd, select.POLLIN)
        gone.poll(5000)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    finally:
        os.close(pidfd)


def _has_open(pid: int, wanted: tuple[int, int]) -> bool:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                facts = os.stat(f"/proc/{pid}/fd/{fd}")
                if (facts.st_dev, facts.st_ino) == wanted:
                    return True
    return False


def in_words(error: OSError, addresses: tuple[str, ...]) -> str:
    """Why the sockets could not be bound."""
    where = ", ".join(addresses)
    if error.errno == errno.EADDRINUSE:
        return f"port {PORT} of {where} is in use by another program, which `ss -lnp 'sport = :{PORT}'` names"
    return f"port {PORT} of {where}: {errno_text(error.errno or 0)}"
