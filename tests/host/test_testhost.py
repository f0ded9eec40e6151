"""The measuring stick itself: what the test host promises to the other tests of this ring."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.host.testhost import REPOSITORY, Host, in_test_host, leaks
from tests.host.testhost.__main__ import PREFIX
from tests.rootfs import build


def inside(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a second test host."""
    return subprocess.run(
        in_test_host(["sh", "-c", script]),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
        check=False,
        env={**os.environ, **environment},
    )


def test_only_own_links_are_visible(host: Host) -> None:
    assert {name for _, name in socket.if_nameindex()} >= {"lo", host.machine.link}
    assert "eth0" not in {name for _, name in socket.if_nameindex()}
    assert Path("/sys/class/net").is_dir()
    assert "eth0" not in os.listdir("/sys/class/net")


def test_outside_answers_with_the_address_it_sees(host: Host) -> None:
    with socket.create_connection((host.machine.beyond, host.machine.port), timeout=5) as tcp:
        tcp.sendall(b"hello\n")
        answer = tcp.makefile().readline().split()
    assert answer[0] == host.machine.address
    assert answer[2] == "hello"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.sendto(b"hello", (host.machine.gateway, host.machine.port))
        assert udp.recv(100).split()[::2] == [host.machine.address.encode(), b"hello"]


def test_outside_knows_no_way_to_pods(host: Host) -> None:
    routes = host.outside("ip", "route").splitlines()
    assert all(line.startswith("198.51.100.0/24 ") for line in routes), routes


def test_snapshot_sees_each_kind_of_leak(host: Host) -> None:
    before = leaks.take(host.machine)
    process = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    scratch = host.scratch / "left"
    scratch.mkdir()
    host.run("ip", "link", "add", "name", "left0", "type", "bridge")
    host.run("nft", "add", "table", "ip", "left")
    host.run("mount", "-t", "tmpfs", "left", scratch)
    try:
        time.sleep(0.3)
        kinds = {line.split(":")[0] for line in leaks.take(host.machine).leaked_since(before)}
    finally:
        process.kill()
        process.wait()
        host.run("umount", scratch)
        host.run("nft", "delete", "table", "ip", "left")
        host.run("ip", "link", "delete", "left0")
        scratch.rmdir()
    assert kinds >= {"processes", "mounts", "links", "rules", "namespaces", "files"}
    assert leaks.leaked(host.machine, before) == []


def test_a_leak_fails_a_command_that_succeeded() -> None:
    done = inside("ip link add name left0 type bridge; setsid sleep 60 >/dev/null 2>&1 &")
    assert done.returncode == 97, done.stderr
    assert "links: left0" in done.stderr
    assert "sleep 60" in done.stderr
    assert inside("true").returncode == 0
    assert inside("exit 3").returncode == 3


@pytest.mark.requires("cgroup2")
def test_killed_wrapper_is_cleaned_up_after(host: Host) -> None:
    script = (
        "import json, os, pathlib, time; machine = os.environ['NSRUN_TEST_HOST'];"
        "group = pathlib.Path(json.loads(machine)['cgroup_base'], 'x'); group.mkdir();"
        "(group / 'cgroup.procs').write_text('0'); print(machine, flush=True); time.sleep(60)"
    )
    wrapper = subprocess.Popen(
        in_test_host([sys.executable, "-c", script]), stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert wrapper.stdout is not None
    told = json.loads(wrapper.stdout.readline())
    wrapper.stdout.close()
    identity = told["id"]
    base = Path(told["cgroup_base"])
    assert (base / "x").is_dir()
    os.kill(wrapper.pid, signal.SIGKILL)
    wrapper.wait()
    assert Path("/tmp", f"nsrun-test-{identity}").is_dir()
    deadline = time.monotonic() + 10
    while "populated 1" in (base / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "populated 0" in (base / "cgroup.events").read_text(), "the processes outlived their wrapper"
    assert inside("true").returncode == 0
    assert not Path("/tmp", f"nsrun-test-{identity}").exists()
    assert not base.exists()


@pytest.mark.requires("cgroup2")
def test_a_pod_that_was_played_with_goes_with_its_test_host(host: Host) -> None:
    tree = Path(host.machine.cgroup_base or "").parent

    def of_no_test_host() -> set[str]:
        return {path.name for path in tree.glob("nsrun-*") if not path.name.startswith(PREFIX)}

    before = of_no_test_host()
    build(host.scratch / "rootfs")
    (host.scratch / "a.yaml").write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: box,"
        " imagePullPolicy: Never, command: [/bin/testbox, sleep, '1000']}]}}"
    )
    nsrun = f"{REPOSITORY}/.venv/bin/nsrun --root {host.root}"
    script = (
        f"{nsrun} image import box {host.scratch}/rootfs >&2 && {nsrun} pod up {host.scratch}/a.yaml >&2 &&"
        " find $NSRUN_CGROUP_BASE -name 'pod-*' && sleep 60"
    )
    wrapper = subprocess.Popen(in_test_host(["sh", "-c", script]), stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert wrapper.stdout is not None
    pod = Path(wrapper.stdout.readline().strip())
    wrapper.stdout.close()
    assert pod.is_dir()
    # What timeout(1) does.
    wrapper.terminate()
    assert wrapper.wait() == 128 + signal.SIGTERM
    assert not pod.parents[1].exists()
    assert of_no_test_host() <= before
