"""Copying to and from containers: whole trees, every kind of file, and containers that want to lead the copy astray."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsrun
from nsrun.client.copying import MAX_DEPTH
from nsrun.errors import ConflictError, NotFoundError, NsrunError, StepError, UsageError
from tests.host.cli.conftest import SLEEPER, container, manifest
from tests.host.testhost import Host

pytestmark = [pytest.mark.host]


@pytest.fixture(scope="module")
def pod(client: nsrun.Client) -> Iterator[nsrun.Pod]:
    """A container of root's, one of another user's, and one whose root is read-only."""
    wish = manifest(
        "files",
        container("root", SLEEPER, volumeMounts=[{"name": "room", "mountPath": "/room"}], workingDir="/room"),
        container(
            "other",
            SLEEPER,
            securityContext={"runAsUser": 1234, "runAsGroup": 2345},
            volumeMounts=[{"name": "open", "mountPath": "/open"}],
        ),
        container("fixed", SLEEPER, securityContext={"readOnlyRootFilesystem": True}),
        volumes=[{"name": "room", "emptyDir": {}}, {"name": "open", "emptyDir": {}}],
        terminationGracePeriodSeconds=0,
    )
    with client.up(json.dumps(wish)) as up:
        yield up


@pytest.fixture
def tree(box: Host) -> Path:
    """A tree with one of everything."""
    top = box.scratch / f"tree-{os.urandom(4).hex()}"
    (top / "empty").mkdir(parents=True)
    (top / "deep/er/still").mkdir(parents=True)
    (top / "deep/er/still/file").write_bytes(os.urandom(300_000))
    (top / "plain").write_text("plain\n")
    (top / "plain").chmod(0o640)
    os.link(top / "plain", top / "deep/same")
    (top / "tool").write_text("#!/bin/sh\n")
    (top / "tool").chmod(0o4755)
    os.chown(top / "tool", 77, 88)
    os.chmod(top / "tool", 0o4755)
    (top / "nothing").touch()
    (top / "link").symlink_to("../outside the tree")
    (top / b"\xff no text".decode("utf-8", "surrogateescape")).write_text("x")
    with open(top / "sparse", "wb") as file:
        file.truncate(50_000_000)
        file.seek(20_000_000)
        file.write(b"in the middle")
    os.utime(top / "plain", ns=(1_000_000_000_123_456_789, 1_100_000_000_123_456_789))
    os.utime(top / "empty", ns=(1, 2))
    return top


def seen(top: Path) -> dict[str, tuple[object, ...]]:
    """What is in a tree: kind, mode, time, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        inside: object = None
        if stat.S_ISREG(status.st_mode):
            inside = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            inside = os.readlink(path)
        when = None if stat.S_ISLNK(status.st_mode) else status.st_mtime_ns
        found[str(path.relative_to(top))] = (kind, stat.S_IMODE(status.st_mode), when, inside)
    return found


def test_a_tree_there_and_back(pod: nsrun.Pod, tree: Path, box: Host) -> None:
    done = pod.copy_to(tree, "there", container="root", archive=True)
    assert (done.files, done.links, done.skipped) == (7, 1, 0)
    back = box.scratch / f"back-{tree.name}"
    pod.copy_from("/room/there", back, container="root", archive=True)
    assert seen(back) == seen(tree)
    assert (back / "plain").samefile(back / "deep/same")
    assert (back / "tool").stat().st_uid == 77
    # Holes stay holes.
    assert (back / "sparse").stat().st_blocks < 10_000
    assert pod.exec(["stat", "-c", "%u:%g %a", "/room/there/tool"], container="root").text == "77:88 4755\n"

    # Again, over what is there: an existing directory gets the copy under its own name, /. its contents.
    pod.copy_to(tree, "there", container="root")
    pod.copy_to(f"{tree}/.", "there", container="root")
    names = pod.exec(["ls", "/room/there", f"/room/there/{tree.name}"], container="root").text.split()
    assert names.count("plain") == 2


def test_owners_and_set_id_bits_are_not_kept_without_being_asked_for(pod: nsrun.Pod, tree: Path, box: Host) -> None:
    pod.copy_to(tree / "tool", "/open/tool", container="other")
    assert pod.exec(["stat", "-c", "%u:%g %a", "/open/tool"], container="other").text == "1234:2345 755\n"
    pod.copy_from("/open/tool", box.scratch / "tool", container="other")
    assert ((box.scratch / "tool").stat().st_uid, stat.S_IMODE((box.scratch / "tool").stat().st_mode)) == (0, 0o755)


def test_single_files(pod: nsrun.Pod, tree: Path, box: Host) -> None:
    plain = tree / "plain"
    pod.copy_to(plain, "/room/", container="root")
    pod.copy_to(plain, "renamed", container="root")
    pod.copy_to(plain, "/room/link-to-be", container="root")
    assert pod.exec(["cat", "plain", "renamed"], container="root", workdir="/room").text == "plain\nplain\n"
    # A file on which something is mounted is written, as it cannot be exchanged.
    before = pod.exec(["cat", "/etc/hosts"], container="root").text
    pod.copy_to(plain, "/etc/hosts", container="root")
    assert pod.exec(["cat", "/etc/hosts"], container="root").text == "plain\n"
    (box.scratch / "hosts").write_text(before)
    pod.copy_to(box.scratch / "hosts", "/etc/hosts", container="root")
    # Files of proc say that they are empty.
    pod.copy_from("/proc/1/status", box.scratch / "status", container="root")
    assert "Name:" in (box.scratch / "status").read_text()
    # The one that is named is followed, inside of the container.
    pod.exec(["ln", "-sf", "/etc/hostname", "/room/name"], container="root", check=True)
    pod.copy_from("name", box.scratch / "name", container="root")
    assert (box.scratch / "name").read_text() == "files\n"


def test_what_cannot_be_copied_is_said(pod: nsrun.Pod, tree: Path, box: Host) -> None:
    script = "mkdir -p /room/odd && cd /room/odd && mkfifo pipe && echo > good"
    pod.exec(["sh", "-c", script], container="root", check=True)
    skipped: list[str] = []
    done = pod.copy_from("odd", box.scratch / "odd", container="root", on_skipped=skipped.append)
    assert (done.files, done.skipped, skipped) == (1, 1, ["files:odd/pipe (a named pipe)"])
    for path, error, text in (
        ("/dev/null", UsageError, "neither a file nor a directory, but a character device"),
        ("/room/odd/pipe", UsageError, "a named pipe"),
        ("/nowhere", StepError, "open files:/nowhere: No such file or directory"),
    ):
        with pytest.raises(error, match=text):
            pod.copy_from(path, box.scratch / "x", container="root")
        assert not (box.scratch / "x").exists()
    with pytest.raises(UsageError, match="is a file, and a directory cannot be copied over it"):
        pod.copy_to(tree, "/etc/passwd", container="root")
    with pytest.raises(UsageError, match="is no directory: it does not exist"):
        pod.copy_to(tree / "plain", "/room/missing/", container="root")
    with pytest.raises(StepError, match="No such file or directory"):
        pod.copy_to(tree / "plain", "/room/missing/plain", container="root")
    with pytest.raises(StepError, match="Read-only file system") as caught:
        pod.copy_to(tree / "plain", "/plain", container="fixed")
    assert caught.value.resolution == "Name a target that can be written to; in a container, a volume for instance."
    with pytest.raises(NotFoundError):
        pod.copy_to(tree / "plain", "/plain", container="nobody")


def test_a_file_that_nobody_gets_to_read_now_holds_nobody_up(pod: nsrun.Pod, box: Host) -> None:
    (box.scratch / "leased").write_text("")
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with (box.scratch / "leased").open("w") as holder:
        # As long as it is written, whoever reads it has to wait for up to 45 s (fcntl(2), F_SETLEASE).
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(StepError, match="Resource temporarily unavailable"):
            pod.copy_to(box.scratch / "leased", "/room/leased", container="root")
    signal.signal(signal.SIGIO, before)


def test_trees_are_as_deep_as_they_may_be(pod: nsrun.Pod, box: Host) -> None:
    script = "import os\nfor _ in range({}):\n os.mkdir('d')\n os.chdir('d')\nopen('bottom', 'w').close()"
    for levels, name in ((MAX_DEPTH - 1, "deep"), (400, "deepest")):
        pod.exec(["mkdir", f"/room/{name}"], container="root", check=True)
        pod.exec(["python3", "-c", script.format(levels)], container="root", workdir=f"/room/{name}", check=True)
    done = pod.copy_from("deep", box.scratch / "deep", container="root")
    assert (done.directories, done.files) == (MAX_DEPTH, 1)
    with pytest.raises(NsrunError, match="it is more than 250 directories deep"):
        pod.copy_from("deepest", box.scratch / "deepest", container="root")
    pod.exec(["rm", "-r", "/room/deep", "/room/deepest"], container="root", check=True)


def test_no_link_leads_out_of_the_container(pod: nsrun.Pod, tree: Path, box: Host) -> None:
    """Absolute links and .. from the container mean the container's files, whatever this machine has under the name."""
    mark = Path("/run/nsrun-cp-mark")
    mark.write_text("the machine's")
    try:
        script = "cd /room; ln -sfn / top; ln -sfn /run run; ln -sfn ../../../../../../run up; ln -sfn /proc/1/root/run magic"
        pod.exec(["sh", "-c", script], container="root", check=True)
        for way in ("top/run", "run", "up", "../../../../run"):
            with pytest.raises(StepError, match="No such file or directory"):
                pod.copy_from(f"/room/{way}/{mark.name}", box.scratch / "stolen", container="root")
            pod.copy_to(tree / "plain", f"/room/{way}/{mark.name}", container="root")
            assert mark.read_text() == "the machine's"
            pod.exec(["rm", f"/run/{mark.name}"], container="root", check=True)
        with pytest.raises(StepError, match="Too many levels of symbolic links"):
            pod.copy_to(tree / "plain", f"/room/magic/{mark.name}", container="root")
        # A tree that is copied onto links: they are exchanged, or refused, and never written through.
        pod.exec(["sh", "-c", f"mkdir -p /room/trap && ln -sfn /run/{mark.name} /room/trap/plain"], container="root")
        pod.copy_to(f"{tree}/.", "/room/trap", container="root")
        assert pod.exec(["readlink", "/room/trap/plain"], container="root").exit_code == 1
        pod.exec(["sh", "-c", "mkdir /room/trap2 && ln -sfn /run /room/trap2/deep"], container="root", check=True)
        with pytest.raises(UsageError, match="there is something else at the target already"):
            pod.copy_to(f"{tree}/.", "/room/trap2", container="root")
        assert [path.name for path in Path("/run").glob("er*")] == []
        assert mark.read_text() == "the machine's"
    finally:
        mark.unlink()


def test_links_that_change_while_they_are_walked(pod: nsrun.Pod, tree: Path, box: Host) -> None:
    canary = Path("/run/nsrun-cp-race")
    canary.mkdir()
    (canary / "file").write_text("the machine's")
    try:
        swap = (
            "mkdir -p /room/race/a /room/race/plain.d; cd /room/race; echo mine > a/file; echo begun; "
            f"while :; do mv a b; ln -s {canary} a; rm a; mv b a; done"
        )
        with subprocess.Popen(
            box.nsrun_argv("pod", "exec", "files", "-c", "root", "--", "sh", "-c", swap),
            env=box.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as swapping:
            try:
                assert swapping.stdout is not None
                assert swapping.stdout.readline() == b"begun\n"
                source = box.scratch / "race"
                (source / "a").mkdir(parents=True, exist_ok=True)
                (source / "a" / "file").write_text("copied")
                read = refused = 0
                for number in range(60):
                    try:
                        pod.copy_from("race", box.scratch / f"race-{number}", container="root")
                        got = box.scratch / f"race-{number}" / "a" / "file"
                        if got.exists() and not (box.scratch / f"race-{number}" / "a").is_symlink():
                            assert got.read_text() in ("mine\n", "copied")
                            read += 1
                    except (StepError, UsageError):
                        refused += 1
                    try:
                        pod.copy_to(f"{source}/.", "race", container="root")
                    except (StepError, UsageError):
                        refused += 1
                    assert (canary / "file").read_text() == "the machine's"
            finally:
                swapping.kill()
        assert read
        assert [path.name for path in canary.iterdir()] == ["file"]
    finally:
        (canary / "file").unlink()
        canary.rmdir()


def test_a_pod_with_users_of_its_own_has_its_own_owners(client: nsrun.Client, tree: Path, box: Host) -> None:
    mounts = [{"name": "room", "mountPath": "/room"}]
    other = container("other", SLEEPER, securityContext={"runAsUser": 1000}, volumeMounts=mounts)
    wish = manifest(
        "own",
        container("root", SLEEPER, volumeMounts=mounts),
        other,
        volumes=[{"name": "room", "emptyDir": {}}],
        hostUsers=False,
    )
    with client.up(json.dumps(wish)) as pod:
        pod.copy_to(tree, "/room/root", container="root")
        pod.copy_to(tree / "plain", "/room/other", container="other")
        pod.copy_to(tree / "plain", "/tmp/plain", container="root")
        pod.copy_to(tree, "/room/archive", container="root", archive=True)
        words = ["stat", "-c", "%u", "/room/root/tool", "/room/root", "/room/other", "/tmp/plain", "/room/archive/tool"]
        assert pod.exec(words, container="root").text.split() == ["0", "0", "1000", "0", "77"]
        back = box.scratch / f"own-{tree.name}"
        pod.copy_from("/room/archive", back, container="root", archive=True)
        assert (back / "tool").stat().st_uid == 77
        assert seen(back) == seen(tree)


def test_a_full_disk_leaves_nothing_half_made(client: nsrun.Client, box: Host) -> None:
    mounts = [{"name": "small", "mountPath": "/small"}]
    volume = {"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    wish = manifest("full", container("app", SLEEPER, volumeMounts=mounts), volumes=[volume])
    big = box.scratch / "big"
    big.write_bytes(bytes(range(256)) * 8192)
    with client.up(json.dumps(wish)) as pod:
        with pytest.raises(StepError, match="No space left on device"):
            pod.copy_to(big, "/small/big")
        assert pod.exec(["ls", "-A", "/small"]).text == ""


def test_the_command(box: Host, pod: nsrun.Pod, tree: Path) -> None:
    done = box.nsrun("pod", "cp", tree / "plain", "files:/room/by-command", "-c", "root")
    assert done.stderr == "1 file, 6 bytes\n"
    out = box.scratch / "out"
    box.nsrun("pod", "cp", "default/files:by-command", out, "-c", "root", "-q")
    assert out.read_text() == "plain\n"
    for words, text in (
        (("a", "b"), "one of SRC and DST has to be a path of this machine"),
        (("files:/a", "files:/b"), "one of SRC and DST"),
        (("files:", "b"), "has no path after the colon"),
        (("files:/room/by-command", "-"), "nsrun pod exec POD -- tar c PATH; a file of that name is ./-"),
        (("-", "files:/room"), "nsrun pod exec -i POD -- tar x -C DIR"),
        (("a/b/c:/x", "b"), "is no POD:PATH"),
        (("nobody:/a", "b"), 'pod "default/nobody" not found'),
    ):
        refused = box.nsrun("pod", "cp", *words, check=False)
        assert refused.returncode != 0
        assert text in refused.stderr
    # What begins with a dot or a slash is here, also with a colon.
    (box.scratch / "a:b").write_text("colon")
    box.nsrun("pod", "cp", box.scratch / "a:b", "files:/room/", "-c", "root")
    assert pod.exec(["cat", "/room/a:b"], container="root").text == "colon"


def test_a_container_that_does_not_run(client: nsrun.Client, box: Host) -> None:
    wish = manifest("over", container("app", "exit 0"), restartPolicy="Never")
    with client.up(json.dumps(wish)) as pod:
        pod.wait_phase("Succeeded", 20)
        with pytest.raises(ConflictError, match="does not run: Completed, exit code 0"):
            pod.copy_from("/etc/hostname", box.scratch / "x")
