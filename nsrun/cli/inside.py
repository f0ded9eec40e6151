"""What `nsrun pod exec` does, without click: it is run by scripts many times."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from nsrun.cli.settings import Settings, note
from nsrun.client import execute
from nsrun.errors import UsageError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run_command(
    settings: Settings,
    pod: str,
    command: Sequence[str],
    *,
    namespace: str | None = None,
    container: str | None = None,
    stdin: bool = False,
    tty: bool = False,
    env: Sequence[str] = (),
    workdir: str | None = None,
    user: str | None = None,
) -> int:
    """`nsrun pod exec`: the command's exit code."""
    if not command:
        raise UsageError("no command was given", resolution=f"nsrun pod exec -it {pod} -- sh")
    for variable in env:
        if not variable.partition("=")[1]:
            raise UsageError(f"--env {variable} has no =", resolution=f"--env {variable}=VALUE")
    rows, columns = size(1) if tty else (24, 80)
    request = execute.Request(
        pod,
        namespace,
        command,
        container=container,
        tty=tty,
        rows=rows,
        columns=columns,
        env=[*env, *([f"TERM={os.environ['TERM']}"] if tty and "TERM" in os.environ else [])],
        workdir=workdir,
        user=user,
    )
    if tty and stdin and not os.isatty(0):
        note("Standard input is no terminal: it is passed on as it is.")
    sys.stdout.flush()
    process = execute.begin(
        settings.session(), request, want_stdin=stdin, stdout=execute.Through(1), stderr=execute.Through(2)
    )
    try:
        source = execute.Source(0) if stdin else None
        with joined(process, stdin=stdin):
            code = execute.pump(process, source)
        return 0 if code is None else code
    finally:
        process.close()


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of our terminal."""
    from nsrun.client import terminal

    return terminal.size(fd)


@contextlib.contextmanager
def joined(process: execute.Process, *, stdin: bool) -> Iterator[None]:
    """Inside the block our terminal is the command's, or the command gets the signals that we get."""
    if process.master < 0 or not os.isatty(1 if not stdin else 0):
        with forwarding(process):
            yield
        return
    from nsrun.client import terminal

    with contextlib.ExitStack() as stack:
        stack.enter_context(terminal.raw(0) if stdin else forwarding(process))
        if os.isatty(1):
            stack.enter_context(
                terminal.following_size(1, lambda high, wide: terminal.resize(process.master, high, wide))
            )
        yield


@contextlib.contextmanager
def forwarding(process: execute.Process) -> Iterator[None]:
    """Inside the block the command gets the signals that we get; the second Ctrl-C is for us."""
    interrupts = 0

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1 or not process.signal(number):
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
