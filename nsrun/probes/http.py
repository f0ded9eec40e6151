"""HTTP GET as a kubelet sends and reads it: one request per connection, redirects on the same host, 10 KiB of the body (S-PROBE).

Sources: Kubernetes pkg/probe/http/{http,request}.go; for what is said of failures Go's net/http (transport.go, client.go, response.go).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsrun.probes.outcome import OUTPUT_MAX, BodyError, LocalError, Outcome, ProbeError, Result
from nsrun.probes.ports import resolve_port
from nsrun.probes.url import Url, UrlError, probe_url, resolve
from nsrun.probes.wires import Wire, Wires, within
from nsrun.probes.wording import canonical, quoted
from nsrun.spec.model import Container, HTTPGetAction

if TYPE_CHECKING:
    from nsrun.probes.tls import TlsWire

VERSION = "1.36"
"""The Kubernetes whose kubelet this is."""
HEAD_MAX = 1 << 20
"""Bytes before the body. Go reads 10 MiB; so much would be held by each of many probes."""
REDIRECTS_MAX = 10
INFORMATIONAL_MAX = 5

_REDIRECTS = {301, 302, 303, 307, 308}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_HOST = re.compile(r"[^A-Za-z0-9!$%&'()*+,\-./:;=?@\[\]_~\x80-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Request:
    """A GET. `headers` in Go's order, without Host; `host` is the Host header, "" for the URL's own."""

    url: Url
    headers: tuple[tuple[str, str], ...]
    host: str = ""

    def plain(self) -> Request:
        """The same without TLS and without Authorization, for a hook whose server turned out not to speak TLS."""
        headers = tuple(one for one in self.headers if one[0] != "Authorization")
        return replace(self, url=replace(self.url, scheme="http"), headers=headers)

    def encode(self) -> bytes:
        """What is sent.

        Raises:
            ProbeError: a header that cannot be sent.
        """
        return _encode(self)


@functools.lru_cache(maxsize=1024)
def _encode(request: Request) -> bytes:
    host = request.host or request.url.authority
    if _BAD_HOST.search(host):
        raise ProbeError("http: invalid Host header")
    lines = [f"GET {request.url.target} HTTP/1.1", f"Host: {host}"]
    for name, value in request.headers:
        if not _TOKEN.fullmatch(name):
            raise ProbeError(f"net/http: invalid header field name {quoted(name)}")
        if _BAD_VALUE.search(value):
            raise ProbeError(f"net/http: invalid header field value for {quoted(name)}")
        lines.append(f"{name}: {value.strip(' ' + chr(9))}")
    lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Response:
    """`body`: at most the first 10 KiB; `broken`: what went wrong before its end, which does not matter to a redirect."""

    status: int
    body: bytes
    location: str | None
    broken: BodyError | None = None


@dataclass(slots=True)
class Progress:
    """How far an exchange has come: `head` once the head of a response is complete."""

    head: bool = False


def request_for(
    action: HTTPGetAction, container: Container, pod_ip: str, agent: str = f"kube-probe/{VERSION}"
) -> Request:
    """The request that a probe or a hook asks for.

    Args:
        action: of the manifest, with defaults.
        container: whose ports may be named.
        pod_ip: where it goes unless the action names a host.
        agent: the User-Agent unless the action has one.

    Raises:
        ProbeError: there is no such port.
    """
    port = resolve_port(action.port, container)
    url = probe_url((action.scheme or "http").lower(), action.host or pod_ip, port, action.path or "")
    headers: dict[str, list[str]] = {}
    for header in action.httpHeaders:
        headers.setdefault(canonical(header.name), []).append(header.value)
    host = next(iter(headers.pop("Host", [])), "")
    agents = headers.pop("User-Agent", [agent])
    if headers.setdefault("Accept", ["*/*"])[0] == "":
        del headers["Accept"]
    # What belongs to how a request is sent is not the manifest's (Go's reqWriteExcludeHeader, and keep-alive, which is off).
    for name in ("Connection", "Content-Length", "Transfer-Encoding", "Trailer"):
        headers.pop(name, None)
    ordered = [("User-Agent", agents[0])] if agents[0] else []
    ordered += [(name, value) for name in sorted(headers) for value in headers[name]]
    return Request(url, tuple(ordered), host)


async def probe(wires: Wires, request: Request, timeout_s: float) -> Outcome:
    """Run an httpGet probe: 200 to 399 is success, of which a redirect that is not followed is told of."""
    progress = Progress()
    try:
        response = await within(timeout_s, fetch(wires, request, progress=progress))
    except TimeoutError:
        if progress.head:
            why = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            return Outcome(Result.FAILURE, why, errored=True)
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return Outcome(Result.FAILURE, _get(request.url, why))
    except BodyError as error:
        return Outcome(Result.FAILURE, str(error), errored=True)
    except LocalError as error:
        return Outcome(Result.UNKNOWN, _get(request.url, str(error)), errored=True)
    except ProbeError as error:
        return Outcome(Result.FAILURE, str(error))
    if 200 <= response.status < 300:
        return Outcome(Result.SUCCESS)
    if 300 <= response.status < 400:
        body = response.body.decode("utf-8", "replace")
        return Outcome(Result.WARNING, f"Probe terminated redirects, Response body: {body}")
    return Outcome(Result.FAILURE, f"HTTP probe failed with statuscode: {response.status}")


def _get(url: Url | str, why: str) -> str:
    return f"Get {quoted(str(url))}: {why}"


async def fetch(wires: Wires, request: Request, *, progress: Progress | None = None) -> Response:
    """Send a GET and follow where it leads, at most ten times, on the same host.

    Args:
        wires: who owns the connections.
        request: from `request_for`.
        progress: told how far it is.

    Raises:
        PlainAnswerError: plain HTTP came where TLS was expected.
        BodyError: the head came, and the body broke.
        ProbeError: nothing that could be understood came; `Get "http://10.0.0.5:80/": EOF`.
        LocalError: this machine has run out of something.
    """
    first = request
    for hops in range(REDIRECTS_MAX):
        try:
            response = await _exchange(wires, request, progress or Progress())
        except ProbeError as error:
            raise type(error)(_get(request.url, str(error))) from error
        location = response.location
        if response.status not in _REDIRECTS or not location:
            return _whole(response)
        try:
            url = resolve(request.url, location)
        except UrlError as error:
            why = f"failed to parse Location header {quoted(location)}: parse {quoted(location)}: {error}"
            raise ProbeError(_get(request.url, why)) from error
        if url.host != first.url.host:
            return _whole(response)
        if hops + 1 == REDIRECTS_MAX:
            raise ProbeError(_get(location, f"stopped after {REDIRECTS_MAX} redirects"))
        if url.scheme not in ("http", "https"):
            raise ProbeError(_get(location, f"unsupported protocol scheme {quoted(url.scheme)}"))
        request = _next(first, request, url, location)
    raise AssertionError("the last hop returns or raises")


def _whole(response: Response) -> Response:
    if response.broken is not None:
        raise response.broken
    return response


def _next(first: Request, before: Request, url: Url, location: str) -> Request:
    """The headers of the first request go along; a Host of its own stays as long as the Location names no other."""
    relative = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", location) is None
    headers = [one for one in first.headers if one[0] != "Referer"]
    if not (before.url.scheme == "https" and url.scheme == "http"):
        headers.append(("Referer", str(replace(before.url, fragment=""))))
    head = [one for one in headers if one[0] == "User-Agent"]
    rest = sorted((one for one in headers if one[0] != "User-Agent"), key=lambda one: one[0])
    return Request(url, tuple(head + rest), before.host if relative else "")


async def _exchange(wires: Wires, request: Request, progress: Progress) -> Response:
    data = request.encode()
    plain = await wires.dial(request.url.host, request.url.number)
    wire: Wire | TlsWire = plain
    try:
        if request.url.scheme == "https":
            wire = await _with_tls(plain, wires, request.url.host)
        await wire.send(data)
        response = await _read(wire, progress)
    except BaseException:
        plain.reset()
        raise
    plain.let_go()
    return response


async def _with_tls(plain: Wire, wires: Wires, host: str) -> TlsWire:
    from nsrun.probes.tls import TlsWire

    is_address = ":" in host or re.fullmatch(r"[0-9.]+", host) is not None
    wire = TlsWire(plain, wires, None if is_address else host)
    await wire.shake()
    return wire


async def _read(wire: Wire | TlsWire, progress: Progress) -> Response:
    """Read a response as far as it matters."""
    from nsrun.probes.response import Reader

    reader = Reader()
    progress.head = False
    try:
        while not reader.done:
            data = await wire.receive()
            if data:
                reader.feed(data)
            else:
                reader.end()
            if not reader.began and reader.size > HEAD_MAX:
                raise ProbeError(f"net/http: server response headers exceeded {HEAD_MAX} bytes; aborted")
            if reader.informational > INFORMATIONAL_MAX:
                raise ProbeError("net/http: too many 1xx informational responses")
            progress.head = reader.began
    except ProbeError as error:
        if not reader.began:
            raise
        return Response(reader.status, b"", reader.location, BodyError(str(error)))
    return Response(reader.status, bytes(reader.body[:OUTPUT_MAX]), reader.location)
