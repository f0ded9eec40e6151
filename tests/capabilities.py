"""Can this machine do that? Asked of the kernel by doing it, in namespaces that vanish with the asker, never of the user id.

`@pytest.mark.requires("overlay", "cgroup2")` skips a test where an answer is no; in continuous integration (CI=true) a skip that
tests/allowed-skips.txt does not list is a failure, so that a ring can never turn green by not running.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

PATIENCE = float(os.environ.get("NSRUN_TEST_PATIENCE", "1"))
"""How much longer than usual tests wait for what has to happen: an emulated machine is ten times as slow."""


def _in_namespaces(script: str) -> str | None:
    """None when the script succeeds in network and mount namespaces of its own, else what it said."""
    try:
        done = subprocess.run(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-euc", script],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit {done.returncode}")


def _root() -> str | None:
    return _in_namespaces("mount -t tmpfs none /mnt && touch /mnt/x && chown 1:1 /mnt/x && mknod /mnt/n c 1 3")


def _overlay() -> str | None:
    return _in_namespaces(
        "mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m"
        " && mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w none /mnt/m && touch /mnt/m/x"
    )


def _bridge() -> str | None:
    return _in_namespaces("ip link add name br0 type bridge && ip link add name ve0 type veth peer name ve1")


def _nftables() -> str | None:
    return _in_namespaces(
        "printf 'table ip t { chain c { type nat hook postrouting priority srcnat;"
        " ip saddr 10.0.0.0/8 masquerade; }; }' | nft -f -"
    )


def _iptables() -> str | None:
    return _in_namespaces("iptables -P FORWARD DROP")


def _ipv6() -> str | None:
    return None if Path("/proc/sys/net/ipv6").exists() else "the kernel has no IPv6"


def _cgroup2() -> str | None:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] != "cgroup2":
            continue
        try:
            path = tempfile.mkdtemp(prefix="nsrun-ask-", dir=left.split()[4])
        except OSError as error:
            return str(error)
        try:
            return None if Path(path, "cgroup.kill").exists() else "the kernel has no cgroup.kill (Linux 5.14)"
        finally:
            os.rmdir(path)
    return "no cgroup2 file system is mounted"


def unified_controllers() -> tuple[Path, list[str]] | None:
    """Where the version 2 tree is mounted, and the controllers that it has."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            mount = Path(left.split()[4])
            return mount, (mount / "cgroup.controllers").read_text(encoding="ascii").split()
    return None


def _controllers2() -> str | None:
    found = unified_controllers()
    if found is None:
        return "no cgroup2 file system is mounted"
    missing_ones = {"cpu", "memory", "pids"} - set(found[1])
    return f"version 2 has no {', '.join(sorted(missing_ones))}; run: make test-vm" if missing_ones else None


def memory_controller() -> Path | None:
    """Where version 1's memory controller is mounted."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup" and "memory" in right.split()[-1].split(","):
            return Path(left.split()[4])
    return None


def _memory1() -> str | None:
    mount = memory_controller()
    if mount is None:
        return "version 1's memory controller is not mounted"
    try:
        path = tempfile.mkdtemp(prefix="nsrun-ask-", dir=mount)
    except OSError as error:
        return str(error)
    try:
        Path(path, "memory.limit_in_bytes").write_text("33554432", encoding="ascii")
        return None
    except OSError as error:
        return str(error)
    finally:
        os.rmdir(path)


def _limits() -> str | None:
    """Either version's controllers."""
    return _memory1() and _controllers2()


def _huge_pages() -> str | None:
    """Some that are free, of the usual size."""
    try:
        count = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text(encoding="ascii"))
    except OSError:
        return "the kernel has no huge pages"
    return None if count >= 4 else f"{count} huge pages of 2 MiB are set aside; run: make test-vm"


def _systemd() -> str | None:
    for program in (
        "/lib/systemd/systemd",
        "/lib/systemd/systemd-journald",
        "/usr/bin/systemctl",
        "/usr/bin/systemd-run",
    ):
        if not os.access(program, os.X_OK):
            return f"{program} is not installed"
    return _in_namespaces("exec unshare --pid --ipc --uts --cgroup --fork true")


def _userns() -> str | None:
    return _in_namespaces("exec unshare --user --map-root-user --net true")


def _idmapped_tmpfs() -> str | None:
    """A release, for once: to ask by doing it takes system calls that no program of a Debian makes."""
    release = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    return None if release >= (6, 3) else "tmpfs cannot have other ids (Linux 6.3)"


def _kiada() -> str | None:
    programs = Path(__file__).parents[1] / "build" / "kiada"
    if not all(os.access(programs / name, os.X_OK) for name in ("node", "envoy")):
        return "Node.js and Envoy are not in build/kiada; run: make demo-kiada"
    return None if shutil.which("curl") and shutil.which("openssl") else "curl and openssl are not installed"


def _programs(*names: str) -> Callable[[], str | None]:
    """Asks whether programs are installed."""

    def ask() -> str | None:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        missing_ones = [name for name in names if shutil.which(name, path=path) is None]
        return f"{', '.join(missing_ones)} not installed" if missing_ones else None

    return ask


def _busybox() -> str | None:
    """One that needs no library, so that an image can be made of it."""
    found = shutil.which("busybox")
    if found is None:
        return "there is no busybox"
    said = subprocess.run(["ldd", found], capture_output=True, text=True, check=False)
    return None if "not a dynamic" in said.stdout + said.stderr else f"{found} is no static one"


def _qemu() -> str | None:
    programs = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4")
    missing_ones = [name for name in programs if shutil.which(name) is None]
    return f"{', '.join(missing_ones)} not installed; run: make test-vm" if missing_ones else _root()


def _test_host() -> str | None:
    return None if "NSRUN_TEST_HOST" in os.environ else "not in a test host; run: make test-host"


def _apparmor() -> str | None:
    """The kernel, wherever its files are mounted, and the program that gives it profiles."""
    try:
        if not Path("/sys/module/apparmor/parameters/enabled").read_text(encoding="ascii").startswith("Y"):
            return "AppArmor is not enabled"
    except OSError:
        return "the kernel has no AppArmor"
    return _programs("apparmor_parser")()


def _kubectl() -> str | None:
    return None if shutil.which("kubectl") else "kubectl is not installed"


def _airflow() -> str | None:
    python = os.environ.get("NSRUN_AIRFLOW")
    if python is None:
        return "NSRUN_AIRFLOW names no Python that has apache-airflow-providers-cncf-kubernetes"
    return None if os.access(python, os.X_OK) else f"{python} is no program"


_QUESTIONS: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "overlay": _overlay,
    "bridge": _bridge,
    "nftables": _nftables,
    "ipv6": _ipv6,
    "iptables": _iptables,
    "cgroup2": _cgroup2,
    "memory1": _memory1,
    "cgroup2-controllers": _controllers2,
    "limits": _limits,
    "huge-pages": _huge_pages,
    "userns": _userns,
    "id-mapped tmpfs": _idmapped_tmpfs,
    "systemd": _systemd,
    "kiada": _kiada,
    "apparmor": _apparmor,
    "kubectl": _kubectl,
    "chromium": _programs("chromium"),
    "iperf3": _programs("iperf3"),
    "redis": _programs("redis-server", "redis-cli"),
    "ssh": _programs("sshd", "ssh", "scp", "ssh-keygen"),
    "qemu": _qemu,
    "test-host": _test_host,
    "busybox": _busybox,
    "airflow": _airflow,
}


@functools.cache
def missing(capability: str) -> str | None:
    """Why this machine lacks the capability, or None when it has it.

    Raises:
        KeyError: nobody knows how to ask for it.
    """
    return _QUESTIONS[capability]()


def reason(capabilities: tuple[str, ...]) -> str | None:
    """The text of a skip for the first capability that is missing, or None."""
    for capability in capabilities:
        answer = missing(capability)
        if answer is not None:
            return f"requires {capability}: {answer}"
    return None
