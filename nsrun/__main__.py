"""`nsrun` and `python -m nsrun`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command of sys.argv and end the process with its status."""
    fill_standard_streams()
    argv = sys.argv[1:]
    if argv in (["--version"], ["-V"]):
        # The one question that scripts ask at every start: not even the command line is imported for it.
        from nsrun._version import __version__

        sys.stdout.write(f"nsrun {__version__}\n")
        sys.stdout.flush()
        os._exit(0)
    if "_NSRUN_COMPLETE" in os.environ:
        from nsrun.cli.about import complete

        leave(complete(os.environ["_NSRUN_COMPLETE"]))
    try:
        leave(command(argv))
    except KeyboardInterrupt:
        leave(130)


def command(argv: list[str]) -> int:
    """The exit status of one command."""
    from nsrun.cli import quick

    status = quick.run(argv)
    if status is None:
        from nsrun.cli.main import run

        status = run(argv)
    return status


def fill_standard_streams() -> None:
    """Where the caller closed one of 0, 1 and 2, /dev/null takes its place: no descriptor of ours may get such a number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def leave(status: int) -> None:
    """End at once: taking the interpreter apart costs milliseconds and serves nobody. All files are written by now."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1
    os._exit(status)


if __name__ == "__main__":
    main()
