"""Servers that only take a root directory away, without the price of starting Python for each: a process with the server's modules in it
forks one for every request. Not for servers that a test looks at: those are started as users start them.

`python -m tests.host.server.wiper` reads requests from standard input, a socket: `{"root", "environment"}` in a datagram, with two
descriptors, the lifeline and a file for what the server says. The answer is its exit status.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nsrun.server.process
import nsrun.server.service
from nsrun.server.__main__ import main as server_main
from tests.host.testhost import REPOSITORY


class Wiper:
    """The process, started at once.

    Args:
        environment: its own; this process's when left out.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.host.server.wiper"],
                stdin=theirs.fileno(),
                cwd=REPOSITORY,
                env=environment,
            )

    def wipe(self, root: Path, environment: Mapping[str, str], output: int, timeout_s: float = 60) -> int:
        """Everything of a root away, by a server whose owner is gone already; its exit status.

        Args:
            output: descriptor for what it says.
        """
        read, write = os.pipe()
        os.close(write)
        try:
            data = json.dumps({"root": str(root), "environment": dict(environment)}).encode()
            rights = array.array("i", [read, output])
            self._line.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        finally:
            os.close(read)
        self._line.settimeout(timeout_s)
        return int(self._line.recv(100))

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self.process.wait(timeout=20)


def serve(line: socket.socket) -> None:
    """A server for each request, one after the other, until the other side is gone."""
    while True:
        data, fds, _, _ = socket.recv_fds(line, 1 << 20, 2)
        if not data:
            return
        request = json.loads(data)
        child = os.fork()
        if child == 0:
            os._exit(wipe(request, line, *fds))
        for fd in fds:
            os.close(fd)
        line.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def wipe(request: dict[str, Any], line: socket.socket, lifeline: int, output: int) -> int:
    """In the child: be a server."""
    try:
        signal.set_wakeup_fd(-1)
        line.close()
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        return server_main(["--root", request["root"], "--lifeline", str(lifeline), "--temporary"])
    except BaseException:
        # Whatever it is: it must not reach the parent's frames.
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    assert nsrun.server.process
    assert nsrun.server.service
    serve(socket.socket(fileno=os.dup(0)))
