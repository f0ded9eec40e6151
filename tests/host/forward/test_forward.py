"""Connections through a forwarded port: every byte, every end, and many at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

import nsrun
from nsrun.client import podsockets
from nsrun.client.forward import Listening
from nsrun.errors import ConflictError, NotFoundError, PodFailedError, UsageError
from tests.host.forward.conftest import listening, wish
from tests.host.testhost import Host

pytestmark = [pytest.mark.host]


def connect(to: Listening, timeout: float = 20.0) -> socket.socket:
    return socket.create_connection((to.address, to.local), timeout)


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


@pytest.fixture(scope="module")
def ports(peer: nsrun.Pod) -> Iterator[dict[int, Listening]]:
    """Every port of the pod, by its number inside."""
    with peer.forward(":echo", 7002, 7003, 7004, 7005, 7006, "7007/udp", 7999) as listening:
        yield {one.remote: one for one in listening}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_bytes_go_both_ways_and_ends_are_passed_on(ports: dict[int, Listening]) -> None:
    data = random.Random(1).randbytes(3_000_000)
    with connect(ports[7002]) as sock:
        sock.sendall(data)
        # Half-open: what we say has ended, what the pod says has not.
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).decode() == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"
    with connect(ports[7003]) as sock:
        sock.sendall(b"5000001\n")
        assert read_all(sock) == (bytes(range(256)) * 20_000)[:5_000_001]
    with connect(ports[7006]) as sock:
        sock.sendall(b"over ::1")
        assert sock.recv(100) == b"over ::1"


def test_a_slow_reader_holds_up_nobody(ports: dict[int, Listening]) -> None:
    with connect(ports[7003]) as slow, connect(ports[7001]) as quick:
        slow.sendall(b"30000000\n")
        for number in range(50):
            quick.sendall(b"%d" % number)
            assert quick.recv(100) == b"%d" % number
        assert len(read_all(slow)) == 30_000_000


def test_a_reader_that_never_reads_makes_the_writer_wait(ports: dict[int, Listening]) -> None:
    with connect(ports[7004]) as sock:
        sock.setblocking(False)
        sent, quiet = 0, 0
        while quiet < 5:
            try:
                sent += sock.send(bytes(1 << 20))
                quiet = 0
            except BlockingIOError:
                quiet += 1
                select.select([], [sock], [], 0.05)
        # What the sockets of both sides and a pipe hold, and no more.
        assert sent < 64 << 20


def test_a_reset_comes_through(ports: dict[int, Listening]) -> None:
    # It may come while the connection is still being looked at.
    with pytest.raises(ConnectionResetError), connect(ports[7005]) as sock:
        sock.recv(1)
    with connect(ports[7001]) as sock:
        sock.sendall(b"x")
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_port_on_which_nobody_listens_ends_the_connection(ports: dict[int, Listening]) -> None:
    with connect(ports[7999]) as sock, contextlib.suppress(ConnectionResetError):
        assert sock.recv(1) == b""


def test_datagrams(ports: dict[int, Listening]) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(20)]
        for number, sock in enumerate(socks):
            sock.settimeout(10)
            sock.sendto(b"%d" % number, ("127.0.0.1", ports[7007].local))
        # Each sender gets its own answer, and the largest datagram fits.
        assert [sock.recv(100) for sock in socks] == [b"%d" % number for number in range(20)]
        socks[0].sendto(bytes(65507), ("127.0.0.1", ports[7007].local))
        assert len(socks[0].recv(65536)) == 65507


def test_a_thousand_at_once_and_nothing_left(ports: dict[int, Listening]) -> None:
    before = descriptors()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(ports[7001])) for _ in range(1000)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d" % number)
        assert [sock.recv(100) for sock in socks] == [b"%d" % number for number in range(1000)]
    deadline = time.monotonic() + 10
    # But for a few pipes and sockets that are kept for the next ones.
    while descriptors() > before + 80:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_socket_of_the_library(peer: nsrun.Pod) -> None:
    with peer.connect(7001, timeout=5) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    with peer.connect(7006) as sock:
        assert sock.family == socket.AF_INET6
    with pytest.raises(PodFailedError, match="connect to port 7999 in pod 'peer': Connection refused"):
        peer.connect(7999)


def test_several_addresses_have_one_number(box: Host, peer: nsrun.Pod) -> None:
    words = ("peer", ":7001", ":7007/udp", "--address", "127.0.0.2,127.0.0.3", "--address", "::1")
    with subprocess.Popen(
        box.nsrun_argv("pod", "port-forward", *words), env=box.environment, stdout=subprocess.PIPE, text=True
    ) as command:
        try:
            assert command.stdout is not None
            heads = [command.stdout.readline() for _ in range(6)]
            for kind, suffix, of in (
                (socket.SOCK_STREAM, " -> 7001\n", heads[:3]),
                (socket.SOCK_DGRAM, "/udp -> 7007/udp\n", heads[3:]),
            ):
                numbers = set()
                for address, head in zip(("127.0.0.2", "127.0.0.3", "[::1]"), of, strict=True):
                    assert head.startswith(f"Forwarding from {address}:")
                    assert head.endswith(suffix)
                    numbers.add(int(head.split()[2].removesuffix("/udp").rpartition(":")[2]))
                (number,) = numbers
                for address in ("127.0.0.2", "127.0.0.3", "::1"):
                    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
                        sock.settimeout(30)
                        sock.connect((address, number))
                        sock.sendall(address.encode())
                        assert sock.recv(100) == address.encode()
        finally:
            command.send_signal(signal.SIGINT)
        assert command.wait(30) == 130


def test_words_that_mean_nothing(peer: nsrun.Pod, ports: dict[int, Listening]) -> None:
    taken = ports[7001].local
    for word, error, text in (
        ("x:80:90", UsageError, r"no \[LOCAL:\]REMOTE"),
        (":nothing", UsageError, "no port of the name 'nothing'"),
        ("70000", UsageError, "not between 1 and 65535"),
        ("80/sctp", UsageError, "no protocol that can be forwarded"),
        (f"{taken}:80", ConflictError, f"port {taken} of 127.0.0.1 is taken"),
    ):
        with pytest.raises(error, match=text), peer.forward(word):
            pass
    for words in (("7999:80", "7999:81"), ("7999:80", "7999:80")):
        with pytest.raises(UsageError, match=r"local port \d+ \(tcp\) is wanted twice"), peer.forward(*words):
            pass
    with pytest.raises(UsageError, match="no address of this machine"), peer.forward(80, address="192.0.2.1"):
        pass


def test_the_command(box: Host, peer: nsrun.Pod) -> None:
    words = box.nsrun_argv("pod", "port-forward", "peer", ":echo", ":7999")
    with subprocess.Popen(
        words, env=box.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        try:
            assert command.stdout is not None
            assert command.stderr is not None
            heads = [command.stdout.readline() for _ in range(4)]
            assert [head.split(" -> ")[1] for head in heads] == ["7001\n", "7001\n", "7999\n", "7999\n"]
            assert heads[0].startswith("Forwarding from 127.0.0.1:")
            assert heads[1].startswith("Forwarding from [::1]:")
            local = int(heads[0].split()[2].rsplit(":", 1)[1])
            for address in ("127.0.0.1", "::1"):
                with socket.create_connection((address, local), 10) as sock:
                    sock.sendall(b"hello")
                    assert sock.recv(100) == b"hello"
                assert command.stdout.readline() == f"Handling connection for {local}\n"
            closed = int(heads[2].split()[2].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", closed), 10) as sock, contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
            assert "connect to port 7999 in pod 'peer': Connection refused" in command.stderr.readline()
        finally:
            command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130


def test_connections_outlive_the_server_and_new_ones_the_sandbox(box: Host, client: nsrun.Client) -> None:
    with client.up(json.dumps(wish("moving"))) as pod:
        listening(pod)
        with pod.forward(7001) as (port,), connect(port) as sock:
            os.kill(int(client.server_status()["pid"]), signal.SIGKILL)
            sock.sendall(b"still")
            assert sock.recv(100) == b"still"
            with connect(port) as other:
                other.sendall(b"new")
                assert other.recv(100) == b"new"
            # The sandbox dies: its connections with it, and the next one finds the sandbox that follows.
            seen = json.loads(box.nsrun("pod", "inspect", "moving", "--runtime").stdout)
            os.kill(seen["runtime"]["shim_pid"], signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(ConnectionError), connect(port) as again:
                    again.sendall(b"again")
                    if again.recv(100) == b"again":
                        break
                assert time.monotonic() < deadline
                time.sleep(0.05)
            pod.down(force=True)
            # Nobody listens any more on this machine either.
            while True:
                try:
                    connect(port).close()
                except ConnectionRefusedError:
                    break
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_no_pod_no_socket(client: nsrun.Client) -> None:
    with pytest.raises(NotFoundError):
        podsockets.connect(client.session, "nobody", None, 80, 5)
