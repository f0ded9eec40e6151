"""What can go wrong between the server and a shim.

NsrunError
└── ShimError            a shim refused a request; `request` (START, ...) and `number` (errno) say what and why
    ├── ShimStartError   a program failed at one of its steps; `report` says which
    └── ShimClosedError  the shim is gone or hung up; the request may or may not have been carried out
"""

from __future__ import annotations

from nsrun.errors import NsrunError, errno_text
from nsrun.shim.records import Report


class ShimError(NsrunError):
    """A shim refused a request.

    Args:
        request: its name in wire.h without NSR_MSG_.
        number: errno.
        subject: the container's id or the pod's directory.
    """

    code = "step"

    def __init__(self, request: str, number: int, subject: str = "", *, brief: str | None = None) -> None:
        self.request = request
        self.number = number
        text = f"shim request {request} {subject}".rstrip() + f": {errno_text(number)}"
        super().__init__(brief if brief is not None else text)


class ShimStartError(ShimError):
    """A program (of a start, of the sandbox) failed at one of its steps; errno, op and subject are in `report`."""

    def __init__(self, request: str, report: Report, subject: str = "") -> None:
        self.report = report
        super().__init__(request, report.error, subject, brief=str(report))


class ShimClosedError(ShimError):
    """The shim is gone or hung up before it answered."""

    code = "server"
