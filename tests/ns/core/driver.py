"""Runs small programs through `native.run` on the tests' root file system, in namespaces that end with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nsrun import native

L = native.lib
ALONE = L.CLONE_NEWNS | L.CLONE_NEWPID | L.CLONE_NEWNET | L.CLONE_NEWUTS | L.CLONE_NEWIPC


@dataclass(frozen=True)
class Op:
    """Any op, by name."""

    code: str
    values: tuple[int, ...] = ()
    texts: tuple[bytes, ...] = ()

    def args(self) -> tuple[int, ...]:
        return self.values

    def strings(self) -> tuple[bytes, ...]:
        return self.texts


_Text = str | bytes | Path


def op(code: str, *parts: int | _Text) -> Op:
    """`op("BIND", "/usr", "/usr", -1, 4)`: numbers are arguments, everything else strings, each in their order."""
    return Op(
        code,
        tuple(part for part in parts if isinstance(part, int)),
        tuple(os.fsencode(part) for part in parts if not isinstance(part, int)),
    )


@dataclass(frozen=True)
class Output:
    """What a program's process said and how it ended (negative: by a signal)."""

    exit: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def fields(self) -> dict[str, str]:
        """First word of each line -> the rest."""
        return dict(line.partition(" ")[::2] for line in self.lines)


class Box:
    """A root for one test: the shared root file system below, a directory of the test's above it."""

    PATH: ClassVar[str] = "PATH=/bin"

    def __init__(self, lower: Path, directory: Path) -> None:
        self.lower = lower
        self.upper, self.work, self.merged = (directory / name for name in ("upper", "work", "merged"))
        for path in (self.upper, self.work, self.merged):
            path.mkdir()
        self.directory = directory

    def another(self) -> Box:
        """A second root over the same lower one: a volatile upper layer is good for one mount."""
        directory = self.directory / f"{len(list(self.directory.iterdir()))}"
        directory.mkdir()
        return Box(self.lower, directory)

    def root(self) -> list[Op]:
        """The root, mounted and opened; nothing in it yet."""
        return [
            op("PRIVATE"),
            op("OVERLAY", self.merged, self.upper, self.work, self.lower, 0, L.NSR_OVERLAY_VOLATILE),
            op("ROOT", self.merged),
        ]

    @staticmethod
    def system() -> list[Op]:
        """/proc and a /dev with null in it."""
        return [
            op("MKDIR", "/proc", 0o755),
            op("MOUNT", "proc", "/proc"),
            op("MKDIR", "/dev", 0o755),
            op("MOUNT", "tmpfs", "/dev", "mode=755"),
            op("MKNOD", "/dev/null", L.S_IFCHR | 0o666, 1, 3),
        ]

    def program(
        self,
        before: Sequence[Op] = (),
        after: Sequence[Op] = (),
        *,
        command: Sequence[str] = ("true",),
        env: Sequence[str] = (PATH,),
        system: bool = True,
        stdio: bool = True,
    ) -> list[Op]:
        """Root, `before`, pivot, `after`, exec."""
        return [
            *self.root(),
            *(self.system() if system else ()),
            *before,
            op("PIVOT_ROOT"),
            *([op("STDIO", -1, 0, 0)] if stdio and system else [op("STDIO", 0, 0, 0)] if stdio else []),
            *after,
            op("CLOSE_REST"),
            op("ENV", *env),
            op("EXEC", command[0], *command),
        ]

    def run(
        self,
        before: Sequence[Op] = (),
        after: Sequence[Op] = (),
        *,
        command: Sequence[str] = ("true",),
        env: Sequence[str] = (PATH,),
        slots: Sequence[int] = (),
        clone_flags: int = ALONE,
        system: bool = True,
    ) -> Output:
        """Run it to its end. `slots` of the ops count from 1; slot 0 is the pipe that stdout and stderr go to."""
        ops = self.program(before, after, command=command, env=env, system=system)
        return run(ops, slots, clone_flags=clone_flags)


def run(ops: Sequence[Op], slots: Sequence[int] = (), *, clone_flags: int = ALONE) -> Output:
    """Run a program whose STDIO names slot 0, and read what it prints until it ends.

    Raises native.ProgramError when an op fails.
    """
    reading, writing = os.pipe()
    try:
        try:
            child = native.run(native.encode(ops), [writing, *slots], clone_flags=clone_flags)
        finally:
            os.close(writing)
        with child:
            text = b""
            while chunk := os.read(reading, 65536):
                text += chunk
            return Output(child.wait(), text.decode(errors="surrogateescape"))
    finally:
        os.close(reading)
