"""The last words of a container (S-TERMMSG): its termination message, or the end of its log.

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_container.go getTerminationMessage, readLastStringFromContainerLogs;
pkg/kubelet/container/runtime.go. How much of it a pod may show in all is a matter of its status.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from nsrun.errors import errno_text
from nsrun.spec.model import Container

FILE_MAX = 4096
"""Bytes that are read from the end of the termination message file."""
LOG_LINES = 80
"""Lines of the log file; one that was split counts as often as it was."""
LOG_MAX = 2048
"""Bytes of the end of what was written."""
NAME = "termination-log"
FALLBACK = "FallbackToLogsOnError"
CANNOT_RUN = "ContainerCannotRun"

_CHUNK = 8192
_LINE_MAX = 16384 + 128
"""No line that nsrun writes is longer; in a file that is none of its logs, the end of a line is as good as the line."""


def make(directory: Path) -> Path:
    """The file that a container sees as its terminationMessagePath: anybody in it may write there."""
    path = directory / NAME
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666))
    os.chmod(path, 0o666)  # noqa: S103 - S-TERMMSG: whatever user the container runs as
    return path


def read(directory: Path, container: Container, exit_code: int, log: Path, reason: str | None = None) -> str | None:
    """What a dead instance left as its message, or None.

    Args:
        directory: of the instance.
        container: its spec.
        exit_code: how it ended.
        log: its newest log file; rotated ones lie beside it.
        reason: why it ended, where that is known to be another than its exit code.
    """
    try:
        message = _end_of(directory / NAME)
    except FileNotFoundError:
        message = b""
    except OSError as error:
        return f"Error on reading termination log {directory / NAME}: {errno_text(error.errno or 0)}"
    fallback = container.terminationMessagePolicy == FALLBACK and exit_code != 0 and reason != CANNOT_RUN
    if not message and fallback:
        try:
            message = _last_lines(log)
        except OSError as error:
            return f"Error on reading termination message from logs: {error.filename or log}: {errno_text(error.errno or 0)}"
    return message.decode("utf-8", "replace") or None


def _open(path: Path) -> int:
    """A descriptor of a regular file; nothing else is read, whoever put it there.

    Raises:
        OSError: it is none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
    return fd


def _end_of(path: Path) -> bytes:
    fd = _open(path)
    try:
        return os.pread(fd, FILE_MAX, max(os.fstat(fd).st_size - FILE_MAX, 0))
    finally:
        os.close(fd)


def _last_lines(log: Path) -> bytes:
    """The end of what the last lines of a log say, as it was written: both streams together, with its newlines."""
    found: list[bytes] = []
    for path in (log, *_rotated(log)):
        found[:0] = _lines_of(path, LOG_LINES - len(found), LOG_MAX - sum(map(len, found)))
        if len(found) >= LOG_LINES or sum(map(len, found)) >= LOG_MAX:
            break
    return b"".join(found)[-LOG_MAX:]


def _rotated(log: Path) -> list[Path]:
    """What was this log before it was rotated, newest first; the older ones, which are compressed, would say too much."""
    with contextlib.suppress(FileNotFoundError):
        names = [name for name in os.listdir(log.parent) if name.startswith(f"{log.name}.") and name[-1:].isdigit()]
        return [log.parent / name for name in sorted(names, reverse=True)]
    return []


def _lines_of(path: Path, lines: int, size: int) -> list[bytes]:
    """What the last lines of a log file say, as many as are asked for, fewer when they come to `size` bytes already."""
    fd = _open(path)
    try:
        start = os.fstat(fd).st_size
        data = b""
        while True:
            # The first of the pieces is the end of a line, unless the file begins there.
            pieces = data.split(b"\n")
            said = [_content(line) for line in (pieces if start == 0 else pieces[1:]) if line][-lines:]
            enough = len(said) >= lines or sum(map(len, said)) >= size
            if start == 0 or enough or len(data) > lines * _LINE_MAX:
                return said
            step = min(_CHUNK, start)
            start -= step
            data = os.pread(fd, step, start) + data
    finally:
        os.close(fd)


def _content(line: bytes) -> bytes:
    """What a line in CRI format says, with the newline that it ends in; b"" for what is no such line."""
    parts = line.split(b" ", 3)
    if len(parts) < 4 or parts[1] not in (b"stdout", b"stderr"):
        return b""
    return parts[3] if parts[2].split(b":")[0] == b"P" else parts[3] + b"\n"
