"""Seccomp profiles to filters, by libseccomp.

A profile is JSON of the form that container engines share (OCI runtime-spec config-linux.md, with Docker's `archMap`, `includes`,
`excludes`, `defaultErrnoRet`); `seccomp-default.json` beside this file is RuntimeDefault. Rules that depend on capabilities are
chosen here; the rest is libseccomp's work.

Compiling takes some tens of milliseconds, so a filter is compiled once for each profile, set of capabilities that the profile asks
about, and version of libseccomp, and then read from the cache directory; with a warm cache libseccomp is not even loaded.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import platform
import struct
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nsrun.errors import InternalError, SpecError, UnsupportedError, errno_text

RUNTIME_DEFAULT = "RuntimeDefault"
LOCALHOST = "Localhost/"

_FORM = b"1"
"""Changes when the same profile would give another filter."""

_INSTRUCTION = struct.Struct("=HBBI")
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
    """The filter as an array of `struct sock_filter`.

    Args:
        profile: `RuntimeDefault`, or `Localhost/` and a path below `profiles`.
        capabilities: full names of the container's bounding set.
        cache: directory for compiled filters, made when missing; without it they are kept in memory only.
        profiles: directory of Localhost profiles.

    Raises:
        UnsupportedError: libseccomp is not installed, or this machine's architecture is not in the profile.
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
        found = _compile(_parse(text, profile), asked)
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
    path = profiles / profile.removeprefix(LOCALHOST)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(
            f"cannot load seccomp profile {path}: {errno_text(error.errno or 0)}",
            resolution=f"localhostProfile is a path below {profiles}.",
        ) from error


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
    if not program or len(program) % _INSTRUCTION.size or hashlib.sha256(program).digest() != digest:
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


def _parse(text: bytes, profile: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise SpecError(f"seccomp profile {profile}: not JSON: {error}") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("defaultAction"), str):
        raise SpecError(f"seccomp profile {profile}: there is no defaultAction")
    return parsed


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


def _chosen(rule: Mapping[str, Any], capabilities: frozenset[str], architecture: str) -> bool:
    """Whether a rule counts for this container on this machine."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if any(name not in capabilities for name in includes.get("caps") or ()):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if includes.get("minKernel") and not _kernel_at_least(includes["minKernel"]):
        return False
    if any(name in capabilities for name in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and _kernel_at_least(excludes["minKernel"]):
        return False
    return architecture not in (excludes.get("arches") or ())


def _kernel_at_least(version: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int("".join(filter(str.isdigit, part)) or 0) for part in text.split("-")[0].split(".")[:2]]

    return numbers(platform.release()) >= numbers(version)


def _action(library: Any, name: str, errno_number: int) -> int:
    actions = {
        "SCMP_ACT_ALLOW": library.ALLOW,
        "SCMP_ACT_LOG": library.LOG,
        "SCMP_ACT_TRAP": library.TRAP,
        "SCMP_ACT_KILL": library.KILL_THREAD,
        "SCMP_ACT_KILL_THREAD": library.KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS": library.KILL_PROCESS,
        "SCMP_ACT_ERRNO": library.ERRNO(errno_number),
        "SCMP_ACT_TRACE": library.TRACE(errno_number),
    }
    if name not in actions:
        raise SpecError(f"seccomp profile: unknown action {name!r}")
    number: int = actions[name]
    return number


def _comparison(library: Any, argument: Mapping[str, Any]) -> Any:
    operators = {
        "SCMP_CMP_NE": library.NE,
        "SCMP_CMP_LT": library.LT,
        "SCMP_CMP_LE": library.LE,
        "SCMP_CMP_EQ": library.EQ,
        "SCMP_CMP_GE": library.GE,
        "SCMP_CMP_GT": library.GT,
        "SCMP_CMP_MASKED_EQ": library.MASKED_EQ,
    }
    operator = argument.get("op", "SCMP_CMP_EQ")
    if operator not in operators:
        raise SpecError(f"seccomp profile: unknown operator {operator!r}")
    return library.Arg(argument["index"], operators[operator], argument["value"], argument.get("valueTwo") or 0)


def _architectures(library: Any, profile: Mapping[str, Any]) -> tuple[str, list[int]]:
    """The name that rules use for this machine, and libseccomp's numbers for the other ABIs that it runs."""
    machine = platform.machine()
    if machine not in _GO_ARCHITECTURES:
        raise UnsupportedError(f"no seccomp profile for {machine} processors")
    name, token = _GO_ARCHITECTURES[machine]
    wanted: list[str] = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == token:
            wanted += entry.get("subArchitectures") or ()
    numbers = [getattr(library.Arch, word.removeprefix("SCMP_ARCH_"), None) for word in wanted if word != token]
    return name, [number for number in numbers if number is not None]


def _compile(profile: Mapping[str, Any], capabilities: frozenset[str]) -> bytes:
    library = _load_library()
    default_errno = profile.get("defaultErrnoRet") or errno.EPERM
    default = _action(library, profile["defaultAction"], default_errno)
    architecture, others = _architectures(library, profile)
    try:
        result = library.SyscallFilter(default)
        for number in others:
            result.add_arch(number)
        result.set_attr(library.Attr.CTL_OPTIMIZE, 2)  # a binary tree: a hundred comparisons less for the average call
        highest = 0
        for rule in profile.get("syscalls") or ():
            if not _chosen(rule, capabilities, architecture):
                continue
            action = _action(library, rule["action"], rule.get("errnoRet") or default_errno)
            highest = max(highest, _add(library, result, action, rule, default))
        with tempfile.TemporaryFile() as file:
            result.export_bpf(file)
            file.seek(0)
            program = file.read()
    except OSError as error:
        raise InternalError(f"libseccomp refused the profile: {errno_text(error.errno or 0)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"seccomp profile: {error!r} where a rule was expected") from error
    if default == library.ERRNO(errno.EPERM):
        program = _unknown_calls(library, highest) + program
    if len(program) > _MAX_INSTRUCTIONS * _INSTRUCTION.size:
        raise SpecError(
            f"seccomp profile: {len(program) // _INSTRUCTION.size} instructions, the kernel takes {_MAX_INSTRUCTIONS}"
        )
    return program


def _add(library: Any, result: Any, action: int, rule: Mapping[str, Any], default: int) -> int:
    """Adds a rule for each of its names and gives the highest number among them; names that this libseccomp does not know are left out."""
    highest = 0
    names = rule.get("names") or [rule["name"]]
    arguments = [_comparison(library, argument) for argument in rule.get("args") or ()]
    for name in names:
        number = library.resolve_syscall(library.system_arch(), name)
        if number == -1:  # __NR_SCMP_ERROR
            continue
        highest = max(highest, number)
        if action != default:  # libseccomp takes a rule that changes nothing for a mistake
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
