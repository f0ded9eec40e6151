"""What mount tables of different machines mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.cgroups.layout import layout_of, own_cgroup

V2 = "31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"
V1 = "35 32 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:13 - cgroup cgroup rw,memory"
UNIFIED = "33 32 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate"
ROOT = "24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"


def test_pure_version_2() -> None:
    layout = layout_of([ROOT, V2], "6.1.0-13-amd64")
    assert (layout.kind, layout.mount, layout.kill, layout.reason) == ("v2", Path("/sys/fs/cgroup"), True, "")


def test_hybrid() -> None:
    layout = layout_of([ROOT, V1, UNIFIED], "6.18.44-fc")
    assert (layout.kind, layout.mount, layout.reason) == ("hybrid", Path("/sys/fs/cgroup/unified"), "")


def test_version_1_only_is_said() -> None:
    layout = layout_of([ROOT, V1], "5.10.0")
    assert (layout.kind, layout.mount, layout.kill) == ("v1", None, False)
    assert "no cgroup2" in layout.reason
    assert "PID namespaces" in layout.reason


def test_none_is_said() -> None:
    layout = layout_of([ROOT], "6.1.0")
    assert (layout.kind, layout.mount) == ("none", None)
    assert layout.reason


@pytest.mark.parametrize(
    "line",
    [V2.replace(" rw,nosuid", " ro,nosuid"), V2.replace("cgroup2 rw,nsdelegate", "cgroup2 ro,nsdelegate")],
)
def test_a_read_only_tree_cannot_be_used(line: str) -> None:
    layout = layout_of([ROOT, line], "6.1.0")
    assert (layout.kind, layout.mount) == ("v2", None)
    assert "read-only" in layout.reason


def test_the_whole_tree_is_preferred_to_bind_mounts_of_it() -> None:
    other = "99 24 0:27 /a /very/deep/down/cgroup\\040x rw - cgroup2 cgroup2 rw"
    assert layout_of([ROOT, other, V2], "6.1.0").mount == Path("/sys/fs/cgroup")
    assert layout_of([ROOT, other], "6.1.0").mount == Path("/very/deep/down/cgroup x")


@pytest.mark.parametrize(
    ("release", "kill"), [("5.13.19", False), ("5.14.0-rc1", True), ("6.1.0-13-amd64", True), ("4.19", False)]
)
def test_cgroup_kill_came_with_5_14(release: str, kill: bool) -> None:
    assert layout_of([V2], release).kill is kill


def test_own_cgroup() -> None:
    text = "9:name=systemd:/x\n4:memory:/y\n0::/system.slice/nsrun.service\n"
    assert own_cgroup(text) == "/system.slice/nsrun.service"
    assert own_cgroup("0::/gone (deleted)\n") == "/gone"
    assert own_cgroup("4:memory:/y\n") is None


def test_a_tree_under_another_mount_is_passed_over() -> None:
    assert layout_of([ROOT, V1, UNIFIED], "6.1.0", lambda _: False).kind == "v1"
    other = UNIFIED.replace("/sys/fs/cgroup/unified", "/mnt/cgroup/unified/tree")
    layout = layout_of([ROOT, UNIFIED, other], "6.1.0", lambda path: path.is_relative_to("/mnt"))
    assert layout.mount == Path("/mnt/cgroup/unified/tree")
