"""The ids of pods, whoever is killed when (S-USERNS)."""

from __future__ import annotations

import tempfile
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nsrun.errors import ConflictError, SpecError, StepError
from nsrun.plan.ids import DEFAULT, IdRange
from nsrun.plan.inputs import IDS_PER_POD as N
from nsrun.state import ids as module
from nsrun.state.ids import IdLeases

SMALL = IdRange(4 * N, 4 * N)


def nothing(_path: Path) -> str:
    return ""


def leases(directory: Path, configured: IdRange | None = SMALL) -> IdLeases:
    return IdLeases(directory, configured, None, nothing)


def test_S_USERNS_a_hundred_pods_never_share_an_id(tmp_path: Path) -> None:
    one = leases(tmp_path / "ids", None)
    firsts = [one.take(f"pod-{number}") for number in range(100)]
    every = sorted(firsts)
    assert all(after - before >= N for before, after in pairwise(every))
    assert all(first in DEFAULT for first in firsts)
    assert firsts == [leases(tmp_path / "ids").of(f"pod-{number}") for number in range(100)]


def test_S_USERNS_a_pod_keeps_its_ids_whatever_the_range_is_by_now(tmp_path: Path) -> None:
    first = leases(tmp_path).take("a")
    moved = leases(tmp_path, IdRange(100 * N, N))
    assert moved.take("a") == first
    assert moved.take("b") == 100 * N


def test_S_USERNS_when_all_are_taken_it_says_so_and_one_that_goes_makes_room(tmp_path: Path) -> None:
    one = leases(tmp_path)
    for name in "abcd":
        one.take(name)
    with pytest.raises(ConflictError, match="could not find an empty slot to allocate a user namespace: all 4 of"):
        one.take("e")
    freed = one.of("c")
    one.release("c")
    one.release("nobody")
    assert one.take("e") == freed


def test_S_USERNS_the_range_of_etc_subuid_counts_where_the_configuration_says_nothing(tmp_path: Path) -> None:
    texts = {module.SUBUID: f"nsrun:{9 * N}:{N}", module.SUBGID: f"nsrun:{9 * N}:{N}"}
    assert IdLeases(tmp_path, None, None, lambda path: texts[path]).take("a") == 9 * N
    assert IdLeases(tmp_path, SMALL, None, lambda path: texts[path]).take("b") in SMALL
    texts[module.SUBGID] = ""
    with pytest.raises(SpecError, match="one range of ids"):
        IdLeases(tmp_path, None, None, lambda path: texts[path]).take("c")


def test_a_lease_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="the pod gets no ids"):
        leases(tmp_path / "not there" / "ids").take("a")


def of_root(scratch: Path, name: str) -> IdLeases:
    directory = scratch / name
    directory.mkdir(exist_ok=True)
    return IdLeases(directory / "ids", SMALL, None, nothing, scratch / "claims")


def test_S_USERNS_pods_of_two_roots_never_share_an_id(tmp_path: Path) -> None:
    one, other = of_root(tmp_path, "one"), of_root(tmp_path, "other")
    firsts = [leases.take(pod) for pod in "ab" for leases in (one, other)]
    assert sorted(firsts) == [first * N for first in (4, 5, 6, 7)]
    with pytest.raises(ConflictError, match="could not find an empty slot") as full:
        one.take("c")
    assert full.value.details == "2 by pods of other root directories."
    assert set(one.all().values()) == {"a", "b"}, "a lease that was not to be had is not kept"
    freed = other.of("a")
    other.release("a")
    assert one.take("c") == freed
    assert [of_root(tmp_path, "one").take(pod) for pod in "abc"] == [firsts[0], firsts[2], freed]


def test_S_USERNS_a_root_that_was_deleted_keeps_no_ids(tmp_path: Path) -> None:
    one, other = of_root(tmp_path, "one"), of_root(tmp_path, "other")
    kept = one.take("a")
    gone = [other.take(pod) for pod in "abc"]
    (tmp_path / "other").rename(tmp_path / "elsewhere")
    assert sorted([kept, *(one.take(pod) for pod in "bcd")]) == sorted([kept, *gone])


def test_S_USERNS_a_lease_whose_server_died_before_its_claim_gives_way(tmp_path: Path) -> None:
    one = of_root(tmp_path, "one")
    first = one.take("a")
    cut = of_root(tmp_path, "other")
    cut.directory.mkdir()
    (cut.directory / str(first)).write_text("b", encoding="utf-8")
    assert of_root(tmp_path, "other").take("b") != first
    assert of_root(tmp_path, "one").take("a") == first


def test_S_USERNS_claims_that_cannot_be_made_leave_no_lease(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("no directory")
    one = of_root(tmp_path, "one")
    with pytest.raises(StepError, match="the pod gets no ids"):
        one.take("a")
    assert one.all() == {}


def test_S_USERNS_servers_of_many_roots_at_a_time_never_share_an_id(tmp_path: Path) -> None:
    roots = [of_root(tmp_path, str(number)) for number in range(4)]
    held: list[set[int]] = [set() for _ in roots]
    clashes: list[int] = []

    def live(number: int) -> None:
        for _ in range(40):
            try:
                first = roots[number].take("pod")
            except ConflictError:
                continue
            held[number].add(first)
            clashes.extend(first for other, theirs in enumerate(held) if other != number and first in theirs)
            held[number].remove(first)
            roots[number].release("pod")

    threads = [threading.Thread(target=live, args=(number,)) for number in range(len(roots))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []


class Lives(RuleBasedStateMachine):
    """Pods come and go, servers are killed at any moment, also in the middle of writing a lease."""

    names = st.sampled_from("abcdefg")

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.directory = Path(self.scratch.name) / "ids"
        self.leases = leases(self.directory)
        self.alive: dict[str, int] = {}

    def teardown(self) -> None:
        self.scratch.cleanup()

    @rule(name=names)
    def up(self, name: str) -> None:
        if len(self.alive) == SMALL.pods and name not in self.alive:
            self.leases.collect(self.alive)
            with pytest.raises(ConflictError):
                self.leases.take(name)
            return
        try:
            first = self.leases.take(name)
        except ConflictError:
            self.leases.collect(self.alive)
            first = self.leases.take(name)
        assert self.alive.setdefault(name, first) == first, "a pod's ids change"

    @rule(name=names)
    def down(self, name: str) -> None:
        if self.alive.pop(name, None) is not None:
            self.leases.release(name)

    @rule(name=names)
    def gone_with_its_server(self, name: str) -> None:
        self.alive.pop(name, None)
        self.killed()

    @rule()
    def killed(self) -> None:
        self.leases = leases(self.directory)

    @rule(name=names, cut=st.integers(0, 1), block=st.integers(4, 7))
    def killed_while_writing(self, name: str, cut: int, block: int) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / f".{block * N}").write_text(name * cut)
        self.killed()

    @rule()
    def collect(self) -> None:
        self.leases.collect(self.alive)
        assert set(self.leases.all().values()) == set(self.alive)
        if self.directory.exists():
            assert len(list(self.directory.iterdir())) == len(self.alive)

    @invariant()
    def no_two_pods_share_any(self) -> None:
        known = leases(self.directory)
        assert {name: known.of(name) for name in self.alive} == self.alive
        assert len(set(self.alive.values())) == len(self.alive)


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
