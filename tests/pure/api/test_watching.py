"""Telling watches: one that is gone, or that cannot be told, silences no other."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web

from nsrun.api.cache import Cache
from nsrun.api.forms.negotiation import Wanted
from nsrun.api.paths import Target
from nsrun.api.reading import Reader
from nsrun.api.selecting import Selection
from nsrun.api.views import View
from nsrun.api.watching import Audience, Watch, Watching
from nsrun.spec.resources_table import kept_kind
from tests.pure.api.test_cache import bookmark, change, told

pytestmark = pytest.mark.pure


class Transport(asyncio.Transport):
    """Of a connection; one that is gone is like asyncio's of TLS then: asked for its buffer, it fails."""

    def __init__(self, *, gone: bool = False) -> None:
        super().__init__()
        self.gone = gone
        self.written = b""

    def is_closing(self) -> bool:
        return self.gone

    def get_write_buffer_size(self) -> int:
        if self.gone:
            raise AttributeError("'NoneType' object has no attribute '_get_write_buffer_size'")
        return 0

    def write(self, data: Any) -> None:
        assert not self.gone
        self.written += bytes(data)


def audience_of(watching: Watching, cache: Cache, *transports: Transport, name: str = "") -> Audience:
    target = Target(kept_kind("Pod"), name=name)
    found = Audience(Selection(target), View(target.resource, Wanted()), chunked=False)
    for transport in transports:
        found.watches.add(Watch(cast(web.StreamResponse, None), transport, cache.last, bookmarks=False))
    watching._audiences[name] = found
    return found


async def told_soon(cache: Cache, name: str, version: int) -> None:
    cache.take(change("Pod", name, version))
    await asyncio.sleep(0.01)


def test_who_is_gone_silences_nobody() -> None:
    there = Transport()

    async def main() -> None:
        cache = told(bookmark(4))
        watching = Watching(cache, cast(Reader, None))
        audience = audience_of(watching, cache, Transport(gone=True), there)
        assert not any(watch.behind for watch in audience.watches)
        await told_soon(cache, "first", 5)
        await told_soon(cache, "second", 6)

    asyncio.run(main())
    assert b'"first"' in there.written
    assert b'"second"' in there.written


def test_a_change_that_cannot_be_told_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Transport()
    failures: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context["exception"]))
        cache = told(bookmark(4))
        watching = Watching(cache, cast(Reader, None))
        audience = audience_of(watching, cache, there)
        with monkeypatch.context() as patched:
            patched.setattr(audience.view, "event", lambda *_, **__: 1 / 0)
            await told_soon(cache, "first", 5)
        assert there.written == b""
        await told_soon(cache, "second", 6)

    asyncio.run(main())
    assert [type(one) for one in failures] == [ZeroDivisionError]
    assert b'"first"' in there.written
    assert b'"second"' in there.written
