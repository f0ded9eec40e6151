"""`pod proxy`: pages, streams, uploads, WebSockets; and whom it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import nsrun
from nsrun.client.proxy import in_background, listen
from nsrun.errors import ConflictError, UsageError
from tests.host.cli.conftest import manifest
from tests.host.forward.conftest import listening
from tests.host.testhost import Host

pytestmark = [pytest.mark.host]

WEB = Path(__file__).with_name("web.py").read_text(encoding="utf-8")
POD = "/api/v1/namespaces/default/pods/web"


@pytest.fixture(scope="module")
def web(client: nsrun.Client, box: Host) -> Iterator[nsrun.Pod]:
    """The pod, listening."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", box.scratch / "key", "-out", box.scratch / "crt",
         "-subj", "/CN=web", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem = (box.scratch / "key").read_text() + (box.scratch / "crt").read_text()
    container = {
        "name": "web",
        "image": "nsrun.local/host",
        "command": ["python3", "-c", WEB],
        "env": [{"name": "PEM", "value": pem}],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "https", "containerPort": 8443}],
    }
    with client.up(json.dumps(manifest("web", container, terminationGracePeriodSeconds=0))) as pod:
        listening(pod)
        yield pod


@pytest.fixture(scope="module")
def everything(client: nsrun.Client, web: nsrun.Pod) -> Iterator[int]:
    """The port of a proxy to all pods."""
    with in_background(client.session, "127.0.0.1", 0, None) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def alone(web: nsrun.Pod) -> Iterator[int]:
    """The port of a proxy to the one pod."""
    with web.proxy("http") as address:
        yield int(address.rpartition(":")[2])


class Answer:
    """An answer, read to its end."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.reason, self.headers = answer.status, answer.reason, answer.headers
        self.body = answer.read()

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def fetch(port: int, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named, encode_chunked=not isinstance(body, bytes | None))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def test_a_request_arrives_as_it_was(everything: int, alone: int, web: nsrun.Pod) -> None:
    for port, prefix in ((everything, f"{POD}:8080/proxy"), (everything, f"{POD}:http/proxy"), (alone, "")):
        path = "/a%2Fb//../c;d?x=%20y&z=1+2"
        got = fetch(
            port, prefix + path, "PATCH", b"body", Cookie="k=v", X_Own="1", Connection="X-Hop, keep-alive", X_Hop="1"
        ).data
        headers = {name.lower(): value for name, value in got["headers"]}
        assert (got["method"], got["target"], got["size"]) == ("PATCH", path, 4)
        assert (headers["cookie"], headers["x-own"], headers["host"]) == ("k=v", "1", f"127.0.0.1:{port}")
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-uri"] == prefix + path.partition("?")[0]
        assert "x-hop" not in headers
        assert "user-agent" not in headers
        assert headers.get("accept-encoding", "identity") == "identity"
    assert fetch(everything, f"{POD}/proxy/").data["target"] == "/"


def test_an_answer_arrives_as_it_was(everything: int, alone: int) -> None:
    for port, prefix in ((everything, f"{POD}:8080/proxy"), (alone, "")):
        got = fetch(port, f"{prefix}/plain")
        assert (got.status, got.reason, got.body) == (200, "Well", b"no type")
        for absent in ("Content-Type", "Server", "X-Hop", "Access-Control-Allow-Origin"):
            assert absent not in got.headers
        head = fetch(port, f"{prefix}/plain", "HEAD")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, "7", b"")
        assert fetch(port, f"{prefix}/more").status == 204
        # Hints before it are dropped; what ends with the connection comes whole.
        assert fetch(port, f"{prefix}/early").body == b"until its end"
        # Bytes that are no UTF-8 are taken for Latin-1.
        assert fetch(port, f"{prefix}/latin").headers["X-Name"].encode("latin-1") == "café".encode()
        sent = dict(fetch(port, f"{prefix}/x", X_Name="caf\xe9").data["headers"])
        assert sent["X-Name"].encode("latin-1") == "café".encode()


def test_links_redirections_and_cookies_lead_back(everything: int, alone: int, web: nsrun.Pod) -> None:
    prefix = f"{POD}:8080/proxy"
    got = fetch(everything, f"{prefix}/page")
    assert got.body.decode() == (
        f'<!doctype html><title>page</title><a href="{prefix}/next">next</a>'
        """<img src='picture.png'><script>"<a href='/x'>"</script>"""
    )
    assert got.headers.get_all("Set-Cookie") == [f"a=1; Path={prefix}/", "b=2"]
    own = f"127.0.0.1:{everything}"
    for to, expected in (
        ("/x?y=1", f"{prefix}/x?y=1"),
        ("x", "x"),
        (f"http://{web.ip}:8080/x", f"http://{own}{prefix}/x"),
        (f"http://{own}/x", f"http://{own}{prefix}/x"),
        ("http://example.com/x", "http://example.com/x"),
    ):
        assert fetch(everything, f"{prefix}/redirect?to={to.replace('?', '%3f')}").headers["Location"] == expected
    assert fetch(alone, "/redirect?to=/x").headers["Location"] == "/x"
    assert b'href="/next"' in fetch(alone, "/page").body
    # Without the slash at its end relative links would lead elsewhere.
    bare = fetch(everything, f"{prefix}?q=1")
    assert (bare.status, bare.headers["Location"]) == (301, f"{prefix}/?q=1")


def test_tls_to_the_pod(everything: int) -> None:
    assert fetch(everything, f"{POD.replace('web', 'https:web')}:8443/proxy/x").data["target"] == "/x"


def test_bodies_stream_both_ways(everything: int, alone: int) -> None:
    data = os.urandom(5_000_000)
    for port, prefix in ((everything, f"{POD}:8080/proxy"), (alone, "")):
        for body in (data, (data[at : at + 300_000] for at in range(0, len(data), 300_000))):
            told = fetch(port, f"{prefix}/up", "POST", body).data
            assert (told["size"], told["sha"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert len(fetch(port, f"{prefix}/big?size=30000000").body) == 30_000_000
        # Events come one by one, not when there are enough of them.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"{prefix}/events?id={port}")
        events = connection.getresponse()
        for number in range(5):
            assert (events.readline(), events.readline()) == (b"data: %d\n" % number, b"\n")
            fetch(port, f"{prefix}/more?id={port}")
        connection.close()


def test_somebody_who_does_not_read_costs_no_memory(everything: int) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    with socket.create_connection(("127.0.0.1", everything), 20) as sock:
        sock.sendall(f"GET {POD}:8080/proxy/big?size=3000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        time.sleep(1)
        assert resident() - before < 20_000_000


def test_what_breaks_off_is_seen_to_be_broken(everything: int) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        fetch(everything, f"{POD}:8080/proxy/break")


def test_websockets(everything: int, alone: int) -> None:
    async def talk(port: int, prefix: str) -> None:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}{prefix}/ws") as ws:
                for text in ("hello", "wörld"):
                    await ws.send_str(text)
                    assert await ws.receive_str(timeout=10) == text
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(f"http://127.0.0.1:{port}{prefix}/no")

    for port, prefix in ((everything, f"{POD}:8080/proxy"), (alone, "")):
        asyncio.run(talk(port, prefix))
    asyncio.run(talk(everything, f"{POD.replace('web', 'https:web')}:8443/proxy"))
    # Any other protocol too, and as much as there is.
    data = os.urandom(1_000_000)
    with socket.create_connection(("127.0.0.1", alone), 20) as sock:
        sock.sendall(b"GET /?raw=1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: mine\r\n\r\n")
        head = sock.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), head
        assert b"\r\nUpgrade: mine\r\n" in head
        got = b""
        for at in range(0, len(data), 100_000):
            sock.sendall(data[at : at + 100_000])
            while len(got) < at + 100_000:
                got += sock.recv(1 << 20)
        assert got == data


def test_refusals_are_said_to_people_and_to_programs(everything: int, alone: int) -> None:
    refused = fetch(everything, f"{POD}:8081/proxy/")
    assert (refused.status, refused.headers["Content-Type"]) == (503, "application/json; charset=utf-8")
    assert refused.data["reason"] == "ServiceUnavailable"
    assert refused.data["message"].startswith("error trying to reach service: dial tcp 10.")
    assert refused.data["message"].endswith(":8081: connect: connection refused")
    for path, status, words in (
        ("/api/v1/namespaces/default/pods/nobody/proxy/", 404, 'pod "default/nobody" not found'),
        (f"{POD}:8081/proxy/", 503, "nsrun pod port-forward POD 8081"),
        (f"{POD}:8080/proxy/reset", 503, "read tcp"),
        (f"{POD}:nothing/proxy/", 400, "no port of the name"),
        (f"{POD}:1:2:3/proxy/", 400, "invalid pod request"),
        (f"{POD}:8080/proxy/nonsense", 503, "error trying to reach service"),
        ("/api/v1/pods", 404, "there is nothing at /api/v1/pods"),
    ):
        page = fetch(everything, path, Accept="text/html,*/*")
        assert (page.status, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        assert words in page.body.decode().replace("&quot;", '"'), page.body
    assert fetch(everything, f"{POD}:8081/proxy/", "POST", b"x" * 100).status == 503


def test_strangers(everything: int, alone: int) -> None:
    for port in (everything, alone):
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "http://evil.example"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Origin": "http://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"},
        ):
            assert fetch(port, f"{POD}:8080/proxy/", "GET", None, **headers).status == 403
        assert fetch(port, "/", Host=f"localhost:{port}").status == 200


def test_the_front_page_lists_the_pods(everything: int) -> None:
    page = fetch(everything, "/").body.decode()
    assert f'<a href="{POD}:8080/proxy/">8080</a> (http)' in page
    assert '<a href="/api/v1/namespaces/default/pods/https:web:8443/proxy/">8443</a> (https)' in page


def test_a_dead_server_and_a_pod_made_anew(client: nsrun.Client, box: Host, everything: int) -> None:
    container = {
        "name": "page",
        "image": "nsrun.local/host",
        "command": ["python3", "-m", "http.server", "-d", "/etc"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "ports": [{"containerPort": 8000}],
    }
    path = "/api/v1/namespaces/default/pods/page/proxy/hostname"
    for _ in range(2):
        with client.up(json.dumps(manifest("page", container, terminationGracePeriodSeconds=0)), wait="ready") as pod:
            assert fetch(everything, path).body == b"page\n"
            os.kill(int(client.server_status()["pid"]), signal.SIGKILL)
            assert fetch(everything, path).body == b"page\n"
            pod.down()
        assert fetch(everything, path).status == 404


def test_the_command(box: Host, web: nsrun.Pod, everything: int) -> None:
    path = box.scratch / "socket"
    words = box.nsrun_argv("pod", "proxy", "web:http", "--unix-socket", path, "--reject-methods", "POST")
    with subprocess.Popen(
        words, env=box.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        try:
            assert command.stdout is not None
            assert command.stdout.readline() == f"Starting to serve on {path}\n"
            assert path.stat().st_mode & 0o777 == 0o600
            for method, status in (("GET", b"200"), ("POST", b"403")):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(path))
                    sock.sendall(f"{method} /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
                    assert sock.recv(100).split()[1] == status
            # What could mean one thing to us and another to the pod is refused, and nothing is said of it.
            for lines in (
                b"Content-Length: 4\r\nTransfer-Encoding: chunked",
                b"Content-Length: 4\r\nContent-Length: 5",
                b"Host: other",
                b"A b: c",
            ):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(path))
                    sock.sendall(b"PUT /x HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n0\r\n\r\n")
                    assert sock.recv(100).split()[1] == b"400"
            taken = box.nsrun("pod", "proxy", "web", "--unix-socket", path, check=False)
            assert "is taken: somebody listens there" in taken.stderr
        finally:
            command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130
        assert command.stderr is not None
        assert command.stderr.read() == ""
    assert not path.exists()
    for more, text in (
        (("-p", str(everything)), f"port {everything} of 127.0.0.1 is taken"),
        (("nobody",), 'pod "default/nobody" not found'),
        (("--accept-hosts", "("), "no list of regular expressions"),
    ):
        refused = box.nsrun("pod", "proxy", *more, check=False)
        assert refused.returncode != 0
        assert text in refused.stderr


def test_the_library(web: nsrun.Pod, everything: int) -> None:
    with web.proxy(8443, tls=True) as address:
        assert fetch(int(address.rpartition(":")[2]), "/x").data["target"] == "/x"
    with pytest.raises(ConflictError, match="is taken"), web.proxy(local=everything):
        pass
    with pytest.raises(UsageError, match="no port of the name"), web.proxy("nothing"):
        pass
    with pytest.raises(UsageError, match="no address of this machine"):
        listen("192.0.2.1", 0)
