"""`python -m nsrun.images.crew`: brings layers beside the process that pulls their image: one interpreter unpacks with one core.

It holds nothing but the locks and files of `nsrun.images.content`, so it may be killed at any moment: who pulls brings its layer then.

    standard input   lines of JSON: first what the pull is about, then {blob, diff_id}, each when the one before was answered; at its end
                     nothing more is wanted, or whoever asked is gone, and this ends at once
    standard output  lines of JSON: {"event": …} any number of times, then {"layer": …} or {"error": …}
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from nsrun.errors import InternalError, NsrunError
from nsrun.images.documents import Descriptor
from nsrun.images.layers import Layer

Event = Callable[[dict[str, Any]], None]


class MemberLostError(Exception):
    """It ended in the middle: somebody killed it, or memory ran out."""


class Member:
    """One such process.

    Args:
        about: what the pull is about: see `nsrun.images.pulling.RegistryPuller.about`.
        on_event: told what it tells of its layers.
    """

    def __init__(self, about: dict[str, Any], on_event: Event) -> None:
        self._on_event = on_event
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nsrun.images.crew"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        self._about: dict[str, Any] | None = about

    def take(self, blob: Descriptor, diff_id: str) -> Layer:
        """Have it bring a layer.

        Raises:
            NsrunError: what went wrong there.
            MemberLostError: it is not there any more.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        lines = [{"blob": asdict(blob), "diff_id": diff_id}]
        if self._about is not None:
            lines.insert(0, self._about)
            self._about = None
        try:
            self._process.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
            self._process.stdin.flush()
            while answer := self._process.stdout.readline():
                message = json.loads(answer)
                if "event" in message:
                    self._on_event(message["event"])
                elif "error" in message:
                    raise NsrunError.from_data(message["error"])
                else:
                    made = message["layer"]
                    return Layer(Descriptor(**made["blob"]), made["diff_id"], made["name"])
        except (OSError, ValueError) as error:
            raise MemberLostError from error
        raise MemberLostError

    def kill(self) -> None:
        """Ends it at once; `take` that waits for it ends."""
        self._process.kill()

    def close(self) -> None:
        """Ends it and takes what is left of it away."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            # What was not taken any more cannot be written at the end either.
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        self._process.wait()


def main() -> None:
    """As said above."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        while line := sys.stdin.readline():
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    # While the first line is on its way.
    from nsrun.images.pulling import taker

    take = taker(json.loads(lines.get()), lambda event: _say({"event": event}))
    while True:
        job = json.loads(lines.get())
        try:
            layer = take(Descriptor(**job["blob"]), job["diff_id"])
        except NsrunError as error:
            _say({"error": error.as_data()})
        except Exception as error:  # a bug: whoever asked tells of it
            _say({"error": InternalError(f"{type(error).__name__}: {error}").as_data()})
        else:
            _say({"layer": asdict(layer)})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
