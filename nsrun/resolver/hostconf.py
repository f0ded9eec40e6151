"""The machine's own resolvers, from its resolv.conf(5); looked at again when the file is another one."""

from __future__ import annotations

import os
from collections.abc import Callable

LOOK_S = 0.5
MOST = 8
NO_FILE = ["127.0.0.1"]
"""Who is asked when nobody is named."""


class HostServers:
    """Who is asked for what is not known here.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._path = ""
        self._own: tuple[str, ...] = ()
        self._looked_at = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._servers: list[str] = NO_FILE

    def use(self, path: str, own: tuple[str, ...]) -> None:
        """Read this file.

        Args:
            path: of it.
            own: addresses of this resolver, which cannot ask itself.
        """
        if (path, own) != (self._path, self._own):
            self._path, self._own = path, own
            self._looked_at, self._seen = float("-inf"), None

    def __call__(self) -> list[str]:
        """Their addresses."""
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()
        return self._servers

    def _look(self) -> None:
        try:
            facts = os.stat(self._path)
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if seen == self._seen:
                return
            with open(self._path, encoding="utf-8", errors="replace") as file:
                text = file.read(1 << 20)
        except OSError:
            self._seen, self._servers = None, NO_FILE
            return
        self._seen = seen
        self._servers = servers_in(text, self._own)


def servers_in(text: str, own: tuple[str, ...]) -> list[str]:
    """The addresses on a resolv.conf's lines `nameserver`, but for the resolver's own; loopback's when none is named."""
    lines = (line.split() for line in text.splitlines())
    named = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return [one for one in dict.fromkeys(named) if one not in own][:MOST] if named else NO_FILE
