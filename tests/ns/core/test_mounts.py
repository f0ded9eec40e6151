"""The ops that mount: what is there afterwards, and what a failing one says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import ALONE, Box, L, Op, op, run


def mounts(text: str) -> dict[str, list[str]]:
    """Mount point -> [root, options, propagation, type, super options] of testbox's `mounts`; the topmost of several."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def failure(ops: list[Op], slots: tuple[int, ...] = ()) -> native.ProgramError:
    with pytest.raises(native.ProgramError) as caught:
        run(ops, slots)
    return caught.value


# --- overlay ---


def test_overlay_writes_go_to_the_upper_layer(box: Box, lower: Path) -> None:
    assert box.run(command=["write", "/tmp/written", "text"]).exit == 0
    assert (box.upper / "tmp/written").read_text().strip() == "text"
    assert not (lower / "tmp/written").exists()


def test_overlay_topmost_layer_comes_first(box: Box, lower: Path) -> None:
    layers = []
    for i in range(60):
        layer = box.directory / f"layer{i}"
        layer.mkdir()
        (layer / f"only{i}").write_text(f"{i}")
        (layer / "same").write_text(f"{i}")
        layers.append(layer)
    out = run(
        [
            op("PRIVATE"),
            op("OVERLAY", box.merged, box.upper, box.work, *layers, lower),
            op("ROOT", box.merged),
            op("PIVOT_ROOT"),
            op("STDIO", 0, 0, 0),
            op("ENV", Box.PATH),
            op("EXEC", "cat", "cat", "/same", "/only0", "/only59"),
        ]
    )
    assert (out.exit, out.text) == (0, "0059")


@pytest.mark.parametrize(
    "name",
    ["a,b", "a:b", "a\\b", "a\\:b,c\\\\", "sp ace\n", "x" * 250, "\xff"],
    ids=["comma", "colon", "backslash", "all", "blank", "long", "high"],
)
def test_overlay_takes_any_name(box: Box, lower: Path, name: str) -> None:
    top = box.directory / name
    upper, work, layer = (top / part for part in ("upper", "work", "layer" + "y" * 40))
    for path in (upper, work, layer):
        path.mkdir(parents=True)
    (layer / "seen").write_text("seen")
    out = run(
        [
            op("PRIVATE"),
            op("OVERLAY", box.merged, upper, work, layer, lower),
            op("ROOT", box.merged),
            op("PIVOT_ROOT"),
            op("STDIO", 0, 0, 0),
            op("ENV", Box.PATH),
            op("EXEC", "then", "then", "cat", "/seen", ";", "write", "/new", "text"),
        ]
    )
    assert (out.exit, out.text) == (0, "seen")
    assert (upper / "new").exists()


@pytest.mark.parametrize("layers", [1, 2])
def test_overlay_without_upper_is_read_only(box: Box, lower: Path, layers: int) -> None:
    extra = box.directory / "extra"
    extra.mkdir()
    out = run(
        [
            op("PRIVATE"),
            op("OVERLAY", box.merged, "", "", *[extra, lower][2 - layers :]),
            op("ROOT", box.merged),
            op("PIVOT_ROOT"),
            op("STDIO", 0, 0, 0),
            op("ENV", Box.PATH),
            op("EXEC", "write", "write", "/new", "x"),
        ]
    )
    assert out.exit == 1
    assert "EROFS" in out.text


@pytest.mark.parametrize("missing", ["upper", "work", "layer", "merged"])
def test_overlay_names_what_is_missing(box: Box, lower: Path, missing: str) -> None:
    paths = {"upper": box.upper, "work": box.work, "layer": _made(box.directory / "layer"), "merged": box.merged}
    paths[missing] = box.directory / "no" / missing
    error = failure(
        [op("PRIVATE"), op("OVERLAY", paths["merged"], paths["upper"], paths["work"], lower, paths["layer"])]
    )
    assert (error.step, error.code_name, error.errno) == (1, "OVERLAY", errno.ENOENT)
    assert error.subject == str(paths[missing])


def test_overlay_attributes(box: Box) -> None:
    ops = box.program(command=["mounts"])
    ops[1] = op("OVERLAY", box.merged, box.upper, box.work, box.lower, L.MOUNT_ATTR_NOSUID | L.MOUNT_ATTR_NODEV)
    assert mounts(run(ops).text)["/"][1].startswith("rw,nosuid,nodev")


# --- new file systems ---


def test_mount_kinds_and_attributes(box: Box) -> None:
    quiet = L.MOUNT_ATTR_NOSUID | L.MOUNT_ATTR_NODEV | L.MOUNT_ATTR_NOEXEC
    before = [
        op("MKDIR", "/sys", 0o755),
        op("MOUNT", "sysfs", "/sys", quiet | L.MOUNT_ATTR_RDONLY),
        op("MKDIR", "/dev/pts", 0o755),
        op("MOUNT", "devpts", "/dev/pts", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", quiet),
        op("MKDIR", "/dev/mqueue", 0o755),
        op("MOUNT", "mqueue", "/dev/mqueue", quiet),
        op("MKDIR", "/mnt", 0o755),
        op("MOUNT", "tmpfs", "/mnt", "size=64k", "mode=1777", L.MOUNT_ATTR_NOATIME),
    ]
    seen = mounts(box.run(before, command=["mounts"]).text)
    assert seen["/proc"][3] == "proc"
    assert (seen["/sys"][1], seen["/sys"][3]) == ("ro,nosuid,nodev,noexec,relatime", "sysfs")
    assert seen["/dev/pts"][3] == "devpts"
    assert seen["/dev/mqueue"][3] == "mqueue"
    assert (seen["/mnt"][1], seen["/mnt"][3]) == ("rw,noatime", "tmpfs")


def test_mount_options_reach_the_file_system(box: Box) -> None:
    before = [op("MKDIR", "/mnt", 0o755), op("MOUNT", "tmpfs", "/mnt", "mode=1777", "uid=7", "source=mine")]
    out = box.run(before, command=["seq", "stat", "/mnt", ";", "cat", "/proc/self/mountinfo"])
    assert "/mnt d 1777 7 0 0" in out.lines
    assert any(line.split(" - ")[-1].startswith("tmpfs mine ") for line in out.lines)


def test_mount_unknown_type(box: Box) -> None:
    error = failure([*box.root(), op("MOUNT", "nosuchfs", "/mnt")])
    assert (error.step, error.code_name, error.errno, error.subject) == (3, "MOUNT", errno.ENODEV, "nosuchfs")
    again = box.another()
    assert again.run([op("MOUNT", "nosuchfs", "/mnt", 0, 1)]).exit == 0


def test_mount_bad_option_and_missing_target(box: Box) -> None:
    error = failure([*box.root(), op("MOUNT", "tmpfs", "/tmp", "size=1m", "nonsense=1")])
    assert (error.step, error.errno, error.subject) == (3, errno.EINVAL, "nonsense=1")
    error = failure([*box.another().root(), op("MOUNT", "tmpfs", "/not/there")])
    assert (error.errno, error.subject) == (errno.ENOENT, "/not/there")


def _made(path: Path) -> Path:
    path.mkdir()
    return path


# --- binds ---


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = _made(tmp_path / "source")
    (path / "file").write_text("from the host")
    return path


def test_bind_directory_and_file(box: Box, source: Path) -> None:
    before = [
        op("BIND", source, "/made/for/it", -1, L.NSR_BIND_MAKE_TARGET),
        op("BIND", source / "file", "/etc/one", -1, L.NSR_BIND_MAKE_TARGET | L.NSR_BIND_READONLY),
    ]
    out = box.run(before, command=["seq", "cat", "/made/for/it/file", "/etc/one", ";", "write", "/etc/one", "x"])
    assert "from the hostfrom the host" in out.text
    assert "EROFS" in out.text
    assert (source / "file").read_text() == "from the host"


def test_bind_writable_writes_to_the_source(box: Box, source: Path) -> None:
    box.run([op("BIND", source, "/mnt", -1, L.NSR_BIND_MAKE_TARGET)], command=["write", "/mnt/new", "x"])
    assert (source / "new").exists()


@pytest.mark.parametrize(("how", "below"), [("NSR_BIND_READONLY", "ok"), ("NSR_BIND_RREADONLY", "EROFS")])
def test_bind_read_only_and_recursively_so(box: Box, source: Path, how: str, below: str) -> None:
    (source / "sub").mkdir()
    flags = getattr(L, how) | L.NSR_BIND_RECURSIVE | L.NSR_BIND_MAKE_TARGET
    ops = box.program(
        [op("BIND", source, "/mnt", -1, flags)],
        command=["seq", "write", "/mnt/x", "x", ";", "write", "/mnt/sub/x", "x"],
    )
    # A mount below the source, made in the new mount namespace before there is a root.
    ops[1:1] = [op("MOUNT", "tmpfs", source / "sub")]
    text = run(ops).text
    assert "/mnt/x: EROFS" in text
    assert ("/mnt/sub/x: EROFS" in text) == (below == "EROFS")


def test_bind_not_recursive_leaves_submounts_behind(box: Box, source: Path) -> None:
    (source / "sub").mkdir()
    (source / "sub/below").write_text("covered")
    ops = box.program([op("BIND", source, "/mnt", -1, L.NSR_BIND_MAKE_TARGET)], command=["ls", "/mnt/sub"])
    ops[1:1] = [op("MOUNT", "tmpfs", source / "sub")]
    assert run(ops).lines == ["below"]


def test_bind_missing_source(box: Box, source: Path) -> None:
    missing = source / "missing"
    error = failure(box.program([op("BIND", missing, "/mnt", -1, L.NSR_BIND_MAKE_TARGET)]))
    assert (error.code_name, error.errno, error.subject) == ("BIND", errno.ENOENT, str(missing))
    again = box.another()
    out = again.run(
        [op("BIND", missing, "/mnt", -1, L.NSR_BIND_OPTIONAL | L.NSR_BIND_MAKE_TARGET)], command=["stat", "/mnt"]
    )
    assert "ENOENT" in out.text


def test_bind_missing_target_and_wrong_kind(box: Box, source: Path) -> None:
    error = failure(box.program([op("BIND", source, "/not/there", -1, 0)]))
    assert (error.code_name, error.errno, error.subject) == ("BIND", errno.ENOENT, "/not/there")
    again = box.another()
    error = failure(again.program([op("BIND", source, "/etc/passwd", -1, 0)]))
    assert (error.errno, error.subject) == (errno.ENOTDIR, "/etc/passwd")
    again = box.another()
    error = failure(again.program([op("BIND", source / "file", "/etc", -1, 0)]))
    assert (error.errno, error.subject) == (errno.EISDIR, "/etc")


def test_bind_attributes_and_propagation(box: Box, source: Path) -> None:
    before = [
        op("BIND", source, "/mnt", -1, L.NSR_BIND_MAKE_TARGET, L.MOUNT_ATTR_NOSUID | L.MOUNT_ATTR_NOATIME, L.MS_SHARED),
        op("MKDIR", "/two", 0o755),
        op("BIND", source, "/two", -1, 0),
    ]
    seen = mounts(box.run(before, command=["mounts"]).text)
    assert seen["/mnt"][1:3] == ["rw,nosuid,noatime", "shared"]
    assert "noatime" not in seen["/two"][1]


def test_bind_of_a_detached_tree_from_outside(box: Box, source: Path) -> None:
    tree = native.open_tree(source, L.OPEN_TREE_CLONE)
    try:
        native.mount_setattr("", attr_set=L.MOUNT_ATTR_RDONLY, dir_fd=tree)
        out = box.run(
            [op("BIND", "", "/mnt", 1, L.NSR_BIND_MAKE_TARGET)],
            command=["seq", "cat", "/mnt/file", ";", "write", "/mnt/file", "x"],
            slots=[tree],
        )
    finally:
        os.close(tree)
    assert "from the host" in out.text
    assert "/mnt/file: EROFS" in out.text


def test_a_detached_tree_keeps_its_peers(box: Box, source: Path) -> None:
    """Of a shared mount outside: what the container mounts in it is seen outside, although everything else is cut off."""
    ops = box.program([op("BIND", "", "/mnt", 0, L.NSR_BIND_MAKE_TARGET), op("MKDIR", "/mnt/sub", 0o755)], stdio=False)
    ops.insert(-2, op("MOUNT", "tmpfs", "/mnt/sub", "source=from-inside"))
    script = f"""
import os, pathlib, sys
from nsrun import native
L = native.lib
native.unshare(L.CLONE_NEWNS)
native.mount_setattr("/", propagation=L.MS_PRIVATE, recursive=True)
native.mount("outside", sys.argv[1], "tmpfs")
native.mount_setattr(sys.argv[1], propagation=L.MS_SHARED)
tree = native.open_tree(sys.argv[1], L.OPEN_TREE_CLONE)
before = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
child = native.run(bytes.fromhex(sys.stdin.read()), [tree], clone_flags={ALONE})
pidfd = child.pidfd
for line in set(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()) - set(before):
    print(line.split()[4], line.split()[-2])
native.pidfd_send_signal(pidfd, 9)
child.wait()
"""
    ops[-1] = op("EXEC", "pause", "pause")
    done = subprocess.run(
        [sys.executable, "-c", script, str(source)],
        input=native.encode(ops).hex(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{source}/sub from-inside\n", "")


# --- propagation, attributes ---


@pytest.mark.parametrize(("flag", "word"), [(0, {"slave", "private"}), (L.MS_PRIVATE, {"private"})])
def test_private_with_the_propagation_asked_for(flag: int, word: set[str], lower: Path) -> None:
    out = run(
        [
            op("PRIVATE", flag),
            op("BIND", lower, lower, -1, L.NSR_BIND_RECURSIVE),
            op("STDIO", 0, 0, 0),
            op("EXEC", lower / "bin/mounts", "mounts"),
        ]
    )
    assert {line.split()[3] for line in out.lines} <= word


def test_attr_sets_and_clears(box: Box) -> None:
    before = [
        op("MKDIR", "/mnt", 0o755),
        op("MOUNT", "tmpfs", "/mnt", L.MOUNT_ATTR_NOSUID),
        op("ATTR", "/mnt", L.MOUNT_ATTR_NODEV | L.MOUNT_ATTR_NOATIME, L.MOUNT_ATTR_NOSUID, 0),
    ]
    assert mounts(box.run(before, command=["mounts"]).text)["/mnt"][1] == "rw,nodev,noatime"


def test_attr_of_something_that_is_no_mount(box: Box) -> None:
    error = failure([*box.root(), op("ATTR", "/etc", L.MOUNT_ATTR_RDONLY, 0, 0)])
    assert (error.code_name, error.errno, error.subject) == ("ATTR", errno.EINVAL, "/etc")


# --- masks ---


def test_masks_and_read_only_paths(box: Box) -> None:
    before = [
        op("MKDIR", "/secret", 0o755),
        op("FILE", "/secret/inside", 0o644),
        op("MKDIR", "/secret2", 0o755),
        op("FILE", "/secret2/inside", 0o644),
        op("FILE", "/hidden", 0o644),
        op("MASK", "/secret"),
        op("MASK", "/secret2"),
        op("MASK", "/hidden"),
        op("MASK", "/proc/timer_list"),
        op("MASK", "/not/there"),
        op("MASK", "/etc/passwd/below-a-file"),
        op("READONLY", "/proc/sys"),
        op("READONLY", "/not/there"),
        op("READONLY", "/tmp"),
    ]
    command = ["seq", "ls", "/secret", "/secret2", ";", "stat", "/hidden", ";", "write", "/secret/x", "x"]
    command += [";", "try", "write_proc_sys", ";", "write", "/tmp/x", "x", ";", "cat", "/hidden", "/proc/timer_list"]
    text = box.run(before, command=command).text
    assert "inside" not in text
    assert "/hidden c 0666 0 0 1:3" in text
    assert "/secret/x: EROFS" in text
    assert "write_proc_sys EROFS" in text
    assert "/tmp/x: EROFS" in text
    assert text.endswith("== cat\n")


def test_mask_does_not_trust_the_images_null(box: Box) -> None:
    # After the pivot /dev/null is whatever the image says.
    ops = [
        *box.root(),
        op("MKDIR", "/dev", 0o755),
        op("SYMLINK", "/etc/passwd", "/dev/null"),
        op("PIVOT_ROOT"),
        op("MASK", "/etc/group"),
    ]
    error = failure(ops)
    assert (error.code_name, error.subject) == ("MASK", "/dev/null")
    assert error.errno in {errno.ENODEV, errno.ELOOP}


# --- pivot ---


def test_pivot_leaves_nothing_of_the_host(box: Box) -> None:
    text = box.run(command=["mounts"]).text
    assert set(mounts(text)) == {"/", "/proc", "/dev"}
    assert len(text.splitlines()) == 3


def test_pivot_without_private_does_not_reach_the_host(box: Box) -> None:
    """In a mount namespace whose / is shared: the old root's unmount must stay in the child."""
    ops = box.program()[1:]
    script = f"""
import pathlib, sys
from nsrun import native
before = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
child = native.run(bytes.fromhex(sys.stdin.read()), [1], clone_flags={ALONE})
assert child.wait() == 0
after = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
assert " shared:" in before[0], before[0]
print(sorted(set(before) - set(after)))
"""
    shared = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"]
    done = subprocess.run(
        [*shared, sys.executable, "-c", script],
        input=native.encode(ops).hex(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_pivot_in_a_chroot_leaves_nothing_of_the_host(box: Box) -> None:
    """Who joins the mount namespace is put into its root: that must be the container's, and not what lies below the chroot."""
    jail = box.directory / "jail"
    jail.mkdir()
    joined = [op("SETNS", 0, L.CLONE_NEWNS), op("STDIO", -1, 1, 1), op("CLOSE_REST"), op("ENV", box.PATH)]
    script = f"""
import os, pathlib, signal, sys
from nsrun import native
first, second = (bytes.fromhex(word) for word in sys.stdin.read().split())
before = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
child = native.run(first, [1], clone_flags={ALONE})
print(native.run(second, [child.pidfd, 1]).wait(), flush=True)
child.send_signal(signal.SIGKILL)
child.wait()
after = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
print(sorted(set(before) - set(after)))
"""
    shell = f'mount --make-rshared / && mount --rbind / {jail} && exec chroot {jail} "$@"'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", shell, "sh", sys.executable, "-c", script],
        input=f"{native.encode(box.program(command=['pause'])).hex()} "
        f"{native.encode([*joined, op('EXEC', 'ls', 'ls', '/')]).hex()}",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    *seen, code, lost = done.stdout.splitlines()
    assert done.stderr == ""
    assert (code, lost) == ("0", "[]")
    assert {"bin", "dev", "proc"} <= set(seen)
    assert not set(seen) & {"usr", "var", "sys"}


def test_root_that_is_no_directory(box: Box) -> None:
    error = failure([op("PRIVATE"), op("ROOT", box.lower / "etc/passwd")])
    assert (error.code_name, error.errno) == ("ROOT", errno.ENOTDIR)
    error = failure([op("PRIVATE"), op("ROOT", box.lower / "nowhere", 1)])
    assert (error.code_name, error.errno, error.subject) == ("ROOT", errno.ENOENT, str(box.lower / "nowhere"))


def test_root_bound_on_itself(box: Box) -> None:
    out = run(
        [
            op("PRIVATE"),
            op("ROOT", box.lower, 1),
            op("PIVOT_ROOT"),
            op("STDIO", 0, 0, 0),
            op("EXEC", "/bin/ls", "ls", "/"),
        ]
    )
    assert "bin" in out.lines
    assert "usr" not in out.lines


def test_nothing_stays_mounted_outside(box: Box) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert box.run(command=["true"], clone_flags=ALONE).exit == 0
    assert Path("/proc/self/mountinfo").read_text() == before
