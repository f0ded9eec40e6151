"""Which files limits go to, on trees made of plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsrun.cgroups import MissingControllerError
from nsrun.cgroups.controllers import Controllers, available
from nsrun.cgroups.layout import Layout
from nsrun.plan.resources import Limits

BOTH = Limits(("cpu", "memory"), 1024, 150_000, 100_000, 64 << 20, oom_group=True)
FILES = ("cpu.weight", "cpu.max", "memory.oom.group", "memory.swap.max", "memory.max", "memory.current")
LEGACY = (
    "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "memory.use_hierarchy", "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes", "memory.usage_in_bytes",
)  # fmt: skip


def group(path: Path, *files: str, controllers: str = "", on: str = "") -> Path:
    """A directory that looks like a cgroup."""
    path.mkdir(parents=True, exist_ok=True)
    for name in files:
        (path / name).write_text("")
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(on)
    return path


def unified(top: Path) -> Controllers:
    """Of a version 2 tree."""
    return Controllers(Layout("v2", top, True, ""), {})


def texts(path: Path) -> dict[str, str]:
    """What was written."""
    return {file.name: text for file in path.iterdir() if file.is_file() and (text := file.read_text())}


def test_S_CGROUP_version_2(tmp_path: Path) -> None:
    top = group(tmp_path, controllers="cpu io memory")
    base = group(top / "nsrun")
    pod = group(base / "pod-1", *FILES)
    controllers = unified(top)
    controllers.prepare(base, BOTH)
    # A plain file keeps the last word that is written; the kernel adds to a set.
    assert (top / "cgroup.subtree_control").read_text() == (base / "cgroup.subtree_control").read_text() == "+memory"
    controllers.apply(pod, BOTH)
    assert texts(pod) == {
        "cpu.weight": "39",
        "cpu.max": "150000 100000",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
        "memory.max": str(64 << 20),
    }
    none = group(base / "pod-2", *FILES)
    controllers.apply(none, Limits(("cpu", "memory")))
    assert texts(none) == {"cpu.weight": "1", "cpu.max": "max 100000", "memory.max": "max"}


def test_S_CGROUP_what_is_switched_on_stays_untouched(tmp_path: Path) -> None:
    top = group(tmp_path, controllers="cpu memory", on="cpu memory")
    unit = group(top / "system.slice" / "nsrun.service", on="cpu memory")
    group(unit.parent, on="cpu memory")
    base = group(unit / "pods", on="memory cpu")
    unified(top).prepare(base, BOTH)
    assert (base / "cgroup.subtree_control").read_text() == "memory cpu"


def test_S_CGROUP_a_service_of_systemd_is_left_alone(tmp_path: Path) -> None:
    """systemd could not start the next server in it while pods of this one hold controllers there."""
    top = group(tmp_path, controllers="cpu memory", on="cpu memory")
    unit = group(group(top / "system.slice", on="cpu memory") / "nsrun.service")
    base = group(unit / "pods")
    with pytest.raises(MissingControllerError, match=r'"cpu".*nsrun\.service/cgroup\.subtree_control'):
        unified(top).prepare(base, BOTH)
    assert (unit / "cgroup.subtree_control").read_text() == ""


def test_S_CGROUP_huge_pages_that_nobody_asks_for_are_no_reason_to_refuse_a_pod(tmp_path: Path) -> None:
    top = group(tmp_path, controllers="memory", on="memory")
    base = group(top / "nsrun", on="memory")
    none = Limits(("memory", "hugetlb"), memory=1, huge_pages=((2 << 20, 0),))
    left = unified(top).prepare(base, none)
    assert left == Limits(("memory",), memory=1, huge_pages=((2 << 20, 0),))
    with pytest.raises(MissingControllerError, match='"hugetlb"'):
        unified(top).prepare(base, Limits(("hugetlb",), huge_pages=((2 << 20, 2 << 20),)))


def test_S_CGROUP_a_scope_is_never_started_again(tmp_path: Path) -> None:
    top = group(tmp_path, controllers="cpu memory", on="cpu memory")
    unit = group(group(top / "system.slice", on="cpu memory") / "nsrun-server-1f.scope")
    base = group(unit / "pods")
    unified(top).prepare(base, Limits(("cpu",)))
    assert (unit / "cgroup.subtree_control").read_text() == (base / "cgroup.subtree_control").read_text() == "+cpu"


def test_S_CGROUP_a_controller_that_is_missing_is_named(tmp_path: Path) -> None:
    top = group(tmp_path, controllers="cpu pids")
    base = group(top / "nsrun")
    with pytest.raises(MissingControllerError, match='"memory"') as caught:
        unified(top).prepare(base, BOTH)
    assert caught.value.controller == "memory"
    layout = Layout("v2", top, True, "")
    assert available(layout, {}) == {"cpu", "pids"}
    assert available(layout, {"memory": tmp_path / "memory"}) == {"cpu", "memory", "pids"}
    assert available(Layout("v1", None, True, "none"), {"cpu": tmp_path}) == set()


def test_S_CGROUP_version_1_has_a_directory_of_the_same_path(tmp_path: Path) -> None:
    top = group(tmp_path / "unified")
    base = group(top / "nsrun" / "pod-1")
    mounts = {"cpu": tmp_path / "cpu", "memory": tmp_path / "memory"}
    for mount in mounts.values():
        group(mount / "nsrun" / "pod-1", *LEGACY)
    (mounts["memory"] / "nsrun" / "pod-1" / "memory.use_hierarchy").write_text("0\n")
    controllers = Controllers(Layout("hybrid", top, True, ""), mounts)
    assert controllers.of_legacy(BOTH) == ("cpu", "memory")
    controllers.prepare(base, BOTH)
    controllers.apply(base, BOTH)
    assert texts(controllers.twin("cpu", base)) == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
    }
    size = str(64 << 20)
    memory = texts(controllers.twin("memory", base))
    assert memory.pop("memory.use_hierarchy")[0] == "1"
    assert memory == {"memory.limit_in_bytes": size, "memory.memsw.limit_in_bytes": size}
    controllers.apply(base, Limits(("cpu",)))
    assert texts(controllers.twin("cpu", base))["cpu.shares"] == "2024", "a plain file keeps what is not written over"
    (controllers.twin("memory", base) / "memory.usage_in_bytes").write_text("4096\n")
    assert controllers.memory_used(base) == 4096


def test_S_CGROUP_all_pods_weigh_as_much_as_the_machine_has_processors(tmp_path: Path) -> None:
    """Written once, when the base is made: whoever changes it after that is left alone."""
    base = group(tmp_path / "unified" / "nsrun")
    (tmp_path / "cpu").mkdir()
    controllers = Controllers(Layout("hybrid", tmp_path / "unified", True, ""), {"cpu": tmp_path / "cpu"})
    controllers.weigh_base(base, Limits(("memory",)), 4)
    assert not (tmp_path / "cpu" / "nsrun").exists()
    controllers.weigh_base(base, BOTH, 4)
    twin = tmp_path / "cpu" / "nsrun"
    assert twin.is_dir()
    (twin / "cpu.shares").write_text("7")
    controllers.weigh_base(base, BOTH, 4)
    assert (twin / "cpu.shares").read_text() == "7"


def test_S_CGROUP_only_what_a_cgroup_began_with_is_written(tmp_path: Path) -> None:
    top = group(tmp_path)
    pod = group(group(top / "nsrun", on="cpu pids") / "pod-1", "cpu.weight")
    controllers = unified(top)
    assert controllers.begun(pod, BOTH).controllers == ("cpu",)
    assert controllers.begun(pod, BOTH).memory == BOTH.memory


HUGE = ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "hugetlb.1GB.max", "hugetlb.64KB.max")


def test_S_CGROUP_processes_and_huge_pages(tmp_path: Path) -> None:
    limits = Limits(("pids", "hugetlb"), pids=100, huge_pages=((64 << 10, 0), (2 << 20, 4 << 20), (1 << 30, 0)))
    top = group(tmp_path / "two", controllers="pids hugetlb")
    pod = group(top / "pod-1", "pids.max", *HUGE)
    unified(top).apply(pod, limits)
    assert texts(pod) == {
        "pids.max": "100",
        "hugetlb.64KB.max": "0",
        "hugetlb.2MB.max": str(4 << 20),
        "hugetlb.2MB.rsvd.max": str(4 << 20),
        "hugetlb.1GB.max": "0",
    }
    unified(top).apply(pod, Limits(("pids",)))
    assert texts(pod)["pids.max"] == "max"
    old = {name: group(tmp_path / name) for name in ("pids", "hugetlb")}
    files = [f"hugetlb.{size}.limit_in_bytes" for size in ("64KB", "2MB", "1GB")]
    for name in old:
        group(old[name] / "pod-1", "pids.max", *files)
    Controllers(Layout("hybrid", top, True, ""), old).apply(pod, limits)
    assert texts(old["pids"] / "pod-1") == {"pids.max": "100"}
    assert texts(old["hugetlb"] / "pod-1") == {files[0]: "0", files[1]: str(4 << 20), files[2]: "0"}


def test_stats_version_2_counts_for_every_pod_what_it_can(tmp_path: Path) -> None:
    top = group(tmp_path, controllers="cpu io memory rdma", on="io memory")
    base = group(top / "nsrun", controllers="io memory")
    pod = group(base / "pod-1", controllers="memory")
    unified(top).count_all(base)
    assert (base / "cgroup.subtree_control").read_text().startswith("+io"), "the last word"
    unified(top).count(pod)
    assert (pod / "cgroup.subtree_control").read_text() == "+memory"
    unit = group(top / "nsrun.service", controllers="io memory")
    below = group(unit / "pods", controllers="")
    unified(top).count_all(below)
    unified(top).count(below)
    assert (unit / "cgroup.subtree_control").read_text() == "", "that is systemd's"
    bare = group(tmp_path / "bare", controllers="")
    unified(bare).count(group(bare / "pod-1"))
    assert texts(bare / "pod-1") == {}
