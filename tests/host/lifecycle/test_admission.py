"""Pods that this machine does not take on, or not for longer than they say (S-ADMIT)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import PodFailedError
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, box, pod, until

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(90)]


def sysctls(**values: str) -> dict[str, Any]:
    return {"sysctls": [{"name": name.replace("__", "."), "value": value} for name, value in values.items()]}


def rejected(server: Server, manifest: dict[str, Any], reason: str, message: str) -> None:
    """The pod is not taken on, everybody is told so, and nothing of it was begun."""
    name = manifest["metadata"]["name"]
    with pytest.raises(PodFailedError) as caught:
        server.up(manifest)
    assert f"{reason}: Pod was rejected: {message}" in caught.value.brief
    found = server.get(name)
    status = found["status"]
    assert (status["phase"], status["reason"]) == ("Failed", reason)
    assert status["message"] == f"Pod was rejected: {message}"
    assert "containerStatuses" not in status
    (event,) = server.call("pod.events", name=name).result["events"]
    assert (event["type"], event["reason"], event["message"]) == ("Warning", reason, message)
    runtime = server.runtime(name)
    assert (runtime["shim_pid"], runtime["sandbox"]["attempt"], runtime["instances"]) == (None, -1, [])
    assert not (server.root / "lib" / "leases").exists() or os.listdir(server.root / "lib" / "leases") == []
    columns = server.call("pod.get", name=name).result["columns"]
    assert columns["status"] == reason
    # A new server does not think it over.
    server.kill()
    assert server.get(name)["status"] == status
    assert len(server.call("pod.events", name=name).result["events"]) == 1
    server.down(name)


def test_S_ADMIT_a_sysctl_that_is_not_allowed(server: Server) -> None:
    text = 'forbidden sysctl: "net.core.somaxconn" not allowlisted'
    manifest = pod("web", box("a", "pause"), securityContext=sysctls(net__core__somaxconn="99"))
    rejected(server, manifest, "SysctlForbidden", text)


def test_S_ADMIT_a_pod_for_another_operating_system(server: Server) -> None:
    text = "Failed to admit pod as the OS field doesn't match node OS"
    rejected(server, pod("web", box("a", "pause"), os={"name": "windows"}), "PodOSNotSupported", text)


def test_S_ADMIT_sysctls_that_are_safe_or_allowed_are_set_in_the_pod_alone(server: Server) -> None:
    server.stop()
    etc = server.root / "etc"
    etc.mkdir()
    (etc / "config.toml").write_text('[sysctls]\nallowed = ["net.core.somax*", "kernel.msgmax"]\n')
    own = Path("/proc/sys/net/core/somaxconn")
    before = own.read_text(encoding="ascii")
    wanted = sysctls(net__core__somaxconn="99", net__ipv4__tcp_fin_timeout="33", kernel__msgmax="4096")
    server.up(pod("web", box("a", "pause"), securityContext=wanted))
    for path, value in (("net/core/somaxconn", b"99"), ("net/ipv4/tcp_fin_timeout", b"33"), ("kernel/msgmax", b"4096")):
        assert server.run("web", "/bin/cat", f"/proc/sys/{path}")[1].strip() == value
    assert own.read_text(encoding="ascii") == before


def test_S_ADMIT_a_sysctl_that_the_kernel_refuses_is_told_and_tried_again(server: Server) -> None:
    manifest = pod("web", box("a", "pause"), securityContext=sysctls(net__ipv4__tcp_syncookies="many"))
    with pytest.raises(PodFailedError, match="tcp_syncookies"):
        server.up(manifest)
    events = server.call("pod.events", name="web").result["events"]
    (event,) = [one for one in events if one["reason"] == "FailedCreatePodSandBox"]
    assert "net/ipv4/tcp_syncookies" in event["message"]
    assert "Invalid argument" in event["message"]
    assert server.get("web")["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    "text",
    [
        'allowed = ["kernel.panic"]',
        'allowed = ["user.*"]',
        "allowed = 1",
        'allowed = ["*"]',
        "other = []",
        'allowed = ["net.a "]',
    ],
)
def test_S_ADMIT_a_machines_own_sysctl_cannot_be_allowed(server: Server, text: str) -> None:
    server.stop()
    etc = server.root / "etc"
    etc.mkdir()
    (etc / "config.toml").write_text(f"[sysctls]\n{text}\n")
    with pytest.raises(AssertionError, match="sysctls"):
        server.start()
    (etc / "config.toml").unlink()


def test_S_ADMIT_two_pods_cannot_have_one_port_of_the_machine(server: Server) -> None:
    def web(name: str, port: int) -> dict[str, Any]:
        return pod(name, box("a", "pause", ports=[{"containerPort": port}]), hostNetwork=True)

    server.up(web("one", 8123))
    server.up(web("other", 8124))
    text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    rejected(server, web("two", 8123), "NodePorts", text)
    server.down("one")
    server.up(web("two", 8123))


def test_S_ADMIT_pods_that_request_more_than_there_is_left(server: Server) -> None:
    have = (os.cpu_count() or 1) * 1000

    def asking(name: str, milli: int) -> dict[str, Any]:
        return pod(name, box("a", "pause", resources={"requests": {"cpu": f"{milli}m"}}))

    text = "Node didn't have enough resource: cpu, requested: {}, used: {}, capacity: {}"
    rejected(server, asking("all", have + 1), "OutOfcpu", text.format(have + 1, 0, have))
    server.up(asking("one", have - 100))
    server.up(asking("two", 100))
    server.down("two")
    server.kill()
    with pytest.raises(PodFailedError, match="OutOfcpu"):
        server.up(asking("three", 101))
    assert text.format(101, have - 100, have) in server.get("three")["status"]["message"]
    server.down("one")
    with pytest.raises(PodFailedError):
        server.up(asking("three", 101))
    server.down("three")
    server.up(asking("three", 101))


def test_S_ADMIT_a_deadline_ends_the_pod(server: Server, journal: Journal) -> None:
    manifest = pod("web", journal.life("a"), journal.life("b"), activeDeadlineSeconds=2)
    began = time.time()
    server.up(manifest)
    server.wait("web", "phase=Failed")
    assert 1.5 < time.time() - began < 8
    status = server.get("web")["status"]
    assert status["reason"] == "DeadlineExceeded"
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert [sorted(one["state"]) for one in status["containerStatuses"]] == [["terminated"], ["terminated"]]
    assert [one["restartCount"] for one in status["containerStatuses"]] == [0, 0]
    assert server.reasons("web").count("DeadlineExceeded") == 1
    assert server.reasons("web").index("DeadlineExceeded") < server.reasons("web").index("Killing")
    until(lambda: server.runtime("web")["shim_pid"] is None, what="the sandbox goes, too")


def test_S_ADMIT_a_deadline_passes_while_there_is_no_server(server: Server, journal: Journal) -> None:
    server.up(pod("web", journal.life("a"), activeDeadlineSeconds=3))
    server.kill()
    time.sleep(3.2)
    server.wait("web", "phase=Failed")
    assert server.get("web")["status"]["reason"] == "DeadlineExceeded"


def test_S_ADMIT_a_deadline_that_is_lowered_counts_from_the_pods_start(server: Server, journal: Journal) -> None:
    manifest = pod("web", journal.life("a"), activeDeadlineSeconds=600)
    server.up(manifest)
    time.sleep(1.2)
    manifest["spec"]["activeDeadlineSeconds"] = 1
    server.up(manifest, wait="none")
    server.wait("web", "phase=Failed", timeout_s=10)
    assert server.get("web")["status"]["reason"] == "DeadlineExceeded"
