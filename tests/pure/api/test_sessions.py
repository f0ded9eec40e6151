"""The streams of a SPDY connection: what is kept, what is refused, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.api.streams import session as sessions
from nsrun.api.streams import spdy
from nsrun.api.streams.session import Carrier, Session, Stream
from tests.pure.api.test_spdy import encoded, frames

pytestmark = pytest.mark.pure


class Wire(Carrier):
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, *parts: bytes) -> None:
        self.sent += b"".join(parts)

    async def drain(self) -> None:
        return

    def frames(self) -> list[spdy.Frame]:
        return spdy.Decoder().feed(self.sent)


def run(wanted: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(wanted, 20))


def test_a_stream_is_answered_read_and_ended() -> None:
    async def scenario() -> None:
        wire, opened, client = Wire(), [], spdy.Encoder()
        session = Session(wire, lambda stream: opened.append(stream))
        session.feed(client.syn_stream(1, {"streamtype": "data", "port": "80"}))
        stream = opened[0]
        assert stream.headers == {"streamtype": "data", "port": "80"}
        session.feed(spdy.data_head(1, 3) + b"abc" + spdy.data_head(1, 3, fin=True) + b"def")
        assert [await stream.read() for _ in range(4)] == [b"abc", b"def", b"", b""]
        await stream.write(b"answer")
        stream.finish()
        assert wire.frames() == [
            spdy.SynReply(1, {}),
            spdy.Data(1, b"answer"),
            spdy.Data(1, b"", True),
        ]
        assert session.streams == {}
        assert session.held == 0
        with pytest.raises(ConnectionResetError):
            await stream.write(b"more")

    run(scenario())


def test_pings_of_the_client_are_answered_and_goaway_ends_an_idle_connection() -> None:
    async def scenario() -> None:
        wire = Wire()
        session = Session(wire, lambda _: None)
        session.feed(spdy.ping(7) + spdy.ping(8))
        assert wire.frames() == [spdy.Ping(7)]
        session.feed(spdy.goaway(0, 0))
        await session.closed

    run(scenario())


def test_streams_of_wrong_numbers_or_too_many_are_refused() -> None:
    async def scenario() -> None:
        wire, client = Wire(), spdy.Encoder()
        session = Session(wire, lambda _: None)
        for number in (2, 5, 5, 3):
            session.feed(client.syn_stream(number, {}))
        refused = [frame for frame in wire.frames() if isinstance(frame, spdy.RstStream)]
        assert refused == [spdy.RstStream(number, spdy.PROTOCOL_ERROR) for number in (2, 5, 3)]
        for number in range(7, 7 + 2 * sessions.STREAMS_MAX, 2):
            session.feed(client.syn_stream(number, {}))
        assert len(session.streams) == sessions.STREAMS_MAX
        assert wire.frames()[-1] == spdy.RstStream(5 + 2 * sessions.STREAMS_MAX, spdy.REFUSED_STREAM)

    run(scenario())


def test_a_reset_ends_reading_and_writing_and_gives_the_room_back() -> None:
    async def scenario() -> None:
        wire, opened, client = Wire(), [], spdy.Encoder()
        session = Session(wire, lambda stream: opened.append(stream))
        session.feed(client.syn_stream(1, {}) + spdy.data_head(1, 5) + b"abcde")
        assert session.held == 5
        session.feed(spdy.rst_stream(1, 5))
        stream = opened[0]
        assert session.held == 0
        assert (await stream.read(), stream.reset) == (b"", True)
        with pytest.raises(ConnectionResetError):
            await stream.write(b"x")
        # What was on its way when it was reset.
        session.feed(spdy.data_head(1, 2) + b"ab")
        assert session.held == 0

    run(scenario())


def test_who_is_not_read_makes_the_connection_full_and_reading_makes_room() -> None:
    async def scenario() -> None:
        opened: list[Stream] = []
        session = Session(Wire(), lambda stream: opened.append(stream))
        told: list[bool] = []
        session.on_room = lambda: told.append(session.full)
        session.feed(spdy.Encoder().syn_stream(1, {}))
        piece = spdy.data_head(1, 1 << 20) + b"x" * (1 << 20)
        for _ in range(5):
            session.feed(piece)
        assert session.full
        waiting = asyncio.create_task(session.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        for _ in range(5):
            await opened[0].read()
        await waiting
        assert told == [False]
        assert session.held == 0

    run(scenario())


def test_garbage_ends_all_streams_with_goaway() -> None:
    async def scenario() -> None:
        wire, opened = Wire(), []
        session = Session(wire, lambda stream: opened.append(stream))
        session.feed(spdy.Encoder().syn_stream(1, {}))
        session.feed(b"\x80\x02" + bytes(20))
        await session.closed
        assert wire.frames()[-1] == spdy.GoAway(1, spdy.GOAWAY_PROTOCOL_ERROR)
        assert await opened[0].read() == b""
        session.feed(b"more garbage")

    run(scenario())


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=400), frames().map(encoded)))
def test_whatever_comes_the_account_of_what_is_held_is_right(data: bytes) -> None:
    async def scenario() -> None:
        opened: list[Stream] = []
        session = Session(Wire(), lambda stream: opened.append(stream))
        session.feed(data)
        assert session.held == sum(len(piece) for stream in opened for piece in stream._inbox)
        session.lost()
        assert session.held == 0
        for stream in opened:
            assert await stream.read() == b""

    run(scenario())
