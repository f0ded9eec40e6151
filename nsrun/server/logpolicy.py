"""The settings of log rotation in etc/config.toml, with the kubelet's names and rules (S-LOG)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nsrun.errors import SpecError
from nsrun.reconcile.rotation import LogPolicy
from nsrun.spec.quantity import QuantityError, parse

SHORTEST_INTERVAL_S = 3.0

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def log_policy(settings: Mapping[str, Any]) -> LogPolicy:
    """When containers' logs are rotated (S-LOG).

    Source of the rules: kubelet pkg/kubelet/logs/container_log_manager.go NewContainerLogManager (a negative size: never),
    apis/config/validation for the interval.

    Raises:
        SpecError: a value is not of its kind, or out of its bounds.
    """
    default = LogPolicy()
    size, interval = settings.get("containerLogMaxSize"), settings.get("containerLogMonitorInterval")
    files = settings.get("containerLogMaxFiles", default.max_files)
    if isinstance(files, bool) or not isinstance(files, int) or files <= 1:
        raise _wrong("containerLogMaxFiles", files, "invalid MaxFiles, must be > 1", "containerLogMaxFiles = 5")
    return LogPolicy(
        max_size=default.max_size if size is None else _bytes(size),
        max_files=files,
        every_s=default.every_s if interval is None else _seconds(interval),
    )


def _bytes(text: object) -> int:
    example = 'containerLogMaxSize = "10Mi"'
    if not isinstance(text, str):
        raise _wrong("containerLogMaxSize", text, "it is a quantity, as a string", example)
    try:
        quantity = parse(text)
    except QuantityError as error:
        raise _wrong("containerLogMaxSize", text, str(error), example) from error
    if quantity != quantity.rounded_up(0):
        raise _wrong("containerLogMaxSize", text, "it is a whole number of bytes", example)
    return quantity.whole()


def _seconds(text: object) -> float:
    example = 'containerLogMonitorInterval = "10s"'
    if not isinstance(text, str) or _DURATION.fullmatch(text) is None:
        raise _wrong("containerLogMonitorInterval", text, "it is a duration such as 10s or 1m30s, as a string", example)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds < SHORTEST_INTERVAL_S:
        why = "must be a positive time duration greater than or equal to 3s"
        raise _wrong("containerLogMonitorInterval", text, why, example)
    return seconds


def _wrong(name: str, value: object, why: str, example: str) -> SpecError:
    return SpecError(f"the configuration's {name} is {value!r}: {why}", resolution=example)
