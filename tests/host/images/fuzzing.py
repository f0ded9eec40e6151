"""A fuzzer of the layer reader: layers bent in the places that matter, unpacked, and nothing may happen but a refusal or a tree.

python -m tests.host.images.fuzzing SECONDS [SEED]; `make fuzz` runs it in the test host.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from nsrun.errors import SpecError
from nsrun.images.compression import Plain
from nsrun.images.tar import BLOCK
from nsrun.images.unpack import NeedsBelow, Unpack
from tests.host.images.making import compressed, directory, entry, hard_link, layer, symlink, whiteout

FOUND = Path("build/fuzz.layer")
"""Where a layer is kept that did something else."""
_FIELDS = ((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
"""Of a header: name, mode, owner, group, size, time, type, link, magic, prefix."""
_NAMES = (
    b"..", b"../outside", b"/outside", b"a/../../outside", b"link/x", b"out/x", b"out", b".", b"", b"d", b"d/f", b".wh.d",
    b"d/.wh..wh..opq", b".wh.", b".wh...", b"dev/x", b"x" * 100, b"a/" * 50, b"\xff\xfe", b"d\n", b"/nix/../outside", b"proc",
    b"etc/hosts", b"below-link", b"below-link/d", b"below-link/new/x", b"way-out/secret", b"way-out/x", b"further/new", b".wh.below-link",
)  # fmt: skip
_NUMBERS = (
    b"", b"0", b"7777777", b"777777777777", b"-1", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80" + bytes(10) + b"\x01", b"00000001000",
    b"00000000777", b"9", b" 12 ",
)  # fmt: skip
_SECRET = "what no layer may have: a file outside, where a link below leads"
_TYPES = b"\x000123456789xgLKSXVDM"


def corpus() -> list[bytes]:
    """Whole layers to begin with."""
    sparse = tarfile.TarInfo("sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5000"}
    data = b"1\n4096\n4\n".ljust(512, b"\0") + b"data"
    sparse.size = len(data)
    entries = [
        directory("d", owner=(1, 2)),
        entry("d/f", data=b"x" * 700, mode=0o4755, xattrs={"user.note": b"x", "security.capability": b"\1" * 20}),
        symlink("link", "d"),
        symlink("out", "../../outside"),
        hard_link("d/g", "d/f"),
        whiteout("gone"),
        whiteout("d/f2"),
        entry("d/.wh..wh..opq"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("n" * 120 + "/" + "m" * 130, data=b"long"),
        (sparse, data),
    ]
    return [
        layer(entries),
        layer(entries[:-1], tarfile.GNU_FORMAT),
        layer([hard_link("h", "below/file"), entry("below-link/new", data=b"1")]),
        layer(
            [
                directory("below-link/d"),
                entry("below-link/d/e/f", data=b"x"),
                hard_link("below-link/d/g", "below-link/file"),
                whiteout("below-link/file"),
                entry("below-link/d/.wh..wh..opq"),
                hard_link("stolen", "way-out/secret"),
                directory("below-link"),
                entry("below-link/h", data=b"y"),
                whiteout("below-link"),
                symlink("below-link", "way-out"),
            ]
        ),
    ]


def bent(data: bytes, choice: random.Random) -> bytes:
    """A layer with some things changed; mostly its headers' checksums are right, or nothing would be looked at behind them."""
    buffer = bytearray(data)
    for _ in range(choice.randrange(1, 6)):
        at = choice.randrange(max(len(buffer) // BLOCK, 1)) * BLOCK
        match choice.randrange(8):
            case 0:
                where = choice.randrange(len(buffer) or 1)
                buffer[where : where + 1] = bytes([choice.randrange(256)])
            case 1:
                buffer[at : at + BLOCK] = b""
            case 2:
                buffer[at:at] = buffer[at : at + BLOCK]
            case 3:
                del buffer[choice.randrange(len(buffer) or 1) :]
            case 4:
                other = choice.randrange(max(len(buffer) // BLOCK, 1)) * BLOCK
                buffer[at : at + BLOCK], buffer[other : other + BLOCK] = (
                    buffer[other : other + BLOCK],
                    buffer[at : at + BLOCK],
                )
            case _:
                offset, size = choice.choice(_FIELDS)
                value = choice.choice(_NUMBERS if 100 <= offset < 156 else _NAMES)
                if offset == 156:
                    value = bytes([choice.choice(_TYPES)])
                buffer[at + offset : at + offset + size] = value[:size].ljust(size, b"\0")
    if choice.random() < 0.85:
        for at in range(0, len(buffer) - BLOCK + 1, BLOCK):
            if buffer[at + 257 : at + 262] == b"ustar":
                total = sum(buffer[at : at + 148]) + 256 + sum(buffer[at + 156 : at + BLOCK])
                buffer[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(buffer)


class _Pieces:
    """A stream in pieces of any size."""

    def __init__(self, data: bytes, choice: random.Random) -> None:
        self._data = data
        self._choice = choice

    def read(self, size: int, /) -> bytes:
        take = min(size, self._choice.choice((1, 511, 512, 4096, 1 << 18)))
        piece, self._data = self._data[:take], self._data[take:]
        return piece


def fuzz(seconds: float, seed: int, top: Path) -> int:
    """Unpacks bent layers for a while; gives how many.

    Args:
        top: a directory of its own.

    Raises:
        AssertionError: something was written outside, or a device was made.
        Exception: anything that is no refusal.
    """
    choice = random.Random(seed)
    whole = corpus()
    below = top / "below"
    (below / "below").mkdir(parents=True)
    (below / "below/file").write_text("below")
    (below / "below-link").symlink_to("below")
    (below / "further").symlink_to("/below-link/../below-link")
    outside = top / "outside"
    outside.mkdir()
    (outside / "secret").write_text(_SECRET)
    (below / "way-out").symlink_to(outside)
    before = sorted(os.listdir(top))
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = bent(choice.choice(whole), choice)
        form = choice.choice(("", "", "", "gzip", "zstd"))
        if form:
            packed = bytearray(compressed(data, form))
            if choice.random() < 0.3:
                packed[choice.randrange(len(packed))] ^= 1 << choice.randrange(8)
            data = bytes(packed)
        target = top / "target"
        target.mkdir()
        lowers = choice.choice((None, [], [str(below)]))
        try:
            Unpack(Plain(_Pieces(data, choice)), str(target), subject="fuzz", below=lowers).run()
        except (SpecError, NeedsBelow):
            pass
        except BaseException:
            FOUND.parent.mkdir(exist_ok=True)
            FOUND.write_bytes(data)
            print(f"fuzzing: seed {seed}, number {count}, kept in {FOUND}", file=sys.stderr)
            raise
        for found in target.rglob("*"):
            facts = found.lstat()
            assert not stat.S_ISBLK(facts.st_mode), found
            assert not stat.S_ISCHR(facts.st_mode) or facts.st_rdev == 0, found
            assert not stat.S_ISREG(facts.st_mode) or facts.st_size != len(_SECRET) or found.read_text() != _SECRET, (
                found
            )
        shutil.rmtree(target)
        assert sorted(os.listdir(top)) == before, "something was written beside the target"
        assert os.listdir(outside) == ["secret"]
        assert (below / "below/file").read_text() == "below"
        assert sorted(os.listdir(below)) == ["below", "below-link", "further", "way-out"]
        count += 1
    return count


def main() -> None:
    """As said above."""
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    with tempfile.TemporaryDirectory(prefix="nsrun-fuzz-") as top:
        print(f"== layers, {sys.argv[1]} s, seed {seed}", flush=True)
        print(f"{fuzz(float(sys.argv[1]), seed, Path(top))} layers")


if __name__ == "__main__":
    main()
