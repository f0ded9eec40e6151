"""The tests' own root file system: one static C program, testbox, under all the names of its sub-commands.

`build(dest)` makes such a root directory, `build_tar(dest)` the same as an archive. `attacks()` is a second program, of known ways out of a
container. A program is compiled once per source text, into the user's cache directory, so that a test run compiles at most once and
parallel runs do not get in each other's way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("testbox.c")
ATTACKS = sorted(Path(__file__).parent.glob("attacks*.c"))

USERS = """root:x:0:0:root:/root:/bin/testbox
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
app:x:1000:1000:an application:/home/app:/bin/testbox
"""

GROUPS = """root:x:0:
daemon:x:1:
app:x:1000:
audio:x:29:app
staff:x:50:app,daemon
"""


def testbox() -> Path:
    """The compiled program.

    Raises CalledProcessError when the compiler fails, FileNotFoundError when there is none (apt install gcc libc6-dev).
    """
    return _compiled("testbox", SOURCE)


def attacks() -> Path:
    """The compiled program of attacks.c and its parts; raises as `testbox`."""
    return _compiled("attacks", *ATTACKS)


def _compiled(name: str, *sources: Path) -> Path:
    compiler = os.environ.get("CC", "gcc")
    command = [compiler, "-std=gnu11", "-static", "-Os", "-Wall", "-Wextra", "-Werror"]
    headers = sorted(sources[0].parent.glob("*.h"))
    text = b"".join(path.read_bytes() for path in (*sources, *headers))
    key = hashlib.sha256(text + " ".join(command).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsrun-tests"
    result = cache / key / name
    if not result.exists():
        result.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            fresh = Path(directory) / name
            subprocess.run([*command, "-s", "-o", str(fresh), *map(str, sources)], check=True)
            fresh.rename(result)
    return result


def commands() -> list[str]:
    """The names of all sub-commands."""
    return subprocess.run([str(testbox())], check=True, capture_output=True, text=True).stdout.split()


def build(dest: Path) -> Path:
    """Makes a root directory at `dest` (made if missing, parents too), and gives `dest`.

    In it: bin/testbox and a link to it for every sub-command; etc/passwd and etc/group with root, daemon and app (1000, also in
    audio and staff); tmp (1777), root, home/app, and bad/, with things that cannot be executed: a script without interpreter, one
    that names a missing one, a file that is not executable, a directory, and an executable that is no program.
    """
    (dest / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(testbox(), dest / "bin/testbox")
    for name in commands():
        link = dest / "bin" / name
        if not link.is_symlink():
            link.symlink_to("testbox")
    for name in ("etc", "tmp", "root", "home/app", "bad/directory"):
        (dest / name).mkdir(parents=True, exist_ok=True)
    (dest / "tmp").chmod(0o1777)
    (dest / "root").chmod(0o700)
    (dest / "etc/passwd").write_text(USERS)
    (dest / "etc/group").write_text(GROUPS)
    (dest / "bad/script").write_text("echo without an interpreter line\n")
    (dest / "bad/interpreter").write_text("#!/no/such/interpreter\n")
    (dest / "bad/data").write_text("not executable\n")
    (dest / "bad/empty").write_text("")
    for name in ("script", "interpreter", "empty"):
        (dest / "bad" / name).chmod(0o755)
    if os.geteuid() == 0:
        os.chown(dest / "home/app", 1000, 1000)
    return dest


def build_tar(dest: Path, compression: str = "") -> Path:
    """The same root as a tar archive at `dest`; `compression` is "", "gz", "bz2" or "xz"."""
    with tempfile.TemporaryDirectory() as directory:
        root = build(Path(directory) / "root")
        with tarfile.open(str(dest), f"w:{compression}") as archive:  # type: ignore[call-overload]  # the mode is put together here
            archive.add(root, arcname=".")
    return dest
