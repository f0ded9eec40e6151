"""RuntimeDefault and other profiles: what the compiled filter answers, and when it is compiled."""

from __future__ import annotations

import errno
import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import SpecError, UnsupportedError
from nsrun.plan.capabilities import ALL_CAPABILITIES
from nsrun.security import default_capabilities, seccomp, seccomp_filter
from tests.pure.security.bpf import ALLOW, ERRNO, I386, KILL, answer

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers below are those of x86-64")

EPERM, ENOSYS = ERRNO(errno.EPERM), ERRNO(errno.ENOSYS)
NEWUSER, NEWNS, SIGCHLD = 0x10000000, 0x20000, 17

PROFILE = json.loads(Path(seccomp.__file__).with_name("seccomp-default.json").read_text())


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters are kept in memory for good; each test starts without."""
    monkeypatch.setattr(seccomp, "_memory", {})


@pytest.fixture(scope="module")
def usual() -> bytes:
    return seccomp_filter("RuntimeDefault", default_capabilities())


@pytest.mark.parametrize(
    ("call", "args", "expected"),
    [
        pytest.param(0, (), ALLOW, id="read"),
        pytest.param(59, (), ALLOW, id="execve"),
        pytest.param(231, (), ALLOW, id="exit_group"),
        pytest.param(202, (), ALLOW, id="futex"),
        pytest.param(257, (), ALLOW, id="openat"),
        pytest.param(437, (), ALLOW, id="openat2"),
        pytest.param(133, (), ALLOW, id="mknod"),
        pytest.param(101, (), ALLOW, id="ptrace"),
        pytest.param(161, (), ALLOW, id="chroot: CAP_SYS_CHROOT is in the default set"),
        pytest.param(434, (), ALLOW, id="pidfd_open"),
        pytest.param(158, (), ALLOW, id="arch_prctl"),
        pytest.param(165, (), EPERM, id="mount"),
        pytest.param(166, (), EPERM, id="umount2"),
        pytest.param(155, (), EPERM, id="pivot_root"),
        pytest.param(272, (), EPERM, id="unshare"),
        pytest.param(308, (), EPERM, id="setns"),
        pytest.param(250, (), EPERM, id="keyctl"),
        pytest.param(248, (), EPERM, id="add_key"),
        pytest.param(249, (), EPERM, id="request_key"),
        pytest.param(321, (), EPERM, id="bpf"),
        pytest.param(298, (), EPERM, id="perf_event_open"),
        pytest.param(323, (), EPERM, id="userfaultfd"),
        pytest.param(425, (), EPERM, id="io_uring_setup"),
        pytest.param(304, (), EPERM, id="open_by_handle_at"),
        pytest.param(175, (), EPERM, id="init_module"),
        pytest.param(313, (), EPERM, id="finit_module"),
        pytest.param(246, (), EPERM, id="kexec_load"),
        pytest.param(169, (), EPERM, id="reboot"),
        pytest.param(167, (), EPERM, id="swapon"),
        pytest.param(170, (), EPERM, id="sethostname"),
        pytest.param(103, (), EPERM, id="syslog"),
        pytest.param(172, (), EPERM, id="iopl"),
        pytest.param(227, (), EPERM, id="clock_settime"),
        pytest.param(429, (), EPERM, id="move_mount"),
        pytest.param(442, (), EPERM, id="mount_setattr"),
        pytest.param(239, (), EPERM, id="get_mempolicy"),
        pytest.param(56, (SIGCHLD,), ALLOW, id="clone: fork"),
        pytest.param(56, (0x3D0F00,), ALLOW, id="clone: thread"),
        pytest.param(56, (NEWUSER | SIGCHLD,), EPERM, id="clone: user namespace"),
        pytest.param(56, (NEWNS | SIGCHLD,), EPERM, id="clone: mount namespace"),
        pytest.param(56, (0x02000000,), EPERM, id="clone: cgroup namespace"),
        pytest.param(435, (), ENOSYS, id="clone3"),
        pytest.param(135, (0,), ALLOW, id="personality: Linux"),
        pytest.param(135, (0xFFFFFFFF,), ALLOW, id="personality: which"),
        pytest.param(135, (0x0040000,), EPERM, id="personality: no randomization"),
        pytest.param(41, (1,), ALLOW, id="socket: local"),
        pytest.param(41, (2,), ALLOW, id="socket: inet"),
        pytest.param(41, (10,), ALLOW, id="socket: inet6"),
        pytest.param(41, (16,), ALLOW, id="socket: netlink"),
        pytest.param(41, (17,), ALLOW, id="socket: packet"),
        pytest.param(41, (38,), EPERM, id="socket: alg"),
        pytest.param(41, (40,), EPERM, id="socket: vsock"),
        pytest.param(41, (0x100000028,), EPERM, id="socket: vsock with bits that the kernel drops"),
        pytest.param(511, (), ENOSYS, id="a number that no kernel has"),
        pytest.param(100_000, (), ENOSYS, id="a number far out"),
    ],
)
def test_runtime_default(usual: bytes, call: int, args: tuple[int, ...], expected: int) -> None:
    assert answer(usual, call, args) == expected


def test_other_abis_of_this_machine(usual: bytes) -> None:
    assert answer(usual, 3, arch=I386) == ALLOW  # read
    assert answer(usual, 21, arch=I386) == EPERM  # mount
    assert answer(usual, 286, arch=I386) == EPERM  # add_key
    assert answer(usual, 0x40000000) == ALLOW  # read of x32
    assert answer(usual, 0x40000000 + 165) == EPERM  # mount of x32
    assert answer(usual, 0, arch=0xC00000B7) == KILL  # aarch64 does not run here


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        ("CAP_SYS_ADMIN", 165),
        ("CAP_SYS_ADMIN", 272),
        ("CAP_SYS_ADMIN", 435),
        ("CAP_SYS_ADMIN", 429),
        ("CAP_SYS_PTRACE", 312),
        ("CAP_SYS_TIME", 227),
        ("CAP_SYS_MODULE", 313),
        ("CAP_SYS_BOOT", 169),
        ("CAP_SYSLOG", 103),
        ("CAP_BPF", 321),
        ("CAP_PERFMON", 298),
        ("CAP_SYS_NICE", 239),
        ("CAP_DAC_READ_SEARCH", 304),
        ("CAP_SYS_RAWIO", 172),
    ],
)
def test_a_capability_opens_its_calls(usual: bytes, capability: str, call: int) -> None:
    assert answer(usual, call) in (EPERM, ENOSYS)
    assert answer(seccomp_filter("RuntimeDefault", default_capabilities() | {capability}), call) == ALLOW


def test_without_capabilities_chroot_is_closed() -> None:
    bare = seccomp_filter("RuntimeDefault", frozenset())
    assert answer(bare, 161) == EPERM
    assert answer(bare, 56, (SIGCHLD,)) == ALLOW


def test_with_sys_admin_clone_may_make_namespaces() -> None:
    assert answer(seccomp_filter("RuntimeDefault", frozenset({"CAP_SYS_ADMIN"})), 56, (NEWUSER,)) == ALLOW


def test_the_data_is_in_order() -> None:
    actions = {rule["action"] for rule in PROFILE["syscalls"]}
    assert actions == {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}
    asked = {
        name
        for rule in PROFILE["syscalls"]
        for side in ("includes", "excludes")
        for name in rule.get(side, {}).get("caps", [])
    }
    assert asked <= set(ALL_CAPABILITIES)
    plain = [
        name
        for rule in PROFILE["syscalls"]
        if not rule.keys() & {"args", "includes", "excludes"}
        for name in rule["names"]
    ]
    assert len(plain) == len(set(plain)), "a name stands in one group only"
    assert not set(plain) & {
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "bpf",
        "ptrace",
        "clone",
        "clone3",
        "socket",
        "personality",
    }


# --- the cache ---------------------------------------------------------------------------------------------------------


def _no_library() -> Any:
    raise AssertionError("compiled again")


def test_a_warm_cache_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "not" / "there" / "yet"
    first = seccomp_filter("RuntimeDefault", default_capabilities(), cache=cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(seccomp, "_load_library", _no_library)
    assert seccomp_filter("RuntimeDefault", default_capabilities()) == first
    monkeypatch.setattr(seccomp, "_memory", {})
    assert seccomp_filter("RuntimeDefault", default_capabilities(), cache=cache) == first
    with pytest.raises(AssertionError, match="compiled again"):
        seccomp_filter("RuntimeDefault", default_capabilities() | {"CAP_SYS_ADMIN"}, cache=cache)


def test_capabilities_that_no_rule_asks_about_share_a_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = seccomp_filter("RuntimeDefault", default_capabilities())
    monkeypatch.setattr(seccomp, "_load_library", _no_library)
    assert seccomp_filter("RuntimeDefault", default_capabilities() | {"CAP_NET_ADMIN"}) == first
    assert seccomp_filter("RuntimeDefault", frozenset({"CAP_SYS_CHROOT"})) == first


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 400])
def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    first = seccomp_filter("RuntimeDefault", frozenset(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage)
    monkeypatch.setattr(seccomp, "_memory", {})
    assert seccomp_filter("RuntimeDefault", frozenset(), cache=tmp_path) == first
    assert file.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert seccomp_filter("RuntimeDefault", frozenset(), cache=tmp_path / "file")


def test_without_libseccomp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    with pytest.raises(UnsupportedError, match=r"libseccomp\.so\.2 is not installed") as caught:
        seccomp_filter("RuntimeDefault", frozenset())
    assert "apt install libseccomp2" in (caught.value.resolution or "")


def test_a_processor_that_no_profile_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(UnsupportedError, match="no seccomp profile for vax"):
        seccomp_filter("RuntimeDefault", frozenset())


# --- other profiles ----------------------------------------------------------------------------------------------------


def _localhost(tmp_path: Path, profile: object) -> bytes:
    (tmp_path / "p.json").write_text(profile if isinstance(profile, str) else json.dumps(profile))
    return seccomp_filter("Localhost/p.json", frozenset(), profiles=tmp_path)


def test_a_profile_that_allows_all_but_one(tmp_path: Path) -> None:
    program = _localhost(
        tmp_path,
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}],
        },
    )
    assert answer(program, 83) == ERRNO(errno.EXDEV)
    assert answer(program, 0) == ALLOW
    assert answer(program, 511) == ALLOW


def test_a_profile_with_arguments(tmp_path: Path) -> None:
    rule = {
        "names": ["dup"],
        "action": "SCMP_ACT_KILL_PROCESS",
        "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_GE"}],
    }
    program = _localhost(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert [answer(program, 32, (fd,)) for fd in (6, 7, 1 << 40)] == [ALLOW, 0x80000000, 0x80000000]


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", "missing required field `defaultAction`"),
        ({"defaultAction": "SCMP_ACT_FLY"}, "unknown action 'SCMP_ACT_FLY'"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}, "missing required field `action`"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]},
            r"a rule \(SCMP_ACT_LOG\) names no system call",
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG", "name": "a", "names": ["b"]}]},
            "both name",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X86"]}, "unknown architecture 'X86'"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
            },
            "both architectures and archMap",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["FAST"]}, "unknown flag 'FAST'"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EFOO"}, "no errno 'EFOO'"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}, "defaultErrnoRet 5000 is no errno"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"name": "dup", "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0}]}],
            },
            "<= 5",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"name": "dup", "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1 << 64}]}],
            },
            "decoding seccomp profile failed",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 0, "op": "?"}]}
                ],
            },
            "unknown operator '\\?'",
        ),
    ],
)
def test_a_profile_that_is_none(tmp_path: Path, profile: object, text: str) -> None:
    with pytest.raises(SpecError, match=text) as caught:
        _localhost(tmp_path, profile)
    assert str(caught.value).startswith(f'decoding seccomp profile failed "{tmp_path}/p.json": ')


@pytest.mark.parametrize(
    "where", [{"defaultAction": "SCMP_ACT_NOTIFY"}, {"listenerPath": "/run/agent.sock"}, {"syscalls": 1}]
)
def test_notify_is_refused_by_name(tmp_path: Path, where: dict[str, Any]) -> None:
    if "syscalls" in where:
        where = {"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}
    with pytest.raises(UnsupportedError, match="SCMP_ACT_NOTIFY is not supported"):
        _localhost(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", **where})


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r'cannot load seccomp profile ".*gone\.json": No such file or directory'):
        seccomp_filter("Localhost/gone.json", frozenset(), profiles=tmp_path)
    with pytest.raises(UnsupportedError, match="neither RuntimeDefault nor Localhost"):
        seccomp_filter("Localhost/gone.json", frozenset())
