"""nsrun.service where systemd is the init of a machine of its own, with cgroup version 2 alone, over a reboot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vm.image import BUILD, INSIDE
from tests.vm.machine import SYSTEMD, Disks, LockedUpError, Vm, new_state, started

pytestmark = [pytest.mark.requires("qemu"), pytest.mark.timeout(900)]

PATIENCE_S = 120.0
PODS = "/sys/fs/cgroup/system.slice/nsrun-pods.service/pods"
LIMITS = {"cpu": "200m", "memory": "64Mi"}
FROM_FILE = f"""
apiVersion: v1
kind: Pod
metadata: {{name: a}}
spec:
  terminationGracePeriodSeconds: 5
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - {{name: fast, emptyDir: {{medium: Memory}}}}
  containers:
  - name: main
    image: nsrun.local/host
    command: [sh, -c, "trap exit TERM; echo begun | tee -a /data/log /fast/log; while :; do sleep 0.1; done"]
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: fast, mountPath: /fast}}]
    resources: {{limits: {json.dumps(LIMITS)}}}
"""
BY_HAND = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: config}}
data: {{key: value}}
---
apiVersion: v1
kind: Secret
metadata: {{name: secret}}
stringData: {{key: value}}
---
apiVersion: v1
kind: Pod
metadata: {{name: eater}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: tests.local/box
    command: [/bin/alloc, "100"]
    resources: {{limits: {json.dumps(LIMITS)}}}
"""


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.5)


def booted(vm: Vm) -> Vm:
    """Once systemd has started all there is, and each of it has started well."""
    vm.run("systemctl", "is-system-running", "--wait", check=False, timeout=PATIENCE_S)
    assert vm.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    return vm


def inspect(vm: Vm, name: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(vm.run("nsrun", "pod", "inspect", name, "-o", "json", *options))
    return found


def instance(vm: Vm, name: str) -> tuple[str, int]:
    """Id and pid of a pod's only container."""
    (found,) = inspect(vm, name, "--runtime")["runtime"]["instances"]
    return str(found["id"]), int(found["pid"])


def in_force(vm: Vm, name: str) -> list[str]:
    """Limits of a pod's container: memory, cpu, what is done when memory runs out; then memory and cpu of the pod."""
    uid = inspect(vm, name)["metadata"]["uid"]
    pod = f"{PODS}/pod-{uid}"
    own = f"{pod}/{instance(vm, name)[0]}"
    files = [f"{own}/{file}" for file in ("memory.max", "cpu.max", "memory.oom.group")]
    return vm.run("cat", *files, f"{pod}/memory.max", f"{pod}/cpu.max").splitlines()


ALL_IN_FORCE = [str(64 << 20), "20000 100000", "1", str(64 << 20), "20000 100000"]


def test_S_STATIC_S_CGROUP_the_unit_its_limits_and_a_reboot(disks: Disks, tmp_path: Path) -> None:
    try:
        _lives_and_boots_again(disks, tmp_path / "state")
    except LockedUpError:
        _lives_and_boots_again(disks, tmp_path / "again", steady=True)


def _lives_and_boots_again(disks: Disks, path: Path, *, steady: bool = False) -> None:
    state = new_state(disks.system, path)
    with started(disks, init=SYSTEMD, state=state, steady=steady, console=BUILD / "console") as vm:
        booted(vm)
        vm.run("cp", f"{INSIDE}/nsrun/server/nsrun.service", "/etc/systemd/system/")
        vm.run("mkdir", "-p", "/etc/nsrun/manifests")
        vm.run("tee", "/etc/nsrun/manifests/a.yaml", stdin=FROM_FILE)
        vm.run("systemctl", "enable", "--now", "nsrun", timeout=PATIENCE_S)
        checks = {
            check["name"]: check for check in json.loads(vm.run("nsrun", "doctor", "-o", "json", check=False))["checks"]
        }
        assert checks["limits"]["ok"], checks["limits"]
        assert checks["cgroups"]["text"].startswith("version 2"), checks["cgroups"]

        vm.run("sh", "-c", "python3 -m tests.rootfs /tmp/box && nsrun image import tests.local/box /tmp/box")
        vm.run("tee", "/tmp/by-hand.yaml", stdin=BY_HAND)
        vm.run("nsrun", "pod", "up", "/tmp/by-hand.yaml", "--wait", "none", timeout=PATIENCE_S)
        until(lambda: inspect(vm, "eater")["status"]["phase"] == "Failed", "it takes more than it may")
        ended = inspect(vm, "eater")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")

        vm.run("nsrun", "pod", "wait", "a", "--for", "condition=Ready", timeout=PATIENCE_S)
        before = instance(vm, "a")
        uid = inspect(vm, "a")["metadata"]["uid"]
        assert in_force(vm, "a") == ALL_IN_FORCE
        vm.run("systemctl", "restart", "nsrun", timeout=PATIENCE_S)
        assert instance(vm, "a") == before
        vm.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", "nsrun")
        assert instance(vm, "a") == before
        assert in_force(vm, "a") == ALL_IN_FORCE
        vm.run("nsrun", "pod", "up", "/tmp/by-hand.yaml", "--replace", "--wait", "none", timeout=PATIENCE_S)
        assert vm.run("nsrun", "object", "get", "secret", "-o", "name").split() == ["secret/secret"]
        vm.run("sync")
        vm.reboot()

    with started(disks, init=SYSTEMD, state=state, steady=steady, console=BUILD / "console") as vm:
        # Nobody types anything until the pod runs.
        booted(vm)
        until(lambda: "nsrun-shim default/a" in vm.run("ps", "-e", "-o", "args"), "the pod of the file is back")
        vm.run("nsrun", "pod", "wait", "a", "--for", "condition=Ready", timeout=PATIENCE_S)
        assert inspect(vm, "a")["metadata"]["uid"] == uid
        assert in_force(vm, "a") == ALL_IN_FORCE
        # What was only in memory is gone: Secrets, and pods that came by a command. What lies on the disk is kept.
        assert vm.run("nsrun", "pod", "ls", "-o", "name").split() == ["pod/a"]
        assert vm.run("nsrun", "object", "get", "secret", "-o", "name") == ""
        assert vm.run("nsrun", "object", "get", "configmap", "-o", "name").split() == ["configmap/config"]
        assert "tests.local/box" in vm.run("nsrun", "image", "ls")
        # As under a kubelet: a pod that is the same after a reboot finds its emptyDir as it left it, that in memory empty.
        assert vm.run("nsrun", "pod", "exec", "a", "--", "cat", "/data/log").split() == ["begun", "begun"]
        assert vm.run("nsrun", "pod", "exec", "a", "--", "cat", "/fast/log").split() == ["begun"]
        vm.run("rm", "/etc/nsrun/manifests/a.yaml")
        until(lambda: vm.run("nsrun", "pod", "ls", "-o", "name") == "", "the pod goes with its file")
        vm.run("systemctl", "stop", "nsrun", timeout=PATIENCE_S)
        until(lambda: vm.run("systemctl", "list-units", "--plain", "--no-legend", "nsrun*") == "", "no unit is left")
        assert vm.run("find", "/sys/fs/cgroup", "-name", "*nsrun*") == ""
