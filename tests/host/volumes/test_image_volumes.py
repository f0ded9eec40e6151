"""image volumes: an image's tree, read-only, pulled as a container's image is, and not removed while a pod has it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from nsrun.errors import ConflictError, UnsupportedError
from tests.host.images.making import Layout, directory, entry, layer, symlink, whiteout
from tests.host.server.harness import Server, pod, until
from tests.host.volumes.looking import events, fails, mount, mounts, nothing_left, pausing, said, volume

pytestmark = [pytest.mark.requires("overlay"), pytest.mark.timeout(120)]

DATA, FLAT = "tests.local/data", "tests.local/flat"


@pytest.fixture
def images(server: Server) -> None:
    """One of two layers, of which the second hides a file and changes another, and one of a single layer."""
    layout = Layout(server.host.scratch / "layout")
    first = layer(
        [directory("models"), entry("models/old", data=b"old"), entry("gone", data=b"x"), entry("top", data=b"1")]
    )
    second = layer([whiteout("gone"), entry("top", data=b"2", mode=0o755), symlink("models/way", "/etc/passwd")])
    layout.image(DATA, [first, second])
    layout.image(FLAT, [layer([entry("only", data=b"one")])])
    layout.write()
    server.call("image.load", path=str(layout.path))


def of(name: str, reference: str, policy: str = "IfNotPresent") -> dict[str, object]:
    return volume(name, image={"reference": reference, "pullPolicy": policy})


@pytest.mark.usefixtures("images")
def test_S_VOL_image_is_a_read_only_tree_that_outlives_servers_and_is_in_use(server: Server) -> None:
    containers = [
        pausing("a", mount("data", "/data"), mount("flat", "/flat")),
        pausing("b", mount("data", "/models", subPath="models")),
    ]
    answer = server.up(pod("web", *containers, volumes=[of("data", DATA), of("flat", FLAT)]))
    uid = answer["pods"][0]["uid"]
    assert said(server, "ls", "/data").split() == ["models", "top"]
    assert said(server, "cat", "/data/top") == "2"
    assert said(server, "cat", "/flat/only") == "one"
    assert said(server, "ls", "/flat").split() == ["only"]
    assert said(server, "cat", "/models/old", container="b") == "old"
    for path in ("/data/new", "/flat/only", "/models/new"):
        assert "EROFS" in fails(server, "write", path, "x", container="b" if path.startswith("/models") else "a")
    assert all("ro" in mounts(server)[path][1].split(",") for path in ("/data", "/flat"))
    there = f'Container image "{DATA}" already present on machine and can be accessed by the pod'
    assert events(server, "Pulled").count(there) == 1
    for name in (DATA, FLAT):
        with pytest.raises(ConflictError, match="in use by default/web"):
            server.call("image.remove", name=name)
    server.kill()
    server.call("image.prune", all=True)
    server.call("pod.restart", name="web", wait=True, timeout_s=30, grace_period_s=0)
    assert said(server, "cat", "/data/top") == "2"
    server.down("web")
    nothing_left(server, uid)
    server.call("image.remove", name=DATA)


def test_S_VOL_image_that_cannot_be_had_keeps_its_containers_waiting(server: Server) -> None:
    """Those alone that mount it, in the kubelet's words; it is tried again, and goes on once the image is here."""
    gone, never = "localhost:9/not/there:1", "tests.local/never"
    containers = [pausing("a", mount("gone", "/v")), pausing("b", mount("never", "/v")), pausing("c")]
    spec = pod("web", *containers, volumes=[of("gone", gone), of("never", never, "Never")])
    uid = server.up(spec, wait="none", time_scale=20)["pods"][0]["uid"]

    def waiting(name: str) -> dict[str, str]:
        found: dict[str, str] = server.container("web", name)["state"].get("waiting", {})
        return found

    until(lambda: waiting("b").get("reason") == "ErrImageNeverPull")
    assert waiting("b")["message"].startswith(f'Container image "{never}" is not present with pull policy of Never')
    until(lambda: waiting("a").get("reason") == "ImagePullBackOff")
    assert waiting("a")["message"].startswith(f'Back-off pulling image "{gone}": ErrImagePull: ')
    assert "running" in server.container("web", "c")["state"]
    assert f'Pulling image "{gone}"' in events(server, "Pulling")
    assert f'Back-off pulling image "{gone}"' in events(server, "BackOff")
    layout = Layout(server.host.scratch / "layout")
    layout.image(never, [layer([entry("file", data=b"x")])])
    layout.write()
    server.call("image.load", path=str(layout.path))
    until(lambda: "running" in server.container("web", "b")["state"])
    server.down("web")
    nothing_left(server, uid)
    with contextlib.suppress(FileNotFoundError):
        assert not list(Path(server.root / "run" / "pods").iterdir())


def test_the_host_image_as_a_volume_is_refused_or_left_out(server: Server) -> None:
    wish = pod("own", pausing("a", mount("own", "/own")), volumes=[of("own", "nsrun.local/host:latest")])
    with pytest.raises(UnsupportedError) as refused:
        server.up(wish)
    assert "spec.volumes[0].image: nsrun.local/host is this machine's own files, and no tree" in (
        refused.value.details or ""
    )
    assert server.call("pod.list").result["pods"] == []
    answer = server.up(wish, ignore_unsupported=True, wait="running")
    assert any("no tree to be mounted" in warning for warning in answer["pods"][0]["warnings"])
    assert "/own" not in mounts(server, name="own")
