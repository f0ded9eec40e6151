"""What lies on disk below `lib/images`: an OCI image layout, the layers unpacked, and what is being made.

    oci-layout, index.json        an OCI image layout; each entry of the index is a name of an image, or an image without one
    blobs/sha256/<64 digits>      manifests, configs and layers as they came
    layers/<id>/fs, layer.json    a layer unpacked, ready for overlayfs: id is its diff id, or its chain id where it depends on those below
    partial/<64 digits>           a blob that is coming; who writes it holds a flock on it. What is there is gone on from
    host                          the id of the built-in image's newest skeleton
    adding                        an empty file; whoever adds something holds a shared flock on it, who collects garbage an exclusive one
    .new-…/                       being made or removed; its maker holds a flock on it. Free = the maker is dead, and it is removed

All changes are renames, and the last of them is that of index.json: whoever is killed in the middle, and a power cut, leave an image
whole or not at all. What was there before its index entry is garbage, which the next collection removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsrun import native
from nsrun.errors import NsrunError, StepError
from nsrun.images.trees import remove_tree

NEW = ".new-"
PARTIAL_KEPT_S = 3600.0
"""How long the beginning of a blob is kept for somebody to go on with."""
_AHEAD_S = 0.15
"""How often what is being added is flushed before anybody waits for it: less than that is not worth a flush."""
MAX_DOCUMENT = 4 << 20
"""Bytes of a manifest, an index or a config (registries refuse larger ones)."""
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"

_LAYERS, _ORIGIN, _SOURCE, _ADDED, _ACCESS = (
    f"org.nsrun.{name}" for name in ("layers", "origin", "source", "added", "access")
)


class DamagedError(NsrunError):
    """A document of the store that is not there, or not what its digest says."""

    code = "not-found"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the index: an image and one of its names.

    Attributes:
        name: normalised; "" for an image that has lost its name.
        digest, size, media_type: of the manifest.
        layers: ids of the unpacked layers, topmost first.
        origin: `pull`, `load` or `import`.
        source: `domain/path@digest` that it was pulled by, or "".
        added: seconds since the epoch.
        access: who may use it: see nsrun.images.keyring.
    """

    name: str
    digest: str
    size: int
    media_type: str
    layers: tuple[str, ...]
    origin: str
    source: str
    added: float
    access: tuple[str, ...] = ()

    def as_descriptor(self) -> dict[str, Any]:
        """As it stands in index.json."""
        annotations = {REF_NAME: self.name} if self.name else {}
        annotations |= {_LAYERS: ",".join(self.layers), _ORIGIN: self.origin, _ADDED: f"{self.added:.3f}"}
        if self.source:
            annotations[_SOURCE] = self.source
        if self.access:
            annotations[_ACCESS] = ",".join(self.access)
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, "annotations": annotations}

    @staticmethod
    def of(descriptor: dict[str, Any]) -> Record | None:
        """The entry, or None for one that somebody else put there."""
        try:
            notes = descriptor["annotations"]
            return Record(
                name=notes.get(REF_NAME, ""),
                digest=check_digest(descriptor["digest"]),
                size=int(descriptor["size"]),
                media_type=descriptor["mediaType"],
                layers=tuple(_id(one) for one in notes[_LAYERS].split(",") if one),
                origin=notes[_ORIGIN],
                source=notes.get(_SOURCE, ""),
                added=float(notes[_ADDED]),
                access=tuple(one for one in notes.get(_ACCESS, "").split(",") if one),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def check_digest(text: object) -> str:
    """`sha256:` and 64 digits, as they came.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(text, str) and text.startswith("sha256:") and len(text) == 71:
        digits = text[7:]
        if digits.isascii() and digits == digits.lower() and all(one in "0123456789abcdef" for one in digits):
            return text
    raise ValueError(f"{text!r} is no sha256 digest")


def digest_of(data: bytes) -> str:
    """`sha256:` and 64 digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _id(text: str) -> str:
    """A layer's id, which is the name of a directory."""
    if not text or "/" in text or text.startswith("."):
        raise ValueError(text)
    return text


class Content:
    """The directory. Every call blocks; safe to call from several threads and processes.

    Args:
        directory: `lib/images`; made by the first who adds something.
        durable: flush to the disk what a name is to be given to.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self.directory = directory
        self.durable = durable
        self._sync = _Sync(directory)

    # --- locks and directories of one's own --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes what is missing of the layout.

        Raises:
            OSError: it cannot be made.
        """
        if (self.directory / "oci-layout").exists():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("blobs", "blobs/sha256", "layers", "partial"):
            (self.directory / name).mkdir(mode=0o700, exist_ok=True)
        with self.guard():
            if not (self.directory / "index.json").exists():
                self._write_index([])
            self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Alone with the index and the names in the directory, among threads and processes. For moments only."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """While something is added that the index does not name yet: garbage is not collected meanwhile."""
        try:
            self.prepare()
            fd = os.open(self.directory / "adding", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StepError("make an image in", str(self.directory), error.errno or 0) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            with self._sync.ahead() if self.durable else contextlib.nullcontext():
                yield
        except OSError as error:
            raise StepError("make an image in", error.filename or str(self.directory), error.errno or 0) from error
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _collecting(self) -> Iterator[bool]:
        """Whether nobody adds anything, and nobody will until this ends."""
        fd = os.open(self.directory / "adding", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)

    def reserve(self) -> tuple[Path, int]:
        """A new empty directory and the descriptor that holds its lock. Under the guard: until it is locked it looks abandoned."""
        directory = Path(tempfile.mkdtemp(dir=self.directory, prefix=NEW))
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return directory, lock

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """A directory to make something in; what is still there at the end is removed."""
        with self.guard():
            directory, lock = self.reserve()
        try:
            yield directory
        finally:
            discard((directory, lock))

    def sweep(self) -> None:
        """Removes what was being made by somebody who was killed.

        Raises:
            OSError: something cannot be removed.
        """
        doomed: list[tuple[Path, int]] = []
        try:
            with self.guard():
                doomed.extend(
                    (self.directory / entry, lock)
                    for entry in os.listdir(self.directory)
                    if entry.startswith(NEW) and (lock := _lock_if_free(self.directory / entry)) is not None
                )
        except FileNotFoundError:
            return
        finally:
            for one in doomed:
                discard(one)

    # --- files -------------------------------------------------------------------------------------------------------------

    def _write(self, name: str, data: bytes) -> None:
        """Replaces a file of the directory itself; under the guard, so one temporary name is enough."""
        path = self.directory / name
        temporary = self.directory / f"{NEW}{name}"
        # A directory of this name would be somebody else's.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                if self.durable:
                    os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._sync_directory(self.directory)

    def _sync_directory(self, directory: Path) -> None:
        if self.durable:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def write_mark(self, name: str, text: str) -> None:
        """Replaces a file of one line."""
        with self.guard():
            self._write(name, f"{text}\n".encode())

    def read_mark(self, name: str) -> str:
        """The line of a file, or "" where there is none."""
        try:
            return (self.directory / name).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    # --- blobs -------------------------------------------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self.directory / "blobs/sha256" / digest.removeprefix("sha256:")

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether it is here. Its digest was checked when it came."""
        try:
            return self.blob(digest).stat().st_size == size
        except OSError:
            return False

    def document(self, digest: str) -> bytes:
        """A manifest, an index or a config, checked.

        Raises:
            DamagedError: it is not here, or not what it was.
        """
        path = self.blob(digest)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_DOCUMENT + 1)
        except OSError as error:
            raise DamagedError(f"read {path}: {error.strerror}") from error
        if digest_of(data) != digest:
            raise DamagedError(f"{path} is damaged: its contents are not what its name says")
        return data

    def add_document(self, data: bytes) -> str:
        """Keeps a small blob; gives its digest."""
        digest = digest_of(data)
        try:
            self.document(digest)
        except DamagedError:
            with self.fresh() as temporary:
                file = temporary / "blob"
                file.write_bytes(data)
                self.place_blob(file, digest)
        return digest

    def place_blob(self, file: Path, digest: str, *, synced: bool = False) -> None:
        """Gives a finished file its name among the blobs: on the disk before it has it, so that what has a name is whole.

        Args:
            synced: `sync` was called since it was finished.
        """
        if self.durable and not synced:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        path = self.blob(digest)
        os.chmod(file, 0o600)
        os.rename(file, path)

    @contextlib.contextmanager
    def partial(self, digest: str) -> Iterator[Path]:
        """The file of a blob that is to come, held for oneself: whoever wants the same one waits.

        It may have the beginning of the blob already. It may be renamed away, or else stays for the next one.
        """
        path = self.directory / "partial" / digest.removeprefix("sha256:")
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Who had it before may have renamed or removed it: then this is the lock of nothing.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.stat(path)):
                        yield path
                        return
            finally:
                os.close(fd)

    def sync(self) -> None:
        """Everything that was written before this is on the disk after it; several threads share the work."""
        if self.durable:
            self._sync.run()

    # --- layers ------------------------------------------------------------------------------------------------------------

    def layer(self, name: str) -> Path:
        """The directory that overlayfs is to take for a layer."""
        return self.directory / "layers" / name / "fs"

    def has_layer(self, name: str) -> bool:
        """Whether it is here: what has its name is whole, unless somebody damaged it."""
        try:
            self.layer_facts(name)
        except DamagedError:
            return False
        return self.layer(name).is_dir()

    def layer_facts(self, name: str) -> dict[str, Any]:
        """What was noted when it was unpacked: size (bytes of its files), entries, implicit (directories), opaque.

        Raises:
            DamagedError: it is not here.
        """
        path = self.directory / "layers" / name / "layer.json"
        try:
            facts = json.loads(path.read_bytes())
            return {"size": int(facts["size"]), "implicit": list(facts["implicit"]), "opaque": bool(facts["opaque"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"read {path}: {error}") from error

    def place_layer(self, temporary: Path, name: str, facts: dict[str, Any]) -> None:
        """Gives a finished directory (with `fs` in it) its name; one that is there already stays."""
        (temporary / "layer.json").write_text(json.dumps(facts) + "\n", encoding="ascii")
        self.sync()
        target = self.directory / "layers" / name
        doomed = None
        with self.guard():
            if not self.has_layer(name):
                if target.exists():
                    doomed = self._set_aside(target)
                os.rename(temporary, target)
        if doomed is not None:
            discard(doomed)

    def _set_aside(self, path: Path) -> tuple[Path, int]:
        """Under the guard. Renamed first, removed later: half of something must never have the name of all of it."""
        directory, lock = self.reserve()
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, directory / "doomed")
        return directory, lock

    # --- index -------------------------------------------------------------------------------------------------------------

    def signature(self) -> object:
        """Changes whenever `records` may give something else, or a layer was taken away."""
        result = []
        for name in ("index.json", "layers"):
            try:
                facts = os.stat(f"{self.directory}/{name}")
                result.append((facts.st_ino, facts.st_mtime_ns, facts.st_size))
            except FileNotFoundError:
                result.append((0, 0, 0))
        return tuple(result)

    def records(self) -> list[Record]:
        """The images and their names.

        Raises:
            StepError: the index cannot be read.
            DamagedError: it is no index.
        """
        path = self.directory / "index.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StepError("read", str(path), error.errno or 0) from error
        try:
            entries = json.loads(data)["manifests"]
            return [record for entry in entries if (record := Record.of(entry)) is not None]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"the index of images {path} is damaged: {error}",
                resolution="Move it away: the images have to be pulled again, their layers are still there.",
                code="internal",
            ) from error

    def change(self, how: Callable[[list[Record]], Sequence[Record]]) -> None:
        """Replaces the index by what `how` makes of it, alone and at once."""
        with self.guard():
            before = self.records()
            after = list(how(before))
            if after != before:
                # What is in blobs and layers is on the disk; now their names, before the one that speaks of them.
                for name in ("blobs/sha256", "layers"):
                    self._sync_directory(self.directory / name)
                self._write_index(after)

    def _write_index(self, records: Sequence[Record]) -> None:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.as_descriptor() for one in records]}
        self._write("index.json", json.dumps(index, indent=1).encode() + b"\n")

    # --- garbage -----------------------------------------------------------------------------------------------------------

    def remove_garbage(
        self, keep: Callable[[], tuple[Collection[str], Collection[str]]], *, partial_s: float = PARTIAL_KEPT_S
    ) -> int:
        """Removes blobs and layers that nothing needs; gives the bytes of blobs that went. Nothing while somebody adds something.

        Args:
            keep: asked under the guard for the digests of blobs and the ids of layers that stay.
            partial_s: beginnings of blobs that nobody went on with for this many seconds go too.

        Raises:
            OSError: something cannot be removed.
        """
        doomed: list[tuple[Path, int]] = []
        freed = 0
        try:
            with self._collecting() as alone:
                if not alone:
                    return 0
                with self.guard():
                    blobs, layers = keep()
                    unneeded = [entry for entry in os.listdir(self.directory / "layers") if entry not in layers]
                    doomed.extend(self._set_aside(self.directory / "layers" / entry) for entry in unneeded)
                kept = {digest.removeprefix("sha256:") for digest in blobs}
                with os.scandir(self.directory / "blobs/sha256") as entries:
                    for blob in entries:
                        if blob.name not in kept:
                            freed += blob.stat().st_size
                            os.unlink(blob.path)
                freed += self._remove_partial(partial_s)
        except FileNotFoundError:
            return freed
        finally:
            for one in doomed:
                discard(one)
        return freed

    def _remove_partial(self, age_s: float) -> int:
        freed = 0
        with os.scandir(self.directory / "partial") as entries:
            for file in entries:
                facts = file.stat()
                if time.time() - facts.st_mtime >= age_s and (lock := _lock_if_free(Path(file.path))) is not None:
                    os.unlink(file.path)
                    os.close(lock)
                    freed += facts.st_size
        return freed


class _Sync:
    """syncfs(2) for several threads: one that starts after all of them were ready serves them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._wanted = 0
        self._done = 0
        self._failed: OSError | None = None

    def run(self) -> None:
        self._wanted += 1
        mine = self._wanted
        with self._lock:
            if self._done >= mine:
                return
            covers = self._wanted
            self._flush()
            if self._failed is not None:
                raise OSError(self._failed.errno, self._failed.strerror, str(self._directory)) from self._failed
            self._done = covers

    @contextlib.contextmanager
    def ahead(self) -> Iterator[None]:
        """Keep the disk at work meanwhile: what is written all along need not be waited for at the end."""
        over = threading.Event()

        def flush() -> None:
            while not over.wait(_AHEAD_S):
                try:
                    self._flush()
                except OSError as error:
                    # The kernel says it once; who waits for the disk has to hear of it.
                    self._failed = error
                    return

        threading.Thread(target=flush, name="sync-ahead", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _flush(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            native.syncfs(fd)
        finally:
            os.close(fd)


def _lock_if_free(path: Path) -> int | None:
    """The descriptor of something that nobody else holds, locked; None where somebody does or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def discard(doomed: tuple[Path, int]) -> None:
    """Removes what `reserve` made, and gives its lock back."""
    path, lock = doomed
    try:
        remove_tree(path)
    finally:
        os.close(lock)
