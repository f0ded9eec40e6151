"""A peer on a control socket that does what no good server does: greets wrongly, hangs up, answers garbage.

A test double for the transport only; what commands do is proved against the real server.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nsrun._version import __version__

Behaviour = Callable[["Peer"], None]
GREETING = {"nsrun": __version__, "protocol": 1, "pid": os.getpid()}


class Peer:
    """One accepted connection, as seen by the peer."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number

    def send(self, message: Any) -> None:
        body = json.dumps(message).encode()
        self.sock.sendall(len(body).to_bytes(4, "big") + body)

    def request(self) -> dict[str, Any]:
        """The next request; descriptors that come with it are closed."""
        header, fds, _flags, _address = socket.recv_fds(self.sock, 4, 16)
        for fd in fds:
            os.close(fd)
        if not header:
            raise ConnectionError("the client has gone")
        length = int.from_bytes(header, "big")
        body = b""
        while len(body) < length:
            body += self.sock.recv(length - len(body))
        found: dict[str, Any] = json.loads(body)
        return found


@contextlib.contextmanager
def listening(root: Path, behaviour: Behaviour) -> Iterator[list[Peer]]:
    """A peer on the control socket of `root`; `behaviour` is run for each connection, which ends with it."""
    run = root / "run"
    run.mkdir(parents=True, exist_ok=True)
    path = run / "nsrun.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    peers: list[Peer] = []

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            peer = Peer(sock, len(peers))
            peers.append(peer)
            with contextlib.suppress(ConnectionError, BrokenPipeError), sock:
                behaviour(peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield peers
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        path.unlink(missing_ok=True)
