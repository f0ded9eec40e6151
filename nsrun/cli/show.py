"""What `nsrun pod ls` does, without click: the most frequent command is not to pay for parsing it does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from nsrun.cli.output import age, as_list, clean, data, is_data, table
from nsrun.cli.settings import Settings, note, paint, say

Row = dict[str, Any]
WELL = ("Running", "Completed", "Succeeded")
MIDDLING = ("Pending", "ContainerCreating", "PodInitializing", "Terminating")


def bare(name: str) -> str:
    """kubectl's pod/NAME is NAME."""
    return name.removeprefix("pod/").removeprefix("pods/").removeprefix("po/")


def list_pods(
    settings: Settings,
    names: Iterable[str] = (),
    *,
    namespace: str | None = None,
    all_namespaces: bool = False,
    watch: bool = False,
    quiet: bool = False,
    no_headers: bool = False,
    show_labels: bool = False,
    labels: str | None = None,
    fields: str | None = None,
    output_watch_events: bool = False,
    output: str = "table",
) -> int:
    """`nsrun pod ls`."""
    wanted = {bare(name) for name in names}
    if wanted and (labels or fields):
        from nsrun.errors import UsageError

        raise UsageError("names and selectors exclude one another", resolution="nsrun pod ls -l app=web")
    if watch:
        return watch_pods(
            settings,
            namespace,
            wanted,
            output,
            labels=labels,
            fields=fields,
            show_labels=show_labels,
            all_namespaces=all_namespaces,
            no_headers=no_headers,
            quiet=quiet,
            kinds=output_watch_events,
        )
    result = settings.session().request("pod.list", {"namespace": namespace, "labels": labels, "fields": fields}).result
    both = list(zip(result["pods"], result.get("columns") or [{}] * len(result["pods"]), strict=False))
    if wanted:
        missing = wanted - {pod["metadata"]["name"] for pod, _ in both}
        if missing:
            from nsrun.errors import NotFoundError

            raise NotFoundError(f"pod {min(missing)!r} is not there", resolution="nsrun pod ls")
        both = [(pod, columns) for pod, columns in both if pod["metadata"]["name"] in wanted]
    pods = [pod for pod, _ in both]
    if is_data(output):
        data(as_list(pods), output)
    elif quiet or output == "name":
        for pod in pods:
            say(("" if quiet else "pod/") + pod["metadata"]["name"])
    elif not pods:
        such = " that match" if labels or fields else ""
        note(f"No pods{such}." if namespace is None else f"No pods{such} in namespace {namespace!r}.")
    else:
        several = all_namespaces or len({pod["metadata"].get("namespace") for pod in pods}) > 1
        heads = heads_of(several, output, show_labels)
        rows = [row(pod, columns, several, output, show_labels) for pod, columns in both]
        colours = [colour_of(str(columns.get("status", ""))) for _, columns in both]
        if no_headers:
            widths = [max(len(line[i]) for line in rows) for i in range(len(heads))]
            for line in rows:
                say(in_columns(line, widths))
        else:
            table(heads, rows, colours)
    return 0


def heads_of(namespaces: bool, output: str, labels: bool = False) -> list[str]:
    """The columns' names."""
    heads = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    if namespaces:
        heads.insert(0, "NAMESPACE")
    if output == "wide":
        heads += ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    return [*heads, "LABELS"] if labels else heads


def row(pod: Row, columns: Row, namespaces: bool, output: str, labels: bool = False) -> list[str]:
    """A pod's cells."""
    metadata = pod["metadata"]
    cells = [
        metadata["name"],
        str(columns.get("ready", "")),
        clean(str(columns.get("status", ""))),
        clean(str(columns.get("restarts", ""))),
        age(columns.get("age_s")),
    ]
    if namespaces:
        cells.insert(0, metadata.get("namespace", "default"))
    if output == "wide":
        status = pod.get("status") or {}
        cells += [
            status.get("podIP") or "<none>",
            clean(pod["spec"].get("nodeName") or "<none>"),
            clean(status.get("nominatedNodeName") or "<none>"),
            gates(pod["spec"].get("readinessGates") or [], status.get("conditions") or []),
        ]
    if labels:
        pairs = sorted((metadata.get("labels") or {}).items())
        cells.append(clean(",".join(f"{key}={value}" for key, value in pairs)) or "<none>")
    return cells


def gates(wanted: list[Row], conditions: list[Row]) -> str:
    """How many of a pod's readiness gates hold: `1/2`."""
    true = {one["type"] for one in conditions if one.get("status") == "True"}
    return f"{sum(one['conditionType'] in true for one in wanted)}/{len(wanted)}" if wanted else "<none>"


def colour_of(status: str) -> str | None:
    """Red for what needs looking after, yellow for what is on its way."""
    if status in WELL:
        return None
    return "yellow" if status in MIDDLING or status.startswith(("Init:0", "Init:1", "Init:2")) else "red"


def watch_pods(
    settings: Settings,
    namespace: str | None,
    wanted: set[str],
    output: str,
    *,
    labels: str | None,
    fields: str | None,
    show_labels: bool,
    all_namespaces: bool,
    no_headers: bool,
    quiet: bool,
    kinds: bool,
) -> int:
    """The pods, then each that changes, until interrupted; `kinds` tells what became of it in a column or member."""
    import json

    from nsrun.client.library import Client

    several = all_namespaces or namespace is None
    shown: dict[str, list[str]] = {}
    widths = [0] * (len(heads_of(several, output, show_labels)) + kinds)
    first = True
    for event in Client(settings.root).watch(namespace, labels=labels, fields=fields):
        metadata = event.object["metadata"]
        if wanted and metadata["name"] not in wanted:
            continue
        if is_data(output):
            value = {"type": event.type, "object": event.object} if kinds else event.object
            if output == "json":
                say(json.dumps(value, ensure_ascii=False))
            else:
                if output == "yaml":
                    say("---")
                data(value, output)
        elif quiet or output == "name":
            say(("" if quiet else "pod/") + metadata["name"])
        else:
            cells = row(event.object, event.columns, several, output, show_labels)
            status = cells[2 + several]
            same = [*cells[: 4 + several], *cells[5 + several :]]
            if event.type == "MODIFIED" and shown.get(metadata["uid"]) == same:
                continue  # nothing of what is shown, but the age
            shown[metadata["uid"]] = same
            if event.type == "DELETED":
                del shown[metadata["uid"]]
            cells = [event.type, *cells] if kinds else cells
            if first and not no_headers:
                heads = [*(["EVENT"] if kinds else []), *heads_of(several, output, show_labels)]
                widths = [max(len(head), len(cell)) for head, cell in zip(heads, cells, strict=True)]
                widths[0] = max(widths[0], len("MODIFIED") if kinds else 0)
                say(in_columns(heads, widths))
            first = False
            widths = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
            say(paint(in_columns(cells, widths), colour_of(status)))
        sys.stdout.flush()
    return 0


def in_columns(cells: Iterable[str], widths: Iterable[int]) -> str:
    """Cells with three blanks between them."""
    return "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
