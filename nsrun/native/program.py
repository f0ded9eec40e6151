"""Programs: a list of ops in the wire form of csrc/wire.h, and running one in a child."""

from __future__ import annotations

import errno
import functools
import os
import struct

from nsrun._native import ffi, lib
from nsrun.native.calls import answer, pidfd_send_signal
from nsrun.native.record import Report, report_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Protocol, Self

    class Op(Protocol):
        """What `encode` asks of an op."""

        @property
        def code(self) -> str:
            """The name in `enum nsr_op_code` without `NSR_OP_`."""

        def args(self) -> tuple[int | str, ...]:
            """At most six numbers, signed or unsigned 64 bits; a text is names, see `flags`."""

        def strings(self) -> tuple[bytes, ...]:
            """The strings, without NUL bytes except in USER's."""


_PREFIX = "NSR_OP_"
CODES: dict[str, int] = {
    name.removeprefix(_PREFIX): number for name, number in ffi.typeof("enum nsr_op_code").relements.items()
}
"""Name of an op without its prefix -> its number on the wire."""
NAMES: dict[int, str] = {number: name for name, number in CODES.items()}

# No padding between members (wire.h orders them so); the tests compare with the compiler's sizes.
_PROGRAM = struct.Struct("=IHHII")
_OP = struct.Struct("=HHI6q")
_LENGTH = struct.Struct("=I")
_pack_length = _LENGTH.pack
_AROUND = _LENGTH.size + 1
"""Of each string: its length before it, a NUL behind it."""
_PADDING = tuple(bytes(n) for n in range(8))
_BINARY = frozenset({CODES["USER"]})


class RawOp:
    """An op as `decode` gives it back.

    Attributes:
        code: name without `NSR_OP_`.
        strings_: its strings.
        args_: all six numbers.
    """

    __slots__ = ("args_", "code", "strings_")

    def __init__(self, code: str, args: tuple[int, ...], strings: tuple[bytes, ...]) -> None:
        self.code = code
        self.args_ = args
        self.strings_ = strings

    def args(self) -> tuple[int, ...]:
        """The six numbers."""
        return self.args_

    def strings(self) -> tuple[bytes, ...]:
        """The strings."""
        return self.strings_

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawOp) and (self.code, self.args_, self.strings_) == (
            other.code,
            other.args_,
            other.strings_,
        )

    def __hash__(self) -> int:
        return hash((self.code, self.args_, self.strings_))

    def __repr__(self) -> str:
        return f"RawOp({self.code!r}, {self.args_!r}, {self.strings_!r})"


class ProgramError(OSError):
    """A step of a program failed.

    Attributes:
        step: index of the op in its program.
        code_name: which op, without `NSR_OP_`; `INVALID` when the program's bytes were refused.
        subject: the path or name it failed on, cut from the left to 199 bytes; may be empty.
        errno: the kernel's answer.
    """

    def __init__(self, step: int, code_name: str, number: int, subject: str) -> None:
        about = f" {subject}" if subject else ""
        super().__init__(number, f"op {step} {code_name}{about}: {os.strerror(number)}")
        self.step = step
        self.code_name = code_name
        self.subject = subject


class Child:
    """A process that `run` made. A context manager: leaving it closes the descriptors, and does not end the process.

    Attributes:
        pid: its number here.
        pidfd: descriptor for it.
        terminal: the master of the terminal that NSR_OP_TERMINAL made, or -1.
    """

    __slots__ = ("pid", "pidfd", "terminal")

    def __init__(self, pid: int, pidfd: int, terminal: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.terminal = terminal

    def wait(self) -> int:
        """Wait for its end and reap it: the exit code, or the negative number of the signal that killed it."""
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert result is not None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def send_signal(self, signal: int) -> None:
        """Signal it (pidfd_send_signal(2)).

        Raises:
            OSError: ESRCH when it has been waited for already.
        """
        pidfd_send_signal(self.pidfd, signal)

    def close(self) -> None:
        """Close the descriptors; again is harmless."""
        for name in ("pidfd", "terminal"):
            fd: int = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@functools.lru_cache(maxsize=256)
def flags(names: str) -> int:
    """The number for kernel names joined by `|`, e.g. `CLONE_NEWNS|CLONE_NEWPID`.

    The empty text is 0, and the name of a capability is its bit.

    Raises:
        ValueError: a name that is not among the compiled constants.
    """
    number = 0
    for name in names.split("|") if names else ():
        value: int | None = getattr(lib, name, None)
        if value is None:
            raise ValueError(f"{name!r} in {names!r}: not a constant of the kernel's that nsrun knows")
        number |= 1 << value if name.startswith("CAP_") else value
    return number


def encode(ops: Iterable[Op]) -> bytes:
    """A program's wire form.

    Raises:
        ValueError: an unknown op or name of a flag, a number over 64 bits, a NUL byte inside a string.
        OSError: E2BIG, more than 65,535 ops or strings in one, or over NSR_PROGRAM_MAX bytes.
    """
    parts: list[bytes] = [b""]
    count = 0
    for op in ops:
        _encode_op(op, parts)
        count += 1
    size = _PROGRAM.size + sum(map(len, parts))
    if count > 0xFFFF or size > lib.NSR_PROGRAM_MAX:
        raise OSError(errno.E2BIG, f"program of {count} ops, {size} bytes: {os.strerror(errno.E2BIG)}")
    parts[0] = _PROGRAM.pack(lib.NSR_MAGIC, lib.NSR_WIRE_VERSION, count, size, 0)
    return b"".join(parts)


def _encode_op(op: Op, parts: list[bytes]) -> None:
    try:
        code = CODES[op.code]
    except KeyError:
        raise ValueError(f"op {op.code!r}: not in enum nsr_op_code") from None
    strings = op.strings()
    if len(strings) > 0xFFFF:
        raise OSError(errno.E2BIG, f"op {op.code} with {len(strings)} strings: {os.strerror(errno.E2BIG)}")
    size = _OP.size
    head = len(parts)
    parts.append(b"")
    for string in strings:
        if b"\0" in string and code not in _BINARY:
            raise ValueError(f"op {op.code}: a NUL byte in {string!r}")
        length = len(string)
        parts += (_pack_length(length), string, b"\0")
        size += _AROUND + length
    if size % 8:
        parts.append(_PADDING[-size % 8])
        size += -size % 8
    parts[head] = _head(code, len(strings), size, op.args())


@functools.lru_cache(maxsize=1024)
def _head(code: int, strings: int, size: int, args: tuple[int | str, ...]) -> bytes:
    """The fixed part of an op. Most are the same for every container."""
    if len(args) > lib.NSR_OP_ARGS:
        raise ValueError(f"op {NAMES[code]}: {len(args)} numbers, at most {lib.NSR_OP_ARGS}")
    numbers = [flags(arg) if isinstance(arg, str) else arg for arg in args]
    numbers += [0] * (lib.NSR_OP_ARGS - len(args))
    try:
        return _OP.pack(code, strings, size, *numbers)
    except struct.error:
        return _OP.pack(code, strings, size, *(_signed(NAMES[code], number) for number in numbers))


def _signed(code: str, number: int) -> int:
    """An unsigned 64-bit number as the signed one with the same bits."""
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError(f"op {code}: {number} is over 64 bits")
    return number - (1 << 64) if number >= 1 << 63 else number


def decode(program: bytes) -> list[RawOp]:
    """The ops of a wire form, checked as the interpreter checks it.

    Raises:
        ValueError: not a well-formed program; names the op.
    """
    step = ffi.new("uint32_t *")
    if lib.nsr_program_check(program, len(program), lib.NSR_FD_MAX, step):
        raise ValueError(f"not a program: op {step[0]} is malformed")
    ops: list[RawOp] = []
    at = _PROGRAM.size
    while at < len(program):
        code, n_strings, size, *args = _OP.unpack_from(program, at)
        strings: list[bytes] = []
        cursor = at + _OP.size
        for _ in range(n_strings):
            (length,) = _LENGTH.unpack_from(program, cursor)
            cursor += _LENGTH.size
            strings.append(program[cursor : cursor + length])
            cursor += length + 1
        ops.append(RawOp(NAMES[code], tuple(args), tuple(strings)))
        at += size
    return ops


def _error(report: Report) -> ProgramError:
    return ProgramError(report.step, report.code_name, report.errno, report.subject)


def run(program: bytes, slots: Sequence[int] = (), *, clone_flags: int = 0, cgroup_fd: int = -1) -> Child:
    """Start a child in new namespaces (clone3) and run the program in it, up to its exec.

    Args:
        program: from `encode`.
        slots: descriptors that ops name by index; they stay the caller's.
        clone_flags: CLONE_NEW*.
        cgroup_fd: descriptor of the version 2 cgroup directory that the child is born in; -1 is the caller's.

    Returns:
        The child, which has exec'ed (or, of a program without EXEC, ended). The caller waits for it.

    Raises:
        ProgramError: an op failed; the child is gone.
        OSError: the child could not be made (clone3, socketpair).
    """
    child = ffi.new("struct nsrun_child *")
    answer(
        "clone3",
        lib.nsrun_spawn(
            program, len(program), ffi.new("int[]", list(slots)), len(slots), clone_flags, cgroup_fd, child
        ),
    )
    if child.report.kind == lib.NSR_REPORT_FAILED:
        raise _error(report_of(child.report))
    return Child(child.pid, child.pidfd, child.terminal)


clone3 = run
"""clone3(2) is only ever called with a program for the child: Python does not run between it and execve."""


def apply(program: bytes, slots: Sequence[int] = ()) -> None:
    """Run a program without EXEC in the calling thread itself.

    Raises:
        ProgramError: an op failed; what the ops before it did stays done.
    """
    report = ffi.new("struct nsr_report *")
    if lib.nsrun_apply(program, len(program), ffi.new("int[]", list(slots)), len(slots), report):
        raise _error(report_of(report))
