"""Where the attacks are run: pods of attackers, of victims, and of those for whom a layer of protection is lifted."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from nsrun import native
from tests.host.server.harness import IMAGE, Server, alive, box, pod
from tests.host.testhost import Host
from tests.rootfs import attacks, build

ATTACKS = "/bin/attacks"
SECRET = "a secret of the machine"
STRICT = {"runAsUser": 1000, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

PRISON, MAPPED, VICTIM, FREE = "prison", "mapped", "victim", "free"
ATTACKERS = (f"{PRISON}/root", f"{PRISON}/user", f"{PRISON}/strict", f"{MAPPED}/root", f"{MAPPED}/user")
"""Default settings; as a user; as a user who may not become anyone else and can do nothing; the first two with hostUsers: false."""
POWERS = ("SYS_ADMIN", "SYS_TIME", "SYS_BOOT", "SYS_MODULE", "SYSLOG", "SYS_RAWIO", "DAC_READ_SEARCH", "NET_ADMIN")
"""Capabilities that would be power over the machine without a user namespace."""
ROOTS = (f"{PRISON}/root", f"{MAPPED}/root")
USERS = tuple(one for one in ATTACKERS if one not in ROOTS)

_SETTINGS = (
    "kernel/core_pattern",
    "kernel/core_pipe_limit",
    "kernel/hostname",
    "kernel/modprobe",
    "kernel/panic",
    "kernel/randomize_va_space",
    "kernel/sysrq",
    "net/ipv4/conf/all/accept_redirects",
    "vm/overcommit_memory",
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def attacker(name: str, *words: str, **fields: Any) -> dict[str, Any]:
    """A container that waits for attacks to be run in it, or runs one."""
    return box(name, *(words or ("pause",)), **fields)


class Stage:
    """A server with four pods that stay, and what is outside of them.

    Attributes:
        server: knows the test image, which has the program of the attacks, once more with the set-user-ID bit as /bin/suid.
        outside: a directory of the machine with a file `secret`, which nobody inside is to see or change.
        bystander: a process of the machine, root's, with a secret in its environment.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.server = Server(host)
        # Not for containers: what the server was started with is nobody's business.
        self.server.environment["NSRUN_TESTS_SECRET"] = SECRET
        self.outside = host.scratch / "outside"
        self.outside.mkdir(mode=0o755)
        (self.outside / "secret").write_text(SECRET)
        # High numbers, which no process of a container has: this is a PID namespace of the test host's own.
        Path("/proc/sys/kernel/ns_last_pid").write_text("20000", encoding="ascii")
        self.bystander = subprocess.Popen(["sleep", "3600"], env={"SECRET": SECRET}, start_new_session=True)

    def begin(self) -> None:
        """Start the server and its pods."""
        self.server.start()
        self.import_image(IMAGE)
        self.server.up(
            pod(
                PRISON,
                attacker("root"),
                attacker("user", securityContext={"runAsUser": 1000}),
                attacker("strict", securityContext=STRICT),
            ),
            pod(
                MAPPED,
                attacker("root"),
                attacker("user", securityContext={"runAsUser": 1000}),
                attacker("admin", securityContext={"capabilities": {"add": list(POWERS)}}),
                hostUsers=False,
            ),
            pod(
                VICTIM,
                box("a", "attacks", "offer", "victim", env=[{"name": "SECRET", "value": SECRET}]),
                attacker("b"),
            ),
            pod(
                FREE,
                attacker("privileged", securityContext={"privileged": True}),
                attacker("unconfined", securityContext={"seccompProfile": {"type": "Unconfined"}}),
                attacker("admin", securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
            ),
        )

    def rootfs(self, name: str) -> Path:
        """A root file system for an image of its own: the usual one, with the attacks."""
        directory = self.host.scratch / "images" / name.replace("/", "_")
        if not directory.exists():
            build(directory)
            shutil.copy2(attacks(), directory / "bin/attacks")
            shutil.copy2(attacks(), directory / "bin/suid")
            (directory / "bin/suid").chmod(0o4755)
        return directory

    def import_image(self, name: str) -> None:
        """Make `rootfs(name)` an image of that name."""
        config = {"env": ["PATH=/bin"], "cmd": ["/bin/pause"]}
        self.server.call("image.import", name=name, path=str(self.rootfs(name)), config=config)

    def end(self) -> None:
        """All of it away."""
        self.bystander.kill()
        self.bystander.wait()
        self.server.wipe()

    # attacks

    def run(self, where: str, *words: str, stdin: bytes = b"") -> list[str]:
        """What an attack says in `where` (pod/container): its result is the last line, after what it found."""
        name, _, container = where.partition("/")
        code, out, err = self.server.run(name, ATTACKS, *words, container=container, stdin=stdin)
        assert (code, err) == (0, b""), (where, words, code, out, err)
        return out.decode("utf-8", "backslashreplace").splitlines()

    def attack(self, where: str, *words: str) -> str:
        """Its result alone: `ok`, or the name of an errno."""
        return self.run(where, *words)[-1]

    # what must not change

    def facts(self) -> dict[str, object]:
        """The machine, as far as an attack might show on it."""
        files = [native.shim_path(), "/bin/sh", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/proc/self/exe"]
        return {
            "settings": {
                name: path.read_text(encoding="utf-8")
                for name in _SETTINGS
                if (path := Path("/proc/sys", name)).exists()
            },
            "devices": {name: _identity(f"/dev/{name}") for name in _DEVICES},
            "programs": {str(path): _identity(path) for path in files},
            "shim": hashlib.sha256(Path(native.shim_path()).read_bytes()).hexdigest(),
            "outside": {
                str(path.relative_to(self.outside)): (
                    _identity(path),
                    path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
                )
                for path in sorted(self.outside.rglob("*"))
            },
            "mounts": sorted(line for line in _lines("/proc/self/mountinfo") if str(self.server.root) not in line),
            "memory": _lines("/proc/sysvipc/shm"),
            "root": sorted(os.listdir("/")),
            "alive": alive(self.bystander.pid),
            "clock": _Near(time.time() - time.monotonic()),
            "pods": {name: self._instances(name) for name in (PRISON, MAPPED, VICTIM, FREE)},
        }

    def _instances(self, name: str) -> list[tuple[str, str, int]]:
        found = self.server.runtime(name)["instances"]
        return sorted((one["name"], one["state"], one["pid"]) for one in found)


class _Near(float):
    """Seconds that are equal to those less than one away."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 1

    __hash__ = float.__hash__


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def _identity(path: str | Path) -> tuple[int, ...]:
    found = os.stat(path, follow_symlinks=False)
    size = 0 if os.path.isdir(path) else found.st_size
    return (found.st_mode, found.st_uid, found.st_gid, found.st_rdev, found.st_ino, found.st_nlink, size)


def as_nobody(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command of a user of the machine. (setpriv itself is still all-powerful when it looks for its command.)"""
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", '"$@"', "sh", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)
