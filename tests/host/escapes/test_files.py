"""Files of the machine: /proc and /sys, devices, handles, chroot, and what others of the machine could make of a container's files."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.escapes.stage import (
    ATTACKERS,
    ATTACKS,
    FREE,
    MAPPED,
    PRISON,
    ROOTS,
    SECRET,
    USERS,
    VICTIM,
    Stage,
    as_nobody,
)
from tests.host.server.harness import box, pod

WRITES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/fs/file-max",
)


@pytest.mark.parametrize("path", WRITES)
def test_settings_of_the_kernel(stage: Stage, path: str) -> None:
    """core_pattern names a program that the kernel runs as root of the machine."""
    assert stage.attack(f"{PRISON}/root", "write_back", path) == "EROFS"
    for attacker in ATTACKERS:
        assert stage.attack(attacker, "write_back", path) in ("EROFS", "EACCES"), attacker
    assert stage.attack(f"{FREE}/privileged", "write_back", path) == "ok"


def test_sysrq(stage: Stage) -> None:
    there = os.path.exists("/proc/sysrq-trigger")
    for attacker in ATTACKERS:
        result = stage.attack(attacker, "open_to_write", "/proc/sysrq-trigger")
        assert result in (("EROFS", "EACCES") if there else ("ENOENT",)), attacker
    works = "ok" if there else "ENOENT"
    assert stage.attack(f"{FREE}/privileged", "open_to_write", "/proc/sysrq-trigger") == works


@pytest.mark.parametrize(
    "path", ["/sys/kernel/mm/ksm/run", "/sys/power/state", "/sys/module/kernel/parameters/crash_kexec_post_notifiers"]
)
def test_settings_of_devices(stage: Stage, path: str) -> None:
    if not os.path.exists(path):
        path = "/sys/kernel/profiling" if os.path.exists("/sys/kernel/profiling") else "/sys/kernel/uevent_helper"
    for attacker in ATTACKERS:
        assert stage.attack(attacker, "open_to_write", path) in ("EROFS", "EACCES"), attacker
    assert stage.attack(f"{PRISON}/root", "open_to_write", path) == "EROFS"
    assert stage.attack(f"{FREE}/privileged", "open_to_write", path) == "ok"


def test_masked_paths(stage: Stage) -> None:
    """What tells of the machine's memory, keys and timers is covered, and the cover cannot be changed."""
    covered = [path for path in ("/proc/interrupts", "/proc/keys", "/proc/timer_list") if os.path.exists(path)]
    assert covered
    for path in covered:
        for attacker in ATTACKERS:
            assert stage.run(attacker, "show", path) == ["ok"], (attacker, path)
        assert stage.attack(f"{PRISON}/root", "change_mode", path, "0777") == "EROFS"
        assert len(stage.run(f"{FREE}/privileged", "show", path)) > 1, path
    assert stage.run(f"{PRISON}/root", "show", "/sys/firmware/dmi") == ["ENOENT"]


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom", "tty"])
def test_devices_keep_their_mode_and_owner(stage: Stage, name: str) -> None:
    """They are the machine's own nodes."""
    for attacker in ATTACKERS:
        assert stage.attack(attacker, "change_mode", f"/dev/{name}", "0600") == "EROFS", attacker
        assert stage.attack(attacker, "change_owner", f"/dev/{name}", "1234") == "EROFS", attacker
        assert stage.attack(attacker, "replace", f"/dev/{name}") in ("EBUSY", "EACCES"), attacker


def _disks() -> list[tuple[str, str, str]]:
    """Block devices of this machine, its memory, ports and log, and one that does no harm."""
    found = [("c", "1", "1"), ("c", "1", "4"), ("c", "1", "11"), ("c", "1", "3")]
    for line in Path("/proc/partitions").read_text().splitlines()[2:]:
        major, minor, blocks, _name = line.split()
        if int(blocks) > 0:
            found.append(("b", major, minor))
    return found


def test_raw_devices(stage: Stage) -> None:
    """Root may make nodes (CAP_MKNOD is in the default set); they do not open anything, wherever they are made."""
    for path in ("/tmp/node", "/dev/node", "/dev/shm/node", "/node"):
        for kind, major, minor in _disks():
            words = ("device", path, kind, major, minor)
            assert stage.run(f"{PRISON}/root", *words) == ["open", "EACCES"], words
            for attacker in (*USERS, f"{MAPPED}/root"):
                assert stage.run(attacker, *words)[0] == "mknod", (attacker, words)
    assert stage.run(f"{FREE}/privileged", "device", "/dev/node", "c", "1", "3") == ["open", "ok"]


@pytest.fixture(scope="module")
def shared(stage: Stage) -> Iterator[Path]:
    """Pods that have a directory of the machine mounted; beside it lies a secret."""
    place = stage.host.scratch / "shared"
    place.mkdir()
    volume = {"name": "v", "hostPath": {"path": str(place)}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    capable = {"capabilities": {"add": ["DAC_READ_SEARCH"]}}
    stage.server.up(
        pod(
            "shared",
            box("root", "pause", volumeMounts=mounts),
            box("user", "pause", volumeMounts=mounts, securityContext={"runAsUser": 1000}),
            box("capable", "pause", volumeMounts=mounts, securityContext=capable),
            volumes=[volume],
        )
    )
    yield place
    stage.server.down("shared")


class _Handle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128))


def _handle_of(path: Path) -> tuple[str, str]:
    handle, mount = _Handle(bytes=128), ctypes.c_int()
    call = ctypes.CDLL(None, use_errno=True).name_to_handle_at
    assert call(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) == 0, ctypes.get_errno()
    return str(handle.type), bytes(handle.handle[: handle.bytes]).hex()


def test_open_by_handle(stage: Stage, shared: Path) -> None:
    """A directory of a file system is enough to have any of its files by number: the way out of early Docker ("shocker")."""
    words = ("by_handle", "/v", *_handle_of(stage.outside / "secret"))
    for attacker in ("root", "user"):
        assert stage.run(f"shared/{attacker}", *words) == ["EPERM"], attacker
    assert stage.run("shared/capable", *words) == [SECRET, "ok"]


def test_dots_and_links_in_a_volume(stage: Stage, shared: Path) -> None:
    for link, target in (("up", "../outside/secret"), ("absolute", str(stage.outside / "secret"))):
        assert stage.attack("shared/root", "make_link", f"/v/{link}", target) == "ok"
        assert stage.run("shared/root", "show", f"/v/{link}") == ["ENOENT"]
        assert (shared / link).read_text() == SECRET, "on the machine it leads there"
    assert stage.run("shared/root", "show", f"/v/../../../../..{stage.outside}/secret") == ["ENOENT"]


def test_chroot(stage: Stage) -> None:
    """Root may chroot, and climb out of it: up to the container's root, which is no chroot."""
    secret = str(stage.outside / "secret")
    for attacker in ROOTS:
        assert stage.run(attacker, "chroot_out", secret) == ["ENOENT"]
        assert stage.run(attacker, "chroot_out", "/etc/passwd")[-1] == "ok", "it does get out of the chroot"
    for attacker in USERS:
        assert stage.run(attacker, "chroot_out", secret) == ["EPERM"], attacker


def test_root_of_a_process(stage: Stage) -> None:
    secret = str(stage.outside / "secret")
    for path in (f"/proc/1/root{secret}", f"/proc/1/cwd/..{secret}", f"/proc/self/root/..{secret}"):
        for attacker in ATTACKERS:
            assert stage.run(attacker, "show", path) in (["ENOENT"], ["EACCES"]), (attacker, path)
    assert stage.run(f"{PRISON}/root", "show", "/proc/1/root/etc/passwd")[-1] == "ok"


def test_others_of_the_machine_do_not_reach_a_containers_files(stage: Stage, shared: Path) -> None:
    """What root in a container makes (a set-user-ID program, a device) lies where no user of the machine can go (CVE-2021-41103)."""
    assert stage.attack(f"{PRISON}/root", "plant_suid", "/tmp/suid") == "ok"
    planted = [path for path in stage.server.root.rglob("upper/tmp/suid") if path.stat().st_mode & 0o4000]
    assert planted
    for path in planted:
        done = as_nobody(path, "become_root")
        assert "Permission denied" in done.stderr and "euid 0" not in done.stdout, done
    # With hostUsers: false it is not even root's.
    assert stage.attack(f"{MAPPED}/root", "plant_suid", "/tmp/mapped") == "ok"
    assert [path.stat().st_uid >= 1 << 16 for path in stage.server.root.rglob("upper/tmp/mapped")] == [True]
    # Control: in a directory that everybody may enter, a hostPath, it would.
    assert stage.attack("shared/root", "plant_suid", "/v/suid") == "ok"
    assert as_nobody(shared / "suid", "become_root").stdout == "euid 0\nok\n"
    (shared / "suid").unlink()


def test_environment_of_the_server_stays_outside(stage: Stage) -> None:
    for where in (*ATTACKERS, f"{FREE}/privileged"):
        for pid in ("1", "self"):
            said = stage.run(where, "show", f"/proc/{pid}/environ")
            assert said[-1] == "ok" and "NSRUN_TESTS_SECRET" not in said[0], where
    assert SECRET in stage.run(f"{VICTIM}/a", "show", "/proc/1/environ")[0]


def test_control_group_files(stage: Stage) -> None:
    """Nothing of the tree of control groups can be written; its path on the machine does not show."""
    for attacker in ATTACKERS:
        result = stage.attack(attacker, "open_to_write", "/sys/fs/cgroup/cgroup.procs")
        assert result in ("ENOENT", "EROFS", "EACCES"), attacker
        shown = stage.run(attacker, "show", "/proc/self/cgroup")
        unified = [line for line in shown if line.startswith("0::")]
        assert unified == ["0::/"], shown


def test_nothing_of_the_runtime_is_left_open(stage: Stage) -> None:
    """No descriptor, and no working directory, of the machine's (CVE-2016-9962, CVE-2024-21626)."""
    for where in (*ATTACKERS, f"{FREE}/privileged"):
        assert stage.run(where, "descriptors") == ["EBADF"], where
        assert stage.run(where, "directory") == ["/", "ok"], where
    # Control: one that is there is found. The first process of a container is looked at from beside it.
    code, out, _err = stage.server.run(PRISON, "/bin/ls", "/proc/1/fd", container="root")
    assert (code, out.split()) == (0, [b"0", b"1", b"2"])


def test_the_working_directory_is_none_of_a_descriptor(stage: Stage) -> None:
    """/proc/self/fd/N as workingDir was the machine's root under runc (CVE-2024-21626), of a container and of a command."""
    containers = [
        box(f"c{number}", "attacks", "directory", workingDir=f"/proc/self/fd/{number}") for number in range(3, 20)
    ]
    stage.server.up(pod("leaky", *containers, restartPolicy="Never"), wait="none")
    stage.server.wait("leaky", "jsonpath={.status.phase}=Failed")
    for one in stage.server.get("leaky")["status"]["containerStatuses"]:
        ended = one["state"]["terminated"]
        assert ended["reason"] == "StartError" and "/proc/self/fd/" in ended["message"], one
    stage.server.down("leaky")
    for number in (*range(3, 12), 100):
        with pytest.raises(AssertionError, match=rf"exec failed: \d+ ({errno.ELOOP}|{errno.ENOENT}) /proc/self/fd/"):
            stage.server.run(PRISON, ATTACKS, "directory", container="root", workdir=f"/proc/self/fd/{number}")
    # Control: a link that leads somewhere inside is followed.
    assert stage.attack(f"{PRISON}/root", "make_link", "/tmp/link", "../home") == "ok"
    said = stage.server.run(PRISON, ATTACKS, "directory", container="root", workdir="/tmp/link")
    assert said == (0, b"/home\nok\n", b"")
