"""An HTTP way to pods for a browser: `pod proxy`, in the paths and with the manners of the API server's pod proxy.

Requests go to the pod's address, so what listens on a pod's loopback alone is not reached. The pod is looked up for every
request: one that was made anew is found again. This module and aiohttp are imported by those alone who proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from nsrun.client import weblinks
from nsrun.client.aio import in_thread
from nsrun.client.forward import bound, cannot_listen
from nsrun.client.ports import Port
from nsrun.client.session import Call
from nsrun.client.webfilter import Rules, rules
from nsrun.client.webpages import pods_page, refusal_page, refusal_status
from nsrun.errors import ConflictError, NotFoundError, NsrunError, StepError, UsageError

if TYPE_CHECKING:
    from nsrun.client.session import Session

CONNECT_S = 30.0
HEAD_MAX = 1 << 18
"""Bytes of a head: 64 KiB a line."""
LINE_MAX = 1 << 16
CHUNK = 1 << 16
LAST_WORDS_S = 0.1
"""Seconds that requests under way have when the proxy ends."""

_POD_PATH = re.compile(r"/api/v1/namespaces/([^/?]+)/pods/([^/?]+)/proxy(/[^?]*)?(\?.*)?", re.DOTALL)
_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
"""RFC 9110 7.6.1; and what Connection names."""
_CORS = {f"access-control-allow-{what}" for what in ("credentials", "headers", "methods", "origin")}
"""A pod does not say who may read what comes through the proxy; the API server's removes these too."""
_REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 500: "InternalError", 503: "ServiceUnavailable"}


class Target(NamedTuple):
    """What a path, or the command line, names.

    Attributes:
        namespace: of the pod; None is "default".
        name: of the pod.
        port: number or name of a port; "" takes the first of its manifest, else 80, or 443 with TLS.
        tls: whether to speak TLS to it. Its certificate is not looked at, as the API server does not.
    """

    namespace: str | None
    name: str
    port: str = ""
    tls: bool = False


class Place(NamedTuple):
    """Where a request goes: the pod's address, and the proxy's paths that lead there."""

    host: str
    port: int
    tls: bool
    prefix: str

    @property
    def written(self) -> str:
        """`10.0.0.1:80`, `[fd00::1]:80`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Refused(Exception):  # noqa: N818 - an answer
    """A request is answered by the proxy itself, with this."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def target(text: str, namespace: str | None = None) -> Target:
    """`POD`, `POD:PORT`, `https:POD:PORT`, `https:POD:` as the API server reads it (apimachinery SplitSchemeNamePort).

    Raises:
        UsageError: it is none of these.
    """
    parts = text.split(":")
    match parts:
        case [name] if name:
            return Target(namespace, name)
        case [name, port] if name and port:
            return Target(namespace, name, port)
        case [("" | "http" | "https") as scheme, name, port] if name:
            return Target(namespace, name, port, scheme == "https")
    raise UsageError(f'invalid pod request "{text}"', resolution="POD, POD:PORT, or https:POD:PORT for TLS.")


def port_of(pod: Mapping[str, Any], wanted: Target) -> int:
    """The number of the port that is wanted.

    Raises:
        UsageError: the pod has no port of that name, or the number is none.
    """
    ports = [
        port
        for container in (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
        for port in container.get("ports") or ()
    ]
    if not wanted.port:
        return int(ports[0]["containerPort"]) if ports else (443 if wanted.tls else 80)
    if wanted.port.isdecimal() and wanted.port.isascii():
        number = int(wanted.port)
        if not 1 <= number <= 65535:
            raise UsageError(f"port {number} is not between 1 and 65535")
        return number
    for port in ports:
        if port.get("name") == wanted.port:
            return int(port["containerPort"])
    raise UsageError(f'pod "{wanted.name}" has no port of the name "{wanted.port}"')


def listen(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConflictError: the port is taken. UsageError: it is no address, or none of this machine's.
    """
    try:
        return bound(address, port, "tcp")
    except OSError as error:
        raise cannot_listen(address, port, Port(port, port), error) from error


def listen_unix(path: str) -> socket.socket:
    """A listening socket in the file system, for this user alone. One that is there, and that nobody listens on, is replaced.

    Raises:
        ConflictError: somebody listens there. StepError: it cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
            try:
                other.connect(path)
                raise ConflictError(f"{path} is taken: somebody listens there", resolution="Another path.")
            except ConnectionRefusedError:
                os.unlink(path)
            except FileNotFoundError:
                pass
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StepError("listen on", path, error.errno or 0) from error
    except BaseException:
        sock.close()
        raise
    return sock


class Proxy:
    """Serves on a socket while `serve` runs.

    Args:
        session: to the server.
        only: the one pod that everything leads to; None is all of them, by their paths, and a page that lists them.
        accept: which requests are let through; None is all, also those of strangers' pages.
    """

    def __init__(self, session: Session, only: Target | None = None, accept: Rules | None = None) -> None:
        self._session, self._only, self._accept = session, only, accept
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    @contextlib.asynccontextmanager
    async def serving(self, sock: socket.socket) -> AsyncIterator[None]:
        """Serve while the block runs; takes the socket over."""
        connector = TCPConnector(ssl=self._tls, limit=0)
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S)
        async with ClientSession(
            connector=connector, timeout=timeout, cookie_jar=DummyCookieJar(), auto_decompress=False,
            max_line_size=LINE_MAX, max_field_size=LINE_MAX,
        ) as self._http:  # fmt: skip
            server = web.Server(
                self._handle, handler_cancellation=True, access_log=None, auto_decompress=False, logger=_log(),
                max_line_size=LINE_MAX, max_field_size=LINE_MAX,
            )  # fmt: skip
            runner = web.ServerRunner(server, shutdown_timeout=LAST_WORDS_S)
            await runner.setup()
            try:
                await web.SockSite(runner, sock).start()
                yield
            finally:
                await runner.cleanup()
                sock.close()

    async def serve(self, sock: socket.socket) -> None:
        """Serve until cancelled; takes the socket over."""
        async with self.serving(sock):
            await asyncio.Event().wait()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if self._accept is not None:
                why = self._accept.refusal(request.method, request.path, request.headers)
                if why is not None:
                    raise Refused(403, f"Forbidden: {why}", "This keeps strangers' pages away from your pods.")
            return await self._answer(request)
        except Refused as refused:
            return _refusal(request, refused)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.raw_path.startswith("/"):
            raise Refused(400, "the request names a whole address, not a path")
        if self._only is not None:
            wanted, prefix, path = self._only, "", request.raw_path
        else:
            if request.path == "/":
                return await self._front()
            match = _POD_PATH.fullmatch(request.raw_path)
            if match is None:
                raise Refused(404, f"there is nothing at {request.path}", "The list of pods is at /.")
            namespace, word, below, query = match.groups("")
            if not below and request.method in ("GET", "HEAD"):
                where = {"Location": f"{request.raw_path[: match.end(2)]}/proxy/{query}"}
                return web.Response(status=301, headers=where)
            try:
                wanted = target(unquote(word), unquote(namespace))
            except UsageError as error:
                raise Refused(400, error.brief, error.resolution or "") from error
            prefix, path = request.raw_path[: match.end(2)] + "/proxy", (below or "/") + query
        place = await self._place(wanted, prefix)
        if _upgrade(request) and not request.can_read_body:
            return await self._upgraded(request, place, path)
        return await self._passed(request, place, path)

    async def _front(self) -> web.Response:
        pods = (await self._ask("pod.list", {})).get("pods") or []
        return web.Response(text=pods_page(pods), content_type="text/html", headers=_KEPT_NOWHERE)

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        call = Call()
        try:
            return (await in_thread(lambda: self._session.request(method, params, call=call), call.cancel)).result
        except NotFoundError as error:
            raise Refused(404, error.brief, "The list of pods is at /." if self._only is None else "") from error
        except NsrunError as error:
            raise Refused(503, error.brief, error.resolution or "") from error

    async def _place(self, wanted: Target, prefix: str) -> Place:
        pod = (await self._ask("pod.get", {"name": wanted.name, "namespace": wanted.namespace}))["pod"]
        try:
            port = port_of(pod, wanted)
        except UsageError as error:
            raise Refused(400, error.brief) from error
        address = pod.get("status", {}).get("podIP")
        if not address:
            phase = pod.get("status", {}).get("phase")
            raise Refused(503, f'pod "{wanted.name}" has no address: its phase is {phase}', "Try again in a moment.")
        return Place(address, port, wanted.tls, prefix)

    # requests

    async def _passed(self, request: web.BaseRequest, place: Place, path: str) -> web.StreamResponse:
        headers = _onwards(request, place, path)
        if place.prefix:
            # Pages are to be read; what comes compressed all the same passes as it is.
            headers["Accept-Encoding"] = "identity"
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        scheme = "https" if place.tls else "http"
        body = request.content if request.can_read_body else None
        try:
            async with self._http.request(
                request.method, URL(f"{scheme}://{place.written}{path}", encoded=True), headers=headers, data=body,
                allow_redirects=False, skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer:  # fmt: skip
                return await self._streamed(request, place, answer)
        except (ClientError, TimeoutError, ValueError) as error:
            raise _unreachable(place, error) from error

    async def _streamed(self, request: web.BaseRequest, place: Place, answer: ClientResponse) -> web.StreamResponse:
        own = request.headers.get("Host", "")
        others = (place.written, place.host)

        def change(address: str) -> str:
            return weblinks.rewritten(address, place.prefix, own, others)

        headers = _kept(answer.headers.items(), answer.headers.getall("Connection", ()), _CORS)
        if "Location" in headers:
            headers["Location"] = change(headers["Location"])
        if place.prefix and (cookies := headers.popall("Set-Cookie", None)):
            headers.extend(("Set-Cookie", weblinks.cookie(one, place.prefix)) for one in cookies)
        links = None
        if place.prefix and answer.content_type == "text/html" and "Content-Type" in headers:
            encoding = headers.get("Content-Encoding", "identity")
            if encoding == "identity" and "Location" not in headers:
                links = weblinks.LinkRewriter(change)
                headers.popall("Content-Length", None)
        response = _Verbatim(status=answer.status, reason=answer.reason, headers=headers)
        await response.prepare(request)
        try:
            async for data in answer.content.iter_any():
                passed = data if links is None else links.feed(data)
                if passed:
                    await response.write(passed)
            if links is not None and (rest := links.close()):
                await response.write(rest)
        except (ClientPayloadError, ClientConnectionError, TimeoutError):
            # The pod broke off: whoever reads is to learn that the rest is missing.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    # connections that leave HTTP behind

    async def _upgraded(self, request: web.BaseRequest, place: Place, path: str) -> web.StreamResponse:
        """Pass the request on by hand; what comes after the heads are bytes, both ways."""
        headers = _onwards(request, place, path)
        headers["Connection"], headers["Upgrade"] = "Upgrade", request.headers["Upgrade"]
        lines = [f"{request.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        try:
            async with asyncio.timeout(CONNECT_S):
                far, out = await asyncio.open_connection(
                    place.host, place.port, ssl=self._tls if place.tls else None, limit=HEAD_MAX
                )
        except (OSError, TimeoutError) as error:
            raise _unreachable(place, error) from error
        try:
            try:
                out.write("\r\n".join(lines).encode("utf-8", "surrogateescape"))
                head = await far.readuntil(b"\r\n\r\n")
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                raise _unreachable(place, error) from error
            if not head.startswith(b"HTTP/1.1 101"):
                # Refused: the rest is an answer like any other, to its end.
                head = re.sub(rb"(?im)^(?:connection|keep-alive):[^\r\n]*\r\n", b"", head)
                head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            await _carried(request, head, far, out)
        finally:
            out.close()
            with contextlib.suppress(OSError):
                await out.wait_closed()
        return _Gone()


class _Verbatim(web.StreamResponse):
    """An answer with the headers of the pod, and none that aiohttp would add for a page of its own."""

    async def _prepare_headers(self) -> None:
        own = {name for name in ("Content-Type", "Server", "Date") if name not in self.headers}
        await super()._prepare_headers()
        for name in own:
            self.headers.popall(name, None)


class _Gone(web.StreamResponse):
    """What aiohttp gets for a connection that was taken from it: nothing is to be sent."""

    async def prepare(self, _request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        return None


_KEPT_NOWHERE = {"Cache-Control": "no-store"}


class _Ours(logging.Filter):
    """What clients send that is no HTTP is answered with 400, and no failure of ours that somebody must read of."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _log() -> logging.Logger:
    log = logging.getLogger("nsrun.proxy")
    if not log.filters:
        log.addFilter(_Ours())
    return log


def _refusal(request: web.BaseRequest, refused: Refused) -> web.Response:
    reason = _REASONS[refused.code]
    if "text/html" in request.headers.get("Accept", ""):
        text, kind = refusal_page(refused.code, reason, refused.message, refused.hint), "text/html"
    else:
        text, kind = refusal_status(refused.code, reason, refused.message), "application/json"
    response = web.Response(status=refused.code, text=text, content_type=kind, headers=_KEPT_NOWHERE)
    if request.can_read_body:
        # What it wanted to send is not waited for.
        response.force_close()
    return response


def _unreachable(place: Place, error: BaseException) -> Refused:
    """In the API server's words, which are Go's."""
    match error:
        case ClientConnectorError() | ConnectionRefusedError() if error.errno and error.errno > 0:
            why = f"dial tcp {place.written}: connect: {os.strerror(error.errno).lower()}"
        case TimeoutError():
            why = f"dial tcp {place.written}: i/o timeout"
        case OSError() if error.errno and error.errno > 0:
            why = f"read tcp {place.written}: {os.strerror(error.errno).lower()}"
        case ClientConnectionError() | EOFError():
            why = f"{place.written}: {error or 'EOF'}"
        case _:
            why = f"{place.written}: {error}"
    hint = f"Nothing answers there. On the pod's loopback alone? nsrun pod port-forward POD {place.port} reaches that."
    return Refused(503, f"error trying to reach service: {why}", hint)


def _upgrade(request: web.BaseRequest) -> bool:
    return "upgrade" in _tokens(request.headers.getall("Connection", ())) and "Upgrade" in request.headers


def _tokens(values: Iterable[str]) -> set[str]:
    return {token.strip().lower() for value in values for token in value.split(",")}


def _kept(headers: Iterable[tuple[str, str]], connection: Iterable[str], also: Iterable[str] = ()) -> CIMultiDict[str]:
    """The headers that are not for one hop alone. What is no UTF-8 is taken for Latin-1, and goes on as UTF-8."""
    dropped = _HOP_BY_HOP.union(_tokens(connection), also)
    return CIMultiDict((name, _text(value)) for name, value in headers if name.lower() not in dropped)


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def _onwards(request: web.BaseRequest, place: Place, path: str) -> CIMultiDict[str]:
    """The headers for the pod: the request's own, Host too, and who asked for what."""
    headers = _kept(request.headers.items(), request.headers.getall("Connection", ()), ("expect",))
    client = request.remote or ""
    if client:
        headers["X-Forwarded-For"] = ", ".join([*headers.popall("X-Forwarded-For", ()), client])
    headers["X-Forwarded-Host"] = request.headers.get("Host", "")
    headers["X-Forwarded-Proto"] = "http"
    headers["X-Forwarded-Uri"] = place.prefix + path.partition("?")[0]
    return headers


async def _carried(request: web.BaseRequest, head: bytes, far: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    """Take the connection from aiohttp and carry bytes until one side has ended."""
    transport = request.transport
    if transport is None:
        return
    loop = asyncio.get_running_loop()
    near = asyncio.StreamReader(CHUNK, loop)
    protocol = asyncio.StreamReaderProtocol(near)
    former = request.protocol
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    back = asyncio.StreamWriter(transport, protocol, near, loop)
    try:
        back.write(head)
        ways = {asyncio.ensure_future(_pump(near, out)), asyncio.ensure_future(_pump(far, back))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    finally:
        with contextlib.suppress(OSError):
            back.close()
            await back.wait_closed()
        # It is not told of its connection's end any more.
        former.connection_lost(None)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def in_background(
    session: Session, address: str, port: int, only: Target | None, accept: Rules | None = None
) -> Iterator[str]:
    """Serve in a thread while the block runs.

    Returns:
        The address: `http://127.0.0.1:8001`.

    Raises:
        ConflictError: the port is taken. UsageError: the address is none of this machine's.
    """
    from threading import Thread

    sock = listen(address, port)
    host, number = sock.getsockname()[:2]
    loop = asyncio.new_event_loop()
    task = loop.create_task(Proxy(session, only, rules() if accept is None else accept).serve(sock))

    def run() -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        finally:
            loop.close()

    thread = Thread(target=run, name="nsrun-proxy", daemon=True)
    thread.start()
    try:
        yield f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
