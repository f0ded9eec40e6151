"""`python -m nsrun.server`: one server, in the foreground of whoever starts it.

It runs in the namespaces of its starter, needs root for all that pods are made of, and may fail at anything: the pods do
not notice. Daemonising (own session, no terminal, own unit) is the business of who starts it.

    --root DIR        everything below DIR instead of the machine's own places
    --ready FD        write one byte there once the socket listens, then close it
    --foreground      log to stderr, not to run/server.log
    --lifeline FD     at its end of file take all pods down, remove bridge, rules, cgroups and run/, and exit
    --temporary       with --lifeline: remove DIR as well
    --metrics-listen ADDRESS   metrics over HTTP at HOST:PORT or unix:PATH, not where the configuration says; may be repeated
"""

from __future__ import annotations

import getopt
import os
import sys
from dataclasses import dataclass

from nsrun.errors import NsrunError, UsageError


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line says."""

    root: str | None = None
    ready: int | None = None
    foreground: bool = False
    lifeline: int | None = None
    temporary: bool = False
    metrics: tuple[str, ...] = ()


def parse(argv: list[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError: unknown words, or --temporary without what it needs.
    """
    try:
        options, rest = getopt.getopt(
            argv, "", ["root=", "ready=", "foreground", "lifeline=", "temporary", "metrics-listen="]
        )
    except getopt.GetoptError as error:
        raise UsageError(f"nsrun.server: {error}") from error
    if rest:
        raise UsageError(f"nsrun.server: {rest[0]!r} is one word too many")
    words = dict(options)
    result = Arguments(
        root=words.get("--root") or os.environ.get("NSRUN_ROOT") or None,
        ready=_descriptor("--ready", words),
        foreground="--foreground" in words,
        lifeline=_descriptor("--lifeline", words),
        temporary="--temporary" in words,
        metrics=tuple(value for name, value in options if name == "--metrics-listen"),
    )
    if result.temporary and (result.lifeline is None or result.root is None):
        raise UsageError("nsrun.server: --temporary needs --root and --lifeline")
    return result


def _descriptor(name: str, words: dict[str, str]) -> int | None:
    text = words.get(name)
    if text is None:
        return None
    try:
        number = int(text)
        os.set_inheritable(number, False)
    except (ValueError, OSError) as error:
        raise UsageError(f"nsrun.server: {name} {text} is not an open descriptor") from error
    return number


def main(argv: list[str] | None = None) -> int:
    """Run a server until it is told to stop; the exit status."""
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        # Only now: what is wrong with the words is said without paying for the event loop.
        from nsrun.server.process import run

        return run(arguments)
    except NsrunError as error:
        print(f"Error: {error.brief}", file=sys.stderr)  # noqa: T201 - the sentence for whoever started this
        for text in (error.details, error.resolution):
            if text:
                print(f"  {text}", file=sys.stderr)  # noqa: T201 - as above
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
