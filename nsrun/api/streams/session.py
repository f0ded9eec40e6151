"""The streams of one SPDY connection, whatever carries its bytes: a socket, or the frames of a WebSocket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from nsrun.api.streams import spdy

STREAMS_MAX = 2048
"""Streams of one connection at once; two for each forwarded connection."""
HELD_MAX = 4 << 20
"""Bytes that wait to be taken from the streams of a connection; then nothing more is read from it. SPDY's windows are not used by
Kubernetes' clients (moby/spdystream), so one stream that stands still holds up the others after this much."""
HELD_LOW = 1 << 20


class Carrier:
    """What a session's bytes travel on."""

    def write(self, *parts: bytes) -> None:
        """Queue bytes."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until not too much is queued.

        Raises:
            ConnectionError: nobody reads any more.
        """
        raise NotImplementedError


class Stream:
    """One stream of a client.

    Attributes:
        id: its number.
        headers: of its SYN_STREAM.
        reset: it was reset by the client, or its connection is gone.
    """

    def __init__(self, session: Session, number: int, headers: dict[str, str], *, ended: bool) -> None:
        self._session = session
        self.id = number
        self.headers = headers
        self.reset = False
        self._inbox: deque[bytes] = deque()
        self._ended = ended
        self._finished = False
        self._reader: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """The next bytes; empty at the end, also at that of a stream that was reset."""
        while not self._inbox:
            if self._ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._inbox.popleft()
        self._session.taken(len(data))
        return data

    async def write(self, data: bytes, *, fin: bool = False) -> None:
        """Send bytes.

        Raises:
            ConnectionResetError: the stream was reset, or ended by us.
        """
        if self._finished or self.reset:
            raise ConnectionResetError(f"stream {self.id} has ended")
        self._session.send_data(self.id, data, fin=fin)
        if fin:
            self._finished = True
            self._session.settle(self)
        await self._session.carrier.drain()

    def finish(self) -> None:
        """Say that nothing more comes from us."""
        if not self._finished and not self.reset:
            self._finished = True
            self._session.send_data(self.id, b"", fin=True)
            self._session.settle(self)

    def abort(self, status: int) -> None:
        """Reset the stream."""
        if not self.reset and not self.over:
            self._session.send(spdy.rst_stream(self.id, status))
            self.lost()

    @property
    def over(self) -> bool:
        """Ended from both sides."""
        return self._ended and self._finished

    # What the session tells.

    def received(self, data: bytes, *, fin: bool) -> int:
        """Take bytes of the client; how many are held now because of them."""
        if self._ended:
            return 0
        if data:
            self._inbox.append(data)
        self._ended = fin
        self._wake()
        return len(data)

    def lost(self) -> None:
        """The client has reset the stream, or is gone."""
        self.reset = self._ended = self._finished = True
        self._session.taken(sum(map(len, self._inbox)))
        self._inbox.clear()
        self._wake()
        self._session.settle(self)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Session:
    """One connection, from the server's side.

    Args:
        carrier: takes what is sent.
        opened: called with each new stream; says why it is refused, or None.

    Attributes:
        closed: done once the connection is gone, or ended with GOAWAY and without streams.
        held: bytes that nobody has taken yet.
    """

    def __init__(self, carrier: Carrier, opened: Callable[[Stream], str | None]) -> None:
        self.carrier = carrier
        self._opened = opened
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.streams: dict[int, Stream] = {}
        self.held = 0
        self._last = 0
        self._going = False
        self._decoder = spdy.Decoder()
        self._encoder = spdy.Encoder()
        self._roomy: asyncio.Future[None] | None = None
        self.on_room: Callable[[], None] | None = None

    # reading

    def feed(self, data: bytes) -> None:
        """Take bytes of the client; what is no SPDY ends the connection."""
        if self.closed.done():
            return
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except spdy.SpdyError:
            self.send(spdy.goaway(self._last, spdy.GOAWAY_PROTOCOL_ERROR))
            self.lost()

    @property
    def full(self) -> bool:
        """Whether nothing more should be read."""
        return self.held > HELD_MAX

    async def room(self) -> None:
        """Wait until more may be read."""
        while self.full and not self.closed.done():
            self._roomy = asyncio.get_running_loop().create_future()
            await self._roomy

    def taken(self, count: int) -> None:
        """So many bytes are held no more."""
        before, self.held = self.held, self.held - count
        if before > HELD_LOW >= self.held:
            self._tell_room()

    def _tell_room(self) -> None:
        if self._roomy is not None and not self._roomy.done():
            self._roomy.set_result(None)
        if self.on_room is not None:
            self.on_room()

    def _take(self, frame: spdy.Frame) -> None:
        if isinstance(frame, spdy.Data):
            stream = self.streams.get(frame.stream)
            # After a reset or an end the rest of what was on its way comes; nobody wants it.
            if stream is not None:
                self.held += stream.received(frame.data, fin=frame.fin)
                if frame.fin:
                    self.settle(stream)
        elif isinstance(frame, spdy.SynStream):
            self._open(frame)
        elif isinstance(frame, spdy.RstStream):
            stream = self.streams.get(frame.stream)
            if stream is not None:
                stream.lost()
        elif isinstance(frame, spdy.Headers):
            stream = self.streams.get(frame.stream)
            if stream is not None and frame.fin:
                stream.received(b"", fin=True)
                self.settle(stream)
        elif isinstance(frame, spdy.Ping):
            # The client's are odd; an even one would be the answer to ours.
            if frame.id & 1:
                self.send(spdy.ping(frame.id))
        elif isinstance(frame, spdy.GoAway):
            self._going = True
            self._end_if_done()

    def _open(self, frame: spdy.SynStream) -> None:
        if self._going:
            return
        if not frame.stream & 1 or frame.stream <= self._last:
            self.send(spdy.rst_stream(frame.stream, spdy.PROTOCOL_ERROR))
            return
        self._last = frame.stream
        if len(self.streams) >= STREAMS_MAX:
            self.send(spdy.rst_stream(frame.stream, spdy.REFUSED_STREAM))
            return
        stream = Stream(self, frame.stream, frame.headers, ended=frame.fin)
        self.streams[frame.stream] = stream
        # The reply first: what the stream's taker sends at once must not come before it.
        reply = self._encoder.syn_reply(frame.stream)
        self.send(reply)
        refused = self._opened(stream)
        if refused is not None:
            stream.abort(spdy.REFUSED_STREAM)

    # writing

    def send(self, *parts: bytes) -> None:
        """Send whole frames."""
        if not self.closed.done():
            self.carrier.write(*parts)

    def send_data(self, stream: int, data: bytes, *, fin: bool) -> None:
        """Send bytes of a stream."""
        view = memoryview(data)
        while len(view) > spdy.DATA_MAX:
            self.send(spdy.data_head(stream, spdy.DATA_MAX), bytes(view[: spdy.DATA_MAX]))
            view = view[spdy.DATA_MAX :]
        self.send(spdy.data_head(stream, len(view), fin=fin), data if len(view) == len(data) else bytes(view))

    def go_away(self) -> None:
        """Say that no new streams are taken."""
        if not self._going:
            self._going = True
            self.send(spdy.goaway(self._last, spdy.GOAWAY_OK))
            self._end_if_done()

    # ends

    def settle(self, stream: Stream) -> None:
        """Forget a stream that has ended from both sides."""
        if stream.over and self.streams.get(stream.id) is stream:
            del self.streams[stream.id]
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._going and not self.streams and not self.closed.done():
            self.closed.set_result(None)
            self._tell_room()

    def lost(self) -> None:
        """The connection is gone."""
        if not self.closed.done():
            self.closed.set_result(None)
        for stream in list(self.streams.values()):
            stream.lost()
        self._tell_room()
