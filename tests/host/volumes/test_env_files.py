"""Variables from files that another container wrote (S-ENV)."""

from __future__ import annotations

import pytest

from tests.host.environment.test_objects import waiting
from tests.host.server.harness import Server, box, pod, until
from tests.host.volumes.looking import mount, said, volume

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(90)]


def of(key: str, *, path: str = "app.env", **fields: object) -> dict[str, object]:
    return {"name": key, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": path, "key": key} | fields}}


def test_S_ENV_variables_from_a_file_that_an_init_container_wrote(server: Server) -> None:
    text = "# of the init container\nA='one'\nB='two\nlines'\n"
    server.up(
        pod(
            "web",
            box("a", "pause", env=[of("A"), of("B"), of("C", optional=True), {"name": "D", "value": "$(A)!"}]),
            box("b", "pause", env=[of("Z")]),
            box("c", "pause", env=[of("A", path="later.env", optional=True)]),
            inits=(box("i", "write", "/data/app.env", text, volumeMounts=[mount("v", "/data")]),),
            volumes=[volume("v")],
        ),
        wait="none",
    )
    until(lambda: "running" in server.container("web", "a")["state"])
    found = said(server, "env").splitlines()
    assert {"A=one", "B=two", "lines", "D=one!"} <= set(found)
    assert not [one for one in found if one.startswith("C=")]
    until(lambda: waiting(server, "web", "b")[0] == "CreateContainerConfigError")
    assert waiting(server, "web", "b")[1] == 'environment variable key "Z" not found in file "app.env"'
    until(lambda: waiting(server, "web", "c")[0] == "CreateContainerConfigError")
    assert waiting(server, "web", "c")[1] == "couldn't parse env file"
    # What is written meanwhile is for the next instance, and a link leads nowhere else.
    uid = server.get("web")["metadata"]["uid"]
    place = server.root / "lib" / "volumes" / uid / "v"
    (place / "app.env").write_text("A='other'\nB='other'\nZ='there'\n")
    (server.root / "later.env").write_text("A='from outside'\n")
    (place / "later.env").symlink_to(server.root / "later.env")
    server.kill()
    assert "A=one" in said(server, "env").splitlines()
    server.call("pod.restart", name="web", containers=["a"], grace_period_s=0, wait=True, timeout_s=20)
    assert {"A=other", "B=other"} <= set(said(server, "env").splitlines())
    until(lambda: "running" in server.container("web", "b")["state"])
    assert waiting(server, "web", "c")[1] == "couldn't parse env file"
