"""What a probe that was run once came to."""

from __future__ import annotations

import enum
from dataclasses import dataclass

OUTPUT_MAX = 10 * 1024
"""Bytes of a body, or of a command's output, that are read."""


class Result(enum.Enum):
    """Kubernetes pkg/probe/probe.go: a warning is a success that is told of."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a probe.

    Attributes:
        result: what is counted, unless `errored`.
        text: what the event says after "Readiness probe failed: ".
        errored: the probe could not be made or not be read to its end: tried again at once, at most three times in all, and
            then thrown away (kubelet pkg/kubelet/prober/prober.go).
    """

    result: Result
    text: str = ""
    errored: bool = False


class ProbeError(Exception):
    """The other side, or the way to it, failed. The text is what a kubelet would say."""


class BodyError(ProbeError):
    """The head of a response came and its body broke: such a run is thrown away."""


class LocalError(Exception):
    """This machine has run out of something (descriptors, memory, ports): it says nothing of the container."""
