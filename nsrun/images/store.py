"""The images of a machine, below `lib/images`.

    <64 digits>/image.json, rootfs/   an image: complete from the moment it has this name
    names/<quoted reference>          a file with the 64 digits of the image that has this name
    host                              a file with the 64 digits of the built-in image's newest skeleton
    .new-…/                           being made; its maker holds a flock on it. Free = the maker is dead, and it is removed

All changes are renames, so whoever is killed in the middle leaves either nothing or something that the next one clears away. A flock
on the directory itself is held only for moments: while a .new- directory is made and locked, and while names and images change.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from nsrun.errors import ConflictError, NotFoundError, SpecError, StepError
from nsrun.images import host, reference
from nsrun.images.errors import ImageError
from nsrun.images.image import Image
from nsrun.images.trees import TreeCopy, remove_tree
from nsrun.plan.inputs import HOST_IMAGE, HOST_IMAGE_CONFIG, ImageConfig, RootFs

_NEW = ".new-"
_NEW_FILE = ".new-name-"
_NAMES = "names"
_HOST = "host"
_RESERVED = "nsrun.local"


class Puller(Protocol):
    """Where images come from that are not here: a registry. None is built in yet."""

    def pull(self, wanted: reference.Reference, store: ImageStore) -> Image:
        """Gets the image into the store.

        Raises:
            ImageError: ErrImagePull, with the registry's answer.
        """


class ImageStore:
    """The images below a server's lib directory. Every call blocks; safe to call from several threads and processes.

    Args:
        lib_dir: the directory; `images` in it is made when the first image is.
        puller: asked for images that are not here.
        durable: flush new images to the disk before they get their name.
    """

    def __init__(self, lib_dir: Path, *, puller: Puller | None = None, durable: bool = True) -> None:
        self._directory = Path(lib_dir) / "images"
        self._puller = puller
        self._durable = durable
        self._host: tuple[object, Image] | None = None

    # --- asking ----------------------------------------------------------------------------------------------------------

    def resolve(self, name: str, policy: str = "") -> Image:
        """The image of a container.

        Args:
            name: as the manifest has it.
            policy: imagePullPolicy: Always, IfNotPresent (also when empty) or Never. An image that was imported or is built in has
                no other source than this store, so Always is content with it.

        Raises:
            ImageError: InvalidImageName, ErrImageNeverPull or ErrImagePull, in the kubelet's words.
        """
        wanted = self._parse(name)
        found = self._find(wanted)
        if found is not None:
            return found
        if policy == "Never":
            raise ImageError(
                "ErrImageNeverPull",
                f'Container image "{name}" is not present with pull policy of Never',
                resolution=f"nsrun image import {name} PATH (a root directory or a tar archive of one)",
            )
        if self._puller is None or wanted.domain == _RESERVED:
            raise ImageError(
                "ErrImagePull",
                f'image "{name}" is not here, and nsrun cannot pull from registries yet',
                resolution=f"Import it: nsrun image import {name} PATH (a root directory or a tar archive of one), "
                f"or use the built-in image {HOST_IMAGE}.",
            )
        return self._puller.pull(wanted, self)

    def list(self) -> list[Image]:
        """All images that have a name, the built-in one first, then by name. An image with two names is in it twice."""
        result = [self._host_image()]
        for name, digits in sorted(self._names()):
            with contextlib.suppress(FileNotFoundError):
                result.append(self._read(name, digits))
        return result

    def _find(self, wanted: reference.Reference) -> Image | None:
        if str(wanted) == host.NAME:
            return self._host_image()
        if wanted.digest:
            return self._by_digest(wanted)
        try:
            digits = self._name_file(str(wanted)).read_text(encoding="ascii").strip()
            return self._read(str(wanted), digits)
        except FileNotFoundError:
            return None

    def _by_digest(self, wanted: reference.Reference) -> Image | None:
        digits = wanted.digest.removeprefix("sha256:")
        for name, has in self._names():
            if has == digits and reference.parse(name).path == wanted.path:
                with contextlib.suppress(FileNotFoundError):
                    return self._read(name, digits)
        return None

    def _parse(self, name: str) -> reference.Reference:
        try:
            return reference.parse(name)
        except ValueError as error:
            raise ImageError(
                "InvalidImageName",
                f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {error}',
                code="spec",
            ) from None

    def _names(self) -> Iterator[tuple[str, str]]:
        try:
            entries = os.listdir(self._directory / _NAMES)
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.startswith(_NEW):
                continue
            with contextlib.suppress(FileNotFoundError):
                digits = (self._directory / _NAMES / entry).read_text(encoding="ascii").strip()
                yield urllib.parse.unquote(entry), digits

    def _name_file(self, name: str) -> Path:
        return self._directory / _NAMES / urllib.parse.quote(name, safe="")

    def _read(self, name: str, digits: str) -> Image:
        """The image with these digits.

        Raises:
            FileNotFoundError: there is none, or it is not whole, as after a power cut.
        """
        directory = self._directory / digits
        try:
            facts = json.loads((directory / "image.json").read_text(encoding="utf-8"))
            return Image(
                name=name,
                id=f"sha256:{digits}",
                rootfs=RootFs((str(directory / "rootfs"),)),
                config=_config(facts["config"]),
                size=facts["size"],
                created=facts["created"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FileNotFoundError(str(directory)) from error

    # --- making ----------------------------------------------------------------------------------------------------------

    def import_(self, name: str, path: str | os.PathLike[str], config: ImageConfig | None = None) -> Image:
        """Makes an image from a root directory, or from a tar archive of one (also gzip, bzip2, xz). Nothing is referred to: it is copied.

        A name that an image has already goes over to the new one.

        Raises:
            ImageError: InvalidImageName.
            ConflictError: a name that is nsrun's own.
            SpecError: what is at `path` is no root file system, or is hostile; or the config is wrong. Nothing is left.
            StepError: it cannot be read or written. Nothing is left.
        """
        config = config or ImageConfig()
        wanted = self._parse(name)
        if wanted.domain == _RESERVED:
            raise ConflictError(f"cannot import {name}: names that begin with {_RESERVED}/ are nsrun's own")
        if wanted.digest:
            raise SpecError(f"cannot import {name}: a digest cannot be chosen", resolution="Give a name and a tag.")
        _check(config)
        # Here and not above: tarfile brings every decompressor along, and a server that imports nothing starts without them.
        from nsrun.images.archives import Unpack

        source = os.fspath(path)
        with self._fresh() as temporary:
            root = temporary / "rootfs"
            root.mkdir(mode=0o755)
            work: TreeCopy | Unpack
            if os.path.isdir(source):
                if _is_below(str(self._directory), source):
                    raise SpecError(f"cannot import {source}: nsrun's own images lie in it")
                work = TreeCopy(source, str(root))
            else:
                work = Unpack(source, root)
            work.run()
            _check_root(source, root)
            _mount_points(root)
            digits = self._keep(temporary, work.digest, work.size, config, str(wanted))
            return self._read(str(wanted), digits)

    def _keep(self, temporary: Path, digest: str, size: int, config: ImageConfig, name: str) -> str:
        """Gives a finished directory its place and its name; one that is there already with the same content stays."""
        facts = {"config": asdict(config), "size": size, "created": time.time()}
        digits = hashlib.sha256(json.dumps([digest, asdict(config)], sort_keys=True).encode()).hexdigest()
        (temporary / "image.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if self._durable:
            os.sync()  # there is no syncfs here; and a name must not outlive what it names
        with self._guard():
            self._place(temporary, digits)
            self._give_name(name, digits)
        return digits

    def _place(self, temporary: Path, digits: str) -> None:
        """Under the guard: a finished directory becomes the image, unless it is there. A broken one makes way."""
        try:
            self._read("", digits)
        except FileNotFoundError:
            if (self._directory / digits).exists():
                _discard(self._set_aside(digits))
            os.rename(temporary, self._directory / digits)

    def _give_name(self, name: str, digits: str) -> None:
        file = self._name_file(name)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        _write(file, digits)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Alone with the names and the entries of the directory, among threads and processes."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _reserve(self) -> tuple[Path, int]:
        """A new empty directory and the descriptor that holds its lock. Made under the guard: until it is locked it looks abandoned."""
        directory = Path(tempfile.mkdtemp(dir=self._directory, prefix=_NEW))
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return directory, lock

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[Path]:
        """A directory to make an image in; what is still there at the end is removed."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.sweep()
            with self._guard():
                directory, lock = self._reserve()
        except OSError as error:
            raise StepError("make an image in", str(self._directory), error.errno or 0) from error
        try:
            yield directory
        except OSError as error:
            raise StepError("make an image in", error.filename or str(self._directory), error.errno or 0) from error
        finally:
            try:
                remove_tree(directory)
            finally:
                os.close(lock)

    def sweep(self) -> None:
        """Removes what imports left that were killed. Done before each import; the server may do it when it starts.

        Raises:
            OSError: something cannot be removed.
        """
        doomed: list[tuple[Path, int]] = []
        try:
            with self._guard():
                # Files are only written under the guard, so one that is there now was left behind.
                for directory in (self._directory, self._directory / _NAMES):
                    for path in directory.glob(f"{_NEW_FILE}*"):
                        path.unlink(missing_ok=True)
                doomed.extend(
                    (self._directory / entry, lock)
                    for entry in os.listdir(self._directory)
                    if entry.startswith(_NEW) and (lock := _lock_if_free(self._directory / entry)) is not None
                )
            for path, _ in doomed:
                remove_tree(path)
        except FileNotFoundError:
            return
        finally:
            for _, lock in doomed:
                os.close(lock)

    # --- removing --------------------------------------------------------------------------------------------------------

    def remove(self, name: str, in_use: Mapping[str, Any] | frozenset[str] = frozenset()) -> None:
        """Takes an image's name away, and with its last name the image.

        Args:
            name: a name of it.
            in_use: the ids (`sha256:…`) of images that containers are made of; with a mapping, the values are the pods' names.

        Raises:
            ImageError: InvalidImageName.
            NotFoundError: there is no such image.
            ConflictError: it is in use, or built in.
            StepError: it cannot be removed.
        """
        wanted = self._parse(name)
        if wanted.domain == _RESERVED:
            raise ConflictError(f"cannot remove {name}: it is built in")
        image = self._find(wanted)
        if image is None:
            raise NotFoundError(f'there is no image "{name}"', resolution="nsrun image ls shows those that are there.")
        digits = image.id.removeprefix("sha256:")
        doomed = None
        try:
            with self._guard():
                others = [other for other, has in self._names() if has == digits and other != image.name]
                if image.id in in_use and not others:
                    users = in_use[image.id] if isinstance(in_use, Mapping) else ()
                    by = f" by {', '.join(sorted(map(str, users)))}" if users else ""
                    raise ConflictError(
                        f'cannot remove image "{name}": it is in use{by}',
                        resolution="Take those pods down first: nsrun pod down NAME",
                    )
                self._name_file(image.name).unlink(missing_ok=True)
                if not others:
                    doomed = self._set_aside(digits)
            if doomed is not None:
                _discard(doomed)
        except OSError as error:
            raise StepError("remove image", error.filename or name, error.errno or 0) from error

    def collect(self, in_use: Mapping[str, Any] | frozenset[str]) -> tuple[str, ...]:
        """Removes images that have no name any more and that nothing uses; gives their ids. Also skeletons of a host that has changed.

        Raises:
            StepError: one cannot be removed.
        """
        doomed: list[tuple[Path, int]] = []
        gone = []
        try:
            self.sweep()
            with self._guard():
                named = {digits for _, digits in self._names()}
                with contextlib.suppress(FileNotFoundError):
                    named.add((self._directory / _HOST).read_text(encoding="ascii").strip())
                for entry in os.listdir(self._directory):
                    if len(entry) == 64 and entry not in named and f"sha256:{entry}" not in in_use:
                        doomed.append(self._set_aside(entry))
                        gone.append(f"sha256:{entry}")
            for one in doomed:
                _discard(one)
        except FileNotFoundError:
            return tuple(gone)
        except OSError as error:
            raise StepError("remove image", error.filename or str(self._directory), error.errno or 0) from error
        return tuple(gone)

    def _set_aside(self, digits: str) -> tuple[Path, int]:
        """Under the guard. Renamed first, removed later: half an image must never have an image's name."""
        directory, lock = self._reserve()
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._directory / digits, directory / "doomed")
        return directory, lock

    # --- the built-in one ------------------------------------------------------------------------------------------------

    def _host_image(self) -> Image:
        """nsrun.local/host, made when it is first asked for and again when the host's programs have changed."""
        now = host.signature()
        if self._host is not None and self._host[0] == now and os.path.isdir(self._host[1].rootfs.lowers[0]):
            return self._host[1]
        fresh = host.skeleton()
        config = HOST_IMAGE_CONFIG
        digits = hashlib.sha256(json.dumps([fresh.digest, asdict(config)], sort_keys=True).encode()).hexdigest()
        directory = self._directory / digits
        if not (directory / "image.json").exists():
            with self._fresh() as temporary:
                root = temporary / "rootfs"
                root.mkdir()
                fresh.write(str(root))
                facts = {"config": asdict(config), "size": fresh.size, "created": time.time()}
                (temporary / "image.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
                with self._guard():
                    self._place(temporary, digits)
        self._mark_host(digits)
        made = self._read(host.NAME, digits)
        image = Image(host.NAME, made.id, fresh.rootfs(made.rootfs.lowers[0]), config, made.size, made.created)
        self._host = (now, image)
        return image

    def _mark_host(self, digits: str) -> None:
        """Notes which skeleton is the newest, so that the others can be collected."""
        mark = self._directory / _HOST
        try:
            if mark.read_text(encoding="ascii").strip() == digits:
                return
        except FileNotFoundError:
            pass
        with self._guard():
            _write(mark, digits)


def _write(path: Path, digits: str) -> None:
    """Replaces a file that holds the digits of an image; under the guard."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=_NEW_FILE)
    with open(fd, "w", encoding="ascii") as file:
        file.write(f"{digits}\n")
    os.rename(temporary, path)


def _lock_if_free(path: Path) -> int | None:
    """The descriptor of a directory that nobody else holds, locked; None where somebody does or it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _discard(doomed: tuple[Path, int]) -> None:
    path, lock = doomed
    try:
        remove_tree(path)
    finally:
        os.close(lock)


def _config(data: Mapping[str, Any]) -> ImageConfig:
    return ImageConfig(
        entrypoint=tuple(data["entrypoint"]),
        cmd=tuple(data["cmd"]),
        env=tuple(data["env"]),
        user=data["user"],
        workdir=data["workdir"],
        stop_signal=data["stop_signal"],
    )


def _check(config: ImageConfig) -> None:
    for entry in config.env:
        if not entry.partition("=")[0] or "=" not in entry:
            raise SpecError(f"image config: {entry!r} is not of the form NAME=VALUE")
    if config.workdir and not config.workdir.startswith("/"):
        raise SpecError(f"image config: the working directory {config.workdir!r} is not absolute")
    words = (*config.entrypoint, *config.cmd, *config.env, config.user, config.workdir)
    if any("\0" in word for word in words):
        raise SpecError("image config: there is a NUL character in it")


def _is_below(path: str, directory: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(directory)]) == os.path.realpath(directory)


def _mount_points(root: Path) -> None:
    """Makes what every container mounts on, where it is missing: once here instead of in the upper layer of every instance."""
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in ("proc", "sys", "dev", "etc"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=top)
        # The image may have made a link of etc: it is then left as it is.
        with contextlib.suppress(NotADirectoryError):
            etc = os.open("etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                for name in ("hosts", "hostname", "resolv.conf"):
                    with contextlib.suppress(FileExistsError):
                        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=etc))
            finally:
                os.close(etc)
    finally:
        os.close(top)


def _check_root(source: str, root: Path) -> None:
    """Refuses what is plainly something else than a root file system."""
    names = set(os.listdir(root))
    if not names:
        raise SpecError(f"cannot import {source}: there is nothing in it")
    if names & {"oci-layout", "manifest.json"} and not names & {"bin", "usr", "etc"}:
        raise SpecError(
            f"cannot import {source}: this is an image with its layers, not a root file system",
            details="docker save and podman save make such archives.",
            resolution="Make a root file system of it: docker create --name x IMAGE; docker export x > FILE",
        )
