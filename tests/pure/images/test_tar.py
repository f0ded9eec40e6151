"""The reader of archives: what others write is read as it was meant, and what is damaged is refused and nothing else."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.errors import NsrunError, SpecError
from nsrun.images.compression import CompressionError, Plain
from nsrun.images.pack import Pack
from nsrun.images.tar import Entry, TarError, TarReader
from nsrun.images.unpack import Unpack


class Drip:
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def read(data: bytes, step: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    """All entries with their contents."""
    reader = TarReader(Drip(data, step))
    result = []
    for entry in reader:
        content = b""
        while piece := reader.data():
            content += piece
        result.append((entry, content))
    return result


def archive(form: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


MEMBERS = [
    member("d/", tarfile.DIRTYPE, mode=0o1777, uid=7, gid=8, mtime=1_600_000_000),
    member("d/" + "x" * 120 + "/" + "y" * 140, data=b"long", mode=0o4755),
    member("d/link", tarfile.SYMTYPE, linkname="z" * 150),
    member("d/hard", tarfile.LNKTYPE, linkname="d/" + "x" * 120 + "/" + "y" * 140),
    member("empty"),
    member("big", data=os.urandom(700_001)),
    member("uml\u00e4ut", data=b"u"),
    member("bytes-\udcff", data=b"b"),
    member("pipe", tarfile.FIFOTYPE),
]


@pytest.mark.parametrize("step", [1 << 20, 1000, 511])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes(form: int, step: int) -> None:
    found = read(archive(form, MEMBERS), step)
    assert [os.fsdecode(entry.name) for entry, _ in found] == [
        info.name + ("/" if info.isdir() and not info.name.endswith("/") else "") for info, _ in MEMBERS
    ]
    for (entry, content), (info, data) in zip(found, MEMBERS, strict=True):
        assert (content, entry.type, entry.mode, entry.size) == (data, info.type, info.mode, info.size)
        assert (entry.uid, entry.gid, entry.mtime) == (info.uid, info.gid, int(info.mtime) * 10**9)
        assert os.fsdecode(entry.link) == info.linkname


def test_numbers_of_every_size() -> None:
    info = member("x", data=b"x", uid=3_000_000_000, gid=4_000_000_000, mtime=-5.25)[0]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        if form == tarfile.GNU_FORMAT:
            info.mtime = -5
        ((entry, _),) = read(archive(form, [(info, b"x")]))
        assert (entry.uid, entry.gid) == (3_000_000_000, 4_000_000_000)
        assert entry.mtime == int(info.mtime * 10**9)
        info.mtime = -5.25


@pytest.mark.parametrize(
    "form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax --sparse-version=1.0"]
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "holes").open("wb") as file:
        for at in range(40):
            file.seek(at * 200_000)
            file.write(b"%02d" % at * 3000)
        file.truncate(9_000_000)
    words = ["tar", "-S", f"--format={form.split()[0]}", *form.split()[1:], "-cf", "-", "-C", str(source), "."]
    packed = subprocess.run(words, check=True, capture_output=True).stdout
    assert len(packed) < 2_000_000, "it is sparse"
    target = tmp_path / "target"
    target.mkdir()
    Unpack(io.BytesIO(packed), str(target), subject="cannot").run()
    assert (target / "holes").read_bytes() == (source / "holes").read_bytes()
    assert (target / "holes").stat().st_blocks * 512 < 5_000_000


def test_what_pack_writes_tar_reads(tmp_path: Path) -> None:
    (tmp_path / "source/d").mkdir(parents=True)
    (tmp_path / "source/d" / ("n" * 200)).write_bytes(b"x" * 1000)
    (tmp_path / "source/link").symlink_to("l" * 180)
    pack = Pack(str(tmp_path / "source"), subject="cannot")
    data = b""
    while piece := pack.read(777):
        data += piece
    (tmp_path / "target").mkdir()
    subprocess.run(["tar", "-xf", "-", "-C", str(tmp_path / "target")], input=data, check=True)
    assert (tmp_path / "target/d" / ("n" * 200)).read_bytes() == b"x" * 1000
    assert os.readlink(tmp_path / "target/link") == "l" * 180


WHOLE = archive(tarfile.PAX_FORMAT, MEMBERS[:5] + MEMBERS[6:])


@pytest.mark.parametrize("cut", range(0, len(WHOLE.rstrip(b"\0")), 389))
def test_an_archive_that_ends_early_is_never_taken_for_a_whole_one(cut: int) -> None:
    whole = [(entry.name, content) for entry, content in read(WHOLE)]
    try:
        found = read(WHOLE[:cut])
    except TarError:
        return
    # Between two entries nobody can tell: then what there is is right.
    assert cut % 512 == 0
    assert [(entry.name, content) for entry, content in found] == whole[: len(found)]


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6),
    st.integers(1, 4000),
)
@settings(max_examples=400, deadline=None)
def test_damage_is_an_error_of_the_archive_or_nothing(damage: list[tuple[int, bytes]], step: int) -> None:
    data = bytearray(WHOLE)
    for at, wrong in damage:
        data[at : at + len(wrong)] = wrong
    with contextlib.suppress(TarError):
        read(bytes(data), step)


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_bytes_of_any_kind(data: bytes) -> None:
    with contextlib.suppress(TarError):
        read(data)


PLAIN = b"".join(b"%d\n" % at for at in range(60_000))
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
    "": bytes,
}


@pytest.mark.parametrize("step", [1 << 20, 999, 7])
@pytest.mark.parametrize("kind", PACKED)
def test_every_compression_in_one_stream_and_in_several(kind: str, step: int) -> None:
    data = PLAIN[:20_000] if step == 7 else PLAIN
    for packed in (PACKED[kind](data), PACKED[kind](data[:5000]) + PACKED[kind](data[5000:])):
        plain = Plain(Drip(packed, step))
        found = b""
        while piece := plain.read(10_000):
            found += piece
            assert len(piece) <= 10_000
        assert found == data
        assert (plain.kind, plain.raw, plain.size) == (kind, len(packed), len(data))


@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_stream_that_was_cut_off(kind: str, keep: float) -> None:
    packed = PACKED[kind](PLAIN)
    plain = Plain(io.BytesIO(packed[: int(len(packed) * keep)]))
    with pytest.raises(CompressionError):
        while plain.read(1 << 16):
            pass


def test_zeros_behind_a_gzip_stream_are_no_damage() -> None:
    plain = Plain(io.BytesIO(gzip.compress(b"x" * 100) + bytes(700)))
    found = b""
    while piece := plain.read(1000):
        found += piece
    assert found == b"x" * 100


@given(st.sampled_from(sorted(PACKED)), st.integers(0, 400), st.binary(min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_damaged_streams(kind: str, at: int, wrong: bytes) -> None:
    packed = bytearray(PACKED[kind](b"some text " * 300))
    packed[at : at + len(wrong)] = wrong
    plain = Plain(io.BytesIO(bytes(packed)))
    try:
        while plain.read(1000):
            pass
    except CompressionError:
        pass


def test_too_many_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsrun.images.unpack.MAX_DIRECTORIES", 20)
    data = archive(tarfile.PAX_FORMAT, [member(f"d{at}/x") for at in range(40)])
    with pytest.raises(NsrunError, match="more than 20 directories"):
        Unpack(io.BytesIO(data), str(tmp_path), subject="cannot").run()


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsrun.images.tar.MAX_ENTRIES", 20)
    with pytest.raises(TarError, match="more than 20 entries"):
        read(archive(tarfile.PAX_FORMAT, [member(f"f{at}") for at in range(40)]))


def test_a_description_without_end() -> None:
    huge = archive(tarfile.PAX_FORMAT, [member("x" * 3_000_000)])
    with pytest.raises(TarError, match="description has"):
        read(huge)


def test_an_attribute_whose_name_has_a_nul_character(tmp_path: Path) -> None:
    info = tarfile.TarInfo("f")
    info.pax_headers = {"SCHILY.xattr.user.nXte": "x"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info)
    with pytest.raises(SpecError, match="NUL character"):
        Unpack(io.BytesIO(buffer.getvalue().replace(b"user.nXte", b"user.n\0te")), str(tmp_path), subject="x").run()
