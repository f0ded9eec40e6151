"""What cgroups tell of processes that were killed for want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.cgroups import Cgroups, legacy_mounts
from nsrun.cgroups.layout import Layout
from nsrun.cgroups.memory import oom_kills


@pytest.mark.parametrize(
    ("name", "text", "kills"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n", 2),
        ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 0\n", 0),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0),
        ("memory.events", "oom_kill many\n", 0),
        ("memory.events", "", 0),
        ("cgroup.events", "oom_kill 5\n", 0),
    ],
)
def test_S_OOM_what_is_counted(tmp_path: Path, name: str, text: str, kills: int) -> None:
    (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == kills


def test_S_OOM_a_cgroup_that_is_gone_counts_nothing(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "gone") == 0


def test_S_CGROUP_where_the_old_controllers_are() -> None:
    lines = [
        "35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory",
        "36 31 0:33 /x /elsewhere/deep/below/bound/memory rw,relatime - cgroup cgroup rw,memory",
        "37 31 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct",
        "38 31 0:35 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset",
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,memory_recursiveprot",
    ]
    both = {"memory": Path("/sys/fs/cgroup/mem ory"), "cpu": Path("/sys/fs/cgroup/cpu,cpuacct")}
    assert legacy_mounts(lines) == legacy_mounts(reversed(lines)) == both
    assert legacy_mounts(lines[3:]) == {}


def test_S_OOM_without_cgroups_nothing_is_known() -> None:
    assert Cgroups(None, Layout("none", None, False, "")).oom_kills("uid", "id") == 0
