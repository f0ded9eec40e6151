"""hostPath: its types, its words, propagation."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nsrun import native
from nsrun.errors import PodFailedError
from tests.host.server.harness import Server, pod, until
from tests.host.volumes.looking import events, fails, mount, mounts, nothing_left, pausing, said, up, volume

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def place(server: Server) -> Path:
    """A directory of the host with one thing of each kind."""
    place = server.host.scratch / "place"
    (place / "Directory").mkdir(parents=True)
    (place / "File").write_text("text")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / "Socket"))
    return place


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket"])
def test_S_VOL_host_path_of_the_right_type(server: Server, place: Path, kind: str) -> None:
    up(server, volume("v", hostPath={"path": str(place / kind), "type": kind}), mounts=[mount("v", "/v")])
    assert said(server, "stat", "/v").startswith("/v ")


@pytest.mark.parametrize(
    ("kind", "what", "path", "found"),
    [
        ("Directory", "directory", "File", "File"),
        ("DirectoryOrCreate", "directory", "File", "File"),
        ("File", "file", "Directory", "Directory"),
        ("FileOrCreate", "file", "Socket", "Socket"),
        ("Socket", "socket file", "File", "File"),
        ("CharDevice", "character device", "Directory", "Directory"),
        ("BlockDevice", "block device", "File", "File"),
    ],
)
def test_S_VOL_host_path_of_another_type(
    server: Server, place: Path, kind: str, what: str, path: str, found: str
) -> None:
    where = place / path
    manifest = pod(
        "web", pausing("a", mount("v", "/v")), volumes=[volume("v", hostPath={"path": str(where), "type": kind})]
    )
    words = f"""MountVolume.SetUp failed for volume "v" : hostPath type check failed: {where} is not a {what}, it's a {found}"""
    with pytest.raises(PodFailedError) as caught:
        server.up(manifest)
    assert words in str(caught.value)
    assert words in events(server, "FailedMount")
    status = server.get("web")["status"]
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"


def test_S_VOL_host_path_that_is_missing_is_waited_for(server: Server, place: Path) -> None:
    where = place / "later"
    source = {"path": str(where), "type": "Directory"}
    manifest = pod("web", pausing("a", mount("v", "/v")), volumes=[volume("v", hostPath=source)])
    uid = server.up(manifest, wait="none")["pods"][0]["uid"]
    words = f"""MountVolume.SetUp failed for volume "v" : hostPath {where} doesn't exist"""
    until(lambda: words in events(server, "FailedMount"))
    server.kill()
    where.mkdir()
    server.wait("web", "condition=Ready")
    server.down("web")
    nothing_left(server, uid)
    assert where.is_dir()


@pytest.mark.parametrize(("kind", "mode"), [("DirectoryOrCreate", 0o755), ("FileOrCreate", 0o644), ("", 0o755)])
def test_S_VOL_host_path_is_made_if_missing(server: Server, place: Path, kind: str, mode: int) -> None:
    where = place / "new"
    source: dict[str, Any] = {"path": str(where)} | ({"type": kind} if kind else {})
    up(server, volume("v", hostPath=source), mounts=[mount("v", "/v")])
    assert stat.S_IMODE(where.stat().st_mode) == mode
    assert where.is_file() == (kind == "FileOrCreate")
    server.down("web")
    assert where.exists()


def test_S_VOL_host_path_is_not_made_through_a_link_that_leads_nowhere(server: Server, place: Path) -> None:
    (place / "link").symlink_to(place / "elsewhere")
    source = {"path": str(place / "link"), "type": "FileOrCreate"}
    server.up(pod("web", pausing("a", mount("v", "/v")), volumes=[volume("v", hostPath=source)]), wait="none")
    words = f"""MountVolume.SetUp failed for volume "v" : hostPath {place / "link"} doesn't exist"""
    until(lambda: words in events(server, "FailedMount"))
    assert not (place / "elsewhere").exists()


def test_S_VOL_host_path_null_device_is_usable_and_others_are_not(server: Server, place: Path) -> None:
    os.mknod(place / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 250))
    up(
        server,
        volume("null", hostPath={"path": "/dev/null", "type": "CharDevice"}),
        volume("dev", hostPath={"path": str(place)}),
        mounts=[mount("null", "/quiet"), mount("dev", "/place")],
    )
    said(server, "write", "/quiet", "x")
    assert "EACCES" in fails(server, "cat", "/place/disk")


def test_S_VOL_what_is_mounted_below_comes_along_without_its_devices(server: Server, place: Path) -> None:
    below = place / "Directory"
    native.mount("tmpfs", below, "tmpfs")
    try:
        os.mknod(below / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (below / "f").write_text("below")
        up(
            server,
            volume("v", hostPath={"path": str(place)}),
            mounts=[
                mount("v", "/v"),
                mount("v", "/ro", readOnly=True),
                mount("v", "/rro", readOnly=True, recursiveReadOnly="Enabled"),
            ],
        )
        assert said(server, "cat", "/v/Directory/f") == "below"
        assert "EACCES" in fails(server, "cat", "/v/Directory/null")
        assert "EROFS" in fails(server, "write", "/ro/x", "x")
        said(server, "write", "/ro/Directory/x", "read-only is not recursive")
        assert "EROFS" in fails(server, "write", "/rro/Directory/x", "x")
        server.down("web")
    finally:
        native.umount2(below)


@pytest.fixture
def shared(place: Path) -> Any:
    """A directory whose mounts travel, as those of a machine with systemd do."""
    native.mount("tmpfs", place / "Directory", "tmpfs")
    native.mount_setattr(place / "Directory", propagation=native.flags("MS_SHARED"))
    try:
        yield place / "Directory"
    finally:
        native.umount2(place / "Directory", native.flags("MNT_DETACH"))


def test_S_VOL_mount_propagation(server: Server, shared: Path) -> None:
    (shared / "sub").mkdir()
    mine = [
        mount("v", "/none"),
        mount("v", "/slave", mountPropagation="HostToContainer"),
        mount("v", "/both", mountPropagation="Bidirectional"),
    ]
    server.up(
        pod(
            "web",
            pausing("a", *mine, securityContext={"privileged": True}),
            volumes=[volume("v", hostPath={"path": str(shared)})],
        )
    )
    native.mount("tmpfs", shared / "sub", "tmpfs")
    (shared / "sub" / "f").write_text("seen")
    assert said(server, "cat", "/slave/sub/f") == "seen"
    assert said(server, "cat", "/both/sub/f") == "seen"
    assert "ENOENT" in fails(server, "cat", "/none/sub/f")
    seen = mounts(server)
    assert "shared" in seen["/both"][2]
    assert "shared" not in seen["/slave"][2]
    assert "shared" not in seen["/none"][2]
    server.down("web")
    assert (shared / "sub" / "f").read_text() == "seen"
    native.umount2(shared / "sub")


@pytest.mark.parametrize(("how", "what"), [("HostToContainer", "shared or slave"), ("Bidirectional", "shared")])
def test_S_VOL_propagation_needs_a_mount_that_takes_part(server: Server, place: Path, how: str, what: str) -> None:
    native.mount("tmpfs", place / "Directory", "tmpfs")
    native.mount_setattr(place / "Directory", propagation=native.flags("MS_PRIVATE"))
    try:
        where = place / "Directory"
        one = pausing("a", mount("v", "/v", mountPropagation=how), securityContext={"privileged": True})
        server.up(pod("web", one, volumes=[volume("v", hostPath={"path": str(where)})]), wait="none")
        until(lambda: "CreateContainerError" in str(server.container("web", "a")["state"]))
        words = server.container("web", "a")["state"]["waiting"]["message"]
        assert words == f'failed to generate spec: path "{where}" is mounted on "{where}" but it is not a {what} mount'
        server.down("web")
    finally:
        native.umount2(place / "Directory")


def test_S_VOL_a_privileged_container_can_have_the_machines_dev(server: Server) -> None:
    source = {"path": "/dev", "type": "Directory"}
    one = pausing("a", mount("dev", "/dev"), securityContext={"privileged": True})
    server.up(pod("web", one, volumes=[volume("dev", hostPath=source)]))
    assert mounts(server)["/dev"][0] == next(
        line.split()[3] for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == "/dev"
    )
    said(server, "ls", "/dev/pts")
    server.down("web")


@pytest.mark.parametrize(
    ("path", "words"),
    [("/proc/sys", '"/proc/sys" cannot be mounted because it is inside /proc'), ("/", "cannot be the root")],
)
def test_S_VOL_places_that_cannot_be_mounted_on(server: Server, path: str, words: str) -> None:
    server.up(pod("web", pausing("a", mount("v", path)), volumes=[volume("v")]), wait="none")
    until(
        lambda: (
            "waiting" in server.container("web", "a")["state"]
            and "CreateContainerError" in str(server.container("web", "a")["state"])
        )
    )
    assert words in server.container("web", "a")["state"]["waiting"]["message"]


def test_S_VOL_a_read_only_directory_of_the_host(server: Server) -> None:
    place = server.root / "only-to-read"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "small", str(place)], check=True)
    try:
        made = {"path": f"{place}/new", "type": "DirectoryOrCreate"}
        server.up(pod("bad", pausing("a", mount("h", "/h")), volumes=[volume("h", hostPath=made)]), wait="none")
        up(server, volume("h", hostPath={"path": str(place), "type": "Directory"}), mounts=[mount("h", "/h")])
        assert "EROFS" in fails(server, "write", "/h/x", "x")
        until(lambda: events(server, "FailedMount", "bad"))
        assert "Read-only file system" in events(server, "FailedMount", "bad")[0]
        server.call("pod.down", all=True, grace_period_s=0)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
