"""The work of `pod logs`, without click: `logs --tail` is asked for often, and is to answer at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from nsrun.cli.settings import CODES, Settings, coloured, note
from nsrun.cli.show import bare
from nsrun.client import logs as reading
from nsrun.client.crilog import LogLine
from nsrun.client.logs import Query
from nsrun.errors import UsageError

PREFIX_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
SELECTED_TAIL = "10"
"""Lines of each container when pods are selected, as kubectl has it."""


def print_logs(
    settings: Settings,
    words: Sequence[str],
    *,
    namespace: str | None = None,
    container: str | None = None,
    labels: str | None = None,
    fields: str | None = None,
    all_containers: bool = False,
    follow: bool = False,
    tail: str | None = None,
    since: float | None = None,
    since_time: str | None = None,
    limit_bytes: int | None = None,
    timestamps: bool = False,
    previous: bool = False,
    prefix: bool = False,
) -> int:
    """`nsrun pod logs`; the options are the command's."""
    selected = bool(labels or fields)
    names, container = named(words, container, selected)
    if all_containers and container:
        raise UsageError("-c and --all-containers exclude one another")
    if since is not None and since_time is not None:
        raise UsageError("--since and --since-time exclude one another")
    if previous and follow:
        raise UsageError("-p and -f exclude one another: a previous instance writes nothing any more")
    lines = number_of_lines(tail or (SELECTED_TAIL if selected else "all"))
    moment = reading.moment(since) if since is not None else utc(since_time) if since_time else ""
    session = settings.session()
    if selected:
        which = {"namespace": namespace or "default", "labels": labels, "fields": fields}
        pods = session.request("pod.list", which).result["pods"]
        if not pods:
            note(f"No pods that match in namespace {which['namespace']!r}.")
            return 0
    elif container is None:
        pods = [session.request("pod.get", {"name": name, "namespace": namespace}).result["pod"] for name in names]
    else:
        pods = []
    queries = [Query(name, namespace, container) for name in names] if not pods else []
    for found in pods:
        of_pod = queries_of_pod(found)
        if container is not None:
            of_pod = [one for one in of_pod if one.container == container] or [of_pod[0]._replace(container=container)]
        queries += of_pod if all_containers else [default_query(found, of_pod)]
    queries = [one._replace(previous=previous, tail=lines, since=moment) for one in queries]
    write(settings, queries, follow=follow, timestamps=timestamps, prefix=prefix, limit=limit_bytes)
    return 0


def named(words: Sequence[str], container: str | None, selected: bool) -> tuple[list[str], str | None]:
    """The pods and the container that the words mean: `web`, `web app`, or any number of `pod/web`."""
    if selected:
        if words:
            raise UsageError("names and selectors exclude one another", resolution="nsrun pod logs -l app=web")
        return [], container
    if not words:
        raise UsageError("no pod was named", resolution="nsrun pod ls lists them; -l app=web means those with a label.")
    if len(words) == 2 and bare(words[1]) == words[1]:
        if container is not None:
            raise UsageError(f"the container is named twice: {words[1]} and -c {container}")
        return [bare(words[0])], words[1]
    if len(words) > 1 and any(bare(word) == word for word in words):
        raise UsageError(
            "of several pods each is written as pod/NAME",
            resolution=f"nsrun pod logs {' '.join(f'pod/{bare(word)}' for word in words)}",
        )
    return list(dict.fromkeys(bare(word) for word in words)), container


def number_of_lines(tail: str) -> int | None:
    """--tail as a number; None for all."""
    if tail in ("all", "-1"):
        return None
    if not tail.isdecimal():
        raise UsageError(f"--tail={tail} is no number of lines", resolution="--tail=20, or --tail=all")
    return int(tail)


def utc(moment: str) -> str:
    """An RFC 3339 time as it stands in logs: UTC, nine digits, without the Z."""
    from datetime import UTC, datetime

    try:
        at = datetime.fromisoformat(moment)
    except ValueError as error:
        raise UsageError(
            f"--since-time={moment} is no RFC 3339 time", resolution="--since-time=2026-01-02T15:04:05Z"
        ) from error
    if at.tzinfo is None:
        raise UsageError(f"--since-time={moment} has no time zone", resolution=f"--since-time={moment}Z")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000"


def queries_of_pod(pod: dict[str, Any]) -> list[Query]:
    """A query for each container: init containers, mains, ephemeral ones."""
    metadata, spec = pod["metadata"], pod["spec"]
    return [
        Query(metadata["name"], metadata.get("namespace"), container["name"])
        for key in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(key) or []
    ]


def default_query(pod: dict[str, Any], queries: Sequence[Query]) -> Query:
    """The pod's default container; says which it is when there are several."""
    annotations = pod["metadata"].get("annotations") or {}
    name = annotations.get("kubectl.kubernetes.io/default-container") or pod["spec"]["containers"][0]["name"]
    kinds = {one["name"]: " (init)" for one in pod["spec"].get("initContainers") or []}
    kinds |= {one["name"]: " (ephem)" for one in pod["spec"].get("ephemeralContainers") or []}
    if len(queries) > 1:
        names = ", ".join(f"{one.container}{kinds.get(str(one.container), '')}" for one in queries)
        note(f"Defaulted container {name!r} out of: {names}")
    return next((one for one in queries if one.container == name), queries[0])


def write(
    settings: Settings,
    queries: Sequence[Query],
    *,
    follow: bool,
    timestamps: bool,
    prefix: bool,
    limit: int | None = None,
) -> None:
    """Write logs to standard output, and what comes; of each at most `limit` bytes, the heads of lines not counted."""
    session = settings.session()
    sys.stdout.flush()
    heads = prefixes(queries) if prefix else {}
    batches = reading.Follower(session, queries).lines() if follow else reading.read(session, queries)
    if limit is None:
        for batch in batches:
            put(rendered(batch, heads, timestamps))
        return
    left = {(query.pod, str(query.container)): limit for query in queries}
    for batch in batches:
        for line in batch:
            key = (line.pod, line.container)
            text = rendered([line], {}, timestamps)[: left.get(key, 0)]
            if text:
                put(heads.get(key, b"") + text)
                left[key] -= len(text)
        if not any(left.values()):
            return


Heads = dict[tuple[str, str], bytes]
"""What the lines of a pod's container begin with."""


def prefixes(queries: Sequence[Query]) -> Heads:
    """`[pod/web/app] ` for each container, in a colour of its own on a terminal."""
    heads: Heads = {}
    for number, query in enumerate(queries):
        text = f"[pod/{query.pod}/{query.container}]"
        if coloured(sys.stdout):
            text = f"\x1b[{CODES[PREFIX_COLOURS[number % len(PREFIX_COLOURS)]]}m{text}\x1b[0m"
        heads[query.pod, str(query.container)] = f"{text} ".encode()
    return heads


def rendered(lines: Sequence[LogLine], heads: Heads, timestamps: bool) -> bytes:
    """Lines as they are printed. The last piece of a line that never ended gets no line break, as it had none."""
    parts: list[bytes] = []
    for line in lines:
        if heads:
            parts.append(heads.get((line.pod, line.container), b""))
        if timestamps:
            parts.append(line.timestamp.encode() + b" ")
        parts.append(line.text)
        if line.complete or heads or timestamps:
            parts.append(b"\n")
    return b"".join(parts)


def put(text: bytes) -> None:
    """All of it on standard output, past Python's buffers: a line is seen when it is written."""
    view = memoryview(text)
    while view:
        view = view[os.write(1, view) :]
