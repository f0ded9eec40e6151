"""Images with the command: files in and out, and pods that run on what came in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.images.making import Layout, directory, entry, layer, whiteout
from tests.host.testhost import Host
from tests.rootfs import build_tar

pytestmark = pytest.mark.host


@pytest.fixture
def box(leak_check: None, host: Host) -> Iterator[Host]:
    """A root of the test's own, whose server is stopped in the end."""
    yield host
    host.nsrun("pod", "down", "--all", "--force")
    host.nsrun("server", "stop")


def layout(box: Host, upper: int = 28) -> Layout:
    """An image with the test program below and many layers above it."""
    made = Layout(box.scratch / "layout")
    rootfs = box.scratch / "rootfs.tar"
    build_tar(rootfs)
    layers = [
        rootfs.read_bytes(),
        layer([directory("data"), *(entry(f"data/{at}", data=b"old\n") for at in range(40))]),
    ]
    layers += [layer([entry(f"data/{at}", data=b"new\n"), whiteout(f"data/{at + 1}")]) for at in range(0, upper, 1)]
    made.image("example.org/many:1", layers, process={"Cmd": ["/bin/cat", "/data/0", "/data/27"], "Env": ["PATH=/bin"]})
    return made


def pod(image: str, **container: object) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p"},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": image, **container}],
            },
        }
    )


def run(box: Host, image: str, **container: object) -> str:
    """What a container of the image prints."""
    path = box.scratch / "pod.json"
    path.write_text(pod(image, **container))
    box.nsrun("pod", "up", path, "--no-wait")
    box.nsrun("pod", "wait", "p", "--for=phase=Succeeded", "--timeout=20s")
    said = box.nsrun("pod", "logs", "p").stdout
    box.nsrun("pod", "down", "p")
    return said


def test_a_pod_of_thirty_layers(box: Host) -> None:
    made = layout(box)
    done = box.nsrun("image", "load", made.path)
    assert done.stdout.startswith("image/example.org/many:1 loaded (")
    assert run(box, "example.org/many:1") == "new\nnew\n"
    assert run(box, "example.org/many:1", command=["/bin/cat", "/data/39"]) == "old\n"
    names = run(box, "example.org/many:1", command=["/bin/ls", "/data"]).split()
    assert "28" not in names, "a whiteout of the last layer"


def test_out_of_standard_input_and_back(box: Host) -> None:
    made = layout(box, upper=2)
    archive = box.scratch / "a.tar"
    subprocess.run(
        ["skopeo", "copy", f"oci:{made.path}:example.org/many:1", f"docker-archive:{archive}:app:1"],
        check=True,
        capture_output=True,
    )
    with archive.open("rb") as file:
        done = subprocess.run(
            box.nsrun_argv("image", "load", "-"), stdin=file, check=True, capture_output=True, text=True
        )
    assert done.stdout.startswith("image/docker.io/library/app:1 loaded (")
    box.nsrun("image", "tag", "app:1", "app:2")
    box.nsrun("image", "save", "app:1", "app:2", "-o", box.scratch / "saved.tar")
    with tarfile.open(box.scratch / "saved.tar") as saved:
        assert "manifest.json" in saved.getnames()
    box.nsrun("image", "rm", "app:1", "app:2")
    assert box.nsrun("image", "ls", "-q").stdout.split() == ["nsrun.local/host:latest"]
    box.nsrun("image", "load", box.scratch / "saved.tar")
    assert box.nsrun("image", "ls", "-q").stdout.split() == [
        "nsrun.local/host:latest",
        "docker.io/library/app:1",
        "docker.io/library/app:2",
    ]
    assert not (box.scratch / "saved.tar.part").exists()
    failed = box.nsrun("image", "save", "app:3", "-o", box.scratch / "other.tar", check=False)
    assert (failed.returncode, list(box.scratch.glob("other*"))) == (4, [])


def test_an_image_in_use_stays(box: Host) -> None:
    box.nsrun("image", "load", layout(box, upper=1).path)
    path = box.scratch / "pod.json"
    path.write_text(pod("example.org/many:1", command=["/bin/pause"]))
    box.nsrun("pod", "up", path)
    done = box.nsrun("image", "rm", "example.org/many:1", check=False)
    assert done.returncode == 5
    assert "in use by default/p" in done.stderr
    (image,) = [
        one for one in json.loads(box.nsrun("image", "ls", "-o", "json").stdout)["images"] if "many" in one["name"]
    ]
    assert image["used_by"] == ["default/p"]
    box.nsrun("pod", "down", "p")
    box.nsrun("image", "rm", "example.org/many:1")


def test_looking_at_images_and_pruning(box: Host) -> None:
    made = layout(box, upper=2)
    box.nsrun("image", "load", made.path)
    (image,) = json.loads(box.nsrun("image", "inspect", "example.org/many:1").stdout)
    assert image["names"] == ["example.org/many:1"]
    assert image["digest"] == made.manifests[0]["digest"]
    assert image["document"]["config"]["Cmd"] == ["/bin/cat", "/data/0", "/data/27"]
    assert len(image["layers"]) == len(image["manifest"]["layers"]) == 4
    assert [one["unpacked_size"] for one in image["layers"][1:]] == [160, 4, 4]
    steps = json.loads(box.nsrun("image", "history", "example.org/many:1", "-o", "json").stdout)["steps"]
    assert [one["by"] for one in steps] == ["step 3", "step 2", "step 1", "step 0"]
    assert [one["size"] for one in steps[:3]] == [4, 4, 160]
    table = box.nsrun("image", "history", "example.org/many:1").stdout.splitlines()
    assert table[0].split() == ["CREATED", "SIZE", "BY", "COMMENT"]
    assert "step 3" in table[1]
    assert box.nsrun("image", "history", "nsrun.local/host").stdout.count("\n") == 1
    path = box.scratch / "pod.json"
    path.write_text(pod("example.org/many:1", command=["/bin/pause"]))
    box.nsrun("pod", "up", path)
    (box.scratch / "tree").mkdir()
    (box.scratch / "tree/file").write_text("x" * 100_000)
    box.nsrun("image", "import", "example.org/idle:1", box.scratch / "tree")
    usage = json.loads(box.nsrun("image", "df", "-o", "json").stdout)
    assert (usage["images"], usage["unused"]) == (2, 1)
    assert 200_000 < usage["reclaimable"] < 230_000
    assert "2, 1 of them unused" in box.nsrun("image", "df").stdout
    (box.scratch / "tree/file").write_text("y" * 100_000)
    box.nsrun("image", "import", "example.org/idle:1", box.scratch / "tree")
    done = box.nsrun("image", "prune")
    assert done.stdout.startswith("image/sha256:")
    assert "of blobs freed" in done.stderr
    assert box.nsrun("image", "prune").stdout == ""
    box.nsrun("image", "tag", "example.org/idle:1", "example.org/also:2")
    told = box.nsrun("image", "prune", "--all").stdout
    assert told == "image/example.org/also:2 removed\nimage/example.org/idle:1 removed\n"
    assert box.nsrun("image", "ls", "-q").stdout.split() == ["nsrun.local/host:latest", "example.org/many:1"]
    assert run_again(box) == "new\n"


def run_again(box: Host) -> str:
    """A command in the pod whose image was not pruned."""
    return box.nsrun("pod", "exec", "p", "--", "/bin/cat", "/data/0").stdout


def test_files_that_are_no_images(box: Host) -> None:
    (box.scratch / "text").write_text("plainly not an archive" * 100)
    for arguments, code, words in (
        (["load", box.scratch / "text"], 3, "not a whole tar archive"),
        (["load", box.scratch / "none"], 4, "there is no such file"),
        (["load", box.scratch], 3, "neither a manifest.json nor an index.json"),
        (["tag", "none", "x"], 4, 'there is no image "none"'),
        (["tag", "nsrun.local/host", "x"], 5, "built in"),
        (["save", "nsrun.local/host", "-o", box.scratch / "x"], 5, "this machine's own"),
    ):
        done = box.nsrun("image", *arguments, check=False)
        assert done.returncode == code, done.stderr
        assert words in done.stderr


def workers(box: Host) -> list[int]:
    """Processes that work on images of this root's server."""
    status = json.loads(box.nsrun("server", "status", "-o", "json").stdout)
    children = Path(f"/proc/{status['pid']}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"nsrun.images.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("victim", ["client", "server", "worker"])
def test_whoever_is_killed_during_a_load_leaves_nothing(box: Host, victim: str) -> None:
    archive = box.scratch / "big.tar"
    made = Layout(box.scratch / "layout")
    made.image("example.org/big:1", [layer([entry(f"f{at}", data=os.urandom(1 << 20)) for at in range(40)])])
    subprocess.run(
        ["skopeo", "copy", f"oci:{made.path}:example.org/big:1", f"oci-archive:{archive}:example.org/big:1"],
        check=True,
        capture_output=True,
    )
    box.nsrun("image", "ls")
    # Half of it, and then nothing more: the work waits in the middle.
    data = archive.read_bytes()
    reader, writer = os.pipe()
    feeding = threading.Thread(target=lambda: os.write(writer, data[: len(data) // 2]))
    with subprocess.Popen(
        box.nsrun_argv("image", "load", "-"), stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        os.close(reader)
        feeding.start()
        deadline = time.monotonic() + 10
        while not workers(box):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        feeding.join(20)
        (worker,) = workers(box)
        server = json.loads(box.nsrun("server", "status", "-o", "json").stdout)["pid"]
        os.kill({"client": client.pid, "server": server, "worker": worker}[victim], signal.SIGKILL)
        while Path(f"/proc/{worker}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.close(writer)
        client.wait(10)
    assert box.nsrun("image", "ls", "-q").stdout.split() == ["nsrun.local/host:latest"]
    box.nsrun("image", "load", archive)
    images = box.root / "lib/images"
    assert not [*images.glob(".new*"), *images.glob("partial/*")]
    box.nsrun("image", "rm", "example.org/big:1")
    assert not list(images.glob("blobs/sha256/*"))
