"""HTTP probes of servers of every kind: what they are told, what is said of them, and what it costs."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from nsrun.probes import Outcome, Result, Wires, tcp
from tests.host.probes.servers import HOST, certificate, get, no_descriptor_left, resetting, saying, serving

pytestmark = [pytest.mark.host, pytest.mark.timeout(60)]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LATE = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
BROKEN = "net/http: HTTP/1.x transport connection broken: "


def run(work: Callable[[Wires], Awaitable[None]]) -> None:
    """Run with wires of its own, and see that no descriptor is left."""

    async def all_of_it() -> None:
        wires = Wires()
        try:
            await work(wires)
        finally:
            wires.close()
            await asyncio.sleep(0.05)

    with no_descriptor_left():
        asyncio.run(all_of_it())


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (200, Result.SUCCESS), (204, Result.SUCCESS), (299, Result.SUCCESS), (300, Result.WARNING), (304, Result.WARNING),
        (399, Result.WARNING), (400, Result.FAILURE), (404, Result.FAILURE), (500, Result.FAILURE), (503, Result.FAILURE),
        (999, Result.FAILURE),
    ],
)  # fmt: skip
def test_S_PROBE_http_status(status: int, result: Result) -> None:
    async def work(wires: Wires) -> None:
        async with serving(saying(b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nbody" % status)) as port:
            outcome = await get(wires, port)
        assert outcome.result is result
        assert not outcome.errored
        if result is Result.FAILURE:
            assert outcome.text == f"HTTP probe failed with statuscode: {status}"
        if result is Result.WARNING:
            body = "" if status == 304 else "body"
            assert outcome.text == f"Probe terminated redirects, Response body: {body}"

    run(work)


@pytest.mark.parametrize(
    ("talk", "text"),
    [
        (saying(), "EOF"),
        (saying(b"hello\n"), BROKEN + 'malformed HTTP response "hello"'),
        (saying(b"\x00\xff\xfe" * 100), BROKEN + "malformed HTTP response"),
        (saying(b"HTTP/1.1 200 OK\r\nX: "), BROKEN + "unexpected EOF"),
        (saying(stay=True), LATE),
        (saying(*[bytes([c]) for c in b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyyyy"], pause_s=0.1), LATE),
        (saying(b"HTTP/1.1 200 OK\r\n", for_ever=b"X: y\r\n", pause_s=0.05), LATE),
        (saying(b"HTTP/1.1 200 OK\r\n", for_ever=b"X: " + b"y" * 9000 + b"\r\n"), "server response headers exceeded"),
        (saying(b"HTTP/1.1 200 OK\r\nX: ", for_ever=b"y" * 65536), "server response headers exceeded"),
        (saying(for_ever=b"HTTP/1.1 100 Continue\r\n\r\n"), "net/http: too many 1xx informational responses"),
        (resetting, "connection reset by peer"),
    ],
)
def test_S_PROBE_http_no_answer_is_a_failure_that_says_why(talk: object, text: str) -> None:
    async def work(wires: Wires) -> None:
        async with serving(talk) as port:  # type: ignore[arg-type]  # what `saying` gives
            begun = time.monotonic()
            outcome = await get(wires, port, "/x")
            assert time.monotonic() - begun < 3
        assert outcome.result is Result.FAILURE
        assert not outcome.errored
        assert outcome.text.startswith(f'Get "http://{HOST}:{port}/x": ')
        assert text in outcome.text

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(work)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "and costs little memory"


def test_S_PROBE_http_reset_names_both_ends() -> None:
    async def work(wires: Wires) -> None:
        async with serving(resetting) as port:
            outcome = await get(wires, port)
        start, _, end = outcome.text.partition("->")
        assert start.startswith(f'Get "http://{HOST}:{port}/": read tcp {HOST}:')
        assert end == f"{HOST}:{port}: read: connection reset by peer"

    run(work)


@pytest.mark.parametrize(
    "talk",
    [
        saying(OK),
        saying(OK, stay=True),
        saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n", OK),
        saying(b"HTTP/1.0 200 OK\r\n\r\nto the end"),
        saying(b"HTTP/1.1 200 OK\r\n\r\n", for_ever=b"x" * 65536),
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", for_ever=b"1000\r\n" + b"x" * 4096 + b"\r\n"),
        saying(OK, for_ever=b"and more"),
    ],
)
def test_S_PROBE_http_an_answer_is_enough_whatever_follows(talk: object) -> None:
    async def work(wires: Wires) -> None:
        async with serving(talk) as port:  # type: ignore[arg-type]
            begun = time.monotonic()
            assert await get(wires, port) == Outcome(Result.SUCCESS)
            assert time.monotonic() - begun < 0.9, "nobody waits for the other side to close"

    run(work)


@pytest.mark.parametrize(
    ("talk", "text"),
    [
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), "unexpected EOF"),
        (saying(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "invalid byte in chunk length"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", stay=True),
         "context deadline exceeded (Client.Timeout or context cancellation while reading body)"),
    ],
)  # fmt: skip
def test_S_PROBE_http_a_body_that_breaks_is_an_error_and_counts_for_nothing(talk: object, text: str) -> None:
    async def work(wires: Wires) -> None:
        async with serving(talk) as port:  # type: ignore[arg-type]
            outcome = await get(wires, port)
        assert (outcome.text, outcome.errored) == (text, True)

    run(work)


def redirecting(location: str, status: int = 302, body: bytes = b"moved") -> object:
    """Sends on."""
    head = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: {len(body)}\r\n\r\n"
    return saying(head.encode() + body)


def test_S_PROBE_http_redirects_are_followed_on_the_same_host_on_any_port() -> None:
    async def work(wires: Wires) -> None:
        async with serving(saying(OK)) as there:
            for status in (301, 302, 303, 307, 308):
                async with serving(redirecting(f"http://{HOST}:{there}/x", status)) as port:  # type: ignore[arg-type]
                    assert await get(wires, port) == Outcome(Result.SUCCESS)

    run(work)


@pytest.mark.parametrize(
    "location",
    ["http://example.com/", "http://localhost/", "//example.com/x", "ftp://example.com/", "http://0.0.0.0/", ""],
)
def test_S_PROBE_http_redirects_to_other_hosts_are_a_warning(location: str) -> None:
    async def work(wires: Wires) -> None:
        async with serving(redirecting(location)) as port:  # type: ignore[arg-type]
            outcome = await get(wires, port)
        assert outcome == Outcome(Result.WARNING, "Probe terminated redirects, Response body: moved")

    run(work)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/loop", 'Get "/loop": stopped after 10 redirects'),
        (f"ftp://{HOST}/x", f'Get "ftp://{HOST}/x": unsupported protocol scheme "ftp"'),
        (f"http://{HOST}:1/", f'Get "http://{HOST}:1/": dial tcp {HOST}:1: connect: connection refused'),
    ],
)
def test_S_PROBE_http_redirects_that_lead_nowhere_are_a_failure(location: str, text: str) -> None:
    async def work(wires: Wires) -> None:
        async with serving(redirecting(location)) as port:  # type: ignore[arg-type]
            outcome = await get(wires, port)
        assert (outcome.result, outcome.text) == (Result.FAILURE, text)

    run(work)


def test_S_PROBE_http_a_redirect_whose_location_is_none() -> None:
    async def work(wires: Wires) -> None:
        async with serving(redirecting("http://h:x/")) as port:  # type: ignore[arg-type]
            outcome = await get(wires, port)
        assert outcome.text.startswith(f'Get "http://{HOST}:{port}/": failed to parse Location header "http://h:x/": ')

    run(work)


def test_S_PROBE_http_names_are_looked_up() -> None:
    async def work(wires: Wires) -> None:
        async with serving(saying(OK)) as port:
            assert await get(wires, port, host="localhost") == Outcome(Result.SUCCESS)
        outcome = await get(wires, port, host="no-such-host.invalid", timeout_s=10)
        assert outcome.result is Result.FAILURE
        assert outcome.text.startswith(
            f'Get "http://no-such-host.invalid:{port}/": dial tcp: lookup no-such-host.invalid'
        )

    run(work)


def test_S_PROBE_https_believes_any_certificate(tmp_path: Path) -> None:
    context = certificate(tmp_path, bits=1024)

    async def work(wires: Wires) -> None:
        async with serving(saying(OK), tls=context) as port:
            assert await get(wires, port, scheme="HTTPS") == Outcome(Result.SUCCESS)
        async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n", for_ever=b"x" * 65536), tls=context) as port:
            assert await get(wires, port, scheme="HTTPS") == Outcome(Result.SUCCESS)

    run(work)


def test_S_PROBE_https_of_what_is_none(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"hello")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)

    async def work(wires: Wires) -> None:
        for talk, text in (
            (plain, "http: server gave HTTP response to HTTPS client"),
            (garbage, "tls: first record does not look like a TLS handshake"),
            (silent, LATE),
            (closing, "EOF"),
        ):
            async with serving(talk) as port:
                outcome = await get(wires, port, scheme="HTTPS", timeout_s=0.5)
            assert (outcome.result, outcome.text) == (Result.FAILURE, f'Get "https://{HOST}:{port}/": {text}')
        async with serving(saying(OK), tls=certificate(tmp_path)) as port:
            outcome = await get(wires, port)
        assert outcome.result is Result.FAILURE, "plain HTTP to a TLS server"

    run(work)


def test_S_PROBE_tcp_sees_a_listener_and_closes_with_a_fin() -> None:
    heard: list[bytes] = []

    async def work(wires: Wires) -> None:
        end = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read())
            end.set()

        async with serving(listen) as port:
            assert await tcp.probe(wires, HOST, port, 1.0) == Outcome(Result.SUCCESS)
            await end.wait()
        assert heard == [b""], "the end of file, not a reset"
        outcome = await tcp.probe(wires, HOST, port, 1.0)
        assert outcome == Outcome(Result.FAILURE, f"dial tcp {HOST}:{port}: connect: connection refused")

    run(work)


def test_S_PROBE_a_hundred_that_hang_delay_nobody_else() -> None:
    async def work(wires: Wires) -> None:
        async with serving(saying(stay=True)) as silent, serving(saying(OK)) as port:
            hanging = [asyncio.ensure_future(get(wires, silent, timeout_s=2.0)) for _ in range(100)]
            await asyncio.sleep(0.2)
            slowest = 0.0
            for _ in range(50):
                begun = time.monotonic()
                assert await get(wires, port) == Outcome(Result.SUCCESS)
                slowest = max(slowest, time.monotonic() - begun)
            assert slowest < 0.2
            outcomes = await asyncio.gather(*hanging)
        assert {outcome.text for outcome in outcomes} == {f'Get "http://{HOST}:{silent}/": {LATE}'}

    run(work)


def test_S_PROBE_descriptors_that_have_run_out_are_no_failure_of_the_container() -> None:
    async def work(wires: Wires) -> None:
        async with serving(saying(OK)) as port:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                outcomes = [await get(wires, port), await tcp.probe(wires, HOST, port, 1.0)]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for outcome in outcomes:
            assert outcome.errored
            assert "socket: too many open files" in outcome.text

    run(work)


def test_S_PROBE_http_connections_leave_no_time_wait_here() -> None:
    """Whoever is asked to close does, and has the TIME_WAIT; whoever does not is reset after a second."""

    def waiting(port: int) -> int:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        ends = [line.split() for line in lines]
        return sum(1 for one in ends if one[3] == "06" and int(one[2].rpartition(":")[2], 16) == port)

    async def work(wires: Wires) -> None:
        async with serving(saying(OK)) as closing, serving(saying(OK, stay=True)) as staying:
            for _ in range(20):
                assert await get(wires, closing) == Outcome(Result.SUCCESS)
                assert await get(wires, staying) == Outcome(Result.SUCCESS)
            await asyncio.sleep(1.3)
            assert (waiting(closing), waiting(staying)) == (0, 0)

    run(work)
