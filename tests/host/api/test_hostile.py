"""Clients that mean harm, or are broken: the process answers or hangs up, stays small, and serves the others meanwhile."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nsrun.api import certificates, connections, doors
from nsrun.api.app import IN_FLIGHT_MAX
from nsrun.api.connections import CONNECTIONS_MAX, Connections
from nsrun.api.credentials import Place
from nsrun.api.doors import Door
from tests.capabilities import PATIENCE
from tests.host.api.conftest import ApiProcess, pod_of

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"


def raw(api: ApiProcess, data: bytes, seconds: float = 10, *, ends: bool = True) -> bytes:
    """Send bytes, and read to the end."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=seconds) as sock:
        try:
            sock.sendall(data)
            if ends:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        parts = []
        try:
            while part := sock.recv(65536):
                parts.append(part)
        except OSError:
            pass
        return b"".join(parts)


def memory_of(api: ApiProcess) -> int:
    """Bytes that the process has in memory."""
    assert api.process is not None
    with open(f"/proc/{api.process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def watches(api: ApiProcess) -> int:
    found = next(
        line for line in api.get("/metrics").body.decode().splitlines() if line.startswith("nsrun_api_watches ")
    )
    return int(found.split()[1])


def test_bodies_of_more_than_three_mebibytes(api: ApiProcess) -> None:
    big = json.dumps({"metadata": {"name": "big"}, "data": {"x": "x" * 4 * 1024 * 1024}}).encode()
    answer = api.post(MAPS, big)
    assert (answer.code, answer.object["reason"]) == (413, "RequestEntityTooLarge")
    # Without its length told beforehand, and packed so that a few bytes are many.
    head = f"POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (big[at : at + 65536] for at in range(0, len(big), 65536))
    )
    assert raw(api, (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunks + b"0\r\n\r\n").startswith(
        b"HTTP/1.1 413"
    )
    packed = gzip.compress(b"{" + b" " * 200 * 1024 * 1024 + b"}")
    before = memory_of(api)
    answer = api.request("POST", MAPS, packed, Content_Encoding="gzip")
    assert answer.code == 413
    assert memory_of(api) - before < 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        ("application/json", b'{"metadata": 7}'),
        ("application/json", b'{"metadata": {"name": ["x"]}}'),
        ("application/json", b'{"metadata": {"name": "\\ud800"}}'),
        ("application/json", b"\xff\xfe"),
        ("application/json", b'"\xed\xa0\x80"'),
        ("application/json", b"null"),
        ("application/json", b""),
        ("application/yaml", b"a: &a [*a]"),
        ("application/yaml", b"a: &a [x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (97 + at, 97 + at, b",".join([b"*%c" % (96 + at)] * 8)) for at in range(1, 9))),
        ("application/yaml", b"!!python/object/apply:os.system [id]"),
        ("application/yaml", b"{" * 5000),
        ("application/vnd.kubernetes.protobuf", b"k8s\0" + b"\xff" * 500),
        ("application/vnd.kubernetes.protobuf", b"nope"),
    ],
)  # fmt: skip
def test_bodies_that_are_none(api: ApiProcess, content: str, body: bytes) -> None:
    began = time.monotonic()
    for method, path in (("POST", PODS), ("PUT", f"{PODS}/x"), ("DELETE", f"{PODS}/x")):
        answer = api.request(method, path, body, content=content)
        assert 400 <= answer.code < 500, (method, answer.body)
        assert answer.object["kind"] == "Status"
    for kind in ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"):
        answer = api.request("PATCH", f"{PODS}/x", body, content=f"application/{kind}")
        assert 400 <= answer.code < 500, (kind, answer.body)
    assert time.monotonic() - began < 10 * PATIENCE


def test_requests_that_are_none(api: ApiProcess) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST " + MAPS.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST "
        + MAPS.encode()
        + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST "
        + MAPS.encode()
        + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ):
        answer = raw(api, data)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (data[:60], answer[:200])
    for path in (
        "/api/v1/namespaces/default/pods/../../../secrets",
        "/api/v1/namespaces/default%2Fsecrets/pods",
        "//api/v1/pods",
        "/api/v1/namespaces//pods",
        "/api/v1/namespaces/%2e%2e/pods",
        "/api/v1/namespaces/default/pods/%00",
        "/static/../../etc/passwd",
        "/openapi/v3/../../../etc/passwd",
        "/openapi/v3/%2e%2e%2f%2e%2e",
    ):
        answer = raw(api, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), ends=False)
        assert answer.startswith(b"HTTP/1.1 404"), (path, answer[:200])
    assert api.get("/healthz").code == 200
    assert api.request("HEAD", f"{PODS}?watch=1").code == 405


def test_names_that_a_browser_may_have_bent(api: ApiProcess) -> None:
    for host in ("[::1", "[", "a]b", "evil.example.org", "\xe9"):
        assert api.get(PODS, Host=host).code == 403, host
    for origin in ("http://[x", "null", "http://evil.example.org", "://"):
        assert api.get(PODS, Origin=origin).code == 403, origin


def test_what_is_packed_badly(api: ApiProcess) -> None:
    for coding, body in (("gzip", b"xxxx"), ("gzip", gzip.compress(b"{}" * 5000)[:-9]), ("deflate", b"\xff" * 9)):
        answer = api.request("POST", MAPS, body, Content_Encoding=coding)
        assert (answer.code, answer.object["reason"]) == (400, "BadRequest"), coding


def test_continue_tokens_that_are_none(api: ApiProcess) -> None:
    for token in (b"[" * 9000, b'{"v":"meta.k8s.io/v1","rv":1e999,"start":"a/b"}', b'{"v":1}', b"7", b"\xff"):
        answer = api.get(f"{PODS}?continue={base64.urlsafe_b64encode(token).decode()}")
        assert answer.code == 400, token[:20]


def test_evictions_that_are_none(api: ApiProcess) -> None:
    for body in (
        {"metadata": [1]},
        {"metadata": {"name": "other"}},
        {"deleteOptions": 7},
        {"deleteOptions": {"dryRun": 7}},
    ):
        answer = api.post(f"{PODS}/x/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", **body})
        assert answer.code in (400, 404), (body, answer.body)


def test_random_requests(api: ApiProcess) -> None:
    dice = random.Random(7)
    words = ["api", "apis", "v1", "namespaces", "default", "pods", "x", "log", "watch", "nodes", "events.k8s.io", "metrics.k8s.io",
             "v1beta1", "status", "", "..", "%41", "a" * 300, "é", "{}", "openapi", "v3"]  # fmt: skip
    names = ["watch", "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds",
             "dryRun", "fieldValidation", "pretty", "sendInitialEvents", "tailLines", "command", "gracePeriodSeconds"]  # fmt: skip
    values = [
        "",
        "1",
        "0",
        "-1",
        "true",
        "x",
        "999999999999999999999",
        "a=b",
        "a==,",
        "metadata.name=x",
        "Exact",
        "\x00",
        "é",
        "(" * 50,
        "All",
    ]
    for _ in range(250):
        path = "/" + "/".join(dice.choice(words) for _ in range(dice.randint(0, 8)))
        query = {dice.choice(names): dice.choice(values) for _ in range(dice.randint(0, 4))}
        query["timeoutSeconds"] = "1" if "watch" in query or "watch" in path else query.get("timeoutSeconds", "")
        method = dice.choice(["GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
        body = dice.choice([None, b"{}", b"[]", b"x", dice.randbytes(20)])
        accept = dice.choice(
            [
                "",
                "*/*",
                "application/json;as=Table;v=v1;g=meta.k8s.io",
                "application/yaml",
                "x",
                ",;=",
                "application/json;q=x",
            ]
        )
        from urllib.parse import quote, urlencode

        answer = api.request(method, quote(path, safe="/%{}") + "?" + urlencode(query), body, Accept=accept)
        assert answer.code < 500 or answer.code in (501, 504), (method, path, query, answer.body)
    assert "Traceback" not in api.said()


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.quiet
def test_watches_that_nobody_reads_cost_little(api: ApiProcess, many_files: None) -> None:
    count = 1000
    api.post(MAPS, {"metadata": {"name": "noise"}})
    before = memory_of(api)
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", api.port))
            sock.sendall(f"GET {MAPS}?watch=1&timeoutSeconds=600 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        deadline = time.monotonic() + 20 * PATIENCE
        while watches(api) < count:
            assert time.monotonic() < deadline, watches(api)
            time.sleep(0.05)
        idle = memory_of(api)
        assert idle - before < count * 64 * 1024
        slowest = 0.0
        for number in range(40):
            began = time.monotonic()
            done = api.request(
                "PUT", f"{MAPS}/noise", {"metadata": {"name": "noise"}, "data": {"n": f"{number}" * 20_000}}
            )
            assert done.code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 5 * PATIENCE
        # Each holds a message or two; what came after waits in the history, once for all.
        assert memory_of(api) - idle < 200 * 1024 * 1024
    deadline = time.monotonic() + 20 * PATIENCE
    while watches(api):
        assert time.monotonic() < deadline, watches(api)
        time.sleep(0.05)
    api.delete(f"{MAPS}/noise")


def test_one_who_asks_for_everything_does_not_stop_another(api: ApiProcess) -> None:
    """A hundred connections that ask without a pause, of which half never read an answer."""
    api.make("asked-for")
    with ExitStack() as stack:
        greedy = []
        for _ in range(100):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", api.port)))
            sock.setblocking(False)
            greedy.append(sock)
        request = f"GET {PODS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 200
        slowest = 0.0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for number, sock in enumerate(greedy):
                try:
                    sock.send(request)
                    if number % 2:
                        sock.recv(1 << 20)
                except BlockingIOError:
                    continue
            began = time.monotonic()
            assert api.get(f"{PODS}/asked-for").code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 2 * PATIENCE
    api.delete(f"{PODS}/asked-for?gracePeriodSeconds=0")
    assert memory_of(api) < 400 * 1024 * 1024


def served(body: Any) -> None:
    """Run a client against connections of this process's own."""

    async def run() -> None:
        async def answer(_request: web.BaseRequest) -> web.Response:
            return web.Response(text="ok")

        made = Connections(web.Server(answer), most=3)
        sock = socket.create_server(("127.0.0.1", 0))
        door = asyncio.create_task(Door(sock, made, None).run())
        try:
            await body(sock.getsockname()[1], made)
        finally:
            door.cancel()
            await asyncio.wait([door])

    asyncio.run(run())


def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)

    async def loris(port: int, _made: Connections) -> None:
        for beginning in (b"", b"GET / HTTP/1.1\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.monotonic()
            try:
                while not reader.at_eof() and time.monotonic() - began < 5:
                    writer.write(beginning or b"")
                    beginning = b"a: b\r\n" if beginning else b""
                    try:
                        async with asyncio.timeout(0.05):
                            await reader.read(100)
                    except TimeoutError:
                        continue
            except ConnectionError:
                pass
            assert time.monotonic() - began < 2 * PATIENCE
            writer.close()

    served(loris)


def test_more_connections_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crowd(port: int, made: Connections) -> None:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert (len(made.open), made.refused) == (3, 1)
        for _, writer in pairs:
            writer.close()
        await asyncio.sleep(0.1)
        assert not made.open

    served(crowd)
    assert CONNECTIONS_MAX > 1000


def test_without_descriptors_connections_wait_and_little_is_said(api: ApiProcess) -> None:
    assert api.process is not None
    pid = api.process.pid

    def ticks() -> int:
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))

    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    said = api.log.stat().st_size
    few = len(os.listdir(f"/proc/{pid}/fd")) + 4
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, before[1]))
    with ExitStack() as stack:
        try:
            crowd = [
                stack.enter_context(socket.create_connection(("127.0.0.1", api.port), timeout=20)) for _ in range(40)
            ]
            for sock in crowd:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
            began = ticks()
            time.sleep(1)
            assert ticks() - began < 0.3 * os.sysconf("SC_CLK_TCK")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for sock in crowd:
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
    words = api.log.read_bytes()[said:]
    assert words.count(b"\n") == words.count(b"connections wait to be taken in: Too many open files") == 1


def test_a_handshake_that_does_not_come_to_its_end_takes_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "HANDSHAKE_S", 0.3)
    context = certificates.prepared(Place(str(tmp_path / "api")), ("127.0.0.1",))

    async def run() -> None:
        made = Connections(web.Server(lambda _request: web.Response()), most=2)  # type: ignore[arg-type, return-value]
        sock = socket.create_server(("127.0.0.1", 0))
        door = asyncio.create_task(Door(sock, made, context).run())
        pairs = [await asyncio.open_connection(*sock.getsockname()) for _ in range(5)]
        await asyncio.sleep(0.1)
        assert (len(made.open), made.refused) == (0, 3)
        for reader, writer in pairs:
            assert await reader.read() == b""
            writer.close()
        assert made.expect(), "places of handshakes that came to nothing are free again"
        door.cancel()
        await asyncio.wait([door])

    asyncio.run(run())


def test_what_was_asked_is_not_done_twice(api: ApiProcess) -> None:
    """Clients that hang up in the middle of what they asked for leave no more than that."""
    pod = json.dumps(pod_of("abandoned")).encode()
    head = f"POST {PODS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(pod)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", api.port)) as sock:
        sock.sendall(head.encode() + pod[:-5])
    with socket.create_connection(("127.0.0.1", api.port)) as sock:
        sock.sendall(head.encode() + pod)
    api.until(PODS, lambda listed: [one["metadata"]["name"] for one in listed["items"]] == ["abandoned"])
    api.delete(f"{PODS}/abandoned?gracePeriodSeconds=0")


def test_who_asks_too_much_at_a_time_is_told_so(api: ApiProcess) -> None:
    """While the server stands still reads wait for it: as many of one caller as may, and the next is refused."""
    server = int((api.host.root / "run" / "lock").read_text())
    os.kill(server, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            waiting = [stack.enter_context(closing(api.connection())) for _ in range(IN_FLIGHT_MAX)]
            for one in waiting:
                one.request("GET", MAPS)
            deadline = time.monotonic() + 5 * PATIENCE
            while (refused := api.get(f"{MAPS}?resourceVersion=0")).code != 429:
                assert time.monotonic() < deadline, refused.body
                time.sleep(0.05)
            assert refused.headers["retry-after"] == "1"
            assert (refused.object["reason"], refused.object["code"]) == ("TooManyRequests", 429)
            assert api.get("/livez").code == 200
            os.kill(server, signal.SIGCONT)
            for one in waiting:
                answer = one.getresponse()
                assert (answer.status, json.loads(answer.read())["kind"]) == (200, "ConfigMapList")
    finally:
        os.kill(server, signal.SIGCONT)
    assert api.get(MAPS).code == 200
