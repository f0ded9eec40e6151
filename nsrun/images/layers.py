"""Layers: from a stream to a blob and a directory, and from directories to what overlayfs stacks.

A layer is unpacked once, by its diff id, whatever images have it. Two things make one depend on those below it, and it is then kept by
its chain id: a hard link to a file of theirs, and a directory that is a symbolic link there. What is left of the layers below otherwise
is what archives leave out: the directories on the way to an entry, which then look here as if they were new. Where they would hide the
owner, mode or time that a layer below gives them, a last layer of nothing but such directories (a joint) goes on top.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nsrun.errors import SpecError
from nsrun.images.compression import Plain, Reader, kind_of
from nsrun.images.content import Content
from nsrun.images.documents import OCI_LAYER, Descriptor
from nsrun.images.merged import Merged
from nsrun.images.trees import keeps_attribute
from nsrun.images.unpack import NeedsBelow, Unpack

BASE = "base"
"""The lowest layer of every image: what each container mounts on, where the image does not have it."""
_AHEAD = 8
_WRITE_BEGINS = 4 << 20
_FORMS = {"": "", "gzip": "+gzip", "zstd": "+zstd"}


class WrongDigestError(SpecError):
    """What came is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that is here: its blob, its diff id, and the id of its directory, "" where it has to be unpacked onto those below."""

    blob: Descriptor
    diff_id: str
    name: str


@dataclass(frozen=True, slots=True)
class _Received:
    """A layer that came, and is yet to be named: `facts` where it was unpacked."""

    blob: Descriptor
    diff_id: str
    name: str
    facts: dict[str, object] | None


class Tee:
    """Writes what is read from `source` to a file, and checks it against what was promised.

    Args:
        source: the bytes.
        file: a descriptor, or -1 where they are only counted and checked.
        expected: its digest and size are checked when the end is reached: until then nothing is to be believed.
        skip: so many bytes at the beginning are in the file already.
    """

    def __init__(
        self, source: Reader, file: int, *, subject: str, expected: Descriptor | None = None, skip: int = 0
    ) -> None:
        self._source = source
        self._file = file
        self._subject = subject
        self._expected = expected
        self._skip = skip
        self._hash = hashlib.sha256()
        self._begun = 0
        self.size = 0

    @property
    def digest(self) -> str:
        """Of what was read so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            WrongDigestError: it is not what was promised, by its size or digest.
        """
        data = self._source.read(size)
        expected = self._expected
        if not data:
            if expected is not None and (self.size != expected.size or self.digest != expected.digest):
                raise WrongDigestError(
                    f"{self._subject}: {expected.digest} was promised with {expected.size} bytes, "
                    f"and {self.digest} came with {self.size}"
                )
            return b""
        self._hash.update(data)
        new = data[max(self._skip - self.size, 0) :]
        self.size += len(data)
        if expected is not None and self.size > expected.size:
            raise WrongDigestError(f"{self._subject}: more came than the {expected.size} bytes of {expected.digest}")
        if self._file >= 0:
            view = memoryview(new)
            while view:
                view = view[os.write(self._file, view) :]
            if self.size - self._begun >= _WRITE_BEGINS:
                # The disk begins with it now, and not when everybody waits for it; nor does it stay in memory: nobody reads it soon.
                self._begun = self.size
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        return data


class ReadAhead:
    """Reads `source` in a thread of its own, a few pieces ahead of whoever reads this."""

    def __init__(self, source: Reader, *, size: int = 1 << 18) -> None:
        self._source = source
        self._size = size
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._left = b""
        self._ended = False
        self._stop = False
        self._thread = threading.Thread(target=self._work, name="read-ahead", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while not self._stop:
                data = self._source.read(self._size)
                self._queue.put(data)
                if not data:
                    return
        except BaseException as error:  # whoever reads is told
            self._queue.put(error)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Raises what the source raises."""
        if not self._left and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._left = item
            self._ended = not item
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def close(self) -> None:
        """Ends the thread; what it read is dropped."""
        self._stop = True
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=0.05)
        self._thread.join()


class _Start:
    """A stream of which `head`, at least six bytes, was looked at before anybody reads it."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self.head = b""
        while len(self.head) < 6 and (piece := source.read(1 << 18)):
            self.head += piece
        self._left = self.head

    def read(self, size: int, /) -> bytes:
        if self._left:
            piece, self._left = self._left[:size], self._left[size:]
            return piece
        return self._source.read(size)


class Layers:
    """Makes layers in a content store.

    Args:
        content: the store; whoever uses this holds `content.adding()`.
        subject: what errors begin with, such as `cannot load /tmp/x.tar`.
    """

    def __init__(self, content: Content, subject: str) -> None:
        self._content = content
        self._subject = subject

    # --- one layer ---------------------------------------------------------------------------------------------------------

    def take(
        self,
        source: Reader,
        *,
        expected: Descriptor | None = None,
        diff_id: str | None = None,
        file: Path | None = None,
        skip: int = 0,
        turn: contextlib.AbstractContextManager[object] | None = None,
    ) -> Layer:
        """Keeps a layer that comes as a stream: its blob, and unpacked meanwhile unless it is here already.

        Args:
            source: the layer, compressed or not. What is compressed in a way that OCI does not know is kept plain.
            expected: what it has to be.
            diff_id: the digest that it has to have when it is decompressed.
            file: where the blob is to be written, the first `skip` bytes being there; a temporary file where None.
            turn: held while something comes, and given back before it is brought to the disk: that is no work of ours.

        Raises:
            SpecError: it is not a layer, or not this one. Nothing is kept but the beginning in `file`.
            StepError: the disk is full, or the like.
        """
        content = self._content
        with content.fresh() as temporary:
            path = file or temporary / "blob"
            with turn or contextlib.nullcontext():
                made = self._receive(source, path, temporary / "layer", expected, diff_id, skip)
            if made.facts is not None:
                content.place_layer(temporary / "layer", made.name, made.facts)
            if content.has_blob(made.blob.digest, made.blob.size):
                os.unlink(path)
            else:
                content.place_blob(path, made.blob.digest, synced=made.facts is not None)
            return Layer(made.blob, made.diff_id, made.name)

    def _receive(
        self, source: Reader, path: Path, work: Path, expected: Descriptor | None, diff_id: str | None, skip: int
    ) -> _Received:
        """A stream to its end: its blob in `path`, unpacked in `work` unless that is here or needs what is below."""
        with contextlib.ExitStack() as stack:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            stack.callback(os.close, fd)
            start = _Start(source)
            kept = expected is not None or kind_of(start.head) in _FORMS
            raw = Tee(start, fd if kept else -1, subject=self._subject, expected=expected, skip=skip)
            ahead = ReadAhead(raw)
            stack.callback(ahead.close)
            plain = Plain(ahead)
            whole = Tee(plain, -1 if kept else fd, subject=self._subject)
            # Three at once: the network and one digest, decompression and the other digest, the files.
            unpacked = ReadAhead(whole)
            stack.callback(unpacked.close)
            unpack = self._unpack(unpacked, work, diff_id)
            if diff_id is not None and whole.digest != diff_id:
                raise WrongDigestError(
                    f"{self._subject}: a layer has the contents {whole.digest}, and the image's config says {diff_id}"
                )
            of = raw if kept else whole
            blob = expected or Descriptor(f"{OCI_LAYER}{_FORMS.get(plain.kind, '')}", of.digest, of.size)
            here = diff_id is not None and self._content.has_layer(diff_id[7:])
            name = whole.digest[7:] if unpack is not None or here else ""
            return _Received(blob, whole.digest, name, None if unpack is None else facts_of(unpack))

    def _unpack(self, source: Reader, work: Path, diff_id: str | None) -> Unpack | None:
        """Unpacks a stream to its end; None where it is here already, or needs those below."""
        if diff_id is not None and self._content.has_layer(diff_id[7:]):
            _drain(source)
            return None
        (work / "fs").mkdir(parents=True, mode=0o755)
        unpack = Unpack(source, str(work / "fs"), subject=self._subject, below=None)
        try:
            unpack.run()
        except NeedsBelow:
            _drain(source)
            return None
        return unpack

    def _unpack_blob(self, layer: Layer, below: Sequence[str], chain: str) -> str:
        """Unpacks a layer that is here onto those below; gives the id of its directory."""
        content = self._content
        if content.has_layer(chain[7:]):
            return chain[7:]
        with content.fresh() as temporary, open(content.blob(layer.blob.digest), "rb", buffering=0) as file:
            (temporary / "fs").mkdir(mode=0o755)
            lowers = [str(content.layer(one)) for one in below]
            unpack = Unpack(Plain(file), str(temporary / "fs"), subject=self._subject, below=lowers)
            unpack.run()
            name = chain[7:] if unpack.depends else layer.diff_id[7:]
            content.place_layer(temporary, name, facts_of(unpack))
            return name

    # --- all of an image ---------------------------------------------------------------------------------------------------

    def stack(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """The ids of what overlayfs is to stack for an image, topmost first.

        Args:
            layers: of the image, lowest first.

        Raises:
            SpecError: a layer does not fit those below.
            StepError: it cannot be written.
        """
        result: list[str] = []
        roots: dict[str, str] = {}
        chain = ""
        for layer in layers:
            chain = (
                layer.diff_id
                if not chain
                else f"sha256:{hashlib.sha256(f'{chain} {layer.diff_id}'.encode()).hexdigest()}"
            )
            name = layer.name
            if not name or (result and self._hides_link(name, [roots[one] for one in result])):
                name = self._unpack_blob(layer, result, chain)
            if self._content.layer_facts(name)["opaque"]:
                result.clear()
            # The same layer again shows all that it showed below, and overlayfs takes no directory twice.
            if name in result:
                result.remove(name)
            result.insert(0, name)
            roots[name] = str(self._content.layer(name))
        joint = self._joint(result, chain)
        self._ensure_base()
        return (*joint, *result, BASE)

    def _hides_link(self, name: str, below: Sequence[str]) -> bool:
        """Whether a directory that only the names of a layer's entries imply lies where those in `below` have something else."""
        implicit = [os.fsencode(path) for path in self._content.layer_facts(name)["implicit"] if path]
        merged = Merged(below)
        return any(
            (found := merged.find(path)) is not None and not stat.S_ISDIR(os.lstat(found).st_mode) for path in implicit
        )

    def _joint(self, names: Sequence[str], chain: str) -> tuple[str, ...]:
        """The layer of directories that the others only imply, as the topmost that describes each has them; none where none is needed."""
        content = self._content
        implicit = [{os.fsencode(path) for path in content.layer_facts(one)["implicit"]} for one in names]
        if not any(implicit[:-1]):
            return ()
        roots = [os.fsencode(content.layer(one)) for one in names]
        merged = Merged(roots)
        wrong: dict[bytes, bytes] = {}
        for path in sorted(set().union(*implicit)):
            parts = [part for part in merged.named(path) if os.path.isdir(part) and not os.path.islink(part)]
            if len(parts) < 2:
                continue
            described = [part for part in parts if not _implied(part, path, roots, implicit)]
            if described and described[0] != parts[0] and _looks(described[0]) != _looks(parts[0]):
                wrong[path] = described[0]
        if not wrong:
            return ()
        name = hashlib.sha256(f"joint {chain}".encode()).hexdigest()
        if not content.has_layer(name):
            with content.fresh() as temporary:
                (temporary / "fs").mkdir(mode=0o755)
                self._write_joint(temporary / "fs", wrong, merged)
                content.place_layer(
                    temporary, name, {"size": 0, "entries": len(wrong), "implicit": [], "opaque": False}
                )
        return (name,)

    def _write_joint(self, target: Path, wrong: dict[bytes, bytes], merged: Merged) -> None:
        top = os.fsencode(target)
        looks: dict[bytes, bytes] = {b"": merged.named(b"")[0]}
        for path in wrong:
            steps = path.split(b"/")
            for depth in range(1, len(steps)):
                above = b"/".join(steps[:depth])
                looks.setdefault(above, merged.named(above)[0])
        looks |= wrong
        for path in sorted(looks):
            with contextlib.suppress(FileExistsError):
                os.mkdir(top + b"/" + path)
        for path in sorted(looks, reverse=True):
            _copy_looks(looks[path], top + b"/" + path)

    def _ensure_base(self) -> None:
        if self._content.has_layer(BASE):
            return
        with self._content.fresh() as temporary:
            for name in ("fs", "fs/proc", "fs/sys", "fs/dev", "fs/etc"):
                (temporary / name).mkdir()
                (temporary / name).chmod(0o755)
            for name in ("hosts", "hostname", "resolv.conf"):
                (temporary / "fs/etc" / name).touch()
                (temporary / "fs/etc" / name).chmod(0o644)
            self._content.place_layer(temporary, BASE, {"size": 0, "entries": 7, "implicit": [], "opaque": False})


def facts_of(unpack: Unpack) -> dict[str, object]:
    """What is noted of a layer."""
    return {"size": unpack.size, "entries": unpack.entries, "implicit": unpack.implicit, "opaque": unpack.opaque}


def _drain(source: Reader) -> None:
    while source.read(1 << 18):
        pass


def _implied(part: bytes, path: bytes, roots: Sequence[bytes], implicit: Sequence[set[bytes]]) -> bool:
    for root, paths in zip(roots, implicit, strict=True):
        if part == root or part.startswith(root + b"/"):
            return path in paths
    return False


def _looks(path: bytes) -> tuple[object, ...]:
    status = os.lstat(path)
    attributes = sorted(
        (name, os.getxattr(path, name)) for name in os.listxattr(path) if keeps_attribute(name)
    )  # fmt: skip
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, tuple(attributes)


def _copy_looks(source: bytes, target: bytes) -> None:
    status = os.lstat(source)
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if keeps_attribute(name):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
