"""Rotation of logs: from a listing, a size and the time to the steps; carried out on a directory that is a dictionary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.reconcile.rotation import (
    Compress,
    LogName,
    LogPolicy,
    Remove,
    Reopen,
    Rotate,
    Step,
    attempts_in,
    files_of,
    leftovers,
    next_attempt,
    parse_name,
    rotated_name,
    rotation_steps,
)

AT = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
T0, T1, T2, T3 = "20270115-080000", "20270115-080010", "20270115-080020", "20270115-080030"
POLICY = LogPolicy(max_size=100, max_files=5)


def test_S_LOG_defaults_are_the_kubelets() -> None:
    assert LogPolicy() == LogPolicy(max_size=10485760, max_files=5, every_s=10.0)
    assert LogPolicy(max_size=0).enabled
    assert not LogPolicy(max_size=-1).enabled


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("0.log", LogName(0)),
        (f"12.log.{T0}", LogName(12, T0)),
        (f"12.log.{T0}.gz", LogName(12, T0, compressed=True)),
        (f"12.log.{T0}.tmp", LogName(12, T0, temporary=True)),
        ("0.log.gz", None),
        ("0.log.old", None),
        ("0.logs", None),
        ("x.log", None),
        ("0.log.2027-01-15", None),
        (".nsrun", None),
        ("", None),
    ],
)
def test_S_LOG_names(name: str, parts: LogName | None) -> None:
    assert parse_name(name) == parts
    if parts is not None:
        assert str(parts) == name


def test_S_LOG_files_of_an_instance_are_listed_oldest_first() -> None:
    names = ["1.log", "0.log", f"0.log.{T1}", f"0.log.{T0}.gz", f"0.log.{T2}.tmp", f"0.log.{T1}.gz", "0.log.mine"]
    assert [str(file) for file in files_of(names, 0)] == [f"0.log.{T0}.gz", f"0.log.{T1}", "0.log"]
    assert attempts_in([*names, f"7.log.{T2}.tmp"]) == [0, 1]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 0),
        (["0.log"], 1),
        (["0.log", "1.log", "10.log"], 11),
        ([f"3.log.{T0}.gz"], 4),
        (["4.log.anything"], 5),
        (["x.log", "5.logs", "5.txt", ".nsrun"], 0),
    ],
)
def test_S_KEEP_the_restart_count_goes_on_from_the_highest_log(names: list[str], count: int) -> None:
    assert next_attempt(names) == count


@pytest.mark.parametrize(
    ("why", "names", "size", "steps"),
    [
        ("small", ["0.log"], 99, []),
        ("at the size", ["0.log"], 100, [Rotate("0.log", f"0.log.{T0}")]),
        ("empty", ["0.log"], 0, []),
        ("gone", [], None, [Reopen("0.log")]),
        (
            "the newest rotated one stays as it is until there is a newer",
            ["0.log", "0.log.20270101-000000"],
            100,
            [Rotate("0.log", f"0.log.{T0}"), Compress("0.log.20270101-000000")],
        ),
        (
            "five files in total",
            ["0.log", *(f"0.log.2027010{day}-000000.gz" for day in range(1, 4)), "0.log.20270104-000000"],
            100,
            [
                Remove("0.log.20270101-000000.gz"),
                Rotate("0.log", f"0.log.{T0}"),
                Compress("0.log.20270104-000000"),
            ],
        ),
        (
            "half-written files and originals that are compressed already go, whatever the size",
            ["0.log", "0.log.20270101-000000", "0.log.20270101-000000.gz", "0.log.20270102-000000.tmp", "1.log"],
            1,
            [Remove("0.log.20270101-000000"), Remove("0.log.20270102-000000.tmp")],
        ),
        (
            "what a killed server did not compress is compressed",
            ["0.log", "0.log.20270101-000000", "0.log.20270102-000000"],
            1,
            [Compress("0.log.20270101-000000")],
        ),
        (
            "others' files are left alone",
            ["0.log", "0.log.mine", "0.log.1", "1.log", "1.log.20270101-000000"],
            100,
            [Rotate("0.log", f"0.log.{T0}")],
        ),
    ],
)
def test_S_LOG_steps(why: str, names: list[str], size: int | None, steps: list[Step]) -> None:
    assert rotation_steps(names, 0, size, AT, POLICY) == steps, why


def test_S_LOG_a_shim_that_may_write_to_a_rotated_file_is_told_again_first() -> None:
    names = ["0.log", f"0.log.{T0}"]
    assert rotation_steps(names, 0, 1, AT, POLICY, settled=False) == [Reopen("0.log")]
    assert rotation_steps(names, 0, 100, AT, POLICY, settled=False)[0] == Reopen("0.log")
    assert rotation_steps(["0.log", f"0.log.{T0}.gz"], 0, 1, AT, POLICY, settled=False) == []


def test_S_LOG_while_a_log_is_blocked_only_what_is_too_old_goes() -> None:
    names = ["0.log", *(f"0.log.2027010{day}-000000" for day in range(1, 5)), "0.log.20270109-000000.tmp"]
    steps = rotation_steps(names, 0, 100, AT, POLICY, blocked=True)
    assert steps == [Remove("0.log.20270109-000000.tmp"), Remove("0.log.20270101-000000")]


def test_S_LOG_a_negative_size_turns_rotation_off() -> None:
    assert rotation_steps(["0.log"], 0, 1 << 40, AT, LogPolicy(max_size=-1)) == []


def test_S_LOG_rotated_names_grow_even_when_the_clock_does_not() -> None:
    first = rotated_name(0, [], AT)
    assert first == f"0.log.{T0}"
    assert rotated_name(0, [T0], AT) == "0.log.20270115-080001"
    assert rotated_name(0, [T0, "20271231-235959"], AT) == "0.log.20280101-000000"


class Directory:
    """A container's log directory and a shim that has a file of it open; a line is a number."""

    def __init__(self) -> None:
        self.files: dict[str, list[int]] = {"0.log": []}
        self.open = self.files["0.log"]
        self.written = 0
        self.removed: list[int] = []
        self.settled = True

    def write(self, count: int) -> None:
        self.open.extend(range(self.written, self.written + count))
        self.written += count

    @property
    def size(self) -> int | None:
        return len(self.files["0.log"]) if "0.log" in self.files else None

    def steps(self, now: float, policy: LogPolicy) -> list[Step]:
        return rotation_steps(self.files, 0, self.size, now, policy, settled=self.settled)

    def do(self, step: Step, *, killed_after: int | None = None) -> None:
        """Carry out a step, or only the first `killed_after` parts of it."""
        for number, part in enumerate(self._parts(step)):
            if number == killed_after:
                self.settled = False
                return
            part()

    def _parts(self, step: Step) -> list[Callable[[], object]]:
        match step:
            case Remove(name):
                return [lambda: self._remove(name)]
            case Reopen(name):
                return [lambda: self.files.setdefault(name, []), lambda: self._reopen(name)]
            case Rotate(name, to):
                assert to not in self.files, "a file takes another's place"
                return [
                    lambda: self.files.__setitem__(to, self.files.pop(name)),
                    lambda: self.files.setdefault(name, []),
                    lambda: self._reopen(name),
                ]
            case Compress(name):
                assert self.files[name] is not self.open, "a file is packed while it is written to"
                return [
                    lambda: self.files.__setitem__(name + ".tmp", [-1]),
                    lambda: self.files.__setitem__(name + ".gz", list(self.files[name])),
                    lambda: self.files.pop(name + ".tmp"),
                    lambda: self.files.pop(name),
                ]

    def _reopen(self, name: str) -> None:
        self.open = self.files[name]
        self.settled = True

    def _remove(self, name: str) -> None:
        content = self.files.pop(name)
        assert content is not self.open, "a file is removed while it is written to"
        parts = {tuple(other) for other in self.files.values()}
        if tuple(content) not in parts and content != [-1]:
            self.removed += content

    def read(self) -> list[int]:
        return [line for file in files_of(self.files, 0) for line in self.files[str(file)]]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 15),  # lines written
            st.sampled_from([0.0, 10.0, 10.0, 10.0, -3600.0, 0.5]),  # how the clock moves
            st.one_of(
                st.none(), st.tuples(st.integers(0, 5), st.integers(0, 3))
            ),  # killed at this step, after this part
            st.integers(0, 3),  # lines written between two steps
        ),
        max_size=40,
    ),
    st.integers(2, 6),
    st.integers(1, 20),
)
def test_S_LOG_whatever_is_killed_when_no_line_is_lost_doubled_or_out_of_order(
    rounds: list[tuple[int, float, tuple[int, int] | None, int]], max_files: int, max_size: int
) -> None:
    policy = LogPolicy(max_size=max_size, max_files=max_files)
    directory, now = Directory(), AT
    for written, passed, killed, between in rounds:
        now += passed
        directory.write(written)
        for number, step in enumerate(directory.steps(now, policy)):
            if killed is not None and killed[0] == number:
                directory.do(step, killed_after=killed[1])
                break
            directory.do(step)
            directory.write(between)
        lines = directory.read()
        total = directory.removed + lines
        assert total == list(range(directory.written))
    # Two rounds without a death leave nothing of one.
    for _ in range(2):
        now += 10
        directory.write(max_size)
        for step in directory.steps(now, policy):
            directory.do(step)
    assert leftovers(directory.files, 0) == []
    assert len(files_of(directory.files, 0)) <= max(max_files, 2)
    plain = [name for name in directory.files if not name.endswith(".gz")]
    assert len(plain) == 2, "the newest rotated file stays as it is"
