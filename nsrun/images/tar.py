"""Tar archives as a stream of entries: ustar, GNU and pax, whatever they come from, in bounded memory.

Names are bytes, as the kernel has them. Nothing is believed: a header's checksum, its numbers and the length of what describes an entry
are checked, and a stream that ends early is an error. (tarfile of the standard library keeps every entry in memory, guesses at names that
are no UTF-8, and takes several times as long.)

Source: POSIX.1-2001 pax, GNU tar's manual "Basic Tar Format" and "Storing Sparse Files", Go's archive/tar for what real archives do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

BLOCK = 512
MAX_HEADER = 1 << 20
"""Bytes of one pax header or long name; Go refuses the same."""
MAX_ENTRIES = 2_000_000
"""Entries of one archive. A Debian's root has 10,000, an image with Anaconda 300,000, the sources of Android 1,300,000.

Two million files take minutes to write, and as many of the disk's inodes: what has more is refused there.
"""
MAX_SPARSE = 1 << 16
"""Pieces of one sparse file."""
_CHUNK = 1 << 18
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_FILES = (b"0", b"\0", b"7", b"S")
_WITHOUT_DATA = (HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)


class TarError(ValueError):
    """Not a whole tar archive, and why."""


class TooManyError(TarError):
    """More entries than anybody's root file system has."""


class Source(Protocol):
    """Where the bytes of an archive come from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Entry:
    """One entry. `mtime` in nanoseconds; `size` of a file as it is to be; `sparse` (offset, length) of what of it is data."""

    __slots__ = ("gid", "link", "mode", "mtime", "name", "size", "sparse", "type", "uid", "xattrs")

    def __init__(self) -> None:
        self.name = b""
        self.link = b""
        self.type = FILE
        self.mode = self.uid = self.gid = self.size = self.mtime = 0
        self.xattrs: dict[bytes, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None


class TarReader:
    """Reads an archive once, from front to back. After an entry was given, `data` gives its content; what is not taken is skipped.

    Args:
        source: the archive, decompressed.
        seek: skips so many bytes of the source, where that is cheaper than reading them.

    Raises (while iterating and in `data`):
        TarError: it is none, or has no end.
    """

    def __init__(self, source: Source, *, seek: Callable[[int], object] | None = None) -> None:
        self._source = source
        self._seek = seek
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}
        self.offset = 0
        """Bytes read so far."""

    def __iter__(self) -> Iterator[Entry]:
        entries = 0
        while (entry := self._next()) is not None:
            entries += 1
            if entries > MAX_ENTRIES:
                raise TooManyError(f"it has more than {MAX_ENTRIES} entries")
            yield entry
            self._skip(self._left + self._padding)
            self._left = self._padding = 0

    def data(self) -> bytes:
        """More of the present entry's content; nothing at its end."""
        if not self._left:
            return b""
        piece = self._some(min(self._left, _CHUNK))
        self._left -= len(piece)
        return piece

    # --- bytes -----------------------------------------------------------------------------------------------------------

    def _some(self, size: int) -> bytes:
        """Between one and `size` bytes."""
        have = len(self._buffer) - self._at
        if not have:
            self._buffer, self._at = self._source.read(_CHUNK), 0
            have = len(self._buffer)
            if not have:
                raise TarError("it ends in the middle")
        take = min(have, size)
        if take == have and not self._at:
            piece, self._buffer = self._buffer, b""
        else:
            piece = self._buffer[self._at : self._at + take]
            self._at += take
        self.offset += take
        return piece

    def _exactly(self, size: int) -> bytes:
        if len(self._buffer) - self._at >= size:
            piece = self._buffer[self._at : self._at + size]
            self._at += size
            self.offset += size
            return piece
        pieces = []
        while size:
            piece = self._some(size)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        have = len(self._buffer) - self._at
        if size > have and self._seek is not None:
            self._buffer, self._at = b"", 0
            self.offset += size
            self._seek(size - have)
            return
        while size:
            size -= len(self._some(min(size, _CHUNK)))

    def _block(self) -> bytes | None:
        """A header block, or None where the source is at its end."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._source.read(_CHUNK), 0
            if not self._buffer:
                return None
        return self._exactly(BLOCK)

    # --- headers ---------------------------------------------------------------------------------------------------------

    def _next(self) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        pairs: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        described = False
        while True:
            block = self._block()
            if block is None or not block.strip(b"\0"):
                # Two empty blocks end an archive; one, or the end of the stream, is all that some writers leave.
                if described:
                    raise TarError("it ends after the description of an entry")
                if block is None and not self.offset:
                    raise TarError("it is empty")
                self._drain()
                return None
            kind = self._check(block)
            size = _number(block[124:136])
            if kind not in b"xgLKX":
                break
            described = kind != b"g"
            if size > MAX_HEADER:
                raise TarError(f"an entry's description has {size} bytes")
            text = self._exactly(size)
            self._skip(-size % BLOCK)
            if kind == b"L":
                long_name = text.rstrip(b"\0")
            elif kind == b"K":
                long_link = text.rstrip(b"\0")
            elif kind == b"g":
                self._global |= dict(_records(text))
            else:
                pairs = _records(text)
                pax = dict(pairs)
        if self._global:
            pax = self._global | pax
        entry = self._entry(block, kind, size, pax)
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        if pax:
            self._apply(entry, pax, pairs)
        if b"\0" in entry.name or b"\0" in entry.link or any(b"\0" in key for key in entry.xattrs):
            raise TarError("there is a NUL character in a name")
        return entry

    def _drain(self) -> None:
        """To the end of the source: whoever checks its digest is to have seen all of it."""
        self.offset += len(self._buffer) - self._at
        self._buffer, self._at = b"", 0
        while piece := self._source.read(_CHUNK):
            self.offset += len(piece)

    def _check(self, block: bytes) -> bytes:
        """The type of a header whose checksum is right."""
        try:
            wanted = int(block[148:156].strip(b" \0") or b"0", 8)
        except ValueError:
            raise TarError("a header has no checksum") from None
        total = sum(block) - sum(block[148:156]) + 256
        if total != wanted:
            signed = total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
            if signed != wanted:
                raise TarError("a header's checksum is wrong")
        return block[156:157]

    def _entry(self, block: bytes, kind: bytes, size: int, pax: dict[bytes, bytes]) -> Entry:
        entry = Entry()
        entry.name = block[:100].partition(b"\0")[0]
        magic = block[257:263]
        if magic == b"ustar\0":
            prefix = block[345:500].partition(b"\0")[0]
            if prefix:
                entry.name = prefix + b"/" + entry.name
        entry.mode = _number(block[100:108]) & 0o7777
        entry.uid, entry.gid = _number(block[108:116]), _number(block[116:124])
        entry.mtime = _number(block[136:148], signed=True) * 1_000_000_000
        entry.link = block[157:257].partition(b"\0")[0]
        if kind in _FILES:
            # Before there was a type for them, directories were files whose names end so.
            entry.type = DIRECTORY if kind == b"\0" and entry.name.endswith(b"/") else FILE
        else:
            entry.type = kind
        if b"size" in pax:
            size = _decimal(pax[b"size"])
        if entry.type in _WITHOUT_DATA:
            size = 0
        entry.size = self._left = size
        self._padding = -size % BLOCK
        if kind == b"S":
            self._old_sparse(block, entry)
        return entry

    def _apply(self, entry: Entry, pax: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> None:
        for key, value in pax.items():
            if key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"uid":
                entry.uid = _decimal(value)
            elif key == b"gid":
                entry.gid = _decimal(value)
            elif key == b"mtime":
                entry.mtime = _time(value)
            elif key.startswith(_XATTR):
                entry.xattrs[key[len(_XATTR) :]] = value
        if any(key.startswith(_SPARSE) for key in pax):
            self._pax_sparse(entry, pax, pairs)

    # --- sparse files ----------------------------------------------------------------------------------------------------

    def _old_sparse(self, block: bytes, entry: Entry) -> None:
        pieces = _sparse_fields(block[386:482])
        more, entry.size = block[482], _number(block[483:495])
        while more:
            block = self._exactly(BLOCK)
            pieces += _sparse_fields(block[:504])
            more = block[504]
            if len(pieces) > MAX_SPARSE:
                raise TarError("a sparse file has too many pieces")
        self._set_sparse(entry, pieces)

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> None:
        if b"GNU.sparse.name" in pax:
            entry.name = pax[b"GNU.sparse.name"]
        if pax.get(b"GNU.sparse.major") == b"1":
            entry.size = _decimal(pax.get(b"GNU.sparse.realsize", b""))
            numbers = self._sparse_map()
        else:
            entry.size = _decimal(pax.get(b"GNU.sparse.size", b""))
            if b"GNU.sparse.map" in pax:
                numbers = [_decimal(word) for word in pax[b"GNU.sparse.map"].split(b",")]
            else:
                numbers = [
                    _decimal(value) for key, value in pairs if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
                ]
        if len(numbers) % 2 or len(numbers) > 2 * MAX_SPARSE:
            raise TarError("a sparse file's map is wrong")
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _sparse_map(self) -> list[int]:
        """Version 1.0: the map is in front of the data, one decimal number per line, padded to blocks."""
        text = b""
        while True:
            lines = text.split(b"\n")
            if len(lines) > 1 and len(lines) - 1 > 2 * (count := _decimal(lines[0])):
                return [_decimal(line) for line in lines[1 : 1 + 2 * count]]
            if self._left < BLOCK or len(text) > MAX_HEADER:
                raise TarError("a sparse file's map is wrong")
            text += self._exactly(BLOCK)
            self._left -= BLOCK

    def _set_sparse(self, entry: Entry, pieces: list[tuple[int, int]]) -> None:
        end = 0
        for offset, length in pieces:
            if offset < end or offset + length > entry.size:
                raise TarError("a sparse file's map is wrong")
            end = offset + length
        if sum(length for _, length in pieces) != self._left:
            raise TarError("a sparse file's map does not fit its data")
        entry.sparse = pieces


def _number(field: bytes, *, signed: bool = False) -> int:
    """A number of a header: octal digits, or base 256 where the first bit is set."""
    # Nearly all are digits to the last byte, which ends them.
    if field[-1] in b"\0 " and (digits := field[:-1]).isdigit():
        return _octal(digits)
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            if not signed:
                raise TarError("a header has a negative number")
            value -= 1 << (8 * len(field) - 1)
        if value.bit_length() > 63:
            raise TarError("a header has a number that is too large")
        return value
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    value = _octal(text)
    if value < 0:
        raise TarError("a header has a negative number")
    return value


def _octal(text: bytes) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise TarError("a header has something else in the place of a number") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise TarError(f"a pax header has {text[:40]!r} in the place of a number")
    return int(text)


def _time(text: bytes) -> int:
    """Nanoseconds of a pax time, which may have a fraction."""
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 12 or not (fraction or b"0").isdigit():
        raise TarError(f"a pax header has {text[:40]!r} in the place of a time")
    nanoseconds = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if whole.startswith(b"-") else nanoseconds


def _records(text: bytes) -> list[tuple[bytes, bytes]]:
    """The pairs of a pax header: `length key=value newline`, where the length counts all of it."""
    result = []
    at = 0
    while at < len(text):
        space = text.find(b" ", at, at + 20)
        digits = text[at:space]
        if space < 0 or not digits.isdigit():
            if not text[at:].strip(b"\0"):
                break
            raise TarError("a pax header is damaged")
        end = at + int(digits)
        if end > len(text) or end <= space or text[end - 1 : end] != b"\n":
            raise TarError("a pax header is damaged")
        key, equals, value = text[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise TarError("a pax header is damaged")
        result.append((key, value))
        at = end
    return result


def _sparse_fields(block: bytes) -> list[tuple[int, int]]:
    result = []
    for at in range(0, len(block) - 23, 24):
        field = block[at : at + 24]
        if not field.strip(b"\0"):
            break
        result.append((_number(field[:12]), _number(field[12:])))
    return result
