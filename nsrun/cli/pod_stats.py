"""`nsrun pod stats`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import data, size
from nsrun.cli.params import DURATION, complete_pods, output_option, selector_options
from nsrun.cli.settings import Settings, note, say
from nsrun.cli.show import bare
from nsrun.errors import UsageError

Row = dict[str, Any]
HEADS = ["CPU(cores)", "CPU%", "MEMORY(bytes)", "MEMORY%", "PIDS", "NET RX/TX", "DISK R/W", "THROTTLED"]
HOME, CLEAR_DOWN, CLEAR_LINE = "\x1b[H", "\x1b[J", "\x1b[K"
MIB = 1 << 20


@click.command(
    cls=HelpfulCommand,
    help="Tell what pods use: processor, memory, processes, network, block devices. On a terminal it goes on until Ctrl-C."
    " CPU% and MEMORY% are of the limit; a dash is what nobody counts here (-o json says why), ~ what was added up from the processes.",
    examples="""
    nsrun pod stats
    nsrun pod stats web --containers
    nsrun pod stats --no-stream --sort-by memory
    nsrun pod stats -o json | jq '.pods[].cpu.usageNanoCores'
    """,
)
@click.argument("names", metavar="[POD]...", nargs=-1, shell_complete=complete_pods)
@click.option("-n", "--namespace", metavar="NAME", help="Only pods of this namespace.")
@selector_options
@click.option("--containers", is_flag=True, help="A line for each container.")
@click.option("--no-stream", is_flag=True, help="Look once.")
@click.option("--interval", type=DURATION, default="1s", show_default=True, help="Over which CPU is measured.")
@click.option("--sort-by", type=click.Choice(["cpu", "memory"]), help="The largest first.")
@click.option("--no-headers", is_flag=True, help="No line with the columns' names.")
@output_option("table", "json", "yaml")
@click.pass_obj
def stats(
    settings: Settings,
    /,
    names: tuple[str, ...],
    namespace: str | None,
    labels: str | None,
    fields: str | None,
    containers: bool,
    no_stream: bool,
    interval: float,
    sort_by: str | None,
    no_headers: bool,
    output: str,
) -> int:
    """`nsrun pod stats`."""
    from nsrun.client.stats import looks

    live = output == "table" and not no_stream and sys.stdout.isatty()
    plain = [bare(name) for name in names]
    if plain and (labels or fields):
        raise UsageError("names and a selector exclude one another")
    found = looks(
        settings.session(),
        plain,
        namespace,
        containers=containers,
        interval=max(interval, 0.01),
        labels=labels,
        fields=fields,
    )
    for look in found:
        if output != "table":
            data(look, output)
            return 0
        lines = rows(look["pods"], containers=containers, sort_by=sort_by)
        columns = [] if no_headers else heads(look["pods"], containers=containers)
        if live:
            over(in_columns(columns, lines) if lines else ["No pods run."])
            continue
        if not lines:
            note("No pods run.")
        for line in in_columns(columns, lines) if lines else ():
            say(line)
        return 0
    return 0


def over(lines: Sequence[str]) -> None:
    """Write over what is on the terminal, as much as fits: nothing flickers, nothing scrolls."""
    from shutil import get_terminal_size

    width, height = get_terminal_size()
    room = max(height - 1, 1)
    shown = list(lines[:room])
    if len(lines) > room:
        shown[-1] = f"… and {len(lines) - room + 1} more"
    text = "".join(f"{line[:width]}{CLEAR_LINE}\n" for line in shown)
    sys.stdout.write(f"{HOME}{text}{CLEAR_DOWN}")
    sys.stdout.flush()


def in_columns(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines with three blanks between the columns; `columns` are their names, or nothing."""
    every = [*([columns] if columns else []), *lines]
    widths = [max(len(line[i]) for line in every) for i in range(len(every[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in every]


def heads(pods: Sequence[Row], *, containers: bool) -> list[str]:
    """The columns' names."""
    own = ["POD", "NAME"] if containers else ["NAME"]
    return [*(["NAMESPACE"] if several(pods) else []), *own, *HEADS]


def several(pods: Sequence[Row]) -> bool:
    """Whether the pods are of more than one namespace."""
    return len({pod["podRef"]["namespace"] for pod in pods}) > 1


def rows(pods: Sequence[Row], *, containers: bool, sort_by: str | None = None) -> list[list[str]]:
    """The cells of every line."""
    lines: list[tuple[Row, list[str]]] = []
    spaces = several(pods)
    for pod in pods:
        reference = pod["podRef"]
        before = [reference["namespace"], reference["name"]] if spaces else [reference["name"]]
        if containers:
            lines += [(one, [*before, one["name"], *cells(one, pod)]) for one in pod.get("containers", ())]
        else:
            lines.append((pod, [*before, *cells(pod, pod)]))
    if sort_by is not None:
        key, member = ("cpu", "usageNanoCores") if sort_by == "cpu" else ("memory", "workingSetBytes")
        lines.sort(key=lambda pair: -(pair[0].get(key, {}).get(member) or 0))
    return [line for _, line in lines]


def cells(one: Row, pod: Row) -> list[str]:
    """What is told of a pod or a container; the network is the pod's."""
    cpu, memory, disk = one.get("cpu", {}), one.get("memory", {}), one.get("diskIO")
    network = pod.get("network")
    used, working_set = cpu.get("usageNanoCores"), memory.get("workingSetBytes")
    share = cpu.get("throttling", {}).get("share")
    count = one.get("process_stats", {}).get("process_count")
    return [
        "-" if used is None else f"{round(used / 1_000_000)}m",
        percent(used, cpu.get("limitNanoCores")),
        "-" if working_set is None else ("~" if memory.get("estimated") else "") + mebibytes(working_set),
        percent(working_set, memory.get("limitBytes")),
        "-" if count is None else str(count),
        "-" if network is None else f"{size(network['rxBytes'])} / {size(network['txBytes'])}",
        "-" if disk is None else f"{size(disk['readBytes'])} / {size(disk['writtenBytes'])}",
        "-" if share is None else f"{share:.0%}",
    ]


def percent(part: int | None, whole: int | None) -> str:
    """`12%` of a limit; a dash without one."""
    return "-" if part is None or not whole else f"{part / whole:.0%}"


def mebibytes(count: int) -> str:
    """As kubectl top has it, but for small amounts: containers that do little are not all the same."""
    return f"{count // MIB}Mi" if count >= 10 * MIB else f"{count / MIB:.1f}Mi"
