"""Errors that reach a user, and the one table that words a failing step.

    NsrunError                 anything a user can cause; `code` selects the exit status
    ├── UsageError             wrong words on the command line or in a call
    ├── SpecError              a manifest that cannot be read or is not valid
    ├── NotFoundError          a pod, container or image that is not there
    ├── ConflictError          it is there already, or it changed meanwhile
    ├── UnsupportedError       nsrun, this kernel or this machine cannot do that
    ├── PermissionDeniedError  not root, or a socket of somebody else
    ├── StepError              a system call of ours failed: step, subject, errno
    ├── TimedOutError          waited long enough
    ├── PodFailedError         a pod that was waited for will not get there
    ├── StatusError            what a Kubernetes API server would refuse, in its words
    ├── ServerError            the server is away, of another version, or closed the connection
    └── InternalError          a bug of nsrun's

One error contract: what was attempted on what is the `brief`; the kernel's answer is in it; `details` tells why that can be;
`resolution` is the next thing to do. Nobody matches on the texts; `code` is for programs.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import Any, ClassVar

EXIT_CODES: dict[str, int] = {
    "internal": 70,
    "usage": 2,
    "spec": 3,
    "not-found": 4,
    "conflict": 5,
    "unsupported": 6,
    "permission": 7,
    "step": 8,
    "timeout": 9,
    "server": 10,
    "pod-failed": 11,
}
"""Exit status of the command for each error code; docs/exit-codes.md lists them for users."""


class NsrunError(Exception):
    """What every error of nsrun has.

    Args:
        brief: one line: what was attempted, on what, and the answer.
        details: why that can be, one or more lines.
        resolution: what to do next.
        code: overrides the class's code.
    """

    code: str = "internal"

    def __init__(
        self,
        brief: str,
        *,
        details: str | None = None,
        resolution: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(brief)
        self.brief = brief
        self.details = details
        self.resolution = resolution
        if code is not None:
            self.code = code
        self._added: list[str] = []

    def add_note(self, note: str, /) -> None:
        """As BaseException.add_note (PEP 678)."""
        self._added.append(note)

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override] # read only: it is made of what the error has at the time
        """What a traceback shows below `brief`."""
        return [text for text in (self.details, self.resolution) if text] + self._added

    @property
    def exit_code(self) -> int:
        """The command's exit status for this error."""
        return EXIT_CODES.get(self.code, EXIT_CODES["internal"])

    def as_data(self) -> dict[str, Any]:
        """The error as it travels over the control socket and as `--output json` prints it."""
        return {
            "code": self.code,
            "brief": self.brief,
            "details": self.details,
            "resolution": self.resolution,
        }

    def as_text(self, label: str = "Error:") -> str:
        """The error as commands print it: the sentence, why that can be, what to do next."""
        more = [line for text in (self.details, self.resolution) for line in (text or "").splitlines()]
        return "\n  ".join([f"{label} {self.brief}", *more]) + "\n"

    def as_json(self) -> str:
        """The error as commands print it for `--output json`."""
        import json

        return (
            json.dumps({"error": {**self.as_data(), "exit_code": self.exit_code}}, indent=2, ensure_ascii=False) + "\n"
        )

    @staticmethod
    def from_data(data: dict[str, Any]) -> NsrunError:
        """The error that `as_data` gave, with its class again."""
        code = str(data.get("code", "internal"))
        cls = _BY_CODE.get(code, NsrunError)
        if isinstance(data.get("status"), dict):
            return StatusError(data["status"])
        error = cls.__new__(cls)
        NsrunError.__init__(
            error,
            str(data.get("brief", "unknown error")),
            details=data.get("details"),
            resolution=data.get("resolution"),
            code=code,
        )
        return error


class UsageError(NsrunError):
    """Wrong words on the command line or in a call."""

    code = "usage"


class SpecError(NsrunError):
    """A manifest that cannot be read or is not valid."""

    code = "spec"


class NotFoundError(NsrunError):
    """A pod, container or image that is not there."""

    code = "not-found"


class ConflictError(NsrunError):
    """It is there already, is in use, or changed meanwhile."""

    code = "conflict"


class UnsupportedError(NsrunError):
    """nsrun, this kernel or this machine cannot do that."""

    code = "unsupported"


class PermissionDeniedError(NsrunError):
    """Not root, or a socket or directory of somebody else."""

    code = "permission"


class TimedOutError(NsrunError):
    """Waited as long as was asked for."""

    code = "timeout"


class ServerError(NsrunError):
    """The server is away, of another version, or closed the connection."""

    code = "server"


class PodFailedError(NsrunError):
    """A pod that was waited for will not get there."""

    code = "pod-failed"


class StatusError(NsrunError):
    """What a Kubernetes API server would refuse, in its words.

    Args:
        status: as metav1.Status has it, without kind and apiVersion: `code` (of HTTP), `reason`, `message`, and `details`
            where there are some.
    """

    _CODES: ClassVar[dict[int, str]] = {
        400: "spec",
        403: "permission",
        404: "not-found",
        409: "conflict",
        422: "spec",
        504: "timeout",
    }

    def __init__(self, status: dict[str, Any]) -> None:
        number = int(status.get("code") or 500)
        code = self._CODES.get(number, "unsupported" if number < 500 else "internal")
        super().__init__(str(status.get("message") or "unknown error"), code=code)
        self.status = status

    def as_data(self) -> dict[str, Any]:
        """As every error, and `status`."""
        return {**super().as_data(), "status": self.status}


class InternalError(NsrunError):
    """A bug of nsrun's: something that no input should bring about."""

    code = "internal"


def errno_text(number: int) -> str:
    """`No such file or directory (ENOENT)` for 2."""
    name = _errno.errorcode.get(number, f"errno {number}")
    return f"{os.strerror(number)} ({name})"


def brief_of(error: NsrunError | OSError) -> str:
    """What failed, in one line: the error's own, or what it was about and the kernel's answer."""
    if isinstance(error, NsrunError):
        return error.brief
    answer = errno_text(error.errno) if error.errno is not None else str(error)
    return f"{error.filename}: {answer}" if error.filename else answer


class StepError(NsrunError):
    """A system call failed while doing `step` on `subject`.

    Args:
        step: the words of what was done, e.g. `mount overlay`; key of the hint table.
        subject: path, name or address it was done on.
        number: errno.
        what: what the user asked for, e.g. `container "web/app" could not start`.
    """

    code = "step"

    def __init__(self, step: str, subject: str, number: int, *, what: str | None = None) -> None:
        self.step = step
        self.subject = subject
        self.number = number
        core = f"{step} {subject}: {errno_text(number)}".replace("  ", " ")
        details, resolution = hint(step, number)
        super().__init__(f"{what}: {core}" if what else core, details=details, resolution=resolution)


def hint(step: str, number: int) -> tuple[str | None, str | None]:
    """(details, resolution) for a failing step; (None, None) where nothing helpful is known."""
    found = HINTS.get((step, number)) or HINTS.get(("", number))
    return found if found is not None else (None, None)


HINTS: dict[tuple[str, int], tuple[str, str]] = {
    ("", _errno.ENOSPC): (
        "The file system (or a kernel limit such as fs.mount-max or inotify watches) is full.",
        "Free some room (df -h, df -i), then run the command again.",
    ),
    ("", _errno.EROFS): (
        "The directory lies on a read-only file system.",
        "Choose another place with --root DIR or NSRUN_ROOT.",
    ),
    ("", _errno.EPERM): (
        "The kernel refuses this to the calling user or inside this container.",
        "Run nsrun as root on the machine itself; `nsrun doctor` says what is missing.",
    ),
    ("", _errno.EACCES): (
        "The calling user may not do that.",
        "Run nsrun as root (sudo nsrun ...), or choose another --root.",
    ),
    ("", _errno.EMFILE): (
        "The process has as many open files as it may have.",
        "Raise the limit (ulimit -n, LimitNOFILE=) and start the server again.",
    ),
    ("", _errno.ENOMEM): (
        "The kernel has no memory for this.",
        "Free memory, or give the pod less to do.",
    ),
}
"""(step, errno) -> (details, resolution); an empty step is any step."""


_BY_CODE: dict[str, type[NsrunError]] = {
    cls.code: cls
    for cls in (
        UsageError,
        SpecError,
        NotFoundError,
        ConflictError,
        UnsupportedError,
        PermissionDeniedError,
        StepError,
        TimedOutError,
        ServerError,
        PodFailedError,
        InternalError,
    )
}
