"""Errors as a library's user meets them."""

from __future__ import annotations

import traceback

from nsrun.errors import NsrunError, SpecError


def test_a_traceback_tells_why_and_what_next() -> None:
    error = SpecError("pod.yaml:1: Pod 'x' is not valid", details="spec.containers: Required value")
    error.resolution = "Correct it."
    error.add_note("seen by a test")
    for one in (error, NsrunError.from_data(error.as_data())):
        text = "".join(traceback.format_exception(one)).splitlines()
        assert text[:3] == [
            "nsrun.errors.SpecError: pod.yaml:1: Pod 'x' is not valid",
            "spec.containers: Required value",
            "Correct it.",
        ]
    assert traceback.format_exception(error)[-1] == "seen by a test\n"
