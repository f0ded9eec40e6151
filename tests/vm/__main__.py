"""`python -m tests.vm [--systemd] [--kvm] [--timeout SECONDS] -- COMMAND…`: run a command as root in a virtual machine of this project.

What it says appears as it comes; the exit status is its own: 124 when it had to be ended, 98 when there is no machine. With --systemd that
is the machine's init, else nothing but the command runs there. The console of a machine that failed stays in build/vm/console.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

from tests.vm import image
from tests.vm.machine import PLAIN, SYSTEMD, Disks, LockedUpError, VmError, environment, started

EXIT_CANNOT = 98


def main() -> int:
    """One command."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("--systemd", action="store_true")
    parser.add_argument("--kvm", action="store_true", default=os.environ.get("NSRUN_VM_KVM") == "1")
    parser.add_argument("--timeout", type=float, default=900.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        with image.alone():
            return run(options)
    except (VmError, OSError, subprocess.CalledProcessError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return EXIT_CANNOT


def run(options: argparse.Namespace) -> int:
    """The image, the machine, the command."""
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"vm: {time.monotonic() - begun:5.1f} s: {what}", flush=True)

    system = image.system()
    disks = Disks(system, image.project(system))
    tell("the disks are made")
    try:
        return _run(options, disks, tell)
    except LockedUpError:
        tell("a processor of it is stuck: once more, with one emulated after the other")
        return _run(options, disks, tell, steady=True)


def _run(options: argparse.Namespace, disks: Disks, tell: Callable[[str], None], *, steady: bool = False) -> int:
    console = image.BUILD / "console"
    console.unlink(missing_ok=True)
    init = SYSTEMD if options.systemd else PLAIN
    with started(disks, init=init, kvm=options.kvm, steady=steady, console=console) as vm:
        tell(f"Linux {vm.release} is up")
        code, _ = vm.execute(
            *options.command,
            environment=environment(),
            timeout=options.timeout,
            heard=lambda text: print(text, end="", flush=True),
        )
    tell(f"exit {code}")
    if code == 0:
        console.unlink()
    return code


if __name__ == "__main__":
    sys.exit(main())
