"""A fuzzer of stacks of layers: random ones of few names, so that their entries meet, unpacked in three ways that have to agree.

The three are nsrun's usual one (each layer by itself, in any order), nsrun's other one (each onto those below), and umoci's. What they
differ in is made as small as it gets before it is shown.

python -m tests.host.images.stacking SECONDS [SEED]; `make fuzz` runs it in the test host.
"""

from __future__ import annotations

import random
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from nsrun.errors import SpecError
from nsrun.images import ImageStore
from nsrun.images.layers import Layers
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

NAMES = ("a", "b", "c")
LINKS = ("a", "b", "../a", "/b", "/a/b", "../../c", "nowhere", "c/a")
MOUNT_POINTS = ("proc", "sys", "dev", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf")
"""What nsrun adds, for containers to mount on."""


@dataclass(frozen=True, slots=True)
class Item:
    """An entry, in few words."""

    kind: str
    path: str
    what: str = ""

    def made(self) -> Entry:
        """It as an entry of an archive; its looks follow from its words."""
        of = random.Random(repr(self))
        owner = of.choice(((0, 0), (1, 2), (1000, 3)))
        mtime = 1_500_000_000 + of.randrange(1 << 20)
        xattrs = of.choice((None, None, {"user.note": self.what.encode() or b"x"}))
        match self.kind:
            case "directory":
                mode = of.choice((0o755, 0o700, 0o750, 0o1777))
                return directory(self.path, mode, owner=owner, mtime=mtime, xattrs=xattrs)
            case "file":
                mode = of.choice((0o644, 0o4755, 0o600))
                return entry(self.path, data=self.what.encode(), mode=mode, owner=owner, mtime=mtime, xattrs=xattrs)
            case "fifo":
                return entry(self.path, tarfile.FIFOTYPE, mode=0o640, owner=owner, mtime=mtime)
            case "symlink":
                return symlink(self.path, self.what, owner=owner, mtime=mtime)
            case "link":
                return hard_link(self.path, self.what)
            case "whiteout":
                return whiteout(self.path)
        return entry(f"{self.path}/.wh..wh..opq")


_IMPLIED = (stat.S_IFDIR, "0o755", 0, 0)

Stack = tuple[tuple[Item, ...], ...]
Tree = dict[str, tuple[object, ...]]
KINDS = (
    "directory",
    "directory",
    "file",
    "file",
    "file",
    "symlink",
    "symlink",
    "link",
    "whiteout",
    "whiteout",
    "opaque",
    "fifo",
)


def _path(choice: random.Random) -> str:
    return "/".join(choice.choice(NAMES) for _ in range(choice.choice((1, 1, 2, 2, 3))))


def _item(choice: random.Random) -> Item:
    kind = choice.choice(KINDS)
    what = ""
    if kind == "file":
        what = str(choice.randrange(1000))
    elif kind == "directory":
        what = str(choice.randrange(4))
    elif kind == "symlink":
        what = choice.choice(LINKS)
    elif kind == "link":
        what = _path(choice)
    return Item(kind, _path(choice), what)


def _layer(choice: random.Random) -> tuple[Item, ...]:
    """What the specification is clear about: what is gone comes first, and in what is gone as a whole nothing is said to be gone."""
    items = [_item(choice) for _ in range(choice.randrange(1, 6))]
    gone = tuple(f"{one.path}/" for one in items if one.kind == "whiteout")
    clear = [
        one
        for one in items
        if one.kind not in ("opaque", "whiteout")
        or not f"{one.path}/".startswith(tuple(path for path in gone if one.kind == "opaque" or path != f"{one.path}/"))
    ]
    # A directory that is described twice has the attributes of both, or of the later.
    once = {(one.kind, one.path) if one.kind == "directory" else at: one for at, one in enumerate(clear)}
    first = ("opaque", "whiteout")
    return tuple(sorted(once.values(), key=lambda one: first.index(one.kind) if one.kind in first else len(first)))


def stack_of(choice: random.Random) -> Stack:
    """A random stack; mostly short, for long ones are refused by anybody."""
    layers = [_layer(choice) for _ in range(choice.randrange(1, 6))]
    if choice.random() < 0.15:
        layers.append(choice.choice(layers))
    return tuple(layers)


class Refused(Exception):  # noqa: N818  an outcome, not an error
    """It is no stack of layers, somebody says."""


def _onto_those_below(_layers: Layers, source: object, *_: object) -> None:
    while source.read(1 << 18):  # type: ignore[attr-defined]  # it is a Source
        pass


def by_nsrun(stack: Stack, top: Path, *, serial: bool = False) -> Tree:
    """What a container sees of it.

    Raises:
        Refused: nsrun refuses it.
    """
    ours = Layout(top / "ours")
    ours.image("example.org/x:1", [layer([one.made() for one in items]) for items in stack], "")
    store = ImageStore(top / "lib", durable=False)
    try:
        if serial:
            with mock.patch.object(Layers, "_unpack", _onto_those_below):
                (image,) = store.load(str(ours.path))
        else:
            (image,) = store.load(str(ours.path))
    except SpecError as error:
        raise Refused(str(error)) from None
    with mounted(image.rootfs.lowers, top / "merged") as root:
        return tree(root)


def by_umoci(stack: Stack, top: Path) -> Tree:
    """What umoci unpacks.

    Raises:
        Refused: it does not.
    """
    layout = Layout(top / "layout")
    layout.image("x", [layer([one.made() for one in items]) for items in stack], "")
    try:
        return tree(umoci_unpack(layout.path, "x", top / "bundle"))
    except subprocess.CalledProcessError as error:
        raise Refused(error.stderr.decode(errors="replace")[-300:]) from None


def outcome(unpack: Callable[[Path], Tree], top: Path) -> Tree | str:
    """A tree, or why there is none. `top` is made for it and is gone afterwards."""
    top.mkdir()
    try:
        found = unpack(top)
    except Refused as why:
        return str(why)
    finally:
        shutil.rmtree(top)
    for name in MOUNT_POINTS:
        found.pop(name, None)
    return found


def unlike(one: Tree, other: Tree, *, strict: bool) -> dict[str, tuple[object, object]]:
    """The entries in which two trees differ.

    Args:
        strict: also by the times of directories.
    """
    result: dict[str, tuple[object, object]] = {}
    for name in sorted(one.keys() | other.keys()):
        left, right = one.get(name), other.get(name)
        if not strict:
            left, right = _without_time(left), _without_time(right)
        if left != right:
            result[name] = (left, right)
    return result


def without_implied(one: Tree, other: Tree) -> Tree:
    """Without directories that are only implied, by what is gone from them: containerd and nsrun make those, umoci does not."""
    kept: Tree = {}
    for name, facts in sorted(one.items(), reverse=True):
        implied = name not in other and facts[:4] == _IMPLIED and not any(at.startswith(f"{name}/") for at in kept)
        if not implied:
            kept[name] = facts
    return kept


def _without_time(facts: tuple[object, ...] | None) -> tuple[object, ...] | None:
    if facts is not None and facts[0] == stat.S_IFDIR:
        return (*facts[:4], None, *facts[5:])
    return facts


def difference(stack: Stack, top: Path, *, umoci: bool = True) -> str:
    """What is wrong with a stack, "" where nothing is."""
    usual = outcome(lambda at: by_nsrun(stack, at), top / "usual")
    serial = outcome(lambda at: by_nsrun(stack, at, serial=True), top / "serial")
    if isinstance(usual, str) or isinstance(serial, str):
        if isinstance(usual, str) and isinstance(serial, str):
            return ""
        return f"parallel and serial: {usual if isinstance(usual, str) else 'a tree'} | {serial if isinstance(serial, str) else 'a tree'}"
    found = unlike(usual, serial, strict=True)
    if found:
        return f"parallel and serial: {found}"
    if not umoci:
        return ""
    theirs = outcome(lambda at: by_umoci(stack, at), top / "umoci")
    if isinstance(theirs, str):
        return ""
    found = unlike(without_implied(usual, theirs), theirs, strict=False)
    return f"nsrun and umoci: {found}" if found else ""


def _smaller(stack: Stack) -> Iterator[Stack]:
    for at in range(len(stack)):
        yield stack[:at] + stack[at + 1 :]
    for at, items in enumerate(stack):
        for number in range(len(items)):
            yield (*stack[:at], items[:number] + items[number + 1 :], *stack[at + 1 :])


def shrunk(stack: Stack, top: Path) -> Stack:
    """The same kind of difference in as few entries as it takes."""
    kind = difference(stack, top).partition(":")[0]
    again = True
    while again:
        again = False
        for smaller in _smaller(stack):
            if smaller and difference(smaller, top).partition(":")[0] == kind:
                stack, again = smaller, True
                break
    return stack


def compare(seconds: float, seed: int, top: Path, *, umoci: bool = True) -> int:
    """Compare random stacks until the time is over.

    Returns:
        How many.

    Raises:
        AssertionError: one comes out differently; it is in the text, as small as it gets.
    """
    choice = random.Random(seed)
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        stack = stack_of(choice)
        if difference(stack, top, umoci=umoci):
            least = shrunk(stack, top)
            told = "\n".join(f"  layer {at}: {' '.join(map(str, items))}" for at, items in enumerate(least))
            raise AssertionError(f"NSRUN_SEED={seed}, number {count}: {difference(least, top, umoci=umoci)}\n{told}")
        count += 1
    return count


def main() -> None:
    """As said above."""
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    with tempfile.TemporaryDirectory(prefix="nsrun-stacks-") as top:
        print(f"== stacks of layers, {sys.argv[1]} s, seed {seed}", flush=True)
        print(f"{compare(float(sys.argv[1]), seed, Path(top))} stacks")


if __name__ == "__main__":
    main()
