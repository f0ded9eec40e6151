"""Images made by hand with the standard library alone, and a look at trees that compares everything."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backports import zstd

from nsrun import native
from nsrun.images import Image, ImageStore

Entry = tuple[tarfile.TarInfo, bytes]
FORMS = {"": "", "gzip": "+gzip", "zstd": "+zstd"}


def entry(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    *,
    data: bytes = b"",
    link: str = "",
    mode: int = 0o644,
    owner: tuple[int, int] = (0, 0),
    mtime: float = 1_600_000_000,
    xattrs: dict[str, bytes] | None = None,
) -> Entry:
    """An entry of a layer."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size, info.mtime = kind, link, mode, len(data), mtime
    info.uid, info.gid = owner
    if xattrs:
        info.pax_headers = {
            f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in xattrs.items()
        }
    return info, data


def directory(name: str, mode: int = 0o755, **more: Any) -> Entry:
    """A directory."""
    return entry(name, tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, text: str, **more: Any) -> Entry:
    """A symbolic link."""
    return entry(name, tarfile.SYMTYPE, link=text, mode=0o777, **more)


def hard_link(name: str, target: str) -> Entry:
    """A hard link."""
    return entry(name, tarfile.LNKTYPE, link=target)


def whiteout(name: str) -> Entry:
    """`name` is gone."""
    above, _, last = name.rpartition("/")
    return entry(f"{above}/.wh.{last}" if above else f".wh.{last}")


def layer(entries: Sequence[Entry], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A layer of these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as file:
        for info, data in entries:
            file.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def compressed(data: bytes, form: str) -> bytes:
    """A layer in one of the forms that OCI knows."""
    if form == "gzip":
        return gzip.compress(data, mtime=0)
    return zstd.compress(data) if form == "zstd" else data


class Layout:
    """An OCI layout directory that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifests: list[dict[str, Any]] = []
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.write()

    def write(self) -> None:
        """Writes the index."""
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Adds a blob; gives its descriptor."""
        digits = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digits).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digits}", "size": len(data)}

    def image(
        self,
        name: str,
        layers: Sequence[bytes],
        form: str = "gzip",
        *,
        process: dict[str, Any] | None = None,
        architecture: str = "amd64",
    ) -> dict[str, Any]:
        """Adds an image; gives its descriptor."""
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-05-06T07:08:09.123456789Z",
            "config": process or {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]},
            "history": [{"created": "2024-05-06T07:08:09Z", "created_by": f"step {at}"} for at in range(len(layers))],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [
                self.blob(compressed(one, form), f"application/vnd.oci.image.layer.v1.tar{FORMS[form]}")
                for one in layers
            ],
        }
        made = self.blob(json.dumps(manifest).encode(), manifest["mediaType"])  # type: ignore[arg-type]  # it is a str
        self.manifests.append({**made, "annotations": {"org.opencontainers.image.ref.name": name}})
        self.write()
        return made


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """All that counts of every entry below a directory and of itself, by path."""
    result: dict[str, tuple[object, ...]] = {}
    links: dict[tuple[int, int], str] = {}
    for above, directories, files in os.walk(os.fsencode(root)):
        for name in [b"."] * (above == os.fsencode(root)) + sorted(directories) + sorted(files):
            path = os.path.join(above, name)
            shown = os.fsdecode(os.path.relpath(path, os.fsencode(root)))
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            same = links.setdefault((status.st_dev, status.st_ino), shown) if kind != stat.S_IFDIR else shown
            xattrs = {
                one: os.getxattr(path, one, follow_symlinks=False)
                for one in os.listxattr(path, follow_symlinks=False)
                if not one.startswith(("trusted.overlay.", "security.selinux"))
            }
            result[shown] = (
                kind,
                oct(stat.S_IMODE(status.st_mode)),
                status.st_uid,
                status.st_gid,
                int(status.st_mtime),
                content,
                same,
                sorted(xattrs.items()),
            )
    return result


@contextmanager
def mounted(lowers: Sequence[str], at: Path) -> Iterator[Path]:
    """The layers as the kernel's overlay shows them."""
    at.mkdir()
    fs = native.fsopen("overlay")
    try:
        for lower in lowers:
            native.fsconfig_string(fs, "lowerdir+", lower)
        native.fsconfig_create(fs)
        tree_fd = native.fsmount(fs)
        try:
            native.move_mount(tree_fd, at)
        finally:
            os.close(tree_fd)
    finally:
        os.close(fs)
    try:
        yield at
    finally:
        native.umount2(at)
        at.rmdir()


def umoci_unpack(layout: Path, tag: str, bundle: Path) -> Path:
    """The root file system as umoci unpacks it."""
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{tag}", str(bundle)], check=True, capture_output=True)
    return bundle / "rootfs"


def image_here(store: ImageStore, name: str, policy: str = "") -> Image:
    """An image of the store that need not be pulled."""
    found = store.look(name, policy)
    assert found is not None, name
    return found
