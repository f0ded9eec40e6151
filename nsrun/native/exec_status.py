"""The status socket of an exec, for whoever holds its other end: the command line reads it without asyncio.

The shim sends at most two packets: STARTED or FAILED, then EXITED. End of file before EXITED: the shim was killed.
"""

from __future__ import annotations

import array
import os
import socket
from typing import Literal, NamedTuple

from nsrun import native

_KINDS: dict[int, Literal["started", "failed", "exited"]] = {
    native.lib.NSR_EXEC_STARTED: "started",
    native.lib.NSR_EXEC_FAILED: "failed",
    native.lib.NSR_EXEC_EXITED: "exited",
}


class ExecStatus(NamedTuple):
    """One packet. `terminal` is the pty's master (STARTED of an exec with a terminal), owned by whoever read the packet.
    `step`, `op` (a number of enum nsr_op_code), `error` and `subject` tell of FAILED."""

    kind: Literal["started", "failed", "exited"]
    pid: int = 0
    wait_status: int = 0
    terminal: int | None = None
    step: int = 0
    op: int = 0
    error: int = 0
    subject: str = ""

    @property
    def exit_code(self) -> int:
        """0..255, 128+n for signal n. Meaningful for `exited`."""
        if os.WIFSIGNALED(self.wait_status):
            return 128 + os.WTERMSIG(self.wait_status)
        return os.WEXITSTATUS(self.wait_status)


def status_pair() -> tuple[socket.socket, socket.socket]:
    """(ours, the shim's): a SOCK_SEQPACKET pair, both close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def read_status(status: socket.socket) -> ExecStatus | None:
    """The next packet, or None at end of file.

    Raises:
        OSError: of recvmsg; BlockingIOError when the socket is non-blocking and nothing is there.
        ValueError: a packet that is no `struct nsr_exec_status`.
    """
    ffi = native.ffi
    size = ffi.sizeof("struct nsr_exec_status")
    data, control, _flags, _address = status.recvmsg(size + 1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    received = array.array("i")
    for level, kind, content in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) // 4 * 4])
    terminal = received[0] if received else None
    if not data:
        return None
    packet = ffi.new("struct nsr_exec_status *")
    if len(data) != size:
        raise ValueError(f"an exec status of {len(data)} bytes instead of {size}")
    ffi.memmove(packet, data, size)
    word = _KINDS.get(packet.kind)
    if word is None:
        raise ValueError(f"an exec status of the unknown kind {packet.kind}")
    return ExecStatus(
        kind=word,
        pid=packet.pid,
        wait_status=packet.wait_status,
        terminal=terminal,
        step=packet.report.step,
        op=packet.report.code,
        error=packet.report.error,
        subject=bytes(ffi.string(packet.report.subject)).decode("utf-8", "surrogateescape"),
    )
