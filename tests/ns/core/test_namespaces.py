"""Making and joining namespaces, and what is set in them."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from nsrun import native
from tests.ns.core.driver import Box, L, Op, op, run


def own(kind: str) -> str:
    return str(os.stat(f"/proc/self/ns/{kind}").st_ino)


def test_names(box: Box) -> None:
    before = (socket.gethostname(), own("uts"))
    out = box.run([op("HOSTNAME", "web-0")], command=["hostname"])
    assert out.text.split()[0] == "web-0"
    assert (socket.gethostname(), own("uts")) == before


def test_host_name_too_long(box: Box) -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("HOSTNAME", "x" * 65)])
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == ("HOSTNAME", errno.EINVAL, "x" * 65)


def test_unshare_makes_what_clone_did_not(box: Box) -> None:
    kinds = {"ipc": L.CLONE_NEWIPC, "net": L.CLONE_NEWNET, "uts": L.CLONE_NEWUTS, "cgroup": L.CLONE_NEWCGROUP}
    flags = L.CLONE_NEWNS | L.CLONE_NEWPID
    for kind, flag in kinds.items():
        fresh = box.another()
        seen = fresh.run([op("UNSHARE", flag)], command=["ns"], clone_flags=flags).fields()
        assert [name for name in kinds if seen[name] != own(name)] == [kind]


def test_unshare_of_nonsense(box: Box) -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("UNSHARE", 1)])
    assert (caught.value.step, caught.value.code_name, caught.value.errno) == (0, "UNSHARE", errno.EINVAL)


def test_setns_joins_by_namespace_and_by_pidfd(box: Box) -> None:
    with native.run(
        native.encode([*box.program([op("HOSTNAME", "first")], command=["pause"], stdio=False)]),
        clone_flags=L.CLONE_NEWNS | L.CLONE_NEWPID | L.CLONE_NEWNET | L.CLONE_NEWUTS | L.CLONE_NEWIPC,
    ) as first:
        try:
            theirs = {kind: str(os.stat(f"/proc/{first.pid}/ns/{kind}").st_ino) for kind in ("net", "uts")}
            net = os.open(f"/proc/{first.pid}/ns/net", os.O_RDONLY)
            try:
                joined = run(
                    [op("SETNS", 1, L.CLONE_NEWNET), op("STDIO", 0, 0, 0), op("EXEC", box.lower / "bin/ns", "ns")],
                    [net],
                    clone_flags=0,
                ).fields()
            finally:
                os.close(net)
            assert joined["net"] == theirs["net"]
            assert joined["uts"] == own("uts")
            everything = L.CLONE_NEWNS | L.CLONE_NEWNET | L.CLONE_NEWUTS | L.CLONE_NEWIPC
            ops = [op("SETNS", 1, everything), op("CHDIR", "/"), op("STDIO", 0, 0, 0), op("ENV", Box.PATH)]
            out = run([*ops, op("EXEC", "seq", "seq", "hostname", ";", "ls", "/")], [first.pidfd], clone_flags=0)
            assert "first" in out.text
            assert "usr" not in out.lines
        finally:
            first.send_signal(9)
            first.wait()


def test_setns_of_something_else(box: Box) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(native.ProgramError) as caught:
            run([op("SETNS", 1, L.CLONE_NEWNET)], [fd])
    finally:
        os.close(fd)
    assert (caught.value.code_name, caught.value.errno) == ("SETNS", errno.EINVAL)


@pytest.mark.parametrize(("ops", "flags"), [([], "0x8"), ([op("LOOPBACK_UP")], "0x9")], ids=["down", "up"])
def test_loopback(box: Box, ops: list[Op], flags: str) -> None:
    before = [op("MKDIR", "/sys", 0o755), op("MOUNT", "sysfs", "/sys"), *ops]
    assert box.run(before, command=["cat", "/sys/class/net/lo/flags"]).text == f"{flags}\n"


def test_sysctl(box: Box) -> None:
    before = [
        op("SYSCTL", "net/ipv4/ip_unprivileged_port_start", "0"),
        op("SYSCTL", "net/ipv4/ping_group_range", "0 2147483647"),
        op("SYSCTL", "kernel/shm_rmid_forced", "1"),
    ]
    names = [f"/proc/sys/{one.texts[0].decode()}" for one in before]
    out = box.run(before, command=["cat", *names])
    assert out.text.split() == ["0", "0", "2147483647", "1"]
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
        assert file.read().strip() != "0"


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("net/ipv4/no_such", "1", errno.ENOENT),
        ("../../etc/passwd", "1", errno.EXDEV),
        ("/etc/passwd", "1", errno.EXDEV),
        ("net/ipv4/ip_forward", "many", errno.EINVAL),
        ("net/ipv4", "1", errno.EISDIR),
    ],
)
def test_sysctl_failures(name: str, value: str, number: int) -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("SYSCTL", name, value)])
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == ("SYSCTL", number, name)
