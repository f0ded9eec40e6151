"""The keys that end `pod attach`: found wherever reads end, and nothing of them reaches the container."""

from __future__ import annotations

import itertools
import os
import random

import click
import pytest

from nsrun.cli.params import Keys
from nsrun.client.execute import DETACH_KEYS, Source


def passed(keys: bytes, *reads: bytes) -> tuple[bytes, bool]:
    """What goes to the container of what is read piece by piece, and whether it meant to leave."""
    ours, theirs = os.pipe()
    source = Source(ours, keys)
    try:
        for piece in reads:
            os.write(theirs, piece)
            source.read()
            if source.detached:
                break
    finally:
        os.close(theirs)
        if not source.detached:
            source.read()
        os.close(ours)
    return bytes(source.held), source.detached


def test_nothing_of_the_keys_is_passed_on() -> None:
    assert passed(DETACH_KEYS, b"a", b"\x10", b"\x11") == (b"a", True)
    assert passed(DETACH_KEYS, b"typed\x10\x11ahead") == (b"typed", True)
    assert passed(DETACH_KEYS, b"\x10", b"\x10", b"\x11") == (b"\x10", True)


def test_keys_that_were_not_meant_are_passed_on() -> None:
    assert passed(DETACH_KEYS, b"\x10", b"a", b"\x11") == (b"\x10a\x11", False)
    assert passed(DETACH_KEYS, b"\x10") == (b"\x10", False)
    assert passed(b"", b"\x10\x11") == (b"\x10\x11", False)


def test_it_does_not_matter_where_reads_end() -> None:
    dice = random.Random(6)
    for _ in range(2000):
        keys = bytes(dice.choices(b"ab", k=dice.randint(1, 4)))
        text = bytes(dice.choices(b"ab", k=dice.randint(0, 12)))
        cuts = sorted({0, len(text), *(dice.randint(0, len(text)) for _ in range(3))})
        pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
        before, found, _ = text.partition(keys)
        assert passed(keys, *pieces) == (before, bool(found)), (keys, pieces)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,d", b"\x01d"),
        ("ctrl-@", b"\0"),
        ("ctrl-\\,ctrl-_,~", b"\x1c\x1f~"),
        ("", b""),
    ],
)
def test_names_of_keys(words: str, keys: bytes) -> None:
    assert Keys().convert(words, None, None) == keys


@pytest.mark.parametrize("words", ["ctrl-", "ctrl-1", "ctrl-P", "esc", "a,,b", ",", "ü", "alt-x"])
def test_what_is_no_key(words: str) -> None:
    with pytest.raises(click.BadParameter, match="is no key"):
        Keys().convert(words, None, None)
