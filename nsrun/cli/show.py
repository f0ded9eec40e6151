"""What `nsrun pod ls` does, without click: the most frequent command is not to pay for parsing it does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from nsrun.cli.output import age, as_list, clean, data, table
from nsrun.cli.settings import Settings, note, paint, say

Row = dict[str, Any]
FORMATS = ("table", "wide", "name", "json", "yaml")
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
    output: str = "table",
) -> int:
    """`nsrun pod ls`."""
    wanted = {bare(name) for name in names}
    if watch:
        return watch_pods(settings, namespace, wanted, output)
    result = settings.session().request("pod.list", {"namespace": namespace}).result
    both = list(zip(result["pods"], result.get("columns") or [{}] * len(result["pods"]), strict=False))
    if wanted:
        missing = wanted - {pod["metadata"]["name"] for pod, _ in both}
        if missing:
            from nsrun.errors import NotFoundError

            raise NotFoundError(f"pod {min(missing)!r} is not there", resolution="nsrun pod ls")
        both = [(pod, columns) for pod, columns in both if pod["metadata"]["name"] in wanted]
    pods = [pod for pod, _ in both]
    if output in ("json", "yaml"):
        data(as_list(pods), output)
    elif quiet or output == "name":
        for pod in pods:
            say(("" if quiet else "pod/") + pod["metadata"]["name"])
    elif not pods:
        note("No pods." if namespace is None else f"No pods in namespace {namespace!r}.")
    else:
        several = all_namespaces or len({pod["metadata"].get("namespace") for pod in pods}) > 1
        heads = heads_of(several, output)
        rows = [row(pod, columns, several, output) for pod, columns in both]
        colours = [colour_of(str(columns.get("status", ""))) for _, columns in both]
        if no_headers:
            widths = [max(len(line[i]) for line in rows) for i in range(len(heads))]
            for line in rows:
                say("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        else:
            table(heads, rows, colours)
    return 0


def heads_of(namespaces: bool, output: str) -> list[str]:
    """The columns' names."""
    heads = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    if namespaces:
        heads.insert(0, "NAMESPACE")
    return [*heads, "IP", "IMAGES"] if output == "wide" else heads


def row(pod: Row, columns: Row, namespaces: bool, output: str) -> list[str]:
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
        images = dict.fromkeys(str(one.get("image", "")) for one in pod["spec"].get("containers") or [])
        cells += [(pod.get("status") or {}).get("podIP") or "<none>", clean(",".join(images))]
    return cells


def colour_of(status: str) -> str | None:
    """Red for what needs looking after, yellow for what is on its way."""
    if status in WELL:
        return None
    return "yellow" if status in MIDDLING or status.startswith(("Init:0", "Init:1", "Init:2")) else "red"


def watch_pods(settings: Settings, namespace: str | None, wanted: set[str], output: str) -> int:
    """The pods, then each that changes, until interrupted."""
    import json

    from nsrun.client.library import Client

    client = Client(settings.root)
    shown: dict[str, list[str]] = {}
    widths: list[int] = []
    for event in client.watch(namespace):
        metadata = event.object["metadata"]
        if wanted and metadata["name"] not in wanted:
            continue
        if output in ("json", "yaml"):
            if output == "json":
                say(json.dumps({"type": event.type, "object": event.object}, ensure_ascii=False))
            else:
                say("---")
                data({"type": event.type, "object": event.object}, output)
        elif output == "name":
            say(f"pod/{metadata['name']}")
        else:
            cells = row(event.object, event.columns, True, output)
            if event.type == "DELETED":
                cells[3] = "Gone"
                shown.pop(metadata["uid"], None)
            elif shown.get(metadata["uid"]) == cells:
                continue
            else:
                shown[metadata["uid"]] = cells
            if not widths:
                heads = heads_of(True, output)
                widths = [max(len(head), len(cell), 10) for head, cell in zip(heads, cells, strict=True)]
                say("   ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip())
            text = "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            say(paint(text, colour_of(cells[3])))
        sys.stdout.flush()
    return 0
