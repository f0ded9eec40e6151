"""The cache: what the server tells becomes objects and a history in which every version has a place."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api.cache import HISTORY_MAX, HISTORY_MIN, HISTORY_S, Cache
from nsrun.api.link import Change


def change(kind: str, name: str, version: int, *, uid: str = "", type_: str = "MODIFIED", **more: Any) -> Change:
    obj = {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "d", "uid": uid or name, "resourceVersion": str(version)},
    }
    return Change(type_, kind, msgspec.Raw(json.dumps(obj | more).encode()))


def bookmark(version: int) -> Change:
    return Change("BOOKMARK", resourceVersion=str(version))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(*changes: Change, clock: Clock | None = None) -> Cache:
    cache = Cache(clock or Clock())
    cache.begin()
    for one in changes:
        cache.take(one)
    return cache


def names(cache: Cache) -> list[str]:
    return [entry.key[1] for entry in cache.of("Pod")]


def test_what_there_is_at_first_is_no_change() -> None:
    cache = told(change("Pod", "b", 5), change("Pod", "a", 3), change("Pod", "a", 6, type_="DELETED"), bookmark(7))
    assert names(cache) == ["b"]
    assert (cache.version, cache.oldest, cache.last) == (7, 7, 0)
    assert cache.after(0) == []


def test_a_lost_stream_becomes_the_difference() -> None:
    cache = told(change("Pod", "stays", 1), change("Pod", "goes", 2), change("Pod", "again", 3, uid="old"), bookmark(4))
    at = cache.last
    cache.begin()
    for one in (change("Pod", "stays", 1), change("Pod", "new", 6), change("Pod", "again", 8, uid="new"), bookmark(9)):
        cache.take(one)
    steps = cache.after(at)
    assert steps is not None
    assert [(step.entry.key[1], step.gone, step.version) for step in steps] == [
        ("new", False, 6),
        ("again", True, 7),
        ("again", False, 8),
        ("goes", True, 9),
    ]
    assert steps[3].entry.object["metadata"]["resourceVersion"] == "9"
    assert names(cache) == ["again", "new", "stays"]


def test_what_went_unheard_has_places_of_its_own() -> None:
    """A watch that is cut off between two of them goes on at the second."""
    cache = told(*(change("Pod", name, at) for at, name in enumerate("abcd", 1)), bookmark(5))
    at = cache.last
    cache.begin()
    for one in (change("Pod", "d", 9), change("Pod", "b", 8, uid="another"), bookmark(9)):
        cache.take(one)
    steps = cache.after(at)
    assert steps is not None
    assert sorted(step.entry.key[1] for step in steps if step.gone) == ["a", "b", "c"]
    versions = [step.version for step in steps]
    assert versions == sorted(set(versions))
    assert all(step.entry.object["metadata"]["resourceVersion"] == str(step.version) for step in steps)
    for place, step in enumerate(steps):
        assert cache.after(cache.number_at(step.version)) == steps[place + 1 :]


def test_a_version_has_a_place() -> None:
    cache = told(bookmark(10))
    for version in (12, 14, 16):
        cache.take(change("Pod", f"p{version}", version))
    assert [cache.number_at(version) for version in (10, 11, 12, 13, 14, 16, 99)] == [0, 0, 1, 1, 2, 3, 3]
    after = cache.after(cache.number_at(13))
    assert after is not None
    assert [step.version for step in after] == [14, 16]


def test_the_history_is_bounded_in_number_time_and_bytes() -> None:
    clock = Clock()
    cache = told(bookmark(1), clock=clock)
    for version in range(2, HISTORY_MIN + 100):
        cache.take(change("Pod", "p", version))
    assert cache.remembered[0] == HISTORY_MIN + 98
    clock.now += HISTORY_S + 1
    cache.take(change("Pod", "p", HISTORY_MIN + 200))
    assert cache.remembered[0] == HISTORY_MIN
    assert cache.after(5) is None
    assert cache.at("Pod", None, 5) is None
    for version in range(HISTORY_MIN + 201, HISTORY_MIN + 201 + HISTORY_MAX):
        cache.take(change("Pod", "p", version))
    assert cache.remembered[0] == HISTORY_MAX


def test_a_huge_change_does_not_make_the_history_huge() -> None:
    cache = told(bookmark(1))
    for version in range(2, 40):
        cache.take(change("Pod", "p", version, data="x" * 8 * 1024 * 1024))
    count, size = cache.remembered
    assert size <= 128 * 1024 * 1024
    assert count < 20
    assert cache.oldest == cache.version - count


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_any_moment_can_be_gone_back_to(happened: list[tuple[str, bool]]) -> None:
    cache = told(change("Pod", "a", 1), bookmark(1))
    there = {"a": "1"}
    moments = [(1, dict(there))]
    for version, (name, gone) in enumerate(happened, 2):
        cache.take(change("Pod", name, version, type_="DELETED" if gone else "MODIFIED"))
        if gone:
            there.pop(name, None)
        else:
            there[name] = str(version)
        moments.append((version, dict(there)))
    for version, wanted in moments:
        found = cache.at("Pod", "d", version)
        assert found is not None
        assert {entry.key[1]: entry.metadata["resourceVersion"] for entry in found} == wanted
