"""What the pure ring must not do is refused: to start a server, and to write anywhere but in its own temporary directories.

An audit hook (PEP 578) sees each attempt, also that of code which would hide the failure. Nothing that a test starts finds a root
directory that could be made: what is below /dev/null cannot be.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

IMPOSSIBLE_ROOT = f"{os.devnull}/nsrun"
RING = Path(__file__).resolve().parent

_CHANGES: dict[str, dict[int, int | None]] = {
    "os.mkdir": {0: 2},
    "os.rmdir": {0: 1},
    "os.remove": {0: 1},
    "os.rename": {0: 2, 1: 3},
    "os.link": {0: 2, 1: 3},
    "os.symlink": {1: 2},
    "os.chmod": {0: 2},
    "os.chown": {0: 3},
    "os.truncate": {0: None},
    "os.setxattr": {0: None},
}
"""The events of what changes a file system: which arguments are paths, and which is the descriptor of the directory each starts from."""
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_STARTERS = ("nsrun.server", "setsid", "systemd-run", "systemctl", "nsrun-shim")
_OF_THE_TOOLS = ("__pycache__", ".hypothesis", ".pytest_cache")


class ForbiddenError(BaseException):
    """Not an Exception: nobody is to handle it and go on."""


class Guard:
    """The audit hook. It cannot be taken out again, so it is asleep outside of this ring's tests.

    Attributes:
        refused: what was refused since the test began.
    """

    def __init__(self) -> None:
        self.awake = False
        self.refused: list[str] = []
        self.own: tuple[str, ...] = (f"{os.devnull}/", "/proc/self/fd/")

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        """Called by the interpreter."""
        if not self.awake:
            return
        if event == "open":
            path, mode, flags = args
            # With a directory's descriptor a relative path may be anywhere, and os.open does not tell: only open() is judged then.
            if isinstance(flags, int) and _makes_or_writes(flags) and (mode is not None or _is_absolute(path)):
                self._judge(event, path)
        elif event in _CHANGES:
            for at, directory in _CHANGES[event].items():
                if _is_absolute(args[at]) or directory is None or args[directory] == -1:
                    self._judge(event, args[at])
        elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
            words = [os.fsdecode(one) for one in _words(args[1])]
            if any(word.rpartition("/")[2] in _STARTERS for word in words):
                self._refuse(f"{event} {' '.join(words)}")

    def _judge(self, event: str, path: object) -> None:
        if isinstance(path, int) or path is None:
            return
        full = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type] # an audit event's path is one
        if not f"{full}/".startswith(self.own) and not any(f"/{part}/" in f"{full}/" for part in _OF_THE_TOOLS):
            self._refuse(f"{event} {full}")

    def _refuse(self, what: str) -> None:
        self.refused.append(what)
        raise ForbiddenError(f"a test of the pure ring tried: {what}")


def _makes_or_writes(flags: int) -> bool:
    nameless = flags & os.O_TMPFILE == os.O_TMPFILE
    return bool(flags & _WRITE) and not nameless


def _is_absolute(path: object) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.path.isabs(os.fsdecode(path))


def _words(args: object) -> list[str | bytes]:
    return [args] if isinstance(args, str | bytes) else list(args)  # type: ignore[call-overload] # Popen took it


GUARD = Guard()
sys.addaudithook(GUARD)


@pytest.fixture(scope="session", autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where tests may write is below pytest's directory for this run."""
    GUARD.own = (*GUARD.own, f"{tmp_path_factory.getbasetemp()}/")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The guard is awake while a test of this ring is called, and one that was refused something fails."""
    GUARD.refused.clear()
    GUARD.awake = item.path.is_relative_to(RING)
    try:
        yield
    finally:
        GUARD.awake = False
    assert not GUARD.refused, f"this test tried: {', '.join(GUARD.refused)}"


@pytest.fixture(autouse=True)
def nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No command here, or in a process that is started, has a root directory that could be made; its temporary files go with the run."""
    monkeypatch.setenv("NSRUN_ROOT", IMPOSSIBLE_ROOT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))


@pytest.fixture
def refused() -> Iterator[list[str]]:
    """What the test was refused; for a test that wants to be."""
    yield GUARD.refused
    GUARD.refused.clear()
