"""What holds for one command whatever it is: the root, how errors are printed, the session."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from nsrun.client.library import Client
    from nsrun.client.session import Session


class Settings:
    """Filled by the global options.

    Attributes:
        root: of --root, or None.
        output: of --output, or None: json makes errors data.
    """

    def __init__(self) -> None:
        self.root: str | None = None
        self.output: str | None = None
        self._session: Session | None = None
        self._client: Client | None = None

    def session(self, *, may_start: bool = True) -> Session:
        """The command's session with the server; made once."""
        if self._session is None:
            from nsrun.client import roots
            from nsrun.client.session import Session

            self._session = Session(roots.find(self.root), may_start=may_start)
        return self._session

    def client(self, *, may_start: bool = True) -> Client:
        """The library's face on the same root; made once."""
        if self._client is None:
            from nsrun.client.library import Client

            self._client = Client(self.root, start=may_start)
        return self._client


def coloured(stream: TextIO) -> bool:
    """Whether colours may go there: a terminal that is not dumb, and NO_COLOR is not set (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


def paint(text: str, colour: str | None, stream: TextIO | None = None) -> str:
    """`text` in a colour where the stream shows colours."""
    if colour is None or not coloured(stream or sys.stdout):
        return text
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m"


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line on standard error: what is not the command's result. What was said before comes out before it."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
