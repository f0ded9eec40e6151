"""`nsrun pod ls`, `inspect` and `events`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from nsrun.cli import show
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import as_list, clean, data, interval, table
from nsrun.cli.params import complete_pods, namespace_option, output_option, selector_options
from nsrun.cli.quick import FORMATS
from nsrun.cli.settings import Settings, note, paint, say
from nsrun.cli.show import bare

Row = dict[str, Any]
EVENT_HEADS = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
EVENT_WIDTHS = (18, 8, 18, 20)
"""Of the columns before the message when events come one by one."""


@click.command(
    cls=HelpfulCommand,
    help="List pods: of all namespaces, or of one.",
    examples="""
    nsrun pod ls
    nsrun pod ls -o wide
    nsrun pod ls -l app=web,tier!=db --show-labels
    nsrun pod ls -w                          # and every change, until Ctrl-C
    nsrun pod ls -o jsonpath='{.items[*].status.podIP}'
    nsrun pod ls -o json | jq '.items[].status.podIP'
    nsrun pod down $(nsrun pod ls -q)
    """,
)
@click.argument("names", metavar="[POD]...", nargs=-1, shell_complete=complete_pods)
@click.option("-n", "--namespace", metavar="NAME", help="Only pods of this namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Show the namespaces.")
@selector_options
@click.option("--show-labels", is_flag=True, help="A last column with the pods' labels.")
@click.option("-w", "--watch", is_flag=True, help="Go on with every change.")
@click.option("--output-watch-events", is_flag=True, help="With -w, say what became of each: ADDED, MODIFIED, DELETED.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.option("--no-headers", is_flag=True, help="No line with the columns' names.")
@output_option(*FORMATS["ls"], templates=True)
@click.pass_obj
def ls(
    settings: Settings,
    /,
    names: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    labels: str | None,
    fields: str | None,
    show_labels: bool,
    watch: bool,
    output_watch_events: bool,
    quiet: bool,
    no_headers: bool,
    output: str,
) -> int:
    """`nsrun pod ls`."""
    return show.list_pods(
        settings,
        names,
        namespace=namespace,
        all_namespaces=all_namespaces,
        labels=labels,
        fields=fields,
        show_labels=show_labels,
        watch=watch,
        quiet=quiet,
        no_headers=no_headers,
        output_watch_events=output_watch_events,
        output=output,
    )


@click.command(
    cls=HelpfulCommand,
    help="Print pods as data: the Kubernetes object with its status, and with --runtime what nsrun knows besides.",
    examples="""
    nsrun pod inspect web
    nsrun pod inspect web -o yaml
    nsrun pod inspect web -o jsonpath='{.status.phase}'
    nsrun pod inspect web --runtime | jq .runtime.shim_pid
    """,
)
@click.argument("names", metavar="POD...", nargs=-1, required=True, shell_complete=complete_pods)
@namespace_option
@click.option("--runtime", is_flag=True, help="Also processes, instances, the sandbox.")
@output_option("json", "yaml", "name", templates=True)
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
        table(
            EVENT_HEADS,
            [event_row(one) for one in found],
            ["yellow" if one.get("type") == "Warning" else None for one in found],
        )
    return 0


def event_row(event: Row) -> list[str]:
    """An event's cells."""
    about = event.get("involvedObject") or {}
    return [
        interval(event),
        str(event.get("type", "")),
        str(event.get("reason", "")),
        f"{about.get('kind', '')}/{about.get('name', '')}",
        clean(str(event.get("message", "")).strip()),
    ]


def watch_events(settings: Settings, name: str | None, namespace: str | None, output: str) -> int:
    """The events there are and those that come, until interrupted; also over deaths of the server."""
    from nsrun.client.wire import ConnectionLost

    seen: set[tuple[str, int]] = set()
    if output in ("table", "wide"):
        say(one_line(EVENT_HEADS))
        sys.stdout.flush()
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
        say(paint(one_line(cells), "yellow" if cells[1] == "Warning" else None))


def one_line(cells: Sequence[str]) -> str:
    """An event, or the heads, of a stream, whose columns have to be wide enough for those to come."""
    *before, message = cells
    return "   ".join([*(cell.ljust(width) for cell, width in zip(before, EVENT_WIDTHS, strict=True)), message])
