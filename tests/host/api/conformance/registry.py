"""The cases by the titles of the tests that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.host.api.conformance.cluster import Namespace

Case = Callable[[Namespace], None]
CASES: dict[str, Case] = {}
_TAG = re.compile(r"\[[^]]*\]")


def case(*titles: str) -> Callable[[Case], Case]:
    """Register a case under the titles of the tests that it covers."""

    def register(function: Case) -> Case:
        for title in titles:
            add(title, function)
        return function

    return register


def add(title: str, function: Case) -> None:
    """Register a case."""
    assert title not in CASES, title
    CASES[title] = function


def plain(title: str) -> str:
    """A test's title without its tags but the first, which names its group."""
    group, _, rest = title.partition("] ")
    return f"{group}] {' '.join(_TAG.sub('', rest).split())}"
