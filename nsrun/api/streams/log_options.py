"""What a request for a log says (PodLogOptions), judged as the API server does."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from aiohttp import web

from nsrun.api.streams import refusals
from nsrun.api.streams.query import flag, number

STREAMS = ("All", "Stderr", "Stdout")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class LogOptions(NamedTuple):
    """Which lines, and how.

    Attributes:
        since: only lines from this moment on: RFC 3339 in UTC with nanoseconds, without the Z; or empty.
        stream: "stdout", "stderr", or empty for both.
    """

    follow: bool
    previous: bool
    timestamps: bool
    tail: int | None
    limit: int | None
    since: str
    stream: str


def read(query: Mapping[str, str], pod: str) -> LogOptions | web.Response:
    """The options, or an answer that refuses them.

    Args:
        query: of the request.
        pod: its name.
    """
    try:
        tail, limit, seconds = (number(query, name) for name in ("tailLines", "limitBytes", "sinceSeconds"))
        moment = _moment(query["sinceTime"]) if query.get("sinceTime") else ""
    except ValueError as error:
        return refusals.status(400, str(error))
    stream = query.get("stream", "All")
    problem: tuple[str, object, str, str] | None = None
    if tail is not None and tail < 0:
        problem = ("tailLines", tail, "must be greater than or equal to 0", "FieldValueInvalid")
    elif limit is not None and limit < 1:
        problem = ("limitBytes", limit, "must be greater than 0", "FieldValueInvalid")
    elif seconds is not None and moment:
        problem = ("", None, "at most one of `sinceTime` or `sinceSeconds` may be specified", "FieldValueForbidden")
    elif seconds is not None and seconds < 1:
        problem = ("sinceSeconds", seconds, "must be greater than 0", "FieldValueInvalid")
    elif stream not in STREAMS:
        known = ", ".join(f'"{one}"' for one in STREAMS)
        problem = ("stream", stream, f"supported values: {known}", "FieldValueNotSupported")
    elif stream != "All" and tail is not None:
        problem = (
            "",
            None,
            "`tailLines` and specific `stream` are mutually exclusive for now",
            "FieldValueForbidden",
        )
    if problem is not None:
        field, value, why, reason = problem
        return refusals.invalid("PodLogOptions", pod, field, value, why, reason=reason)
    if seconds is not None:
        moment = _text(max(time.time_ns() - seconds * 1_000_000_000, 0))
    return LogOptions(
        follow=flag(query, "follow"),
        previous=flag(query, "previous"),
        timestamps=flag(query, "timestamps"),
        tail=tail,
        limit=limit,
        since=moment,
        stream="" if stream == "All" else stream.lower(),
    )


def _moment(text: str) -> str:
    """A time of a client as it stands in log files, without the Z.

    Raises:
        ValueError: it is none.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"')
    day, clock, fraction, zone = found.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f'parsing time "{text}": out of range') from None
    # Not strftime: it writes years before 1000 with fewer than four digits.
    return at.replace(tzinfo=None).isoformat(timespec="seconds") + "." + (fraction or ".")[1:10].ljust(9, "0")


def _text(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}"
