"""Images to a file that docker, podman, containerd, skopeo and nsrun load: OCI layout and docker-archive in one, as of docker save."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nsrun.errors import ConflictError, InternalError, StepError
from nsrun.images import reference
from nsrun.images.content import OCI_INDEX, REF_NAME
from nsrun.images.documents import Index, parse
from nsrun.images.image import Image
from nsrun.images.loading import CONTAINERD_NAME
from nsrun.images.pack import file_header
from nsrun.images.tar import BLOCK

if TYPE_CHECKING:
    from nsrun.images.store import ImageStore

_CHUNK = 1 << 20


def save(store: ImageStore, names: Iterable[str], fd: int) -> list[Image]:
    """Writes images to a descriptor, which may be a pipe.

    Raises:
        ImageError, NotFoundError, ConflictError: there is no such image, or it cannot be saved.
        StepError: it cannot be read or written.
    """
    images = [store.get(name) for name in names]
    for image in images:
        if image.origin == "host":
            raise ConflictError(f"cannot save {image.name}: it is this machine's own file system")
    # Nothing is removed meanwhile.
    with store.content.adding():
        _Writer(store, fd).run(images)
    return images


class _Writer:
    def __init__(self, store: ImageStore, fd: int) -> None:
        self._store = store
        self._fd = fd
        self._written: set[str] = set()

    def run(self, images: list[Image]) -> None:
        entries: dict[str, dict[str, Any]] = {}
        descriptors = []
        for image in images:
            document = self._store.content.document(image.digest)
            manifest = parse(document, image.digest)
            if isinstance(manifest, Index):
                raise InternalError(f"{image.digest} is an index")
            for blob in (image.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)):
                self._blob(blob)
            descriptors.append(_descriptor(image, document))
            entry = entries.setdefault(
                image.digest,
                {
                    "Config": _path(manifest.config.digest),
                    "RepoTags": [],
                    "Layers": [_path(layer.digest) for layer in manifest.layers],
                },
            )
            if image.name:
                entry["RepoTags"].append(_familiar(image.name))
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}
        self._file("index.json", json.dumps(index).encode())
        self._file("manifest.json", json.dumps(list(entries.values())).encode())
        self._file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self._write(bytes(2 * BLOCK))

    def _blob(self, digest: str) -> None:
        if digest in self._written:
            return
        self._written.add(digest)
        path = self._store.content.blob(digest)
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                self._write(file_header(_path(digest).encode(), size))
                left = size
                while left and (data := file.read(min(left, _CHUNK))):
                    self._write(data)
                    left -= len(data)
        except OSError as error:
            raise StepError("read", str(path), error.errno or 0) from error
        if left:
            raise InternalError(f"{path} became shorter")
        self._write(bytes(-size % BLOCK))

    def _file(self, name: str, data: bytes) -> None:
        self._write(file_header(name.encode(), len(data)) + data + bytes(-len(data) % BLOCK))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise StepError("write", "the archive", error.errno or 0) from error


def _descriptor(image: Image, document: bytes) -> dict[str, Any]:
    kind = json.loads(document).get("mediaType") or "application/vnd.oci.image.manifest.v1+json"
    result: dict[str, Any] = {"mediaType": kind, "digest": image.digest, "size": len(document)}
    if image.name:
        tag = reference.parse(image.name).tag
        result["annotations"] = {CONTAINERD_NAME: image.name} | ({REF_NAME: tag} if tag else {})
    return result


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _familiar(name: str) -> str:
    parsed = reference.parse(name)
    return parsed.familiar if parsed.tag != "latest" else f"{parsed.familiar}:latest"
