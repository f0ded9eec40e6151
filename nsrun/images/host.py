"""The embedded image `nsrun.local/host`: this machine's /usr, read-only, and a small fresh root around it.

Of the host's /etc comes only what programs need and everybody may read: the list below. Nothing of /home, /root, /var, /opt, /srv, no
password, key or account of the machine. It is made in milliseconds, without a network, and made anew when the host's programs change.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nsrun.plan.image import HOST_IMAGE, RootBind, RootFs

NAME = f"{HOST_IMAGE}:latest"

DIRECTORIES: tuple[tuple[str, int], ...] = (
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o775),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
)

FILES: tuple[tuple[str, str, int], ...] = (
    (
        "etc/passwd",
        "root:x:0:0:root:/root:{shell}\n"
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
        "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
        "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
        "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        0o644,
    ),
    (
        "etc/group",
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nwww-data:x:33:\nshadow:x:42:\n"
        "utmp:x:43:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n",
        0o644,
    ),
    (
        "etc/shadow",
        "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n",
        0o640,
    ),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n", 0o644),
    ("etc/hosts", "", 0o644),
    ("etc/hostname", "", 0o644),
    ("etc/resolv.conf", "", 0o644),
    ("etc/fstab", "", 0o644),
)
"""Written fresh: path, text, mode. The empty ones are what the pod's own are bound onto."""

LINKS: tuple[tuple[str, str], ...] = (
    ("etc/mtab", "../proc/self/mounts"),
    ("var/run", "/run"),
    ("var/lock", "/run/lock"),
)

COPIED: tuple[str, ...] = (
    "etc/alternatives",
    "etc/bash.bashrc",
    "etc/ca-certificates.conf",
    "etc/crypto-policies",
    "etc/debian_version",
    "etc/gai.conf",
    "etc/host.conf",
    "etc/inputrc",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/localtime",
    "etc/magic",
    "etc/mime.types",
    "etc/netconfig",
    "etc/networks",
    "etc/os-release",
    "etc/pki/ca-trust/extracted",
    "etc/pki/tls/cert.pem",
    "etc/pki/tls/certs",
    "etc/pki/tls/openssl.cnf",
    "etc/profile",
    "etc/protocols",
    "etc/rpc",
    "etc/services",
    "etc/shells",
    "etc/ssl/certs",
    "etc/ssl/openssl.cnf",
    "etc/terminfo",
    "etc/timezone",
)
"""Copied from the host: public configuration of programs in /usr. Of these, only files that everybody may read."""

MERGED: tuple[str, ...] = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Links into /usr on most machines; where they are directories they are bound as /usr is."""

_MAX_FILE = 16 << 20
_WATCHED: tuple[str, ...] = ("usr/bin", "usr/lib", "usr/sbin", *MERGED, *COPIED)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One thing of the skeleton: kind `d`, `f` or `l`."""

    kind: str
    path: str
    mode: int = 0
    content: bytes = b""


def signature(root: str = "/") -> tuple[tuple[int, ...] | None, ...]:
    """What changes when the skeleton may have to; some thirty stat calls."""
    result: list[tuple[int, ...] | None] = []
    for path in _WATCHED:
        try:
            status = os.lstat(os.path.join(root, path))
        except OSError:
            result.append(None)
        else:
            result.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(result)


def _walk(root: str, path: str) -> Iterator[_Entry]:
    """A file, a link, or a directory with all that is in it, as far as it is public."""
    full = os.path.join(root, path)
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            yield _Entry("l", path, content=os.fsencode(os.readlink(full)))
        elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IROTH:
            yield _Entry("d", path, 0o755)
            for name in sorted(os.listdir(full)):
                yield from _walk(root, f"{path}/{name}")
        elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= _MAX_FILE:
            yield _Entry("f", path, stat.S_IMODE(status.st_mode) & 0o755, Path(full).read_bytes())
    except OSError:
        return  # gone while we looked, or not for us


def _parents(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """The entries with the directories above them in front, each path once."""
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            continue
        steps = entry.path.split("/")
        for depth in range(1, len(steps)):
            above = "/".join(steps[:depth])
            if above not in seen:
                seen.add(above)
                yield _Entry("d", above, 0o755)
        seen.add(entry.path)
        yield entry


def _entries(root: str) -> list[_Entry]:
    shell = "/bin/bash" if os.path.exists(os.path.join(root, "bin/bash")) else "/bin/sh"
    found = [_Entry("d", path, mode) for path, mode in DIRECTORIES]
    for name in MERGED:
        full = os.path.join(root, name)
        if os.path.islink(full):
            found.append(_Entry("l", name, content=os.fsencode(os.readlink(full))))
        elif os.path.isdir(full):
            found.append(_Entry("d", name, 0o755))
    found += [_Entry("f", path, mode, text.format(shell=shell).encode()) for path, text, mode in FILES]
    found += [_Entry("l", path, content=text.encode()) for path, text in LINKS]
    for path in COPIED:
        found += _walk(root, path)
    return list(_parents(found))


@dataclass(frozen=True, slots=True)
class Skeleton:
    """All of the fresh root, ready to be written. `digest` is 64 hexadecimal digits."""

    entries: tuple[_Entry, ...]
    binds: tuple[RootBind, ...]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(len(entry.content) for entry in self.entries if entry.kind == "f")

    def write(self, target: str) -> None:
        """Makes it in an empty directory.

        Raises:
            OSError: it cannot be written.
        """
        os.chmod(target, 0o755)  # noqa: S103  the root of a file system
        for entry in self.entries:
            path = os.path.join(target, entry.path)
            if entry.kind == "d":
                os.mkdir(path)
                os.chmod(path, entry.mode)
            elif entry.kind == "l":
                os.symlink(entry.content, os.fsencode(path))
            else:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as file:
                    file.write(entry.content)
                    os.fchmod(fd, entry.mode)

    def rootfs(self, lower: str) -> RootFs:
        """The root file system with this skeleton written at `lower`."""
        return RootFs((lower,), self.binds)


def skeleton(root: str = "/") -> Skeleton:
    """What the fresh root of this machine is now; `root` is another machine's root for tests."""
    entries = tuple(_entries(root))
    content = hashlib.sha256()
    for entry in entries:
        content.update(
            f"{entry.kind} {entry.path} {entry.mode:o} {len(entry.content)}\0".encode("utf-8", "surrogateescape")
        )
        content.update(entry.content)
    names = ["usr"] + [name for name in MERGED if not os.path.islink(os.path.join(root, name))]
    binds = tuple(
        RootBind(os.path.join(root, name), f"/{name}") for name in names if os.path.isdir(os.path.join(root, name))
    )
    return Skeleton(entries, binds, content.hexdigest())
