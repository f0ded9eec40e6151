"""A seccomp profile as it is written: JSON of the form that container engines share, to a value with types.

Source: OCI runtime-spec config-linux.md "Seccomp" (what containerd reads), with what Docker and CRI-O add to it (`archMap`, `includes`,
`excludes`, `name`, errno numbers by name: containers/common pkg/seccomp). Fields that nobody knows are no matter, as there.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec

from nsrun.errors import SpecError, UnsupportedError

ALLOW, ERRNO, TRACE, LOG = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_LOG"
NOTIFY = "SCMP_ACT_NOTIFY"
ACTIONS = frozenset(
    (ALLOW, ERRNO, TRACE, LOG, "SCMP_ACT_TRAP", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS")
)
EQUAL, MASKED_EQUAL = "SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"
OPERATORS = frozenset((EQUAL, "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GE", "SCMP_CMP_GT", MASKED_EQUAL))
ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("X86", "X86_64", "X32", "ARM", "AARCH64", "LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL"),
        *("MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64"),
        *("SH", "SHEB", "NATIVE"),
    )
)
SPEC_ALLOW = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
FLAGS: dict[str, int] = {
    "SECCOMP_FILTER_FLAG_LOG": 2,
    SPEC_ALLOW: 4,
    # Of no effect here: there is one thread when the filter is set, and the other is about SCMP_ACT_NOTIFY.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0,
}
"""What seccomp(2) is given for the flags of a profile."""

_Word = Annotated[int, msgspec.Meta(ge=0)]
_ERRNO_MAX = 4094
"""More is refused by libseccomp."""
_Index = Annotated[int, msgspec.Meta(ge=0, le=5)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


class Argument(msgspec.Struct, frozen=True):
    """A condition about one argument of a system call."""

    index: _Index
    value: _Word
    op: str = EQUAL
    valueTwo: _Word = 0


class Condition(msgspec.Struct, frozen=True):
    """When a rule counts."""

    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    minKernel: str | None = None


class Rule(msgspec.Struct, frozen=True):
    """What comes of some system calls. `errnoRet` unset is EPERM (not the profile's default)."""

    action: str
    names: tuple[str, ...] | None = None
    name: str = ""
    errnoRet: _Number | None = None
    errno: str = ""
    args: tuple[Argument, ...] | None = None
    includes: Condition | None = None
    excludes: Condition | None = None

    @property
    def calls(self) -> tuple[str, ...]:
        """The names of its system calls."""
        return self.names or (self.name,)

    @property
    def number(self) -> int:
        """The errno of SCMP_ACT_ERRNO, the message of SCMP_ACT_TRACE."""
        return _number(self.errno, self.errnoRet)

    def alternatives(self) -> list[tuple[Argument, ...]]:
        """Conditions of which one has to be met, each with arguments that all have to be as it says.

        All of them together; but where an argument occurs twice, each alone (runc libcontainer/seccomp matchCall).
        """
        arguments = self.args or ()
        if len({one.index for one in arguments}) < len(arguments):
            return [(one,) for one in arguments]
        return [arguments]


class ArchitectureMap(msgspec.Struct, frozen=True):
    """A processor and the other ABIs that it runs."""

    architecture: str = ""
    subArchitectures: tuple[str, ...] | None = None


class _Document(msgspec.Struct, frozen=True):
    defaultAction: str
    defaultErrnoRet: _Number | None = None
    defaultErrno: str = ""
    architectures: tuple[str, ...] | None = None
    archMap: tuple[ArchitectureMap, ...] | None = None
    flags: tuple[str, ...] | None = None
    listenerPath: str = ""
    syscalls: tuple[Rule, ...] | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile whose words are all known.

    Attributes:
        default: the action for what no rule is about.
        number: its errno.
        architectures: other ABIs than the machine's own; `archMap` is by processor.
        flags: for seccomp(2).
        rules: in their order.
    """

    default: str
    number: int
    architectures: tuple[str, ...]
    arch_map: tuple[ArchitectureMap, ...]
    flags: int
    rules: tuple[Rule, ...]

    @property
    def permissive(self) -> bool:
        """What is not forbidden is allowed, or left to a tracer: nothing is to be said about calls that nobody knows yet.

        (runc libcontainer/seccomp/patchbpf isAllowAction; a default of ENOSYS says it already.)
        """
        return self.default in (ALLOW, LOG, TRACE) or (self.default == ERRNO and self.number == errno.ENOSYS)

    def chosen(self, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]) -> Profile:
        """With the rules only that count for a container with this bounding set, on this machine (Go's name of it)."""

        def counts(rule: Rule) -> bool:
            within, without = rule.includes or Condition(), rule.excludes or Condition()
            return not (
                any(name not in capabilities for name in within.caps or ())
                or (within.arches and architecture not in within.arches)
                or (within.minKernel and kernel < version(within.minKernel))
                or any(name in capabilities for name in without.caps or ())
                or (without.arches and architecture in without.arches)
                or (without.minKernel and kernel >= version(without.minKernel))
            )

        return replace(self, rules=tuple(rule for rule in self.rules if counts(rule)))

    def others(self, token: str) -> list[str]:
        """The other ABIs that a machine whose own is `token` is to allow."""
        mapped = [one.subArchitectures or () for one in self.arch_map if one.architecture == token]
        return [name for names in (self.architectures, *mapped) for name in names if name != token]


def version(text: str) -> tuple[int, int]:
    """The first two numbers of a kernel's version."""
    major, minor = [*map(int, re.findall(r"\d+", text.split("-")[0])), 0, 0][:2]
    return major, minor


def parse(text: bytes, where: str) -> Profile:
    """The profile.

    Args:
        text: JSON.
        where: its file, for messages.

    Raises:
        SpecError: it is no profile; the message begins as containerd's does.
        UnsupportedError: it hands system calls over to another process.
    """
    try:
        document = msgspec.json.decode(text, type=_Document)
    except msgspec.DecodeError as error:
        raise _wrong(where, str(error)) from None
    try:
        profile = Profile(
            default=document.defaultAction,
            number=_number(document.defaultErrno, document.defaultErrnoRet),
            architectures=document.architectures or (),
            arch_map=document.archMap or (),
            flags=_flags(document.flags),
            rules=document.syscalls or (),
        )
        problem = next(_problems(profile), None)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise _wrong(where, problem)
    if document.listenerPath or NOTIFY in (profile.default, *(rule.action for rule in profile.rules)):
        raise UnsupportedError(
            f"seccomp profile {where}: {NOTIFY} is not supported",
            details="It hands system calls over to another process, and there is none here that would answer them.",
            resolution="Use SCMP_ACT_ERRNO, or SCMP_ACT_LOG to see what is called.",
        )
    return profile


def _wrong(where: str, problem: str) -> SpecError:
    return SpecError(f'decoding seccomp profile failed "{where}": {problem}')


def _number(name: str, number: int | None) -> int:
    if name:
        found: Any = getattr(errno, name, None)
        if not isinstance(found, int):
            raise ValueError(f"there is no errno {name!r}")
        return found
    return errno.EPERM if number is None else number


def _flags(names: tuple[str, ...] | None) -> int:
    """Without a word about it, as runc: a filter is no reason to slow the processor down (its Spectre v4 mitigation)."""
    result = 0
    for name in (SPEC_ALLOW,) if names is None else names:
        if name not in FLAGS:
            raise ValueError(f"unknown flag {name!r}")
        result |= FLAGS[name]
    return result


def _problems(profile: Profile) -> Iterator[str]:
    if profile.architectures and profile.arch_map:
        yield "both architectures and archMap are there: use either"
    if profile.default == ERRNO and profile.number > _ERRNO_MAX:
        yield f"defaultErrnoRet {profile.number} is no errno"
    for action in (profile.default, *(rule.action for rule in profile.rules)):
        if action not in ACTIONS and action != NOTIFY:
            yield f"unknown action {action!r}"
    named = (name for one in profile.arch_map for name in (one.architecture, *(one.subArchitectures or ())))
    for architecture in (*profile.architectures, *named):
        if architecture not in ARCHITECTURES:
            yield f"unknown architecture {architecture!r}"
    for rule in profile.rules:
        if rule.name and rule.names:
            yield f"a rule has both name ({rule.name!r}) and names: use either"
        if not rule.name and not rule.names:
            yield f"a rule ({rule.action}) names no system call"
        if rule.action == ERRNO and rule.number > _ERRNO_MAX:
            yield f"errnoRet {rule.number} is no errno"
        for argument in rule.args or ():
            if argument.op not in OPERATORS:
                yield f"unknown operator {argument.op!r}"
            if max(argument.value, argument.valueTwo) >= 1 << 64:
                yield "a value of an argument has more than 64 bits"
