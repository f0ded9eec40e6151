"""What a shim knows and says, as plain frozen values. The numbers are those of csrc/wire.h."""

from __future__ import annotations

import enum
import os
import signal as _signal
from collections.abc import Sequence
from dataclasses import dataclass, field


class State(enum.IntEnum):
    """`enum nsr_state`: where an instance is in its life."""

    STARTING = 1
    RUNNING = 2
    EXITED = 3
    START_FAILED = 4


class StartFlag(enum.IntFlag):
    """`enum nsr_start_flag`."""

    NONE = 0
    STDIN = 1
    STDIN_ONCE = 2
    TERMINAL = 4


@dataclass(frozen=True, slots=True)
class Report:
    """The step of a program that failed: its index, its op (`MOUNT`, `EXEC`, ...; empty when no op was reached), errno and the
    path or name it failed on (cut from the left to 199 bytes)."""

    step: int
    op: str
    error: int
    subject: str

    def __str__(self) -> str:
        where = f"step {self.step} {self.op}".rstrip()
        return f"{where} {self.subject}: {os.strerror(self.error)}".replace(" :", ":")


@dataclass(frozen=True, slots=True)
class Record:
    """One instance of a container, or a job in one, as its shim remembers it (`struct nsr_record`).

    Times are CLOCK_REALTIME in nanoseconds, 0 = never. `stop_signal` is the last one that was sent as such, SIGKILL when it was
    killed without one, 0 when neither.
    """

    state: State
    id: str
    name: str
    attempt: int
    pid: int = 0
    wait_status: int = 0
    stop_signal: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    stop_ns: int = 0
    log_bytes: int = 0
    log_error: int = 0
    flags: StartFlag = StartFlag.NONE
    report: Report | None = None

    @property
    def alive(self) -> bool:
        """Its process exists or is being made."""
        return self.state in (State.STARTING, State.RUNNING)

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        if self.state is State.EXITED and os.WIFSIGNALED(self.wait_status):
            return os.WTERMSIG(self.wait_status)
        return None

    @property
    def exit_code(self) -> int | None:
        """0..255 as Kubernetes counts: 128+n for signal n. None unless EXITED."""
        return exit_code(self.wait_status) if self.state is State.EXITED else None


def exit_code(wait_status: int) -> int:
    """The exit code of a status of wait(2): 128+n for signal n."""
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)


@dataclass(frozen=True, slots=True)
class Hello:
    """A shim's answer to HELLO."""

    wire_version: int
    pid: int
    running: int
    known: int
    sandbox_ready: bool
    started_ns: int


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A container to start.

    `program` is the encoded program; its slots 0, 1, 2 are the pipes that the shim makes, `slots` are those from 3 on.
    With `target` it enters the PID namespace of that running container instead of having one of its own.
    `log_fd` should be open with O_APPEND. `cgroup_fd` is a directory of a version 2 tree, or None. `clone_flags` are CLONE_NEW*.
    No descriptor changes hands: the shim gets copies, the caller closes its own.
    """

    id: str
    name: str
    attempt: int
    program: bytes
    log_fd: int
    clone_flags: int = 0
    cgroup_fd: int | None = None
    slots: Sequence[int] = field(default_factory=tuple)
    flags: StartFlag = StartFlag.NONE
    target: str = ""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A process to run in a running container.

    `status_fd` is one end of a SOCK_SEQPACKET pair whose other end gets the `struct nsr_exec_status` packets
    (read them with `nsrun.native.exec_status`). `stdio` is (stdin, stdout, stderr), or None with `terminal`: then the
    STARTED packet carries the pty's master. `join_flags` are the CLONE_NEW* of the target that it enters; its PID
    namespace is always entered.
    `cgroup_fd` None: the target's own.
    """

    target: str
    program: bytes
    status_fd: int
    stdio: tuple[int, int, int] | None = None
    terminal: bool = False
    clone_flags: int = 0
    join_flags: int = 0
    cgroup_fd: int | None = None
    slots: Sequence[int] = field(default_factory=tuple)
    name: str = "exec"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A process to run in a running container that goes on when nobody waits for it, and is begun once for each (target, name).

    It reads /dev/null; of what it writes, stdout and stderr together, the first 10 KiB are kept. `name` is a DNS label.
    `join_flags` and `cgroup_fd` are those of ExecRequest.
    """

    target: str
    name: str
    program: bytes
    clone_flags: int = 0
    join_flags: int = 0
    cgroup_fd: int | None = None
    slots: Sequence[int] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its file has it. `record.id` is its target's; `record.log_bytes` is the length of `output` once it has ended."""

    record: Record
    output: bytes

    @property
    def ended(self) -> bool:
        """Nothing will be added any more."""
        return not self.record.alive


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job ended; its file says so already. The record is that of the file: `id` is the target's, `name` its own."""

    record: Record


@dataclass(frozen=True, slots=True)
class Exited:
    """An instance ended; its record is on disk already."""

    record: Record


@dataclass(frozen=True, slots=True)
class StartEnded:
    """An instance runs, or could not be started, and the client that asked for it is gone; its record is on disk already."""

    record: Record


@dataclass(frozen=True, slots=True)
class LogBlocked:
    """The log of an instance cannot be written: its output waits, nothing is lost. `error` is errno."""

    id: str
    error: int


@dataclass(frozen=True, slots=True)
class LogResumed:
    """The log of an instance is being written again."""

    id: str


Event = Exited | StartEnded | JobEnded | LogBlocked | LogResumed


def signal_name(number: int) -> str:
    """`SIGTERM` for 15; `signal 99` for a number without a name."""
    try:
        return _signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
