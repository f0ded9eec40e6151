"""Images from files: docker-archive, OCI archive and OCI layout directory, several images in one, whoever wrote them.

What a file says about itself is checked like what a registry says: digests and sizes, and each layer against the image's config.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsrun.errors import NotFoundError, NsrunError, SpecError, StepError, UsageError
from nsrun.images import reference
from nsrun.images.boxes import Box, Directory, archive_of, read
from nsrun.images.compression import Reader
from nsrun.images.content import MAX_DOCUMENT, OCI_MANIFEST, REF_NAME, digest_of
from nsrun.images.documents import (
    OCI_CONFIG,
    Config,
    Descriptor,
    Index,
    Manifest,
    choose,
    made_manifest,
    parse,
    parse_config,
    platform_of,
)
from nsrun.images.image import Image
from nsrun.images.layers import Layer, Layers

if TYPE_CHECKING:
    from nsrun.images.store import ImageStore

CONTAINERD_NAME = "io.containerd.image.name"
_MAX_DEPTH = 4
_MAX_IMAGES = 1000


@dataclass(frozen=True, slots=True)
class _Found:
    """An image in a file, its layers at `paths`. Of a docker-archive there are no descriptors of layers and no manifest (`document`)."""

    names: tuple[str, ...]
    config: bytes
    paths: tuple[str, ...]
    layers: tuple[Descriptor, ...] = ()
    document: bytes = b""
    media_type: str = OCI_MANIFEST


def load(store: ImageStore, path: str, *, fd: int | None = None, name: str | None = None) -> list[Image]:
    """Makes images of all that a file holds.

    Args:
        path: of a file or directory, or how errors name `fd`.
        fd: what to read instead; a pipe will do.
        name: what the image is to be called; only where there is one in the file.

    Raises:
        SpecError: it holds no images, or they are damaged. None of them is kept.
        NotFoundError: there is no such file.
        StepError: it cannot be read, or the disk is full.
    """
    subject = f"cannot load {path}"
    chosen = None if name is None else store.name_for("load", name)
    try:
        with store.content.adding(), contextlib.ExitStack() as stack:
            store.content.sweep()
            temporary = stack.enter_context(store.content.fresh())
            try:
                box = stack.enter_context(_box(path, fd, temporary))
                found = list(_images(box))
                if not found:
                    raise SpecError("there is no image in it")
                if chosen is not None and len(found) > 1:
                    raise UsageError(f"there are {len(found)} images in it, and one name")
                ready = [_take(store, box, one, Layers(store.content, subject)) for one in found]
            except (SpecError, UsageError) as error:
                if error.brief.startswith(subject):
                    raise
                raise type(error)(
                    f"{subject}: {error.brief}", details=error.details, resolution=error.resolution
                ) from error
            return [
                image
                for one, (manifest, lowers) in zip(found, ready, strict=True)
                for image in _name(store, one, manifest, lowers, chosen)
            ]
    except BaseException:
        with contextlib.suppress(NsrunError):
            store.remove_garbage()
        raise


@contextlib.contextmanager
def _box(path: str, fd: int | None, temporary: Path) -> Iterator[Box]:
    if fd is None and os.path.isdir(path):
        yield Directory(path)
        return
    try:
        own = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if fd is None else os.dup(fd)
    except FileNotFoundError:
        raise NotFoundError(f"cannot load {path}: there is no such file") from None
    except OSError as error:
        raise StepError("load", path, error.errno or 0) from error
    try:
        with archive_of(own, path, temporary) as archive:
            yield archive
    finally:
        os.close(own)


def _json(box: Box, name: str) -> Any:
    try:
        return json.loads(read(box, name, MAX_DOCUMENT))
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name} is no JSON: {error}") from None


def _images(box: Box) -> Iterator[_Found]:
    """The images in a file. Where it is of both kinds, as docker save writes it now, names come from both."""
    docker = _docker_entries(box) if box.has("manifest.json") else []
    if box.has("index.json"):
        tags: dict[str, list[str]] = {}
        for entry in docker:
            tags.setdefault(_blob_of(entry["Config"]), []).extend(entry["RepoTags"])
        yield from _oci_images(box, tags)
    elif docker:
        for entry in docker:
            config = read(box, entry["Config"], MAX_DOCUMENT)
            yield _Found(tuple(_normal(one) for one in entry["RepoTags"]), config, tuple(entry["Layers"]))
    elif box.has("repositories"):
        raise SpecError(
            "this is an archive of a Docker before 1.10, whose images have no digests",
            resolution="docker load it somewhere, and docker save it again.",
        )
    else:
        raise SpecError(
            "there is neither a manifest.json nor an index.json in it",
            details="Understood are archives of docker save and podman save, and OCI layouts, in an archive or a directory.",
            resolution="A root file system becomes an image with: nsrun image import NAME PATH",
        )


def _blob_of(path: str) -> str:
    """The digest that the name of a config's file in a docker-archive stands for."""
    return "sha256:" + path.rpartition("/")[2].removesuffix(".json")


def _docker_entries(box: Box) -> list[dict[str, Any]]:
    entries = _json(box, "manifest.json")
    if not isinstance(entries, list) or len(entries) > _MAX_IMAGES:
        raise SpecError("its manifest.json is no list of images")
    result = []
    for entry in entries:
        try:
            config, layers, tags = entry["Config"], entry["Layers"], entry.get("RepoTags") or []
            if not all(isinstance(one, str) for one in (config, *layers, *tags)):
                raise TypeError
        except (KeyError, TypeError, AttributeError):
            raise SpecError("its manifest.json describes no image") from None
        result.append({"Config": config, "Layers": layers, "RepoTags": tags})
    return result


def _normal(name: str) -> str:
    try:
        return str(reference.parse(name))
    except ValueError as error:
        raise SpecError(f"the image in it is called {name!r}: {error}") from None


def _oci_images(box: Box, tags: dict[str, list[str]]) -> Iterator[_Found]:
    index = parse(read(box, "index.json", MAX_DOCUMENT), "its index.json")
    if not isinstance(index, Index) or len(index.manifests) > _MAX_IMAGES:
        raise SpecError("its index.json is no index of images")
    merged: dict[str, _Found] = {}
    for entry in index.manifests:
        digest, document, manifest = _manifest(box, entry)
        config = _checked(box, manifest.config)
        names = [*_names(entry), *(_normal(one) for one in tags.get(manifest.config.digest, ()))]
        before = merged[digest].names if digest in merged else ()
        merged[digest] = _Found(
            tuple(dict.fromkeys((*before, *names))),
            config,
            tuple(_path(layer.digest) for layer in manifest.layers),
            manifest.layers,
            document,
            entry.media_type if entry.digest == digest else _type_of(document),
        )
    yield from merged.values()


def _names(entry: Descriptor) -> list[str]:
    """The name that an index gives an image. A reference that is only a tag, as skopeo and umoci write it, names nothing."""
    notes = entry.annotations or {}
    name, tag = notes.get(CONTAINERD_NAME), notes.get(REF_NAME)
    if isinstance(name, str):
        return [_normal(name)]
    if isinstance(tag, str) and ("/" in tag or ":" in tag):
        with contextlib.suppress(SpecError):
            return [_normal(tag)]
    return []


def _type_of(document: bytes) -> str:
    kind = json.loads(document).get("mediaType")
    return kind if isinstance(kind, str) else OCI_MANIFEST


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _checked(box: Box, blob: Descriptor) -> bytes:
    if blob.size > MAX_DOCUMENT:
        raise SpecError(f"{blob.digest} has {blob.size} bytes, and {MAX_DOCUMENT} are allowed")
    data = read(box, _path(blob.digest), blob.size)
    if digest_of(data) != blob.digest:
        raise SpecError(f"{blob.digest} in it is damaged: its contents are {digest_of(data)}")
    return data


def _manifest(box: Box, entry: Descriptor) -> tuple[str, bytes, Manifest]:
    """The manifest that an entry of the index leads to, by way of at most a few others."""
    for _ in range(_MAX_DEPTH):
        document = _checked(box, entry)
        parsed = parse(document, entry.digest, entry.media_type)
        if isinstance(parsed, Manifest):
            return entry.digest, document, parsed
        there = Index(tuple(one for one in parsed.manifests if box.has(_path(one.digest))))
        entry = choose(there, platform_of(platform.machine()), entry.digest)
    raise SpecError("its index.json leads from index to index")


def _take(store: ImageStore, box: Box, found: _Found, layers: Layers) -> tuple[Descriptor, tuple[str, ...]]:
    """Keeps the blobs and layers of an image; gives its manifest and what is to be stacked."""
    config = parse_config(found.config, "its config")
    if len(config.diff_ids) != len(found.paths):
        raise SpecError(f"its config speaks of {len(config.diff_ids)} layers, and it has {len(found.paths)}")
    kept = [_layer(store, box, found, config, at, layers) for at in range(len(found.paths))]
    lowers = layers.stack(kept)
    about = Descriptor(OCI_CONFIG, store.content.add_document(found.config), len(found.config))
    document = found.document or made_manifest(about, [layer.blob for layer in kept])
    return Descriptor(found.media_type, store.content.add_document(document), len(document)), lowers


def _layer(store: ImageStore, box: Box, found: _Found, config: Config, at: int, layers: Layers) -> Layer:
    expected = found.layers[at] if found.layers else None
    diff_id = config.diff_ids[at]
    content = store.content
    if expected is not None and content.has_blob(expected.digest, expected.size) and content.has_layer(diff_id[7:]):
        return Layer(expected, diff_id, diff_id[7:])
    opened: Reader
    with box.open(found.paths[at]) as opened:
        return layers.take(opened, expected=expected, diff_id=diff_id)


def _name(
    store: ImageStore, found: _Found, manifest: Descriptor, lowers: tuple[str, ...], chosen: str | None
) -> list[Image]:
    names = found.names if chosen is None else (chosen,)
    image = store.add(names, manifest.digest, manifest.size, manifest.media_type, lowers, origin="load")
    return [store.get(name) for name in names] or [image]
