"""The caller's manifests as documents: files, directories, standard input, text and objects."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nsrun.errors import SpecError, StepError, UsageError

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024
"""Kubernetes itself takes at most 3 MiB in a request; a stream of many documents may be somewhat larger."""

Document = dict[str, str]
Manifest = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]


def read(paths: Sequence[str], *, recursive: bool = False) -> list[Document]:
    """Read files, directories (their .yaml, .yml and .json files by name) and `-`, standard input.

    Args:
        paths: what the user named, in that order.
        recursive: go down into directories of directories.

    Raises:
        StepError: a file that cannot be read.
        SpecError: a file that is no text, is too large, or a directory without a manifest.
        UsageError: `-` twice, or an address instead of a file.
    """
    if list(paths).count("-") > 1:
        raise UsageError("standard input can be read once, but - is given more than once")
    documents: list[Document] = []
    for path in paths:
        if path == "-":
            documents.append({"name": "-", "text": decode("standard input", sys.stdin.buffer.read(MAX_BYTES + 1))})
        elif path.startswith(("http://", "https://")):
            raise UsageError(
                f"{path} is an address; nsrun reads files",
                resolution=f"curl -fsSL {path} | nsrun pod up -",
            )
        elif os.path.isdir(path):
            found = sorted(in_directory(path, recursive=recursive))
            if not found:
                raise SpecError(
                    f"directory {path} has no manifest",
                    details=f"Files that end in {', '.join(SUFFIXES)} are read"
                    + (" in it and below." if recursive else " in it, not below."),
                    resolution=None if recursive else "With --recursive its directories are read too.",
                )
            documents += [read_file(name) for name in found]
        else:
            documents.append(read_file(path))
    return documents


def in_directory(path: str, *, recursive: bool) -> Iterator[str]:
    """The manifests in a directory."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    if recursive:
                        yield from in_directory(entry.path, recursive=True)
                elif entry.name.endswith(SUFFIXES):
                    yield entry.path
    except OSError as error:
        raise StepError("read directory", path, error.errno or 0) from error


def read_file(path: str) -> Document:
    """One file as a document."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            os.set_blocking(file.fileno(), True)
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise too_large(path, size)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    return {"name": path, "text": decode(path, data)}


def unreadable(path: str, error: OSError) -> StepError:
    """The error for a file that cannot be read."""
    failure = StepError("read", path, error.errno or 0, what="no manifest")
    if error.errno == errno.ENOENT:
        where = os.path.dirname(os.path.abspath(path))
        failure.details = (
            f"Names are taken from {where}." if os.path.isdir(where) else f"There is no directory {where}."
        )
        failure.resolution = "Give a manifest's file, a directory, or - for standard input."
    return failure


def too_large(name: str, size: int | None) -> SpecError:
    """The error for a manifest beyond MAX_BYTES."""
    much = f"{size} bytes" if size is not None else f"more than {MAX_BYTES} bytes"
    return SpecError(
        f"{name} is {much}; a manifest may have {MAX_BYTES}",
        details="Kubernetes takes at most 3 MiB in one request.",
        resolution="Is it a manifest? Large data belongs into a volume or an image.",
    )


def decode(name: str, data: bytes) -> str:
    """The text of a manifest: UTF-8, or UTF-16 with a byte order mark as YAML allows."""
    if len(data) > MAX_BYTES:
        raise too_large(name, None)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{name}:{line}: not text: byte {error.start} (0x{data[error.start]:02x}) is no {encoding.upper()[:6].rstrip('-')}",
            resolution="A manifest is YAML or JSON in UTF-8.",
        ) from error
    nul = text.find("\0")
    if nul >= 0:
        raise SpecError(
            f"{name}:{text.count(chr(10), 0, nul) + 1}: not text: it holds a NUL byte",
            resolution="A manifest is YAML or JSON in UTF-8.",
        )
    return text


def of(manifest: Manifest) -> list[Document]:
    """What a caller of the library gives as a manifest.

    Args:
        manifest: a path; or text, which is a str that holds a line break or begins with `{`; or an object as a mapping;
            or several of those as a sequence.

    Raises:
        StepError, SpecError, UsageError: as `read`.
    """
    if isinstance(manifest, os.PathLike):
        return read([os.fspath(manifest)])
    if isinstance(manifest, str):
        if "\n" in manifest or manifest.lstrip().startswith("{"):
            return [{"name": "<text>", "text": manifest}]
        return read([manifest])
    if isinstance(manifest, Mapping):
        return [{"name": "<object>", "text": as_json(manifest)}]
    if isinstance(manifest, Sequence):
        return [{"name": f"<object {i}>", "text": as_json(one)} for i, one in enumerate(manifest)]
    raise UsageError(f"a manifest is a path, text or a mapping, not {type(manifest).__name__}")


def as_json(one: object) -> str:
    """An object as a document's text; JSON is YAML."""
    try:
        return json.dumps(one)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(
            f"the object is no manifest: {error}", resolution="Use strings, numbers, lists and dicts."
        ) from error


def looks_like_file(word: str) -> bool:
    """Whether a word that may name a pod or a file means a file: `-`, a path with `/`, a manifest's suffix."""
    return word == "-" or "/" in word or word.endswith(SUFFIXES)
