"""Builds the three native parts into one platform wheel; everything else about the package is in pyproject.toml.

* `nsrun._native`, the cffi module, from csrc/build.py;
* `nsrun/bin/nsrun-shim`, the program that stands by every pod: one compiler command, printed as it is run;
* `nsrun/bin/nsrun-pause`, the first process of a PID namespace that a pod's containers share: static and without a C library.

`CC` selects the compiler for all. `NSRUN_SANITIZE=address`, `undefined` or both with a comma builds them with sanitizers; the module
then needs the sanitizer's runtime preloaded (`LD_PRELOAD=$(gcc -print-file-name=libasan.so)`).
"""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
BUILD = runpy.run_path(str(HERE / "csrc" / "build.py"))

HARDENING = [
    "-D_FORTIFY_SOURCE=2",
    "-fstack-protector-strong",
    "-fstack-clash-protection",
    "-fno-strict-aliasing",
]


def shim_command(output: Path) -> list[str]:
    """The compiler command for the shim.

    Linked to the shared C library: a static one costs a single pod 320 KB more of private memory (clean pages of a C library that
    nobody else maps) and starts no faster (0.9 ms either way).
    """
    sources = sorted(path for path in (HERE / "csrc").glob("*.c") if path.name != "native.c")
    sanitizers = BUILD["sanitizer_flags"]()
    return [
        *shlex.split(os.environ.get("CC", "cc")),
        "-std=gnu11",
        "-O2",
        "-D_GNU_SOURCE",
        *BUILD["WARNINGS"],
        *(sanitizers or [*HARDENING, "-Wl,-z,relro,-z,now,-z,noexecstack"]),
        "-o",
        str(output),
        *(os.path.relpath(source, HERE) for source in sources),
    ]


def pause_command(output: Path) -> list[str]:
    """The compiler command for pause: it is alone in its file system, and 16 KB of memory are all it takes. Never with sanitizers."""
    return [
        *shlex.split(os.environ.get("CC", "cc")),
        "-std=gnu11",
        "-Os",
        *BUILD["WARNINGS"],
        *("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
        *("-fno-pie", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-s"),
        "-o",
        str(output),
        "csrc/pause/pause.c",
    ]


PROGRAMS = {"nsrun-shim": shim_command, "nsrun-pause": pause_command}


class BuildNative(build_ext):
    """The cffi module, then the programs, each where the package will look for it."""

    def run(self) -> None:
        """Build all of them."""
        super().run()
        base = HERE if self.inplace else Path(self.build_lib).resolve()
        directory = base / "nsrun" / "bin"
        directory.mkdir(parents=True, exist_ok=True)
        for name, command_for in PROGRAMS.items():
            fresh = directory / f"{name}.new"
            command = command_for(fresh)
            print(shlex.join(command), flush=True)
            subprocess.run(command, check=True, cwd=HERE)
            # Replaced, not overwritten: a running shim keeps the old file (and writing to it would be ETXTBSY).
            fresh.replace(directory / name)

    def get_outputs(self) -> list[str]:
        """What was built, for `pip uninstall` and the wheel's record."""
        return [*super().get_outputs(), *(str(Path(self.build_lib) / "nsrun" / "bin" / name) for name in PROGRAMS)]


setup(cffi_modules=["csrc/build.py:ffibuilder"], cmdclass={"build_ext": BuildNative})
