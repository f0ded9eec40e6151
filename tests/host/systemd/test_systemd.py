"""A real systemd: neither its units' ends nor those of sessions reach pods, and it sees where everything lives."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.host.systemd.machine import ENVIRONMENT, PATIENCE_S, UNIT, Booted, boot
from tests.host.testhost import REPOSITORY, Host

pytestmark = [
    pytest.mark.requires("systemd", "cgroup2", "overlay", "bridge", "nftables"),
    pytest.mark.timeout(120),
]

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: nsrun.local/host
    command: [sh, -c, "trap exit TERM; while :; do sleep 0.1; done"]
"""


ENGINE = """
import signal, sys, nsrun
with nsrun.Engine() as engine:
    engine.up(sys.argv[1])
    open("/tmp/is-up", "w").close()
    signal.pause()
"""


def manifest(booted: Booted, name: str) -> str:
    path = f"/tmp/{name}.yaml"
    booted.write(path, POD.format(name=name))
    return path


def up(booted: Booted, name: str) -> tuple[int, int]:
    """Pids of shim and container of a new pod."""
    booted.run("nsrun", "pod", "up", manifest(booted, name))
    return booted.processes(name)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.05)


def main_pid(booted: Booted) -> int:
    return int(booted.show(UNIT, "MainPID")["MainPID"])


def test_stopping_restarting_and_killing_the_unit_leaves_pods_alone(booted: Booted) -> None:
    booted.run("systemctl", "start", UNIT)
    # It listens when systemctl ends, so that no command starts another one beside it.
    assert booted.server_pid() == main_pid(booted)
    shim, container = up(booted, "a")
    assert booted.cgroup_of(main_pid(booted)) == "/system.slice/nsrun.service/supervisor"
    assert booted.cgroup_of(shim) == "/system.slice/nsrun.service/supervisor"
    assert booted.cgroup_of(container).startswith("/system.slice/nsrun-pods.service/pods/pod-")

    booted.run("systemctl", "stop", UNIT)
    assert booted.server_pid() is None
    assert booted.alive(shim)
    assert booted.alive(container)
    assert booted.show(UNIT, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert "remains running after unit stopped" in booted.journal()

    booted.run("systemctl", "start", UNIT)
    assert booted.processes("a") == (shim, container)
    assert "adopted pod default/a" in booted.journal()
    first = main_pid(booted)
    booted.run("systemctl", "restart", UNIT)
    second = main_pid(booted)
    assert second != first
    assert booted.processes("a") == (shim, container)

    booted.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
    until(lambda: main_pid(booted) not in (0, second) and booted.server_pid() == main_pid(booted), "a new server")
    assert booted.processes("a") == (shim, container)
    assert booted.cgroup_of(main_pid(booted)) == "/system.slice/nsrun.service/supervisor"
    status = booted.run("systemctl", "status", "--no-pager", "--full", UNIT)
    assert "Active: active (running)" in status
    assert "nsrun-shim default/a" in status

    booted.run("nsrun", "pod", "down", "a")
    assert not booted.alive(shim)
    assert not booted.alive(container)
    assert [path for path in booted.cgroups() if "/pod-" in path] == []
    booted.run("systemctl", "stop", UNIT)
    until(lambda: not [path for path in booted.cgroups() if path.startswith("nsrun")], "the unit's cgroups are gone")
    assert booted.units("nsrun*") == []


def limits_of(booted: Booted, container: int) -> tuple[list[str], list[str]]:
    """What holds a container's process: its `memory.max` and `cpu.max`, and those of its pod."""
    own = booted.cgroup.joinpath(booted.cgroup_of(container).lstrip("/"))
    found = [[(path / file).read_text().strip() for file in ("memory.max", "cpu.max")] for path in (own, own.parent)]
    return found[0], found[1]


@pytest.mark.requires("cgroup2-controllers")
def test_S_CGROUP_limits_in_the_unit_outlive_its_server(booted: Booted) -> None:
    limits = "    resources: {limits: {cpu: 200m, memory: 64Mi}}\n"

    def up_with_limits(name: str) -> int:
        booted.write(f"/tmp/{name}.yaml", POD.format(name=name) + limits)
        booted.run("nsrun", "pod", "up", f"/tmp/{name}.yaml", timeout=120)
        return booted.processes(name)[1]

    in_force = ([str(64 << 20), "20000 100000"],) * 2
    booted.run("systemctl", "start", UNIT)
    first = up_with_limits("a")
    assert booted.cgroup_of(first).startswith("/system.slice/nsrun-pods.service/pods/pod-")
    assert limits_of(booted, first) == in_force
    # Its exit status tells of other things that this kernel may lack.
    doctor = booted.run("nsrun", "doctor", check=False)
    assert "no   limits" not in doctor
    assert "yes  limits" in doctor

    # The next server starts although pods of the last one have controllers, and gives new pods limits, too.
    booted.run("systemctl", "restart", UNIT)
    assert (booted.processes("a")[1], limits_of(booted, first)) == (first, in_force)
    assert limits_of(booted, up_with_limits("b")) == in_force
    before = main_pid(booted)
    booted.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
    until(lambda: main_pid(booted) not in (0, before) and booted.server_pid() == main_pid(booted), "a new server")
    assert (booted.processes("a")[1], limits_of(booted, first)) == (first, in_force)
    assert limits_of(booted, up_with_limits("c")) == in_force

    # Whoever stops the pods' unit ends them; being pods that are restarted, they come back in a new one.
    booted.run("systemctl", "stop", "nsrun-pods")
    until(lambda: "1" in booted.run("nsrun", "pod", "ls", "a", "--no-headers").split()[3:4], "it is restarted")
    until(lambda: booted.show("nsrun-pods.service", "ActiveState")["ActiveState"] == "active", "the unit is back")
    again = booted.processes("a")[1]
    assert (again != first, limits_of(booted, again)) == (True, in_force)
    booted.run("nsrun", "pod", "down", "--all")
    booted.run("systemctl", "stop", UNIT)
    until(lambda: booted.units("nsrun*") == [], "no unit is left")


def test_the_end_of_a_session_spares_server_and_pods(booted: Booted) -> None:
    path = manifest(booted, "a")
    # As logind makes them: a scope whose end kills what is in it.
    script = f"nsrun pod up {path} && exec sleep 300"
    words = booted.argv("systemd-run", "--quiet", "--scope", "--unit=session-1", "setsid", "sh", "-c", script)
    session = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    try:
        until(lambda: "Running" in booted.run("nsrun", "pod", "ls"), "the pod runs")
        server, (shim, container) = booted.server_pid(), booted.processes("a")
        assert server is not None
        (scope,) = booted.units("nsrun-server-*")
        assert booted.units("session-1.scope") == ["session-1.scope"]
        booted.run("systemctl", "stop", "session-1.scope")
        session.wait(timeout=PATIENCE_S)
    finally:
        session.kill()
        session.wait()
    assert [booted.alive(pid) for pid in (server, shim, container)] == [True, True, True]
    assert booted.server_pid() == server
    assert booted.cgroup_of(server) == f"/system.slice/{scope}/supervisor"
    assert booted.cgroup_of(shim) == f"/system.slice/{scope}/supervisor"
    assert booted.cgroup_of(container).startswith(f"/system.slice/{scope}/pods/pod-")
    status = booted.run("systemctl", "status", "--no-pager", "--full", scope)
    assert "nsrun server" in status
    assert "nsrun-shim default/a" in status


def test_the_end_of_a_service_spares_them_and_each_scope_ends_with_its_pods(booted: Booted) -> None:
    path = manifest(booted, "a")
    service = f"[Service]\nType=oneshot\nExecStart=/usr/local/bin/nsrun pod up {path}\n"
    booted.write("/etc/systemd/system/job.service", service)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "start", "job")
    assert booted.show("job", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    server, (shim, container) = booted.server_pid(), booted.processes("a")
    assert server is not None
    (first,) = booted.units("nsrun-server-*")

    booted.run("kill", "-KILL", str(server))
    until(lambda: not booted.alive(server), "the server is dead")
    assert booted.processes("a") == (shim, container)
    assert booted.server_pid() != server
    (second,) = set(booted.units("nsrun-server-*")) - {first}
    b_shim, b_container = up(booted, "b")
    assert booted.cgroup_of(container).startswith(f"/system.slice/{first}/pods/pod-")
    assert booted.cgroup_of(b_shim) == f"/system.slice/{second}/supervisor"
    assert booted.cgroup_of(b_container).startswith(f"/system.slice/{second}/pods/pod-")

    # The older one's pod goes: its scope ends, the other's is not touched.
    booted.run("nsrun", "pod", "down", "a")
    assert not booted.alive(container)
    until(lambda: booted.units("nsrun-server-*") == [second], "the first scope ends with its last pod")
    until(lambda: not [path for path in booted.cgroups() if path.startswith(first)], "and its cgroups")
    assert booted.processes("b") == (b_shim, b_container)
    booted.run("nsrun", "pod", "down", "b")
    booted.run("nsrun", "server", "stop")
    until(lambda: booted.units("nsrun*") == [], "the second scope ends with its server")
    until(lambda: not [path for path in booted.cgroups() if path.startswith("nsrun")], "and its cgroups")


def test_the_unit_takes_over_and_comes_back_for_a_command(booted: Booted) -> None:
    processes = up(booted, "a")
    before = booted.server_pid()
    booted.run("systemctl", "enable", "--now", UNIT)
    assert main_pid(booted) not in (0, before)
    assert booted.server_pid() == main_pid(booted)
    assert booted.processes("a") == processes
    assert booted.show(UNIT, "NRestarts")["NRestarts"] == "0"

    first = main_pid(booted)
    booted.run("nsrun", "server", "stop")
    until(lambda: booted.show(UNIT, "ActiveState")["ActiveState"] == "inactive", "the unit ends")
    scopes = booted.units("nsrun-server-*")
    assert booted.processes("a") == processes
    assert main_pid(booted) not in (0, first)
    assert booted.server_pid() == main_pid(booted)
    assert booted.units("nsrun-server-*") == scopes
    booted.run("nsrun", "pod", "down", "a")
    until(lambda: booted.units("nsrun*") == [UNIT], "the first server's scope ends with its pod")


def test_a_unit_that_cannot_start_is_said_by_the_command(booted: Booted) -> None:
    booted.run("mkdir", "-p", "/etc/nsrun")
    booted.write("/etc/nsrun/config.toml", "network = [")
    booted.run("systemctl", "enable", UNIT)

    def said() -> bool:
        done = subprocess.run(
            booted.argv("nsrun", "pod", "ls"), capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
        )
        assert done.returncode == 10
        # One that systemd is just starting again may be met between its lock and its end; then only that it ended is known.
        return "/etc/nsrun/config.toml" in done.stderr

    until(said, "the command names the file")
    assert "/etc/nsrun/config.toml" in booted.journal()
    booted.run("rm", "/etc/nsrun/config.toml")
    until(lambda: booted.show(UNIT, "ActiveState")["ActiveState"] == "active", "systemd tries again by itself")
    assert booted.run("nsrun", "pod", "ls", "-o", "name") == ""


def test_S_STATIC_a_pod_of_a_file_is_back_after_a_reboot(leak_check: None, host: Host) -> None:
    assert host.cgroup_base is not None
    seed, first, second = (host.scratch / name for name in ("seed", "first", "second"))
    for directory in (seed, first, second):
        directory.mkdir()
    with boot(first, host.cgroup_base) as machine:
        machine.write(
            f"/etc/systemd/system/{UNIT}", (REPOSITORY / "nsrun" / "server" / UNIT).read_text(encoding="utf-8")
        )
        machine.run("systemctl", "enable", UNIT)
        machine.run("mkdir", "-p", "/etc/nsrun/manifests")
        machine.write("/etc/nsrun/manifests/a.yaml", POD.format(name="a"))
        machine.run("systemctl", "start", UNIT)
        until(lambda: "Running" in machine.run("nsrun", "pod", "ls", "a"), "the pod runs")
        uid = json.loads(machine.run("nsrun", "pod", "inspect", "a"))["metadata"]["uid"]
        kept = machine.run("sh", "-c", "tar -C /etc -cf - nsrun systemd/system | base64")
    subprocess.run(["tar", "-C", str(seed), "-xf", "-"], input=base64.b64decode(kept), check=True)
    with boot(second, host.cgroup_base, seed) as machine:
        # Nobody has typed anything.
        server = main_pid(machine)
        until(
            lambda: "nsrun-shim default/a" in machine.run("systemctl", "status", "--no-pager", "--full", UNIT),
            "its shim",
        )
        assert server != 0
        assert machine.server_pid() == server
        until(lambda: "Running" in machine.run("nsrun", "pod", "ls", "a"), "the pod runs again")
        assert json.loads(machine.run("nsrun", "pod", "inspect", "a"))["metadata"]["uid"] == uid
        machine.run("rm", "/etc/nsrun/manifests/a.yaml")
        until(lambda: machine.run("nsrun", "pod", "ls", "-o", "name") == "", "the pod went with its file")


@pytest.mark.parametrize("end", ["systemctl stop job", "systemctl kill --signal=KILL --kill-who=main job"])
def test_an_engine_in_a_service_takes_its_pods_along(booted: Booted, end: str) -> None:
    booted.write("/tmp/program.py", ENGINE)
    command = f"{REPOSITORY}/.venv/bin/python /tmp/program.py {manifest(booted, 'a')}"
    booted.write("/etc/systemd/system/job.service", f"[Service]\nExecStart={command}\n")
    booted.run("systemctl", "daemon-reload")
    before = booted.run("sh", "-c", "ls /tmp; ls /sys/class/net")
    booted.run("systemctl", "start", "job")
    until(lambda: "is-up" in booted.run("ls", "/tmp"), "the pod is up")
    assert booted.run("pgrep", "-f", "trap exit TERM", check=False) != ""
    booted.run("rm", "/tmp/is-up")
    booted.run(*end.split())
    until(lambda: booted.show("job", "ActiveState")["ActiveState"] in ("inactive", "failed"), "the service has ended")
    assert booted.run("pgrep", "-f", "trap exit TERM|nsrun", check=False) == ""
    assert booted.run("sh", "-c", "ls /tmp; ls /sys/class/net") == before
    assert booted.run("findmnt", "--noheadings", "--types", "overlay", "--output", "TARGET").split() == ["/etc"]
    assert booted.run("sh", "-c", "find /sys/fs/cgroup -type d -name '*pod*' -o -type d -name 'nsrun*'") == ""
    assert booted.run("nft", "list", "tables") == ""
