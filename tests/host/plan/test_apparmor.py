"""Profiles of AppArmor in force, on a kernel that has it; what a container without one could do, one with it cannot."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from nsrun.plan.identity import APPARMOR_DEFAULT
from nsrun.security import apparmor
from tests.host.server.harness import Server, box, pod, until

pytestmark = [pytest.mark.requires("apparmor"), pytest.mark.timeout(120)]

MINE = "nsrun-tests-mine"
PROFILE = f"profile {MINE} flags=(attach_disconnected, mediate_deleted) {{ file, signal, deny /tmp/secret rw, }}"


@pytest.fixture
def securityfs() -> None:
    """The /sys of the test host is a new one, with nothing mounted in it."""
    if not (apparmor.SECURITYFS / "apparmor").is_dir():
        subprocess.run(["mount", "-t", "securityfs", "securityfs", str(apparmor.SECURITYFS)], check=True)


def confined(name: str, profile: dict[str, Any] | None, **context: Any) -> dict[str, Any]:
    own = {**context, **({"appArmorProfile": profile} if profile else {})}
    return box(name, "pause", securityContext=own)


def label(server: Server, container: str) -> tuple[str, str]:
    """Of its first process, and of a command in it."""
    out = [server.run("web", "/bin/cat", f"/proc/{one}/attr/current", container=container)[1] for one in ("1", "self")]
    return out[0].decode().strip(), out[1].decode().strip()


def test_profiles_are_in_force(securityfs: None, server: Server) -> None:
    mine = {"type": "Localhost", "localhostProfile": MINE}
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache"], input=PROFILE.encode(), check=True)
    try:
        server.up(
            pod(
                "web",
                confined("plain", None),
                confined("default", {"type": "RuntimeDefault"}),
                confined("strict", {"type": "RuntimeDefault"}, allowPrivilegeEscalation=False, runAsUser=1000),
                confined("mine", mine),
                confined("not", {"type": "Unconfined"}),
                securityContext={"seccompProfile": {"type": "Unconfined"}},
            ),
            wait="running",
        )
        enforced = f"{APPARMOR_DEFAULT} (enforce)"
        assert label(server, "default") == label(server, "strict") == (enforced, enforced)
        assert label(server, "mine") == (f"{MINE} (enforce)",) * 2
        assert label(server, "plain") == label(server, "not") == ("unconfined",) * 2
        written = {
            name: server.run("web", "/bin/write", "/tmp/secret", "x", container=name)[0] == 0
            for name in ("plain", "default", "mine")
        }
        assert written == {"plain": True, "default": True, "mine": False}
        server.kill()
        assert label(server, "default") == (enforced, enforced)
    finally:
        server.down("web")
        subprocess.run(["apparmor_parser", "--remove"], input=PROFILE.encode(), check=True)


def test_profiles_are_in_force_with_users_of_the_pods_own(securityfs: None, server: Server) -> None:
    """The profile is the kernel's, not the user namespace's: it holds for the first process and for commands."""
    asked = {"appArmorProfile": {"type": "RuntimeDefault"}}
    server.up(
        pod(
            "web",
            box("root", "pause"),
            box("user", "pause", securityContext={"runAsUser": 1000, "allowPrivilegeEscalation": False}),
            box("not", "pause", securityContext={"appArmorProfile": {"type": "Unconfined"}}),
            securityContext=asked,
            hostUsers=False,
        ),
        wait="running",
    )
    enforced = f"{APPARMOR_DEFAULT} (enforce)"
    assert label(server, "root") == label(server, "user") == (enforced, enforced)
    assert label(server, "not") == ("unconfined", "unconfined")
    server.down("web")


def test_a_profile_that_is_not_there_is_named(securityfs: None, server: Server) -> None:
    absent = {"type": "Localhost", "localhostProfile": "nsrun-tests-absent"}
    server.up(pod("web", confined("a", absent)), wait="none")

    def waiting() -> bool:
        state = server.get("web")["status"].get("containerStatuses") or [{}]
        found = state[0].get("state", {}).get("waiting", {})
        return found.get("reason") == "CreateContainerError" and "nsrun-tests-absent" in found.get("message", "")

    until(waiting)
    server.down("web")
