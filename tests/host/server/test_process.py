"""The server as a process: how it is started, refused, and what it says about the machine."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun.errors import EXIT_CODES
from tests.host.server.harness import Server, box, pod, until
from tests.host.testhost import Host

pytestmark = pytest.mark.timeout(60)


def serve(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "nsrun.server", *words],
        env=host.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_ready_is_one_byte_once_it_listens(server: Server) -> None:
    server.stop()
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "nsrun.server", "--root", str(server.root), "--ready", str(write)],
        env=server.environment,
        pass_fds=[write],
    )
    os.close(write)
    with os.fdopen(read, "rb") as ready:
        assert ready.read() == b"1"
    assert stat.S_ISSOCK(server.socket.stat().st_mode)
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    server.process = process
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii") == "nsrun-server\n")
    server.stop()


def test_a_server_whose_directory_is_removed_ends(server: Server) -> None:
    server.stop()
    log = server.root / "run/server.log"
    log.unlink()
    command = [sys.executable, "-m", "nsrun.server", "--root", str(server.root)]
    with subprocess.Popen(command, env=server.environment) as process:
        try:
            until(lambda: log.exists() and "serving" in log.read_text())
            shutil.rmtree(server.root / "run")
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nothing"], "--nothing"),
        (["now"], "one word too many"),
        (["--ready", "x"], "not an open descriptor"),
        (["--lifeline", "77"], "not an open descriptor"),
        (["--temporary"], "--lifeline"),
    ],
)
def test_wrong_words_are_refused(host: Host, words: list[str], said: str) -> None:
    done = serve(host, *words)
    assert done.returncode == EXIT_CODES["usage"]
    assert said in done.stderr
    assert not host.root.exists()


def test_a_state_directory_of_somebody_else_is_refused(host: Host) -> None:
    host.root.mkdir()
    (host.root / "run").mkdir()
    os.chown(host.root / "run", 65534, 65534)
    done = serve(host)
    assert done.returncode == EXIT_CODES["permission"]
    assert "belongs to uid 65534" in done.stderr
    os.chown(host.root / "run", 0, 0)
    (host.root / "run").chmod(0o755)
    done = serve(host)
    assert done.returncode == EXIT_CODES["permission"]
    assert f"chmod 0700 {host.root}/run" in done.stderr


def test_a_configuration_that_is_none_is_named(host: Host) -> None:
    (host.root / "etc").mkdir(parents=True)
    (host.root / "etc" / "config.toml").write_text("[network\nrange = 5\n", encoding="utf-8")
    done = serve(host)
    assert done.returncode == EXIT_CODES["spec"]
    assert "config.toml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (host.root / "run" / "nsrun.sock").exists()


def test_status_tells_what_the_server_is(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    status = server.call("server.status").result
    assert server.process is not None
    assert (status["pid"], status["pods"], status["root"]) == (server.process.pid, 1, str(server.root))
    assert 10_000_000 < status["memory_bytes"] < 90_000_000
    assert status["network"]["leases"] == 1


def test_a_pod_directory_that_cannot_be_read_harms_no_other(server: Server) -> None:
    server.up(pod("good", box("a", "pause")), pod("bad", box("a", "pause")))
    directory = Path(server.runtime("bad")["directory"])
    server.kill()
    wish = (directory / "pod.json").read_bytes()
    (directory / "pod.json").write_bytes(b"{")
    assert server.names() == ["good"]
    assert "pod.json cannot be read" in server.said()
    server.stop()
    assert directory.exists(), "it is left for somebody to look at"
    (directory / "pod.json").write_bytes(wish)
    assert server.names() == ["bad", "good"]


def test_half_made_and_half_removed_pods_are_collected(server: Server) -> None:
    server.up(pod("web", box("a", "pause")))
    runtime = server.runtime("web")
    uid = server.get("web")["metadata"]["uid"]
    server.kill()
    # As if it had been killed right before the end of a removal, and another right after the beginning of a creation.
    (Path(runtime["directory"]) / "pod.json").unlink()
    (server.root / "run" / "pods" / "11111111-2222-3333-4444-555555555555").mkdir(mode=0o700)
    (server.root / "log" / "pods" / "default_gone_11111111-2222-3333-4444-555555555555" / "a").mkdir(parents=True)
    server.start()
    # The first answer says that there are no pods: nothing of them is there then.
    assert server.call("pod.list").result["pods"] == []
    assert os.listdir(server.root / "run" / "pods") == []
    assert not Path(f"/proc/{runtime['shim_pid']}").exists()
    until(lambda: os.listdir(server.root / "log" / "pods") == [])
    leases = server.root / "lib" / "leases"
    until(lambda: not leases.exists() or os.listdir(leases) == [])
    until(lambda: server.host.cgroup_base is None or not (server.host.cgroup_base / f"pod-{uid}").exists())


def test_root_file_systems_of_before_a_reboot_are_removed(server: Server) -> None:
    """Also those that a server which was killed had begun to remove."""
    server.kill()
    roots = server.root / "lib" / "roots"
    for name in ("6b2f0c1e-0000-4000-8000-000000000000", ".gone-0123abcd"):
        (roots / name / "0" / "upper" / "etc").mkdir(parents=True)
        (roots / name / "0" / "upper" / "etc" / "passwd").write_text("x")
    server.start()
    until(lambda: os.listdir(roots) == [], what="root file systems of pods that are gone")


def test_the_doctor_with_and_without_a_server(server: Server) -> None:
    with_server = server.call("doctor").result["checks"]
    done = server.host.run(sys.executable, "-m", "nsrun.doctor", str(server.root / "lib"))
    without = json.loads(done.stdout)["checks"]
    # Of its pods from files a server alone knows.
    assert [check for check in with_server if check["name"] != "manifests"] == without
    names = [check["name"] for check in without]
    assert len(names) == len(set(names))
    wrong = [check for check in without if not check["ok"]]
    assert all(check["hint"] for check in wrong), wrong
    assert {"kernel", "user", "namespaces", "overlay", "cgroups", "seccomp", "nftables"} <= set(names)
    assert not [check["name"] for check in wrong if check["name"] in ("kernel", "user", "namespaces", "overlay")]


def test_the_doctor_says_no_with_a_hint(host: Host) -> None:
    # Nobody may read where Python lies on some machines: what is imported late is imported before.
    code = "import ctypes, encodings.ascii, os, resource, tempfile; import nsrun.doctor.__main__ as doctor"
    become = "os.setgid(65534); os.setuid(65534); doctor.main()"
    environment = {**host.environment, "PATH": "/nowhere"}
    done = host.run(sys.executable, "-c", f"{code}; {become}", environment=environment, check=False)
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert not checks["user"]["ok"]
    assert "sudo" in checks["user"]["hint"]
    assert not checks["namespaces"]["ok"]
