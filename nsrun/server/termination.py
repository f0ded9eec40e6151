"""The last words of a container (S-TERMMSG): its termination message, or the end of its log."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nsrun.spec.model import Container

FILE_MAX = 4096
"""Bytes that are read from the end of the termination message file."""
POD_MAX = 12 * 1024
"""Bytes that all containers of a pod share."""
LOG_LINES = 80
LOG_MAX = 2048
NAME = "termination-log"
FALLBACK = "FallbackToLogsOnError"


def make(directory: Path) -> Path:
    """The file that a container sees as its terminationMessagePath: anybody in it may write there."""
    path = directory / NAME
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666))
    os.chmod(path, 0o666)  # noqa: S103 - S-TERMMSG: whatever user the container runs as
    return path


def read(directory: Path, container: Container, exit_code: int, log: Path, containers: int) -> str | None:
    """What a dead instance left as its message, or None.

    Args:
        directory: of the instance.
        container: its spec.
        exit_code: how it ended.
        log: its log file.
        containers: number of containers of the pod, init containers included.
    """
    limit = POD_MAX // max(containers, 1)
    message = _tail(directory / NAME, FILE_MAX)
    if not message and exit_code != 0 and container.terminationMessagePolicy == FALLBACK:
        lines = [_content(line) for line in _tail(log, LOG_MAX * 8).splitlines()[-LOG_LINES:]]
        message = b"\n".join(lines)[-LOG_MAX:]
    if not message:
        return None
    return message[:limit].decode("utf-8", "replace")


def _content(line: bytes) -> bytes:
    """The text of a line in CRI format: time, stream, tag, text."""
    parts = line.split(b" ", 3)
    return parts[3] if len(parts) == 4 else line


def _tail(path: Path, count: int) -> bytes:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            size = os.fstat(fd).st_size
            return os.pread(fd, count, max(size - count, 0))
        finally:
            os.close(fd)
    return b""
