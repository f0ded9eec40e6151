"""Watches: changes as they come, to whoever wants them.

A watch is a place in the cache's history. Watches that want the same objects in the same form are one audience: what happened is
selected and encoded once for all of it, and the same bytes are handed to each connection. A connection that does not take its bytes
stays behind alone, at its own place; when the history has forgotten that place, the watch ends with 410 Gone.

Telling takes at most half of the process's time: after telling for t seconds nothing is told for t seconds. With few watches or
changes nobody notices; with many of both, changes go out together.

Source: apiserver pkg/endpoints/handlers/watch.go, get.go, pkg/storage/cacher/cache_watcher.go (v1.36).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from aiohttp import web

from nsrun.api.answers import UNCACHED, refused, status_object, status_of
from nsrun.api.cache import Cache, Entry, Step
from nsrun.api.connections import Guarded
from nsrun.api.forms.negotiation import PROTOBUF, Wanted
from nsrun.api.paths import Target
from nsrun.api.reading import Reader, expired, flag, number, options_refused, version_number
from nsrun.api.selecting import Selection
from nsrun.api.views import View
from nsrun.errors import NsrunError, StatusError

BEHIND_BYTES = 64 * 1024
"""Bytes beyond the kernel's buffer that a connection may have left unread before it stays behind."""
STUCK_S = 60.0
"""Who stays behind for as long does not read any more."""
SLICE_BYTES = 64 * 1024
"""Of what there is at first, as much is written at a time."""
LOOK_S = 0.05
"""How often those that stay behind are looked at."""
BOOKMARK_S = 60.0
"""Between bookmarks."""
LAST_BOOKMARK_S = 2.0
"""Before the end of a watch."""
MINIMUM_S = 1800.0
"""A watch whose client says nothing lasts between this and twice this."""


class Watch:
    """One client's watch.

    Args:
        response: prepared; its connection gets the events.
        transport: of the connection.
        number: the place in the history.
    """

    __slots__ = ("behind_since", "bookmarks", "done", "fresh", "number", "response", "transport")

    def __init__(
        self, response: web.StreamResponse, transport: asyncio.Transport, number: int, *, bookmarks: bool
    ) -> None:
        self.response = response
        self.transport = transport
        self.number = number
        self.bookmarks = bookmarks
        self.behind_since = 0.0
        self.fresh = True
        """Nothing was told yet."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        """Hand over bytes, framed already where the response is chunked."""
        if not self.transport.is_closing():
            self.transport.write(data)

    @property
    def behind(self) -> bool:
        """The client does not take what it is given.

        Not behind is one that is gone: asyncio's TLS transport has no buffer then that one could ask for.
        """
        return not self.transport.is_closing() and self.transport.get_write_buffer_size() > BEHIND_BYTES

    def stuck(self, now: float) -> bool:
        """Whether one that is behind has been for too long."""
        self.behind_since = self.behind_since or now
        return now - self.behind_since > STUCK_S

    def end(self) -> None:
        """Have it come to its end."""
        if not self.done.done():
            self.done.set_result(None)


class Audience:
    """The watches that want the same in the same form."""

    def __init__(self, selection: Selection, view: View, *, chunked: bool) -> None:
        self.selection = selection
        self.view = view
        self.chunked = chunked
        self.watches: set[Watch] = set()

    def framed(self, data: bytes) -> bytes:
        """Bytes as one chunk of HTTP."""
        return b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data


class Watching:
    """All watches.

    Args:
        cache: whose history they are places in.
        reader: for how new a watch's beginning has to be.
    """

    def __init__(self, cache: Cache, reader: Reader) -> None:
        self._cache = cache
        self._reader = reader
        self._audiences: dict[object, Audience] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._free_at = 0.0
        self._closing = False
        self._bookmarks: asyncio.TimerHandle | None = None
        cache.on_steps = self.soon

    def __len__(self) -> int:
        return sum(len(audience.watches) for audience in self._audiences.values())

    async def serve(self, request: web.BaseRequest, target: Target, form: Wanted) -> web.StreamResponse:
        """Answer a watch, to its end."""
        query = request.query
        selection = Selection(target, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        view = View(target.resource, form, query.get("includeObject", "Metadata"))
        version_text = query.get("resourceVersion", "")
        bookmarks = flag(query, "allowWatchBookmarks")
        initial = _initial(query.get("sendInitialEvents"), query.get("resourceVersionMatch", ""), version_text)
        version = version_number(version_text)
        if initial or version == 0:
            await self._reader.recent(version_text)
        elif version > self._cache.version:
            await self._reader.recent("")
        try:
            number_, entries = self._beginning(selection, version, initial=initial)
        except StatusError as error:
            return await _only(request, view, form, error)
        told_version = self._cache.version
        chunked = request.version >= (1, 1)
        key = (selection.key, view.key, chunked)
        response, transport = await _begun(request, form, chunked=chunked)
        watch = Watch(response, transport, number_, bookmarks=bookmarks)
        protocol = request.protocol
        if isinstance(protocol, Guarded):
            protocol.on_lost = watch.end
        timers = self._timers(watch, _lasting(number(query, "timeoutSeconds")), key)
        try:
            audience = self._audiences.get(key) or Audience(selection, view, chunked=chunked)
            await self._tell_beginning(watch, audience, entries)
            if bookmarks and initial:
                watch.write(audience.framed(view.bookmark(told_version, initial_end=True)))
            audience = self._audiences.setdefault(key, audience)
            await self._follow(watch, key, audience)
        finally:
            for timer in timers:
                timer.cancel()
        if watch.behind:
            transport.abort()
        if transport.is_closing():
            return response
        if bookmarks and watch.number >= self._cache.last:
            watch.write(audience.framed(view.bookmark(self._cache.version)))
        await response.write_eof()
        return response

    def _timers(self, watch: Watch, lasting_s: float, key: object) -> list[asyncio.TimerHandle]:
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(lasting_s, watch.end)]
        if watch.bookmarks and lasting_s > LAST_BOOKMARK_S:
            timers.append(loop.call_later(lasting_s - LAST_BOOKMARK_S, self._last_bookmark, watch, key))
        return timers

    def _beginning(self, selection: Selection, version: int, *, initial: bool | None) -> tuple[int, list[Entry]]:
        """The place to go on from, and the objects that are told of first.

        Raises:
            StatusError: what is to be told of is forgotten.
        """
        if initial or (initial is None and version == 0):
            entries = [one for one in self._cache.of(selection.kind, selection.namespace) if selection.holds(one)]
            return self._cache.last, entries
        if version == 0:
            return self._cache.last, []
        # One that nobody gave yet: the clock was set back over a restart of the machine, and whoever has it has to look anew.
        if version < self._cache.oldest or version > self._cache.version:
            raise expired(f"too old resource version: {version} ({self._cache.oldest})")
        return self._cache.number_at(version), []

    async def _tell_beginning(self, watch: Watch, audience: Audience, entries: Iterable[Entry]) -> None:
        """Tell of what there is, in slices, as fast as the client takes them."""
        batch: list[bytes] = []
        size = 0
        for entry in entries:
            data = audience.view.event("ADDED", entry, columns=watch.fresh)
            watch.fresh = False
            batch.append(data)
            size += len(data)
            if size >= SLICE_BYTES:
                await _written(watch, batch)
                batch, size = [], 0
        if batch:
            await _written(watch, batch)

    async def _follow(self, watch: Watch, key: object, audience: Audience) -> None:
        audience.watches.add(watch)
        if self._bookmarks is None:
            self._bookmarks = asyncio.get_running_loop().call_later(BOOKMARK_S, self._all_bookmarks)
        if self._closing:
            watch.end()
        self.soon()
        try:
            await watch.done
        finally:
            audience.watches.discard(watch)
            if not audience.watches:
                self._audiences.pop(key, None)

    def close(self) -> None:
        """End all watches, also those that begin later."""
        self._closing = True
        for audience in self._audiences.values():
            for watch in audience.watches:
                watch.end()

    # telling

    def soon(self) -> None:
        """Tell all watches what they do not know yet, as soon as their share of the time allows it."""
        if self._timer is None and self._audiences:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._free_at), self._tell)

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        # First of all: with this timer's name still up, whatever goes wrong below would silence every watch for ever.
        self._timer = None
        encoded: dict[object, bytes] = {}
        behind = False
        for audience in self._audiences.values():
            behind |= self._tell_audience(audience, encoded)
        took = loop.time() - began
        self._free_at = loop.time() + took
        if behind:
            self._free_at = max(self._free_at, began + LOOK_S)
            self.soon()

    def _tell_audience(self, audience: Audience, encoded: dict[object, bytes]) -> bool:
        """Whether somebody stays behind."""
        last = self._cache.last
        now = asyncio.get_running_loop().time()
        behind = False
        messages: dict[tuple[int, bool], bytes | None] = {}
        for watch in audience.watches:
            if watch.number >= last:
                continue
            if watch.behind:
                behind = True
                if watch.stuck(now):
                    watch.end()
                continue
            watch.behind_since = 0.0
            place = (watch.number, watch.fresh)
            if place not in messages:
                messages[place] = self._message(audience, watch.number, encoded, fresh=watch.fresh)
            message = messages[place]
            if message is None:
                watch.write(audience.framed(_gone(audience.view, self._cache)))
                watch.end()
                continue
            watch.number = last
            if message:
                watch.fresh = False
                watch.write(message)
        return behind

    def _message(self, audience: Audience, number_: int, encoded: dict[object, bytes], *, fresh: bool) -> bytes | None:
        """What happened behind a place, framed; empty when nothing did that the audience cares for, None when it is forgotten."""
        steps = self._cache.after(number_)
        if steps is None:
            return None
        parts: list[bytes] = []
        for step in steps:
            found = _change(audience.selection, step)
            if found is None:
                continue
            change, entry = found
            columns = fresh and not parts
            key = (audience.view.key, step.number, change, entry is step.entry, columns)
            data = encoded.get(key)
            if data is None:
                data = encoded[key] = audience.view.event(change, entry, columns=columns)
            parts.append(data)
        return audience.framed(b"".join(parts)) if parts else b""

    def _last_bookmark(self, watch: Watch, key: object) -> None:
        audience = self._audiences.get(key)
        if audience is not None and watch in audience.watches and watch.number >= self._cache.last and not watch.behind:
            watch.write(audience.framed(audience.view.bookmark(self._cache.version)))

    def _all_bookmarks(self) -> None:
        self._bookmarks = None
        for audience in self._audiences.values():
            data = audience.framed(audience.view.bookmark(self._cache.version))
            for watch in audience.watches:
                if watch.bookmarks and watch.number >= self._cache.last and not watch.behind:
                    watch.write(data)
        if self._audiences:
            self._bookmarks = asyncio.get_running_loop().call_later(BOOKMARK_S, self._all_bookmarks)


def _change(selection: Selection, step: Step) -> tuple[str, Entry] | None:
    """What a change is to those who see a part of the objects."""
    entry, before = step.entry, step.before
    if entry.kind != selection.kind:
        return None
    if selection.namespace is not None and entry.key[0] != selection.namespace:
        return None
    was = before is not None and selection.holds(before)
    if step.gone:
        return ("DELETED", entry) if was else None
    if selection.holds(entry):
        return ("MODIFIED" if was else "ADDED"), entry
    if was and before is not None:
        return "DELETED", before.with_version(entry.version)
    return None


def _gone(view: View, cache: Cache) -> bytes:
    error = expired(f"too old resource version: the watch was too slow ({cache.oldest})")
    return view.frame("ERROR", status_object(status_of(error)))


def _initial(said: str | None, match: str, version_text: str) -> bool | None:
    """What `sendInitialEvents` says, or None.

    Raises:
        StatusError: it does not go together with the rest.
    """
    if said is None:
        if match:
            raise options_refused(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        return None
    if match != "NotOlderThan":
        raise options_refused(
            "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    del version_text
    return said.lower() not in ("0", "false")


def _lasting(said_s: int) -> float:
    """How long a watch lasts: many that began together must not end together."""
    return float(said_s) if said_s else MINIMUM_S * (1 + random.random())  # noqa: S311 - no secret


async def _begun(
    request: web.BaseRequest, form: Wanted, *, chunked: bool
) -> tuple[web.StreamResponse, asyncio.Transport]:
    response = web.StreamResponse(headers={"Cache-Control": UNCACHED})
    response.content_type = form.media if form.media != PROTOBUF else f"{PROTOBUF};stream=watch"
    if chunked:
        response.enable_chunked_encoding()
    await response.prepare(request)
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionResetError("the client is gone")
    return response, transport


async def _only(request: web.BaseRequest, view: View, form: Wanted, error: NsrunError) -> web.StreamResponse:
    """A watch that is over at once, as the API server answers one from too long ago."""
    try:
        chunked = request.version >= (1, 1)
        response, _ = await _begun(request, form, chunked=chunked)
    except ConnectionResetError:
        return refused(error)
    await response.write(view.frame("ERROR", status_object(status_of(error))))
    await response.write_eof()
    return response


async def _written(watch: Watch, batch: list[bytes]) -> None:
    """Write as much as the client takes.

    Raises:
        ConnectionError: it is gone, or takes nothing any more.
    """
    try:
        async with asyncio.timeout(STUCK_S):
            await watch.response.write(b"".join(batch))
    except TimeoutError:
        watch.transport.abort()
        raise ConnectionResetError("the client does not read") from None
