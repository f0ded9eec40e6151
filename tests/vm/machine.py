"""The virtual machine while it runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.image import INSIDE, System, initramfs

BOOT_S = 90.0
PLAIN = f"{INSIDE}/tests/vm/init"
SYSTEMD = "/lib/systemd/systemd"
MEMORY_MIB = 2048
LOOK_S = 5.0
STUCK_S = 60
"""Seconds after which a processor that is stuck stays so: a busy machine's may be for half of that."""
ANSWER_S = 30.0
"""Seconds that an answer may come after its command's own limit."""


class VmError(AssertionError):
    """The machine does not do what a machine does; the end of its console is in the text."""


class LockedUpError(VmError):
    """A processor of the machine is stuck in its kernel, as it happens once in a while where several are emulated at once."""


@dataclass(frozen=True)
class Disks:
    """What a machine is started with."""

    system: System
    project: Path


class Vm:
    """A machine that runs.

    Attributes:
        release: of its kernel.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, console: Path) -> None:
        self.process = process
        self._channel = channel
        self._console = console
        self.release = ""

    def console(self, count: int = 8000) -> str:
        """The end of what it wrote to its serial line."""
        with contextlib.suppress(OSError):
            return self._console.read_text(encoding="utf-8", errors="replace")[-count:]
        return ""

    def wait_booted(self) -> None:
        """Until the agent is there.

        Raises:
            VmError: it does not come.
        """
        self.release = self._receive(BOOT_S)["ready"]

    def execute(
        self,
        *argv: str,
        stdin: str = "",
        cwd: str = INSIDE,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        heard: Callable[[str], object] | None = None,
    ) -> tuple[int, str]:
        """Run a command there as root: its exit status (124: it had to be killed), and what it said on both streams.

        Args:
            heard: is given each piece of that as it comes.
            timeout: seconds.

        Raises:
            VmError: the machine ended, or says nothing any more.
        """
        request = {
            "argv": argv,
            "stdin": stdin,
            "cwd": cwd,
            "environment": dict(environment or {}),
            "timeout_s": timeout,
        }
        data = json.dumps(request).encode()
        self._channel.sendall(struct.pack("!I", len(data)) + data)
        deadline = time.monotonic() + timeout + ANSWER_S
        said = ""
        while True:
            answer = self._receive(deadline - time.monotonic())
            if "code" in answer:
                return int(answer["code"]), said
            said += answer["output"]
            if heard is not None:
                heard(answer["output"])

    def run(self, *argv: str, check: bool = True, stdin: str = "", timeout: float = 60.0) -> str:
        """As `execute`; what it said. With `check` a failure is an AssertionError."""
        code, said = self.execute(*argv, stdin=stdin, timeout=timeout)
        assert not check or code == 0, f"{' '.join(argv)}: exit {code}\n{said}"
        return said

    def reboot(self) -> None:
        """Have systemd shut it down in order; qemu ends with it."""
        self.execute("systemctl", "--no-block", "reboot")
        try:
            self.process.wait(timeout=BOOT_S)
        except subprocess.TimeoutExpired:
            raise VmError(f"it does not shut down\n{self.console()}") from None

    def _receive(self, patience: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        size = struct.unpack("!I", self._exactly(4, deadline))[0]
        message: dict[str, Any] = json.loads(self._exactly(size, deadline))
        return message

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = b""
        while len(data) < count:
            self._channel.settimeout(min(max(deadline - time.monotonic(), 0.01), LOOK_S))
            try:
                piece = self._channel.recv(count - len(data))
            except TimeoutError as error:
                if stuck_s(self.console()) >= STUCK_S:
                    raise LockedUpError(f"a processor of the virtual machine is stuck\n{self.console()}") from None
                if time.monotonic() < deadline:
                    continue
                raise VmError(f"the virtual machine is silent: {error}\n{self.console()}") from None
            except ConnectionError as error:
                raise VmError(f"the virtual machine is silent: {error}\n{self.console()}") from None
            if not piece:
                raise VmError(f"the virtual machine has ended\n{self.console()}")
            data += piece
        return data


@contextlib.contextmanager
def started(
    disks: Disks,
    *,
    init: str = PLAIN,
    state: Path | None = None,
    kvm: bool = False,
    steady: bool = False,
    console: Path | None = None,
) -> Iterator[Vm]:
    """A machine, booted; its end takes everything in it along.

    Args:
        init: the first program after the initramfs: `PLAIN` or `SYSTEMD`.
        state: the system's disk as this machine, or one before it, changed it (qcow2, see `new_state`); without, changes are forgotten.
        kvm: leave emulation to the kernel. Inside of another virtual machine that may hang.
        steady: emulate its processors in turn: slower, and none is ever stuck.
        console: keep what it writes to its serial line here.

    Raises:
        VmError: it does not boot.
    """
    ours, its = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="nsrun-vm-") as directory, ours, its:
        log = console or Path(directory, "console")
        words = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", "5", "qemu-system-x86_64"]
        words += ["-accel", "kvm"] if kvm else ["-accel", f"tcg,thread={'single' if steady else 'multi'}"]
        # What has no newer instructions than this is translated an eighth faster, and its kernel reads the time from it.
        words += [
            "-cpu",
            "host" if kvm else "Nehalem",
            "-smp",
            "2",
            "-m",
            str(MEMORY_MIB),
            "-no-reboot",
            "-nodefaults",
            "-nographic",
        ]
        words += ["-nic", "none", "-serial", f"file:{log}", "-device", "virtio-serial-pci"]
        words += [
            "-chardev",
            f"socket,id=agent,fd={its.fileno()}",
            "-device",
            "virtserialport,chardev=agent,name=nsrun",
        ]
        words += _drive(state if state is not None else disks.system.disk, kept=state is not None)
        words += _drive(disks.project, kept=False)
        words += ["-kernel", str(disks.system.kernel), "-initrd", str(initramfs(disks.system))]
        words += ["-append", f"console=ttyS0 quiet panic=-1 mitigations=off after={init}"]
        # qemu's own temporary files, the changes that are forgotten, in a directory that goes with it.
        environment = {**os.environ, "TMPDIR": directory}
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()], env=environment)
        its.close()
        try:
            vm = Vm(process, ours, log)
            vm.wait_booted()
            yield vm
        finally:
            process.kill()
            process.wait()


def stuck_s(console: str) -> int:
    """For how many seconds a processor has been stuck, as the kernel says it; 0 where none is."""
    return max(map(int, re.findall(r"soft lockup - CPU#\d+ stuck for (\d+)s", console)), default=0)


def new_state(system: System, path: Path) -> Path:
    """A disk that is the system's until it is changed."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(system.disk), str(path)], check=True
    )
    return path


def _drive(path: Path, *, kept: bool) -> list[str]:
    kind = "qcow2" if kept else "raw"
    # unsafe: the machine's flushes are not passed on; only a power cut of this one would tell the difference.
    return ["-drive", f"if=virtio,file={path},format={kind},snapshot={'off' if kept else 'on'},cache=unsafe"]


def environment() -> dict[str, str]:
    """What the tests inside know: of this process's environment, and of their machine."""
    found = {name: os.environ[name] for name in ("CI", "NSRUN_SOAK", "COLUMNS") if name in os.environ}
    found |= {"NSRUN_TEST_VM": "1", "NSRUN_TEST_PATIENCE": "4"}
    found["XDG_CACHE_HOME"] = f"{INSIDE}/build/cache"
    if "NSRUN_CORPUS" in os.environ:
        found["NSRUN_CORPUS"] = f"{INSIDE}/build/corpus"
    return found
