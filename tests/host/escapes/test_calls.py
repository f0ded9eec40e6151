"""System calls: each is refused to root, to a user, and to a user without anything; each gets further where a layer is lifted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.host.escapes.stage import ATTACKERS, FREE, MAPPED, ROOTS, USERS, Stage

FURTHER = ("ok", "EINVAL", "EFAULT", "ENOENT", "ENOEXEC", "ENOSYS", "EAFNOSUPPORT", "EBUSY")
"""Not refused: the kernel has looked at what is asked for, or does not have it."""


@dataclass(frozen=True)
class Call:
    """A system call.

    Attributes:
        name: of the attack.
        control: the container of FREE that gets further.
        refused: the errno.
        works: what the control comes to.
        words: of the attack beside its name.
        control_words: those of the control, where they are others.
    """

    name: str
    control: str = "privileged"
    refused: str = "EPERM"
    works: tuple[str, ...] = ("ok",)
    words: tuple[str, ...] = ()
    control_words: tuple[str, ...] | None = None


CALLS = (
    # Mounts: seccomp, and no CAP_SYS_ADMIN.
    Call("mount", "admin"),
    Call("umount_mask", "admin"),
    Call("remount_proc_sys", "admin"),
    Call("bind_proc", "admin"),
    Call("mount_proc", "admin"),
    Call("fsopen", "admin"),
    Call("open_tree", "admin"),
    Call("mount_attr", "admin"),
    Call("move_mount", "admin"),
    Call("mount_cgroup2", "admin"),
    Call("pivot_root", works=("ENOENT",)),
    # Namespaces.
    Call("unshare_mount", "admin"),
    Call("unshare_user", "unconfined"),
    Call("unshare_user_net", "unconfined"),
    Call("unshare_cgroup", "admin"),
    Call("clone_user", "unconfined"),
    Call("clone3_user", "unconfined", refused="ENOSYS"),
    Call("setns_mount", "admin"),
    Call("setns_pidfd", "admin"),
    Call("set_hostname", "admin"),
    # The same by other doors.
    Call("unshare_i386", "unconfined"),
    # Without a capability most distributions' kernels refuse it themselves (kernel.unprivileged_bpf_disabled).
    Call("bpf_i386", works=("EINVAL",)),
    Call("unshare_x32", "unconfined", works=("ok", "ENOSYS")),
    # The kernel.
    Call("keyring", "unconfined"),
    Call("add_key", "unconfined"),
    Call("bpf"),
    Call("perf_event"),
    Call("io_uring", "unconfined"),
    Call("userfault"),
    Call("init_module", works=FURTHER),
    Call("finit_module", works=(*FURTHER, "EBADF")),
    Call("delete_module", works=FURTHER),
    Call("kexec", works=FURTHER),
    Call("kexec_file", works=(*FURTHER, "EBADF")),
    Call("reboot", works=("EINVAL",)),
    Call("settime", works=("EINVAL",)),
    Call("clock_set"),
    Call("adjust_clock"),
    Call("swap_on", works=("ENOENT",)),
    Call("account", works=("ENOENT",)),
    Call("kernel_log"),
    Call("io_ports", works=FURTHER),
    Call("no_randomization", "unconfined"),
    Call("hang_up"),
    Call("watch_machine"),
    Call("real_time"),
    Call("nicer", refused="EACCES"),
    Call("oom_score", refused="EACCES", words=("-1000",), control_words=("1000",)),
    Call("change_limit", words=("1",), control_words=("-1",)),
    # Networks.
    Call("vsock", "unconfined"),
    Call("alg_socket", "unconfined", works=FURTHER),
    Call("change_link"),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_refused(stage: Stage, call: Call) -> None:
    for attacker in ATTACKERS:
        assert stage.attack(attacker, call.name, *call.words) == call.refused, attacker
    words = call.words if call.control_words is None else call.control_words
    assert stage.attack(f"{FREE}/{call.control}", call.name, *words) in call.works


@pytest.mark.parametrize("name", ["raw_socket", "packet_socket"])
def test_sockets_that_go_with_NET_RAW(stage: Stage, name: str) -> None:
    """Root has it by default, as under containerd, in a network of the pod's own; users have it not."""
    assert {stage.attack(attacker, name) for attacker in ROOTS} == {"ok"}
    assert {stage.attack(attacker, name) for attacker in USERS} == {"EPERM"}


def test_release_agent(stage: Stage) -> None:
    for attacker in ATTACKERS:
        assert stage.run(attacker, "release_agent") == ["EPERM"], attacker
        assert stage.run(attacker, "release_agent_userns") == ["EPERM"], attacker
    # Whoever may mount sees a hierarchy from its own cgroup on, and the file is in the root of all. Version 2 has none, and where
    # that is alone nobody in a cgroup namespace may make a hierarchy of version 1 (EPERM).
    nothing = (["mounted", "ENOENT"], ["EBUSY"], ["EINVAL"], ["EPERM"])
    assert stage.run(f"{FREE}/privileged", "release_agent") in nothing
    said = stage.run(f"{FREE}/unconfined", "release_agent_userns")
    assert said[0] == "unshared" and said[1:] in nothing


def test_capabilities_in_a_user_namespace(stage: Stage) -> None:
    """With hostUsers: false they are power over what is the pod's own, and over nothing of the machine's."""
    where = f"{MAPPED}/admin"
    for name in ("settime", "clock_set", "reboot", "swap_on", "kernel_log", "account", "bpf", "hang_up"):
        assert stage.attack(where, name) == "EPERM", name
    assert stage.attack(where, "init_module") in ("EPERM", "ENOSYS")
    assert stage.run(where, "device", "/tmp/node", "c", "1", "3") == ["mknod", "EPERM"]
    assert stage.run(where, "release_agent") in (["mounted", "ENOENT"], ["EPERM"], ["EBUSY"], ["EINVAL"])
    # What is its own: mounts, the network.
    assert [stage.attack(where, name) for name in ("mount", "change_link", "set_hostname")] == ["ok"] * 3
    # Even a /proc without read-only covers is another user's.
    assert stage.attack(where, "remount_proc_sys") in ("ok", "EPERM")
    assert stage.attack(where, "write_back", "/proc/sys/kernel/core_pattern") in ("EACCES", "EROFS")
