"""One request, from its path to its answer."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections import Counter
from functools import lru_cache

from aiohttp import web

from nsrun.api import answers, paths
from nsrun.api.authentication import Authenticator
from nsrun.api.bodies import BODY_MAX
from nsrun.api.cache import Cache
from nsrun.api.forms import discovery
from nsrun.api.forms.negotiation import JSON, PROTOBUF, Wanted, wanted
from nsrun.api.link import Link
from nsrun.api.metrics import Metrics
from nsrun.api.paths import Target
from nsrun.api.questions import Questions
from nsrun.api.reading import Reader, flag
from nsrun.api.roles import Caller, may
from nsrun.api.watching import Watching
from nsrun.api.writing import Writer
from nsrun.errors import NsrunError, StatusError
from nsrun.spec import api_status

_LOG = logging.getLogger("nsrun.api")
IN_FLIGHT_MAX = 256
"""Requests of one caller at a time, streams and watches not among them; the API server's limit is 400 for all."""
METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
NO_METHOD = "the server does not allow this method on the requested resource"
NO_RESOURCE = "the server could not find the requested resource"
HEALTH = frozenset(["/healthz", "/livez", "/readyz"])


class Api:
    """Everything that answers requests.

    Args:
        link: to the server.
        cache: fed by it.
        authenticator: tells callers apart.
        address: `host:port` where clients find this, for discovery.
    """

    def __init__(self, link: Link, cache: Cache, authenticator: Authenticator, address: str = "") -> None:
        self.link = link
        self.cache = cache
        self.reader = Reader(link, cache)
        self.watching = Watching(cache, self.reader)
        self.writer = Writer(link, cache, self.reader)
        self.questions = Questions()
        self.metrics = Metrics(link)
        self._authenticator = authenticator
        self._address = address
        self._in_flight: Counter[str] = Counter()
        self._answered: Counter[tuple[str, int]] = Counter()

    def application(self) -> web.Application:
        """The application: one route, because paths mean here what they mean to an API server."""
        app = web.Application(client_max_size=BODY_MAX)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            response = await self._answered_by(request)
        except NsrunError as error:
            if not isinstance(error, StatusError) and error.code != "server":
                _LOG.warning("%s %s: %s", request.method, request.path, error.brief)
            response = answers.refused(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            _LOG.exception("%s %s", request.method, request.path)
            response = answers.refused(
                api_status.refusal(500, "InternalError", "Internal error occurred: a bug of nsrun's")
            )
        method = request.method if request.method in METHODS else "other"
        self._answered[method, response.status] += 1
        return response

    async def _answered_by(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path.partition("?")[0]
        parts = paths.segments(raw)
        if parts is None:
            return answers.text(404, "404 page not found\n")
        caller = self._authenticator.caller(request, anonymous_too=raw in HEALTH)
        if not parts or parts[0] not in ("api", "apis") or len(parts) < 3 or (parts[0] == "apis" and len(parts) < 4):
            may(caller, "get" if request.method in ("GET", "HEAD") else request.method.lower(), None)
            return await self._document(request, "/" + "/".join(parts))
        target = paths.target(parts)
        if target is None:
            raise api_status.refusal(404, "NotFound", NO_RESOURCE, details={})
        watch = flag(request.query, "watch")
        verb = paths.verb(request.method, target, watch=watch)
        self._judge(target, verb)
        may(caller, verb, target)
        if target.subresource is not None and target.subresource.name in paths.STREAMS:
            return await self._stream(request, target)
        # What nobody keeps has no columns, and neither has what has become of a collection.
        shapes = verb != "deletecollection" and (verb != "create" or target.resource.kept)
        form = _form(request.headers.get("Accept", ""), shapes=shapes)
        if verb == "watch":
            return await self.watching.serve(request, target, form)
        if self._in_flight[caller.name] >= IN_FLIGHT_MAX:
            raise api_status.refusal(
                429,
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
                details={"retryAfterSeconds": 1},
            )
        self._in_flight[caller.name] += 1
        try:
            return await self._ordinary(request, target, verb, form, caller)
        finally:
            self._in_flight[caller.name] -= 1
            if not self._in_flight[caller.name]:
                del self._in_flight[caller.name]

    def _judge(self, target: Target, verb: str) -> None:
        """Whether the path has the method.

        Raises:
            StatusError: it has not.
        """
        verbs = target.subresource.verbs if target.subresource is not None else target.resource.verbs
        if verb not in verbs:
            raise api_status.refusal(405, "MethodNotAllowed", NO_METHOD, details={})

    async def _stream(self, request: web.Request, target: Target) -> web.StreamResponse:
        from nsrun.api import streams

        entry = await self.reader.found(target)
        assert target.subresource is not None
        return await streams.serve(request, entry.object, target.subresource.name, self.link)

    async def _ordinary(
        self, request: web.Request, target: Target, verb: str, form: Wanted, caller: Caller
    ) -> web.Response:
        part = target.subresource.name if target.subresource is not None else ""
        if target.resource.group == "metrics.k8s.io":
            return await self.metrics.answer(request, target, form, self.cache, self.reader)
        if not target.resource.kept and verb == "create":
            return await self.questions.answer(request, target, form, caller)
        match verb:
            case "get":
                return await self.reader.get(request, target, form)
            case "list":
                return await self.reader.list(request, target, form)
            case "create":
                if part == "eviction":
                    return await self.writer.evict(request, target, form)
                if part:
                    raise api_status.refusal(
                        501, "NotImplemented", f"{target.resource.plural}/{part} is not served here"
                    )
                return await self.writer.create(request, target, form)
            case "update":
                return await self.writer.update(request, target, form)
            case "patch":
                return await self.writer.patch(request, target, form)
            case "delete":
                return await self.writer.delete(request, target, form)
        return await self.writer.delete_collection(request, target, form)

    # what is about the server itself

    async def _document(self, request: web.Request, path: str) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise api_status.refusal(405, "MethodNotAllowed", NO_METHOD, details={})
        if path == "/version":
            return answers.answer(request, dict(discovery.version(platform.machine())), Wanted())
        if path == "/":
            return answers.answer(request, {"paths": self._paths()}, Wanted())
        if path in HEALTH or path.startswith(("/healthz/", "/livez/", "/readyz/")):
            return await self._health(path)
        if path == "/metrics":
            return answers.text(200, self._own_metrics())
        if path.startswith("/openapi/"):
            found = self._openapi(request, path)
            if found is not None:
                return found
        return self._discovered(request, path)

    def _paths(self) -> list[str]:
        own = ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        return sorted([*discovery.paths(), *own])

    def _discovered(self, request: web.Request, path: str) -> web.Response:
        found = discovery.answer(path, request.headers.get("Accept", "") or JSON, address=self._address)
        if found is None:
            if path.startswith(("/api", "/apis")):
                raise api_status.refusal(404, "NotFound", NO_RESOURCE, details={})
            return answers.text(404, "404 page not found\n")
        headers = {"Cache-Control": answers.UNCACHED, "Content-Type": found.content_type}
        if found.etag:
            headers |= {"Cache-Control": "public", "Etag": f'"{found.etag.strip(chr(34))}"', "Vary": "Accept"}
            if request.headers.get("If-None-Match") == headers["Etag"]:
                return web.Response(status=304, headers=headers)
        body = found.body
        if answers.wants_lines(request):
            body = answers.encoded(body, Wanted(), lines=True)
        return web.Response(body=body, headers=headers)

    async def _health(self, path: str) -> web.Response:
        """Alive is who answers; ready is who has a server."""
        if path.startswith("/readyz") and not self.link.synced:
            try:
                await self.link.ready(1.0)
            except NsrunError as error:
                return answers.text(500, f"[-]nsrun-server failed: {error.brief}\nreadyz check failed\n")
        return answers.text(200, "ok")

    def _openapi(self, request: web.Request, path: str) -> web.Response | None:
        from nsrun.api.forms import openapi

        found: openapi.Document | None
        if path == "/openapi/v2":
            found = openapi.v2(request.headers.get("Accept", ""))
        elif path == "/openapi/v3":
            found = openapi.v3_index()
        else:
            found = openapi.v3(path.removeprefix("/openapi/v3/"))
        if found is None:
            return None
        headers = {"Cache-Control": answers.UNCACHED, "Content-Type": found.content_type, "Vary": "Accept"}
        headers["Etag"] = f'"{found.etag.strip(chr(34))}"'
        if request.query.get("hash") == found.hash:
            # Whoever asks by its hash may keep it: with another content it has another one.
            headers |= {"Cache-Control": "public, immutable"}
        if request.headers.get("If-None-Match") == headers["Etag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, headers=headers)

    def _own_metrics(self) -> str:
        changes, size = self.cache.remembered
        lines = [
            "# HELP nsrun_api_requests_total Answered requests.",
            "# TYPE nsrun_api_requests_total counter",
            *(
                f'nsrun_api_requests_total{{method="{method}",code="{code}"}} {count}'
                for (method, code), count in sorted(self._answered.items())
            ),
            "# HELP nsrun_api_watches Watches that are open.",
            "# TYPE nsrun_api_watches gauge",
            f"nsrun_api_watches {len(self.watching)}",
            "# HELP nsrun_api_objects Objects in the cache.",
            "# TYPE nsrun_api_objects gauge",
            *(f'nsrun_api_objects{{kind="{kind}"}} {count}' for kind, count in sorted(self.cache.counts())),
            "# HELP nsrun_api_history_changes Changes that are remembered.",
            "# TYPE nsrun_api_history_changes gauge",
            f"nsrun_api_history_changes {changes}",
            "# HELP nsrun_api_history_bytes Bytes of what is remembered.",
            "# TYPE nsrun_api_history_bytes gauge",
            f"nsrun_api_history_bytes {size}",
            "# HELP nsrun_api_connected Whether there is a server.",
            "# TYPE nsrun_api_connected gauge",
            f"nsrun_api_connected {int(self.link.synced)}",
        ]
        return "\n".join(lines) + "\n"


@lru_cache(maxsize=256)
def _form(accept: str, *, shapes: bool) -> Wanted:
    """The form of an answer. Who takes protobuf nearly always takes JSON as well, which is there already."""
    found = wanted(accept, shapes=shapes)
    if found.media != PROTOBUF:
        return found
    others = [clause for clause in accept.split(",") if PROTOBUF not in clause]
    try:
        return wanted(",".join(others), shapes=shapes) if others else found
    except StatusError:
        return found
