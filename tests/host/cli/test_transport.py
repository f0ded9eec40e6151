"""The client against peers that misbehave: one message, the documented exit code, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from nsrun import NsrunError, ServerError, connect
from nsrun._version import __version__
from nsrun.client import roots
from nsrun.client.session import Call, Cancelled, Session
from tests.host.cli.protocol_server import GREETING, Behaviour, Peer, listening
from tests.host.testhost import Host


def greet_and(then: Behaviour) -> Behaviour:
    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        then(peer)

    return behave


def ls(host: Host) -> subprocess.CompletedProcess[str]:
    done = host.nsrun("pod", "ls", check=False, timeout=60)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error:") <= 1
    return done


def test_another_version(host: Host) -> None:
    with listening(host.root, lambda peer: peer.send({**GREETING, "nsrun": "99.1"})):
        done = ls(host)
        assert done.returncode == 10
        assert "99.1" in done.stderr
        assert __version__ in done.stderr
        assert f"nsrun --root {host.root} server restart" in done.stderr
        done = host.nsrun("server", "status", check=False)
        assert done.returncode == 10
        assert "99.1" in done.stdout
        assert "99.1" in host.nsrun("version").stdout


def test_another_protocol(host: Host) -> None:
    with listening(host.root, lambda peer: peer.send({**GREETING, "protocol": 7})):
        done = ls(host)
    assert done.returncode == 10
    assert "protocol 7" in done.stderr


def test_server_stop_works_with_another_version(host: Host) -> None:
    asked: list[str] = []
    with subprocess.Popen(["sleep", "60"]) as server:

        def behave(peer: Peer) -> None:
            peer.send({**GREETING, "nsrun": "99.1", "pid": server.pid})
            request = peer.request()
            asked.append(request["method"])
            peer.send({"id": request["id"], "result": {}})
            server.kill()

        with listening(host.root, behave):
            assert "has stopped" in host.nsrun("server", "stop").stdout
    assert asked == ["server.stop"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x05hello",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02{}",
        b"\xff\xff\xff\xff",
        b'\x00\x00\x00\x0f{"nsrun": true}',
    ],
)
def test_something_else_listens(host: Host, nonsense: bytes) -> None:
    with listening(host.root, lambda peer: peer.sock.sendall(nonsense)):
        done = ls(host)
    assert done.returncode == 10
    assert "not an nsrun server" in done.stderr


def test_a_stranger_is_turned_away(host: Host) -> None:
    error = {"code": "permission", "brief": "uid 1000 may not", "details": None, "resolution": "sudo nsrun ..."}
    with listening(host.root, lambda peer: peer.send({"id": 0, "error": error})):
        done = ls(host)
    assert done.returncode == 7
    assert "uid 1000 may not" in done.stderr


def test_an_answer_that_is_cut_off_is_asked_for_again(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        request = peer.request()
        if peer.number < 3:
            # Into the header, into the body, and before anything: the three places a death can leave a frame at.
            peer.sock.sendall([b"\x00\x00", b'\x00\x00\x00\x50{"id"', b""][peer.number])
        else:
            peer.send({"id": request["id"], "result": {"pods": [], "columns": []}})

    with listening(host.root, behave) as peers:
        done = ls(host)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "No pods.\n"
    assert len(peers) == 4


def test_a_request_that_kills_every_server(host: Host) -> None:
    with listening(host.root, greet_and(lambda peer: None)) as peers:
        done = ls(host)
    assert done.returncode == 10
    assert "pod.list" in done.stderr
    assert 5 < len(peers) < 50


def test_what_may_not_be_repeated_is_not(host: Host) -> None:
    methods: list[str] = []

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        methods.append(peer.request()["method"])

    with listening(host.root, behave):
        done = host.nsrun("pod", "restart", "web", check=False)
    assert done.returncode == 10
    assert methods == ["pod.restart"]
    assert "unknown" in done.stderr


def test_down_is_repeated_so_that_a_pod_gone_meanwhile_is_no_error(host: Host) -> None:
    params: list[dict[str, object]] = []

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        request = peer.request()
        params.append(request["params"])
        if peer.number:
            peer.send({"id": request["id"], "result": {"pods": []}})

    with listening(host.root, behave):
        assert host.nsrun("pod", "down", "web", check=False).returncode == 0
    assert [one["missing_ok"] for one in params] == [False, True]


def test_the_time_to_wait_does_not_begin_anew(host: Host) -> None:
    left: list[float] = []

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        request = peer.request()
        left.append(request["params"]["timeout_s"])
        time.sleep(0.3)
        if peer.number == 2:
            peer.send({"id": request["id"], "result": {}})

    with listening(host.root, behave):
        host.nsrun("pod", "wait", "web", "--timeout=10s")
    assert left[0] == 10
    assert 9.3 < left[1] <= 9.7
    assert 8.6 < left[2] <= 9.4


def test_an_exec_that_nobody_took_is_asked_for_again(host: Host) -> None:
    commands: list[list[str]] = []

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        request = peer.request()
        commands.append(request["params"]["command"])
        if peer.number == 2:
            peer.send({"id": request["id"], "error": {"code": "not-found", "brief": 'no pod "web"'}})

    with listening(host.root, behave):
        done = host.nsrun("pod", "exec", "web", "--", "date", check=False)
    assert done.returncode == 4
    assert commands == [["date"]] * 3


def test_errors_keep_their_words_and_code(host: Host) -> None:
    error = {"code": "conflict", "brief": "pod differs", "details": "spec.a\nspec.b", "resolution": "--replace"}

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        peer.send({"id": peer.request()["id"], "error": error})

    manifest = host.scratch / "pod.yaml"
    manifest.write_text("kind: Pod\n")
    with listening(host.root, behave):
        done = host.nsrun("pod", "up", manifest, check=False)
        assert done.returncode == 5
        assert done.stderr == "Error: pod differs\n  spec.a\n  spec.b\n  --replace\n"
        done = host.nsrun("-o", "json", "pod", "up", manifest, check=False)
        assert json.loads(done.stderr)["error"] == {**error, "exit_code": 5}


def test_idle_connections_are_used_again_and_dead_ones_are_not(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        for _ in range(2):
            peer.send({"id": peer.request()["id"], "result": {"pods": []}})

    with listening(host.root, behave) as peers:
        client = connect(host.root, start=False)
        for _ in range(6):
            assert client.pods() == []
            time.sleep(0.02)
        client.close()
        assert len(peers) == 3
        with pytest.raises(ServerError, match="closed"):
            client.pods()


def test_a_request_can_be_cancelled_from_another_thread(host: Host) -> None:
    import threading

    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        peer.request()
        with pytest.raises(ConnectionError):
            peer.request()

    with listening(host.root, behave):
        session = Session(roots.find(host.root), may_start=False)
        call = Call()
        threading.Timer(0.1, call.cancel).start()
        with pytest.raises(Cancelled):
            session.request("pod.wait", {}, call=call)
        session.close()


def test_descriptors_do_not_leak_from_refused_answers(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.send(GREETING)
        while True:
            request = peer.request()
            body = json.dumps({"id": request["id"], "error": {"code": "not-found", "brief": "no"}}).encode()
            import socket

            socket.send_fds(peer.sock, [len(body).to_bytes(4, "big") + body], [0, 1, 2])

    with listening(host.root, behave):
        session = Session(roots.find(host.root), may_start=False)
        with pytest.raises(NsrunError):
            session.request("pod.logs", {})
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(NsrunError):
                session.request("pod.logs", {})
        assert len(os.listdir("/proc/self/fd")) == before
        session.close()
