"""The control socket by itself: frames, descriptors, hostile bytes, cancelled streams."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import grp
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import NotFoundError
from nsrun.server.control import FRAME_MAX, Answer, ControlSocket, Request
from tests.host.server.harness import Server, Workshop
from tests.host.testhost import Host

pytestmark = pytest.mark.timeout(30)


class Peer:
    """A client made of nothing but a socket."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(path))

    def close(self) -> None:
        self.sock.close()

    def send(self, message: object, fds: tuple[int, ...] = (), *, raw: bytes | None = None) -> None:
        data = json.dumps(message).encode() if raw is None else raw
        frame = struct.pack("!I", len(data)) + data
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([frame], ancillary)
        self.sock.sendall(frame[sent:])

    def receive(self) -> tuple[Any, list[int]]:
        fds: list[int] = []
        header = self._exactly(4, fds)
        if not header:
            return None, fds
        return json.loads(self._exactly(struct.unpack("!I", header)[0], fds)), fds

    def _exactly(self, count: int, fds: list[int]) -> bytes:
        data = b""
        while len(data) < count:
            chunk, ancillary, _flags, _address = self.sock.recvmsg(count - len(data), socket.CMSG_SPACE(64))
            for _level, _kind, payload in ancillary:
                numbers = array.array("i")
                numbers.frombytes(payload)
                fds.extend(numbers)
            if not chunk:
                return b""
            data += chunk
        return data


async def echo(request: Request) -> object:
    return request.params


async def missing(_request: Request) -> object:
    raise NotFoundError("nothing there", resolution="look elsewhere")


async def bug(_request: Request) -> object:
    raise ZeroDivisionError("oh")


async def through(request: Request) -> object:
    """Give the descriptors back, in the reverse order."""
    assert not any(os.get_inheritable(fd) for fd in request.fds)
    return Answer({"count": len(request.fds)}, [os.dup(fd) for fd in reversed(request.fds)])


@asynccontextmanager
async def serving(directory: Path, **methods: Callable[[Request], Awaitable[object]]) -> AsyncIterator[ControlSocket]:
    control = ControlSocket(directory / "nsrun.sock", "the log")
    control.methods.update({"echo": echo, "missing": missing, "bug": bug, "through": through, **methods})
    control.ready.set()
    try:
        yield control
    finally:
        control.close()


def run(directory: Path, talk: Callable[[Peer], object], **methods: Callable[[Request], Awaitable[object]]) -> None:
    """Serve, and talk from a thread."""

    async def main() -> None:
        async with serving(directory, **methods) as control:

            def with_peer() -> None:
                with contextlib.closing(Peer(control.path)) as peer:
                    talk(peer)

            await asyncio.to_thread(with_peer)

    asyncio.run(main())


def test_greeting_answer_and_errors(tmp_path: Path) -> None:
    def talk(peer: Peer) -> None:
        greeting, _ = peer.receive()
        assert greeting["protocol"] == 1
        assert greeting["pid"] == os.getpid()
        peer.send({"id": 7, "method": "echo", "params": {"text": "ü"}})
        assert peer.receive()[0] == {"id": 7, "result": {"text": "ü"}}
        peer.send({"id": 8, "method": "missing"})
        assert peer.receive()[0]["error"] == {
            "code": "not-found",
            "brief": "nothing there",
            "details": None,
            "resolution": "look elsewhere",
        }
        peer.send({"id": 9, "method": "bug"})
        assert peer.receive()[0]["error"]["code"] == "internal"
        peer.send({"id": 10, "method": "pod.dance"})
        assert peer.receive()[0]["error"]["code"] == "unsupported"

    run(tmp_path, talk)


def test_the_socket_is_private_and_a_dead_servers_one_is_replaced(tmp_path: Path) -> None:
    def talk(peer: Peer) -> None:
        assert peer.receive()[0]["nsrun"]

    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(str(tmp_path / "nsrun.sock"))
    stale.close()

    async def mode() -> int:
        async with serving(tmp_path) as control:
            return control.path.stat().st_mode & 0o777

    assert asyncio.run(mode()) == 0o600
    run(tmp_path, talk)
    assert not (tmp_path / "nsrun.sock").exists()


def test_a_path_longer_than_sun_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async def main() -> bool:
        async with serving(deep) as control:
            return control.path.is_socket()

    assert asyncio.run(main())


def test_descriptors_come_with_their_own_frame(tmp_path: Path) -> None:
    """Many requests in one write, some with descriptors: none is given to a neighbour."""

    def talk(peer: Peer) -> None:
        peer.receive()
        expected = {}
        for number in range(40):
            files = [os.memfd_create(f"{number}-{index}") for index in range(number % 4)]
            for index, fd in enumerate(files):
                os.write(fd, f"{number}/{index}".encode())
            expected[number] = [f"{number}/{index}" for index in reversed(range(len(files)))]
            peer.send({"id": number, "method": "through", "params": {"pad": "x" * (number * 977)}}, tuple(files))
            for fd in files:
                os.close(fd)
        for _ in range(40):
            answer, fds = peer.receive()
            assert answer["result"] == {"count": len(fds)}
            assert [os.pread(fd, 64, 0).decode() for fd in fds] == expected.pop(answer["id"])
            for fd in fds:
                os.close(fd)
        assert not expected

    # What tests before this one left to the collector is not to go while we count.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    run(tmp_path, talk)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("!I", FRAME_MAX + 1),
        struct.pack("!I", 5) + b"hello",
        struct.pack("!I", 2) + b"[]",
        struct.pack("!I", 0),
        struct.pack("!I", 2) + b"{}",
        struct.pack("!I", 4) + b"\xff\xfe\x00\x01",
    ],
)
def test_what_is_no_request_ends_the_connection_with_a_reason(tmp_path: Path, frame: bytes) -> None:
    def talk(peer: Peer) -> None:
        peer.receive()
        peer.sock.sendall(frame)
        answer, _ = peer.receive()
        assert answer["id"] == 0
        assert answer["error"]["code"] == "usage"
        assert peer.receive()[0] is None

    run(tmp_path, talk)


def test_a_connection_that_ends_in_the_middle_harms_nobody(tmp_path: Path) -> None:
    def talk(peer: Peer) -> None:
        peer.receive()
        other = Peer(tmp_path / "nsrun.sock")
        other.receive()
        other.sock.sendall(struct.pack("!I", 100) + b"{")
        other.sock.close()
        peer.send({"id": 1, "method": "echo", "params": {}})
        assert peer.receive()[0] == {"id": 1, "result": {}}

    run(tmp_path, talk)


def test_the_end_of_a_connection_cancels_streams_and_nothing_else(tmp_path: Path) -> None:
    ends: list[str] = []

    async def stream(request: Request) -> object:
        request.cancellable = True
        request.event({"n": 1})
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            ends.append("stream cancelled")
            raise
        return {}

    async def work(_request: Request) -> object:
        await asyncio.sleep(0.2)
        ends.append("work done")
        return {}

    async def main() -> None:
        async with serving(tmp_path, stream=stream, work=work) as control:

            def talk() -> None:
                peer = Peer(control.path)
                peer.receive()
                peer.send({"id": 1, "method": "stream"})
                peer.send({"id": 2, "method": "work"})
                assert peer.receive()[0] == {"id": 1, "event": {"n": 1}}
                peer.sock.close()

            await asyncio.to_thread(talk)
            for _ in range(100):
                await asyncio.sleep(0.01)
                if len(ends) == 2:
                    break

    asyncio.run(main())
    assert sorted(ends) == ["stream cancelled", "work done"]


def test_large_answers_arrive_whole(tmp_path: Path) -> None:
    def talk(peer: Peer) -> None:
        peer.receive()
        text = "0123456789" * 1_000_000
        peer.send({"id": 1, "method": "echo", "params": {"text": text}})
        peer.send({"id": 2, "method": "echo", "params": {}})
        assert peer.receive()[0]["result"]["text"] == text
        assert peer.receive()[0] == {"id": 2, "result": {}}

    run(tmp_path, talk)


def test_another_user_is_turned_away(tmp_path: Path) -> None:
    """Whatever the file's mode says: the kernel tells who connects."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")

    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)

    async def main() -> bytes:
        async with serving(tmp_path) as control:
            control.path.chmod(0o777)
            code = (
                "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
                "s.connect(sys.argv[1]); sys.stdout.buffer.write(s.recv(4096)[4:])"
            )
            process = await asyncio.create_subprocess_exec(
                "/usr/bin/env", "python3", "-c", code, str(control.path), stdout=asyncio.subprocess.PIPE
            )
            return (await process.communicate())[0]

    answer = json.loads(asyncio.run(main()))
    assert answer["error"]["code"] == "permission"
    assert "65534" in answer["error"]["brief"]


def test_a_group_is_let_in_where_the_configuration_says_so(workshop: Workshop, leak_check: None, host: Host) -> None:
    group = grp.getgrnam("games")
    workshop.furnish(host.root)
    (host.root / "etc").mkdir(exist_ok=True)
    config = host.root / "etc" / "config.toml"
    config.write_text('[control]\ngroup = "games"\n')
    server = Server(host, workshop.wiper)
    above = os.open(host.root.parent, os.O_RDONLY | os.O_DIRECTORY)

    def answer(*groups: int) -> str:
        before, there = os.getgroups(), Path.cwd()
        # Whether one may go through the directories above is no matter.
        os.fchdir(above)
        os.setgroups(groups)
        os.setegid(65534)
        os.seteuid(65534)
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect("root/run/nsrun.sock")
                return sock.recv(65536)[4:].decode()
        except PermissionError as error:
            return str(error.strerror)
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(before)
            os.chdir(there)

    try:
        server.start()
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o660
        assert '"protocol":1' in answer(4, group.gr_gid)
        assert "Permission denied" in answer(4)
        # What else is there is root's.
        assert stat.S_IMODE((host.root / "run").stat().st_mode) == 0o710
        assert stat.S_IMODE((host.root / "lib").stat().st_mode) == 0o700
        server.stop()
        config.write_text("")
        server.start()
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
        assert "Permission denied" in answer(group.gr_gid)
        server.stop()
        config.write_text('[control]\ngroup = "no-such-group"\n')
        with pytest.raises(AssertionError, match="there is no such group"):
            server.start()
        config.unlink()
    finally:
        os.close(above)
        server.wipe()
