"""SIGKILL to the server at random moments, while containers tell what happens to them.

A moment is a random time, or a few milliseconds after the journal heard something: then the server is busy with it. After a
kill nobody is there for a random while; then another server comes, as the next command would start one.

`NSRUN_SEED` repeats the moments of a run (a failing test shows its seed); `NSRUN_SOAK=1` makes more rounds.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator

from tests.chance import SEED
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server

ROUNDS = range(20 if os.environ.get("NSRUN_SOAK") else 2)


class Assassin:
    """Kills the server that runs, whichever that is.

    Args:
        server: its harness.
        journal: what containers say.
        number: of the round; with the seed it gives the moments.
    """

    def __init__(self, server: Server, journal: Journal, number: int) -> None:
        self.server = server
        self.journal = journal
        self.random = random.Random(SEED * 1000 + number)
        self.moments = [f"NSRUN_SEED={SEED}, round {number}"]
        self.kills = 0

    @contextlib.contextmanager
    def at_work(self, window_s: float, *words: str, most: int = 4) -> Iterator[None]:
        """Kill up to `most` servers while the body runs, at least one: within `window_s`, or when something was said.

        A word that is said again and again is heard again, too.
        """
        plan: list[tuple[str, float]] = []
        for _ in range(self.random.randint(1, most)):
            if words and self.random.random() < 0.6:
                plan.append((self.random.choice(words), self.random.uniform(0, 0.04)))
            else:
                plan.append(("", self.random.uniform(0, window_s)))
        over = threading.Event()
        thread = threading.Thread(target=self._work, args=(plan, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)
        assert not thread.is_alive()
        assert self.kills, "nobody died"

    def _work(self, plan: list[tuple[str, float]], over: threading.Event) -> None:
        heard = len(self.journal.lines)
        for word, delay_s in plan:
            while word and not over.is_set():
                texts = self.journal.texts[heard:]
                if word in texts:
                    heard += texts.index(word) + 1
                    break
                time.sleep(0.002)
            end = time.monotonic() + delay_s
            while time.monotonic() < end and not over.is_set():
                time.sleep(min(0.002, max(end - time.monotonic(), 0)))
            self.kill(f"after {word!r} and {delay_s * 1000:.1f} ms" + (" (body over)" if over.is_set() else ""))

    def kill(self, why: str) -> None:
        """Kill it now; another one comes after a while."""
        if self.server.kill():
            self.kills += 1
            self.moments.append(f"{time.time():.6f} {why}")
        time.sleep(self.random.choice([0.0, 0.0, 0.05, 0.3]))
        self.server.call("server.ping")
