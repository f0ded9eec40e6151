"""Every operation: in wire.h, in the wire form, and in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nsrun import native
from nsrun.plan import ops
from nsrun.plan.capabilities import ALL_CAPABILITIES

WIRE = Path(__file__).parents[3] / "csrc" / "wire.h"

EXAMPLES: list[tuple[ops.Op, str]] = [
    (ops.Unshare("CLONE_NEWNET|CLONE_NEWIPC"), "unshare(CLONE_NEWNET|CLONE_NEWIPC)"),
    (ops.Setns(3, "CLONE_NEWNET"), "setns($slot3, CLONE_NEWNET)"),
    (ops.Hostname("web"), "hostname web"),
    (ops.LoopbackUp(), "ip link set lo up"),
    (
        ops.UserNamespace(131072, 65536, "CLONE_NEWNET|CLONE_NEWIPC"),
        "unshare(CLONE_NEWUSER|CLONE_NEWNET|CLONE_NEWIPC) --map-users 0:131072:65536 --map-groups 0:131072:65536",
    ),
    (ops.EnterUser(), "setns(ioctl($net, NS_GET_USERNS), CLONE_NEWUSER)"),
    (
        ops.EnterUser("CLONE_NEWNS"),
        "setns(ioctl($net, NS_GET_USERNS), CLONE_NEWUSER) && unshare(CLONE_NEWNS)",
    ),
    (ops.IdMap("/a b"), "mount --bind -o X-mount.idmap=$user '/a b' '/a b'"),
    (ops.FsUser(131072, 131073), "setfsuid(131072), setfsgid(131073)"),
    (ops.Bind("/a", "/b", "NSR_BIND_READONLY|NSR_BIND_ID_MAP"), "mount --bind -o ro,X-mount.idmap=$user /a $root/b"),
    (ops.Bind("/a", "/b", "NSR_BIND_MAY_ID_MAP"), "mount --bind -o X-mount.idmap=$user? /a $root/b"),
    (ops.Sysctl("net/ipv4/ping_group_range", "0 1"), "sysctl -w 'net/ipv4/ping_group_range=0 1'"),
    (ops.JoinCgroup(4), "echo 0 >&$slot4"),
    (ops.Private(), "mount --make-rslave /"),
    (
        ops.Overlay("/m", ("/b", "/a"), "/u", "/w"),
        "mount -t overlay -o lowerdir=/b:/a,upperdir=/u,workdir=/w overlay /m",
    ),
    (ops.Overlay("/m", ("/a",), attributes="MOUNT_ATTR_RDONLY"), "mount -t overlay -o ro,lowerdir=/a overlay /m"),
    (
        ops.Overlay("/m", ("/a",), "/u", "/w", volatile=True),
        "mount -t overlay -o lowerdir=/a,upperdir=/u,workdir=/w,volatile overlay /m",
    ),
    (ops.Root("/m"), "root=/m"),
    (ops.Root("/m", bind=True), "mount --bind /m /m; root=/m"),
    (ops.Mount("proc", "/proc"), "mount -t proc proc $root/proc"),
    (
        ops.Mount("tmpfs", "/t", ("size=1m",), "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOATIME", optional=True),
        "mount -t tmpfs -o nosuid,noatime,size=1m tmpfs $root/t || true",
    ),
    (ops.Bind("/a", "/b"), "mount --bind /a $root/b"),
    (
        ops.Bind(
            "/a b", "/b", "NSR_BIND_RECURSIVE|NSR_BIND_RREADONLY|NSR_BIND_OPTIONAL", "MOUNT_ATTR_RDONLY", "MS_SLAVE"
        ),
        "mount --rbind -o ro=recursive,slave '/a b' $root/b || true",
    ),
    (ops.Bind("", "/b", slot=4), "mount --bind /proc/self/fd/$slot4 $root/b"),
    (
        ops.BindBelow("/v", "/b", "NSR_BIND_RECURSIVE", "", "MS_PRIVATE|MS_REC", below="x y"),
        "mount --rbind -o rprivate /v/'x y' $root/b",
    ),
    (ops.Attr("/", "MOUNT_ATTR_RDONLY", recursive=True), "mount -o remount,bind,ro=recursive $root/"),
    (ops.Attr("/", "", "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV"), "mount -o remount,bind,rw,dev $root/"),
    (ops.Mkdir("/d", 0o1777, 5, 6), "install -d -m 1777 -o 5 -g 6 $root/d"),
    (ops.File("/f"), "touch $root/f"),
    (ops.Symlink("a b", "/l"), "ln -s 'a b' $root/l"),
    (ops.Mknod("/dev/sda", "b", 0o660, 8, 0), "mknod -m 0660 $root/dev/sda b 8 0"),
    (ops.Mask("/proc/kcore"), "mask $root/proc/kcore"),
    (ops.Readonly("/proc/sys"), "mount --rbind -o ro=recursive $root/proc/sys $root/proc/sys"),
    (ops.PivotRoot(), "cd $root && pivot_root . . && umount -l ."),
    (ops.Chdir("/d"), "cd /d"),
    (ops.Chdir("/d", make=True), "mkdir -p /d && cd /d"),
    (ops.Umask(), "umask 0022"),
    (ops.Rlimit("RLIMIT_NOFILE", 10, ops.UNLIMITED), "prlimit --pid $$ --nofile=10:unlimited"),
    (ops.OomScoreAdj(-997, lenient=True), "echo -997 > /proc/self/oom_score_adj || true"),
    (ops.Setsid(), "setsid"),
    (ops.Stdio(0, 1, -1), "exec <&$slot0 >&$slot1 2>/dev/null"),
    (ops.Terminal(), "exec <>/dev/pts/N >&0 2>&0"),
    (
        ops.Terminal(24, 80, 7, console=True),
        "chown 7 /dev/pts/N; exec <>/dev/pts/N >&0 2>&0; stty rows 24 cols 80; mount --bind /dev/pts/N /dev/console",
    ),
    (ops.StdioOwner(7), "chown 7 <&0 >&1 2>&2"),
    (ops.CloseRest(), "close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)"),
    (ops.User(1, 2), "setpriv --reuid 1 --regid 2 --clear-groups"),
    (ops.User(1, 2, (2, 3)), "setpriv --reuid 1 --regid 2 --groups 2,3"),
    (
        ops.User(-1, -1, (-1, 5)),
        "setpriv --reuid <as in the image> --regid <as in the image> --groups <as in the image>,5",
    ),
    (ops.Bounding("CAP_CHOWN|CAP_KILL"), "setpriv --bounding-set -all,+chown,+kill"),
    (
        ops.Caps("CAP_KILL", "CAP_KILL"),
        "capset effective=-all,+kill permitted=(as effective) inheritable=-all ambient=-all",
    ),
    (ops.NoNewPrivs(), "setpriv --no-new-privs"),
    (ops.Seccomp(3), "seccomp(SECCOMP_SET_MODE_FILTER, $slot3)"),
    (ops.AppArmor("a b"), "aa-exec -p 'a b'"),
    (ops.Pdeathsig(), "setpriv --pdeathsig SIGKILL"),
    (ops.SignalsDefault(), "env --default-signal"),
    (ops.Env(("A=1", "B=x y")), "env -i A=1 'B=x y'"),
    (ops.Exec(("sh", "-c", "echo $A")), "exec sh -c 'echo $A'"),
    (ops.Exec(("-sh",), "/bin/sh"), "exec -a -sh /bin/sh"),
]


def test_there_is_a_class_for_every_code_of_the_wire() -> None:
    codes = set(re.findall(r"\bNSR_OP_([A-Z_]+) = \d+", WIRE.read_text())) - {"INVALID", "ARGS"}
    assert set(ops.OPS) == codes


def test_every_class_has_an_example() -> None:
    assert {type(op) for op, _ in EXAMPLES} == set(ops.OPS.values())


@pytest.mark.parametrize(("op", "words"), EXAMPLES, ids=[words for _, words in EXAMPLES])
def test_an_op_in_words_and_on_the_wire(op: ops.Op, words: str) -> None:
    assert op.describe() == words
    if isinstance(op, ops.User) and op.uid < 0:
        return  # only ever printed
    (raw,) = native.decode(native.encode([op]))
    assert raw.code == op.code
    assert raw.strings() == op.strings()
    numbers = [native.flags(arg) if isinstance(arg, str) else arg for arg in op.args()]
    assert list(raw.args()) == numbers + [0] * (6 - len(numbers))


def test_a_reason_is_for_people_only() -> None:
    assert native.encode([ops.PivotRoot(why="because")]) == native.encode([ops.PivotRoot()])


def test_names_become_the_kernels_numbers() -> None:
    assert native.flags("") == 0
    assert native.flags("CLONE_NEWNS|CLONE_NEWPID") == 0x20020000
    assert native.flags("CAP_CHOWN|CAP_CHECKPOINT_RESTORE") == 1 | 1 << 40
    assert native.flags("|".join(ALL_CAPABILITIES)) == (1 << 41) - 1
    assert [native.flags(name) for name in ALL_CAPABILITIES] == [1 << number for number in range(41)]
    with pytest.raises(ValueError, match="NO_SUCH_FLAG"):
        native.flags("CLONE_NEWNS|NO_SUCH_FLAG")


def test_a_device_node_carries_its_type() -> None:
    assert ops.Mknod("/dev/null", "c", 0o666, 1, 3).args() == (0o020666, 1, 3)
    assert ops.Mknod("/dev/sda", "b", 0o660, 8, 0).args() == (0o060660, 8, 0)


def test_groups_travel_as_an_array() -> None:
    assert ops.User(0, 0, (1, 0x01020304)).strings() == (b"\x01\0\0\0\x04\x03\x02\x01",)
