"""gRPC health probes (kubelet pkg/probe/grpc)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from nsrun.probes import Outcome, Result, Wires, grpc
from tests.host.probes.health import Health, serve
from tests.host.probes.servers import HOST, serving
from tests.host.probes.test_http import run

pytestmark = [pytest.mark.host, pytest.mark.timeout(60)]

UNIMPLEMENTED = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
FAILED = "error: health rpc probe failed: rpc error: code = "


def ask(health: Health, service: str = "", timeout_s: float = 1.0) -> tuple[Outcome, int]:
    """One run of a probe, and the port."""
    found: list[tuple[Outcome, int]] = []

    async def work(wires: Wires) -> None:
        async with serving(health.talk) as port:
            found.append((await grpc.probe(wires, HOST, port, service, timeout_s), port))

    run(work)
    return found[0]


def test_S_PROBE_grpc_serving_is_success_and_the_request_is_the_kubelets() -> None:
    health = Health(states={"": 2, "db": 1})
    outcome, port = ask(health, "db")
    assert outcome == Outcome(Result.SUCCESS)
    (asked,) = health.asked
    assert {name: asked[name] for name in (":method", ":path", ":authority", "content-type", "te", "user-agent")} == {
        ":method": "POST",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": f"{HOST}:{port}",
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "kube-probe/1.36",
    }


@pytest.mark.parametrize(
    ("health", "text"),
    [
        (Health(states={"": 2}), 'service unhealthy (responded with "NOT_SERVING")'),
        (Health(states={"": 0}), 'service unhealthy (responded with "UNKNOWN")'),
        (Health(states={"": 3}), 'service unhealthy (responded with "SERVICE_UNKNOWN")'),
        (Health(states={"": 77}), 'service unhealthy (responded with "77")'),
        (Health(states={}), FAILED + "NotFound desc = unknown service"),
        (Health(status=12, message="unknown service grpc.health.v1.Health"),
         UNIMPLEMENTED + "unknown service grpc.health.v1.Health"),
        (Health(status=14, message="busy%21"), FAILED + "Unavailable desc = busy!"),
        (Health(status=4), "timeout: health rpc did not complete within 1s"),
        (Health(status=99, message="x"), FAILED + "Code(99) desc = x"),
        (Health(http=404, kind="text/plain"),
         UNIMPLEMENTED + "unexpected HTTP status code received from server: 404 (Not Found); transport: received"
         ' unexpected content-type "text/plain"'),
        (Health(http=503), FAILED + "Unavailable desc = unexpected HTTP status code received from server: 503"
         " (Service Unavailable)"),
        (Health(reset=2), FAILED + "Internal desc = stream terminated by RST_STREAM with error code: INTERNAL_ERROR"),
        (Health(goaway=True), FAILED + "Unavailable desc = the connection is draining"),
        (Health(end_at_once=True), FAILED + "Unavailable desc = error reading from server: EOF"),
        (Health(silent=True), "timeout: health rpc did not complete within 1s"),
        (Health(data=b"\0\0\0\0\x02\xff\xff"), FAILED + "Internal desc = grpc: failed to unmarshal the received message:"
         " proto: cannot parse invalid wire-format data"),
        (Health(data=b""), FAILED + "Internal desc = cardinality violation: received no response message from"
         " non-server-streaming RPC"),
        (Health(data=b"\1\0\0\0\0"), FAILED + "Internal desc = grpc: compressed flag set with identity or empty encoding"),
    ],
)  # fmt: skip
def test_S_PROBE_grpc_failures_in_the_kubelets_words(health: Health, text: str) -> None:
    outcome, _ = ask(health)
    assert outcome == Outcome(Result.FAILURE, text)


def test_S_PROBE_grpc_a_message_with_other_fields() -> None:
    # Field 2 a varint, field 3 bytes, field 4 and 5 fixed, then the status.
    message = b"\x10\x96\x01" + b"\x1a\x02hi" + b"\x21" + b"\0" * 8 + b"\x2d" + b"\0" * 4 + b"\x08\x01"
    outcome, _ = ask(Health(data=b"\0" + len(message).to_bytes(4, "big") + message))
    assert outcome == Outcome(Result.SUCCESS)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def _flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        # An HTTP/2 PING, again and again, and never the SETTINGS.
        writer.write(b"\0\0\x08\x06\0\0\0\0\0" * 1000 + b"\0" * 8)
        await writer.drain()


@pytest.mark.parametrize("talk", [_silent, _http1, _flood])
def test_S_PROBE_grpc_a_server_that_speaks_no_http2_is_waited_for_until_the_time_is_over(talk: Talk) -> None:
    async def work(wires: Wires) -> None:
        async with serving(talk) as port:
            begun = time.monotonic()
            outcome = await grpc.probe(wires, HOST, port, "", 1.0)
            assert 0.9 < time.monotonic() - begun < 2
        text = f'timeout: failed to connect service "{HOST}:{port}" within 1s: context deadline exceeded'
        assert outcome == Outcome(Result.FAILURE, text)

    run(work)


def test_S_PROBE_grpc_a_server_that_comes_within_the_time_is_found() -> None:
    health = Health()

    async def work(wires: Wires) -> None:
        async with serving(health.talk) as port:
            pass
        probe = asyncio.ensure_future(grpc.probe(wires, HOST, port, "", 5.0))
        await asyncio.sleep(0.3)
        server = await serve(health, HOST, port)
        assert await probe == Outcome(Result.SUCCESS)
        server.close()
        await asyncio.sleep(0.1)

    run(work)
