"""Links exchanged by one container while another one's mounts are made, and by the time the server looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.escapes.stage import SECRET, Stage
from tests.host.server.harness import box, pod, until

POD = "racing"
ROUNDS = 12


def _swapping(link: str) -> list[dict[str, Any]]:
    """Containers of which the first makes a directory and a link, and the second exchanges them for as long as it runs."""
    mounts = [{"name": "shared", "mountPath": "/s"}]
    words = [
        *("mkdir", "/s/way", ";"),
        *("mkdir", "/s/way/in", ";"),
        "exec",
        "/bin/attacks",
        "make_link",
        "/s/other",
        link,
    ]
    return [
        box("maker", "seq", *words, volumeMounts=mounts),
        box("swapper", "attacks", "swap", "600", "/s/way", "/s/other", volumeMounts=mounts, restartPolicy="Always"),
    ]


@pytest.mark.parametrize("kind", ["mount", "directory", "file"])
def test_a_mount_point_that_is_exchanged(stage: Stage, kind: str) -> None:
    """A second volume is mounted below a first, where another container exchanges a directory for a link (CVE-2021-30465)."""
    outside = stage.outside
    maker, swapper = _swapping(str(outside))
    inner: dict[str, Any] = {"name": "inner", "mountPath": "/v/way/in/deep" if kind == "directory" else "/v/way/in"}
    volumes: list[dict[str, Any]] = [{"name": "shared", "emptyDir": {}}, {"name": "inner", "emptyDir": {}}]
    if kind == "file":
        volumes[1] = {"name": "inner", "hostPath": {"path": str(stage.host.scratch / "a file"), "type": "FileOrCreate"}}
        inner["mountPath"] = "/v/way/file"
    mounts = [{"name": "shared", "mountPath": "/v"}, inner]
    containers = [box(f"c{number}", "mounts", volumeMounts=mounts) for number in range(ROUNDS)]
    stage.server.up(pod(POD, *containers, inits=(maker, swapper), volumes=volumes, restartPolicy="Never"), wait="none")
    try:

        def ended() -> bool:
            found = stage.server.get(POD)["status"].get("containerStatuses", [])
            return len(found) == ROUNDS and all("terminated" in one["state"] for one in found)

        until(ended)
        places: set[str] = set()
        for one in stage.server.get(POD)["status"]["containerStatuses"]:
            if one["state"]["terminated"]["reason"] != "Completed":
                continue  # the way was another one at the wrong moment: it did not start
            lines = stage.server.lines(POD, one["name"])
            places.update(line.split()[0] for line in lines if line.split()[0].startswith(("/v/", str(outside))))
        # Wherever it came to lie, it lies in the container; the machine's directory is not its mount point, nor has it anything new.
        assert places, "none was mounted"
        assert os.listdir(outside) == ["secret"]
        assert str(outside) not in Path("/proc/self/mountinfo").read_text()
    finally:
        stage.server.down(POD)


def test_a_sub_path_that_is_exchanged(stage: Stage) -> None:
    """The part of a volume that is mounted is exchanged for a link to the machine's files (CVE-2017-1002101, CVE-2021-25741)."""
    maker, swapper = _swapping(str(stage.outside))
    mounts = [{"name": "shared", "mountPath": "/v", "subPath": "way"}]
    containers = [box(f"c{number}", "ls", "/v", volumeMounts=mounts) for number in range(ROUNDS)]
    stage.server.up(
        pod(
            POD,
            *containers,
            inits=(maker, swapper),
            volumes=[{"name": "shared", "emptyDir": {}}],
            restartPolicy="Never",
        ),
        wait="none",
    )
    try:

        def settled() -> bool:
            found = stage.server.get(POD)["status"].get("containerStatuses", [])
            states = [str(one["state"]) for one in found]
            return len(found) == ROUNDS and all("terminated" in one or "Error" in one for one in states)

        until(settled)
        seen: set[str] = set()
        for one in stage.server.get(POD)["status"]["containerStatuses"]:
            if "terminated" in one["state"]:
                seen.update(stage.server.lines(POD, one["name"]))
        assert seen <= {"in"}, "neither the secret nor anything else of the machine"
    finally:
        stage.server.down(POD)


def _settled(stage: Stage, count: int) -> dict[str, dict[str, Any]]:
    """How the containers of the pod ended, once all have."""

    def ends() -> dict[str, dict[str, Any]]:
        found = stage.server.get(POD)["status"].get("containerStatuses", [])
        return {one["name"]: one["state"]["terminated"] for one in found if "terminated" in one["state"]}

    until(lambda: len(ends()) == count)
    return ends()


@pytest.mark.parametrize("kind", ["Directory", "File", ""])
def test_a_host_path_that_is_exchanged(stage: Stage, kind: str) -> None:
    """Another pod exchanges what a hostPath names for a link to something else of the machine, after its type was looked at."""
    place, outside = stage.host.scratch / f"hostPath{kind}", stage.outside
    (place / "way").mkdir(parents=True)
    (place / "way" / "in").touch()
    (place / "file").write_text("mine")
    first, wrong = ("file", outside) if kind == "File" else ("way", outside / "secret")
    (place / "other").symlink_to(wrong)
    source: dict[str, Any] = {"path": str(place / first)} | ({"type": kind} if kind else {})
    words = ("ls", "/v") if kind == "Directory" else ("cat", "/v")
    ours = {"in"} if kind == "Directory" else {"mine"}
    fields: dict[str, Any] = {"volumes": [{"name": "v", "hostPath": source}], "restartPolicy": "Never"}

    def reader(number: int) -> dict[str, Any]:
        return box(f"c{number}", *words, volumeMounts=[{"name": "v", "mountPath": "/v"}])

    # Once as slowly as can be: the volume is set up, an init container runs, and then it is the other.
    inits = (box("wait", "await", "/dev/shm/go"),)
    stage.server.up(pod(POD, reader(0), inits=inits, **fields), wait="none")
    try:
        until(lambda: "'running'" in str(stage.server.get(POD)["status"].get("initContainerStatuses")))
        os.rename(place / first, place / "kept")
        os.rename(place / "other", place / first)
        stage.server.run(POD, "/bin/write", "/dev/shm/go", "", container="wait")
        end = _settled(stage, 1)["c0"]
        said = stage.server.lines(POD, "c0")
    finally:
        stage.server.down(POD)
    if not kind:
        # The control: who asks for no type gets what is there, as the machine's owner wanted it.
        assert said == [SECRET]
        return
    assert (end["reason"], said) == ("StartError", [])
    assert ("ENOTDIR" if kind == "Directory" else "EISDIR") in end["message"]

    # And as fast as can be.
    os.rename(place / first, place / "other")
    os.rename(place / "kept", place / first)
    shared = [{"name": "s", "mountPath": "/s"}]
    swapper = box("a", "attacks", "swap", "600", f"/s/{first}", "/s/other", volumeMounts=shared)
    stage.server.up(pod("swapping", swapper, volumes=[{"name": "s", "hostPath": {"path": str(place)}}]))
    try:
        stage.server.up(pod(POD, *map(reader, range(ROUNDS)), **fields), wait="none")
        ends = _settled(stage, ROUNDS)
        assert {line for name in ends for line in stage.server.lines(POD, name)} <= ours
        assert os.listdir(outside) == ["secret"]
    finally:
        stage.server.down(POD, "swapping")
