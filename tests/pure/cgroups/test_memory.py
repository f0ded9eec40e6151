"""What cgroups tell of processes that were killed for want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.cgroups import Cgroups
from nsrun.cgroups.layout import Layout
from nsrun.cgroups.memory import legacy_mount, oom_kills


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


def test_S_OOM_where_the_old_controller_is(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(
        "35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,memory_recursiveprot\n"
    )
    assert legacy_mount(tmp_path) == Path("/sys/fs/cgroup/mem ory")
    (tmp_path / "self" / "mountinfo").write_text("35 31 0:32 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n")
    assert legacy_mount(tmp_path) is None


def test_S_OOM_without_cgroups_nothing_is_known() -> None:
    assert Cgroups(None, Layout("none", None, False, "")).oom_kills("uid", "id") == 0
