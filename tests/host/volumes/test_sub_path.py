"""subPath: parts of volumes, with no way out."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.server.harness import Server, box, pod, until
from tests.host.volumes.looking import mount, mounts, pausing, said, up, volume

pytestmark = pytest.mark.timeout(120)


def test_S_VOL_sub_path_is_a_part_of_the_volume_made_with_the_mode_of_its_root(server: Server) -> None:
    place = server.host.scratch / "place"
    place.mkdir()
    place.chmod(0o2750)
    os.chown(place, -1, 77)
    (place / "file").write_text("one file")
    up(
        server,
        volume("v", hostPath={"path": str(place)}),
        mounts=[
            mount("v", "/made", subPath="a/b"),
            mount("v", "/there", subPath="file"),
            mount("v", "/ro", subPath="a", readOnly=True),
        ],
    )
    said(server, "write", "/made/f", "x")
    assert (place / "a" / "b" / "f").read_text() == "x"
    for made in (place / "a", place / "a" / "b"):
        assert (stat.S_IMODE(made.stat().st_mode), made.stat().st_gid) == (0o2750, 77)
    assert said(server, "cat", "/there") == "one file"
    assert said(server, "cat", "/ro/b/f") == "x"
    assert mounts(server)["/made"][0].endswith("/place/a/b")


def test_S_VOL_sub_path_expr_takes_variables(server: Server) -> None:
    env = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "EMPTY", "value": ""},
        {"name": "UP", "value": "../x"},
        {"name": "ABSOLUTE", "value": "/x"},
    ]
    manifest = pod(
        "web",
        pausing("a", mount("v", "/v", subPathExpr="$(POD)/$$x"), env=env),
        pausing("b", mount("v", "/v", subPathExpr="$(NONE)/$(EMPTY)"), env=env),
        pausing("c", mount("v", "/v", subPathExpr="$(UP)"), env=env),
        pausing("d", mount("v", "/v", subPathExpr="$(ABSOLUTE)"), env=env),
        volumes=[volume("v")],
    )
    uid = server.up(manifest, wait="none", ignore_unsupported=True)["pods"][0]["uid"]
    words = {
        "b": "missing value for EMPTY, NONE",
        "c": "unable to provision SubPath `../x`: must not contain '..'",
        "d": "error SubPath `/x` must not be an absolute path",
    }
    for name, text in words.items():
        until(lambda name=name: "CreateContainerConfigError" in str(server.container("web", name)["state"]))  # type: ignore[misc]
        assert server.container("web", name)["state"]["waiting"]["message"] == text
    until(lambda: "running" in server.container("web", "a")["state"])
    assert (server.root / "lib" / "volumes" / uid / "v" / "web" / "$x").is_dir()


@pytest.mark.parametrize("link", ["/etc", "../../..", "inside/../../..", "/proc/self/root/etc"])
def test_S_VOL_sub_path_does_not_follow_links_out_of_the_volume(server: Server, link: str) -> None:
    place = server.host.scratch / "place"
    (place / "inside").mkdir(parents=True)
    (place / "link").symlink_to(link)
    (place / "fine").symlink_to("inside/../inside")
    manifest = pod(
        "web",
        pausing("a", mount("v", "/v", subPath="link")),
        pausing("b", mount("v", "/v", subPath="link/made")),
        pausing("c", mount("v", "/v", subPath="fine")),
        volumes=[volume("v", hostPath={"path": str(place)})],
    )
    server.up(manifest, wait="none")
    for name in ("a", "b"):
        until(lambda name=name: "CreateContainerConfigError" in str(server.container("web", name)["state"]))  # type: ignore[misc]
        message = server.container("web", name)["state"]["waiting"]["message"]
        assert message == f'failed to prepare subPath for volumeMount "v" of container "{name}"'
    until(lambda: "running" in server.container("web", "c")["state"])
    assert not Path("/etc/made").exists()
    assert sorted(one.name for one in place.iterdir()) == ["fine", "inside", "link"]


EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """While this is held, two names are exchanged as fast as can be; neither is ever missing."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    names = (-100, os.fsencode(one), -100, os.fsencode(other), EXCHANGE)
    stop = threading.Event()
    failed: list[int] = []

    def swap() -> None:
        while not stop.is_set():
            if rename(*names):
                failed.append(ctypes.get_errno())
                return

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failed == []


def test_S_VOL_sub_path_cannot_be_raced(server: Server) -> None:
    outside = server.host.scratch / "outside"
    outside.mkdir()
    (outside / "secret").write_text("SECRET")
    place = server.host.scratch / "place"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "secret").write_text("harmless")
    (place / "other").symlink_to(outside)
    seen: set[str] = set()
    with swapping(place / "sub", place / "other"):
        for round_ in range(15):
            name = f"p{round_}"
            containers = [
                box(
                    f"c{number}",
                    "cat",
                    "/v/secret" if number % 2 else "/v/../v/secret",
                    volumeMounts=[mount("v", "/v", subPath="sub" if number < 6 else "sub/deep")],
                )
                for number in range(8)
            ]
            manifest = pod(
                name, *containers, volumes=[volume("v", hostPath={"path": str(place)})], restartPolicy="Never"
            )
            server.up(manifest, wait="none")
            until(lambda name=name: len(server.get(name)["status"].get("containerStatuses", [])) == 8)  # type: ignore[misc]
            until(
                lambda name=name: all(  # type: ignore[misc]
                    "terminated" in one["state"] or "Error" in one["state"].get("waiting", {}).get("reason", "")
                    for one in server.get(name)["status"]["containerStatuses"]
                )
            )
            for number in range(8):
                with contextlib.suppress(Exception):
                    seen.update(server.lines(name, f"c{number}"))
            server.down(name)
    assert "SECRET" not in seen
    assert "harmless" in seen, "what is harmless was never mounted"
    assert os.listdir(outside) == ["secret"]
