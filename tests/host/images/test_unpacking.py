"""What containers see of an image is what umoci unpacks: owner, mode, time, content, links, attributes, whiteouts, entry by entry."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
from pathlib import Path

import pytest

from nsrun.errors import SpecError
from nsrun.images import ImageStore
from nsrun.images.merged import Merged
from tests.host.images.making import (
    Entry,
    Layout,
    directory,
    entry,
    hard_link,
    layer,
    mounted,
    symlink,
    tree,
    umoci_unpack,
    whiteout,
)

pytestmark = pytest.mark.host

NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""security.capability: cap_net_raw=ep."""

BASE = [
    directory("./", 0o751),
    directory("etc", 0o755, mtime=1_500_000_000),
    entry("etc/passwd", data=b"root:x:0:0::/root:/bin/sh\n"),
    directory("usr", 0o755, mtime=1_500_000_001),
    directory("usr/bin", 0o711, owner=(7, 8), mtime=1_500_000_002),
    entry("usr/bin/su", data=b"su", mode=0o4755),
    entry("usr/bin/ping", data=b"ping", mode=0o755, xattrs={"security.capability": NET_RAW}),
    hard_link("usr/bin/sudo", "usr/bin/su"),
    symlink("bin", "usr/bin", mtime=1_400_000_000),
    directory("tmp", 0o1777),
    directory("var/lib/app", 0o2750, owner=(1000, 1000)),
    entry("var/lib/app/a", data=b"a" * 5000, owner=(1000, 1000), xattrs={"user.note": b"\xff\x00x"}),
    entry("var/lib/app/b", data=b"b"),
    directory("var/lib/app/sub"),
    entry("var/lib/app/sub/c", data=b"c"),
    directory("opt/gone"),
    entry("opt/gone/x", data=b"x"),
    entry("opt/stays", data=b"y"),
    entry("pipe", tarfile.FIFOTYPE, mode=0o620, owner=(3, 4)),
    entry("n" * 90 + "/" + "m" * 120, data=b"long"),
    entry("umlaut-\u00e4\u20ac", data=b"utf-8"),
    entry("not-utf8-\udcff\udcfe", data=b"bytes"),
    entry("big", data=bytes(range(256)) * 5000, mtime=1_234_567_890),
    entry("huge-owner", data=b"x", owner=(4_000_000_000, 3_000_000_000)),
]
LAYERS: dict[str, list[list[Entry]]] = {
    "one layer": [BASE],
    "a directory that is only implied keeps its looks": [BASE, [entry("usr/bin/new", data=b"new")]],
    "described again": [BASE, [directory("usr/bin", 0o700, owner=(9, 9)), entry("usr/bin/new", data=b"new")]],
    "described, then implied twice": [
        BASE,
        [directory("usr/bin", 0o700, owner=(9, 9), mtime=1_500_000_777)],
        [entry("usr/bin/1")],
        [entry("usr/bin/2"), entry("var/lib/app/2")],
    ],
    "the root is described in the middle": [BASE, [directory(".", 0o700, owner=(5, 5))], [entry("file")]],
    "whiteouts": [BASE, [whiteout("opt/gone"), whiteout("var/lib/app/b"), whiteout("pipe"), whiteout("bin")]],
    "whiteout and another in its place": [
        BASE,
        [whiteout("opt/gone"), directory("opt/gone"), entry("opt/gone/new", data=b"new")],
    ],
    "another in its place and then the whiteout": [
        BASE,
        [directory("opt/gone"), entry("opt/gone/new", data=b"new"), whiteout("opt/gone")],
    ],
    "opaque": [BASE, [directory("var/lib/app"), entry("var/lib/app/.wh..wh..opq"), entry("var/lib/app/new")]],
    "opaque at the end": [
        BASE,
        [directory("var/lib/app"), entry("var/lib/app/new"), entry("var/lib/app/.wh..wh..opq")],
    ],
    "a file where there was a directory": [BASE, [entry("opt", data=b"file")]],
    "a directory where there was a file": [BASE, [directory("big"), entry("big/x", data=b"x")]],
    "a directory where there was a link": [BASE, [directory("bin"), entry("bin/x", data=b"x")]],
    "a link where there was a directory": [BASE, [symlink("opt", "usr")]],
    "gone and back": [BASE, [whiteout("opt")], [directory("opt"), entry("opt/new")]],
    "hard link to a layer below": [BASE, [hard_link("etc/passwd-", "etc/passwd")]],
    "hard link to a file with attributes below": [BASE, [hard_link("ping2", "usr/bin/ping"), entry("x")]],
    "the same layer twice": [BASE, [entry("usr/bin/x", data=b"1")], [entry("y")], [entry("usr/bin/x", data=b"1")]],
    "an empty layer": [BASE, [], [entry("x")], []],
    "through a link of a layer below": [BASE, [entry("bin/app", data=b"app", mode=0o755)]],
    "through a link of a layer below, twice": [BASE, [symlink("sbin", "/bin")], [entry("sbin/app", data=b"app")]],
    "a directory behind a link below": [
        BASE,
        [directory("bin/plugins", 0o750, owner=(3, 4)), entry("bin/plugins/x", data=b"x")],
    ],
    "directories behind a link below, only implied": [BASE, [entry("bin/plugins/more/x", data=b"x")]],
    "a link behind a link": [
        [*BASE, symlink("usr/bin/there", "../../opt")],
        [directory("bin/there/x"), entry("bin/there/y/z", data=b"z")],
    ],
    "whiteouts behind a link below": [BASE, [whiteout("bin/ping")]],
    "opaque, and only implied": [BASE, [entry("usr/bin/.wh..wh..opq"), entry("usr/bin/new", data=b"new")]],
    "gone and back, only implied": [BASE, [whiteout("usr/bin")], [entry("usr/bin/new", data=b"new")]],
    "gone and back, only implied, in one layer": [BASE, [whiteout("usr/bin"), entry("usr/bin/new", data=b"new")]],
    "implied, then described": [BASE, [entry("usr/bin/new", data=b"new"), directory("usr/bin", 0o700)]],
    "opaque behind a link below": [BASE, [entry("bin/.wh..wh..opq"), entry("bin/new", data=b"new")]],
    "opaque behind a link below, which is gone then": [BASE, [entry("bin/.wh..wh..opq"), entry("bin", data=b"new")]],
    "a directory in the place of a link that is gone with all above it": [
        [entry("a/x"), symlink("a/l", "/a")],
        [whiteout("a"), directory("a/l/d", 0o700)],
    ],
    "the same, gone by an opaque mark": [
        [entry("a/x"), symlink("a/l", "/a")],
        [entry("a/.wh..wh..opq"), directory("a/l/d", 0o700)],
    ],
    "a whiteout where no other layer has a directory": [BASE, [directory("srv"), entry("srv/x"), whiteout("srv/y")]],
    "the same in one that is gone below": [
        BASE,
        [whiteout("opt"), entry("opt/x"), whiteout("opt/stays")],
        [entry("y")],
    ],
    "hard link to what is behind a link below that leads out of the root": [
        [*BASE, symlink("out", "../../../../../../etc")],
        [hard_link("x", "out/passwd")],
    ],
    "hard link to what is behind a link below": [
        BASE,
        [hard_link("ping2", "bin/ping"), hard_link("bin/ping3", "bin/ping")],
    ],
    "hard link to a new file behind a link below": [
        BASE,
        [entry("bin/new/file", data=b"new"), hard_link("again", "bin/new/file")],
    ],
    "behind a link below, until it is a directory": [
        BASE,
        [entry("bin/before", data=b"1"), directory("bin"), entry("bin/after", data=b"2")],
    ],
    "behind a link below, until it is gone": [
        BASE,
        [entry("bin/before", data=b"1"), whiteout("bin"), entry("bin/after", data=b"2")],
    ],
}


def without_mount_points(found: dict[str, tuple[object, ...]], theirs: dict[str, tuple[object, ...]]) -> None:
    """nsrun adds what containers mount on where the image does not have it."""
    for name in ("proc", "sys", "dev", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
        if name not in theirs:
            found.pop(name, None)


def as_umoci_has_it(one: dict[str, tuple[object, ...]], implied: set[str]) -> dict[str, tuple[object, ...]]:
    """Times of directories that no layer describes are when they were made."""
    return {
        name: (*facts[:4], None, *facts[5:]) if name in implied else facts for name, facts in one.items()
    }  # fmt: skip


@pytest.mark.parametrize("form", ["gzip", "", "zstd"])
@pytest.mark.parametrize("case", LAYERS)
def test_the_root_is_what_umoci_unpacks(tmp_path: Path, store: ImageStore, case: str, form: str) -> None:
    layers = [layer(entries) for entries in LAYERS[case]]
    layout = Layout(tmp_path / "layout")
    layout.image("x", layers, "gzip" if form == "zstd" else form)  # umoci of Debian 12 does not know zstd
    theirs = tree(umoci_unpack(layout.path, "x", tmp_path / "bundle"))
    ours = Layout(tmp_path / "ours")
    ours.image("example.org/x:1", layers, form)
    (image,) = store.load(str(ours.path))
    with mounted(image.rootfs.lowers, tmp_path / "merged") as root:
        found = tree(root)
    without_mount_points(found, theirs)
    described = {info.name.strip("./") or "." for entries in LAYERS[case] for info, _ in entries if info.isdir()}
    # umoci does not give the root its time back after it made the entries in it.
    implied = {name for name, facts in theirs.items() if facts[0] == stat.S_IFDIR} - described | {"."}
    if case == "another in its place and then the whiteout":
        implied.add("opt/gone")  # it takes what was below away late
    if case.startswith("gone and back, only implied"):
        implied |= {"usr", "usr/bin"}
    if "behind a link below" in case:
        implied.add("usr/bin")  # nor those that it came to through a link
    assert as_umoci_has_it(found, implied) == as_umoci_has_it(theirs, implied)


HOSTILE = {
    "a device": [entry("disk", tarfile.BLKTYPE)],
    "a whiteout by hand": [entry("etc", tarfile.CHRTYPE)],
    "whiteout of nothing": [entry(".wh.")],
    "whiteout of the parent": [entry("a/.wh...")],
    "hard link to what is gone": [whiteout("big"), hard_link("x", "big")],
    "behind a file of a layer below": [directory("big/x/y")],
    "behind a file that a link of a layer below leads to": [directory("link/x")],
    "hard link to what is gone with all above it": [whiteout("opt"), entry("opt/new"), hard_link("x", "opt/stays")],
    "hard link to what is gone by an opaque mark": [entry("opt/.wh..wh..opq"), hard_link("x", "opt/stays")],
    "through a link of its own layer": [symlink("l", "tmp"), entry("l/x")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_layers_over_others(tmp_path: Path, store: ImageStore, case: str) -> None:
    layout = Layout(tmp_path / "layout")
    layout.image(
        "example.org/x:1",
        [layer([*BASE, symlink("out", "../../../../../../etc"), symlink("link", "big")]), layer(HOSTILE[case])],
    )
    with pytest.raises(SpecError, match=r"cannot load .*layout: the entry"):
        store.load(str(layout.path))
    assert len(store.list()) == 1
    assert [
        path.name for path in (store.content.directory / "layers").iterdir() if path.name[:4] not in ("base", "host")
    ] == []


def test_a_link_out_of_the_root_stays_in_it(tmp_path: Path, store: ImageStore) -> None:
    (tmp_path / "outside").mkdir()
    out = "/".join([".."] * 20) + f"{tmp_path}/outside"
    layout = Layout(tmp_path / "layout")
    layout.image("example.org/x:1", [layer([symlink("out", out)]), layer([entry("out/x", data=b"x")])])
    with pytest.raises(SpecError, match="broken link of a layer below"):
        store.load(str(layout.path))
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("below", ["{outside}", "/{up}{outside}"])
def test_a_file_of_the_host_is_not_brought_in_by_a_hard_link_behind_a_link(
    tmp_path: Path, store: ImageStore, below: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("of the host")
    out = below.format(outside=f"{tmp_path}/outside", up="../" * 20)
    layout = Layout(tmp_path / "layout")
    # The image has a directory of that name, too: without the file, or with one of its own.
    inside = f"{tmp_path}/outside"[1:]
    link = layer([symlink("out", out), directory(inside)])
    layout.image("example.org/x:1", [link, layer([hard_link("x", "out/secret")])])
    with pytest.raises(SpecError, match=r"the entry 'x' is a hard link to 'out/secret', which is not there"):
        store.load(str(layout.path))
    assert list((tmp_path / "outside").iterdir()) == [tmp_path / "outside/secret"]
    other = Layout(tmp_path / "other")
    own = layer([entry(f"{inside}/secret", data=b"of the image")])
    other.image("example.org/x:2", [link, own, layer([hard_link("x", "out/secret")])])
    (image,) = store.load(str(other.path))
    with mounted(image.rootfs.lowers, tmp_path / "merged") as root:
        assert (root / "x").read_bytes() == b"of the image"


def test_a_path_through_a_link_is_not_found_in_the_merged_layers(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("of the host")
    (tmp_path / "lower/d").mkdir(parents=True)
    (tmp_path / "lower/d/file").touch()
    (tmp_path / "lower/out").symlink_to(tmp_path / "outside")
    (tmp_path / "lower/in").symlink_to("d")
    merged = Merged([str(tmp_path / "lower")])
    assert merged.find(b"out/secret") is None
    assert merged.resolve(b"out/secret") is None
    assert merged.named(b"out/secret") == []
    assert merged.find(b"in/file") is None
    assert merged.resolve(b"in/file") == os.fsencode(tmp_path / "lower/d/file")


def test_many_layers(tmp_path: Path, store: ImageStore) -> None:
    layers = [layer(BASE), *(layer([entry(f"usr/bin/{at}", data=b"%d" % at)]) for at in range(126))]
    layout = Layout(tmp_path / "layout")
    layout.image("x", layers)
    theirs = tree(umoci_unpack(layout.path, "x", tmp_path / "bundle"))
    (image,) = store.load(str(layout.path), name="many")
    with mounted(image.rootfs.lowers, tmp_path / "merged") as root:
        found = tree(root)
    without_mount_points(found, theirs)
    assert {name: facts for name, facts in found.items() if "bin" in name} == {
        name: facts for name, facts in theirs.items() if "bin" in name
    }
