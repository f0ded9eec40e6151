"""Pods whose images come from a registry: policies, events, waiting reasons and back-off in the kubelet's words."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.images.making import Layout, entry, layer
from tests.host.images.registries import PASSWORD, USER, Handler, Registry, Shelf, free_port, running
from tests.host.testhost import Host
from tests.rootfs import build_tar

pytestmark = pytest.mark.host


@pytest.fixture
def box(leak_check: None, host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A root of the test's own, whose server knows no proxy and no login of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(host.scratch / "home"))
    yield host
    host.nsrun("pod", "down", "--all", "--force")
    host.nsrun("object", "rm", "secrets", "--all")
    host.nsrun("server", "stop")


@pytest.fixture
def layout(host: Host) -> Layout:
    """The test program, a layer above it, and another image of the same name."""
    made = Layout(host.scratch / "layout")
    build_tar(host.scratch / "rootfs.tar")
    base = (host.scratch / "rootfs.tar").read_bytes()
    process = {"Cmd": ["/bin/cat", "/version"], "Env": ["PATH=/bin"]}
    made.image("one", [base, layer([entry("version", data=b"one\n")])], process=process)
    made.image("two", [base, layer([entry("version", data=b"two\n")])], process=process)
    return made


@pytest.fixture
def registry(host: Host, layout: Layout) -> Iterator[Registry]:
    """It as app:1 in a registry."""
    with running(host.scratch / "registry") as registry:
        registry.push(layout.path, "one", "app:1")
        yield registry


def up(
    box: Host, name: str, *containers: dict[str, Any], policy: str = "Never", check: bool = True, **more: Any
) -> Any:
    path = box.scratch / f"{name}.json"
    spec = {"restartPolicy": policy, "terminationGracePeriodSeconds": 1, "containers": list(containers), **more}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
    return box.nsrun("pod", "up", path, "--no-wait", check=check)


def pod(box: Host, name: str) -> dict[str, Any]:
    found = json.loads(box.nsrun("pod", "inspect", name, "-o", "json").stdout)
    result: dict[str, Any] = found[0] if isinstance(found, list) else found
    return result


def status(box: Host, name: str, at: int = 0) -> dict[str, Any]:
    result: dict[str, Any] = pod(box, name)["status"]["containerStatuses"][at]
    return result


def events(box: Host, name: str) -> list[tuple[str, str, str]]:
    found = json.loads(box.nsrun("pod", "events", name, "-o", "json").stdout)
    items = found["items"] if isinstance(found, dict) and "items" in found else found.get("events", found)
    return [(one["type"], one["reason"], one["message"]) for one in items]


def until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def finished(box: Host, name: str) -> str:
    """What a pod's container printed."""
    box.nsrun("pod", "wait", name, "--for=phase=Succeeded", "--timeout=30s")
    return box.nsrun("pod", "logs", name).stdout


def test_S_START_an_image_is_pulled_and_told_of(box: Host, registry: Registry, layout: Layout) -> None:
    image = f"{registry.host}/app:1"
    up(box, "p", {"name": "c", "image": image})
    assert finished(box, "p") == "one\n"
    told = events(box, "p")
    assert ("Normal", "Pulling", f'Pulling image "{image}"') in told
    (pulled,) = [message for kind, reason, message in told if reason == "Pulled"]
    size = sum(
        path.stat().st_size
        for path in (box.root / "lib/images/blobs/sha256").iterdir()
    )  # fmt: skip
    assert pulled.startswith(f'Successfully pulled image "{image}" in ')
    assert pulled.endswith(f" including waiting). Image size: {size} bytes.")
    assert status(box, "p")["imageID"] == f"{registry.host}/app@{layout.manifests[0]['digest']}"
    # IfNotPresent is content with what is here; Always asks, and takes what has the name now.
    registry.push(layout.path, "two", "app:1")
    up(box, "q", {"name": "c", "image": image})
    assert finished(box, "q") == "one\n"
    assert (
        "Normal",
        "Pulled",
        f'Container image "{image}" already present on machine and can be accessed by the pod',
    ) in events(box, "q")
    up(box, "r", {"name": "c", "image": image, "imagePullPolicy": "Always"})
    assert finished(box, "r") == "two\n"
    registry.close()
    up(box, "s", {"name": "c", "image": image, "imagePullPolicy": "Always"})
    until(lambda: "ErrImagePull" in json.dumps(status(box, "s")))
    assert "Connection refused" in status(box, "s")["state"]["waiting"]["message"]


def test_ten_pods_that_want_one_image_pull_it_once(box: Host, registry: Registry) -> None:
    image = f"{registry.host}/app:1"
    for at in range(10):
        up(box, f"p{at}", {"name": "c", "image": image})
    for at in range(10):
        assert finished(box, f"p{at}") == "one\n"
    blobs = [one for one in registry.requests() if one.startswith("GET") and "/blobs/" in one and "skopeo" not in one]
    assert len(blobs) == len(set(blobs))


def test_S_REASONS_ErrImagePull_then_ImagePullBackOff(box: Host, registry: Registry, layout: Layout) -> None:
    image = f"{registry.host}/later:1"
    path = box.scratch / "p.json"
    spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}))
    box.nsrun("pod", "up", path, "--no-wait", "--time-scale=10")
    until(lambda: (status(box, "p")["state"].get("waiting") or {}).get("reason") == "ErrImagePull")
    message = status(box, "p")["state"]["waiting"]["message"]
    assert "404 Not Found: manifest unknown" in message
    assert registry.host in message
    until(lambda: status(box, "p")["state"]["waiting"]["reason"] == "ImagePullBackOff")
    assert status(box, "p")["state"]["waiting"]["message"].startswith(
        f'Back-off pulling image "{image}": ErrImagePull: pull "{image}": '
    )
    told = events(box, "p")
    assert ("Normal", "BackOff", f'Back-off pulling image "{image}"') in told
    assert ("Warning", "Failed", "Error: ImagePullBackOff") in told
    assert ("Warning", "Failed", "Error: ErrImagePull") in told
    assert any(message.startswith(f'Failed to pull image "{image}": ') for _, _, message in told)
    registry.push(layout.path, "one", "later:1")
    assert finished(box, "p") == "one\n"
    assert status(box, "p")["restartCount"] == 0


def test_a_pull_keeps_nobody_else_waiting(box: Host, layout: Layout) -> None:
    """While one image comes, other containers of the pod run and restart, and the pod goes down at once."""
    held = layout.manifests[0]["digest"]

    def bend(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            handler.server.hold.wait(60)  # type: ignore[attr-defined]  # put there below
        return False

    shelf = Shelf(layout.path, layout.manifests[0], bend)
    import threading

    shelf.server.hold = threading.Event()  # type: ignore[attr-defined]  # for the handler
    try:
        image = f"{shelf.host}/app:1"
        script = "echo run; sleep 0.2; exit 1"
        up(
            box,
            "p",
            {"name": "slow", "image": image},
            {"name": "quick", "image": "nsrun.local/host", "command": ["sh", "-c", script]},
            policy="Always",
        )
        until(lambda: status(box, "p", 0)["restartCount"] >= 1)
        slow = next(one for one in pod(box, "p")["status"]["containerStatuses"] if one["name"] == "slow")
        assert slow["state"]["waiting"]["reason"] == "ContainerCreating"
        assert ("Normal", "Pulling", f'Pulling image "{image}"') in events(box, "p")
        began = time.monotonic()
        box.nsrun("pod", "down", "p")
        assert time.monotonic() - began < 5
        pid = json.loads(box.nsrun("server", "status", "-o", "json").stdout)["pid"]
        until(lambda: not children(pid), 5)
    finally:
        shelf.server.hold.set()  # type: ignore[attr-defined]  # as above
        shelf.close()
    assert held


def children(pid: int) -> list[str]:
    """Processes that work on images for a server."""
    pids = [one for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]
    return [one for one in pids if b"nsrun.images.worker" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_a_server_that_is_killed_during_a_pull(box: Host, layout: Layout) -> None:
    """The next one goes on with what has come."""
    manifest = json.loads((layout.path / "blobs/sha256" / layout.manifests[0]["digest"][7:]).read_text())
    digest = manifest["layers"][0]["digest"]
    data = (layout.path / "blobs/sha256" / digest[7:]).read_bytes()
    import threading

    hold = threading.Event()

    def bend(handler: Handler) -> bool:
        if handler.path.endswith(digest) and not hold.is_set():
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[: len(data) // 2])
            handler.wfile.flush()
            hold.wait(60)
            handler.close_connection = True
            return True
        return False

    shelf = Shelf(layout.path, layout.manifests[0], bend)
    try:
        up(box, "p", {"name": "c", "image": f"{shelf.host}/app:1"})
        partial = box.root / "lib/images/partial" / digest[7:]
        until(lambda: partial.exists() and partial.stat().st_size >= len(data) // 4)
        pid = json.loads(box.nsrun("server", "status", "-o", "json").stdout)["pid"]
        (worker,) = children(pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists(), 5)
        hold.set()
        assert finished(box, "p") == "one\n"
        ranges = [headers.get("Range") for path, headers in shelf.asked if path.endswith(digest)]
        assert ranges[0] is None
        assert ranges[-1] is not None
    finally:
        hold.set()
        shelf.close()


def test_login_pull_and_logout(box: Host, layout: Layout) -> None:
    with running(box.scratch / "private", auth=True) as registry:
        registry.push(layout.path, "one", "team/app:1")
        name = f"{registry.host}/team/app:1"
        done = box.nsrun("image", "pull", name, check=False)
        assert done.returncode == 4
        assert f"nsrun login {registry.host}" in done.stderr

        def login(password: str) -> subprocess.CompletedProcess[str]:
            return box.nsrun(
                "login", registry.host, "-u", USER, "--password-stdin", stdin=f"{password}\n", check=False
            )  # fmt: skip

        wrong = login("wrong")
        assert wrong.returncode == 7
        assert "401" in wrong.stderr
        assert login(PASSWORD).returncode == 0
        assert (box.root / "etc/auth.json").stat().st_mode & 0o777 == 0o600
        done = box.nsrun("image", "pull", name)
        assert done.stdout.startswith(f"image/{name} pulled (")
        assert "pulled (" in done.stderr, "a line for each layer"
        again = box.nsrun("image", "pull", name, "-q")
        assert (again.stdout, again.stderr) == (f"image/{name}\n", "")
        up(box, "p", {"name": "c", "image": name, "imagePullPolicy": "Always"})
        assert finished(box, "p") == "one\n"
        assert box.nsrun("logout", registry.host).stdout == f"logged out of {registry.host}\n"
        assert box.nsrun("logout", registry.host, check=False).returncode == 4
        assert box.nsrun("image", "pull", name, check=False).returncode == 4


def test_the_configuration_of_registries(box: Host, registry: Registry) -> None:
    (box.root / "etc").mkdir(parents=True)
    port = free_port()
    (box.root / "etc/config.toml").write_text(
        f'[images.short_names]\napp = "127.0.0.1:{port}/app"\n'
        f'[images.registries."127.0.0.1:{port}"]\nmirrors = ["http://{registry.host}"]\n'
    )
    up(box, "p", {"name": "c", "image": "app:1"})
    assert finished(box, "p") == "one\n"
    box.nsrun("server", "stop")
    (box.root / "etc/config.toml").write_text('[images.registries."x"]\nmirror = ["y"]\n')
    done = box.nsrun("image", "ls", check=False)
    assert done.returncode != 0
    assert "mirrors, insecure, ca" in done.stderr
    (box.root / "etc/config.toml").unlink()


def docker_secret(box: Host, name: str, registry: str, password: str) -> None:
    """Keeps a Secret with a user's password for a registry."""
    config = {"auths": {registry: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}}}
    path = box.scratch / f"{name}.json"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
    }
    path.write_text(json.dumps({**secret, "stringData": {".dockerconfigjson": json.dumps(config)}}))
    box.nsrun("object", "apply", path)


def test_imagePullSecrets(box: Host, layout: Layout) -> None:
    with running(box.scratch / "private", auth=True) as registry:
        registry.push(layout.path, "one", "team/app:1")
        name = f"{registry.host}/team/app:1"
        docker_secret(box, "wrong", f"{registry.host}/team/app", "no")
        docker_secret(box, "right", registry.host, PASSWORD)
        # The most exact is tried first, then the others; one that is not there is told of and done without.
        secrets = [{"name": "right"}, {"name": "lost"}, {"name": "wrong"}, {"name": "gone"}]
        up(box, "p", {"name": "c", "image": name}, imagePullSecrets=secrets)
        assert finished(box, "p") == "one\n"
        missing = (
            "Unable to retrieve some image pull secrets (lost, gone); attempting to pull the image may not succeed."
        )
        assert ("Warning", "FailedToRetrieveImagePullSecret", missing) in events(box, "p")
        # It is here, and nobody may use it by that alone; whoever has the credentials may, also of another server's life.
        up(box, "without", {"name": "c", "image": name})
        up(box, "never", {"name": "c", "image": name, "imagePullPolicy": "Never"})
        up(box, "wrong", {"name": "c", "image": name}, imagePullSecrets=[{"name": "wrong"}])
        for pod_name, reason in (
            ("without", "ErrImagePull"),
            ("never", "ErrImageNeverPull"),
            ("wrong", "ErrImagePull"),
        ):
            until(lambda pod_name=pod_name, reason=reason: reason in json.dumps(status(box, pod_name)))
        told = status(box, "without")["state"]["waiting"]["message"]
        assert "401 Unauthorized" in told
        box.nsrun("server", "stop")
        docker_secret(box, "same", registry.host, PASSWORD)
        registry.close()
        up(box, "q", {"name": "c", "image": name}, imagePullSecrets=[{"name": "same"}])
        assert finished(box, "q") == "one\n"
        present = f'Container image "{name}" already present on machine and can be accessed by the pod'
        assert ("Normal", "Pulled", present) in events(box, "q")
        up(box, "r", {"name": "c", "image": name, "imagePullPolicy": "Never"}, imagePullSecrets=[{"name": "right"}])
        assert finished(box, "r") == "one\n"
