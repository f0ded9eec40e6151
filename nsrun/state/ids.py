"""Which pod has which ids: files named after the first of them, holding the pod's uid (S-USERNS).

A file is made with its content under another name and then linked, so that it is there whole or not at all, and never two pods' at once.
Whoever is killed in between leaves a file whose uid no pod has, or whose name is no number, and `collect` removes that. They lie in
`run/`, gone with a reboot as all processes are; on disk nothing belongs to these ids for longer than its pod lives.

Servers of other root directories have leases of their own. What no two of them may have is claimed in a directory of the whole machine: a
link named after the first id, to the directory whose lease it stands for. It counts as long as that lease is there, and is whoever's comes
next after that, so that a root directory that was deleted keeps nothing. The lease is made before the claim and goes before it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from nsrun.errors import ConflictError, StepError
from nsrun.plan.ids import DEFAULT, IdRange, begin_at, next_free, subordinate
from nsrun.plan.inputs import IDS_PER_POD

SUBUID = Path("/etc/subuid")
SUBGID = Path("/etc/subgid")
OF_THE_MACHINE = Path("/run/nsrun-ids")
"""Which root directory has which ids."""


class IdLeases:
    """The ids of the pods of one server: its lock makes it the only writer.

    Args:
        directory: `run/ids`, made when it is needed.
        configured: the range of the configuration, if it has one; else that of /etc/subuid and /etc/subgid, else the default.
        root: the server's root directory; None for the machine's own.
        read: the text of a file, "" when it is not there.
        claims: the directory that says to the servers of other root directories which ids are taken; None: there are no others.
    """

    def __init__(
        self,
        directory: Path,
        configured: IdRange | None = None,
        root: Path | None = None,
        read: Callable[[Path], str] | None = None,
        claims: Path | None = None,
    ) -> None:
        self.directory = directory
        self._configured = configured
        self._root = os.path.realpath(root) if root is not None else ""
        self._read = read or _text
        self._claims = claims
        self._uids: dict[int, str] | None = None
        self._last: int | None = None

    def range(self) -> IdRange:
        """What pods get theirs from.

        Raises:
            SpecError: /etc/subuid and /etc/subgid are at odds.
        """
        return self._configured or subordinate(self._read(SUBUID), self._read(SUBGID)) or DEFAULT

    def all(self) -> dict[int, str]:
        """First id -> uid of the pod that has it and those behind it."""
        return dict(self._index())

    def of(self, pod_uid: str) -> int:
        """The first of a pod's ids; 0 when it has none of its own."""
        return next((first for first, uid in self._index().items() if uid == pod_uid), 0)

    def take(self, pod_uid: str) -> int:
        """The first of a pod's ids: those it has, whatever the range is by now, or new ones.

        Raises:
            ConflictError: all are taken.
            SpecError: there is no range.
            StepError: the file cannot be written.
        """
        known = self.of(pod_uid)
        if known:
            if self._claim(known):
                return known
            # Whoever made this lease was killed before it was claimed: nothing runs with these ids here.
            self._remove(known)
        ids, others = self.range(), set[int]()
        while True:
            first = next_free(ids, self._index().keys() | others, self._last, begin_at(ids, self._root))
            if first is None:
                # The words are the kubelet's.
                raise ConflictError(
                    "could not find an empty slot to allocate a user namespace: "
                    f"all {ids.pods} of {ids.source} are taken ({ids.first} to {ids.first + ids.count - 1}, {IDS_PER_POD} for each pod)",
                    details=f"{len(others)} by pods of other root directories." if others else None,
                    resolution="Take pods with hostUsers: false down, or give them more ids: [userNamespaces] in config.toml.",
                )
            self._make(first, pod_uid)
            try:
                if self._claim(first):
                    return first
            except BaseException:
                self._remove(first)
                raise
            self._remove(first)
            others.add(first)

    def release(self, pod_uid: str) -> None:
        """A pod is gone, with all of its processes: its ids may be another's."""
        first = self.of(pod_uid)
        if first:
            self._remove(first)

    def collect(self, alive: Collection[str]) -> list[int]:
        """Give back the ids of pods that are not in `alive`, and what was cut short; the first ids."""
        gone = [first for first, uid in self.all().items() if uid not in alive]
        for first in gone:
            self._remove(first)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                if not name.isdecimal():
                    (self.directory / name).unlink(missing_ok=True)
        return gone

    def _index(self) -> dict[int, str]:
        if self._uids is None:
            found = {}
            ages = {}
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(self.directory):
                    if entry.name.isdecimal():
                        found[int(entry.name)] = _text(Path(entry.path)).strip()
                        ages[entry.stat().st_mtime_ns] = int(entry.name)
            self._last = ages[max(ages)] if ages else None
            self._uids = found
        return self._uids

    def _make(self, first: int, pod_uid: str) -> None:
        path, new = self.directory / str(first), self.directory / f".{first}"
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            new.write_text(pod_uid, encoding="utf-8")
            try:
                os.link(new, path)
            finally:
                new.unlink(missing_ok=True)
        except OSError as error:
            raise StepError("write lease", str(path), error.errno or 0, what="the pod gets no ids") from error
        self._index()[first] = pod_uid
        self._last = first

    def _remove(self, first: int) -> None:
        (self.directory / str(first)).unlink(missing_ok=True)
        self._index().pop(first, None)
        if self._claims is not None:
            # A claim whose lease is gone counts for nothing: to leave it is untidy, and no more.
            with contextlib.suppress(OSError), self._turn(self._claims) as claim:
                if _target(claim / str(first)) == os.path.realpath(self.directory):
                    (claim / str(first)).unlink()

    def _claim(self, first: int) -> bool:
        """Whether these ids, of which there is a lease here, are no other root directory's; from then on they are this one's."""
        if self._claims is None:
            return True
        mine, link = os.path.realpath(self.directory), self._claims / str(first)
        try:
            self._claims.mkdir(mode=0o755, exist_ok=True)
            with self._turn(self._claims):
                owner = _target(link)
                if owner == mine:
                    return True
                if owner:
                    if os.path.lexists(os.path.join(owner, str(first))):
                        return False
                    link.unlink()
                os.symlink(mine, link)
        except OSError as error:
            raise StepError("claim", str(link), error.errno or 0, what="the pod gets no ids") from error
        return True

    @staticmethod
    @contextlib.contextmanager
    def _turn(directory: Path) -> Iterator[Path]:
        """Between the look at a claim and its change there is nobody else; who is killed lets go."""
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(handle)


def _target(link: Path) -> str:
    """Where a link leads; "" when there is none."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
