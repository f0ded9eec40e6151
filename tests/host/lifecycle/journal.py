"""What containers tell about their own lives, in the order in which it happened, whatever becomes of pods and servers.

`testbox life` and `testbox tell` send a datagram with the time and a few words to the pod's gateway: here is who reads them. The
journal outlives sandboxes, and nobody but the containers writes it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.host.server.harness import box


@dataclass(frozen=True)
class Line:
    """`at` in seconds since the epoch by the container's own clock; `text` like "web start"."""

    at: float
    text: str

    @property
    def who(self) -> str:
        """The name that the teller goes by."""
        return self.text.split(" ", 1)[0]


class Journal:
    """Listens until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.settimeout(0.2)
        self.port: int = self._socket.getsockname()[1]
        self._lines: list[Line] = []
        self._arrived = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over = True
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while not self._over:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            at, _, text = data.decode().partition(" ")
            with self._arrived:
                self._lines.append(Line(float(at), text))
                self._lines.sort(key=lambda line: line.at)
                self._arrived.notify_all()

    # what was said

    @property
    def lines(self) -> list[Line]:
        """Everything so far, by the tellers' clock."""
        with self._arrived:
            return list(self._lines)

    @property
    def texts(self) -> list[str]:
        """The words without the times."""
        return [line.text for line in self.lines]

    def of(self, who: str) -> list[str]:
        """What one teller said, without its name."""
        return [line.text.split(" ", 1)[1] for line in self.lines if line.who == who]

    def times(self, text: str) -> list[float]:
        """When that was said."""
        return [line.at for line in self.lines if line.text == text]

    def time(self, text: str) -> float:
        """When that was said, once."""
        (at,) = self.times(text)
        return at

    def count(self, text: str) -> int:
        """How often that was said."""
        return len(self.times(text))

    def until(self, text: str, count: int = 1, timeout_s: float = 20.0) -> None:
        """Return once that was said so often."""
        self.until_true(lambda: self.count(text) >= count, timeout_s, f"{count} × {text!r}")

    def until_true(self, condition: Callable[[], object], timeout_s: float = 20.0, what: str = "") -> None:
        """Return once the condition, which looks at this journal, is true."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            with self._arrived:
                self._arrived.wait(0.05)
            assert time.monotonic() < deadline, f"not heard in {timeout_s:g} s: {what}; heard: {self.texts}"

    def before(self, *texts: str) -> None:
        """All of that is said, at the latest soon, in this order; of something said several times, the first counts."""
        self.until_true(lambda: set(texts) <= set(self.texts), 10, f"all of {texts}")
        heard = self.texts
        assert sorted(set(texts), key=heard.index) == list(texts), heard

    # who says it

    def life(self, name: str, *words: str, container: dict[str, Any] | None = None, **keys: object) -> dict[str, Any]:
        """A container of the test image that runs `testbox life`; `keys` are its words, `container` more fields."""
        told = [f"{key}={value}" for key, value in keys.items()]
        return box(name, "life", str(self.port), name, *words, *told, **(container or {}))

    def told(self, text: str, *after: str) -> dict[str, Any]:
        """An exec action (of a hook or probe) that says `text` and then runs other words of the test image."""
        words = ["/bin/then", "tell", str(self.port), text, *((";", *after) if after else ())]
        return {"exec": {"command": words}}
