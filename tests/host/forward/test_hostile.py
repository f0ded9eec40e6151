"""Forwarding that is asked too much of: too many connections, connections that stand still, and a pod that vanishes under them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsrun
from tests.host.forward.conftest import listening, wish
from tests.host.testhost import Host

pytestmark = [pytest.mark.host]


class Command:
    """`nsrun pod port-forward` with a limit of open files."""

    def __init__(self, box: Host, soft: int, hard: int, *words: str) -> None:
        argv = [
            "prlimit",
            f"--nofile={soft}:{hard}",
            *box.nsrun_argv("pod", "port-forward", "--address", "127.0.0.1", *words),
        ]
        # Its lines on standard output are a file's: nobody reads them.
        self.said = box.scratch / f"forward-{time.monotonic_ns()}"
        with open(self.said, "wb") as out:
            self.process = subprocess.Popen(argv, env=box.environment, stdout=out, stderr=subprocess.PIPE)
        self.ports: dict[int, int] = {}
        self._wanted = sum(word.startswith(":") for word in words)

    def listening(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + 60
        while len(self.ports) < self._wanted:
            assert time.monotonic() < deadline
            found = re.findall(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)\n", self.said.read_text())
            self.ports = {int(inside): int(local) for local, inside in found}
            time.sleep(0.02)

    def connect(self, inside: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[inside]), 20)

    def resident(self) -> int:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def error_line(self, timeout: float = 10) -> bytes:
        assert self.process.stderr is not None
        assert select.select([self.process.stderr], [], [], timeout)[0], "nothing was said"
        return self.process.stderr.readline()


@contextlib.contextmanager
def command(box: Host, soft: int, hard: int, *words: str) -> Iterator[Command]:
    started = Command(box, soft, hard, *words)
    try:
        started.listening()
        yield started
    finally:
        started.process.send_signal(signal.SIGINT)
        started.process.wait(60)
        assert started.process.stderr is not None
        started.process.stderr.close()


def echo(sock: socket.socket, text: bytes) -> None:
    sock.sendall(text)
    assert sock.recv(100) == text


def test_a_thousand_that_stand_still(box: Host, peer: nsrun.Pod) -> None:
    """Half-open ones, ones whose bytes nobody reads, ones that say nothing: what is alive goes on, and memory stays where it is."""
    with command(box, 256, 16384, "peer", ":7001", ":7003", ":7004") as forward, contextlib.ExitStack() as stack:
        before = forward.resident()
        for number in range(1000):
            match number % 4:
                case 0:
                    # Says its last at once, and never reads: the pod ends it, and it is there still.
                    stack.enter_context(forward.connect(7001)).shutdown(socket.SHUT_WR)
                case 1:
                    # Asks for a gigabyte and does not take it.
                    stack.enter_context(forward.connect(7003)).sendall(b"1000000000\n")
                case 2:
                    # Sends to somebody who never reads.
                    sock = stack.enter_context(forward.connect(7004))
                    sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        sock.send(bytes(1 << 17))
                case 3:
                    stack.enter_context(forward.connect(7001))
        living = stack.enter_context(forward.connect(7001))
        for number in range(100):
            echo(living, b"%d" % number)
        assert forward.resident() - before < 30 << 20
        stack.close()
        # What was sent to those who never read is theirs still, as long as they keep their end open: two sockets and a pipe each.
        deadline = time.monotonic() + 20
        while forward.descriptors() > 250 * 4 + 150:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with forward.connect(7001) as sock:
            echo(sock, b"and on it goes")


def test_more_than_the_open_files_let_us_carry(box: Host, peer: nsrun.Pod) -> None:
    with command(box, 200, 200, "peer", ":7001") as forward, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(forward.connect(7001)) for _ in range(60)]
        line = forward.error_line().decode()
        assert re.fullmatch(
            r"warning: 18 connections are as many as 200 open files let us carry \(ulimit -Hn\); more wait\n", line
        )
        for sock in socks:
            sock.sendall(b"waiting")
        # Each is served once there is room, in the order of their coming.
        for sock in socks:
            assert sock.recv(100) == b"waiting"
            sock.close()
        assert forward.process.poll() is None
        echo(stack.enter_context(forward.connect(7001)), b"after")


def test_a_pod_that_vanishes_under_its_connections(box: Host, client: nsrun.Client) -> None:
    with client.up(json.dumps(wish("vanishing"))) as pod:
        listening(pod)
        with command(box, 1024, 4096, "vanishing", ":7001", ":7003") as forward, contextlib.ExitStack() as stack:
            idle = [stack.enter_context(forward.connect(7001)) for _ in range(50)]
            for sock in idle:
                echo(sock, b"there")
            stream = stack.enter_context(forward.connect(7003))
            stream.sendall(b"100000000000\n")
            assert stream.recv(1 << 16)
            # The server has gone before: nobody but the connections' own ends tells of the pod's.
            os.kill(int(client.server_status()["pid"]), signal.SIGKILL)
            echo(idle[0], b"without a server")
            client.server_status()
            pod.restart(grace_period=0)
            for sock in idle:
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
            with contextlib.suppress(ConnectionResetError):
                while stream.recv(1 << 20):
                    pass
            # The same sandbox, the next instance: new connections arrive.
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(ConnectionError), forward.connect(7001) as sock:
                    sock.sendall(b"again")
                    if sock.recv(100) == b"again":
                        break
                assert time.monotonic() < deadline
                time.sleep(0.05)
            pod.down(force=True)
            assert forward.process.wait(20) == 4
            assert forward.process.stderr is not None
            text = forward.process.stderr.read().decode()
            assert text.splitlines()[-1] == "Error: pod 'vanishing' was taken down", text
