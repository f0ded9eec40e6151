"""Kubernetes objects that pods refer to, kept by name: one file each.

All are on disk but Secrets and the values that instances of containers were made of, which are in memory alone: below a directory
that is a tmpfs. Where `run` itself is one (as /run/nsrun is), that is all; else a tmpfs is mounted there for as long as there is
something in it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from nsrun import native
from nsrun.errors import InternalError, StepError
from nsrun.plan import ObjectValues
from nsrun.spec import encode
from nsrun.spec.model import ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret
from nsrun.spec.names import SUBDOMAIN_MAX
from nsrun.state.files import TEMPORARY, read_or_none, remove_tree, sync_directory, unlink_if_there, write_atomic
from nsrun.state.layout import PRIVATE, Layout

Stored = ConfigMap | Secret | PersistentVolumeClaim | PersistentVolume
Kept = Any
"""An object of any kind that is kept: one of the types of nsrun.spec.model and model_kinds, with kind and metadata."""
Listener = Callable[[str, str, str], None]
"""Called with kind, namespace and name of an object that was put or deleted."""
Teller = Callable[[Literal["ADDED", "MODIFIED", "DELETED"], str, Any], None]
"""Called with `ADDED`, `MODIFIED` or `DELETED`, the kind and the object, before the listeners are."""

KINDS: dict[str, type[Stored]] = {
    "ConfigMap": ConfigMap,
    "Secret": Secret,
    "PersistentVolumeClaim": PersistentVolumeClaim,
    "PersistentVolume": PersistentVolume,
}
"""The kinds that manifests of pods bring along, in the order in which they are listed."""
AROUND = (
    "Namespace",
    "Node",
    "ServiceAccount",
    "Service",
    "Endpoints",
    "EndpointSlice",
    "RuntimeClass",
    "PriorityClass",
    "Lease",
    "Event",
    "ResourceQuota",
    "LimitRange",
)
"""The other kinds that are kept, for clients of the Kubernetes API. Their types are loaded with the first of them."""
CLUSTER_KINDS = ("PersistentVolume", "Namespace", "Node", "RuntimeClass", "PriorityClass")
"""Those that are in no namespace: "" is theirs."""

_IN_MEMORY = ("Secret",)
_UNTIL_REBOOT = ("Event", "Lease")
"""Those that mean nothing to the pods after the next start of the machine, and are written often."""
_OF_STARTS = ("ConfigMap", "Secret", "Service")
"""Those that variables of containers are made of."""
_SUFFIX = ".json"
_NO_NAMESPACE = "_"
"""The directory of objects that are in none; no namespace has such a name."""
_LONGEST = 200
"""A name may have 253 characters, a file's no more than 255 with its suffix and that of a file being written."""
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Kept(msgspec.Struct, omit_defaults=True):
    """What an instance was made of. Bytes of Secrets need not be text."""

    config_maps: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    secrets: dict[str, dict[str, bytes]] = msgspec.field(default_factory=dict)
    files: dict[str, bytes] = msgspec.field(default_factory=dict)
    services: dict[str, str] = msgspec.field(default_factory=dict)


class ObjectStore:
    """The objects of one server, by kind, namespace and name. What is on disk is the truth, and is read each time.

    Args:
        layout: the server's directories.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._listeners: list[Listener] = []
        self.teller: Teller | None = None
        """Whoever passes changes on; None while nobody wants to know."""
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            kind: msgspec.json.Decoder(type_) for kind, type_ in KINDS.items()
        }
        self._directories = {kind: str(self._directory(kind)) for kind in (*KINDS, *AROUND)}
        self.version = 0
        """Another number after each change of what containers are made from: as long as it stays, so does what was read."""

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called after each change."""
        self._listeners.append(listener)

    def get(self, kind: str, namespace: str, name: str) -> Kept | None:
        """The object, or None.

        Raises:
            InternalError: its file is not what nsrun writes.
            OSError: it cannot be read.
        """
        path = self._file(kind, namespace, name)
        return None if path is None else self._read(kind, path)

    def all_of(self, kind: str, namespace: str | None = None) -> list[Kept]:
        """The objects of a kind, in the order of namespace and name; of all namespaces for None.

        What is in no namespace is in each.

        Raises:
            InternalError, OSError: as `get`.
        """
        directory = self._directory(kind)
        if kind in CLUSTER_KINDS:
            namespace = _NO_NAMESPACE
        spaces = _listed(directory) if namespace is None else [namespace] if _plain(namespace) else []
        found = [
            self._read(kind, str(directory / space / name))
            for space in spaces
            for name in _listed(directory / space)
            if name.endswith(_SUFFIX)
        ]
        return sorted(
            (one for one in found if one is not None),
            key=lambda one: (one.metadata.namespace or "", one.metadata.name or ""),
        )

    def any_of(self, kind: str) -> bool:
        """Whether there is, or was, an object of a kind."""
        return os.path.isdir(self._directories[kind])

    def put(self, obj: Kept) -> None:
        """Keep an object in place of the one that has its name; from the return on, nothing but a reboot loses a Secret.

        Args:
            obj: defaulted and valid.

        Raises:
            StepError: a full disk or the like; what was there before is still there.
        """
        kind, namespace, name = obj.kind, obj.metadata.namespace or "", obj.metadata.name or ""
        path = self._path(kind, namespace, name)
        if path is None:
            raise InternalError(f"{kind} {namespace}/{name} is not a valid name and came this far")
        in_memory = kind in _IN_MEMORY
        durable = not in_memory and kind not in _UNTIL_REBOOT
        known = self.teller is not None and path.exists()
        try:
            if in_memory:
                self._make_memory()
            made = _make_directories(path.parent)
            write_atomic(path, encode(obj), durable=durable)
            if durable:
                for directory in made:
                    sync_directory(directory.parent)
        except OSError as error:
            self._tidy()
            raise StepError(
                "write", str(path), error.errno or 0, what=f'{kind.lower()} "{name}" could not be kept'
            ) from error
        if self.teller is not None:
            self.teller("MODIFIED" if known else "ADDED", kind, obj)
        self._tell(kind, namespace, name)

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Forget an object; False when there is none.

        Raises:
            StepError: it cannot be removed.
        """
        path = self._path(kind, namespace, name)
        if path is None:
            return False
        last: Kept | None = None
        if self.teller is not None:
            # What cannot be read goes, too; nobody knew of it.
            with contextlib.suppress(InternalError, OSError):
                last = self._read(kind, str(path))
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StepError("remove", str(path), error.errno or 0) from error
        with contextlib.suppress(OSError):
            os.rmdir(path.parent)
        if kind in _IN_MEMORY:
            self._tidy()
        if self.teller is not None and last is not None:
            self.teller("DELETED", kind, last)
        self._tell(kind, namespace, name)
        return True

    # what instances were made of

    def keep_values(self, uid: str, instance_id: str, values: ObjectValues) -> None:
        """Note what an instance is made of: commands in it get its variables, whatever becomes of the objects meanwhile.

        Raises:
            OSError: it cannot be noted.
        """
        kept = _Kept(
            config_maps={name: dict(data) for name, data in values.config_maps.items()},
            secrets={
                name: {key: value.encode("utf-8", "surrogateescape") for key, value in data.items()}
                for name, data in values.secrets.items()
            },
            files={name: text.encode("utf-8", "surrogateescape") for name, text in values.files.items()},
            services=dict(values.services),
        )
        path = self._values(uid, instance_id)
        self._make_memory()
        _make_directories(path.parent)
        write_atomic(path, msgspec.json.encode(kept))

    def kept_values(self, uid: str, instance_id: str) -> ObjectValues | None:
        """What an instance was made of; None when nothing is noted of it.

        Raises:
            InternalError: the file is not what nsrun writes.
        """
        path = self._values(uid, instance_id)
        data = read_or_none(path)
        if data is None:
            return None
        try:
            kept = msgspec.json.decode(data, type=_Kept)
        except _UNREADABLE as error:
            raise _broken(path) from error
        secrets = {
            name: {key: value.decode("utf-8", "surrogateescape") for key, value in one.items()}
            for name, one in kept.secrets.items()
        }
        files = {name: data.decode("utf-8", "surrogateescape") for name, data in kept.files.items()}
        return ObjectValues(kept.config_maps, secrets, files, kept.services)

    def drop_values(self, uid: str, instance_id: str | None = None) -> None:
        """Forget what an instance, or all instances of a pod, were made of. Nothing there is fine."""
        directory = self._values(uid, "").parent
        if not directory.exists():
            return
        if instance_id is None:
            remove_tree(directory)
        else:
            unlink_if_there(self._values(uid, instance_id))
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        self._tidy()

    def pods_with_values(self) -> list[str]:
        """The uids of pods of whose instances something is noted."""
        return _listed(self._values("", "").parent)

    def remove_unfinished(self) -> None:
        """Remove what a writer that was killed had not given its name yet. Only while nobody writes: when a server begins."""
        for place in (self._layout.objects, self._layout.kept, self._layout.secrets):
            for top, _below, names in os.walk(place):
                for name in names:
                    if name.endswith(TEMPORARY):
                        with contextlib.suppress(OSError):
                            os.unlink(os.path.join(top, name))

    def close(self) -> None:
        """Take everything that is in memory alone away."""
        self._unmount()
        remove_tree(self._layout.secrets)

    # below

    def _directory(self, kind: str) -> Path:
        if kind in _IN_MEMORY:
            return self._layout.secrets / kind.lower()
        return (self._layout.kept if kind in _UNTIL_REBOOT else self._layout.objects) / kind.lower()

    def _path(self, kind: str, namespace: str, name: str) -> Path | None:
        path = self._file(kind, namespace, name)
        return None if path is None else Path(path)

    def _file(self, kind: str, namespace: str, name: str) -> str | None:
        """The object's file; None for what cannot be the name of one."""
        if kind in CLUSTER_KINDS:
            namespace = _NO_NAMESPACE
        if kind not in self._directories or not _plain(namespace) or not _plain(name):
            return None
        if len(name) > _LONGEST:
            # No valid name has a tilde in it.
            name = f"{name[:100]}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
        return f"{self._directories[kind]}/{namespace}/{name}{_SUFFIX}"

    def _values(self, uid: str, instance_id: str) -> Path:
        return self._layout.secrets / "instances" / uid / (instance_id + _SUFFIX)

    def _decoder(self, kind: str) -> msgspec.json.Decoder[Any]:
        found = self._decoders.get(kind)
        if found is None:
            from nsrun.spec.incoming import class_of
            from nsrun.spec.resources_table import kept_kind

            found = self._decoders[kind] = msgspec.json.Decoder(class_of(kept_kind(kind)))
        return found

    def _read(self, kind: str, path: str) -> Kept | None:
        try:
            data = read_or_none(path)
        except NotADirectoryError:
            return None
        if data is None:
            return None
        try:
            return self._decoder(kind).decode(data)
        except _UNREADABLE as error:
            raise _broken(path) from error

    def _tell(self, kind: str, namespace: str, name: str) -> None:
        if kind in _OF_STARTS:
            self.version += 1
        for listener in self._listeners:
            listener(kind, namespace, name)

    def _make_memory(self) -> None:
        """Have the directory for secrets, in memory.

        Raises:
            StepError: there can be no tmpfs here.
        """
        directory = self._layout.secrets
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, PRIVATE)
        if _file_system(directory) in ("tmpfs", "ramfs"):
            return
        attributes = native.lib.MS_NOSUID | native.lib.MS_NODEV | native.lib.MS_NOEXEC
        try:
            # Linux 6.4 can be told to keep it out of swap space.
            native.mount("nsrun", directory, "tmpfs", attributes, "mode=0700,noswap")
        except OSError as first:
            if first.errno != errno.EINVAL:
                raise StepError("mount a tmpfs at", str(directory), first.errno or 0) from first
            try:
                native.mount("nsrun", directory, "tmpfs", attributes, "mode=0700")
            except OSError as error:
                raise StepError("mount a tmpfs at", str(directory), error.errno or 0) from error

    def _tidy(self) -> None:
        """Take directories without a file away, and the mount with the last of them."""
        directory = self._layout.secrets
        for top, _below, files in os.walk(directory, topdown=False):
            if files:
                return
            if Path(top) != directory:
                with contextlib.suppress(OSError):
                    os.rmdir(top)
        self._unmount()

    def _unmount(self) -> None:
        directory = self._layout.secrets
        with contextlib.suppress(FileNotFoundError):
            while os.stat(directory).st_dev != os.stat(directory.parent).st_dev:
                native.umount2(directory, native.lib.MNT_DETACH)


def _plain(word: str) -> bool:
    """Whether a word can be the name of a file in a directory, and only that."""
    return 0 < len(word) <= SUBDOMAIN_MAX and "/" not in word and "\0" not in word and word[0] != "." and word.isascii()


def _make_directories(path: Path) -> list[Path]:
    """Make a directory and those above it, each for us alone; those that were made."""
    if path.is_dir():
        return []
    made = _make_directories(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE)
    return [*made, path]


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _file_system(directory: Path) -> str:
    """The type of the file system that a directory lies on, by its device (proc_pid_mountinfo(5)); "" where that is not told."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return next((type_ for number, type_ in _mounted() if number == wanted), "")


def _mounted() -> Iterator[tuple[str, str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            yield before.split()[2], after.split()[0]


def _broken(path: str | Path) -> InternalError:
    # Without the decoder's words: they may hold what is secret.
    return InternalError(
        f"{path} cannot be read",
        details="Only nsrun writes this file.",
        resolution=f"Remove it and apply the object again: rm {path}",
    )
