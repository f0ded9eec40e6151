"""Compressed streams, recognised by how they begin: gzip, bzip2, xz, zstd, or none. Read in pieces, with an end that is checked.

A stream that unpacks to very much more than it is cannot be told from an attack: beyond BOMB_SIZE, more than BOMB_RATIO times is refused.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any, Protocol

BOMB_SIZE = 1 << 30
BOMB_RATIO = 400
_CHUNK = 1 << 18

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = 0x184D2A50


class CompressionError(ValueError):
    """Damaged, cut off, or a bomb."""


class Reader(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def kind_of(start: bytes) -> str:
    """`gzip`, `bzip2`, `xz`, `zstd`, or "" for what is not compressed; `start` has at least six bytes of it."""
    for magic, kind in ((GZIP, "gzip"), (BZIP2, "bzip2"), (XZ, "xz"), (ZSTD, "zstd")):
        if start.startswith(magic):
            return kind
    if len(start) >= 4 and int.from_bytes(start[:4], "little") & ~0xF == _SKIPPABLE:
        return "zstd"
    return ""


class Plain:
    """A stream, decompressed. `kind` tells how it was compressed, `raw` and `size` count the bytes in and out.

    Several streams in a row (as pigz, pbzip2 and zstd -T write them) are one.

    Raises (in read):
        CompressionError: it is damaged, ends too early, or unpacks to too much.
    """

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._input = b""
        while len(self._input) < 6 and (piece := source.read(_CHUNK)):
            self._input += piece
        self.kind = kind_of(self._input)
        self.raw = len(self._input)
        self.size = 0
        self._decoder: Any = None
        self._finished = False

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        while not self._finished:
            data = self._step(size)
            if data:
                self.size += len(data)
                if self.size > BOMB_SIZE and self.size > BOMB_RATIO * self.raw:
                    raise CompressionError(
                        f"it unpacks to more than {BOMB_RATIO} times its size, and beyond {BOMB_SIZE >> 30} GiB"
                    )
                return data
        return b""

    def _more(self) -> bytes:
        data = self._source.read(_CHUNK)
        self.raw += len(data)
        return data

    def _step(self, size: int) -> bytes:
        if not self.kind:
            data, self._input = self._input or self._more(), b""
            if len(data) > size:
                data, self._input = data[:size], data[size:]
            self._finished = not data
            return data
        if self._decoder is None:
            self._input = self._input or self._more()
            # Behind the last stream some writers fill up with zeros (gzip(1) ignores them too).
            while self.raw and not self._input.strip(b"\0") and self.size:
                self._input = self._more()
                if not self._input:
                    break
            if not self._input:
                self._finished = True
                return b""
            self._decoder = _decoder(self.kind)
        fed = b""
        if self.kind == "gzip" or self._decoder.needs_input:
            # zlib gives back what it did not use; the others keep it inside.
            fed, self._input = self._input or self._more(), b""
            if not fed:
                raise CompressionError(f"{self.kind}: it ends in the middle")
        return self._decode(fed, size)

    def _decode(self, fed: bytes, size: int) -> bytes:
        decoder = self._decoder
        try:
            data: bytes = decoder.decompress(fed, size)
        except MemoryError:
            raise
        except Exception as error:  # zlib.error, LZMAError and ZstdError have no class in common, bz2 raises OSError
            raise CompressionError(f"{self.kind}: {error}") from error
        if decoder.eof:
            self._input = decoder.unused_data
            self._decoder = None
        elif self.kind == "gzip":
            self._input = decoder.unconsumed_tail
        return data


def _zlib() -> Any:
    """ISA-L's, which takes less than half the time, where it is to be had ready-made (see pyproject.toml); else Python's own."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("isal.isal_zlib")
    return importlib.import_module("zlib")


def _decoder(kind: str) -> Any:
    """A fresh decompressor. They are imported here: a server that unpacks nothing starts without them."""
    if kind == "gzip":
        return _zlib().decompressobj(wbits=31)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    if kind == "xz":
        import lzma

        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 << 20)
    from nsrun.images.zstd import decompressor

    return decompressor()
