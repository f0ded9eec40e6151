"""Packets of csrc/wire.h as Python values. The layout comes from the C compiler, through the cffi module."""

from __future__ import annotations

import errno
from typing import Any

from nsrun import native
from nsrun.shim.records import Hello, Record, Report, StartFlag, State

lib = native.lib
ffi = native.ffi

MESSAGE_SIZE: int = ffi.sizeof("struct nsr_message")
RECORD_SIZE: int = ffi.sizeof("struct nsr_record")
JOB_OUTPUT: int = lib.NSR_JOB_OUTPUT

_REQUESTS = (
    "HELLO",
    "SUBSCRIBE",
    "SANDBOX",
    "NETWORK",
    "START",
    "EXEC",
    "SIGNAL",
    "KILL",
    "REOPEN",
    "ATTACH",
    "CLOSE_STDIN",
    "RESIZE",
    "LIST",
    "FORGET",
    "QUIT",
    "JOB",
)
REQUEST: dict[str, int] = {name: getattr(lib, f"NSR_MSG_{name}") for name in _REQUESTS}
OP_NAMES: dict[int, str] = {
    getattr(lib, name): name.removeprefix("NSR_OP_")
    for name in dir(lib)
    if name.startswith("NSR_OP_") and name not in ("NSR_OP_INVALID", "NSR_OP_ARGS")
}


def new_message(request: str, seq: int, n_fds: int) -> Any:
    """A zeroed `struct nsr_message` of that type."""
    message = ffi.new("struct nsr_message *")
    message.type = REQUEST[request]
    message.seq = seq
    message.n_fds = n_fds
    return message


def pack(message: Any) -> bytes:
    """The packet."""
    return bytes(ffi.buffer(message))


def unpack(packet: bytes) -> Any:
    """The `struct nsr_message` in a packet of the right size (checked by the caller)."""
    message = ffi.new("struct nsr_message *")
    ffi.memmove(message, packet, MESSAGE_SIZE)
    return message


def text(field: Any) -> str:
    """A NUL-terminated member; bytes that are no UTF-8 are kept as surrogates."""
    return bytes(ffi.string(field)).decode("utf-8", "surrogateescape")


def put_text(field: Any, value: str) -> None:
    """Fills a char array of a zeroed struct.

    Raises:
        OSError: ENAMETOOLONG when it does not fit with its NUL.
    """
    data = value.encode("utf-8", "surrogateescape")
    if len(data) >= len(field) or b"\0" in data:
        raise OSError(errno.ENAMETOOLONG, "too long for the shim's wire", value)
    ffi.memmove(field, data, len(data))


def report(c: Any) -> Report:
    """From `struct nsr_report`."""
    return Report(step=int(c.step), op=OP_NAMES.get(int(c.code), ""), error=int(c.error), subject=text(c.subject))


def record(c: Any) -> Record:
    """From `struct nsr_record`."""
    state = State(c.state)
    return Record(
        state=state,
        id=text(c.id),
        name=text(c.name),
        attempt=int(c.attempt),
        pid=int(c.pid),
        wait_status=int(c.wait_status),
        stop_signal=int(c.stop_signal),
        started_ns=int(c.started_ns),
        finished_ns=int(c.finished_ns),
        stop_ns=int(c.stop_ns),
        log_bytes=int(c.log_bytes),
        log_error=int(c.log_error),
        flags=StartFlag(int(c.flags) & int(StartFlag.STDIN | StartFlag.STDIN_ONCE | StartFlag.TERMINAL)),
        report=report(c.report) if state is State.START_FAILED else None,
    )


def hello(c: Any) -> Hello:
    """From `struct nsr_hello`."""
    return Hello(
        wire_version=int(c.wire_version),
        pid=int(c.pid),
        running=int(c.running),
        known=int(c.known),
        sandbox_ready=bool(c.sandbox_ready),
        started_ns=int(c.started_ns),
    )


def parse_record(data: bytes) -> Record | None:
    """A record as it lies on disk; None when it is not a whole one of this version."""
    if len(data) != RECORD_SIZE:
        return None
    c = ffi.new("struct nsr_record *")
    ffi.memmove(c, data, RECORD_SIZE)
    if c.magic != lib.NSR_MAGIC or c.version != lib.NSR_WIRE_VERSION:
        return None
    try:
        return record(c)
    except ValueError:
        return None
