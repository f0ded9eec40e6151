"""Seccomp profiles from files: in force, kept for what enters the container later, refused in a kubelet's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.host.escapes.stage import Stage
from tests.host.server.harness import box, pod, until


def profile(stage: Stage, name: str, **words: Any) -> None:
    path = stage.server.root / "etc" / "seccomp" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **words}))


def localhost(name: str) -> dict[str, Any]:
    return {"seccompProfile": {"type": "Localhost", "localhostProfile": name}}


def refusing(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"names": list(names), "action": "SCMP_ACT_ERRNO", **more}]


def mkdir(stage: Stage, container: str) -> str:
    code, _out, err = stage.server.run("profiles", "/bin/mkdir", "/tmp/made", container=container)
    return "ok" if code == 0 else err.decode().split(": ")[-1].strip()


@pytest.fixture
def away(stage: Stage) -> Any:
    yield
    stage.server.down("profiles")


@pytest.mark.usefixtures("away")
def test_localhost_container_before_pod(stage: Stage) -> None:
    profile(stage, "pod.json", syscalls=refusing("mkdir", "mkdirat", errnoRet=30))
    profile(stage, "deep/er.json", syscalls=refusing("mkdir", "mkdirat", errnoRet=18))
    stage.server.up(
        pod(
            "profiles",
            box("of-pod", "pause"),
            box("own", "pause", securityContext=localhost("deep/er.json")),
            box("default", "pause", securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
            box("none", "pause", securityContext={"seccompProfile": {"type": "Unconfined"}}),
            box("free", "pause", securityContext={**localhost("pod.json"), "privileged": True}),
            securityContext=localhost("pod.json"),
        )
    )
    expected = {"of-pod": "EROFS", "own": "EXDEV", "default": "ok", "none": "ok", "free": "ok"}
    assert {name: mkdir(stage, name) for name in expected} == expected
    # What enters later has the filter of the container's first process, whatever becomes of the file.
    profile(stage, "pod.json", syscalls=refusing("mkdir", "mkdirat", errnoRet=5))
    (stage.server.root / "etc" / "seccomp" / "deep" / "er.json").unlink()
    assert [mkdir(stage, name) for name in ("of-pod", "own")] == ["EROFS", "EXDEV"]
    stage.server.kill()
    assert [mkdir(stage, name) for name in ("of-pod", "own")] == ["EROFS", "EXDEV"]


@pytest.mark.usefixtures("away")
def test_localhost_that_is_missing_or_broken_waits(stage: Stage) -> None:
    profile(stage, "notify.json", syscalls=[{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}])
    profiles = stage.server.root / "etc" / "seccomp"
    (profiles / "broken.json").write_text("{")
    stage.server.up(
        pod(
            "profiles",
            *(box(name, "pause", securityContext=localhost(f"{name}.json")) for name in ("gone", "broken", "notify")),
        ),
        wait="none",
        time_scale=50,
    )
    words = {
        "gone": f'cannot load seccomp profile "{profiles}/gone.json": No such file or directory',
        "broken": f'decoding seccomp profile failed "{profiles}/broken.json": Input data was truncated',
        "notify": f"seccomp profile {profiles}/notify.json: SCMP_ACT_NOTIFY is not supported",
    }
    for name, text in words.items():
        until(lambda name=name: "waiting" in stage.server.container("profiles", name)["state"])  # type: ignore[misc]
        until(lambda name=name: "CreateContainerError" in str(stage.server.container("profiles", name)))  # type: ignore[misc]
        waiting = stage.server.container("profiles", name)["state"]["waiting"]
        assert waiting["message"].startswith(text), waiting
    profile(stage, "gone.json")
    until(lambda: "running" in stage.server.container("profiles", "gone")["state"], timeout_s=40)


@pytest.mark.usefixtures("away")
def test_localhost_actions_that_end_a_process(stage: Stage) -> None:
    profile(stage, "kill.json", syscalls=[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}])
    profile(stage, "trap.json", syscalls=[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP"}])
    flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]
    profile(stage, "log.json", syscalls=[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"}], flags=flags)
    stage.server.up(
        pod(
            "profiles",
            *(box(name, "pause", securityContext=localhost(f"{name}.json")) for name in ("kill", "trap", "log")),
        )
    )
    codes = {
        name: stage.server.run("profiles", "/bin/mkdir", "/tmp/made", container=name)[0]
        for name in ("kill", "trap", "log")
    }
    assert codes == {"kill": 128 + 31, "trap": 128 + 31, "log": 0}
