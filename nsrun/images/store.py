"""The images of a machine: which there are, what they are called, what may go. `nsrun.images.content` says how they lie on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nsrun.errors import ConflictError, NotFoundError, SpecError, StepError
from nsrun.images import host, reference
from nsrun.images.content import PARTIAL_KEPT_S, Content, DamagedError, Record
from nsrun.images.errors import ImageError
from nsrun.images.image import Image
from nsrun.images.keyring import joined
from nsrun.plan.image import HOST_IMAGE, HOST_IMAGE_CONFIG, ImageConfig, RootFs
from nsrun.waiting import ERR_IMAGE_NEVER_PULL, ERR_IMAGE_PULL, INVALID_IMAGE_NAME

_HOST = "host"
_HOST_LAYER = "host-"
_RESERVED = "nsrun.local"
_SHORT_ID = 4
InUse = Mapping[str, Any] | frozenset[str]
Images = list[Image]
Steps = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Usage:
    """What images take on disk, in bytes: `blobs` as they came, `layers` unpacked, `reclaimable` of both without unused images."""

    images: int
    unused: int
    blobs: int
    layers: int
    reclaimable: int


class ImageStore:
    """The images below a server's lib directory. Every call blocks; safe to call from several threads and processes.

    Args:
        lib_dir: the directory; `images` in it is made when the first image is.
        durable: flush new images to the disk before they get their name.
    """

    def __init__(self, lib_dir: Path, *, durable: bool = True) -> None:
        self.content = Content(Path(lib_dir) / "images", durable=durable)
        self._host: tuple[object, Image] | None = None
        self._seen: tuple[object, dict[str, Image], tuple[Image, ...]] = (None, {}, ())

    # --- asking ----------------------------------------------------------------------------------------------------------

    def look(self, name: str, policy: str = "") -> Image | None:
        """The image of a container, or None where it is to be pulled first.

        Args:
            name: as the manifest has it.
            policy: imagePullPolicy: Always, IfNotPresent (also when empty) or Never. An image that was imported or loaded or is built
                in has no other source than this store, so Always is content with it.

        Raises:
            ImageError: InvalidImageName or ErrImageNeverPull, in the kubelet's words; ErrImagePull for a name of nsrun's own that there is
                not: no registry is asked.
        """
        wanted = parse_name(name)
        found = self._find(wanted)
        if found is not None and (policy != "Always" or found.origin != "pull"):
            return found
        if policy == "Never":
            raise never_pull(name)
        if wanted.domain == _RESERVED:
            raise not_here(name)
        return None

    def has(self, name: str) -> bool:
        """Whether there is an image of this name.

        Raises:
            ImageError: InvalidImageName.
        """
        return self._find(parse_name(name)) is not None

    def list(self) -> list[Image]:
        """All images, the built-in one first, then by name; an image with two names is in it twice, those without one come last."""
        named, unnamed = self._images()
        return [self._host_image(), *(named[name] for name in sorted(named)), *unnamed]

    def by_id(self, image_id: str) -> Image:
        """The image that a container was made of, whatever its name means by now.

        Args:
            image_id: its id, or what it was pulled by (`Image.reference`).

        Raises:
            ImageError: ErrImageNeverPull, it is gone.
        """
        named, unnamed = self._images()
        for image in (*named.values(), *unnamed):
            if image_id in (image.id, image.source):
                return image
        layer = f"{_HOST_LAYER}{image_id.removeprefix('sha256:')}"
        newest = self._host_image()
        if newest.id == image_id:
            return newest
        if not self.content.has_layer(layer):
            raise ImageError(ERR_IMAGE_NEVER_PULL, f"the image {image_id} is not there any more")
        return replace(newest, id=image_id, rootfs=replace(newest.rootfs, lowers=(str(self.content.layer(layer)),)))

    def get(self, name: str) -> Image:
        """The image that somebody means by a name, or by the beginning of an id.

        Raises:
            ImageError: InvalidImageName.
            NotFoundError: there is none.
            ConflictError: several ids begin so.
        """
        named, unnamed = self._images()
        digits = name.removeprefix("sha256:")
        if len(digits) >= _SHORT_ID and all(one in "0123456789abcdef" for one in digits):
            found = {
                image.digest: image
                for image in (*unnamed, *named.values())
                if image.id[7:].startswith(digits) or image.digest[7:].startswith(digits)
            }
            if len(found) > 1:
                raise ConflictError(f"{name} is the beginning of several images' ids", resolution="Give more of it.")
            if found:
                return next(iter(found.values()))
        image = self._find(parse_name(name))
        if image is None:
            raise NotFoundError(f'there is no image "{name}"', resolution="nsrun image ls shows those that are there.")
        return image

    def _find(self, wanted: reference.Reference) -> Image | None:
        if wanted.domain == _RESERVED and str(wanted) == host.NAME:
            return self._host_image()
        named, unnamed = self._images()
        if not wanted.digest:
            return named.get(str(wanted))
        here = f"{wanted.domain}/{wanted.path}"
        source = f"{here}@{wanted.digest}"
        for name, image in named.items():
            if source == image.source or (wanted.digest == image.digest and _repository(name) == here):
                return image
        return next((image for image in unnamed if source == image.source), None)

    def _images(self) -> tuple[dict[str, Image], tuple[Image, ...]]:
        """The images by name, and those without one; read again when something has changed."""
        signature = self.content.signature()
        seen = self._seen
        if seen[0] == signature:
            return seen[1], seen[2]
        named: dict[str, Image] = {}
        unnamed: list[Image] = []
        for record in self.content.records():
            with contextlib.suppress(DamagedError, SpecError):
                image = self._read(record)
                if record.name:
                    named[record.name] = image
                else:
                    unnamed.append(image)
        self._seen = (signature, named, tuple(unnamed))
        return named, tuple(unnamed)

    def _read(self, record: Record) -> Image:
        """The image of an index entry.

        Raises:
            DamagedError, SpecError: something of it is missing or damaged.
        """
        # Here and not above: a server that runs nothing but the built-in image starts without them.
        from nsrun.images.documents import Index, parse, parse_config

        content = self.content
        manifest = parse(content.document(record.digest), record.digest)
        if isinstance(manifest, Index):
            raise DamagedError(f"{record.digest} is an index")
        config = parse_config(content.document(manifest.config.digest), manifest.config.digest)
        return Image(
            name=record.name,
            id=manifest.config.digest,
            digest=record.digest,
            rootfs=RootFs(tuple(str(content.layer(one)) for one in record.layers)),
            config=config.process,
            size=sum(content.layer_facts(one)["size"] for one in record.layers),
            created=config.created or record.added,
            origin=record.origin,
            source=record.source,
            added=record.added,
            access=record.access,
        )

    # --- making ----------------------------------------------------------------------------------------------------------

    def import_(self, name: str, path: str | os.PathLike[str], config: ImageConfig | None = None) -> Image:
        """Makes an image from a root directory, or from a tar archive of one (also compressed). Nothing is referred to: it is copied.

        A name that an image has already goes over to the new one.

        Raises:
            ImageError: InvalidImageName.
            ConflictError: a name that is nsrun's own.
            SpecError: what is at `path` is no root file system, or is hostile; or the config is wrong. Nothing is left.
            StepError: it cannot be read or written. Nothing is left.
        """
        from nsrun.images.importing import import_root

        wanted = self.name_for("import", name)
        return import_root(self, wanted, os.fspath(path), config or ImageConfig())

    def load(self, path: str, *, fd: int | None = None, name: str | None = None) -> Images:
        """Makes images of all that a docker-archive, an OCI archive or an OCI layout directory holds: see nsrun.images.loading."""
        from nsrun.images.loading import load

        return load(self, path, fd=fd, name=name)

    def save(self, names: Sequence[str], fd: int) -> Images:
        """Writes images to a file that others load too: see nsrun.images.saving."""
        from nsrun.images.saving import save

        return save(self, names, fd)

    def name_for(self, verb: str, name: str) -> str:
        """A name that an image may be given, normalised.

        Raises:
            ImageError: InvalidImageName.
            ConflictError: a name that is nsrun's own.
            SpecError: a digest instead of a tag.
        """
        wanted = parse_name(name)
        if wanted.domain == _RESERVED:
            raise ConflictError(f"cannot {verb} {name}: names that begin with {_RESERVED}/ are nsrun's own")
        if wanted.digest:
            raise SpecError(f"cannot {verb} {name}: a digest cannot be chosen", resolution="Give a name and a tag.")
        return str(wanted)

    def add(
        self,
        names: Iterable[str],
        digest: str,
        size: int,
        media_type: str,
        layers: Sequence[str],
        *,
        origin: str,
        source: str = "",
        access: Sequence[str] = (),
    ) -> Image:
        """Makes an image of blobs and layers that are here, as the last step of bringing it.

        Args:
            names: normalised; they go over from images that have them. None: it stays without one.
            access: who may use it; beside those who might already, of the same repository.
        """
        record = Record(
            "", digest, size, media_type, tuple(layers), origin, source, round(time.time(), 3), tuple(access)
        )
        fresh = [replace(record, name=name) for name in names] or [record]
        self.content.change(lambda before: _granted(_with(before, fresh), before, fresh))
        return self._read(fresh[0])

    def tag(self, name: str, new: str) -> Image:
        """Gives an image another name; it goes over from the image that has it.

        Raises:
            ImageError, NotFoundError, ConflictError, SpecError: as `get` and `name_for`.
        """
        target = self.name_for("tag", new)
        image = self.get(name)
        if image.origin == "host":
            raise ConflictError(
                f"cannot tag {name}: it is built in, this machine's own files, and has one name",
                resolution=f"Give containers image: {HOST_IMAGE}; "
                "nsrun image import NAME DIRECTORY makes an image of a copy of files.",
            )

        def change(before: Sequence[Record]) -> Sequence[Record]:
            for one in before:
                if one.digest == image.digest:
                    return _with(before, [replace(one, name=target)])
            raise NotFoundError(f'there is no image "{name}" any more')

        self.content.change(change)
        return replace(image, name=target)

    def sweep(self) -> None:
        """Removes what was being made by somebody who was killed. Done before anything is added.

        Raises:
            OSError: something cannot be removed.
        """
        self.content.sweep()

    # --- removing --------------------------------------------------------------------------------------------------------

    def remove(self, name: str, in_use: InUse = frozenset()) -> None:
        """Takes an image's name away, and with its last name the image.

        Args:
            name: a name of it, or its id when it has one name at most.
            in_use: the ids of images that containers are made of; with a mapping, the values are the pods' names.

        Raises:
            ImageError: InvalidImageName.
            NotFoundError: there is no such image.
            ConflictError: it is in use, or built in.
            StepError: it cannot be removed.
        """
        image = self.get(name)
        if image.origin == "host":
            raise ConflictError(f"cannot remove {name}: it is built in, and takes no room")
        by_id = not image.name or str(_parsed(name)) != image.name

        def change(before: Sequence[Record]) -> Sequence[Record]:
            same = [one for one in before if one.digest == image.digest]
            if by_id and len(same) > 1:
                raise ConflictError(
                    f"cannot remove image {name}: it has several names",
                    details=", ".join(one.name for one in same),
                    resolution="Remove it by its names.",
                )
            if len(same) <= 1:
                self._refuse_used(name, image, in_use)
            return [one for one in before if one.digest != image.digest or one.name != image.name]

        try:
            self.content.change(change)
            self._remove_garbage(in_use)
        except OSError as error:
            raise StepError("remove image", error.filename or name, error.errno or 0) from error

    def _refuse_used(self, name: str, image: Image, in_use: InUse) -> None:
        key = next((one for one in (image.id, image.reference) if one in in_use), None)
        if key is None:
            return
        users = in_use[key] if isinstance(in_use, Mapping) else ()
        by = f" by {', '.join(sorted(map(str, users)))}" if users else ""
        raise ConflictError(
            f'cannot remove image "{name}": it is in use{by}',
            resolution="Take those pods down first: nsrun pod down NAME",
        )

    def collect(self, in_use: InUse) -> tuple[str, ...]:
        """Removes images that have no name any more and that nothing uses; gives their ids. Also what was left behind.

        Raises:
            StepError: one cannot be removed.
        """
        return self.prune(in_use, named=False)[0]

    def prune(
        self, in_use: InUse, *, named: bool = True, only: Iterable[str] | None = None, partial_s: float | None = None
    ) -> tuple[tuple[str, ...], int]:
        """Removes images that nothing uses; gives their ids, and the bytes of blobs that went.

        Args:
            in_use: the ids of images that containers are made of.
            named: those that have a name too.
            only: of these manifest digests only.
            partial_s: the age in seconds from which on beginnings of blobs go too; the usual one when None.

        Raises:
            StepError: one cannot be removed.
        """
        chosen = None if only is None else set(only)
        gone: dict[str, None] = {}

        def change(before: Sequence[Record]) -> Sequence[Record]:
            kept = []
            for one in before:
                if (one.name and not named) or (chosen is not None and one.digest not in chosen):
                    kept.append(one)
                    continue
                try:
                    image = self._read(one)
                except (DamagedError, SpecError):
                    gone[one.digest] = None
                    continue
                if image.id in in_use or image.reference in in_use:
                    kept.append(one)
                else:
                    gone[image.id] = None
            return kept

        try:
            if not self.content.directory.exists():
                return (), 0
            self.sweep()
            self.content.change(change)
            freed = self._remove_garbage(in_use, partial_s)
        except FileNotFoundError:
            return tuple(gone), 0
        except OSError as error:
            raise StepError("remove image", error.filename or str(self.content.directory), error.errno or 0) from error
        return tuple(gone), freed

    def _remove_garbage(self, in_use: InUse | None, partial_s: float | None = None) -> int:
        return self.content.remove_garbage(
            lambda: self._needed(in_use), partial_s=PARTIAL_KEPT_S if partial_s is None else partial_s
        )

    def remove_garbage(self) -> int:
        """Removes blobs and layers that no image needs, unless somebody adds one just now; gives the bytes of blobs.

        Raises:
            StepError: something cannot be removed.
        """
        try:
            return self._remove_garbage(None)
        except OSError as error:
            raise StepError("remove", error.filename or str(self.content.directory), error.errno or 0) from error

    def _needed(self, in_use: InUse | None) -> tuple[set[str], set[str]]:
        """Digests of blobs and ids of layers that images are made of; older skeletons that are in use, all where that is not known."""
        from nsrun.images.layers import BASE

        blobs: set[str] = set()
        layers = {BASE, self._newest_host()}
        for entry in os.listdir(self.content.directory / "layers"):
            if entry.startswith(_HOST_LAYER) and (
                in_use is None or f"sha256:{entry.removeprefix(_HOST_LAYER)}" in in_use
            ):
                layers.add(entry)
        for record in self.content.records():
            layers.update(record.layers)
            blobs |= self._blobs(record)
        return blobs, layers

    def _blobs(self, record: Record) -> set[str]:
        from nsrun.images.documents import Index, parse

        try:
            manifest = parse(self.content.document(record.digest), record.digest)
        except (DamagedError, SpecError):
            return {record.digest}
        if isinstance(manifest, Index):
            return {record.digest}
        return {record.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}

    def inspect(self, image: Image) -> dict[str, Any]:
        """All that there is to know of an image: see nsrun.images.inspecting."""
        from nsrun.images.inspecting import inspect

        return inspect(self, image)

    def history(self, image: Image) -> Steps:
        """What was done to make an image: see nsrun.images.inspecting."""
        from nsrun.images.inspecting import history

        return history(self, image)

    def transfer_size(self, image: Image) -> int:
        """Bytes of an image as registries have it; 0 where that is not known."""
        record = next((one for one in self.content.records() if one.digest == image.digest), None)
        return 0 if record is None else self._size_of_blobs(self._blobs(record))

    def usage(self, in_use: InUse) -> Usage:
        """What images take on disk, and how much of it `prune` would give back."""
        used: tuple[set[str], set[str]] = (set(), {self._newest_host()})
        every: tuple[set[str], set[str]] = (set(), {self._newest_host()})
        counted: dict[str, bool] = {}
        for record in self.content.records():
            try:
                image = self._read(record)
            except (DamagedError, SpecError):
                continue
            keep = image.id in in_use or image.reference in in_use
            counted[record.digest] = counted.get(record.digest, False) or keep
            for blobs, layers in (every, used) if keep else (every,):
                blobs |= self._blobs(record)
                layers.update(record.layers)
        sizes = [(self._size_of_blobs(blobs), self._size_of_layers(layers)) for blobs, layers in (every, used)]
        (blobs_all, layers_all), (blobs_used, layers_used) = sizes
        return Usage(
            images=len(counted),
            unused=sum(not keep for keep in counted.values()),
            blobs=blobs_all,
            layers=layers_all,
            reclaimable=blobs_all + layers_all - blobs_used - layers_used,
        )

    def _size_of_blobs(self, digests: Iterable[str]) -> int:
        total = 0
        for digest in digests:
            with contextlib.suppress(OSError):
                total += self.content.blob(digest).stat().st_size
        return total

    def _size_of_layers(self, names: Iterable[str]) -> int:
        total = 0
        for name in names:
            with contextlib.suppress(DamagedError):
                total += self.content.layer_facts(name)["size"]
        return total

    # --- the built-in one ------------------------------------------------------------------------------------------------

    def _host_image(self) -> Image:
        """nsrun.local/host, made when it is first asked for and again when the host's programs have changed."""
        now = host.signature()
        if self._host is not None and self._host[0] == now and os.path.isdir(self._host[1].rootfs.lowers[0]):
            return self._host[1]
        fresh = host.skeleton()
        config = HOST_IMAGE_CONFIG
        digits = hashlib.sha256(json.dumps([fresh.digest, asdict(config)], sort_keys=True).encode()).hexdigest()
        content = self.content
        layer = f"{_HOST_LAYER}{digits}"
        if not content.has_layer(layer) or self._newest_host() != layer:
            with content.adding():
                content.sweep()
                if not content.has_layer(layer):
                    with content.fresh() as temporary:
                        (temporary / "fs").mkdir()
                        fresh.write(str(temporary / "fs"))
                        facts = {"size": fresh.size, "entries": len(fresh.entries), "implicit": [], "opaque": False}
                        content.place_layer(temporary, layer, facts)
                content.write_mark(_HOST, layer)
        lower = content.layer(layer)
        made = os.stat(lower.parent).st_mtime
        image = Image(
            host.NAME, f"sha256:{digits}", fresh.rootfs(str(lower)), config, fresh.size, made, origin="host"
        )  # fmt: skip
        self._host = (now, image)
        return image

    def _newest_host(self) -> str:
        """The id of the newest skeleton, so that the others can be collected; "" where there is none."""
        return self.content.read_mark(_HOST)


def parse_name(name: str) -> reference.Reference:
    """Reads a name.

    Raises:
        ImageError: InvalidImageName.
    """
    try:
        return reference.parse(name)
    except ValueError as error:
        raise ImageError(
            INVALID_IMAGE_NAME,
            f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {error}',
            code="spec",
        ) from None


def never_pull(name: str) -> ImageError:
    """There is no such image that may be used, and it must not be pulled."""
    return ImageError(
        ERR_IMAGE_NEVER_PULL,
        f'Container image "{name}" is not present with pull policy of Never',
        resolution=f"Bring it: nsrun image load FILE, "
        f"or nsrun image import {name} PATH (a root directory or a tar archive of one)",
    )


def not_here(name: str) -> ImageError:
    """There is no such image, and no registry to ask for it."""
    return ImageError(
        ERR_IMAGE_PULL,
        f'image "{name}" is not here, and no registry has it: names that begin with {_RESERVED}/ are nsrun\'s own',
        resolution=f"{HOST_IMAGE} is always there; nsrun image ls lists the others.",
    )


def _parsed(name: str) -> reference.Reference | None:
    try:
        return reference.parse(name)
    except ValueError:
        return None


def _repository(name: str) -> str:
    wanted = reference.parse(name)
    return f"{wanted.domain}/{wanted.path}"


def _granted(after: Sequence[Record], before: Sequence[Record], fresh: Sequence[Record]) -> list[Record]:
    """The index in which whoever might use an image before, by a name of the same repository, still may."""
    result = []
    for one in after:
        same = [other for other in (*before, *fresh) if other.digest == one.digest and _place(other) == _place(one)]
        access = one.access
        for other in same:
            access = joined(access, other.access)
        result.append(replace(one, access=access))
    return result


def _place(record: Record) -> str:
    return _repository(record.name) if record.name else record.source.partition("@")[0]


def _with(before: Sequence[Record], fresh: Sequence[Record]) -> list[Record]:
    """The index with new entries: a name is of one image only, and who loses its last name stays without one."""
    names = {one.name for one in fresh if one.name}
    result = [*(one for one in before if one.name not in names), *fresh]
    there = {one.digest for one in result}
    for one in before:
        if one.digest not in there:
            there.add(one.digest)
            result.append(replace(one, name=""))
    named = {one.digest for one in result if one.name}
    kept: dict[tuple[str, str], Record] = {}
    for one in result:
        if one.name or one.digest not in named:
            kept[one.name, one.digest] = one
    return list(kept.values())
