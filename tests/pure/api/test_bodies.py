"""Bodies: fields that stand twice."""

from __future__ import annotations

import pytest

from nsrun.api.bodies import duplicates

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a": 1, "b": {"a": 1}}', []),
        (b'{"a": 1, "a": 2, "a": 3}', ["a"]),
        (b'{"a": {"b": 1, "c": 2, "b": 3}, "d": [{}, {"e": 1, "e": 2}]}', ["a.b", "d[1].e"]),
        (b'[{"x": 1, "x": 1}]', ["[0].x"]),
        # What is overwritten does not count.
        (b'{"a": {"b": 1, "b": 2}, "a": {"c": 1}}', ["a"]),
    ],
)
def test_duplicates(body: bytes, found: list[str]) -> None:
    assert duplicates(body) == found
