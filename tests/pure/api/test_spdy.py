"""SPDY/3.1: frames there and back, in pieces of any size; garbage and bombs end the connection and nothing else."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.api.streams import spdy

pytestmark = pytest.mark.pure

NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
HEADERS = st.dictionaries(NAMES, st.text(max_size=40), max_size=6)
STREAMS = st.integers(1, 0x7FFFFFFF)


def frames() -> st.SearchStrategy[list[spdy.Frame]]:
    """Frames as a peer may send them."""
    one = st.one_of(
        st.builds(spdy.SynStream, STREAMS, HEADERS, st.booleans(), st.just(False), st.just(0), st.just(0)),
        st.builds(spdy.SynReply, STREAMS, HEADERS, st.just(False)),
        st.builds(spdy.Headers, STREAMS, HEADERS, st.booleans()),
        st.builds(spdy.RstStream, STREAMS, st.integers(1, 11)),
        st.builds(spdy.Ping, st.integers(1, 0xFFFFFFFF)),
        st.builds(spdy.GoAway, st.integers(0, 0x7FFFFFFF), st.integers(0, 2)),
        st.builds(spdy.WindowUpdate, STREAMS, st.integers(0, 0x7FFFFFFF)),
        st.builds(spdy.Data, STREAMS, st.binary(max_size=200), st.booleans()),
        st.builds(
            spdy.Settings, st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3), STREAMS), max_size=4).map(tuple)
        ),
    )
    return st.lists(one, max_size=12)


def encoded(wanted: list[spdy.Frame]) -> bytes:
    """The bytes of frames of one sender."""
    encoder = spdy.Encoder()
    parts: list[bytes] = []
    for frame in wanted:
        if isinstance(frame, spdy.SynStream):
            parts.append(encoder.syn_stream(frame.stream, frame.headers, fin=frame.fin))
        elif isinstance(frame, spdy.SynReply):
            parts.append(encoder.syn_reply(frame.stream, frame.headers))
        elif isinstance(frame, spdy.Headers):
            parts.append(encoder.headers(frame.stream, frame.headers, fin=frame.fin))
        elif isinstance(frame, spdy.RstStream):
            parts.append(spdy.rst_stream(frame.stream, frame.status))
        elif isinstance(frame, spdy.Ping):
            parts.append(spdy.ping(frame.id))
        elif isinstance(frame, spdy.GoAway):
            parts.append(spdy.goaway(frame.last, frame.status))
        elif isinstance(frame, spdy.WindowUpdate):
            parts.append(spdy.window_update(frame.stream, frame.delta))
        elif isinstance(frame, spdy.Settings):
            parts.append(spdy.settings(frame.values))
        else:
            parts.append(spdy.data_head(frame.stream, len(frame.data), fin=frame.fin) + frame.data)
    return b"".join(parts)


def whole(found: list[spdy.Frame]) -> list[spdy.Frame]:
    """Pieces of data frames put together; who reads a stream does not see where they were cut."""
    joined: list[spdy.Frame] = []
    for frame in found:
        last = joined[-1] if joined else None
        if (
            isinstance(frame, spdy.Data)
            and isinstance(last, spdy.Data)
            and last.stream == frame.stream
            and not last.fin
        ):
            joined[-1] = spdy.Data(frame.stream, last.data + frame.data, frame.fin)
        else:
            joined.append(frame)
    return joined


def test_the_dictionary_is_that_of_the_protocol() -> None:
    assert len(spdy.DICTIONARY) == 1423
    # The number with which every SPDY/3 stream of headers begins: 78 bb e3 c6 a7 c2.
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2
    assert spdy.Encoder().syn_stream(1, {"a": "b"})[18:24] == bytes.fromhex("78bbe3c6a7c2")


@given(frames(), st.lists(st.integers(1, 50), max_size=60))
def test_frames_come_back_however_they_are_cut(wanted: list[spdy.Frame], cuts: list[int]) -> None:
    data = encoded(wanted)
    decoder = spdy.Decoder()
    found: list[spdy.Frame] = []
    position = 0
    for cut in cuts:
        found += decoder.feed(data[position : position + cut])
        position += cut
    found += decoder.feed(data[position:])
    assert whole(found) == whole(wanted)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_nothing(data: bytes) -> None:
    try:
        for frame in spdy.Decoder().feed(data):
            assert isinstance(frame, tuple)
    except spdy.SpdyError:
        return


@settings(max_examples=300)
@given(frames(), st.data())
def test_a_flipped_byte_is_an_error_or_other_frames(wanted: list[spdy.Frame], chance: st.DataObject) -> None:
    data = bytearray(encoded(wanted))
    if data:
        data[chance.draw(st.integers(0, len(data) - 1))] ^= chance.draw(st.integers(1, 255))
    try:
        spdy.Decoder().feed(bytes(data))
    except spdy.SpdyError:
        return


def syn(packed: bytes) -> bytes:
    """A SYN_STREAM of stream 1 with these bytes as headers."""
    body = struct.pack("!IIBB", 1, 0, 0, 0) + packed
    return struct.pack("!II", 0x80030001, len(body)) + body


def packed(block: bytes) -> bytes:
    """What a compressor of SPDY makes of a header block."""
    packer = zlib.compressobj(zdict=spdy.DICTIONARY)
    return packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)


def test_a_header_bomb_unpacks_to_no_more_than_the_limit() -> None:
    bomb = packed(struct.pack("!II", 1, 30 << 20) + b"a" * (30 << 20))
    assert len(bomb) < spdy.CONTROL_MAX
    with pytest.raises(spdy.SpdyError, match="headers of more than"):
        spdy.Decoder().feed(syn(bomb))


def test_a_control_frame_that_announces_too_much_is_refused_before_it_comes() -> None:
    with pytest.raises(spdy.SpdyError, match="at most"):
        spdy.Decoder().feed(struct.pack("!II", 0x80030001, 0xFFFFFF))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        struct.pack("!I", 1),
        struct.pack("!II", 1, 5) + b"ab",
        struct.pack("!I", 0xFFFFFFFF),
        struct.pack("!II", 1, 0xFFFFFFFF) + b"abc",
        spdy.encode_headers({"port": "1"}).replace(b"port", b"Port"),
        struct.pack("!I", 2) + spdy.encode_headers({"a": "1"})[4:] * 2,
    ],
)
def test_headers_that_lie_about_themselves_are_refused(block: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        spdy.decode_headers(block)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", 0x80020001, 10) + bytes(10),
        struct.pack("!II", 0, 0),
        struct.pack("!II", 0x80030006, 3) + bytes(3),
        struct.pack("!II", 0x80030003, 8) + bytes(8),
        struct.pack("!II", 0x80030004, 12) + struct.pack("!III", 9, 0, 0),
        struct.pack("!II", 0x80030005, 8) + bytes(8),
        struct.pack("!II", 0x80030006, 0),
        syn(b"no zlib"),
    ],
)
def test_frames_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        spdy.Decoder().feed(data)


def test_data_is_passed_on_before_its_frame_is_complete() -> None:
    decoder = spdy.Decoder()
    assert decoder.feed(spdy.data_head(3, 1 << 20, fin=True) + b"abc") == [spdy.Data(3, b"abc", False)]
    assert decoder.feed(b"d" * ((1 << 20) - 3)) == [spdy.Data(3, b"d" * ((1 << 20) - 3), True)]
