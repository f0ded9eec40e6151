"""emptyDir: as long as the pod, for all of its containers, gone with it."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time
from pathlib import Path

import pytest

from nsrun import native
from tests.host.server.harness import Server, box, pod, until
from tests.host.volumes.looking import fails, mount, mounts, nothing_left, pausing, said, up, volume

pytestmark = pytest.mark.timeout(90)


def test_S_VOL_empty_dir_is_shared_open_to_all_and_gone_with_the_pod(server: Server) -> None:
    manifest = pod(
        "web",
        pausing("a", mount("data", "/data")),
        pausing("b", mount("data", "/other/place"), securityContext={"runAsUser": 1000}),
        volumes=[volume("data")],
    )
    uid = server.up(manifest)["pods"][0]["uid"]
    said(server, "write", "/other/place/f", "from b", container="b")
    assert said(server, "cat", "/data/f") == "from b"
    directory = server.root / "lib" / "volumes" / uid / "data"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    assert (directory / "f").read_text() == "from b"
    server.down("web")
    nothing_left(server, uid)


def test_S_VOL_a_volume_without_a_source_is_an_empty_dir(server: Server) -> None:
    up(server, {"name": "data"}, mounts=[mount("data", "/data")])
    said(server, "write", "/data/f", "x")


def test_S_VOL_empty_dir_outlives_its_containers_the_sandbox_and_servers(server: Server) -> None:
    manifest = pod(
        "web",
        pausing("a", mount("data", "/data"), mount("mem", "/mem")),
        volumes=[volume("data"), volume("mem", emptyDir={"medium": "Memory"})],
    )
    uid = server.up(manifest)["pods"][0]["uid"]
    said(server, "write", "/data/f", "kept")
    said(server, "write", "/mem/f", "kept in memory")
    (server.root / "lib" / "volumes" / uid / "data").chmod(0o711)
    first = server.container("web", "a")["containerID"]
    server.call("pod.restart", name="web", wait=True, timeout_s=20)
    assert server.container("web", "a")["containerID"] != first
    server.kill()
    os.kill(server.runtime("web")["shim_pid"], 9)
    until(lambda: server.get("web")["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2)
    until(lambda: "running" in server.container("web", "a")["state"])
    assert said(server, "cat", "/data/f") == "kept"
    assert said(server, "cat", "/mem/f") == "kept in memory"
    assert stat.S_IMODE((server.root / "lib" / "volumes" / uid / "data").stat().st_mode) == 0o711
    server.kill()
    server.down("web")
    nothing_left(server, uid)


def test_S_VOL_empty_dir_in_memory_is_a_tmpfs_with_its_size(server: Server) -> None:
    uid = up(
        server,
        volume("mem", emptyDir={"medium": "Memory", "sizeLimit": "1Mi"}),
        mounts=[mount("mem", "/mem")],
    )
    root, options, propagation, kind, _ = mounts(server)["/mem"]
    assert (root, kind) == ("/", "tmpfs")
    assert "nodev" in options.split(",")
    assert "shared" not in propagation
    place = server.root / "run" / "pods" / uid / "volumes" / "mem"
    facts = os.statvfs(place)
    assert facts.f_blocks * facts.f_frsize == 1 << 20
    assert stat.S_IMODE(place.stat().st_mode) == 0o777
    with pytest.raises(OSError, match="No space left"):
        (place / "big").write_bytes(bytes(2 << 20))
    server.down("web")
    nothing_left(server, uid)


def test_S_VOL_fs_group_owns_what_is_written_to_an_empty_dir(server: Server) -> None:
    uid = up(
        server,
        volume("data"),
        volume("mem", emptyDir={"medium": "Memory"}),
        mounts=[mount("data", "/data"), mount("mem", "/mem")],
        securityContext={"fsGroup": 4321, "runAsUser": 1000},
    )
    for place, directory in (
        ("/data", server.root / "lib" / "volumes" / uid / "data"),
        ("/mem", server.root / "run" / "pods" / uid / "volumes" / "mem"),
    ):
        said(server, "write", f"{place}/f", "x")
        assert (stat.S_IMODE(directory.stat().st_mode), directory.stat().st_gid) == (0o2777, 4321)
        assert ((directory / "f").stat().st_uid, (directory / "f").stat().st_gid) == (1000, 4321)


def test_S_VOL_read_only_mounts_cannot_be_written(server: Server) -> None:
    up(server, volume("data"), mounts=[mount("data", "/ro", readOnly=True), mount("data", "/rw")])
    assert "EROFS" in fails(server, "write", "/ro/f", "x")
    said(server, "write", "/rw/f", "x")
    assert said(server, "cat", "/ro/f") == "x"


def test_S_VOL_mounts_within_mounts_and_over_what_the_pod_brings(server: Server) -> None:
    uid = up(
        server,
        volume("deep"),
        volume("top"),
        volume("shm"),
        volume("etc"),
        volume("tmp"),
        mounts=[
            mount("deep", "/top/a/b"),
            mount("top", "/top"),
            mount("shm", "/dev/shm"),
            mount("etc", "/etc"),
            mount("tmp", "tmp/./x/.."),
        ],
    )
    said(server, "write", "/top/a/b/f", "deep")
    said(server, "write", "/dev/shm/f", "shm")
    said(server, "write", "/tmp/f", "tmp")
    directory = server.root / "lib" / "volumes" / uid
    assert (directory / "deep" / "f").read_text() == "deep"
    assert (directory / "top" / "a" / "b").is_dir()
    assert (directory / "shm" / "f").read_text() == "shm"
    assert (directory / "tmp" / "f").read_text() == "tmp"
    # The pod's own files come on top of a volume at /etc, which gets the mount points.
    assert "web" in said(server, "cat", "/etc/hosts")
    assert sorted(one.name for one in (directory / "etc").iterdir()) == ["hostname", "hosts", "resolv.conf"]


def test_S_VOL_a_directory_cannot_be_mounted_over_a_file(server: Server) -> None:
    manifest = pod("web", pausing("a", mount("data", "/bin/testbox")), volumes=[volume("data")], restartPolicy="Never")
    server.up(manifest, wait="none")
    until(lambda: "terminated" in server.container("web", "a")["state"])
    ended = server.container("web", "a")["state"]["terminated"]
    assert ended["reason"] == "StartError"
    assert 'mount emptyDir "data" at /bin/testbox: Not a directory (ENOTDIR)' in ended["message"]


def test_S_VOL_what_containers_left_is_removed_whatever_it_is(server: Server) -> None:
    uid = up(server, volume("data"), mounts=[mount("data", "/data")])
    directory = server.root / "lib" / "volumes" / uid / "data"
    (directory / "link").symlink_to("/etc")
    deep = directory
    for _ in range(50):
        deep = deep / "d"
        deep.mkdir()
    os.mkfifo(deep / "fifo")
    server.down("web")
    nothing_left(server, uid)
    assert Path("/etc/passwd").exists()


def test_S_VOL_what_containers_made_immutable_is_removed(server: Server) -> None:
    """chattr +i and +a of a privileged container, in a volume and in its own root; down need not be told twice."""
    uid = up(server, volume("data"), mounts=[mount("data", "/data")])
    root = server.root / "lib" / "roots" / uid / server.runtime("web")["instances"][0]["id"]
    for top in (server.root / "lib" / "volumes" / uid / "data", root / "upper"):
        (top / "grows" / "in").mkdir(parents=True)
        (top / "grows" / "file").touch()
        (top / "stays").touch()
        (top / "full").mkdir()
        (top / "full" / "file").touch()
        keep(top / "grows", native.lib.FS_APPEND_FL)
        for name in ("stays", "full/file", "full", "grows/in"):
            keep(top / name, native.lib.FS_IMMUTABLE_FL)
        keep(top, native.lib.FS_IMMUTABLE_FL)
    with pytest.raises(PermissionError):
        (root / "upper" / "stays").unlink()
    server.down("web", timeout_s=10)
    nothing_left(server, uid)
    assert not root.exists()


def keep(path: Path, flag: int) -> None:
    """chattr(1)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, native.lib.FS_IOC_SETFLAGS, struct.pack("i", flag))
    finally:
        os.close(fd)


def test_S_VOL_nothing_is_left_whenever_the_server_dies(server: Server) -> None:
    """A server is killed at growing times after the request, going up and going down."""
    for round_ in range(12):
        name = f"p{round_}"
        manifest = pod(
            name,
            box("a", "pause", volumeMounts=[mount("data", "/data"), mount("mem", "/mem")]),
            volumes=[volume("data"), volume("mem", emptyDir={"medium": "Memory"})],
        )
        uid = server.up(manifest, wait="none")["pods"][0]["uid"]
        time.sleep(round_ * 0.002)
        server.kill()
        server.wait(name, "condition=Ready")
        said(server, "write", "/mem/f", "x", name=name)
        server.down(name, wait=False)
        time.sleep(round_ * 0.002)
        server.kill()
        until(lambda name=name: name not in server.names())  # type: ignore[misc]
        until(lambda uid=uid: not (server.root / "run" / "pods" / uid).exists())  # type: ignore[misc]
        until(lambda uid=uid: not (server.root / "lib" / "volumes" / uid).exists())  # type: ignore[misc]
        nothing_left(server, uid)


@pytest.mark.skipif("hugetlbfs" not in Path("/proc/filesystems").read_text(), reason="this kernel has no hugetlbfs")
def test_S_VOL_empty_dir_of_huge_pages_is_a_hugetlbfs(server: Server) -> None:
    container = pausing("a", mount("v", "/v"))
    container["resources"] = {"limits": {"memory": "64Mi", "hugepages-2Mi": "0"}}
    manifest = pod("web", container, volumes=[volume("v", emptyDir={"medium": "HugePages-2Mi"})])
    uid = server.up(manifest)["pods"][0]["uid"]
    assert mounts(server)["/v"][3] == "hugetlbfs"
    server.down("web")
    nothing_left(server, uid)
