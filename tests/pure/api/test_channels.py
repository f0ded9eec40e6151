"""The channels of remote commands over WebSockets, as recorded from a real server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api.streams import channels
from nsrun.api.streams.channels import Codec, Message, Sizes

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("protocol", [*channels.WEBSOCKET_PROTOCOLS, channels.NONE])
@given(channel=st.integers(0, 4), data=st.binary(max_size=100))
def test_messages_come_back(protocol: str, channel: int, data: bytes) -> None:
    codec = Codec(protocol)
    assert codec.decode(codec.encode(channel, data)) == Message(channel, data)


@pytest.mark.parametrize("protocol", [*channels.WEBSOCKET_PROTOCOLS, channels.NONE])
@given(data=st.binary(max_size=40))
def test_whatever_comes_is_a_message_or_nothing(protocol: str, data: bytes) -> None:
    message = Codec(protocol).decode(data)
    assert message is None or 0 <= message.channel <= 255


def test_base64_is_a_digit_and_text() -> None:
    codec = Codec("base64.channel.k8s.io")
    assert codec.encode(1, b"out\n") == b"1b3V0Cg=="
    assert codec.decode(b"0YWJj") == Message(0, b"abc")
    assert codec.decode(b"0!!") is None
    assert codec.decode(b"xYWJj") is None


def test_only_v5_closes_a_channel() -> None:
    assert Codec("v5.channel.k8s.io").decode(b"\xff\x00") == Message(0, b"", closes=True)
    assert Codec("v4.channel.k8s.io").decode(b"\xff\x00") == Message(255, b"\x00")
    assert Codec("v5.channel.k8s.io").decode(b"\xff") is None


def test_an_exit_code_is_told_as_recorded() -> None:
    told = channels.told(channels.exited(3, None), as_status=True)
    assert json.loads(told) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: command terminated with exit code 3",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
    assert channels.told(channels.success(), as_status=True) == b'{"metadata":{},"status":"Success"}'
    before_v4 = channels.told(channels.exited(3, ("sh", "-c", "echo out; echo err >&2; exit 3")), as_status=False)
    assert before_v4 == (
        b"command terminated with non-zero exit code: error executing command "
        b"[sh -c echo out; echo err >&2; exit 3], exit code 3"
    )


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)), max_size=5), st.integers(1, 9))
def test_sizes_come_in_pieces(wanted: list[tuple[int, int]], step: int) -> None:
    data = b"".join(json.dumps({"Width": columns, "Height": rows}).encode() for rows, columns in wanted)
    parser = Sizes()
    found: list[tuple[int, int]] = []
    for position in range(0, len(data), step):
        found += parser.feed(data[position : position + step])
    assert found == wanted


@given(st.binary(max_size=200))
def test_sizes_of_anything_are_sizes(data: bytes) -> None:
    assert all(0 <= number <= 0xFFFF for size in Sizes().feed(data) for number in size)


def test_what_will_never_be_a_size_is_not_kept() -> None:
    parser = Sizes()
    for _ in range(100):
        assert parser.feed(b"{" * 1000) == []
    assert len(parser._rest) <= Sizes.LIMIT + 1000
