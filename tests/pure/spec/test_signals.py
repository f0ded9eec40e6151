"""Signals by name."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.spec.signals import signal_number
from nsrun.spec.validate_containers import LINUX_SIGNALS


def test_S_TERM_every_stop_signal_of_the_api_has_a_number() -> None:
    numbers = {name: signal_number(name) for name in LINUX_SIGNALS}
    assert len(numbers) == 65
    assert set(numbers.values()) == {*range(1, 32), *range(34, 65)}, "all but the two that the C library keeps"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("Sigusr1", 10),
        ("9", 9),
        ("64", 64),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-14", 50),
        ("SIGRTMAX", 64),
        ("SIGCLD", 17),
        ("SIGPOLL", 29),
        ("SIGIOT", 6),
        ("SIGRTMIN+31", None),
        ("SIGRTMAX+1", None),
        ("SIGRTMIN-1", None),
        ("0", None),
        ("65", None),
        ("00000015", None),
        ("", None),
        ("SIG", None),
        ("SIGNOTHING", None),
        ("-9", None),
        ("SIG_DFL", None),
        ("٣", None),
    ],
)
def test_S_TERM_signals_by_name(text: str, number: int | None) -> None:
    assert signal_number(text) == number


@given(st.text())
def test_S_TERM_any_text_is_a_signal_or_none(text: str) -> None:
    number = signal_number(text)
    assert number is None or 1 <= number <= 64


@given(st.sampled_from(list(signal.Signals)))
def test_S_TERM_as_the_machine_calls_them(one: signal.Signals) -> None:
    assert signal_number(one.name) == (34 if one.name == "SIGRTMIN" else 64 if one.name == "SIGRTMAX" else one)
