"""Starting, stopping and exchanging the server, and what its death in the middle means."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from nsrun.client import roots, start
from nsrun.errors import ServerError
from tests.host.cli.conftest import SLEEPER, bring_up, container, manifest
from tests.host.testhost import Host


def server_pid(host: Host) -> int:
    return int(json.loads(host.nsrun("server", "status", "-o", "json").stdout)["pid"])


def servers(host: Host) -> list[int]:
    """The processes that are servers of this root, found without asking them or their lock."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "environ").read_bytes() + (directory / "cmdline").read_bytes()
        except OSError:
            continue
        if b"nsrun.server" in words and str(host.root).encode() in words:
            found.append(int(directory.name))
    return found


def test_start_stop_status(leak_check: None, host: Host) -> None:
    done = host.nsrun("server", "status", check=False)
    assert done.returncode == 10
    assert "does not run" in done.stdout
    assert "The server runs (pid" in host.nsrun("server", "start").stdout
    assert "runs already" in host.nsrun("server", "start").stdout
    pid = server_pid(host)
    assert os.getsid(pid) == pid
    status = host.nsrun("server", "status").stdout
    assert str(pid) in status
    assert str(host.root / "run" / "server.log") in status
    assert "has stopped" in host.nsrun("server", "stop").stdout
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert host.nsrun("server", "stop").stdout == "The server does not run.\n"


def test_it_starts_by_itself_for_many_clients_at_once(leak_check: None, host: Host) -> None:
    clients = [
        subprocess.Popen(
            host.nsrun_argv("pod", "ls"), env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    for client in clients:
        _, errors = client.communicate(timeout=60)
        assert client.returncode == 0, errors
    started = (host.root / "run" / "server.log").read_text().count("serving ")
    assert started == 1
    host.nsrun("server", "stop")


def test_it_holds_nothing_of_who_started_it(leak_check: None, host: Host) -> None:
    secret = host.scratch / "secret"
    secret.write_text("x")
    directory = host.scratch / "cwd"
    directory.mkdir()
    with secret.open() as file:
        subprocess.run(
            host.nsrun_argv("server", "start"),
            env=host.environment,
            pass_fds=[file.fileno()],
            cwd=directory,
            check=True,
        )
    pid = server_pid(host)
    held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert str(secret) not in held
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    mode = stat.S_IMODE((host.root / "run").stat().st_mode)
    assert mode & 0o077 == 0
    assert stat.S_IMODE((host.root / "run" / "nsrun.sock").stat().st_mode) == 0o600
    host.nsrun("server", "stop")


def test_pods_survive_stop_restart_and_sigkill(leak_check: None, host: Host) -> None:
    bring_up(host, manifest("steady", container("app", SLEEPER)))
    shim = json.loads(host.nsrun("pod", "inspect", "steady", "--runtime").stdout)["runtime"]["shim_pid"]
    first = server_pid(host)
    host.nsrun("server", "stop")
    assert Path(f"/proc/{shim}").exists()
    assert "1/1" in host.nsrun("pod", "ls").stdout
    second = server_pid(host)
    assert second != first
    assert "The server runs" in host.nsrun("server", "restart").stdout
    third = server_pid(host)
    assert third != second
    os.kill(third, signal.SIGKILL)
    assert host.nsrun("pod", "exec", "steady", "--", "echo", "alive").stdout == "alive\n"
    runtime = json.loads(host.nsrun("pod", "inspect", "steady", "--runtime").stdout)["runtime"]
    assert runtime["shim_pid"] == shim
    host.nsrun("pod", "down", "steady")
    host.nsrun("server", "stop")


def test_commands_outlive_servers(leak_check: None, host: Host) -> None:
    """up, wait, list and down while their server is killed again and again."""
    text = json.dumps(manifest("survivor", container("app", SLEEPER), initContainers=[container("i", "sleep 0.5")]))
    path = host.scratch / "survivor.json"
    path.write_text(text)
    for words in (["pod", "up", path], ["pod", "wait", "survivor"], ["pod", "ls"], ["pod", "down", "survivor"]):
        process = subprocess.Popen(
            host.nsrun_argv(*words), env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for pause in (0.15, 0.35, 0.5):
            time.sleep(pause)
            for pid in servers(host):
                os.kill(pid, signal.SIGKILL)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, (words, output, errors)
    # The last server may have been killed while it cleared up after the pod: the next one carries on.
    host.nsrun("pod", "ls")
    host.nsrun("server", "stop")


def test_a_server_that_cannot_start_says_why(host: Host) -> None:
    (host.root / "lib").mkdir(parents=True, mode=0o700)
    (host.root / "lib" / "images").write_text("a file where a directory should be")
    done = host.nsrun("pod", "ls", check=False)
    if done.returncode == 0:
        # Images are opened when they are needed: then it is image ls that says so.
        done = host.nsrun("image", "ls", check=False)
    assert done.returncode != 0
    assert "images" in done.stderr
    assert "Traceback" not in done.stderr
    host.nsrun("server", "stop")


def test_a_dead_server_leaves_a_socket_that_is_replaced(leak_check: None, host: Host) -> None:
    host.nsrun("server", "start")
    os.kill(server_pid(host), signal.SIGKILL)
    assert (host.root / "run" / "nsrun.sock").exists()
    assert host.nsrun("pod", "ls").stderr == "No pods.\n"
    host.nsrun("server", "stop")


def test_foreground(leak_check: None, host: Host) -> None:
    process = subprocess.Popen(
        host.nsrun_argv("server", "start", "--foreground"), env=host.environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "serving" in process.stderr.readline()
    assert server_pid(host) == process.pid
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert host.nsrun("server", "status", check=False).returncode == 10


def test_a_second_server_is_refused(leak_check: None, host: Host) -> None:
    host.nsrun("server", "start")
    done = host.nsrun("server", "start", "--foreground", check=False)
    assert done.returncode == 5
    assert str(server_pid(host)) in done.stderr or "lock" in done.stderr
    host.nsrun("server", "stop")


def test_under_systemd_it_gets_a_scope_of_its_own(tmp_path: Path) -> None:
    assert start.launcher(system=str(tmp_path / "absent")) == ["setsid", "--fork"]
    words = start.launcher(system=str(tmp_path))
    assert words[:3] == ["setsid", "--fork", "systemd-run"]
    assert "--scope" in words
    assert "--property=KillMode=process" in words
    assert "--property=Delegate=yes" in words
    assert words != start.launcher(system=str(tmp_path)), "the scope of an earlier server may still be there"


def test_a_long_root_path(host: Host) -> None:
    deep = host.scratch / ("d" * 120) / ("e" * 120)
    words = host.nsrun_argv()[:1]
    done = host.run(*words, "--root", deep, "pod", "ls")
    assert done.stderr == "No pods.\n"
    host.run(*words, "--root", deep, "server", "stop")


def test_a_server_that_is_still_leaving_is_heard(tmp_path: Path) -> None:
    """Its pipe closes before its lock does: what it said is the answer, and not that somebody else may be on the way."""
    root = roots.find(tmp_path / "root")
    start.make_run_directory(root)
    Path(root.server_log).write_text("nsrun-server: config.toml: mirror is no word of it\n")
    ready, closed = os.pipe()
    os.close(closed)
    with open(f"{root.run}/lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        leaving = threading.Timer(0.1, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        leaving.start()
        with pytest.raises(ServerError) as caught:
            start.wait_ready(root, ready, 0)
        leaving.join()
    os.close(ready)
    assert caught.value.brief == "the server did not start"
    assert caught.value.details == "nsrun-server: config.toml: mirror is no word of it"
