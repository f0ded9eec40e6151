"""What runs the host's commands inside of the virtual machine; PID 1 where there is no systemd. Standard library only, Debian's Python.

A frame, both ways, is a 4-byte big-endian length and that much JSON. A command: `{"argv", "stdin", "cwd", "environment", "timeout_s"}`,
one at a time. The answer: any number of `{"output": text}` (standard output and error as they come), then `{"code": n}`; the first thing
said at all is `{"ready": release of the kernel}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

PORT = "nsrun"
SPOOL = "/run/nsrun-vm-stdin"
TIMEOUT_CODE = 124


def port() -> int:
    """The virtio port of our name; udev, which would link it in /dev/virtio-ports, may not be there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for directory in Path("/sys/class/virtio-ports").glob("*"):
            with contextlib.suppress(OSError):
                if (directory / "name").read_text(encoding="ascii").strip() == PORT:
                    return os.open(f"/dev/{directory.name}", os.O_RDWR | os.O_CLOEXEC)
        time.sleep(0.05)
    sys.exit("agent: there is no such port")


class Channel:
    """Frames over the port."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        data = struct.pack("!I", len(data)) + data
        while data:
            data = data[os.write(self._fd, data) :]

    def receive(self) -> dict[str, Any]:
        size = struct.unpack("!I", self._exactly(4))[0]
        message: dict[str, Any] = json.loads(self._exactly(size))
        return message

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = os.read(self._fd, count - len(data))
            if not piece:
                # Nobody has the other end (yet).
                time.sleep(0.05)
            data += piece
        return data


def run(channel: Channel, request: dict[str, Any]) -> int:
    """Run a command to its end, passing on what it says; its exit status as a shell would give it."""
    with open(SPOOL, "w", encoding="utf-8") as spool:
        spool.write(request["stdin"])
    read_end, write_end = os.pipe()
    os.chdir(request["cwd"])
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, SPOOL, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, write_end, 1),
        (os.POSIX_SPAWN_DUP2, write_end, 2),
    ]
    try:
        pid = os.posix_spawnp(
            request["argv"][0],
            request["argv"],
            {**os.environ, **request["environment"]},
            file_actions=actions,
            setsigdef=[signal.SIGINT, signal.SIGPIPE],
            setpgroup=0,
        )
    except OSError as error:
        channel.send({"output": f"{request['argv'][0]}: {error.strerror}\n"})
        os.close(read_end)
        return 127
    finally:
        os.close(write_end)
    deadline = time.monotonic() + request["timeout_s"]
    code: int | None = None
    try:
        while True:
            # What outlives the command may keep the pipe: its own end counts, not that of the file.
            if select.select([read_end], [], [], 0.05 if code is None else 0)[0]:
                piece = os.read(read_end, 65536)
                if piece:
                    channel.send({"output": piece.decode("utf-8", "replace")})
                    continue
                if code is None:
                    time.sleep(0.02)
            if code is not None:
                return code
            code = reap(pid)
            if code is None and time.monotonic() > deadline:
                channel.send({"output": f"agent: still running after {request['timeout_s']:.0f} s\n"})
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return TIMEOUT_CODE
    finally:
        os.close(read_end)


def reap(wanted: int) -> int | None:
    """Take the status of whoever has ended, orphans included; the wanted one's, or None."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == wanted:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == 0:
            return None


def main() -> None:
    """For ever."""
    channel = Channel(port())
    channel.send({"ready": os.uname().release})
    while True:
        channel.send({"code": run(channel, channel.receive())})


if __name__ == "__main__":
    main()
