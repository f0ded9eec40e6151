"""The disks of the virtual machine: Debian with its kernel, kept in the user's cache, and this project as it lies here. Needs root.

Nothing is compiled inside: `tools/provision.sh` runs in the system's tree on this machine (chroot), as it would on a machine of the user's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = "/srv/nsrun"
"""Where the project is, in the tree and in the machine."""
BUILD = REPOSITORY / "build" / "vm"
SUITE = "bookworm"
PACKAGES = (
    *("linux-image-cloud-amd64", "kmod", "busybox-static", "systemd-sysv", "udev", "dbus"),
    # Those that a Vagrant box of Debian has; tools/provision.sh adds what it needs itself.
    *("ca-certificates", "procps", "iproute2", "util-linux"),
)
QUIET = (
    "apparmor.service",
    *("docker-registry.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "nftables.service", "systemd-timesyncd.service"),
    *("serial-getty@ttyS0.service", "getty@tty1.service"),
)
"""Services that came along with a package and would only cost time."""
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
MODULES = (
    *("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_modern_dev", "virtio/virtio_pci_legacy_dev"),
    *("virtio/virtio_pci", "block/virtio_blk", "char/virtio_console"),
)
SYSTEM_SIZE = "4G"
PROJECT_SIZE = "1G"


@dataclass(frozen=True)
class System:
    """Files and the tree that the disk was made of."""

    directory: Path

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    @property
    def disk(self) -> Path:
        return self.directory / "system.ext4"

    @property
    def kernel(self) -> Path:
        return self.directory / "kernel"


def cache() -> Path:
    """Shared by all copies of the project that this user has."""
    directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsrun-tests" / "vm"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One virtual machine, or one that is being made, at a time."""
    with open(cache() / "lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("vm: waiting for another virtual machine to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def system() -> System:
    """Debian; made if there is none of this list of packages, and of how it is made. Takes one to two minutes then, and the network."""
    made_of = [SUITE, *PACKAGES, *LEFT_OUT, *QUIET, SYSTEM_SIZE]
    made_of.append(inspect.getsource(_make_system))
    text = "\n".join(made_of).encode() + (REPOSITORY / "tools/packages.sh").read_bytes()
    directory = cache() / hashlib.sha256(text).hexdigest()[:16]
    if not directory.exists():
        # Of earlier lists the last one stays, for another copy of the project; what was left half-made goes.
        made = sorted((one for one in cache().iterdir() if one.is_dir()), key=lambda one: one.stat().st_mtime)
        for old in made[:-1] if (cache() / "new") not in made else [*made[:-2], cache() / "new"]:
            shutil.rmtree(old, ignore_errors=True)
        _make_system(System(cache() / "new"))
        (cache() / "new").rename(directory)
    return System(directory)


def _make_system(new: System) -> None:
    print("vm: making the system", flush=True)
    new.directory.mkdir()
    without = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    words = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={','.join(PACKAGES)}"]
    words += ['--aptopt=Apt::Install-Recommends "false"', *without, SUITE, str(new.tree)]
    _run(*words)
    (new.tree / "etc/resolv.conf").touch()
    (new.tree / INSIDE.lstrip("/")).mkdir(parents=True)
    (new.tree / "usr/local/bin/nsrun").symlink_to(f"{INSIDE}/.venv/bin/nsrun")
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(REPOSITORY / "tools", Path(directory, "tools"))
        inside(new.tree, Path(directory), "tools/provision.sh", "packages")
    for name in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(new.tree / name)
        (new.tree / name).mkdir()
    (new.tree / "etc/hostname").write_text("virtual\n", encoding="ascii")
    (new.tree / "etc/hosts").write_text("127.0.0.1 localhost virtual\n", encoding="ascii")
    (new.tree / "etc/resolv.conf").write_text("nameserver 198.51.100.1\n", encoding="ascii")
    _run("chroot", str(new.tree), "systemctl", "--quiet", "mask", *QUIET)
    kernel = next((new.tree / "boot").glob("vmlinuz-*"))
    shutil.copyfile(kernel, new.kernel)
    make_disk(new.tree, new.disk, SYSTEM_SIZE)


def initramfs(system: System) -> Path:
    """The archive that the kernel begins with: busybox, the modules that the disks need, and our `initramfs` as its /init."""
    modules = next((system.tree / "lib/modules").iterdir()) / "kernel/drivers"
    files = {
        "init": REPOSITORY / "tests/vm/initramfs",
        "bin/busybox": system.tree / "bin/busybox",
        **{f"modules/{number:02}.ko": modules / f"{name}.ko" for number, name in enumerate(MODULES)},
    }
    made = b"".join(
        [
            *(_cpio(name, 0o040755, b"") for name in ("bin", "dev", "modules", "proc", "root", "sys")),
            *(_cpio(name, 0o100755, path.read_bytes()) for name, path in files.items()),
            _cpio("TRAILER!!!", 0, b""),
        ]
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "initramfs").write_bytes(made)
    return BUILD / "initramfs"


def _cpio(name: str, mode: int, data: bytes) -> bytes:
    """An entry of an archive in the only format that the kernel reads (cpio "newc")."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode("ascii") + b"\0"
    return header + b"\0" * (-len(header) % 4) + data + b"\0" * (-len(data) % 4)


def project(system: System) -> Path:
    """A disk with this project's files, those that are not committed included, and its environment, built for that system."""
    tree, disk = BUILD / "project", BUILD / "project.ext4"
    tree.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    names = {
        os.fsdecode(name) for name in listed if name and os.path.lexists(os.path.join(os.fsencode(REPOSITORY), name))
    }
    # What is gone here goes there; the environment and what was compiled there stay.
    known = tree / ".files"
    before = set(known.read_text(encoding="utf-8").split("\0")) if known.exists() else set()
    for name in before - names:
        with contextlib.suppress(FileNotFoundError):
            (tree / name).unlink()
    with tempfile.NamedTemporaryFile() as listing:
        listing.write("\0".join(sorted(names)).encode())
        listing.flush()
        archive = [
            "tar",
            "-C",
            str(REPOSITORY),
            "--null",
            f"--files-from={listing.name}",
            "--owner=0",
            "--group=0",
            "-cf",
            "-",
        ]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as packing:
            _run("tar", "-C", str(tree), "-xf", "-", stdin=packing.stdout)
    known.write_text("\0".join(sorted(names)), encoding="utf-8")
    inside(system.tree, tree, "tools/provision.sh", "build")
    corpus = os.environ.get("NSRUN_CORPUS", "")
    shutil.rmtree(tree / "build/corpus", ignore_errors=True)
    if corpus:
        shutil.copytree(corpus, tree / "build/corpus")
    make_disk(tree, disk, PROJECT_SIZE)
    return disk


def inside(tree: Path, project: Path, *command: str) -> None:
    """Run a command of the project in a system's tree, on this machine.

    Nothing stays of it but what the command writes; that of `_make_system` alone writes to anything but `project`.
    """
    script = (
        'mount --bind "$2" "$1$3"; mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; mount -t tmpfs tmpfs "$1/tmp"\n'
        # This machine's way to the network, and whom it trusts there.
        "for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do\n"
        '[ ! -e $file ] || mount --bind "$(readlink -f $file)" "$1$file"; done\n'
        'tree=$1; inside=$3; shift 3; exec chroot "$tree" sh -euc \'cd "$1"; shift; exec "$@"\' sh "$inside" "$@"'
    )
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "XDG_CACHE_HOME": f"{INSIDE}/build/cache",
        "LC_ALL": "C.UTF-8",
        **{
            name: value
            for name, value in os.environ.items()
            if name.lower().endswith("_proxy") or name.startswith("PIP_")
        },
    }
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"]
    subprocess.run(
        [*words, "sh", "-euc", script, "sh", str(tree), str(project), INSIDE, *command], env=environment, check=True
    )


def make_disk(tree: Path, disk: Path, size: str) -> None:
    """A file system in a file, sparse, of all that is in a directory."""
    new = disk.with_name(f".{disk.name}.new")
    new.unlink(missing_ok=True)
    # No journal and nothing put off until the first mount: those are written by an emulated processor.
    options = ["-O", "^has_journal", "-E", "lazy_itable_init=0,root_owner=0:0", "-m", "0", "-q"]
    _run("mkfs.ext4", *options, "-d", str(tree), str(new), size)
    new.replace(disk)


def _run(*words: str, stdin: object = subprocess.DEVNULL) -> None:
    subprocess.run(words, stdin=stdin, check=True)  # type: ignore[call-overload]  # a descriptor, a pipe or a number
