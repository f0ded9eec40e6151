"""Printing: tables, JSON, YAML, names, ages."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from nsrun.cli.settings import paint, say


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], colours: Sequence[str | None] | None = None) -> None:
    """Columns with three blanks between them, as kubectl's; `colours` has one for each row."""
    lines = [list(heads), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for number, line in enumerate(lines):
        text = "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        colour = None if number == 0 or colours is None else colours[number - 1]
        say(paint(text, colour))


def clean(text: str) -> str:
    """Text from elsewhere without control characters: they would act on the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def as_json(value: object) -> None:
    """JSON with two blanks of indentation."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def as_yaml(value: object) -> None:
    """One YAML document."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    yaml.dump(value, sys.stdout, Dumper=dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)


def as_list(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Kubernetes objects as a v1 List, as kubectl prints several."""
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": list(objects)}


JSONPATH = "jsonpath="
"""What a format that is a template begins with."""


def is_data(output: str) -> bool:
    """Whether a format prints objects, not lines for people."""
    return output in ("json", "yaml") or output.startswith(JSONPATH)


def data(value: object, output: str) -> None:
    """As JSON or YAML, or filled in a template; that ends with a new line only if it says so, as kubectl's do."""
    if output.startswith(JSONPATH):
        from nsrun.client.offline import fill_in

        sys.stdout.write(fill_in(output.removeprefix(JSONPATH), value))
    elif output == "yaml":
        as_yaml(value)
    else:
        as_json(value)


def age(seconds: float | None) -> str:
    """kubectl's short ages: 45s, 3m20s, 15m, 5h30m, 12h, 3d4h, 20d."""
    if seconds is None:
        return "<unknown>"
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"


def size(count: float | None) -> str:
    """Bytes as 12B, 3.4kB, 5.6MB, as docker prints them."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f}{unit}" if unit == "B" or amount >= 100 else f"{amount:.1f}{unit}"
        amount /= 1000
    return f"{amount:.1f}TB"


def seconds_since(moment: str | float | None) -> float | None:
    """Seconds since an RFC 3339 time or a time of the epoch, or None when there is none."""
    if not moment:
        return None
    import calendar
    import time

    if isinstance(moment, int | float):
        return time.time() - moment
    try:
        at = calendar.timegm(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
    return time.time() - at


def since_words(moment: str | None) -> str:
    """An RFC 3339 time in this machine's zone, as kubectl describes it: `Sun, 22 Nov 2026 18:30:41 +0000`."""
    seconds = seconds_since(moment)
    if seconds is None:
        return "<unknown>"
    import time

    at = time.localtime(round(time.time() - seconds))
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    # The names are English whatever the locale is.
    return f"{days[at.tm_wday]}, {at.tm_mday:02} {months[at.tm_mon - 1]} {time.strftime('%Y %H:%M:%S %z', at)}"


def interval(event: dict[str, Any]) -> str:
    """How long ago an event happened, and how often: `2m`, `5s (x3 over 2m)`."""
    first = age(seconds_since(event.get("eventTime") or event.get("firstTimestamp")))
    count = int(event.get("count") or 1)
    if count <= 1:
        return first
    return f"{age(seconds_since(event.get('lastTimestamp')))} (x{count} over {first})"
