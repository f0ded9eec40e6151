"""The operations that a program is made of: one frozen class for each `enum nsr_op_code` of csrc/wire.h.

An operation is data. It can `describe()` itself in words that could be pasted into a root shell (where a command for it exists),
and it gives its operands with `args()` and `strings()` to `nsrun.native.encode`, which knows the wire form.

No kernel number is written here: an operand that is a flag is a text of kernel names joined by `|`, e.g. `CLONE_NEWNS|CLONE_NEWPID`,
and `native.encode` looks them up among the constants that the C compiler filled in. The empty text is 0; a name that begins with `CAP_`
means the bit of that capability (`1 << CAP_CHOWN`).
"""

from __future__ import annotations

import shlex
import signal
import stat
import struct
from typing import ClassVar

from msgspec import Struct

Flags = str
"""Kernel names joined by `|`; the empty text is 0."""

Operand = int | str
"""An operand of an operation: a number, or `Flags`."""

NO_SLOT = -1
"""NSR_NO_SLOT: no descriptor."""

UNLIMITED = -1
"""RLIM_INFINITY in `Rlimit`."""


def _quote(text: str) -> str:
    return shlex.quote(text)


def _attributes(attributes: Flags) -> str:
    """`ro,nosuid` for `MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID`: the words that mount(8) has for them."""
    words = {"RDONLY": "ro", "NOSUID": "nosuid", "NODEV": "nodev", "NOEXEC": "noexec"}
    names = (name.removeprefix("MOUNT_ATTR_") for name in attributes.split("|") if name)
    return ",".join(words.get(name, name.lower()) for name in names)


def _propagation(flags: Flags) -> str:
    """`rslave` for `MS_SLAVE|MS_REC`."""
    names = [name for name in flags.split("|") if name]
    kind = next((name.removeprefix("MS_").lower() for name in names if name != "MS_REC"), "")
    return ("r" if "MS_REC" in names else "") + kind


class Op(Struct, frozen=True, kw_only=True):
    """What every operation has. `why` is for people only: it is printed, never encoded."""

    code: ClassVar[str]
    """The name in `enum nsr_op_code` without `NSR_OP_`."""

    why: str = ""

    def args(self) -> tuple[Operand, ...]:
        """At most six operands, in wire.h's order."""
        return ()

    def strings(self) -> tuple[bytes, ...]:
        """The strings, in wire.h's order."""
        return ()

    def describe(self) -> str:
        """One line without a newline."""
        raise NotImplementedError


# --- namespaces ---------------------------------------------------------------------------------------------------------


class Unshare(Op, frozen=True):
    """unshare(2)."""

    code: ClassVar[str] = "UNSHARE"
    flags: Flags

    def args(self) -> tuple[Operand, ...]:
        return (self.flags,)

    def describe(self) -> str:
        return f"unshare({self.flags})"


class Setns(Op, frozen=True):
    """setns(2) with the descriptor in `slot`: a namespace's, or a pidfd together with several flags."""

    code: ClassVar[str] = "SETNS"
    slot: int
    flags: Flags

    def args(self) -> tuple[Operand, ...]:
        return (self.slot, self.flags)

    def describe(self) -> str:
        return f"setns($slot{self.slot}, {self.flags})"


class Hostname(Op, frozen=True):
    """sethostname(2); at most 64 bytes."""

    code: ClassVar[str] = "HOSTNAME"
    name: str

    def strings(self) -> tuple[bytes, ...]:
        return (self.name.encode(),)

    def describe(self) -> str:
        return f"hostname {_quote(self.name)}"


class LoopbackUp(Op, frozen=True):
    """The interface `lo` of the present network namespace up."""

    code: ClassVar[str] = "LOOPBACK_UP"

    def describe(self) -> str:
        return "ip link set lo up"


class UserNamespace(Op, frozen=True):
    """A user namespace whose ids from 0 on are the machine's from `first` on, and `namespaces` that belong to it.

    These are entered; the user namespace itself is not: whoever makes it keeps what it may do on the machine.
    """

    code: ClassVar[str] = "USER_NAMESPACE"
    first: int
    count: int
    namespaces: Flags

    def args(self) -> tuple[Operand, ...]:
        return (self.first, self.count, self.namespaces)

    def describe(self) -> str:
        ids = f"0:{self.first}:{self.count}"
        return f"unshare(CLONE_NEWUSER|{self.namespaces}) --map-users {ids} --map-groups {ids}"


class EnterUser(Op, frozen=True):
    """Enters the user namespace that the network namespace belongs to, as nobody in it; then unshares `namespaces`, which are its own."""

    code: ClassVar[str] = "ENTER_USER"
    namespaces: Flags = ""

    def args(self) -> tuple[Operand, ...]:
        return (self.namespaces,)

    def describe(self) -> str:
        more = f" && unshare({self.namespaces})" if self.namespaces else ""
        return f"setns(ioctl($net, NS_GET_USERNS), CLONE_NEWUSER){more}"


class Sysctl(Op, frozen=True):
    """Writes `value` into /proc/sys/`name`; `name` has '/' between its parts.

    `owner`: the machine's uid of the root that the namespaces belong to; it is tried as that one where it is refused.
    """

    code: ClassVar[str] = "SYSCTL"
    name: str
    value: str
    owner: int = 0

    def args(self) -> tuple[Operand, ...]:
        return (self.owner,)

    def strings(self) -> tuple[bytes, ...]:
        return (self.name.encode(), self.value.encode())

    def describe(self) -> str:
        return f"sysctl -w {_quote(f'{self.name}={self.value}')}"


class JoinCgroup(Op, frozen=True):
    """Moves the process into the version 1 cgroup whose `tasks` file the slot holds."""

    code: ClassVar[str] = "JOIN_CGROUP"
    slot: int

    def args(self) -> tuple[Operand, ...]:
        return (self.slot,)

    def describe(self) -> str:
        return f"echo 0 >&$slot{self.slot}"


# --- the root file system -----------------------------------------------------------------------------------------------


class Private(Op, frozen=True):
    """Propagation of every mount of a fresh mount namespace."""

    code: ClassVar[str] = "PRIVATE"
    flags: Flags = "MS_SLAVE|MS_REC"

    def args(self) -> tuple[Operand, ...]:
        return (self.flags,)

    def describe(self) -> str:
        return f"mount --make-{_propagation(self.flags)} /"


class Overlay(Op, frozen=True):
    """An overlay at the host path `target`; `lowers` with the topmost first; an empty `upper` makes it read-only."""

    code: ClassVar[str] = "OVERLAY"
    target: str
    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    attributes: Flags = ""
    volatile: bool = False
    """The upper layer need not outlive a crash of the machine: nothing is flushed when it is unmounted."""

    def args(self) -> tuple[Operand, ...]:
        return (self.attributes, "NSR_OVERLAY_VOLATILE" if self.volatile else 0)

    def strings(self) -> tuple[bytes, ...]:
        return tuple(text.encode() for text in (self.target, self.upper, self.work, *self.lowers))

    def describe(self) -> str:
        options = [f"lowerdir={':'.join(self.lowers)}"]
        if self.upper:
            options += [f"upperdir={self.upper}", f"workdir={self.work}"]
        if self.volatile:
            options.append("volatile")
        if self.attributes:
            options.insert(0, _attributes(self.attributes))
        return f"mount -t overlay -o {_quote(','.join(options))} overlay {_quote(self.target)}"


class IdMap(Op, frozen=True):
    """Binds a directory of the host on itself with the ids of the pod's user namespace."""

    code: ClassVar[str] = "ID_MAP"
    path: str

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        path = _quote(self.path)
        return f"mount --bind -o X-mount.idmap=$user {path} {path}"


class Root(Op, frozen=True):
    """Opens the container's future root at a host path: later targets are resolved in it. `bind`: binds it on itself first."""

    code: ClassVar[str] = "ROOT"
    path: str
    bind: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (int(self.bind),)

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        path = _quote(self.path)
        return f"mount --bind {path} {path}; root={path}" if self.bind else f"root={path}"


class Mount(Op, frozen=True):
    """A new file system at `target` in the root. `optional`: a kernel without this type is not an error."""

    code: ClassVar[str] = "MOUNT"
    fstype: str
    target: str
    options: tuple[str, ...] = ()
    attributes: Flags = ""
    optional: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (self.attributes, int(self.optional))

    def strings(self) -> tuple[bytes, ...]:
        return tuple(text.encode() for text in (self.fstype, self.target, *self.options))

    def describe(self) -> str:
        options = [word for word in (_attributes(self.attributes), *self.options) if word]
        flags = f"-o {_quote(','.join(options))} " if options else ""
        end = " || true" if self.optional else ""
        return f"mount -t {self.fstype} {flags}{self.fstype} $root{_quote(self.target)}{end}"


class Bind(Op, frozen=True):
    """A host path (or, with `slot`, a descriptor) at `target` in the root. `attributes` are set recursively with NSR_BIND_RREADONLY."""

    code: ClassVar[str] = "BIND"
    source: str
    target: str
    flags: Flags = ""
    """Names of `enum nsr_bind`."""
    attributes: Flags = ""
    propagation: Flags = ""
    slot: int = NO_SLOT

    def args(self) -> tuple[Operand, ...]:
        return (self.slot, self.flags, self.attributes, self.propagation)

    def strings(self) -> tuple[bytes, ...]:
        return (self.source.encode(), self.target.encode())

    def describe(self) -> str:
        names = self.flags.split("|")
        kind = "--rbind" if "NSR_BIND_RECURSIVE" in names else "--bind"
        options = []
        if "NSR_BIND_RREADONLY" in names:
            options.append("ro=recursive")
        elif "NSR_BIND_READONLY" in names:
            options.append("ro")
        if self.attributes:
            options += [word for word in _attributes(self.attributes).split(",") if word != "ro" or not options]
        if self.propagation:
            options.append(_propagation(self.propagation))
        if "NSR_BIND_ID_MAP" in names:
            options.append("X-mount.idmap=$user")
        elif "NSR_BIND_MAY_ID_MAP" in names:
            options.append("X-mount.idmap=$user?")
        flags = f" -o {','.join(options)}" if options else ""
        end = " || true" if "NSR_BIND_OPTIONAL" in names else ""
        return f"mount {kind}{flags} {self._source()} $root{_quote(self.target)}{end}"

    def _source(self) -> str:
        return _quote(self.source) if self.slot == NO_SLOT else f"/proc/self/fd/$slot{self.slot}"


class BindBelow(Bind, frozen=True):
    """As Bind, of what lies at `below` in the source: nothing on the way leads out of that directory, or it fails (EXDEV)."""

    code: ClassVar[str] = "BIND_BELOW"
    below: str = ""

    def strings(self) -> tuple[bytes, ...]:
        return (self.source.encode(), self.target.encode(), self.below.encode())

    def _source(self) -> str:
        return f"{super()._source()}/{_quote(self.below)}"


class Attr(Op, frozen=True):
    """mount_setattr(2) on the mount at `target` in the root."""

    code: ClassVar[str] = "ATTR"
    target: str
    add: Flags = ""
    clear: Flags = ""
    recursive: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (self.add, self.clear, int(self.recursive))

    def strings(self) -> tuple[bytes, ...]:
        return (self.target.encode(),)

    def describe(self) -> str:
        suffix = "=recursive" if self.recursive else ""
        words = [f"{word}{suffix}" for word in _attributes(self.add).split(",") if word]
        opposite = {"ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec"}
        words += [f"{opposite.get(word, f'no{word}')}{suffix}" for word in _attributes(self.clear).split(",") if word]
        return f"mount -o remount,bind,{','.join(words)} $root{_quote(self.target)}"


class Mkdir(Op, frozen=True):
    """A directory in the root, with its parents (0755); an existing one is left as it is."""

    code: ClassVar[str] = "MKDIR"
    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    def args(self) -> tuple[Operand, ...]:
        return (self.mode, self.uid, self.gid)

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        owner = f" -o {self.uid} -g {self.gid}" if self.uid or self.gid else ""
        return f"install -d -m {self.mode:04o}{owner} $root{_quote(self.path)}"


class File(Op, frozen=True):
    """An empty file in the root where none is: a mount point."""

    code: ClassVar[str] = "FILE"
    path: str
    mode: int = 0o644

    def args(self) -> tuple[Operand, ...]:
        return (self.mode,)

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        return f"touch $root{_quote(self.path)}"


class Symlink(Op, frozen=True):
    """A symbolic link in the root; an existing entry is left as it is."""

    code: ClassVar[str] = "SYMLINK"
    text: str
    path: str

    def strings(self) -> tuple[bytes, ...]:
        return (self.text.encode(), self.path.encode())

    def describe(self) -> str:
        return f"ln -s {_quote(self.text)} $root{_quote(self.path)}"


class Mknod(Op, frozen=True):
    """A device node in the root; where mknod is refused, the host's node of the same path is bound."""

    code: ClassVar[str] = "MKNOD"
    path: str
    kind: str
    """`c` for a character device, `b` for a block device."""
    mode: int
    major: int
    minor: int

    def args(self) -> tuple[Operand, ...]:
        return ((stat.S_IFBLK if self.kind == "b" else stat.S_IFCHR) | self.mode, self.major, self.minor)

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        return f"mknod -m {self.mode:04o} $root{_quote(self.path)} {self.kind} {self.major} {self.minor}"


class Mask(Op, frozen=True):
    """Hides a path of the root: /dev/null over a file, an empty read-only tmpfs over a directory. A missing path is fine."""

    code: ClassVar[str] = "MASK"
    path: str

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        return f"mask $root{_quote(self.path)}"


class Readonly(Op, frozen=True):
    """Makes a path of the root read-only with all that is mounted below. A missing path is fine."""

    code: ClassVar[str] = "READONLY"
    path: str

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        path = f"$root{_quote(self.path)}"
        return f"mount --rbind -o ro=recursive {path} {path}"


class PivotRoot(Op, frozen=True):
    """The root becomes /, and the old one is gone from this mount namespace."""

    code: ClassVar[str] = "PIVOT_ROOT"

    def describe(self) -> str:
        return "cd $root && pivot_root . . && umount -l ."


# --- the process --------------------------------------------------------------------------------------------------------


class Chdir(Op, frozen=True):
    """chdir(2); `make`: a missing directory is made (0755, with parents)."""

    code: ClassVar[str] = "CHDIR"
    path: str
    make: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (int(self.make),)

    def strings(self) -> tuple[bytes, ...]:
        return (self.path.encode(),)

    def describe(self) -> str:
        path = _quote(self.path)
        return f"mkdir -p {path} && cd {path}" if self.make else f"cd {path}"


class Umask(Op, frozen=True):
    """umask(2)."""

    code: ClassVar[str] = "UMASK"
    mask: int = 0o022

    def args(self) -> tuple[Operand, ...]:
        return (self.mask,)

    def describe(self) -> str:
        return f"umask {self.mask:04o}"


class Rlimit(Op, frozen=True):
    """setrlimit(2). `soft` and `hard` in the resource's own unit; -1 is no limit."""

    code: ClassVar[str] = "RLIMIT"
    resource: Flags
    soft: int
    hard: int

    def args(self) -> tuple[Operand, ...]:
        return (self.resource, self.soft, self.hard)

    def describe(self) -> str:
        name = self.resource.removeprefix("RLIMIT_").lower()
        soft, hard = ("unlimited" if limit == UNLIMITED else str(limit) for limit in (self.soft, self.hard))
        return f"prlimit --pid $$ --{name}={soft}:{hard}"


class OomScoreAdj(Op, frozen=True):
    """Writes /proc/self/oom_score_adj (-1000..1000). `lenient`: to be refused a lower value (no CAP_SYS_RESOURCE) is not an error."""

    code: ClassVar[str] = "OOM_SCORE_ADJ"
    value: int
    lenient: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (self.value, int(self.lenient))

    def describe(self) -> str:
        end = " || true" if self.lenient else ""
        return f"echo {self.value} > /proc/self/oom_score_adj{end}"


class Setsid(Op, frozen=True):
    """setsid(2)."""

    code: ClassVar[str] = "SETSID"

    def describe(self) -> str:
        return "setsid"


class Stdio(Op, frozen=True):
    """Descriptors 0, 1 and 2 from slots; -1 is /dev/null."""

    code: ClassVar[str] = "STDIO"
    stdin: int = NO_SLOT
    stdout: int = NO_SLOT
    stderr: int = NO_SLOT

    def args(self) -> tuple[Operand, ...]:
        return (self.stdin, self.stdout, self.stderr)

    def describe(self) -> str:
        streams = ((self.stdin, "<"), (self.stdout, ">"), (self.stderr, "2>"))
        words = (f"{to}/dev/null" if slot == NO_SLOT else f"{to}&$slot{slot}" for slot, to in streams)
        return f"exec {' '.join(words)}"


class Terminal(Op, frozen=True):
    """A new pseudo-terminal as 0, 1, 2 and controlling terminal; its master goes up the report socket.

    `console`: it is bound at /dev/console as well, for programs that want one there.
    """

    code: ClassVar[str] = "TERMINAL"
    rows: int = 0
    columns: int = 0
    uid: int = 0
    console: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (self.rows, self.columns, self.uid, int(self.console))

    def describe(self) -> str:
        owner = f"chown {self.uid} /dev/pts/N; " if self.uid else ""
        size = f"; stty rows {self.rows} cols {self.columns}" if self.rows or self.columns else ""
        console = "; mount --bind /dev/pts/N /dev/console" if self.console else ""
        return f"{owner}exec <>/dev/pts/N >&0 2>&0{size}{console}"


class StdioOwner(Op, frozen=True):
    """Gives those of descriptors 0, 1 and 2 that are pipes, sockets or terminals to `uid`, so that /dev/stdout can be opened by it.

    `pipes`: nameless pipes alone, the others being somebody's whom that would concern.
    """

    code: ClassVar[str] = "STDIO_OWNER"
    uid: int
    pipes: bool = False

    def args(self) -> tuple[Operand, ...]:
        return (self.uid, int(self.pipes))

    def describe(self) -> str:
        return f"chown {self.uid} <&0 >&1 2>&2"


class CloseRest(Op, frozen=True):
    """Close-on-exec on every descriptor from 3 up."""

    code: ClassVar[str] = "CLOSE_REST"

    def describe(self) -> str:
        return "close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)"


class User(Op, frozen=True):
    """setgroups(2), setresgid(2), setresuid(2), in this order."""

    code: ClassVar[str] = "USER"
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """All supplementary groups; none is kept from before."""

    def args(self) -> tuple[Operand, ...]:
        return (self.uid, self.gid)

    def strings(self) -> tuple[bytes, ...]:
        return (struct.pack(f"={len(self.groups)}I", *self.groups),)

    def describe(self) -> str:
        groups = f"--groups {','.join(map(_id, self.groups))}" if self.groups else "--clear-groups"
        return f"setpriv --reuid {_id(self.uid)} --regid {_id(self.gid)} {groups}"


def _id(number: int) -> str:
    """A uid or gid; of a plan that was made without the image it may not be known."""
    return str(number) if number >= 0 else "<as in the image>"


class FsUser(Op, frozen=True):
    """setfsuid(2) and setfsgid(2): whose what is made from here on is, until User; capabilities stay."""

    code: ClassVar[str] = "FS_USER"
    uid: int
    gid: int

    def args(self) -> tuple[Operand, ...]:
        return (self.uid, self.gid)

    def describe(self) -> str:
        return f"setfsuid({self.uid}), setfsgid({self.gid})"


class Bounding(Op, frozen=True):
    """Drops all but these from the capability bounding set."""

    code: ClassVar[str] = "BOUNDING"
    keep: Flags

    def args(self) -> tuple[Operand, ...]:
        return (self.keep,)

    def describe(self) -> str:
        return f"setpriv --bounding-set {_capabilities(self.keep)}"


class Caps(Op, frozen=True):
    """capset(2), and the ambient set."""

    code: ClassVar[str] = "CAPS"
    effective: Flags
    permitted: Flags
    inheritable: Flags = ""
    ambient: Flags = ""

    def args(self) -> tuple[Operand, ...]:
        return (self.effective, self.permitted, self.inheritable, self.ambient)

    def describe(self) -> str:
        sets = [
            (self.effective, "effective"),
            (self.permitted, "permitted"),
            (self.inheritable, "inheritable"),
            (self.ambient, "ambient"),
        ]
        return "capset " + " ".join(
            f"{name}={'(as effective)' if name == 'permitted' and flags and flags == self.effective else _capabilities(flags)}"
            for flags, name in sets
        )


def _capabilities(flags: Flags) -> str:
    """`-all,+chown,+kill` as setpriv(1) takes it."""
    names = [name.removeprefix("CAP_").lower() for name in flags.split("|") if name]
    return ",".join(["-all", *(f"+{name}" for name in names)])


class NoNewPrivs(Op, frozen=True):
    """PR_SET_NO_NEW_PRIVS."""

    code: ClassVar[str] = "NO_NEW_PRIVS"

    def describe(self) -> str:
        return "setpriv --no-new-privs"


class Seccomp(Op, frozen=True):
    """Installs the filter (an array of struct sock_filter) that the descriptor in `slot` holds."""

    code: ClassVar[str] = "SECCOMP"
    slot: int

    def args(self) -> tuple[Operand, ...]:
        return (self.slot,)

    def describe(self) -> str:
        return f"seccomp(SECCOMP_SET_MODE_FILTER, $slot{self.slot})"


class AppArmor(Op, frozen=True):
    """AppArmor's profile from the next execve(2) on. The kernel has it already."""

    code: ClassVar[str] = "APPARMOR"
    profile: str

    def strings(self) -> tuple[bytes, ...]:
        return (self.profile.encode(),)

    def describe(self) -> str:
        return f"aa-exec -p {_quote(self.profile)}"


class Pdeathsig(Op, frozen=True):
    """PR_SET_PDEATHSIG; then ends the process if the parent is gone already."""

    code: ClassVar[str] = "PDEATHSIG"
    signal: int = signal.SIGKILL

    def args(self) -> tuple[Operand, ...]:
        return (self.signal,)

    def describe(self) -> str:
        return f"setpriv --pdeathsig {signal.Signals(self.signal).name}"


class SignalsDefault(Op, frozen=True):
    """Every signal's disposition to SIG_DFL, none blocked."""

    code: ClassVar[str] = "SIGNALS_DEFAULT"

    def describe(self) -> str:
        return "env --default-signal"


class Env(Op, frozen=True):
    """The whole environment, as KEY=VALUE."""

    code: ClassVar[str] = "ENV"
    variables: tuple[str, ...]

    def strings(self) -> tuple[bytes, ...]:
        return tuple(variable.encode("utf-8", "surrogateescape") for variable in self.variables)

    def describe(self) -> str:
        return " ".join(["env -i", *map(_quote, self.variables)])


class Exec(Op, frozen=True):
    """execve(2) of `argv`; a file without '/' is searched in PATH of `Env`."""

    code: ClassVar[str] = "EXEC"
    argv: tuple[str, ...]
    file: str = ""
    """What to execute when it is not argv[0]."""

    def strings(self) -> tuple[bytes, ...]:
        return tuple(text.encode("utf-8", "surrogateescape") for text in (self.file or self.argv[0], *self.argv))

    def describe(self) -> str:
        words = " ".join(map(_quote, self.argv))
        if self.file and self.file != self.argv[0]:
            return f"exec -a {_quote(self.argv[0])} {_quote(self.file)} {' '.join(map(_quote, self.argv[1:]))}".rstrip()
        return f"exec {words}"


OPS: dict[str, type[Op]] = {
    cls.code: cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, Op) and cls is not Op
}
"""Every class by its code."""
