"""Bringing a server up when there is none, as a process of its own that outlives the command that started it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import sys
import time
from collections.abc import Sequence

from nsrun.client.roots import Root
from nsrun.client.wire import Connection, ConnectionLost, ServerAway, connect
from nsrun.errors import NsrunError, PermissionDeniedError, ServerError, StepError, errno_text

START_TIMEOUT_S = 20.0
START_ATTEMPTS = 4
LEAVING_S = 2.0
"""How long a server that does not start may take to be gone after it has said so."""
LOG_LINES = 12
SYSTEMD = "/run/systemd/system"
"""There when systemd is the init of this machine: sd_booted(3)."""
UNIT = "nsrun.service"
ENABLED = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"


class ServerKilledError(ServerError):
    """The server ended without a word before it listened: somebody killed it. Worth another attempt."""


def connect_or_start(root: Root) -> Connection:
    """A connection to the root's server, which is started when there is none.

    Clients that find no server at the same time queue on `run/start.lock`; all but the first then find one.

    Raises:
        PermissionDeniedError: not root, so no server can be started.
        ServerError: the server did not start; its last words are in `details`.
        StepError: the state directory cannot be made or written.
    """
    try:
        return connect(root)
    except (ServerAway, ConnectionLost):
        pass
    if os.geteuid() != 0:
        raise needs_root(root)
    make_run_directory(root)
    lock = open_start_lock(root)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return connect(root)
        except (ServerAway, ConnectionLost):
            pass
        for attempts_left in reversed(range(START_ATTEMPTS)):
            try:
                start(root)
                return connect_patiently(root)
            except ServerKilledError:
                if not attempts_left:
                    raise
        raise AssertionError("the loop returns or raises")
    finally:
        os.close(lock)


def needs_root(root: Root) -> PermissionDeniedError:
    """The error for a caller without the right to start a server."""
    return PermissionDeniedError(
        "no server runs and starting one needs root: namespaces, mounts and network devices are made for pods",
        resolution=f"sudo nsrun {root.option}...",
    )


def make_run_directory(root: Root) -> None:
    """Make `run/`, private to its owner.

    Raises:
        StepError: naming the directory and why it cannot be made.
    """
    try:
        os.makedirs(root.run, mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise StepError("mkdir", root.run, errno.ENOTDIR, what="the state directory is not usable") from error
    except OSError as error:
        raise StepError("mkdir", root.run, error.errno or 0, what="the state directory is not usable") from error


def open_start_lock(root: Root) -> int:
    """The descriptor of `run/start.lock`."""
    path = f"{root.run}/start.lock"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StepError("open", path, error.errno or 0, what="the state directory is not usable") from error


def connect_patiently(root: Root, patience_s: float = START_TIMEOUT_S) -> Connection:
    """Connect to a server of which somebody says that it is there.

    Only a server that lost the race for `run/lock` against one that is not listening yet makes this wait; nobody
    announces that one's readiness to us.

    Raises:
        ServerKilledError: it is gone again.
        ServerError: it is there and does not listen.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return connect(root)
        except (ServerAway, ConnectionLost) as error:
            if not lock_is_held(root):
                raise ServerKilledError(
                    "the server ended as soon as it listened",
                    resolution=f"Its log: {root.server_log}. In the foreground: nsrun {root.option}server start --foreground",
                ) from error
            if time.monotonic() > deadline:
                raise ServerError(
                    f"a server holds {root.run}/lock but does not listen on {root.socket_path}",
                    details=last_words(root, 0),
                    resolution=f"nsrun {root.option}server stop, then try again.",
                ) from error
        time.sleep(0.01)


def server_command(root: Root, extra: Sequence[str] = ()) -> list[str]:
    """The argument vector of the root's server."""
    command = [sys.executable, "-m", "nsrun.server"]
    if root.given is not None:
        command += ["--root", root.given]
    return [*command, *extra]


def launcher(*, system: str = SYSTEMD) -> list[str]:
    """What goes before the server's command so that it does not end with this login, terminal or service.

    Under systemd a scope of its own: ending a session or stopping the service this runs in kills what is in their cgroups. Its name is
    new each time, as the shims of an earlier server may still live in that one's scope.
    Elsewhere `setsid --fork`: a session of its own, and init is the parent that reaps it, not a long-lived caller of the library.
    """
    if os.path.isdir(system):
        scope = ["systemd-run", "--scope", "--quiet", "--collect", "--slice=system.slice"]
        scope += [f"--unit=nsrun-server-{os.urandom(4).hex()}"]
        scope += ["--description=nsrun server", "--property=Delegate=yes", "--property=KillMode=process"]
        return ["setsid", "--fork", *scope, "--"]
    return ["setsid", "--fork"]


def start_unit(root: Root, *, system: str = SYSTEMD, enabled: str = ENABLED) -> bool:
    """Have systemd start the machine's server as the unit it is, where that is enabled; False when it is not, or did not start.

    The unit is `Type=notify`: its server listens when systemctl ends.
    """
    if root.given is not None or not os.path.isdir(system) or not os.path.lexists(enabled):
        return False
    import subprocess

    command = ["systemctl", "--quiet", "start", UNIT]
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdin=quiet, stdout=quiet, stderr=quiet, cwd="/", timeout=START_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def start(root: Root) -> None:
    """Start the server and wait until it listens.

    Raises:
        ServerError: it ended before that; `details` has the last lines of its log.
    """
    import subprocess

    if start_unit(root):
        return
    log = open_server_log(root)
    before = os.fstat(log).st_size
    ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
    try:
        command = [*launcher(), *server_command(root, ["--ready", str(ready_w)])]
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=server_environment(),
                start_new_session=True,
                pass_fds=[ready_w],
            )
        except OSError as error:
            raise StepError("exec", command[0], error.errno or 0, what="the server did not start") from error
        finally:
            os.close(ready_w)
            os.close(log)
        child.wait()
        wait_ready(root, ready_r, before)
    finally:
        os.close(ready_r)


def open_server_log(root: Root) -> int:
    """A descriptor of `run/server.log`, for appending."""
    try:
        return os.open(root.server_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StepError("open", root.server_log, error.errno or 0, what="the server did not start") from error


def server_environment() -> dict[str, str]:
    """The caller's environment without what belongs to the caller's login, terminal or service."""
    mine = ("NSRUN_ROOT", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "TMUX", "STY")
    return {name: value for name, value in os.environ.items() if name not in mine and not name.startswith("_NSRUN")}


def wait_ready(root: Root, ready: int, log_offset: int, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait for the byte that says the server listens.

    A server that finds the lock taken ends without it: then another one is on its way and there is nothing to report.
    """
    poller = select.poll()
    poller.register(ready, select.POLLIN)
    if not poller.poll(timeout_s * 1000):
        raise ServerError(
            f"the server did not listen on {root.socket_path} within {timeout_s:.0f} s",
            details=last_words(root, log_offset),
            resolution=f"Its log: {root.server_log}. In the foreground: nsrun {root.option}server start --foreground",
        )
    if os.read(ready, 1):
        return
    # Whoever holds the lock now is another one on its way in, or this one on its way out: its pipe closes before its lock does.
    deadline = time.monotonic() + LEAVING_S
    while lock_is_held(root):
        try:
            connect(root).close()
        except (ServerAway, ConnectionLost):
            pass
        else:
            return
        if time.monotonic() > deadline:
            return
        time.sleep(0.005)
    raise did_not_start(root, log_offset)


def lock_is_held(root: Root) -> bool:
    """Whether a server of this root is alive: it holds a flock on `run/lock` for its life.

    Asking takes the lock for a moment, which a server that starts then would take for another server: ask only with
    `run/start.lock` held, under which clients start servers.
    """
    try:
        fd = os.open(f"{root.run}/lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def did_not_start(root: Root, log_offset: int) -> NsrunError:
    """The error for a server that ended instead of listening, in its own words."""
    words = last_words(root, log_offset)
    resolution = f"Its log: {root.server_log}. What this machine lacks: nsrun {root.option}doctor"
    if not words:
        return ServerKilledError(
            "the server ended before it listened", details="It said nothing.", resolution=resolution
        )
    return ServerError("the server did not start", details=words, resolution=resolution)


def last_words(root: Root, offset: int) -> str:
    """The last lines that the server wrote after `offset` (bytes) of its log."""
    try:
        with open(root.server_log, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(min(offset, end), end - 8192))
            lines = log.read(8192).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_LINES:])


def stop_and_wait(connection: Connection, timeout_s: float = 10.0) -> None:
    """Ask the server at the other end to end, and wait until it has.

    Works with a server of any version: `server.stop` is the one method that never changes.

    Raises:
        ServerError: it answered with an error or is still there after `timeout_s` seconds.
    """
    try:
        process = os.pidfd_open(connection.server_pid)
    except OSError as error:
        # ESRCH: it is gone. EINVAL: a greeting without a number.
        raise ServerError(
            f"the server (pid {connection.server_pid}) cannot be found: {errno_text(error.errno or 0)}"
        ) from error
    try:
        with contextlib.suppress(ConnectionLost):
            connection.send("server.stop", {})
            while True:
                answer, fds = connection.receive()
                for fd in fds:
                    os.close(fd)
                if "error" in answer:
                    raise NsrunError.from_data(answer["error"])
        # The process, not its socket or lock: who looks now must find nothing of it.
        ended = select.poll()
        ended.register(process, select.POLLIN)
        if not ended.poll(timeout_s * 1000):
            raise ServerError(
                f"the server (pid {connection.server_pid}) still runs {timeout_s:.0f} s after it was asked to stop",
                resolution=f"kill -KILL {connection.server_pid}; pods run on, the next command starts a new server.",
            )
    finally:
        os.close(process)
