"""What the API keeps on disk: its authority, its certificate, and tokens. Each file is written whole or not at all; a missing one is made.

`lib/api` of the root for root, a directory of their own for others (a root directory that is not theirs is not theirs to write to).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from typing import NamedTuple

from nsrun.api.roles import FULL, READ_ONLY, ROLES
from nsrun.client.roots import Root
from nsrun.errors import NotFoundError, StepError, UsageError

NAMES = {FULL: "admin", READ_ONLY: "viewer"}
"""The callers that there are without anybody's doing, by role."""


class Place(NamedTuple):
    """The directory and its files.

    Attributes:
        directory: 0700.
    """

    directory: str

    @property
    def authority(self) -> str:
        """The certificate that clients trust."""
        return f"{self.directory}/ca.crt"

    @property
    def authority_key(self) -> str:
        """The key that signs certificates."""
        return f"{self.directory}/ca.key"

    @property
    def certificate(self) -> str:
        """The server's certificate."""
        return f"{self.directory}/server.crt"

    @property
    def key(self) -> str:
        """The server's key."""
        return f"{self.directory}/server.key"

    @property
    def tokens(self) -> str:
        """A line `TOKEN NAME ROLE` for each caller."""
        return f"{self.directory}/tokens"


def place_of(root: Root) -> Place:
    """Where the API of a root keeps its files for this user."""
    if os.geteuid() == 0:
        return Place(f"{root.lib}/api")
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    which = "machine" if root.given is None else hashlib.sha256(root.given.encode()).hexdigest()[:12]
    return Place(f"{state}/nsrun/api-{which}")


@contextlib.contextmanager
def opened(place: Place) -> Iterator[None]:
    """Have the directory, for this process alone: two that make files at the same time would not fit one another.

    Raises:
        StepError: it cannot be made or locked.
    """
    try:
        make_private(place.directory)
        fd = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed("make directory", place.directory, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def make_private(directory: str) -> None:
    """Make a directory, and those above it that are missing, for this user alone: the server wants its own like that."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_private(os.path.dirname(directory))
        os.mkdir(directory, 0o700)


def read(path: str) -> bytes | None:
    """A file, or None when it is not there.

    Raises:
        StepError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed("read", path, error) from error


def write(path: str, data: bytes) -> None:
    """Replace a file, readable by its owner alone.

    Raises:
        StepError: it cannot be written; what was there is there still.
    """
    fresh = f"{path}.new"
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise _failed("write", path, error) from error


def have_tokens(place: Place) -> None:
    """Make sure that there is a token for each role. The directory is locked by the caller."""
    text = (read(place.tokens) or b"").decode(errors="replace")
    roles = {line.split()[2] for line in text.splitlines() if len(line.split()) == 3 and not line.startswith("#")}
    missing = [role for role in ROLES if role not in roles]
    if missing:
        if text and not text.endswith("\n"):
            text += "\n"
        text += "".join(f"{secrets.token_urlsafe(32)} {NAMES[role]} {role}\n" for role in missing)
        write(place.tokens, text.encode())


def token_of(place: Place, role: str) -> str:
    """The first token of a role.

    Raises:
        UsageError: there is no such role.
        NotFoundError: nobody made tokens yet.
    """
    if role not in NAMES:
        raise UsageError(f"there is no role {role!r}", resolution=f"Roles: {', '.join(NAMES)}")
    for line in (read(place.tokens) or b"").decode(errors="replace").splitlines():
        words = line.split()
        if len(words) == 3 and not line.startswith("#") and words[2] == role:
            return words[0]
    raise NotFoundError(f"{place.tokens} has no token of the role {role!r}")


def _failed(step: str, path: str, error: OSError) -> StepError:
    return StepError(step, path, error.errno or 0, what="the API's certificates and tokens are not usable")
