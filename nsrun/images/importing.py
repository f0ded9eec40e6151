"""Images made of root file systems: a directory, or a tar archive of one."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import TYPE_CHECKING

from nsrun.errors import SpecError, StepError
from nsrun.images.compression import Reader
from nsrun.images.content import OCI_MANIFEST
from nsrun.images.documents import OCI_CONFIG, Descriptor, made_config, made_manifest, platform_of
from nsrun.images.image import Image
from nsrun.images.layers import Layers
from nsrun.images.pack import Pack
from nsrun.plan.image import ImageConfig

if TYPE_CHECKING:
    from nsrun.images.store import ImageStore


def import_root(store: ImageStore, name: str, path: str, config: ImageConfig) -> Image:
    """Makes an image of what is at `path`: see ImageStore.import_."""
    check_config(config)
    content = store.content
    subject = f"cannot import {path}"
    try:
        with content.adding(), contextlib.ExitStack() as stack:
            content.sweep()
            source: Reader
            try:
                if os.path.isdir(path):
                    if _is_below(str(content.directory), path):
                        raise SpecError(f"{subject}: nsrun's own images lie in it")
                    source = Pack(path, subject=subject)
                else:
                    source = stack.enter_context(open(path, "rb", buffering=0))
            except OSError as error:
                raise StepError("import", path, error.errno or 0) from error
            layers = Layers(content, subject)
            layer = layers.take(source)
            lowers = layers.stack([layer])
            _check_root(subject, content.layer(lowers[0]))
            document = made_config(config, [layer.diff_id], platform_of(platform.machine()))
            about = Descriptor(OCI_CONFIG, content.add_document(document), len(document))
            manifest = made_manifest(about, [layer.blob])
            digest = content.add_document(manifest)
            return store.add([name], digest, len(manifest), OCI_MANIFEST, lowers, origin="import")
    except BaseException:
        with contextlib.suppress(StepError):
            store.remove_garbage()
        raise


def check_config(config: ImageConfig) -> None:
    """Refuses what no process can be made of.

    Raises:
        SpecError: what is wrong.
    """
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


def _check_root(subject: str, root: os.PathLike[str]) -> None:
    """Refuses what is plainly something else than a root file system."""
    names = set(os.listdir(root))
    if not names:
        raise SpecError(f"{subject}: there is nothing in it")
    if names & {"oci-layout", "manifest.json"} and not names & {"bin", "usr", "etc"}:
        raise SpecError(
            f"{subject}: this is an image with its layers, not a root file system",
            details="docker save and podman save make such archives.",
            resolution="Load it instead: nsrun image load FILE",
        )
