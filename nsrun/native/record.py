"""What the shim keeps and sends about an instance of a container (`struct nsr_record`, `struct nsr_report`)."""

from __future__ import annotations

import os

from nsrun._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CODES: dict[int, str] = {
    number: name.removeprefix("NSR_OP_") for name, number in ffi.typeof("enum nsr_op_code").relements.items()
}
_STATES: dict[int, str] = {
    number: name.removeprefix("NSR_STATE_") for name, number in ffi.typeof("enum nsr_state").relements.items()
}
RECORD_SIZE: int = ffi.sizeof("struct nsr_record")
"""Bytes of a record, on the socket as in its file."""


class _Value:
    """Compares and prints by its slots: a dataclass without the 5 ms that importing dataclasses costs every command."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, **values: object) -> None:
        for name in self.__slots__:
            setattr(self, name, values[name])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment] # its attributes may be set

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self.__slots__)})"


class Report(_Value):
    """One failing step.

    Attributes:
        step: index of the op in its program.
        code: its `enum nsr_op_code`.
        code_name: the same without `NSR_OP_`; `INVALID` when no op was reached.
        errno: the kernel's answer.
        subject: the path or name it failed on.
    """

    __slots__ = ("code", "code_name", "errno", "step", "subject")
    step: int
    code: int
    code_name: str
    errno: int
    subject: str


class Record(_Value):
    """One instance of a container, as the shim knows it.

    Attributes:
        id: 64 hex digits.
        name: the container's name.
        state: `enum nsr_state`; `state_name` is the same without `NSR_STATE_`.
        attempt: how many instances of this name came before.
        pid: as the shim sees it.
        wait_status: of wait(2), when exited.
        stop_signal: the first signal the shim was told to send, or 0; `stop_ns` is when.
        started_ns: CLOCK_REALTIME in nanoseconds; 0 is never. `finished_ns` likewise.
        log_bytes: written to its log files.
        log_error: errno while the log cannot be written, else 0.
        flags: `enum nsr_start_flag`.
        report: why the start failed, or None.
    """

    __slots__ = (
        "attempt",
        "finished_ns",
        "flags",
        "id",
        "log_bytes",
        "log_error",
        "name",
        "pid",
        "report",
        "started_ns",
        "state",
        "state_name",
        "stop_ns",
        "stop_signal",
        "wait_status",
    )
    id: str
    name: str
    state: int
    state_name: str
    attempt: int
    pid: int
    wait_status: int
    stop_signal: int
    stop_ns: int
    started_ns: int
    finished_ns: int
    log_bytes: int
    log_error: int
    flags: int
    report: Report | None

    @property
    def exit_code(self) -> int | None:
        """As a shell says it: the code, or 128 plus the signal; None while there is none."""
        if self.state != lib.NSR_STATE_EXITED:
            return None
        code = os.waitstatus_to_exitcode(self.wait_status)
        return code if code >= 0 else 128 - code

    @property
    def signal(self) -> int | None:
        """The signal that ended it, or None."""
        if self.state != lib.NSR_STATE_EXITED or not os.WIFSIGNALED(self.wait_status):
            return None
        return os.WTERMSIG(self.wait_status)


def _text(array: Any) -> str:
    """A char array up to its NUL, or to its end when a hostile sender left the NUL out."""
    return os.fsdecode(ffi.string(array, ffi.sizeof(array)))


def report_of(struct: Any) -> Report:
    """The Report in a cffi `struct nsr_report`."""
    return Report(
        step=struct.step,
        code=struct.code,
        code_name=_CODES.get(struct.code, "INVALID"),
        errno=struct.error,
        subject=_text(struct.subject),
    )


def record_of(struct: Any) -> Record:
    """The Record in a cffi `struct nsr_record`.

    Raises:
        ValueError: it is of another version, or no record.
    """
    if struct.magic != lib.NSR_MAGIC or struct.version != lib.NSR_WIRE_VERSION or struct.state not in _STATES:
        raise ValueError(f"not a record of version {lib.NSR_WIRE_VERSION}")
    return Record(
        id=_text(struct.id),
        name=_text(struct.name),
        state=struct.state,
        state_name=_STATES[struct.state],
        attempt=struct.attempt,
        pid=struct.pid,
        wait_status=struct.wait_status,
        stop_signal=struct.stop_signal,
        stop_ns=struct.stop_ns,
        started_ns=struct.started_ns,
        finished_ns=struct.finished_ns,
        log_bytes=struct.log_bytes,
        log_error=struct.log_error,
        flags=struct.flags,
        report=report_of(struct.report) if struct.report.kind == lib.NSR_REPORT_FAILED else None,
    )


def unpack_record(data: bytes) -> Record:
    """The record in the bytes of a file of `containers/` or of a message.

    Raises:
        ValueError: too short, of another version, or no record.
    """
    if len(data) < RECORD_SIZE:
        raise ValueError(f"{len(data)} bytes are no record, which has {RECORD_SIZE}")
    return record_of(ffi.from_buffer("struct nsr_record *", data))
