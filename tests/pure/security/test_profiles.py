"""Localhost profiles: the compiled filter against a second reading of what a profile means."""

from __future__ import annotations

import errno
import json
import operator
import platform
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.errors import SpecError
from nsrun.security import seccomp_filter
from tests.pure.security.bpf import ALLOW, ERRNO, I386, KILL, answer

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers below are those of x86-64")

CALLS = {"read": 0, "close": 3, "dup": 32, "mkdir": 83, "prctl": 157, "openat": 257, "openat2": 437}
LOG, TRAP, KILL_PROCESS, TRACE = 0x7FFC0000, 0x00030000, 0x80000000, 0x7FF00000
TESTS = {
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}
EDGES = (0, 1, 7, 0xFFFFFFFF, 1 << 32, (1 << 32) + 7, (1 << 64) - 1)


def answer_of(action: str, number: int) -> int:
    """What the kernel is told (seccomp(2), SECCOMP_RET_*)."""
    return {
        "SCMP_ACT_ALLOW": ALLOW,
        "SCMP_ACT_LOG": LOG,
        "SCMP_ACT_TRAP": TRAP,
        "SCMP_ACT_KILL": KILL,
        "SCMP_ACT_KILL_THREAD": KILL,
        "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
        "SCMP_ACT_ERRNO": ERRNO(number),
        "SCMP_ACT_TRACE": TRACE | number,
    }[action]


def met(argument: dict[str, Any], args: tuple[int, ...]) -> bool:
    value = args[argument["index"]]
    if argument["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(value & argument["value"] == argument["valueTwo"])
    return bool(TESTS[argument["op"]](value, argument["value"]))


def expected(profile: dict[str, Any], name: str, args: tuple[int, ...]) -> int:
    """The profile read rule by rule, as config-linux.md has it."""
    rules = profile["syscalls"]
    default = answer_of(profile["defaultAction"], profile.get("defaultErrnoRet", errno.EPERM))
    for rule in rules:
        if name not in rule["names"]:
            continue
        arguments = rule["args"]
        places = [one["index"] for one in arguments]
        together = any if len(set(places)) < len(places) else all
        if not arguments or together(met(one, args) for one in arguments):
            return answer_of(rule["action"], rule.get("errnoRet", errno.EPERM))
    open_ended = profile["defaultAction"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
    newest = max((CALLS.get(one, 0) for rule in rules for one in rule["names"]), default=0)
    if newest and CALLS[name] > newest and not open_ended:
        return ERRNO(errno.ENOSYS)
    return default


def _equal_where_twice(arguments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Alternatives by `<` and the like are put together wrongly by libseccomp (2.5.4, 2.6.0), for every runtime that uses it."""
    if len({one["index"] for one in arguments}) == len(arguments):
        return arguments
    return [{"index": one["index"], "op": "SCMP_CMP_EQ", "value": one["value"]} for one in arguments]


words = st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1)
masks = st.tuples(words, words).map(lambda pair: {"value": pair[0], "valueTwo": pair[0] & pair[1]})
actions = st.sampled_from(
    [f"SCMP_ACT_{name}" for name in ("ALLOW", "LOG", "TRAP", "KILL", "KILL_THREAD", "KILL_PROCESS", "ERRNO", "TRACE")]
)
arguments = st.lists(
    st.builds(
        lambda index, op, mask, value: {
            "index": index,
            "op": op,
            **(mask if op == "SCMP_CMP_MASKED_EQ" else {"value": value}),
        },
        st.integers(0, 5),
        st.sampled_from([*TESTS, "SCMP_CMP_MASKED_EQ"]),
        masks,
        words,
    ),
    max_size=2,
).map(_equal_where_twice)


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    """Profiles in which every call stands in one rule: which of two wins is libseccomp's affair."""
    names = draw(st.lists(st.sampled_from(sorted(CALLS)), unique=True))
    rules = []
    for name in names:
        rule: dict[str, Any] = {"names": [name, "no_such_call"], "action": draw(actions), "args": draw(arguments)}
        number = draw(st.none() | st.integers(0, 4094))
        if number is not None:
            rule["errnoRet"] = number
        rules.append(rule)
    profile: dict[str, Any] = {"defaultAction": draw(actions), "syscalls": rules}
    if draw(st.booleans()):
        profile["defaultErrnoRet"] = draw(st.integers(1, 4094))
    return profile


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    profile=profiles(),
    values=st.lists(st.tuples(*[words] * 6), min_size=1, max_size=4),
)
def test_a_filter_answers_what_its_profile_says(
    profile: dict[str, Any], values: list[tuple[int, ...]], tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text(json.dumps(profile))
    program = seccomp_filter("Localhost/p.json", frozenset(), profiles=tmp_path)
    near = [one["value"] for rule in profile["syscalls"] for one in rule["args"]]
    values = [*values, *((value,) * 6 for value in near)]
    for name, number in CALLS.items():
        for args in values:
            assert answer(program, number, args) == expected(profile, name, args), (name, args)


def compiled(tmp_path: Path, capabilities: frozenset[str] = frozenset(), **profile: Any) -> bytes:
    (tmp_path / "p.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **profile}))
    return seccomp_filter("Localhost/p.json", capabilities, profiles=tmp_path)


def refusing(**more: Any) -> list[dict[str, Any]]:
    return [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **more}]


@pytest.mark.parametrize(
    ("capabilities", "condition", "counts"),
    [
        pytest.param(["CAP_A"], {"includes": {"caps": ["CAP_A"]}}, True, id="has what it asks for"),
        pytest.param(["CAP_A"], {"includes": {"caps": ["CAP_A", "CAP_B"]}}, False, id="has but one of two"),
        pytest.param([], {"includes": {"caps": ["CAP_A"]}}, False, id="has it not"),
        pytest.param(["CAP_A"], {"excludes": {"caps": ["CAP_A", "CAP_B"]}}, False, id="has one that it must not"),
        pytest.param([], {"excludes": {"caps": ["CAP_A"]}}, True, id="has not what it must not"),
        pytest.param([], {"includes": {"arches": ["amd64"]}}, True, id="this processor"),
        pytest.param([], {"includes": {"arches": ["arm64", "s390x"]}}, False, id="other processors"),
        pytest.param([], {"excludes": {"arches": ["amd64"]}}, False, id="not this processor"),
        pytest.param([], {"includes": {"minKernel": "5.4"}}, True, id="new enough"),
        pytest.param([], {"includes": {"minKernel": "99.1.2-x"}}, False, id="too old"),
        pytest.param([], {"excludes": {"minKernel": "5.4"}}, False, id="too new"),
        pytest.param([], {"includes": {}, "excludes": {}}, True, id="no condition"),
        pytest.param([], {"includes": None}, True, id="null"),
    ],
)
def test_rules_with_conditions(
    tmp_path: Path, capabilities: list[str], condition: dict[str, Any], counts: bool
) -> None:
    program = compiled(tmp_path, frozenset(capabilities), syscalls=refusing(**condition))
    assert answer(program, CALLS["mkdir"]) == (ERRNO(errno.EPERM) if counts else ALLOW)


def test_a_rule_of_its_own_has_no_default_errno(tmp_path: Path) -> None:
    program = compiled(
        tmp_path,
        defaultAction="SCMP_ACT_ERRNO",
        defaultErrnoRet=errno.EXDEV,
        syscalls=[*refusing(), {"names": ["openat2"], "action": "SCMP_ACT_ALLOW"}],
    )
    assert [answer(program, CALLS[name]) for name in ("mkdir", "dup", "openat2")] == [
        ERRNO(errno.EPERM),
        ERRNO(errno.EXDEV),
        ALLOW,
    ]


def test_errno_by_name_and_zero(tmp_path: Path) -> None:
    assert answer(compiled(tmp_path, syscalls=refusing(errno="EROFS")), CALLS["mkdir"]) == ERRNO(errno.EROFS)
    assert answer(compiled(tmp_path, syscalls=refusing(errnoRet=0)), CALLS["mkdir"]) == ERRNO(0)
    program = compiled(tmp_path, defaultAction="SCMP_ACT_ERRNO", defaultErrno="ENOSYS")
    assert answer(program, CALLS["mkdir"]) == ERRNO(errno.ENOSYS)


@pytest.mark.parametrize(
    "words",
    [
        {"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]},
        {"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]},
    ],
)
def test_other_abis_are_those_that_are_named(tmp_path: Path, words: dict[str, Any]) -> None:
    assert answer(compiled(tmp_path, syscalls=refusing(), **words), 39, arch=I386) == ERRNO(errno.EPERM)
    assert answer(compiled(tmp_path, syscalls=refusing(), **words), 3, arch=I386) == ALLOW
    assert answer(compiled(tmp_path, syscalls=refusing()), 3, arch=I386) == KILL
    elsewhere = [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_X86"]}]
    assert answer(compiled(tmp_path, syscalls=refusing(), archMap=elsewhere), 3, arch=I386) == KILL


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        pytest.param({}, 4, id="none named: as runc"),
        pytest.param({"flags": []}, None, id="none"),
        pytest.param({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}, 2, id="log"),
        pytest.param({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}, 6, id="both"),
        pytest.param(
            {"flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, None, id="no effect"
        ),
    ],
)
def test_flags_are_behind_the_filter(tmp_path: Path, flags: dict[str, Any], number: int | None) -> None:
    program = compiled(tmp_path, syscalls=refusing(), **flags)
    assert program[len(program) // 8 * 8 :] == (b"" if number is None else number.to_bytes(4, "little"))


def test_a_changed_profile_is_another_filter(tmp_path: Path) -> None:
    first = compiled(tmp_path, syscalls=refusing())
    assert answer(compiled(tmp_path, syscalls=refusing(errnoRet=5)), CALLS["mkdir"]) == ERRNO(5)
    assert compiled(tmp_path, syscalls=refusing()) == first


def test_too_many_instructions_for_the_kernel(tmp_path: Path) -> None:
    rules = [
        {"names": [name], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
        for number, name in enumerate(CALLS)
        for value in range(1000 * number, 1000 * number + 700)
    ]
    with pytest.raises(SpecError, match=r"\d+ instructions, the kernel takes 4096"):
        compiled(tmp_path, syscalls=rules)
