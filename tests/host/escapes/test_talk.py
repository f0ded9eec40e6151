"""What processes talk by: shared memory, queues, sockets and terminals of others."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nsrun import native
from nsrun.native import exec_status
from tests.host.escapes.stage import ATTACKERS, ATTACKS, FREE, PRISON, STRICT, VICTIM, Stage, as_nobody
from tests.host.server.harness import box, pod, until


@pytest.fixture(autouse=True, scope="module")
def offered(stage: Stage) -> None:
    """The victim has offered everything under the name `victim`."""
    until(lambda: "offered" in stage.server.lines(VICTIM, "a"))


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("shared_memory",), "ENOENT"),
        (("queue", "victim"), "ENOENT"),
        (("show", "/dev/shm/victim"), "ENOENT"),
        (("show", "/dev/mqueue/victim"), "ENOENT"),
        (("connect_abstract", "victim"), "ECONNREFUSED"),
    ],
    ids=["sysv", "queue", "dev-shm", "dev-mqueue", "abstract"],
)
def test_what_another_pod_shares(stage: Stage, words: tuple[str, ...], refused: str) -> None:
    """IPC and network namespaces are a pod's own, and so are /dev/shm and /dev/mqueue."""
    for where in (*ATTACKERS, f"{FREE}/privileged"):
        assert stage.attack(where, *words) == refused, where
    # Control: what is in the same pod shares all of it.
    assert stage.attack(f"{VICTIM}/b", *words) == "ok"


def test_abstract_sockets_of_the_machine(stage: Stage) -> None:
    """containerd's shims listened on such, and a pod in the machine's network could have them (CVE-2020-15257)."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0nsrun-tests-machine")
        listener.listen()
        for attacker in ATTACKERS:
            assert stage.attack(attacker, "connect_abstract", "nsrun-tests-machine") == "ECONNREFUSED"
        stage.server.up(pod("of-host", box("a", "pause"), hostNetwork=True))
        try:
            assert stage.attack("of-host/a", "connect_abstract", "nsrun-tests-machine") == "ok"
            said = stage.run("of-host/a", "list_abstract")
            # nsrun itself has none.
            assert [name for name in said[:-1] if name != "@nsrun-tests-machine"] == []
        finally:
            stage.server.down("of-host")


def test_sockets_of_nsrun(stage: Stage) -> None:
    """The server's and the shims' are not to be seen inside; outside they are root's alone."""
    run = stage.server.root / "run"
    shims = sorted(run.glob("pods/*/shim.sock"))
    assert len(shims) == 4
    for path in (run / "nsrun.sock", *shims):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for where in (*ATTACKERS, f"{FREE}/privileged"):
            assert stage.attack(where, "show", str(path)) == "ENOENT", where
        assert "EACCES" in as_nobody(stage.rootfs("tests.local/testbox") / "bin/attacks", "show", path).stdout


def test_the_servers_socket_in_a_volume(stage: Stage) -> None:
    """Who is given the socket by the manifest and is no root, can do nothing with it."""
    path = stage.server.root / "run" / "nsrun.sock"
    mounts = [{"name": "s", "mountPath": "/sock"}]
    stage.server.up(
        pod(
            "given",
            box("strict", "pause", volumeMounts=mounts, securityContext=STRICT),
            box("root", "pause", volumeMounts=mounts),
            volumes=[{"name": "s", "hostPath": {"path": str(path), "type": "Socket"}}],
        )
    )
    try:
        assert stage.attack("given/strict", "connect_path", "/sock") == "EACCES"
        # Control, and what docs/security.md warns of: root in a container is root for the server.
        assert stage.attack("given/root", "connect_path", "/sock") == "ok"
    finally:
        stage.server.down("given")


def _with_terminal(stage: Stage, where: str, *words: str) -> list[str]:
    """What an attack says to the terminal of `pod exec --tty`."""
    name, _, container = where.partition("/")
    ours, theirs = exec_status.status_pair()
    with ours:
        words = (ATTACKS, *words)
        params: dict[str, Any] = {"name": name, "container": container, "command": list(words), "tty": True}
        stage.server.call("pod.exec", fds=(theirs.fileno(),), **params)
        theirs.close()
        started = exec_status.read_status(ours)
        assert started is not None and started.terminal is not None, started
        said = b""
        with os.fdopen(started.terminal, "rb", 0) as master, contextlib.suppress(OSError):  # EIO: hung up
            while chunk := master.read(4096):
                said += chunk
    return said.decode().replace("\r", "").splitlines()


def test_input_of_a_terminal(stage: Stage) -> None:
    """TIOCSTI types for whoever reads the terminal next (CVE-2017-5226): without --tty there is none, with it one of the command's own."""
    for attacker in ATTACKERS:
        for words in (("type", "reboot"), ("paste",), ("steal_terminal",)):
            assert stage.attack(attacker, *words) == "ENOTTY", (attacker, words)
        assert stage.run(attacker, "streams") == ["0 pipe", "1 pipe", "2 pipe", "ok"], attacker
        assert _with_terminal(stage, attacker, "paste")[-1] in ("EINVAL", "ENOTTY", "EPERM")
    # Control: on its own terminal it types for itself, where the kernel still lets anybody.
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    allowed = not legacy.exists() or legacy.read_text().strip() == "1"
    assert _with_terminal(stage, f"{PRISON}/root", "type", "reboot")[-1] == ("ok" if allowed else "EIO")


def test_the_clients_terminal_stays_outside(stage: Stage) -> None:
    """`nsrun pod exec` at a terminal: the command has pipes, or a terminal of the container's, never the user's."""
    master, slave = pty.openpty()
    users = f"on {os.fstat(slave).st_dev}"
    try:
        for options, kinds in (((), ("0 /dev/null", " pipe")), (("--tty", "--stdin"), (" /dev/pts/",))):
            words = ("pod", "exec", *options, PRISON, "-c", "root", "--", ATTACKS, "streams")
            process = subprocess.Popen(
                stage.host.nsrun_argv(*words),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=stage.host.environment,
                start_new_session=True,
            )
            said = b""
            deadline = time.monotonic() + 20
            while not said.replace(b"\r", b"").endswith(b"ok\n") and time.monotonic() < deadline:
                said += os.read(master, 4096)
            assert process.wait(timeout=20) == 0, said
            for line in said.decode().replace("\r", "").splitlines()[:3]:
                assert any(kind in line for kind in kinds) and users not in line, said
    finally:
        os.close(master)
        os.close(slave)


def test_termination_message_is_no_way_to_files_of_the_machine(stage: Stage) -> None:
    """The server reads the file that a container wrote: links, FIFOs and sizes of a container's choice are nothing to it."""
    secret = str(stage.outside / "secret")
    attacks = {
        "link": ("attacks", "replace", "/dev/termination-log", secret),
        "fifo": ("attacks", "replace", "/dev/termination-log"),
        "removed": ("attacks", "remove", "/dev/termination-log"),
        "huge": ("attacks", "blow_up", "/dev/termination-log", str(1 << 40)),
        "moved": ("attacks", "move", "/dev/termination-log", "/dev/elsewhere"),
    }
    free = {"privileged": True}
    containers = [box(name, *words) for name, words in attacks.items()]
    containers += [box(f"{name}-free", *words, securityContext=free) for name, words in attacks.items()]
    containers.append(box("control", "write", "/dev/termination-log", "last words"))
    before = _resident(stage)
    stage.server.up(pod("words", *containers, restartPolicy="Never"), wait="none")
    try:
        stage.server.wait("words", "jsonpath={.status.phase}=Succeeded")
        for one in stage.server.get("words")["status"]["containerStatuses"]:
            message = one["state"]["terminated"].get("message", "")
            if one["name"] == "control":
                assert message == "last words"
            elif one["name"].startswith("huge"):
                assert message.strip("\0") == "" and len(message) <= 4096
            else:
                assert message == "", one
        said = {name: stage.server.lines("words", name)[-1] for name in attacks}
        assert said == {"link": "EBUSY", "fifo": "EBUSY", "removed": "EBUSY", "huge": "ok", "moved": "EBUSY"}
        assert _resident(stage) - before < 8 << 20, "a file of a tebibyte is not read"
    finally:
        stage.server.down("words")


def _resident(stage: Stage) -> int:
    """Bytes of the server."""
    pid = int((stage.server.root / "run" / "lock").read_text())
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


def test_keyrings(stage: Stage) -> None:
    """A key of the session that the server was started in: no filter hides it from this container, its keyring does."""
    libc = ctypes.CDLL(None, use_errno=True)
    # keyctl: 250 on x86-64, 219 where numbers are those of asm-generic.
    keyctl, add_key = (250, 248) if os.uname().machine == "x86_64" else (219, 217)
    added = libc.syscall(add_key, b"user", b"nsrun-tests-machine", b"x", 1, -3)
    assert added > 0, ctypes.get_errno()
    try:
        stage.server.kill()
        # Whoever starts the server next has this key in its session.
        stage.server.up(
            pod("keys", box("a", "pause", securityContext={"seccompProfile": {"type": "Unconfined"}})),
        )
        assert stage.attack("keys/a", "request_key", "nsrun-tests-machine") == "ENOKEY"
        assert stage.attack(f"{PRISON}/root", "request_key", "nsrun-tests-machine") == "EPERM"
        # Control: outside, and with keyrings of the container's own.
        assert libc.syscall(keyctl, 10, -3, b"user", b"nsrun-tests-machine", 0) == added
        assert stage.attack("keys/a", "add_key") == "ok"
    finally:
        libc.syscall(keyctl, 9, added, -3, 0, 0)
        stage.server.down("keys")


def test_the_shim_is_nobodys_to_look_into(stage: Stage) -> None:
    """Nor is the server, which has Secrets in its memory: not even for a root with a container's capabilities who sees them."""
    pids = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _name_of(pid) == "nsrun-shim"]
    assert len(pids) >= 3
    server = int((stage.server.root / "run" / "lock").read_text())
    for pid in (*pids, server):
        assert _as_weak_root("cat", f"/proc/{pid}/maps").returncode != 0
    # Control: a process that has no more capabilities than who looks.
    with subprocess.Popen([*_WEAK_ROOT, "sleep", "60"]) as equal:
        until(lambda: _name_of(str(equal.pid)) == "sleep")
        assert _as_weak_root("cat", f"/proc/{equal.pid}/maps").returncode == 0
        equal.kill()
    for pid in pids:
        executable = Path(f"/proc/{pid}/exe")
        with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
            os.close(os.open(executable, os.O_WRONLY))
    assert Path(native.shim_path()).stat().st_mode & 0o022 == 0


_WEAK_ROOT = (
    "setpriv",
    "--inh-caps=-all",
    "--bounding-set=-all,+chown,+dac_override,+fowner,+kill,+setuid,+mknod",
    "--",
)


def _as_weak_root(*words: str) -> subprocess.CompletedProcess[str]:
    """A command as root in the machine's PID namespace, as hostPID makes a container see it."""
    return subprocess.run([*_WEAK_ROOT, *words], capture_output=True, text=True, check=False)


def _name_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
