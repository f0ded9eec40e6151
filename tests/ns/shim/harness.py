"""A real shim on a directory of its own, and words to use it with.

Containers here have a PID and a mount namespace of their own and this machine's root: what is tested is the shim, not the ops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from nsrun import native, shim
from nsrun.native import RawOp, exec_status

LIB = native.lib
DEADLINE = 30.0
LINE = re.compile(rb"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)$")


def op(code: str, *args: int, strings: Sequence[str | bytes] = ()) -> RawOp:
    """One op by its name in wire.h."""
    return RawOp(code, args, tuple(s.encode() if isinstance(s, str) else s for s in strings))


def program(argv: Sequence[str], *, terminal: bool = False, before: Sequence[RawOp] = ()) -> bytes:
    """Runs argv with nothing set up but its standard streams."""
    streams = op("TERMINAL", 24, 80) if terminal else op("STDIO", 0, 1, 2)
    ops = [
        *before,
        op("SETSID"),
        streams,
        op("CLOSE_REST"),
        op("PDEATHSIG", signal.SIGKILL),
        op("SIGNALS_DEFAULT"),
        op("ENV", strings=["PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"]),
        op("EXEC", strings=[argv[0], *argv]),
    ]
    return native.encode(ops)


def shell(script: str) -> list[str]:
    """argv that runs a script."""
    return ["sh", "-c", script]


def new_id(number: int) -> str:
    """A container id."""
    return f"{number:064x}"


class LogFile:
    """A log in CRI format, read back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        assert data == b"" or data.endswith(b"\n"), data[-80:]
        found = LINE.findall(data)
        assert len(found) == data.count(b"\n"), "a line that is none"
        self.entries = [(stream.decode(), tag.decode(), content) for stream, tag, content in found]

    def content(self, stream: str = "stdout") -> bytes:
        """The bytes that the stream's writer wrote."""
        parts: list[bytes] = []
        for name, tag, content in self.entries:
            if name == stream:
                parts.append(content)
                if tag == "F":
                    parts.append(b"\n")
        return b"".join(parts)


class Pod:
    """A shim, a subscribed client, and the logs of the containers started through it."""

    def __init__(self, directory: Path, client: shim.ShimClient, pid: int) -> None:
        self.directory = directory
        self.client = client
        self.pid = pid
        self.log_paths: dict[str, Path] = {}
        self._seen: list[shim.Event] = []
        self._news = asyncio.Event()
        client.on_event = self._on_event

    def _on_event(self, event: shim.Event) -> None:
        self._seen.append(event)
        self._news.set()

    async def start(
        self,
        number: int,
        argv: Sequence[str],
        *,
        flags: shim.StartFlag = shim.StartFlag.NONE,
        log_fd: int | None = None,
        cgroup_fd: int | None = None,
        before: Sequence[RawOp] = (),
        client: shim.ShimClient | None = None,
        clone_flags: int | None = None,
        name: str | None = None,
        attempt: int | None = None,
        target: str = "",
        slots: Sequence[int] = (),
    ) -> shim.Record:
        """Starts argv as container `number`; without a name of its own it is a container of its own."""
        container = new_id(number)
        path = self.directory / f"{number}.log"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if log_fd is None else log_fd
        self.log_paths[container] = path
        terminal = bool(flags & shim.StartFlag.TERMINAL)
        try:
            return await (client or self.client).start(
                shim.StartRequest(
                    id=container,
                    name=name or f"app-{number}",
                    attempt=number if attempt is None else attempt,
                    program=program(argv, terminal=terminal, before=before),
                    log_fd=fd,
                    clone_flags=LIB.CLONE_NEWPID | LIB.CLONE_NEWNS if clone_flags is None else clone_flags,
                    cgroup_fd=cgroup_fd,
                    flags=flags,
                    target=target,
                    slots=slots,
                )
            )
        finally:
            if log_fd is None:
                os.close(fd)

    async def until(self, wanted: Callable[[shim.Event], bool], timeout_s: float = DEADLINE) -> shim.Event:
        """The first event, also of those that came already, for which `wanted` is true."""
        async with asyncio.timeout(timeout_s):
            while True:
                for event in self._seen:
                    if wanted(event):
                        return event
                self._news.clear()
                await self._news.wait()

    async def exited(self, number: int, timeout_s: float = DEADLINE) -> shim.Record:
        """The record of a container's exit, when that is told."""
        container = new_id(number)
        event = await self.until(lambda e: isinstance(e, shim.Exited) and e.record.id == container, timeout_s)
        assert isinstance(event, shim.Exited)
        return event.record

    def events(self) -> list[shim.Event]:
        """Every event so far."""
        return list(self._seen)

    def forget_events(self) -> None:
        """As if none had come yet."""
        self._seen.clear()

    def log(self, number: int) -> LogFile:
        """A container's log as it is now."""
        return LogFile(self.log_paths[new_id(number)].read_bytes())

    def record_on_disk(self, number: int) -> shim.Record:
        """What the shim wrote down about a container."""
        (record,) = [r for r in shim.read_records(self.directory) if r.id == new_id(number)]
        return record

    def about(self, name: str) -> bytes:
        """A file of the shim's directory in /proc."""
        return Path(f"/proc/{self.pid}/{name}").read_bytes()

    def memory_kb(self, *kinds: bytes) -> int:
        """The shim's private memory in KiB: dirty pages, and clean ones that nobody else maps at this moment."""
        total = 0
        for line in self.about("smaps_rollup").splitlines():
            if line.startswith(kinds or (b"Private_Clean:", b"Private_Dirty:")):
                total += int(line.split()[1])
        return total

    def descriptors(self) -> int:
        """How many descriptors the shim has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.asynccontextmanager
async def pod(directory: Path) -> AsyncIterator[Pod]:
    """A pod whose shim is gone afterwards, and with it everything it started."""
    shim.spawn(directory, "test/pod")
    client = await shim.ShimClient.connect(directory)
    pid = (await client.hello()).pid
    try:
        await client.subscribe()
        yield Pod(directory, client, pid)
    finally:
        client.close()
        kill_shim(directory, pid)


def kill_shim(directory: Path, pid: int) -> None:
    """SIGKILL to a shim, if it still is that shim, and waits until its lock is free."""
    if shim.shim_alive(directory):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not shim.shim_alive(directory))


def wait_until(condition: Callable[[], bool], timeout_s: float = DEADLINE) -> None:
    """Polls a condition that nobody tells about."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


async def eventually(condition: Callable[[], bool], timeout_s: float = DEADLINE) -> None:
    """`wait_until` that lets the loop run."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.002)


def run(directory: Path, body: Callable[[Pod], Awaitable[None]], timeout_s: float = DEADLINE) -> None:
    """Runs a test's body with a pod of its own."""

    async def inside() -> None:
        async with asyncio.timeout(timeout_s), pod(directory) as one:
            await body(one)

    asyncio.run(inside())


class Exec:
    """An exec's ends on the client's side."""

    def __init__(self, status: socket.socket, output_fd: int | None) -> None:
        self.status = status
        self.output_fd = output_fd

    async def next(self) -> exec_status.ExecStatus | None:
        """The next packet."""
        self.status.settimeout(DEADLINE)
        return await asyncio.to_thread(exec_status.read_status, self.status)

    async def output(self) -> bytes:
        """All that it writes, until its end."""
        assert self.output_fd is not None
        return await asyncio.to_thread(read_all, self.output_fd)

    def close(self) -> None:
        """Gives the ends back."""
        self.status.close()
        if self.output_fd is not None:
            os.close(self.output_fd)


@contextlib.asynccontextmanager
async def execute(
    one: Pod, number: int, argv: Sequence[str], *, terminal: bool = False, stdin: int | None = None
) -> AsyncIterator[Exec]:
    """Runs argv in container `number`."""
    ours, theirs = exec_status.status_pair()
    reader, writer = (None, None) if terminal else os.pipe()
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    result = Exec(ours, reader)
    try:
        try:
            await one.client.exec(
                shim.ExecRequest(
                    target=new_id(number),
                    program=program(argv, terminal=terminal),
                    status_fd=theirs.fileno(),
                    stdio=None if writer is None else (null if stdin is None else stdin, writer, writer),
                    terminal=terminal,
                    join_flags=LIB.CLONE_NEWNS,
                )
            )
        finally:
            theirs.close()
            os.close(null)
            if writer is not None:
                os.close(writer)
        yield result
    finally:
        result.close()


def read_all(fd: int) -> bytes:
    """Until end of file; the end of a pty's master (EIO) is one."""
    parts: list[bytes] = []
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b""
        if not data:
            return b"".join(parts)
        parts.append(data)


@contextlib.contextmanager
def tmpfs(size: int) -> Iterator[int]:
    """A directory descriptor of a file system of `size` bytes that is mounted nowhere."""
    context = native.fsopen("tmpfs")
    try:
        native.fsconfig_string(context, "size", str(size))
        native.fsconfig_create(context)
        mount = native.fsmount(context)
    finally:
        os.close(context)
    try:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
    try:
        yield directory
    finally:
        os.close(directory)


def contents(directory_fd: int, name: str) -> bytes:
    """A file below a directory that has no path."""
    return Path(f"/proc/self/fd/{directory_fd}/{name}").read_bytes()


@contextlib.contextmanager
def pod_directory() -> Iterator[Path]:
    """A new directory, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="nsrun-shim-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def cgroup() -> Iterator[Path]:
    """A new cgroup of the version 2 tree (ask for "cgroup2" first); emptied and removed afterwards."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            path = Path(tempfile.mkdtemp(prefix="nsrun-shim-", dir=left.split()[4]))
            break
    else:
        raise AssertionError("no cgroup2 file system is mounted")
    try:
        yield path
    finally:
        (path / "cgroup.kill").write_text("1", encoding="ascii")
        wait_until(lambda: (path / "cgroup.procs").read_text(encoding="ascii") == "")
        wait_until(lambda: _removed(path))


def _removed(path: Path) -> bool:
    """A cgroup can be removed when the last process in it is not only dead but reaped."""
    try:
        path.rmdir()
    except OSError:
        return False
    return True
