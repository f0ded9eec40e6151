"""GET of an object, and of a list.

Source: apiserver pkg/endpoints/handlers/get.go, pkg/storage/cacher/cacher.go, apimachinery pkg/apis/meta/
internalversion/validation (v1.36).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from nsrun.api.answers import answer
from nsrun.api.cache import Cache, Entry
from nsrun.api.forms.negotiation import Wanted
from nsrun.api.link import Link
from nsrun.api.paths import Target
from nsrun.api.selecting import Selection
from nsrun.api.views import View
from nsrun.errors import StatusError
from nsrun.spec import api_status
from nsrun.spec.field_errors import FORBIDDEN, INVALID, UNSUPPORTED, FieldError, quote

LIST_TOO_OLD = "the resourceVersion for the provided list is too old."
CONTINUE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue"
    " parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided"
    " token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was"
    " returned and now may show up in the list."
)


class Reader:
    """Answers reads.

    Args:
        link: for consistency.
        cache: has the answers.
    """

    def __init__(self, link: Link, cache: Cache) -> None:
        self._link = link
        self._cache = cache

    async def recent(self, version_text: str, *, any_will_do: bool = True) -> None:
        """Until the cache is as new as a request wants it.

        Args:
            version_text: its resourceVersion: "" wants the newest there is, "0" takes anything.
            any_will_do: whether "0" means that.

        Raises:
            StatusError: no version, or one that is not there yet.
            ServerError: there is no server to ask.
        """
        if version_text == "":
            await self._link.barrier()
            return
        wanted = version_number(version_text)
        if wanted == 0 and any_will_do:
            if self._cache.version == 0:
                await self._link.ready()
            return
        if wanted > self._cache.version:
            await self._link.barrier()
        if wanted > self._cache.version:
            raise too_large(wanted, self._cache.version)

    async def found(self, target: Target, version_text: str = "") -> Entry:
        """The object that a path names.

        Raises:
            StatusError: there is none.
        """
        await self.recent(version_text)
        entry = self._cache.get(target.kind, target.namespace, target.name)
        if entry is None:
            raise api_status.not_found(target.resource, target.name)
        return entry

    async def get(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """One object."""
        query = request.query
        entry = await self.found(target, query.get("resourceVersion", ""))
        view = View(target.resource, form, query.get("includeObject", "Metadata"))
        return answer(request, view.one(entry), form)

    async def list(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.Response:
        """The objects of a collection, or a part of them."""
        query = request.query
        selection = Selection(target, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        page = await self._page(selection, query)
        metadata: dict[str, object] = {"resourceVersion": str(page.version)}
        if page.resume:
            metadata["continue"] = page.resume
        if page.remaining:
            metadata["remainingItemCount"] = page.remaining
        view = View(target.resource, form, query.get("includeObject", "Metadata"))
        return answer(request, view.many(page.entries, metadata), form)

    async def _page(self, selection: Selection, query: Mapping[str, str]) -> _Page:
        version_text = query.get("resourceVersion", "")
        match = query.get("resourceVersionMatch", "")
        token = query.get("continue", "")
        limit = number(query, "limit")
        _judge(version_text, match, token)
        if token:
            version, start = _read(token)
            await self.recent("")
            entries = self._cache.at(selection.kind, selection.namespace, version) if version > 0 else None
            if entries is None:
                if version > 0:
                    raise expired(CONTINUE_TOO_OLD)
                version = self._cache.version
                entries = self._cache.of(selection.kind, selection.namespace)
            entries = [entry for entry in entries if entry.key > start]
        else:
            await self.recent(version_text)
            version = self._cache.version
            if match == "Exact":
                version = version_number(version_text)
                exact = self._cache.at(selection.kind, selection.namespace, version)
                if exact is None:
                    raise expired(LIST_TOO_OLD)
                entries = exact
            else:
                entries = self._cache.of(selection.kind, selection.namespace)
            if version_text == "0" and not match:
                # Any version will do: then all of it, as from the API server's cache.
                limit = 0
        if selection.narrow:
            entries = [entry for entry in entries if selection.holds(entry)]
        if not limit or len(entries) <= limit:
            return _Page(entries, version, "", 0)
        rest = 0 if selection.narrow else len(entries) - limit
        entries = entries[:limit]
        return _Page(entries, version, _write(version, entries[-1].key), rest)


class _Page(NamedTuple):
    entries: list[Entry]
    version: int
    resume: str
    remaining: int


def version_number(text: str) -> int:
    """A resourceVersion.

    Raises:
        StatusError: it is none.
    """
    if text == "":
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        why = f"strconv.ParseUint: parsing {quote(text)}: invalid syntax"
        raise api_status.bad_request(str(FieldError("resourceVersion", INVALID, why, text)))
    return int(text)


def number(query: Mapping[str, str], name: str) -> int:
    """A number of a query; 0 where there is none, or none that is one."""
    said = query.get(name, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 19 else 0


def flag(query: Mapping[str, str], name: str) -> bool:
    """A truth of a query, as queryparams of apimachinery reads it: there and not said to be false."""
    said = query.get(name)
    return said is not None and said.lower() not in ("0", "false")


def too_large(wanted: int, current: int) -> StatusError:
    """504: a version that nobody has told of yet."""
    return api_status.refusal(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


def expired(message: str) -> StatusError:
    """410: too long ago."""
    return api_status.refusal(410, "Expired", message)


def _judge(version_text: str, match: str, token: str) -> None:
    problem = ""
    if match and token:
        problem = "resourceVersionMatch is forbidden when continue is provided"
    elif match and not version_text:
        problem = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match == "Exact" and version_text == "0":
        problem = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    elif token and version_text not in ("", "0"):
        raise api_status.bad_request("specifying resource version is not allowed when using continue")
    if problem:
        raise options_refused("resourceVersionMatch", problem)
    if match not in ("", "Exact", "NotOlderThan"):
        why = 'supported values: "Exact", "NotOlderThan", ""'
        error = FieldError("resourceVersionMatch", UNSUPPORTED, why, match)
        raise api_status.invalid("ListOptions", "", [error], group="meta.k8s.io")


def options_refused(field: str, why: str) -> StatusError:
    """422: options that do not go together."""
    return api_status.invalid("ListOptions", "", [FieldError(field, FORBIDDEN, why)], group="meta.k8s.io")


def _write(version: int, key: tuple[str, str]) -> str:
    data = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": f"{key[0]}/{key[1]}"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).rstrip(b"=").decode()


def _read(token: str) -> tuple[int, tuple[str, str]]:
    try:
        data = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, slash, name = data["start"].partition("/")
        if data["v"] != "meta.k8s.io/v1" or not slash:
            raise ValueError(data["v"])
        return int(data["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise api_status.bad_request(f"continue key is not valid: {error}") from None
