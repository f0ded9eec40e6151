"""A server on the test's own root, and a client of nothing but a socket: what the tests see is what the protocol says.

The server can be SIGKILLed at any moment; `call` then starts another one and asks again, as nsrun's own client does.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gzip
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nsrun.errors import NsrunError
from nsrun.native import exec_status
from tests.capabilities import PATIENCE
from tests.host.server.wiper import Wiper
from tests.host.testhost import Host
from tests.rootfs import build

IMAGE = "tests.local/testbox"
START_S = 20.0 * PATIENCE


class LostError(Exception):
    """The server closed the connection, or died."""


class Wire:
    """One connection."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(60 * PATIENCE)
        try:
            with open_directory(path.parent) as directory:
                self.sock.connect(f"/proc/self/fd/{directory}/{path.name}")
            self.greeting, _ = self.receive()
        except BaseException:
            self.sock.close()
            raise
        self._number = 0

    def close(self) -> None:
        self.sock.close()

    def send(self, method: str, params: dict[str, Any], fds: tuple[int, ...] = ()) -> int:
        self._number += 1
        data = json.dumps({"id": self._number, "method": method, "params": params}).encode()
        frame = struct.pack("!I", len(data)) + data
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self.sock.sendmsg([frame], ancillary)
            self.sock.sendall(frame[sent:])
        except OSError as error:
            raise LostError(str(error)) from error
        return self._number

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        fds: list[int] = []
        size = struct.unpack("!I", self._exactly(4, fds))[0]
        message: dict[str, Any] = json.loads(self._exactly(size, fds))
        return message, fds

    def _exactly(self, count: int, fds: list[int]) -> bytes:
        data = b""
        while len(data) < count:
            try:
                chunk, ancillary, _flags, _address = self.sock.recvmsg(
                    count - len(data), socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionError as error:
                raise LostError(str(error)) from error
            for _level, _kind, payload in ancillary:
                numbers = array.array("i")
                numbers.frombytes(payload)
                fds.extend(numbers)
            if not chunk:
                raise LostError("end of file")
            data += chunk
        return data


@dataclass
class Reply:
    """What came of a request."""

    result: dict[str, Any]
    fds: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def open_directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class Workshop:
    """What the tests' servers have in common: a wiper, and what a root directory looks like after the test image was imported.

    Args:
        directory: a scratch directory, made and removed.
        host: for the one server that imports.
    """

    def __init__(self, directory: Path, host: Host) -> None:
        self.wiper = Wiper()
        self.directory = directory
        directory.mkdir()
        server = Server(host, self.wiper)
        try:
            server.start()
            build(directory / "rootfs")
            config = {"env": ["PATH=/bin"], "cmd": ["/bin/pause"]}
            server.call("image.import", name=IMAGE, path=str(directory / "rootfs"), config=config)
            server.stop()
            subprocess.run(["cp", "-a", str(host.root), str(directory / "root")], check=True)
            for name in ("run", "log", "etc"):
                shutil.rmtree(directory / "root" / name, ignore_errors=True)
        finally:
            server.wipe()

    @property
    def rootfs(self) -> Path:
        """The files of the test image."""
        return self.directory / "rootfs"

    def furnish(self, root: Path) -> None:
        """Make a root directory that knows the test image."""
        subprocess.run(["cp", "-a", str(self.directory / "root"), str(root)], check=True)

    def close(self) -> None:
        """End the wiper and remove the directory."""
        self.wiper.close()
        shutil.rmtree(self.directory)


class Server:
    """A root directory with a server on it, started when it is needed.

    Args:
        wiper: for the end; without, one is started then.
    """

    def __init__(self, host: Host, wiper: Wiper | None = None) -> None:
        self.host = host
        self.wiper = wiper
        self.root = host.root
        self.socket = host.root / "run" / "nsrun.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self.environment = dict(host.environment)
        self._output = host.scratch / "server.out"

    # the process

    def start(self, *words: str, may_lose: bool = False) -> subprocess.Popen[bytes]:
        """Start a server and return once it greets.

        Args:
            words: more of its command line.
            may_lose: it is fine when it is killed, or finds another one there already.
        """
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "nsrun.server", "--root", str(self.root), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )
        self.process = process
        self._started = [one for one in self._started if one.poll() is None] + [process]
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, LostError):
                wire = Wire(self.socket)
                wire.close()
                if wire.greeting["pid"] == process.pid or may_lose:
                    return process
            if process.poll() is not None:
                if may_lose:
                    return process
                break
            time.sleep(0.005)
        raise AssertionError(f"the server did not start: {self.said()}")

    def _start_if_away(self) -> None:
        """As nsrun's client does: one at a time starts servers, the others then find one."""
        run = self.root / "run"
        with open(run / "start.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(OSError, LostError):
                Wire(self.socket).close()
                return
            self.start(may_lose=True)

    def said(self) -> str:
        """The server's log and what it printed."""
        text = ""
        for path in (self._output, self.root / "run" / "server.log"):
            with contextlib.suppress(OSError):
                text += path.read_text(encoding="utf-8", errors="replace")[-20000:]
        return text

    def kill(self) -> bool:
        """SIGKILL to the server that holds the lock, whoever started it; whether there was one."""
        try:
            pid = int((self.root / "run" / "lock").read_text(encoding="ascii") or "0")
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return False
        try:
            if str(self.root).encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 10)
        except (ProcessLookupError, FileNotFoundError):
            return False
        finally:
            os.close(pidfd)
            if self.process is not None:
                self.process.poll()
        return True

    def stop(self) -> None:
        """SIGTERM; the pods run on."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(timeout=20) == 0, self.said()
            self.process = None

    def wipe(self) -> None:
        """Everything away, by a server whose owner is gone already."""
        self.kill()
        for process in self._started:
            process.kill()
            process.wait()
        if not self.root.exists():
            return
        with open(self.host.scratch / "wiper.out", "a+b") as output:
            # What is read from the environment while modules load is not that of a request.
            warm = self.wiper if self.environment == self.host.environment else None
            wiper = warm or Wiper(self.environment)
            try:
                status = wiper.wipe(self.root, self.environment, output.fileno())
            finally:
                if warm is None:
                    wiper.close()
            output.seek(0)
            assert status == 0, output.read().decode("utf-8", "replace") + self.said()
        assert not self.root.exists(), sorted(self.root.rglob("*"))[:20]

    # requests

    def call(self, method: str, *, fds: tuple[int, ...] = (), again: bool = True, **params: Any) -> Reply:
        """Send a request; when the server dies, start another one and (with `again`) ask it."""
        while True:
            try:
                wire = Wire(self.socket)
            except (OSError, LostError):
                self._start_if_away()
                continue
            try:
                number = wire.send(method, params, fds)
                reply = Reply({})
                while True:
                    message, received = wire.receive()
                    if message.get("id") not in (number, 0):
                        continue
                    if "event" in message:
                        reply.events.append(message["event"])
                        for fd in received:
                            os.close(fd)
                        continue
                    if "error" in message:
                        raise NsrunError.from_data(message["error"])
                    reply.result = message["result"]
                    reply.fds = received
                    return reply
            except LostError:
                if not again:
                    raise
            finally:
                wire.close()

    def up(self, *manifests: dict[str, Any], **params: Any) -> dict[str, Any]:
        """pod.up of objects; waits until they run unless told otherwise."""
        text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
        params = {"wait": "running", "timeout_s": 30 * PATIENCE, **params}
        return self.call("pod.up", documents=[{"name": "test.yaml", "text": text}], **params).result

    def down(self, *names: str, **params: Any) -> dict[str, Any]:
        """pod.down, without grace unless told otherwise."""
        params = {"grace_period_s": 0, "timeout_s": 60 * PATIENCE, **params}
        return self.call("pod.down", names=list(names), **params).result

    def get(self, name: str) -> dict[str, Any]:
        """The Pod."""
        pod: dict[str, Any] = self.call("pod.get", name=name).result["pod"]
        return pod

    def runtime(self, name: str) -> dict[str, Any]:
        """What pod.get tells beside the Pod."""
        runtime: dict[str, Any] = self.call("pod.get", name=name).result["runtime"]
        return runtime

    def container(self, name: str, container: str) -> dict[str, Any]:
        """The status of a container."""
        status = self.get(name)["status"]
        for one in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
            if one["name"] == container:
                found: dict[str, Any] = one
                return found
        raise AssertionError(f"pod {name} has no status of {container}: {status}")

    def names(self) -> list[str]:
        """The names of all pods."""
        return [pod["metadata"]["name"] for pod in self.call("pod.list").result["pods"]]

    def reasons(self, name: str) -> list[str]:
        """The reasons of a pod's events, in their order."""
        return [event["reason"] for event in self.call("pod.events", name=name).result["events"]]

    def wait(self, name: str, condition: str, timeout_s: float = 30) -> None:
        """pod.wait."""
        params: dict[str, Any] = {"names": [name], "timeout_s": timeout_s * PATIENCE, "for": condition}
        self.call("pod.wait", **params)

    def log(self, name: str, container: str | None = None, *, previous: bool = False) -> bytes:
        """What was written into the log files, one after the other."""
        reply = self.call("pod.logs", name=name, container=container, previous=previous)
        data = b""
        for fd, about in zip(reply.fds, reply.result["files"], strict=True):
            with os.fdopen(fd, "rb") as file:
                data += gzip.decompress(file.read()) if about["compressed"] else file.read()
        return data

    def lines(self, name: str, container: str | None = None, *, previous: bool = False) -> list[str]:
        """The text of the log's lines."""
        return texts(self.log(name, container, previous=previous))

    def run(
        self, name: str, *command: str, container: str | None = None, stdin: bytes = b"", **params: Any
    ) -> tuple[int, bytes, bytes]:
        """pod.exec to its end: exit code, stdout, stderr (little enough for a pipe). `params` are more of its words.

        When the server dies over it, the status socket tells whether the shim has it: if not, it is asked for again.
        """
        while True:
            with contextlib.ExitStack() as stack:
                ours, theirs = exec_status.status_pair()
                stack.enter_context(ours)
                (far_in, near_in), (near_out, far_out), (near_err, far_err) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
                feed = stack.enter_context(os.fdopen(near_in, "wb", 0))
                outputs = [stack.enter_context(os.fdopen(fd, "rb")) for fd in (near_out, near_err)]
                others = (far_in, far_out, far_err)
                lost = False
                try:
                    fds = (theirs.fileno(), *others)
                    words = {"name": name, "container": container, "command": list(command), **params}
                    self.call("pod.exec", fds=fds, again=False, **words)
                except LostError:
                    lost = True
                finally:
                    theirs.close()
                    for fd in others:
                        os.close(fd)
                if lost and ours.recv(1, socket.MSG_PEEK) == b"":
                    continue
                with contextlib.suppress(BrokenPipeError):
                    feed.write(stdin)
                feed.close()
                said = [output.read() for output in outputs]
                while True:
                    message = exec_status.read_status(ours)
                    assert message is not None, "the status socket ended without an exit"
                    if message.kind == "failed":
                        raise AssertionError(f"exec failed: {message.op} {message.error} {message.subject}")
                    if message.kind == "exited":
                        assert message.exit_code is not None
                        return message.exit_code, said[0], said[1]


def texts(log: bytes) -> list[str]:
    """The lines of a log in CRI format, partial ones joined (S-LOG)."""
    lines: list[str] = []
    begun: dict[bytes, bytes] = {}
    for line in log.split(b"\n")[:-1]:
        _time, stream, tag, text = line.split(b" ", 3)
        begun[stream] = begun.get(stream, b"") + text
        if tag == b"F":
            lines.append(begun.pop(stream).decode("utf-8", "replace"))
    # What a container did not end with a newline.
    return lines + [text.decode("utf-8", "replace") for text in begun.values()]


def pod(name: str, *containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), **spec: Any) -> dict[str, Any]:
    """A manifest whose grace period is short."""
    body: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}
    if inits:
        body["initContainers"] = list(inits)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def box(name: str, *command: str, **fields: Any) -> dict[str, Any]:
    """A container of the test image."""
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": [f"/bin/{command[0]}", *command[1:]],
        **fields,
    }


def until(condition: Callable[[], object], timeout_s: float = 20.0, what: str = "") -> None:
    """Return once `condition` is true."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(fd, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state not in ("Z", "X")
    except (ProcessLookupError, FileNotFoundError):
        return False
    finally:
        os.close(fd)
