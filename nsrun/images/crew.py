"""`python -m nsrun.images.crew`: brings layers beside the process that pulls their image: one interpreter unpacks with one core.

It holds nothing but the locks and files of `nsrun.images.content`, so it may be killed at any moment: who pulls brings its layer then.

    standard input   a line of JSON, what the pull is about; at its end, when nobody wants anything any more, this ends at once
    arguments        descriptors of sockets, a lane each, with lines of JSON: {blob, diff_id} comes, any number of {"event": …} go, and
                     then {"layer": …} or {"error": …}. While one lane waits for the disk, another goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nsrun.errors import InternalError, NsrunError

if TYPE_CHECKING:
    # Not read in before the processes have begun, which do so meanwhile.
    from nsrun.images.documents import Descriptor
    from nsrun.images.layers import Layer

WAITING = 4
"""So many layers of each process may be on their way to the disk, beside those that come."""
Event = Callable[[dict[str, Any]], None]


class MemberLostError(Exception):
    """It ended in the middle: somebody killed it, or memory ran out."""


class Member:
    """One such process. It takes a tenth of a second to begin, so it may be made before it is known what it is for: see `begin`.

    Args:
        lanes: how many layers it may have begun.
    """

    def __init__(self, lanes: int = 1) -> None:
        pairs = [socket.socketpair() for _ in range(lanes)]
        theirs = [pair[1].fileno() for pair in pairs]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nsrun.images.crew", *map(str, theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd="/",
                pass_fds=theirs,
            )
        except BaseException:
            for pair in pairs:
                pair[0].close()
            raise
        finally:
            for pair in pairs:
                pair[1].close()
        self.lanes = tuple(Lane(pair[0]) for pair in pairs)

    def begin(self, about: dict[str, Any], on_event: Event) -> None:
        """Tell it what the pull is about, once.

        Args:
            about: see `nsrun.images.pulling.RegistryPuller.about`.
            on_event: told what it tells of its layers.
        """
        for lane in self.lanes:
            lane.on_event = on_event
        assert self._process.stdin is not None
        # One that is dead already is told of by its lanes.
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(about).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """Ends it at once; lanes that wait for it end."""
        self._process.kill()

    def close(self) -> None:
        """Ends it and takes what is left of it away."""
        self._process.kill()
        for lane in self.lanes:
            lane.close()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def member() -> Member:
    """One that brings a layer after another."""
    return Member(1 + WAITING)


class Lane:
    """A layer after another, brought by a member."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._answers = sock.makefile("r", encoding="utf-8")
        self.on_event: Event = lambda _event: None

    def take(self, blob: Descriptor, diff_id: str) -> Layer:
        """Have it bring a layer.

        Raises:
            NsrunError: what went wrong there.
            MemberLostError: it is not there any more.
        """
        from dataclasses import asdict

        from nsrun.images.documents import Descriptor
        from nsrun.images.layers import Layer

        try:
            _say(self._sock, {"blob": asdict(blob), "diff_id": diff_id})
            while answer := self._answers.readline():
                message = json.loads(answer)
                if "event" in message:
                    self.on_event(message["event"])
                elif "error" in message:
                    raise NsrunError.from_data(message["error"])
                else:
                    made = message["layer"]
                    return Layer(Descriptor(**made["blob"]), made["diff_id"], made["name"])
        except (OSError, ValueError) as error:
            raise MemberLostError from error
        raise MemberLostError

    def close(self) -> None:
        """Give the socket back."""
        self._answers.close()
        self._sock.close()


def main() -> None:
    """As said above."""
    lanes = [socket.socket(fileno=int(word)) for word in sys.argv[1:]]
    # While the line is on its way.
    from nsrun.images.pulling import takers

    if line := sys.stdin.readline():
        events = [lambda event, lane=lane: _say(lane, {"event": event}) for lane in lanes]
        for lane, take in zip(lanes, takers(json.loads(line), events, threading.Semaphore()), strict=True):
            threading.Thread(target=_serve, args=(lane, take), daemon=True).start()
        sys.stdin.read()
    # Not sys.exit: nobody waits for what is under way.
    os._exit(0)


def _serve(lane: socket.socket, take: Callable[[Descriptor, str], Layer]) -> None:
    from dataclasses import asdict

    from nsrun.images.documents import Descriptor

    with lane.makefile("r", encoding="utf-8") as jobs:
        for line in jobs:
            job = json.loads(line)
            try:
                layer = take(Descriptor(**job["blob"]), job["diff_id"])
            except NsrunError as error:
                _say(lane, {"error": error.as_data()})
            except Exception as error:  # a bug: whoever asked tells of it
                _say(lane, {"error": InternalError(f"{type(error).__name__}: {error}").as_data()})
            else:
                _say(lane, {"layer": asdict(layer)})


def _say(lane: socket.socket, message: dict[str, Any]) -> None:
    lane.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
