"""`nsrun pod ls`, `inspect` and `events`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, as_list, clean, data, table
from nsrun.cli.params import bare, complete_pods, namespace_option, output_option
from nsrun.cli.settings import Settings, note, paint, say

Row = dict[str, Any]
WELL = ("Running", "Completed", "Succeeded")
MIDDLING = ("Pending", "ContainerCreating", "PodInitializing", "Terminating")


@click.command(
    cls=HelpfulCommand,
    help="List pods: of all namespaces, or of one.",
    examples="""
    nsrun pod ls
    nsrun pod ls -o wide
    nsrun pod ls -w                          # and every change, until Ctrl-C
    nsrun pod ls -o json | jq '.items[].status.podIP'
    nsrun pod down $(nsrun pod ls -q)
    """,
)
@click.argument("names", metavar="[POD]...", nargs=-1, shell_complete=complete_pods)
@click.option("-n", "--namespace", metavar="NAME", help="Only pods of this namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Show the namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Go on with every change.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.option("--no-headers", is_flag=True, help="No line with the columns' names.")
@output_option("table", "wide", "name", "json", "yaml")
@click.pass_obj
def ls(
    settings: Settings,
    /,
    names: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    watch: bool,
    quiet: bool,
    no_headers: bool,
    output: str,
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


@click.command(
    cls=HelpfulCommand,
    help="Print pods as data: the Kubernetes object with its status, and with --runtime what nsrun knows besides.",
    examples="""
    nsrun pod inspect web
    nsrun pod inspect web -o yaml
    nsrun pod inspect web --runtime | jq .runtime.shim_pid
    """,
)
@click.argument("names", metavar="POD...", nargs=-1, required=True, shell_complete=complete_pods)
@namespace_option
@click.option("--runtime", is_flag=True, help="Also processes, instances, the sandbox.")
@output_option("json", "yaml", "name")
@click.pass_obj
def inspect(settings: Settings, /, names: tuple[str, ...], namespace: str | None, runtime: bool, output: str) -> int:
    """`nsrun pod inspect`."""
    found = []
    for name in names:
        plain = bare(name)
        answer = settings.session().request("pod.get", {"name": plain, "namespace": namespace}).result
        found.append({"pod": answer["pod"], "runtime": answer.get("runtime")} if runtime else answer["pod"])
    if output == "name":
        for name in names:
            say(f"pod/{bare(name)}")
        return 0
    if len(found) == 1:
        data(found[0], output)
    else:
        data({"pods": found} if runtime else as_list(found), output)
    return 0


@click.command(
    cls=HelpfulCommand,
    help="List what happened to pods, oldest first.",
    examples="""
    nsrun pod events
    nsrun pod events web
    nsrun pod events -w                      # and what happens from now on
    """,
)
@click.argument("name", metavar="[POD]", required=False, shell_complete=complete_pods)
@click.option("-n", "--namespace", metavar="NAME", help="Only of this namespace.")
@click.option("-w", "--watch", is_flag=True, help="Go on with every event.")
@output_option("table", "wide", "json", "yaml")
@click.pass_obj
def events(settings: Settings, /, name: str | None, namespace: str | None, watch: bool, output: str) -> int:
    """`nsrun pod events`."""
    plain = None if name is None else bare(name)
    if watch:
        return watch_events(settings, plain, namespace, output)
    found = settings.session().request("pod.events", {"name": plain, "namespace": namespace}).result["events"]
    if output in ("json", "yaml"):
        data(as_list(found), output)
    elif not found:
        note("No events.")
    else:
        heads = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        table(
            heads,
            [event_row(one) for one in found],
            ["yellow" if one.get("type") == "Warning" else None for one in found],
        )
    return 0


def event_row(event: Row) -> list[str]:
    """An event's cells."""
    from nsrun.cli.output import seconds_since

    about = event.get("involvedObject") or {}
    moment = event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp")
    count = int(event.get("count") or 1)
    message = clean(str(event.get("message", "")))
    return [
        age(seconds_since(moment)) + (f" (x{count})" if count > 1 else ""),
        str(event.get("type", "")),
        str(event.get("reason", "")),
        f"pod/{about.get('name', '')}",
        message,
    ]


def watch_events(settings: Settings, name: str | None, namespace: str | None, output: str) -> int:
    """The events there are and those that come, until interrupted; also over deaths of the server."""
    from nsrun.client.wire import ConnectionLost

    seen: set[tuple[str, int]] = set()
    while True:
        try:
            stream = settings.session().stream("pod.events", {"name": name, "namespace": namespace, "watch": True})
            for message, _fds in stream:
                several: Sequence[Row] = message["events"] if "events" in message else [message["event"]]
                for event in several:
                    key = (str(event["metadata"].get("uid") or event["metadata"]["name"]), int(event.get("count") or 1))
                    if key not in seen:
                        seen.add(key)
                        show_event(event, output)
                sys.stdout.flush()
            return 0
        except ConnectionLost:
            continue


def show_event(event: Row, output: str) -> None:
    """One event of a stream."""
    if output == "json":
        import json

        say(json.dumps(event, ensure_ascii=False))
    elif output == "yaml":
        say("---")
        data(event, output)
    else:
        cells = event_row(event)
        text = f"{cells[0]:<10} {cells[1]:<8} {cells[2]:<18} {cells[3]:<20} {cells[4]}"
        say(paint(text, "yellow" if cells[1] == "Warning" else None))
