"""What is read of an answer, and what is said of one that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.probes.outcome import OUTPUT_MAX, ProbeError
from nsrun.probes.response import Reader

pytestmark = pytest.mark.pure

BROKEN = "net/http: HTTP/1.x transport connection broken: "


def read(*parts: bytes, ends: bool = True) -> Reader:
    reader = Reader()
    for part in parts:
        if not reader.done:
            reader.feed(part)
    if ends and not reader.done:
        reader.end()
    return reader


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, b"ok"),
        (b"HTTP/1.0 404 Not Found\r\n\r\nto the end", 404, b"to the end"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n", 204, b""),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 Go\r\n\r\nHTTP/1.1 201 Ok\r\nContent-Length: 1\r\n\r\nx", 201, b"x"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbinary", 101, b""),
        (b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", 999, b""),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nabc", 200, b"a"),
    ],
)  # fmt: skip
def test_S_PROBE_http_answers(data: bytes, status: int, body: bytes) -> None:
    for reader in (read(data), read(*(data[i : i + 1] for i in range(len(data))))):
        assert (reader.status, bytes(reader.body), reader.done) == (status, body, True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nX: y", BROKEN + "unexpected EOF"),
        (b"hello world and nothing else\n", BROKEN + 'malformed HTTP status code "world"'),
        (b"SSH-2.0-OpenSSH_9.2\r\n", BROKEN + 'malformed HTTP response "SSH-2.0-OpenSSH_9.2"'),
        (b"\x15\x03\x01\x00\x02\x02P", BROKEN + 'malformed HTTP response "\\x15\\x03\\x01\\x00\\x02\\x02P"'),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", BROKEN + 'malformed HTTP status code "2x0"'),
        (b"HTPT/1.1 200 OK\r\n\r\n", BROKEN + 'malformed HTTP version "HTPT/1.1"'),
    ],
)
def test_S_PROBE_http_what_is_no_answer_is_named_in_gos_words(data: bytes, text: str) -> None:
    with pytest.raises(ProbeError) as caught:
        read(data)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "invalid byte in chunk length"),
    ],
)
def test_S_PROBE_http_a_broken_body_is_an_error_after_the_head(data: bytes, text: str) -> None:
    reader = Reader()
    with pytest.raises(ProbeError) as caught:
        reader.feed(data)
        reader.end()
    assert str(caught.value) == text
    assert reader.began


def test_S_PROBE_http_no_more_than_10_kib_of_a_body_are_read() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\n\r\n", *([b"x" * 4096] * 3), ends=False)
    assert reader.done
    assert OUTPUT_MAX <= len(reader.body) <= OUTPUT_MAX + 4096


def test_S_PROBE_http_informational_answers_are_counted() -> None:
    reader = read(b"HTTP/1.1 100 Continue\r\n\r\n" * 7, ends=False)
    assert reader.informational == 7
    assert not reader.began


def test_S_PROBE_http_location_of_the_answer_and_not_of_a_1xx_before_it() -> None:
    early = b"HTTP/1.1 103 Early\r\nLocation: /no\r\n\r\n"
    assert read(early + b"HTTP/1.1 302 F\r\nlocation: /yes\r\nContent-Length: 0\r\n\r\n").location == "/yes"
    assert read(early + b"HTTP/1.1 200 F\r\nContent-Length: 0\r\n\r\n").location is None


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_S_PROBE_http_garbage_is_an_answer_or_a_probe_error(parts: list[bytes]) -> None:
    try:
        reader = read(*parts)
    except ProbeError as error:
        assert str(error)
        return
    assert reader.done
    assert reader.status > 0


@given(st.data())
def test_S_PROBE_http_a_damaged_answer_is_an_answer_or_a_probe_error(data: st.DataObject) -> None:
    whole = bytearray(b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        reader = read(bytes(whole))
    except ProbeError as error:
        assert str(error)
        return
    assert reader.done
