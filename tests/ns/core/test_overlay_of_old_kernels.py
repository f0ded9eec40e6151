"""Before Linux 6.7 overlay takes its layers in one string. A filter that answers EINVAL to fsconfig makes this kernel such a one."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import Box, L, op, run

FSCONFIG = 431  # the same on every architecture: asm-generic/unistd.h


@pytest.fixture
def old() -> Iterator[int]:
    """Slot 1: load this, and fsconfig is EINVAL."""
    rules = [(0x20, 0, 0, 0), (0x15, 0, 1, FSCONFIG), (0x06, 0, 0, 0x50000 | errno.EINVAL), (0x06, 0, 0, 0x7FFF0000)]
    fd = native.memfd(b"".join(struct.pack("=HBBI", *rule) for rule in rules), "filter")
    yield fd
    os.close(fd)


def test_the_filter_does_what_it_says(old: int) -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("SECCOMP", 1), op("MOUNT", "tmpfs", "/tmp", "size=1m")], [old])
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == ("MOUNT", errno.EINVAL, "size=1m")


@pytest.mark.parametrize("name", ["plain", "a,b", "a:b", "a\\b", "a\\:b,c\\\\", "sp ace\n", "x" * 250])
@pytest.mark.parametrize("options", [0, L.NSR_OVERLAY_VOLATILE])
def test_names(box: Box, old: int, name: str, options: int) -> None:
    top = box.directory / name
    upper, work, layer = (top / part for part in ("upper", "work", "layer"))
    for path in (upper, work, layer):
        path.mkdir(parents=True)
    (layer / "seen").write_text("seen")
    out = run(
        [
            op("SECCOMP", 1),
            op("PRIVATE"),
            op("OVERLAY", box.merged, upper, work, layer, box.lower, L.MOUNT_ATTR_NODEV, options),
            op("ROOT", box.merged),
            op("PIVOT_ROOT"),
            op("STDIO", 0, 0, 0),
            op("ENV", Box.PATH),
            op("EXEC", "then", "then", "cat", "/seen", ";", "write", "/new", "text"),
        ],
        [old],
    )
    assert (out.exit, out.text) == (0, "seen")
    assert (upper / "new").exists()
    assert (work / "work/incompat/volatile").exists() == bool(options)


@pytest.mark.parametrize("count", [3, 100])
def test_more_layers_than_a_page_holds(box: Box, old: int, count: int) -> None:
    """Names by descriptor from then on; the order stays."""
    layers: list[Path] = []
    for i in range(count):
        layer = box.directory / f"{'long' * 10}{i}"
        layer.mkdir()
        (layer / "same").write_text(f"{i}.")
        (layer / f"only{i}").write_text(f"{i}.")
        layers.append(layer)
    assert (sum(len(str(path)) for path in layers) > 4096) == (count == 100)
    out = run(
        [
            op("SECCOMP", 1),
            op("PRIVATE"),
            op("OVERLAY", box.merged, "", "", *layers, box.lower),
            op("ROOT", box.merged),
            op("PIVOT_ROOT"),
            op("STDIO", 0, 0, 0),
            op("ENV", Box.PATH),
            op("EXEC", "cat", "cat", "/same", "/only0", f"/only{count - 1}"),
        ],
        [old],
    )
    assert out.text == f"0.0.{count - 1}."


def test_too_many_layers(box: Box, old: int) -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("SECCOMP", 1), op("OVERLAY", box.merged, "", "", *[box.lower] * 400)], [old])
    assert (caught.value.code_name, caught.value.errno) == ("OVERLAY", errno.E2BIG)


@pytest.mark.parametrize("count", [1, 100])
def test_what_is_missing(box: Box, old: int, count: int) -> None:
    missing = box.directory / ("not" * 20) / "there"
    with pytest.raises(native.ProgramError) as caught:
        run([op("SECCOMP", 1), op("OVERLAY", box.merged, "", "", *[missing] * count, box.lower)], [old])
    assert (caught.value.code_name, caught.value.errno) == ("OVERLAY", errno.ENOENT)
    # mount(2) does not say which; it is looked for.
    assert caught.value.subject == str(missing)
