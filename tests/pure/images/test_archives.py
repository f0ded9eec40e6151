"""Archives: what comes in, and what refuses the whole."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.errors import NsrunError, SpecError, StepError
from nsrun.images import ImageStore
from nsrun.images.compression import Plain
from nsrun.images.unpack import Unpack

Entry = tuple[tarfile.TarInfo, bytes]


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, data: bytes = b"", link: str = "", mode: int = 0o644, **more: object
) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    info.uid, info.gid = os.getuid(), os.getgid()
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, mode: int = 0o755) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: str, text: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, link=text)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, link=target)


def archive(path: Path, entries: Iterable[Entry], mode: str = "w") -> Path:
    with tarfile.open(str(path), mode, format=tarfile.PAX_FORMAT) as file:  # type: ignore[call-overload]  # a mode by argument
        for info, data in entries:
            file.addfile(info, io.BytesIO(data) if info.size else None)
    return path


def unpack(tmp_path: Path, entries: Iterable[Entry], mode: str = "w") -> Path:
    target = tmp_path / "target"
    target.mkdir()
    run(archive(tmp_path / "a.tar", entries, mode), target)
    return target


def run(path: Path, target: Path) -> None:
    with path.open("rb") as file:
        Unpack(Plain(file), str(target), subject=f"cannot import {path}").run()


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_all_that_a_root_file_system_has(tmp_path: Path, mode: str) -> None:
    big = os.urandom(3 << 20)
    root = unpack(
        tmp_path,
        [
            directory("./", 0o751),
            directory("./bin", 0o755),
            entry("./bin/su", data=b"su", mode=0o4755),
            hard_link("./bin/sudo", "./bin/su"),
            symlink("./sbin", "bin"),
            symlink("./etc/mtab", "../proc/self/mounts"),
            symlink("./var/run", "/run"),
            directory("./tmp", 0o1777),
            entry("./big", data=big, mtime=1234567890),
            entry("./pipe", tarfile.FIFOTYPE, mode=0o600),
            entry("./no/parents/here", data=b"x"),
            entry("./empty"),
            entry("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("./dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0),
        ],
        mode,
    )
    expected = "bin bin/su bin/sudo sbin etc etc/mtab var var/run tmp big pipe no no/parents no/parents/here empty"
    assert tree(root) == sorted(expected.split())
    assert stat.S_IMODE(root.stat().st_mode) == 0o751
    assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o4755
    assert (root / "bin/su").stat().st_ino == (root / "bin/sudo").stat().st_ino
    assert os.readlink(root / "var/run") == "/run"
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "big").read_bytes() == big
    assert (root / "big").stat().st_mtime == 1234567890
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)


def test_later_entries_replace_earlier_ones(tmp_path: Path) -> None:
    root = unpack(
        tmp_path,
        [
            entry("a", data=b"1"),
            symlink("b", "a"),
            entry("a", data=b"22"),
            entry("b", data=b"file"),
            directory("c"),
            directory("c", 0o700),
        ],
    )
    assert (root / "a").read_bytes() == b"22"
    assert not (root / "b").is_symlink()
    assert stat.S_IMODE((root / "c").stat().st_mode) == 0o700


def test_a_directory_that_is_read_only_can_still_be_filled(tmp_path: Path) -> None:
    root = unpack(tmp_path, [directory("d", 0o555), entry("d/f", data=b"x")])
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o555
    assert (root / "d/f").read_bytes() == b"x"
    (root / "d").chmod(0o755)


def test_rights_are_exact_whatever_new_files_inherit(tmp_path: Path) -> None:
    """From a directory that gives its group on, and under a umask that leaves nobody anything."""
    target = tmp_path / "target"
    target.mkdir()
    if os.geteuid() == 0:
        os.chown(target, 0, 12345)
    target.chmod(0o2755)
    whose: dict[str, Any] = {"uid": os.geteuid(), "gid": os.getegid()}
    path = archive(
        tmp_path / "a.tar",
        [
            entry("open", data=b"x", mode=0o666, **whose),
            entry("su", data=b"x", mode=0o6755, **whose),
            entry("closed", mode=0, **whose),
            symlink("link", "open"),
            directory("d", 0o775),
            entry("d/f", data=b"x", mode=0o640, **whose),
            entry("implied/f", mode=0o640, **whose),
        ],
    )
    before = os.umask(0o077)
    try:
        run(path, target)
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((target / name).stat().st_mode) for name in ("open", "su", "closed", "d", "d/f", "implied")
    }
    assert modes == {"open": 0o666, "su": 0o6755, "closed": 0, "d": 0o775, "d/f": 0o640, "implied": 0o755}
    if os.geteuid() == 0:
        assert {(one.lstat().st_uid, one.lstat().st_gid) for one in target.rglob("*")} == {(0, 0)}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("user.note", True),
        ("trusted.overlay.opaque", False),
        ("user.overlay.opaque", False),
        ("security.selinux", False),
    ],
)
def test_extended_attributes(tmp_path: Path, name: str, kept: bool) -> None:
    info, data = entry("f", data=b"x")
    info.pax_headers = {f"SCHILY.xattr.{name}": "y"}
    root = unpack(tmp_path, [(info, data)])
    try:
        os.setxattr(tmp_path, "user.probe", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    assert (name in os.listxattr(root / "f")) is kept


def kept(tmp_path: Path) -> list[str]:
    """What the store has kept of an import: blobs, layers, beginnings."""
    images = tmp_path / "lib/images"
    return [
        str(path)
        for path in (
            *images.glob(".new*"),
            *images.glob("blobs/sha256/*"),
            *images.glob("partial/*"),
            *images.glob("layers/*"),
        )
        if path.name != "base"
    ]


HOSTILE: dict[str, list[Entry]] = {
    "parent": [entry("../escape", data=b"x")],
    "parent inside": [entry("a/../../escape", data=b"x")],
    "parent directory": [directory("..")],
    "absolute": [entry("/tmp/nsrun-test-escape", data=b"x")],
    "absolute like nix's and out": [entry("/nix/../../tmp/nsrun-test-escape", data=b"x")],
    "absolute like nix's through a link": [symlink("nix", "/tmp"), entry("/nix/nsrun-test-escape", data=b"x")],
    "absolute nearly like nix's": [entry("/nixx/a", data=b"x")],
    "through a link": [symlink("a", ".."), entry("a/escape", data=b"x")],
    "through an absolute link": [symlink("a", "/tmp"), entry("a/nsrun-test-escape", data=b"x")],
    "through a link inside": [directory("b"), symlink("a", "b"), entry("a/f", data=b"x")],
    "through a link made late": [
        directory("a"),
        entry("a/f"),
        hard_link("g", "a/f"),
        symlink("h", "a"),
        entry("h/f", data=b"x"),
    ],
    "through a file": [entry("a", data=b"x"), entry("a/b", data=b"x")],
    "directory over a link": [symlink("a", "/tmp"), directory("a")],
    "file over a directory": [directory("a"), entry("a", data=b"x")],
    "link over a directory": [directory("a"), symlink("a", "/tmp")],
    "hard link out": [hard_link("a", "../../etc/passwd")],
    "hard link absolute": [hard_link("a", "/etc/passwd")],
    "hard link through a link": [symlink("a", "/etc"), hard_link("b", "a/passwd")],
    "hard link to nothing": [hard_link("a", "b")],
    "hard link to itself": [hard_link("a", "a")],
    "hard link to a directory": [directory("a"), hard_link("b", "a")],
    "hard link to the root": [hard_link("a", ".")],
    "device": [entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)],
    "device below a directory called dev": [entry("x/dev/mem", tarfile.CHRTYPE, devmajor=1, devminor=1)],
    "root is a file": [entry(".", data=b"x")],
    "root is a link": [symlink("./", "/tmp")],
    "empty link": [symlink("a", "")],
    "deep": [entry("d/" * 201 + "f", data=b"x")],
    "unknown type": [entry("a", b"Z")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_leave_nothing(tmp_path: Path, name: str) -> None:
    store = ImageStore(tmp_path / "lib", durable=False)
    path = archive(tmp_path / "a.tar", [entry("fine", data=b"x"), *HOSTILE[name]])
    before = tree(tmp_path)
    with pytest.raises(SpecError, match=r"cannot import .*a\.tar: the entry"):
        store.import_("evil", path)
    assert kept(tmp_path) == []
    assert [one for one in tree(tmp_path) if one not in before and not one.startswith("lib")] == []
    assert not Path("/tmp/nsrun-test-escape").exists()
    assert [image.name for image in store.list()][1:] == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a whole tar archive"),
        (b"plainly not an archive" * 100, "not a whole tar archive"),
        (b"\x1f\x8b\x08\x00garbage", "not a whole tar archive"),
        (b"\xfd7zXZ\x00garbage", "not a whole tar archive"),
        (b"BZh9garbage", "not a whole tar archive"),
        (b"\x28\xb5\x2f\xfdrest", "not a whole tar archive: zstd"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(SpecError, match=text) as caught:
        ImageStore(tmp_path / "lib", durable=False).import_("x", tmp_path / "a.tar")
    assert "\n" not in caught.value.brief
    assert "Error(" not in caught.value.brief
    assert kept(tmp_path) == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_an_archive_that_was_cut_off(tmp_path: Path, mode: str, keep: float) -> None:
    path = archive(
        tmp_path / "a.tar", [entry("f", data=os.urandom(100_000)), entry("g", data=os.urandom(100_000))], mode
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SpecError, match="not a whole tar archive"):
        ImageStore(tmp_path / "lib", durable=False).import_("x", path)
    assert kept(tmp_path) == []


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"nothing\.tar: No such file or directory \(ENOENT\)"):
        ImageStore(tmp_path / "lib", durable=False).import_("x", tmp_path / "nothing.tar")


def test_an_image_with_its_layers_is_named_as_such(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", [entry("manifest.json", data=b"[]"), entry("0123/layer.tar", data=b"x")])
    with pytest.raises(SpecError, match="an image with its layers") as caught:
        ImageStore(tmp_path / "lib", durable=False).import_("x", path)
    assert "nsrun image load" in (caught.value.resolution or "")


names = st.sampled_from(["a", "b", "a/b", "b/a", "a/b/c", "../x", "./a", "a/..", "/x", ".", "a/../b", "dev/x", "etc"])
entries = st.lists(
    st.one_of(
        names.map(lambda name: entry(name, data=b"data")),
        names.map(directory),
        st.tuples(names, names).map(lambda pair: symlink(*pair)),
        st.tuples(names, names).map(lambda pair: hard_link(*pair)),
        names.map(lambda name: entry(name, tarfile.FIFOTYPE)),
        names.map(lambda name: entry(name, tarfile.CHRTYPE, devmajor=1, devminor=3)),
    ),
    max_size=8,
)


@given(entries)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_it_stays_in_it(tmp_path_factory: pytest.TempPathFactory, given_entries: list[Entry]) -> None:
    top = tmp_path_factory.mktemp("any")
    target = top / "in" / "target"
    target.mkdir(parents=True)
    (top / "in" / "x").write_text("outside")
    path = archive(top / "a.tar", given_entries)
    try:
        run(path, target)
    except SpecError:
        pass
    except NsrunError as error:
        raise AssertionError(f"an archive is not to blame the machine: {error}") from error
    assert tree(top / "in")[0] == "target"
    assert [one for one in tree(top) if not one.startswith("in/target")] == ["a.tar", "in", "in/x"]
    assert (top / "in" / "x").read_text() == "outside"
    assert (top / "in" / "x").stat().st_nlink == 1
    for found in target.rglob("*"):
        assert not stat.S_ISCHR(found.lstat().st_mode)
        assert not stat.S_ISBLK(found.lstat().st_mode)
