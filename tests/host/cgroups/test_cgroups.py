"""Cgroups on this machine's own tree: everything a container started ends with it, and nothing else does."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun import native
from nsrun.cgroups import Cgroups, choose_base, detect, older_bases
from nsrun.errors import NsrunError, StepError
from nsrun.plan.ops import Env, Exec
from tests.capabilities import PATIENCE
from tests.host.testhost import REPOSITORY, Host

pytestmark = [pytest.mark.requires("cgroup2"), pytest.mark.timeout(60)]

DAEMONS = "for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM HUP; sleep 300 & exec sleep 300' &); done; exec sleep 300"
"""Sleepers in sessions of their own whose parents are gone."""


class Children:
    """Starts processes inside of cgroups and reaps them."""

    def __init__(self) -> None:
        self.children: list[native.Child] = []

    def start(self, group: int, script: str = DAEMONS) -> native.Child:
        """Born in the cgroup: it never was in another."""
        program = native.encode([Env(("PATH=/usr/bin:/bin",)), Exec(("/bin/sh", "-c", script))])
        child = native.run(program, cgroup_fd=group)
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                native.pidfd_send_signal(child.pidfd, 9)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    yield children
    children.close()


@pytest.fixture(params=["cgroup.kill", "freeze and kill"])
def groups(leak_check: None, host: Host, request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    layout = dataclasses.replace(detect(), kill=request.param == "cgroup.kill")
    host.root.mkdir()
    groups = Cgroups(choose_base(layout, host.root, host.root), layout)
    yield groups
    groups.close(remove=True)
    assert groups.base is not None
    assert not groups.base.exists()


def populated(groups: Cgroups, uid: str, container: str, count: int) -> list[int]:
    """The pids, when the daemons have been started."""
    deadline = time.monotonic() + 10
    while True:
        pids = groups.processes(uid, container)
        # A shell among them is one that still forks.
        if len(pids) == count and all(name(pid) == "sleep" for pid in pids):
            return pids
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)


def start(groups: Cgroups, children: Children, uid: str, container: str) -> list[int]:
    """A container whose seven processes have nothing in common but their cgroup."""
    fd = groups.create_container(uid, container)
    assert fd is not None
    try:
        children.start(fd)
    finally:
        os.close(fd)
    return populated(groups, uid, container, 7)


def name(pid: int) -> str:
    """What ps calls it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pids: list[int]) -> list[int]:
    """Those that are neither gone nor zombies."""
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_detect_finds_the_tree_of_this_machine() -> None:
    layout = detect()
    assert layout.kind in ("v2", "hybrid")
    assert layout.mount is not None
    assert (layout.mount / "cgroup.controllers").exists()
    assert layout.reason == ""


def test_a_descriptor_of_a_container_is_close_on_exec(groups: Cgroups) -> None:
    fd = groups.create_container("one", "c1")
    assert fd is not None
    try:
        assert not os.get_inheritable(fd)
        assert os.readlink(f"/proc/self/fd/{fd}") == f"{groups.base}/pod-one/c1"
    finally:
        os.close(fd)


def test_removing_a_pod_kills_daemons_that_forked_twice(groups: Cgroups, children: Children) -> None:
    pids = start(groups, children, "one", "c1") + start(groups, children, "one", "c2")
    assert len(groups.processes("one")) == 14
    assert alive(pids) == pids
    started = time.monotonic()
    groups.remove_pod("one")
    assert time.monotonic() - started < 2
    assert alive(pids) == []
    assert groups.pods() == []
    groups.remove_pod("one")
    groups.kill_pod("one")


def test_killing_one_container_spares_the_other(groups: Cgroups, children: Children) -> None:
    doomed = start(groups, children, "one", "c1")
    spared = start(groups, children, "one", "c2")
    other = start(groups, children, "two", "c1")
    groups.kill_container("one", "c1")
    groups.remove_container("one", "c1")
    assert alive(doomed) == []
    assert alive(spared + other) == spared + other
    assert groups.processes("one") == groups.processes("one", "c2")


def test_a_fork_bomb_does_not_outrun_the_kill(groups: Cgroups, children: Children) -> None:
    fd = groups.create_container("one", "bomb")
    assert fd is not None
    children.start(fd, "f() { while :; do sleep 300 & sleep 0.001; done; }; f & f & f & f")
    os.close(fd)
    deadline = time.monotonic() + 60
    while len(groups.processes("one")) < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(groups.processes("one")) >= 100
    groups.remove_pod("one")
    assert groups.pods() == []


def test_cgroups_that_a_container_made_go_with_it(groups: Cgroups, children: Children) -> None:
    start(groups, children, "one", "c1")
    assert groups.base is not None
    nested = groups.base / "pod-one" / "c1" / "a" / "b"
    nested.mkdir(parents=True)
    moved = groups.processes("one", "c1")[0]
    (nested / "cgroup.procs").write_text(str(moved))
    assert len(groups.processes("one", "c1")) == 7
    groups.remove_container("one", "c1")
    assert not (groups.base / "pod-one" / "c1").exists()
    assert alive([moved]) == []


def test_collect_spares_the_living(groups: Cgroups, children: Children) -> None:
    spared = start(groups, children, "alive", "c1")
    gone = start(groups, children, "gone", "c1")
    assert groups.collect({"alive", "no-cgroup-yet"}) == ["gone"]
    assert alive(spared) == spared
    assert alive(gone) == []
    assert groups.pods() == ["alive"]


def test_a_process_that_does_not_end_is_named(
    groups: Cgroups, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = start(groups, children, "one", "c1")
    with monkeypatch.context() as patch:
        # What a process in uninterruptible sleep looks like from here.
        patch.setattr(groups, "_kill", lambda path: None)
        with pytest.raises(NsrunError, match="do not end") as caught:
            groups.remove_pod("one", patience=0.1)
    assert str(pids[0]) in caught.value.brief


def test_a_base_in_a_place_that_is_no_cgroup_tree_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.root.mkdir()
    monkeypatch.setenv("NSRUN_CGROUP_BASE", "/proc/nowhere")
    with pytest.raises(StepError) as caught:
        choose_base(detect(), host.root, host.root)
    assert caught.value.number == errno.ENOENT
    assert "/proc/nowhere" in caught.value.brief


def test_without_a_tree_nothing_is_made_and_nothing_fails(host: Host) -> None:
    layout = dataclasses.replace(detect(), kind="v1", mount=None, reason="only version 1")
    assert choose_base(layout, host.root, host.root) is None
    groups = Cgroups(None, layout)
    groups.create_pod("one")
    assert groups.create_container("one", "c1") is None
    assert groups.processes("one") == []
    groups.kill_pod("one")
    groups.remove_container("one", "c1")
    groups.remove_pod("one")
    assert groups.collect(()) == []
    groups.close(remove=True)


def test_a_full_run_directory_is_named_and_leaves_no_cgroup(leak_check: None, host: Host) -> None:
    full = host.scratch / "run"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "tmpfs", str(full)], check=True)
    try:
        (full / "filler").touch()
        with pytest.raises(StepError, match=r"write .*/run/cgroup-base: No space left on device"):
            choose_base(detect(), host.root, full)
        assert os.listdir(full) == ["filler"]
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_a_base_that_is_written_down_needs_no_room(leak_check: None, host: Host) -> None:
    """Also when its cgroup went with the last pod: else no server could start while the disk is full."""
    full = host.scratch / "run"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(full)], check=True)
    try:
        first = choose_base(detect(), host.root, full)
        assert first is not None
        first.rmdir()
        with pytest.raises(OSError, match="No space left"):
            (full / "filler").write_bytes(bytes(1 << 14))
        assert choose_base(detect(), host.root, full) == first
        first.rmdir()
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_the_recorded_base_outlives_the_server_that_chose_it(
    leak_check: None, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.root.mkdir()
    layout = detect()
    first = choose_base(layout, host.root, host.root)
    assert first == host.cgroup_base
    assert first is not None
    monkeypatch.delenv("NSRUN_CGROUP_BASE")
    assert choose_base(layout, host.root, host.root) == first
    first.rmdir()
    named = choose_base(layout, host.root, host.root)
    assert named is not None
    assert layout.mount is not None
    try:
        assert named.parent == layout.mount
        assert named.name.startswith("nsrun-")
    finally:
        named.rmdir()


def test_pods_stay_in_the_base_that_they_were_made_in(
    leak_check: None, host: Host, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.root.mkdir()
    layout = detect()
    assert host.cgroup_base is not None
    first, second, third = (host.cgroup_base / name for name in ("first", "second", "third"))

    def server(base: Path) -> Cgroups:
        monkeypatch.setenv("NSRUN_CGROUP_BASE", str(base))
        assert choose_base(layout, host.root, host.root) == base
        return Cgroups(base, layout, older_bases(base, layout, host.root))

    start(server(first), children, "one", "c1")
    groups = server(second)
    start(groups, children, "two", "c1")
    start(groups, children, "one", "c2")
    groups = server(third)
    start(groups, children, "three", "c1")
    assert sorted(groups.pods()) == ["one", "three", "two"]
    assert sorted(path.name for path in (first / "pod-one").iterdir() if path.is_dir()) == ["c1", "c2"]
    assert (second / "pod-two" / "c1").is_dir()
    assert (third / "pod-three" / "c1").is_dir()
    assert len(groups.processes("one")) == 14

    groups.remove_container("one", "c1")
    groups.remove_pod("two")
    assert groups.collect({"one", "three"}) == []
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert older_bases(third, layout, host.root) == [first]
    assert groups.collect(()) == ["three", "one"]
    assert list(host.cgroup_base.glob("*/")) == []
    host.cgroup_base.rmdir()


REPORT = """
import subprocess
import sys
from nsrun.cgroups import choose_base, detect
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
base = choose_base(detect(), None, sys.argv[2])
print(base)
print([line.strip() for line in open("/proc/self/cgroup") if line.startswith("0::")][0][3:])
"""


@pytest.mark.parametrize("attribute", ["trusted.delegate", "user.delegate"])
def test_in_a_delegated_unit_the_server_makes_room_for_pods(
    leak_check: None, host: Host, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    monkeypatch.delenv("NSRUN_CGROUP_BASE")
    host.root.mkdir()
    assert host.cgroup_base is not None
    unit = host.cgroup_base / "nsrun.service"
    unit.mkdir(parents=True)
    try:
        os.setxattr(unit, attribute, b"1")
        command = [sys.executable, "-c", REPORT, str(unit), str(host.root)]
        # The second time it begins in the leaf already, or systemd puts it into the unit again: both find the same base.
        for _ in range(2):
            base, own = host.run(*command, environment=dict(os.environ)).stdout.split()
            assert base == str(unit / "pods")
            assert own.endswith("/nsrun.service/supervisor")
        (host.root / "cgroup-base").unlink()
        command[3] = str(unit / "supervisor")
        base, own = host.run(*command, environment=dict(os.environ)).stdout.split()
        assert base == str(unit / "pods")
        assert own.endswith("/nsrun.service/supervisor")
    finally:
        for name in ("pods", "supervisor", "."):
            os.rmdir(unit / name if name != "." else unit)
        host.cgroup_base.rmdir()


def in_mounts(host: Host, prepare: str, program: str) -> str:
    """Output of a Python program in a mount namespace with other cgroup mounts."""
    script = f'{prepare}\nexec "$0" -c "$1"'
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, sys.executable, program]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return host.run(*argv, environment=environment).stdout.strip()


SHOW = "from nsrun.cgroups import detect; layout = detect(); print(layout.kind, layout.mount, bool(layout.reason))"
WITHOUT = "umount -R /sys/fs/cgroup"


def test_layouts_as_other_machines_have_them(host: Host) -> None:
    assert in_mounts(host, WITHOUT, SHOW) == "none None True"
    assert in_mounts(host, f"{WITHOUT}; mount -t cgroup2 none /sys/fs/cgroup", SHOW) == "v2 /sys/fs/cgroup False"
    read_only = f"{WITHOUT}; mount -t cgroup2 none /sys/fs/cgroup; mount -o remount,bind,ro /sys/fs/cgroup"
    assert in_mounts(host, read_only, SHOW) == "v2 None True"


@pytest.mark.skipif(
    b"nodev\tcgroup\n" not in Path("/proc/filesystems").read_bytes(), reason="no version 1 in this kernel"
)
def test_version_1_only(host: Host) -> None:
    prepare = f"{WITHOUT}; mount -t tmpfs none /mnt; mkdir /mnt/x; mount -t cgroup -o none,name=nsrun-test none /mnt/x"
    assert in_mounts(host, prepare, SHOW) == "v1 None True"


LIFE = """
import os, subprocess, time
from pathlib import Path
from nsrun.cgroups import Cgroups, choose_base, detect
os.environ["NSRUN_CGROUP_BASE"] = os.environ["BASE"]
layout = detect()
groups = Cgroups(choose_base(layout, None, os.environ["RUN"]), layout)
fd = groups.create_container("one", "c1")
path = groups.base / "pod-one" / "c1"
child = subprocess.Popen(["sh", "-c", f"echo 0 > {path}/cgroup.procs; setsid sleep 300 & exec sleep 300"])
while len(groups.processes("one")) < 2:
    time.sleep(0.01)
groups.remove_pod("one")
print(layout.kind, child.wait(), groups.pods())
groups.close(remove=True)
"""


def test_a_containers_life_on_a_pure_version_2_machine(leak_check: None, host: Host) -> None:
    host.root.mkdir()
    name = Path(str(host.machine.cgroup_base)).name
    prepare = f"{WITHOUT}; mount -t cgroup2 none /sys/fs/cgroup; export BASE=/sys/fs/cgroup/{name}/v2 RUN={host.root}"
    assert in_mounts(host, prepare, LIFE) == "v2 -9 []"


def test_making_and_removing_takes_microseconds(leak_check: None, host: Host) -> None:
    host.root.mkdir()
    layout = detect()
    groups = Cgroups(choose_base(layout, host.root, host.root), layout)
    times = []
    for number in range(50):
        started = time.perf_counter()
        fd = groups.create_container(f"p{number}", "c1")
        groups.remove_pod(f"p{number}")
        times.append(time.perf_counter() - started)
        assert fd is not None
        os.close(fd)
    groups.close(remove=True)
    # 0.15 ms where this was written. The least of all: who else wants the processors, or emulates them, is not looked at here.
    assert min(times) < 0.003 * PATIENCE, times
