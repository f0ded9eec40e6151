"""Hostile images: links where the runtime and the server mount, write, read and look things up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import SpecError
from tests.host.escapes.stage import Stage
from tests.host.server.harness import box, pod, until

IMAGE = "tests.local/hostile"
POD = "hostile"


class Hostile:
    """An image whose root file system somebody made for no good, and the pod that runs it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = stage.rootfs(IMAGE)

    def link(self, path: str, text: str | Path) -> None:
        """`path` in the image becomes a link, whatever was there."""
        place = self.root / path.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(text)

    def up(self, *words: str, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        """Run it; the status of its container, once it runs, has ended, or cannot be."""
        self.stage.import_image(IMAGE)
        spec.setdefault("restartPolicy", "Never")
        fields = {"image": IMAGE, **(container or {})}
        self.stage.server.up(pod(POD, box("a", *(words or ("pause",)), **fields), **spec), wait="none")
        reasons = ("CreateContainerError", "CreateContainerConfigError", "RunContainerError")

        def settled() -> bool:
            status = self.stage.server.get(POD)["status"].get("containerStatuses", [{}])[0]
            state = status.get("state", {})
            waiting = state.get("waiting", {}).get("reason", "")
            return "running" in state or "terminated" in state or waiting in reasons

        until(settled)
        state: dict[str, Any] = self.stage.server.container(POD, "a")["state"]
        return state

    def run(self, *words: str) -> list[str]:
        return self.stage.run(f"{POD}/a", *words)


@pytest.fixture
def hostile(stage: Stage) -> Iterator[Hostile]:
    shutil.rmtree(stage.host.scratch / "images" / "tests.local_hostile", ignore_errors=True)
    yield Hostile(stage)
    stage.server.down(POD, missing_ok=True)


def refused(state: dict[str, Any]) -> str:
    """Why a container did not start."""
    assert "running" not in state, state
    said = state.get("terminated") or state["waiting"]
    assert said.get("reason") in ("StartError", "CreateContainerError", "CreateContainerConfigError"), state
    return str(said.get("message"))


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev"])
def test_a_link_where_the_kernel_is_mounted(hostile: Hostile, path: str) -> None:
    """Whoever could replace the link later would decide what others take for /proc (CVE-2019-19921, CVE-2023-27561)."""
    (hostile.root / "elsewhere").mkdir()
    hostile.link(path, "/elsewhere")
    assert path in refused(hostile.up())
    # Control: a directory.
    hostile.stage.server.down(POD)
    (hostile.root / path.lstrip("/")).unlink()
    (hostile.root / path.lstrip("/")).mkdir()
    assert "running" in hostile.up()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("hosts", "/proc/self/oom_score_adj"),
        ("hostname", "/proc/1/environ"),
        ("resolv.conf", "../proc/self/comm"),
    ],
)
def test_a_file_of_the_pod_put_over_proc(hostile: Hostile, name: str, target: str) -> None:
    """What is mounted over a file of /proc decides what whoever writes there does (CVE-2019-16884, CVE-2025-52881)."""
    hostile.link(f"/etc/{name}", target)
    assert f"/etc/{name}" in refused(hostile.up())
    # Control: a link to a file elsewhere is followed.
    hostile.stage.server.down(POD)
    hostile.link(f"/etc/{name}", "../tmp/there")
    assert "running" in hostile.up()
    assert hostile.run("show", "/tmp/there")[-1] == "ok"


def test_a_volume_put_over_proc_by_a_link(hostile: Hostile) -> None:
    hostile.link("/data", "/proc")
    volumes = [{"name": "v", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/data/self"}]
    assert "/data/self" in refused(hostile.up(container={"volumeMounts": mounts}, volumes=volumes))
    # Control: the same by a link to somewhere else.
    hostile.stage.server.down(POD)
    hostile.link("/data", "/tmp")
    assert "running" in hostile.up(container={"volumeMounts": mounts}, volumes=volumes)


@pytest.mark.parametrize("place", ["absolute", "relative"])
def test_links_to_the_machine_where_things_are_mounted(hostile: Hostile, place: str) -> None:
    """/etc, a mount point and the directory of the termination message are links to a directory of the machine (CVE-2017-1002101)."""
    outside = hostile.stage.outside
    target = outside if place == "absolute" else Path("../" * 20 + str(outside))
    for path in ("/etc", "/data", "/message"):
        hostile.link(path, target)
    state = hostile.up(
        container={
            "volumeMounts": [{"name": "v", "mountPath": "/data/volume"}],
            "terminationMessagePath": "/message/log",
            "workingDir": "/data/made",
        },
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    assert "running" in state, state
    # They all lie in the container's own file system, in a directory of that name.
    assert hostile.run("show", f"{outside}/secret") == ["ENOENT"]
    assert hostile.run("show", f"{outside}/hostname")[-1] == "ok"
    assert os.listdir(outside) == ["secret"]


def test_passwd_that_is_the_machines(hostile: Hostile) -> None:
    """The server reads /etc/passwd of an image (CVE-2018-15664 has the class: a runtime that follows a container's links)."""
    hostile.link("/etc/passwd", "../" * 20 + "etc/passwd")
    machine = next(
        line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines() if int(line.split(":")[2]) > 0
    )
    (hostile.root / "etc/passwd").unlink()
    (hostile.root / "etc/passwd").symlink_to("/etc/../../../.." + "/etc/passwd")
    hostile.stage.server.call(
        "image.import", name=IMAGE, path=str(hostile.root), config={"user": machine, "env": ["PATH=/bin"]}
    )
    hostile.stage.server.up(pod(POD, box("a", "pause", image=IMAGE)), wait="none")
    until(lambda: "waiting" in hostile.stage.server.container(POD, "a")["state"])
    until(lambda: "unable to find user" in str(hostile.stage.server.container(POD, "a")["state"]))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["fifo", "endless"])
def test_passwd_that_is_no_file(hostile: Hostile, make: Callable[[Path], None]) -> None:
    (hostile.root / "etc/passwd").unlink()
    make(hostile.root / "etc/passwd")
    hostile.stage.import_image(IMAGE)
    assert "running" in hostile.up(container={"securityContext": {"runAsUser": 1000}})


@pytest.mark.parametrize("kind", [0o60666, 0o20666], ids=["block", "character"])
def test_devices_in_an_image(hostile: Hostile, kind: int) -> None:
    os.mknod(hostile.root / "node", kind, os.makedev(1, 3))
    with pytest.raises(SpecError, match="node is a device node"):
        hostile.stage.import_image(IMAGE)


@pytest.mark.parametrize("how", ["command", "script", "link"])
def test_the_runtime_executes_itself(hostile: Hostile, how: str) -> None:
    """/proc/self/exe as the command is the runtime's program, with the container's libraries (CVE-2019-5736)."""
    if how == "script":
        (hostile.root / "bin/evil").write_text("#!/proc/self/exe\n")
        (hostile.root / "bin/evil").chmod(0o755)
    else:
        hostile.link("/bin/evil", "/proc/self/exe")
    state = hostile.up(container={"command": ["/proc/self/exe" if how == "command" else "/bin/evil"]})
    # It is dynamically linked, and there is no linker for it; or it is told that it has not been started as it should.
    said = state["terminated"]
    assert said["exitCode"] != 0 and said["reason"] in ("StartError", "Error", "ContainerCannotRun"), state


def planter(*names: str) -> dict[str, Any]:
    """An init container that makes links in the volume that is to be the next one's /dev."""
    words = [
        word
        for name in names
        for word in ("exec", "/bin/attacks", "make_link", f"/planted/{name}", "/proc/sys/kernel/core_pattern", ";")
    ]
    mount = {"name": "dev", "mountPath": "/planted"}
    return box("planter", "seq", *words[:-1], image=IMAGE, volumeMounts=[mount])


@pytest.mark.parametrize("tty", [False, True])
def test_a_dev_full_of_links(hostile: Hostile, tty: bool) -> None:
    """Links in /dev decide neither what covers masked paths nor where a terminal goes (CVE-2025-31133, CVE-2025-52565)."""
    volumes = [{"name": "dev", "emptyDir": {}}]
    fields = {"volumeMounts": [{"name": "dev", "mountPath": "/dev"}], "terminationMessagePath": "/tmp/message"}
    links = ("console", "stdin", "fd", "full", "tty")
    # Without standard input it needs a /dev/null; with a terminal, a /dev/ptmx, and it is bound at /dev/console.
    stdin = {"stdin": not tty, "tty": tty}
    state = hostile.up(container={**fields, **stdin}, volumes=volumes, initContainers=[planter(*links)])
    assert hostile.stage.server.lines(POD, "planter").count("ok") == len(links)
    if "running" in state:
        assert hostile.run("show", "/proc/timer_list") == ["ok"], "covered: it is empty"
        assert hostile.run("write_back", "/proc/sys/kernel/core_pattern") == ["EROFS"]
    else:
        assert tty and "/dev/" in refused(state)
    hostile.stage.server.down(POD)
    state = hostile.up(
        container={**fields, "tty": tty}, volumes=volumes, initContainers=[planter("null", "ptmx", *links)]
    )
    assert "/dev/ptmx" in refused(state) if tty else "/dev/null" in refused(state)
