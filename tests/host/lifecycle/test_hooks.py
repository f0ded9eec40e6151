"""Lifecycle hooks of real containers: when they run, how often, what becomes of those that fail, and of the server that runs them."""

from __future__ import annotations

import contextlib
import http.server
import os
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chance import SEED
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, box, pod, until
from tests.host.server.test_full_disk import filled, small_disk

pytestmark = pytest.mark.timeout(120)

GRACE = 20


def hooks(post_start: dict[str, Any] | None = None, pre_stop: dict[str, Any] | None = None) -> dict[str, Any]:
    """More fields of a container."""
    found = {"postStart": post_start, "preStop": pre_stop}
    return {"lifecycle": {name: handler for name, handler in found.items() if handler is not None}}


def gracious(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod with some time to stop."""
    return pod("p", *containers, **({"terminationGracePeriodSeconds": GRACE} | spec))


def command(*words: str) -> dict[str, Any]:
    """An exec action."""
    return {"exec": {"command": list(words)}}


def events(server: Server, *reasons: str) -> list[tuple[str, str]]:
    """Reason and message of the pod's events with these reasons, in order."""
    found = server.call("pod.events", name="p").result["events"]
    return [(one["reason"], one["message"]) for one in found if one["reason"] in reasons]


def waiting(server: Server, name: str = "a") -> dict[str, Any]:
    """Why a container waits, if it does."""
    found: dict[str, Any] = server.container("p", name)["state"].get("waiting", {})
    return found


def restart_server(server: Server) -> None:
    """SIGKILL, and the next one."""
    assert server.kill()
    server.call("server.ping")


def in_turn(journal: Journal) -> list[str]:
    """What was said. Container and postStart hook begin together, and either may speak first: here it is the container."""
    texts = journal.texts
    for at in range(1, len(texts)):
        if texts[at].endswith(" start") and texts[at - 1].endswith(("hook", "begins")):
            texts[at - 1 : at + 1] = [texts[at], texts[at - 1]]
    return texts


class Listener:
    """An HTTP server on this machine, which counts requests and says what it is told to say.

    Args:
        status: of its answers; None: it hangs up instead.
        tls: speaks TLS with a certificate that nobody knows.
        hold: answers only once `release` was called.
    """

    def __init__(self, status: int | None = 200, *, tls: Path | None = None, hold: bool = False) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._go = threading.Event()
        if not hold:
            self._go.set()
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle(self) -> None:
                # As Go's server answers to a client that begins with TLS; Python's would wait for the end of a line.
                if tls is None and self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
                    self.connection.recv(65536)
                    self.connection.sendall(
                        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server.\n"
                    )
                    return
                super().handle()

            def do_GET(self) -> None:
                listener.requests.append((self.path, dict(self.headers)))
                listener._go.wait(30)
                if status is None:
                    return
                self.send_response(status)
                self.send_header("Location", "http://elsewhere.invalid/")
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._go.set()

    def close(self) -> None:
        self._go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Makes listeners."""
    with contextlib.ExitStack() as stack:

        def make(*words: Any, **more: Any) -> Listener:
            listener = Listener(*words, **more)
            stack.callback(listener.close)
            return listener

        yield make


def get(listener: Listener | int | str, **more: Any) -> dict[str, Any]:
    """An httpGet action to this machine."""
    port = listener.port if isinstance(listener, Listener) else listener
    return {"httpGet": {"port": port, "path": "/hook", "host": "127.0.0.1", **more}}


# postStart


def test_S_HOOK_S_START_postStart_holds_up_what_comes_after(server: Server, journal: Journal) -> None:
    hook = journal.told("a hook begins", "sleep", "1", ";", "tell", str(journal.port), "a hook ends")
    server.up(gracious(journal.life("a", container=hooks(hook)), journal.life("b")), wait="none")
    journal.until("a hook begins")
    until(lambda: waiting(server).get("reason") == "ContainerCreating")
    assert server.container("p", "a")["ready"] is False
    assert server.container("p", "a")["started"] is False
    journal.until("b start")
    journal.before("a hook begins", "a hook ends", "b start")
    server.wait("p", "condition=Ready")
    assert journal.count("a hook begins") == 1
    assert events(server, "FailedPostStartHook") == []


def test_S_HOOK_S_START_postStart_of_an_init_container_and_a_sidecar(server: Server, journal: Journal) -> None:
    slow = journal.told("side hook", "sleep", "0.5", ";", "tell", str(journal.port), "side hook over")
    side = journal.life("side", container=hooks(slow)) | {"restartPolicy": "Always"}
    server.up(gracious(journal.life("main"), inits=(side, journal.life("init", seconds=0.1))))
    journal.until("main start")
    journal.before("side hook", "side hook over", "init start", "init exit 0", "main start")


def test_S_HOOK_S_REASONS_postStart_that_fails(server: Server, journal: Journal) -> None:
    """The container is stopped as in any stop, says why it waits, and comes back with back-off."""
    hook = journal.told("hook", "echo", "said to\tnobody", ";", "exit", "3")
    bye = journal.told("bye")
    server.up(gracious(journal.life("a", container=hooks(hook, bye)), journal.life("b")), wait="none")
    journal.until("hook", 2)
    until(lambda: waiting(server).get("reason") in ("PostStartHookError", "CrashLoopBackOff"))
    journal.before("hook", "bye", "a term", "a exit 0")
    journal.until("a exit 0", 2)
    uid = server.get("p")["metadata"]["uid"]
    words = hook["exec"]["command"]
    text = (
        f'Exec lifecycle hook ([{" ".join(words)}]) for Container "a" in Pod "p_default({uid})" failed - error: '
        f"command '{' '.join(words)}' exited with 3: said to\tnobody\n, message: \"said to\\tnobody\\n\""
    )
    until(lambda: server.container("p", "a")["restartCount"] == 1)
    until(
        lambda: (
            waiting(server) == {"reason": "PostStartHookError", "message": text}
            or waiting(server).get("reason") == "CrashLoopBackOff"
        )
    )
    assert ("FailedPostStartHook", "PostStartHook failed") in events(server, "FailedPostStartHook")
    assert ("Killing", "FailedPostStartHook") in events(server, "Killing")
    assert not any("said" in str(one) for one in server.call("pod.events", name="p").result["events"])
    journal.until("b start")


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (command("/bin/no-such"), 'exec: "/bin/no-such": stat /bin/no-such: no such file or directory'),
        (command("/bin/die", "11"), "exited with 139"),
        (get(1), "connect: connection refused"),
        (get("missing"), 'port "missing" not found'),
        (
            {"tcpSocket": {"port": 80}},
            "Cannot run handler: invalid handler: &LifecycleHandler{Exec:nil,HTTPGet:nil,"
            "TCPSocket:&TCPSocketAction{Port:{0 80 },Host:,},Sleep:nil,}",
        ),
    ],
    ids=["missing-command", "signal", "refused", "port", "tcpSocket"],
)
def test_S_HOOK_why_a_postStart_failed(server: Server, journal: Journal, handler: dict[str, Any], error: str) -> None:
    server.up(gracious(journal.life("a", container=hooks(handler)), restartPolicy="Never"), wait="none")
    until(lambda: events(server, "FailedPostStartHook"))
    said = []

    def over() -> bool:
        message = waiting(server).get("message")
        if message:
            said.append(message)
        return server.get("p")["status"]["phase"] in ("Succeeded", "Failed")

    until(over)
    assert events(server, "FailedPostStartHook") == [("FailedPostStartHook", "PostStartHook failed")]
    assert journal.texts == ["a start", "a term", "a exit 0"]
    if said:
        assert error in said[-1]


def test_S_HOOK_only_one_of_many_postStarts_fails(server: Server, journal: Journal) -> None:
    """The others of the pod run on; the policy decides about that one."""
    server.up(
        gracious(journal.life("a", container=hooks(command("/bin/false"))), journal.life("b"), restartPolicy="Never"),
        wait="none",
    )
    journal.until("a exit 0")
    journal.until("b start")
    time.sleep(0.5)
    assert journal.count("a start") == 1
    assert server.get("p")["status"]["phase"] == "Running"


# preStop


def test_S_HOOK_S_TERM_preStop_before_the_stop_signal_within_the_grace_period(server: Server, journal: Journal) -> None:
    hook = journal.told("a hook begins", "sleep", "1", ";", "tell", str(journal.port), "a hook ends")
    server.up(gracious(journal.life("a", container=hooks(pre_stop=hook)), journal.life("b")))
    journal.until("a start")
    journal.until("b start")
    server.down("p", grace_period_s=GRACE)
    journal.before("a hook begins", "a hook ends", "a term", "a exit 0")
    assert abs(journal.time("b term") - journal.time("a hook begins")) < 0.5, "all are stopped together"
    assert journal.count("a hook begins") == 1


def test_S_HOOK_S_TERM_preStop_that_never_ends_uses_up_the_time(server: Server, journal: Journal) -> None:
    """The signal comes at the end of the grace period, and two seconds are left to the container."""
    hook = journal.told("hook", "sleep", "1000")
    server.up(gracious(journal.life("a", container=hooks(pre_stop=hook), linger=-1)))
    journal.until("a start")
    server.down("p", grace_period_s=3)
    gone = time.time()
    assert 2.8 < journal.time("a term") - journal.time("hook") < 4.5
    assert 1.8 < gone - journal.time("a term") < 4.5


def test_S_HOOK_S_TERM_no_preStop_without_grace(server: Server, journal: Journal) -> None:
    server.up(gracious(journal.life("a", container=hooks(pre_stop=journal.told("hook")))))
    journal.until("a start")
    server.down("p", grace_period_s=0)
    assert journal.texts == ["a start"]


def test_S_HOOK_no_preStop_for_one_that_ends_by_itself(server: Server, journal: Journal) -> None:
    container = journal.life("a", seconds=0.3, container=hooks(pre_stop=journal.told("hook")))
    server.up(gracious(container, restartPolicy="Never"), wait="none")
    until(lambda: server.get("p")["status"]["phase"] == "Succeeded")
    server.down("p", grace_period_s=GRACE)
    assert journal.texts == ["a start", "a exit 0"]


def test_S_HOOK_S_TERM_S_SIDECAR_preStop_of_sidecars_begins_with_the_others(server: Server, journal: Journal) -> None:
    side = journal.life("side", container=hooks(pre_stop=journal.told("side hook"))) | {"restartPolicy": "Always"}
    main = journal.life("main", linger=1, container=hooks(pre_stop=journal.told("main hook")))
    server.up(gracious(main, inits=(side,)))
    journal.until("main start")
    server.down("p", grace_period_s=GRACE)
    journal.before("main term", "main exit 0", "side term", "side exit 0")
    assert abs(journal.time("side hook") - journal.time("main hook")) < 0.5


def test_S_HOOK_S_EVENTS_preStop_that_fails_is_told_and_changes_nothing(server: Server, journal: Journal) -> None:
    container = journal.life("a", container=hooks(pre_stop=journal.told("hook", "exit", "1")))
    server.up(gracious(container, journal.life("b")))
    journal.until("a start")
    server.call("pod.restart", name="p", containers=["a"])
    journal.until("a start", 2)
    journal.before("hook", "a term")
    assert events(server, "FailedPreStopHook") == [("FailedPreStopHook", "PreStopHook failed")]
    reasons = [one for one in server.reasons("p") if one in ("Killing", "FailedPreStopHook")]
    assert reasons == ["Killing", "FailedPreStopHook"]


def test_S_HOOK_preStop_that_ends_its_container_itself(server: Server, journal: Journal) -> None:
    """It goes down with it, which is no reason to wait."""
    hook = {
        "exec": {
            "command": ["/bin/then", "tell", str(journal.port), "hook", ";", "kill", "15", "1", ";", "sleep", "100"]
        }
    }
    server.up(gracious(journal.life("a", container=hooks(pre_stop=hook))))
    journal.until("a start")
    begun = time.monotonic()
    server.down("p", grace_period_s=GRACE)
    assert time.monotonic() - begun < 10
    assert in_turn(journal) == ["a start", "hook", "a term", "a exit 0"]


def test_S_HOOK_S_UPDATE_a_hook_needs_nothing_of_the_image_that_comes_next(server: Server, journal: Journal) -> None:
    """The container that is stopped for another image enters its own once more, though the other is not there."""
    container = journal.life("a", container=hooks(pre_stop=journal.told("hook")))
    server.up(gracious(container))
    journal.until("a start")
    server.up(gracious(container | {"image": "tests.local/none"}), wait="none")
    until(lambda: waiting(server).get("reason") == "ErrImageNeverPull")
    assert in_turn(journal) == ["a start", "hook", "a term", "a exit 0"]
    assert events(server, "FailedPreStopHook") == []


@pytest.mark.parametrize("handler", ["exec", "sleep"])
def test_S_HOOK_S_TERM_a_full_disk_keeps_no_pod_from_stopping(server: Server, journal: Journal, handler: str) -> None:
    """What cannot be written down does not begin: the stop signal comes at once."""
    hook = journal.told("hook") if handler == "exec" else {"sleep": {"seconds": 15}}
    with small_disk(server, server.root / "run", "1m"):
        server.up(gracious(journal.life("a", container=hooks(pre_stop=hook))))
        journal.until("a start")
        with filled(server.root / "run"):
            begun = time.monotonic()
            server.down("p", grace_period_s=GRACE)
            assert time.monotonic() - begun < 10
    assert journal.texts == ["a start", "a term", "a exit 0"]


# sleep


def test_S_HOOK_sleep(server: Server, journal: Journal) -> None:
    container = journal.life("a", container=hooks({"sleep": {"seconds": 1}}, {"sleep": {"seconds": 2}}))
    server.up(gracious(container, journal.life("b")))
    journal.until("b start")
    assert 0.9 < journal.time("b start") - journal.time("a start") < 2.5
    begun = time.time()
    server.down("p", grace_period_s=GRACE)
    assert 1.9 < journal.time("a term") - begun < 3.5


def test_S_HOOK_sleep_of_no_time(server: Server, journal: Journal) -> None:
    server.up(gracious(journal.life("a", container=hooks(pre_stop={"sleep": {"seconds": 0}}))))
    journal.until("a start")
    begun = time.time()
    server.down("p", grace_period_s=GRACE)
    assert journal.time("a term") - begun < 1.5


def test_S_HOOK_S_TERM_sleep_longer_than_the_grace_period_of_the_deletion(server: Server, journal: Journal) -> None:
    server.up(gracious(journal.life("a", container=hooks(pre_stop={"sleep": {"seconds": 15}}))))
    journal.until("a start")
    begun = time.time()
    server.down("p", grace_period_s=2)
    assert 1.8 < journal.time("a term") - begun < 4


def test_S_HOOK_sleep_does_not_outlast_its_container(server: Server, journal: Journal) -> None:
    server.up(gracious(journal.life("a", seconds=2, container=hooks(pre_stop={"sleep": {"seconds": 15}}))))
    journal.until("a start")
    begun = time.time()
    server.down("p", grace_period_s=GRACE)
    assert time.time() - begun < 8
    assert journal.texts == ["a start", "a exit 0"]


# httpGet


def test_S_HOOK_httpGet_to_the_address_of_the_pod_and_a_named_port(server: Server, journal: Journal) -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    side = box("side", "httpd", "8080", restartPolicy="Always", startupProbe=probe)
    hook = hooks({"httpGet": {"path": "/status/500", "port": "web"}})
    server.up(gracious(journal.life("a", container=hook | {"ports": ports}), inits=(side,)))
    journal.until("a start")
    assert events(server, "FailedPostStartHook") == []


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_S_HOOK_httpGet_any_answer_is_success(server: Server, listen: Callable[..., Listener], status: int) -> None:
    listener = listen(status)
    server.up(gracious(box("a", "pause", **hooks(get(listener, httpHeaders=[{"name": "x-one", "value": "1"}])))))
    ((path, headers),) = listener.requests
    assert path == "/hook"
    assert headers["X-One"] == "1"
    assert headers["User-Agent"].startswith("kube-lifecycle/")
    assert events(server, "FailedPostStartHook") == []


def test_S_HOOK_httpGet_without_an_answer_has_failed(server: Server, listen: Callable[..., Listener]) -> None:
    listener = listen(None)
    server.up(gracious(box("a", "pause", **hooks(get(listener))), restartPolicy="Never"), wait="none")
    until(lambda: events(server, "FailedPostStartHook"))


def test_S_HOOK_httpGet_has_as_much_time_as_it_takes(
    server: Server, journal: Journal, listen: Callable[..., Listener]
) -> None:
    listener = listen(hold=True)
    server.up(gracious(journal.life("a", container=hooks(get(listener))), journal.life("b")), wait="none")
    until(lambda: listener.requests)
    time.sleep(3)
    assert journal.texts == ["a start"]
    listener.release()
    journal.until("b start")


def test_S_HOOK_httpGet_is_given_up_with_its_container(server: Server, listen: Callable[..., Listener]) -> None:
    """Nobody answers while the container ends and begins again: no connection of earlier instances is kept."""
    listener = listen(hold=True)
    short = box("a", "then", "sleep", "0.1", ";", "failing", "/dev/shm/n", "3", **hooks(get(listener)))
    server.up(gracious(box("b", "pause"), short, restartPolicy="OnFailure"), wait="none", time_scale=1000)
    until(lambda: server.container("p", "a")["state"].get("terminated", {}).get("exitCode") == 0)
    assert len(listener.requests) == 4
    until(lambda: connections_to(listener.port) == 0, 5, "requests for containers that ended still wait for an answer")


def connections_to(port: int) -> int:
    """How many connections to a port of this machine are open, as the kernel knows."""
    lines = Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    ends = [line.split()[2:4] for line in lines]
    return sum(int(remote.partition(":")[2], 16) == port and state == "01" for remote, state in ends)


def test_S_HOOK_https_is_not_verified(server: Server, listen: Callable[..., Listener], certificate: Path) -> None:
    listener = listen(tls=certificate)
    server.up(gracious(box("a", "pause", **hooks(get(listener, scheme="HTTPS")))))
    assert [path for path, _headers in listener.requests] == ["/hook"]
    assert events(server, "FailedPostStartHook", "LifecycleHTTPFallback") == []


def test_S_HOOK_https_falls_back_to_http(server: Server, listen: Callable[..., Listener]) -> None:
    listener = listen()
    secret = [{"name": "Authorization", "value": "secret"}]
    server.up(gracious(box("a", "pause", **hooks(get(listener, scheme="HTTPS", httpHeaders=secret)))))
    ((_path, headers),) = listener.requests
    assert "Authorization" not in headers
    assert events(server, "FailedPostStartHook", "LifecycleHTTPFallback") == [
        (
            "LifecycleHTTPFallback",
            f"request to HTTPS lifecycle hook 127.0.0.1:{listener.port} got HTTP response, retry with HTTP succeeded",
        )
    ]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own making, and its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nobody",
         "-keyout", str(path), "-out", str(path.with_name("certificate.pem"))],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_name("certificate.pem").read_bytes())
    return path


# a server that dies


@pytest.mark.parametrize("kills", [1, 4])
def test_S_HOOK_a_postStart_command_runs_once_whatever_becomes_of_servers(
    server: Server, journal: Journal, kills: int
) -> None:
    """It goes on while nobody is there, and what it said is not lost."""
    hook = journal.told("begins", "sleep", "2", ";", "tell", str(journal.port), "ends")
    server.up(gracious(journal.life("a", container=hooks(hook)), journal.life("b")), wait="none")
    journal.until("begins")
    for _ in range(kills):
        restart_server(server)
        time.sleep(0.2)
    journal.until("b start")
    assert in_turn(journal)[:4] == ["a start", "begins", "ends", "b start"]
    server.wait("p", "condition=Ready")
    assert journal.count("begins") == journal.count("a start") == 1
    assert 1.9 < journal.time("ends") - journal.time("begins") < 3


def test_S_HOOK_a_postStart_that_ended_while_nobody_looked(server: Server, journal: Journal) -> None:
    failing = journal.told("a hook", "sleep", "0.5", ";", "tell", str(journal.port), "a fails", ";", "exit", "1")
    passing = journal.told("b hook", "sleep", "0.5", ";", "tell", str(journal.port), "b passes")
    container = journal.life("a", container=hooks(failing))
    server.up(gracious(container, restartPolicy="Never"), wait="none")
    journal.until("a hook")
    assert server.kill()
    journal.until("a fails")
    time.sleep(0.3)
    server.call("server.ping")
    until(lambda: server.get("p")["status"]["phase"] in ("Succeeded", "Failed"))
    assert events(server, "FailedPostStartHook") == [("FailedPostStartHook", "PostStartHook failed")]
    assert in_turn(journal) == ["a start", "a hook", "a fails", "a term", "a exit 0"]
    server.down("p")
    server.up(gracious(journal.life("b", container=hooks(passing)), journal.life("c")), wait="none")
    journal.until("b hook")
    assert server.kill()
    journal.until("b passes")
    server.call("server.ping")
    journal.until("c start")
    assert journal.count("b hook") == 1
    assert events(server, "FailedPostStartHook") == []


def test_S_HOOK_S_TERM_a_preStop_command_runs_once_whatever_becomes_of_servers(
    server: Server, journal: Journal
) -> None:
    """The grace period is not begun anew, either."""
    hook = journal.told("begins", "sleep", "2", ";", "tell", str(journal.port), "ends")
    server.up(gracious(journal.life("a", container=hooks(pre_stop=hook), linger=-1)))
    journal.until("a start")
    server.down("p", grace_period_s=5, wait=False)
    journal.until("begins")
    for _ in range(3):
        restart_server(server)
        time.sleep(0.3)
    server.wait("p", "delete")
    gone = time.time()
    assert journal.texts == ["a start", "begins", "ends", "a term"]
    assert 4.7 < gone - journal.time("begins") < 8


def test_S_HOOK_sleep_goes_on_for_the_rest_of_its_time(server: Server, journal: Journal) -> None:
    container = journal.life("a", container=hooks({"sleep": {"seconds": 3}}))
    server.up(gracious(container, journal.life("b")), wait="none")
    journal.until("a start")
    for _ in range(3):
        time.sleep(0.5)
        restart_server(server)
    journal.until("b start")
    assert 2.9 < journal.time("b start") - journal.time("a start") < 4.5


def test_S_HOOK_httpGet_is_sent_again_by_the_next_server(
    server: Server, journal: Journal, listen: Callable[..., Listener]
) -> None:
    listener = listen(hold=True)
    server.up(gracious(journal.life("a", container=hooks(get(listener))), journal.life("b")), wait="none")
    until(lambda: listener.requests)
    restart_server(server)
    until(lambda: len(listener.requests) == 2)
    listener.release()
    journal.until("b start")
    assert len(listener.requests) == 2


def test_S_HOOK_the_server_dies_again_and_again(server: Server, journal: Journal) -> None:
    """At any moment of many short hooks: each runs once per instance."""
    print(f"NSRUN_SEED={SEED}")
    chance = random.Random(SEED)
    names = ("a", "b", "c")
    containers = [
        journal.life(name, container=hooks(journal.told(f"{name}-up hook"), journal.told(f"{name}-down hook")))
        for name in names
    ]
    for turn in range(1, 4):
        server.up(gracious(*containers), wait="none")
        for _ in range(4):
            time.sleep(chance.uniform(0, 0.15))
            restart_server(server)
        server.wait("p", "condition=Ready")
        server.down("p", grace_period_s=GRACE, wait=False)
        for _ in range(4):
            time.sleep(chance.uniform(0, 0.15))
            restart_server(server)
        until(lambda: server.names() == [])
        for name in names:
            assert journal.of(name) == ["start", "term", "exit 0"] * turn
            assert journal.of(f"{name}-up") == journal.of(f"{name}-down") == ["hook"] * turn


def test_S_HOOK_a_shim_that_dies_takes_its_hooks_along(server: Server, journal: Journal) -> None:
    hook = journal.told("hook", "sleep", "1000")
    server.up(gracious(journal.life("a", container=hooks(hook))), wait="none")
    journal.until("hook")
    shim = server.runtime("p")["shim_pid"]
    os.kill(shim, 9)
    journal.until("hook", 2)
    assert sorted(journal.texts) == ["a start", "a start", "hook", "hook"]
    assert events(server, "FailedPostStartHook")[:1] == [("FailedPostStartHook", "PostStartHook failed")]


def test_S_HOOK_a_hook_that_leaves_processes_behind(server: Server, journal: Journal) -> None:
    """It is over when its own process is; what it started goes with the container."""
    hook = journal.told("hook", "orphans", "3", "1000")
    server.up(gracious(journal.life("a", container=hooks(hook)), journal.life("b")))
    journal.until("b start")
    server.down("p", grace_period_s=GRACE)
    assert server.names() == []


def test_S_HOOK_much_output_of_a_hook(server: Server, journal: Journal) -> None:
    """Nobody keeps 100 MB of it, and it does not wait."""
    hook = command("/bin/then", "flood", "100000000", ";", "exit", "9")
    server.up(gracious(journal.life("a", container=hooks(hook)), restartPolicy="Never"), wait="none")
    until(lambda: events(server, "FailedPostStartHook"))
    for path in Path(server.root).rglob("jobs/*"):
        # They go with the sandbox, which goes with its only container.
        with contextlib.suppress(FileNotFoundError):
            assert path.stat().st_size < 20_000
    assert (Path(server.root) / "run").exists()


def test_S_HOOK_hooks_of_many_containers_run_side_by_side(server: Server, journal: Journal) -> None:
    names = [f"c{number}" for number in range(10)]
    containers = [journal.life(name, container=hooks(pre_stop={"sleep": {"seconds": 2}})) for name in names]
    server.up(gracious(*containers))
    for name in names:
        journal.until(f"{name} start")
    begun = time.monotonic()
    server.down("p", grace_period_s=GRACE)
    assert time.monotonic() - begun < 6
