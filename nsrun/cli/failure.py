"""The one place where errors become messages and exit codes; click is not needed for it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable

from nsrun.cli.settings import Settings, note, paint
from nsrun.errors import InternalError, NsrunError, StepError

INTERRUPTED = 130
BROKEN_PIPE = 141


def guarded(work: Callable[[], int], settings: Settings) -> int:
    """Run a command and give its exit status. Errors have become messages by then; click's own pass through."""
    try:
        status = reported(work, settings)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`). Nothing may be written at exit either.
        silence()
        return BROKEN_PIPE
    except OSError as error:
        silence()
        return report(StepError("write", "standard output", error.errno or 0), settings)
    return status


def silence() -> None:
    """Let what Python still holds for standard output go nowhere."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)


def reported(work: Callable[[], int], settings: Settings) -> int:
    """As `guarded`, but for errors of standard output."""
    try:
        return work()
    except NsrunError as error:
        return report(error, settings)
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            note("")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        return report(StepError("use", str(error.filename), error.errno or 0), settings)
    except Exception as error:
        number = getattr(error, "ends_with_signal", None)
        if number is not None:
            return 128 + int(number)
        if type(error).__module__.partition(".")[0] == "click" or os.environ.get("NSRUN_DEBUG"):
            raise
        return report(bug(error), settings)


def bug(error: Exception) -> InternalError:
    """An error that no input should bring about, in one sentence with the place."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace is not None else "?"
    return InternalError(
        f"{type(error).__name__} at {place}: {error}",
        details="This is a bug of nsrun's.",
        resolution="Please report it, with what NSRUN_DEBUG=1 prints for the same command.",
    )


def report(error: NsrunError, settings: Settings) -> int:
    """Print an error on standard error and give its exit status."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        if settings.output == "json":
            sys.stderr.write(error.as_json())
        else:
            sys.stderr.write(error.as_text(paint("Error:", "red", sys.stderr)))
        sys.stderr.flush()
    return error.exit_code
