"""Seccomp profiles to filters, by libseccomp.

A profile is JSON (`seccomp_profile`); `seccomp-default.json` beside this file is RuntimeDefault. Which of its rules count is decided
there; the rest is libseccomp's work.

Compiling takes some tens of milliseconds, so a filter is compiled once for each profile, set of capabilities that the profile asks
about, and version of libseccomp, and then read from the cache directory; with a warm cache libseccomp is not even loaded.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import platform
import struct
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from nsrun.errors import InternalError, SpecError, UnsupportedError, errno_text
from nsrun.security.seccomp_profile import Argument, Profile, Rule, parse, version

RUNTIME_DEFAULT = "RuntimeDefault"
LOCALHOST = "Localhost/"

_FORM = b"2"
"""Changes when the same profile would give another filter."""

_INSTRUCTION = struct.Struct("=HBBI")
_FLAGS = struct.Struct("=I")
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_GO_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
"""uname's name of a machine to the names that profiles use for it."""

_memory: dict[str, bytes] = {}


def seccomp_filter(
    profile: str,
    capabilities: frozenset[str],
    *,
    cache: Path | None = None,
    profiles: Path | None = None,
) -> bytes:
    """The filter as an array of `struct sock_filter`, and 4 bytes behind it with flags for seccomp(2) where there are any.

    Args:
        profile: `RuntimeDefault`, or `Localhost/` and a path below `profiles`.
        capabilities: full names of the container's bounding set.
        cache: directory for compiled filters, made when missing; without it they are kept in memory only.
        profiles: directory of Localhost profiles.

    Raises:
        UnsupportedError: libseccomp is not installed or does not know this machine, or the profile asks for SCMP_ACT_NOTIFY.
        SpecError: a Localhost profile that cannot be read or is none.
    """
    text = _text(profile, profiles)
    asked = frozenset(capabilities & _capabilities_in(text))
    key = hashlib.sha256(
        b"\0".join(
            (
                _FORM,
                text,
                " ".join(sorted(asked)).encode(),
                platform.machine().encode(),
                _release(),
                _library().encode(),
            )
        )
    ).hexdigest()
    found = _memory.get(key)
    if found is None and cache is not None:
        found = _read(cache / f"{key}.bpf")
    if found is None:
        found = _compile(parse(text, _where(profile, profiles)), asked)
        if cache is not None:
            _write(cache, f"{key}.bpf", found)
    _memory[key] = found
    return found


@lru_cache(maxsize=1)
def _default_text() -> bytes:
    return Path(__file__).with_name("seccomp-default.json").read_bytes()


def _text(profile: str, profiles: Path | None) -> bytes:
    if profile == RUNTIME_DEFAULT:
        return _default_text()
    if not profile.startswith(LOCALHOST) or profiles is None:
        raise UnsupportedError(f"seccomp profile {profile!r}: neither RuntimeDefault nor Localhost")
    path = _where(profile, profiles)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SpecError(
            f'cannot load seccomp profile "{path}": {errno_text(error.errno or 0)}',
            resolution=f"localhostProfile is a path below {profiles}.",
        ) from error


def _where(profile: str, profiles: Path | None) -> str:
    """The file of a Localhost profile, as messages name it; the profile's name where it has none."""
    return profile if profiles is None else str(profiles / profile.removeprefix(LOCALHOST))


@lru_cache(maxsize=32)
def _capabilities_in(text: bytes) -> frozenset[str]:
    """Names that the profile asks about; all that look like one, so that no rule has to be understood for it."""
    words = text.replace(b'"', b" ").split()
    return frozenset(word.decode("ascii", "replace") for word in words if word.startswith(b"CAP_"))


def _release() -> bytes:
    """What a profile's minKernel is compared with."""
    return platform.release().encode()


@lru_cache(maxsize=1)
def _library() -> str:
    """The file of libseccomp, which has its version in the name; empty when it is not in one of the usual places."""
    for pattern in (
        "/usr/lib/*/libseccomp.so.2",
        "/usr/lib64/libseccomp.so.2",
        "/lib/*/libseccomp.so.2",
        "/usr/lib/libseccomp.so.2",
    ):
        for path in sorted(glob.glob(pattern)):
            return os.path.realpath(path)
    return ""


# --- the cache ---------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes | None:
    """A cached filter, or None where there is none or it is not whole: it is then made again."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    program, digest = data[:-32], data[-32:]
    if (
        not program
        or len(program) % _INSTRUCTION.size not in (0, _FLAGS.size)
        or hashlib.sha256(program).digest() != digest
    ):
        return None
    return program


def _write(directory: Path, name: str, program: bytes) -> None:
    """Keeps a filter, for speed only: a full disk or the like is no reason to fail."""
    temporary = None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
        with open(fd, "wb") as file:
            file.write(program + hashlib.sha256(program).digest())
        os.rename(temporary, directory / name)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


# --- compiling ---------------------------------------------------------------------------------------------------------


def _load_library() -> Any:
    try:
        import pyseccomp
    except (RuntimeError, ImportError, OSError) as error:
        raise UnsupportedError(
            "cannot make a seccomp filter: libseccomp.so.2 is not installed",
            details=str(error),
            resolution="Install it: apt install libseccomp2. (Or let the pod run without: seccompProfile type Unconfined.)",
        ) from error
    return pyseccomp


def _action(library: Any, name: str, number: int) -> int:
    actions = {
        "SCMP_ACT_ALLOW": library.ALLOW,
        "SCMP_ACT_LOG": library.LOG,
        "SCMP_ACT_TRAP": library.TRAP,
        "SCMP_ACT_KILL": library.KILL_THREAD,
        "SCMP_ACT_KILL_THREAD": library.KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS": library.KILL_PROCESS,
        "SCMP_ACT_ERRNO": library.ERRNO(number),
        "SCMP_ACT_TRACE": library.TRACE(number),
    }
    result: int = actions[name]
    return result


def _comparison(library: Any, argument: Argument) -> Any:
    operator = getattr(library, argument.op.removeprefix("SCMP_CMP_"))
    return library.Arg(argument.index, operator, argument.value, argument.valueTwo)


def _machine() -> tuple[str, str]:
    """The names that rules and architectures use for this machine."""
    machine = platform.machine()
    if machine not in _GO_ARCHITECTURES:
        raise UnsupportedError(f"no seccomp profile for {machine} processors")
    return _GO_ARCHITECTURES[machine]


def _compile(profile: Profile, capabilities: frozenset[str]) -> bytes:
    library = _load_library()
    architecture, token = _machine()
    chosen = profile.chosen(capabilities, architecture, version(platform.release()))
    default = _action(library, chosen.default, chosen.number)
    highest = 0
    try:
        result = library.SyscallFilter(default)
        for name in chosen.others(token):
            number = getattr(library.Arch, name.removeprefix("SCMP_ARCH_"), None)
            if number is not None and name != "SCMP_ARCH_NATIVE":
                result.add_arch(number)
        result.set_attr(library.Attr.CTL_OPTIMIZE, 2)  # a binary tree: a hundred comparisons less for the average call
        for rule in chosen.rules:
            highest = max(highest, _add(library, result, rule, default))
        with tempfile.TemporaryFile() as file:
            result.export_bpf(file)
            file.seek(0)
            program = file.read()
    except OSError as error:
        raise InternalError(f"libseccomp refused the profile: {errno_text(error.errno or 0)}") from error
    if highest and not chosen.permissive:
        program = _unknown_calls(library, highest) + program
    if len(program) > _MAX_INSTRUCTIONS * _INSTRUCTION.size:
        raise SpecError(
            f"seccomp profile: {len(program) // _INSTRUCTION.size} instructions, the kernel takes {_MAX_INSTRUCTIONS}"
        )
    return program + (_FLAGS.pack(chosen.flags) if chosen.flags else b"")


def _add(library: Any, result: Any, rule: Rule, default: int) -> int:
    """Adds a rule for each of its names and gives the highest number among them; names that this libseccomp does not know are left out."""
    highest = 0
    action = _action(library, rule.action, rule.number)
    alternatives = [[_comparison(library, one) for one in arguments] for arguments in rule.alternatives()]
    for name in rule.calls:
        number = library.resolve_syscall(library.system_arch(), name)
        if number == -1:  # __NR_SCMP_ERROR
            continue
        highest = max(highest, number)
        if action != default:  # libseccomp takes a rule that changes nothing for a mistake
            for arguments in alternatives:
                result.add_rule(action, number, *arguments)
    return highest


def _unknown_calls(library: Any, highest: int) -> bytes:
    """In front of the filter: system calls newer than this libseccomp do not exist (ENOSYS), rather than being forbidden.

    C libraries try a new call first and fall back when it is not there; EPERM they take for an answer (runc's
    libcontainer/seccomp/patchbpf does the same). Only for the machine's own ABI; numbers from 0x40000000 up are x32's.
    """
    load, equal, greater, at_least, give = 0x20, 0x15, 0x25, 0x35, 0x06  # BPF_LD|W|ABS, JEQ, JGT, JGE, RET|K
    instructions = (
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, 4, library.system_arch() & 0xFFFFFFFF),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, 2, 0, 0x40000000),
        (greater, 0, 1, highest),
        (give, 0, 0, library.ERRNO(errno.ENOSYS)),
    )
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
