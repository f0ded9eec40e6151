"""The checks, in the order in which they are shown. Each asks for the capability, not for a version or a name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nsrun import native
from nsrun.errors import errno_text
from nsrun.plan import IDS_PER_POD, ops
from nsrun.plan.ids import DEFAULT_FIRST

KERNEL_NEEDED = (5, 12)
"""clone3 into a cgroup (5.7), openat2 (5.6), pidfds (5.3), mount_setattr (5.12)."""
KERNEL_KILL = (5, 14)
"""cgroup.kill."""
INOTIFY_LOW = 128
INSTANCES = "/proc/sys/fs/inotify/max_user_instances"
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
_SECURITYFS = Path("/sys/kernel/security")
_ADMINS_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_CAPABILITIES = (
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_MKNOD",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the machine.

    Attributes:
        name: a word or two; stable.
        ok: the answer is yes.
        text: what was found.
        hint: for a no: what does not work without it, and what to do.
        optional: only pods that ask for it need it.
    """

    name: str
    ok: bool
    text: str
    hint: str = ""
    optional: bool = False

    def as_data(self) -> dict[str, Any]:
        """As it travels and as `--output json` prints it."""
        return asdict(self)


def examine(lib_dir: Path) -> list[Check]:
    """All checks. Takes a few dozen milliseconds; changes nothing.

    Args:
        lib_dir: where images lie or would lie: its file system has to carry overlays.
    """
    found: list[Check] = []
    for name, check in _CHECKS:
        try:
            found.append(check(lib_dir))
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            found.append(Check(name, False, f"could not be looked at: {errno_text(error.errno or 0)}{where}"))
    return found


def _kernel(_lib: Path) -> Check:
    release = os.uname().release
    numbers = _release(release)
    text = f"Linux {release}, {os.uname().machine}"
    if numbers < KERNEL_NEEDED:
        wanted = ".".join(map(str, KERNEL_NEEDED))
        return Check("kernel", False, text, f"nsrun needs Linux {wanted} or newer (mount_setattr, openat2, clone3).")
    return Check("kernel", True, text)


def _release(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split(".")[:2]:
        digits = "".join(letter for letter in part if letter.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _user(_lib: Path) -> Check:
    uid = os.geteuid()
    _effective, permitted, _inheritable = native.capget()
    missing = [name for name in _CAPABILITIES if not permitted & native.flags(name)]
    if uid != 0:
        return Check("user", False, f"uid {uid}", "Namespaces, mounts and addresses of pods need root: sudo nsrun ...")
    if missing:
        return Check(
            "user",
            False,
            f"root without {', '.join(missing)}",
            "Run nsrun on the machine itself, or give the container it runs in these capabilities.",
        )
    if not permitted & native.flags("CAP_SYS_RESOURCE"):
        return Check("user", True, "root, but without CAP_SYS_RESOURCE: no hard limit can be raised")
    return Check("user", True, "root with all capabilities that are needed")


def _namespaces(_lib: Path) -> Check:
    flags = "CLONE_NEWNET|CLONE_NEWIPC|CLONE_NEWUTS|CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWCGROUP"
    number = _in_child(flags)
    if number == 0:
        return Check("namespaces", True, "net, ipc, uts, mnt, pid and cgroup namespaces can be made")
    hint = {
        errno.EPERM: "Run it as root: sudo nsrun doctor",
        errno.ENOSPC: "A limit is reached: look at /proc/sys/user/max_*_namespaces.",
        errno.EINVAL: "The kernel was built without one of them (CONFIG_NET_NS, CONFIG_PID_NS, ...).",
    }.get(number, "Pods cannot run without them.")
    return Check("namespaces", False, f"cannot be made: {errno_text(number)}", hint)


def _overlay(lib: Path) -> Check:
    if not _filesystem("overlay"):
        return Check(
            "overlay",
            False,
            "the kernel does not know overlay",
            "Load the module: modprobe overlay (CONFIG_OVERLAY_FS).",
        )
    directory = next((one for one in (lib, *lib.parents) if one.is_dir()), Path("/"))
    if os.geteuid() != 0 or not os.access(directory, os.W_OK):
        return Check("overlay", True, f"known to the kernel; images lie below {directory}")
    with tempfile.TemporaryDirectory(prefix=".nsrun-doctor-", dir=directory) as scratch:
        merged, lower, upper, work = (os.path.join(scratch, name) for name in ("merged", "lower", "upper", "work"))
        for path in (merged, lower, upper, work):
            os.mkdir(path)
        number = _in_child("CLONE_NEWNS", ops.Private(), ops.Overlay(merged, (lower,), upper, work))
    if number:
        kind = _type_of(directory) or "unknown"
        return Check(
            "overlay",
            False,
            f"cannot be mounted with its layers on {directory} (file system {kind}): {errno_text(number)}",
            "Containers' layers need a file system like ext4, xfs, btrfs or tmpfs: choose another place with --root DIR.",
        )
    return Check("overlay", True, f"works with its layers on {directory}")


def _user_namespaces(lib: Path) -> Check:
    name, need = "user namespaces", "Only pods with hostUsers: false need this."
    made = ops.UserNamespace(DEFAULT_FIRST, IDS_PER_POD, "CLONE_NEWNET|CLONE_NEWIPC|CLONE_NEWUTS")
    if os.geteuid() != 0:
        return Check(name, True, "nsrun is not root here, and only root can give pods ids of their own")
    number = _in_child("CLONE_NEWNS", made)
    if number:
        hint = "sysctl user.max_user_namespaces must not be 0, and nsrun must not be in a chroot or a user namespace itself."
        return Check(name, False, f"none can be made: {errno_text(number)}", f"{hint} {need}", optional=True)
    directory = next((one for one in (lib, *lib.parents) if one.is_dir()), Path("/"))
    if not os.access(directory, os.W_OK):
        return Check(name, True, "can be made")
    with tempfile.TemporaryDirectory(prefix=".nsrun-doctor-", dir=directory) as scratch:
        merged, lower, upper, work, memory = (
            os.path.join(scratch, one) for one in ("merged", "lower", "upper", "work", "memory")
        )
        for path in (merged, lower, upper, work, memory):
            os.mkdir(path)
        begin = (made, ops.Private())
        layers = _in_child("CLONE_NEWNS", *begin, ops.IdMap(lower), ops.Overlay(merged, (lower,), upper, work))
        tmpfs = (ops.Root(memory), ops.Mount("tmpfs", "/"), ops.IdMap(memory))
        others = _in_child("CLONE_NEWNS", *begin, *tmpfs)
    kind = _type_of(directory) or "unknown"
    for number, what in ((layers, f"layers on {directory} (file system {kind})"), (others, "tmpfs")):
        if number:
            hint = "Layers take Linux 5.19 and a file system like ext4, xfs or btrfs; tmpfs, for volumes in memory, takes Linux 6.3."
            return Check(
                name,
                False,
                f"{what} cannot have a pod's own ids: {errno_text(number)}",
                f"{hint} {need}",
                optional=True,
            )
    return Check(name, True, f"work, with id-mapped layers on {directory} and tmpfs")


def _filesystem(name: str) -> bool:
    """Whether /proc/filesystems knows it; asking for a context of it loads its module."""
    try:
        os.close(native.fsopen(name))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        lines = Path("/proc/filesystems").read_text(encoding="ascii").splitlines()
        return any(line.split()[-1:] == [name] for line in lines)
    return True


def _type_of(path: Path) -> str:
    wanted = os.stat(path).st_dev
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            major, _, minor = left.split()[2].partition(":")
            if os.makedev(int(major), int(minor)) == wanted:
                return right.split()[0]
    return ""


def _cgroups(_lib: Path) -> Check:
    hybrid, unified = _cgroup_mounts()
    if unified is None:
        return Check(
            "cgroups",
            False,
            "no cgroup version 2 tree is mounted" + (", only version 1 controllers" if hybrid else ""),
            "Containers are held together by their PID namespaces alone. "
            "Boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup/unified.",
        )
    path, writable = unified
    kind = "hybrid (version 1 controllers beside a version 2 tree)" if hybrid else "version 2"
    if not writable:
        return Check(
            "cgroups", False, f"{kind}, read-only at {path}", "Run nsrun where the cgroup tree can be written."
        )
    return Check("cgroups", True, f"{kind}, at {path}")


def _cgroup_mounts() -> tuple[bool, tuple[str, bool] | None]:
    hybrid, unified = False, None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind = right.split()[0]
            if kind == "cgroup":
                hybrid = True
            elif kind == "cgroup2" and unified is None:
                path = left.split()[4]
                unified = (path, os.access(path, os.W_OK) and "ro" not in left.split()[5].split(","))
    return hybrid, unified


def _limits(_lib: Path) -> Check:
    there = _cgroup_controllers()
    missing = [name for name in ("cpu", "memory") if name not in there]
    if missing:
        names = " and ".join(missing)
        return Check(
            "limits",
            False,
            f"cgroup controllers without which pods cannot have requests and limits of {names}: {names}",
            "Boot with cgroup_enable=memory, mount version 1's hierarchies, or run nsrun where it may have them. "
            "Pods that ask for none do not need them.",
        )
    occupied = _occupied_top(there)
    if occupied:
        return Check(
            "limits",
            False,
            f"the controllers of version 2 cannot be switched on: processes are in {occupied} itself, the top of what is seen of the tree",
            "Of a container, say: have its init move into a cgroup below (mkdir, then echo 0 to its cgroup.procs) before all else. "
            "Pods that ask for no limits do not need them.",
        )
    text = ", ".join(f"{name}: {where}" for name, where in there.items())
    without = [what for name, what in _LESS_ASKED.items() if name not in there]
    if without:
        text += f"; no {' and no '.join(without)}"
    return Check("limits", True, text)


_LESS_ASKED = {"pids": "limit of processes (pids)", "hugetlb": "limits of huge pages (hugetlb)"}
"""Controllers that few pods need, and what there is not without them."""


def _occupied_top(there: dict[str, str]) -> str:
    """The top of the version 2 tree, where that is not the kernel's own but a container's, with processes and without controllers below."""
    unified = _cgroup_mounts()[1]
    if unified is None or "version 2" not in (there["cpu"], there["memory"]):
        return ""
    top = Path(unified[0])
    # The kernel's own has no type, and may hold processes (cgroups(7), "no internal processes").
    if not (top / "cgroup.type").exists():
        return ""
    wanted = {name for name in ("cpu", "memory") if there[name] == "version 2"}
    switched_on = set((top / "cgroup.subtree_control").read_text(encoding="ascii").split())
    return str(top) if wanted - switched_on and (top / "cgroup.procs").read_text(encoding="ascii") else ""


def _cgroup_controllers() -> dict[str, str]:
    """The controllers of cpu and memory that there are, each with where it is."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, path = right.split()[0], left.split()[4]
            names: list[str] = []
            if kind == "cgroup":
                names = right.split()[-1].split(",")
            elif kind == "cgroup2":
                with contextlib.suppress(OSError):
                    names = Path(path, "cgroup.controllers").read_text(encoding="ascii").split()
            for name in ("cpu", "memory", *_LESS_ASKED):
                if name in names:
                    found.setdefault(name, "version 1" if kind == "cgroup" else "version 2")
    return dict(sorted(found.items()))


def _cgroup_kill(_lib: Path) -> Check:
    if _release(os.uname().release) >= KERNEL_KILL:
        return Check("cgroup.kill", True, "there: a container's processes can be killed at one stroke")
    return Check(
        "cgroup.kill",
        False,
        "not in this kernel",
        "Containers are frozen and killed one by one instead; slower, not wrong.",
    )


def _seccomp(_lib: Path) -> Check:
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return Check(
            "seccomp",
            False,
            "the kernel has no seccomp filters",
            "Pods run only with seccompProfile Unconfined (CONFIG_SECCOMP_FILTER).",
        )
    library = _library("libseccomp.so.2")
    if not library:
        return Check(
            "seccomp",
            False,
            "the kernel filters, but libseccomp is missing",
            "Install it: apt-get install libseccomp2. Profiles that were compiled before still work.",
        )
    return Check("seccomp", True, f"filters with {', '.join(actions)}")


def _apparmor(_lib: Path) -> Check:
    try:
        there = _APPARMOR.read_text(encoding="ascii").startswith("Y")
    except FileNotFoundError:
        there = False
    if not there:
        hint = "Pods that ask for a profile (appArmorProfile) are rejected; nothing else needs it."
        return Check("AppArmor", False, "not in this kernel, or switched off", hint, optional=True)
    if not (_SECURITYFS / "apparmor").is_dir():
        hint = f"Pods that ask for a profile are rejected: mount -t securityfs securityfs {_SECURITYFS}"
        return Check("AppArmor", False, "in this kernel, but nobody can see its profiles", hint, optional=True)
    if shutil.which("apparmor_parser", path=_ADMINS_PATH) is None:
        hint = "Profiles that are loaded work; that of type RuntimeDefault cannot be: apt-get install apparmor"
        return Check("AppArmor", False, "in this kernel, but apparmor_parser is missing", hint, optional=True)
    return Check("AppArmor", True, "in force for containers that ask for a profile")


def _library(name: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _bridge(_lib: Path) -> Check:
    if os.path.isdir("/sys/module/bridge") or _module("bridge"):
        return Check("bridge", True, "the kernel has bridges")
    return Check(
        "bridge",
        False,
        "the kernel has no bridge devices",
        "Pods get no network of their own; hostNetwork: true works. Load the module: modprobe bridge.",
    )


def _module(name: str) -> bool:
    """Whether a module is built in or can be loaded."""
    directory = Path("/lib/modules", os.uname().release)
    for listing in ("modules.builtin", "modules.dep"):
        with contextlib.suppress(OSError):
            text = (directory / listing).read_text(encoding="utf-8", errors="replace")
            if f"/{name}.ko" in text:
                return True
    return False


def _nftables(_lib: Path) -> Check:
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12).close()
    except OSError as error:
        return Check(
            "nftables",
            False,
            f"the kernel has no netfilter netlink: {errno_text(error.errno or 0)}",
            "Pods reach one another and the host, but not the world; hostNetwork: true works (CONFIG_NF_TABLES).",
        )
    tool = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if tool is None:
        return Check(
            "nftables",
            False,
            "netfilter netlink is there, but the command nft is not",
            "Rules are put in place with it: apt-get install nftables. Without: hostNetwork: true works.",
        )
    return Check("nftables", True, f"netfilter netlink is there, and {tool}")


def _forwarding(_lib: Path) -> Check:
    value = Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii").strip()
    if value == "1":
        return Check("forwarding", True, "IPv4 forwarding is on")
    if os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK):
        return Check("forwarding", True, "IPv4 forwarding is off; the first pod with a network switches it on")
    return Check(
        "forwarding",
        False,
        "IPv4 forwarding is off and cannot be changed",
        "Pods do not reach the world: sysctl net.ipv4.ip_forward=1",
    )


def _inotify(_lib: Path) -> Check:
    instances = int(Path(INSTANCES).read_text(encoding="ascii"))
    if instances < INOTIFY_LOW:
        return Check(
            "inotify",
            False,
            f"{instances} instances for each user",
            "Followers of logs poll instead once these are used up: sysctl fs.inotify.max_user_instances=1024",
        )
    return Check("inotify", True, f"{instances} instances for each user")


def _open_files(_lib: Path) -> Check:
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        return Check(
            "open files",
            False,
            f"at most {text}",
            "The server needs about four for each pod: ulimit -Hn 65536, LimitNOFILE=",
        )
    return Check("open files", True, f"at most {text}")


def _systemd(_lib: Path) -> Check:
    if os.path.isdir("/run/systemd/system"):
        return Check(
            "systemd", True, "runs; servers and shims get units of their own, so that logging out does not end pods"
        )
    return Check("systemd", True, "does not run here; servers and shims are left to init by themselves")


def _in_child(clone_flags: str, *program: ops.Op) -> int:
    """errno of making a child in new namespaces that runs the program and ends; 0 when all went well."""
    true = next((path for path in ("/bin/true", "/usr/bin/true") if os.access(path, os.X_OK)), None)
    if true is None:
        return errno.ENOENT
    encoded = native.encode([*program, ops.Exec((true,))])
    try:
        with native.run(encoded, clone_flags=native.flags(clone_flags)) as child:
            child.wait()
    except native.ProgramError as error:
        return error.errno or errno.EIO
    except OSError as error:
        return error.errno or errno.EIO
    return 0


_CHECKS: tuple[tuple[str, Callable[[Path], Check]], ...] = (
    ("kernel", _kernel),
    ("user", _user),
    ("namespaces", _namespaces),
    ("overlay", _overlay),
    ("user namespaces", _user_namespaces),
    ("cgroups", _cgroups),
    ("limits", _limits),
    ("cgroup.kill", _cgroup_kill),
    ("seccomp", _seccomp),
    ("AppArmor", _apparmor),
    ("bridge", _bridge),
    ("nftables", _nftables),
    ("forwarding", _forwarding),
    ("inotify", _inotify),
    ("open files", _open_files),
    ("systemd", _systemd),
)
