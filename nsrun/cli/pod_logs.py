"""`nsrun pod logs`."""

from __future__ import annotations

import click

from nsrun.cli import read_logs
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import DURATION, complete_pods, container_option, namespace_option, selector_options
from nsrun.cli.settings import Settings


@click.command(
    cls=HelpfulCommand,
    help="Print what containers wrote to their standard output and standard error.",
    examples="""
    nsrun pod logs web
    nsrun pod logs -f web                    # go on with what comes, over restarts
    nsrun pod logs web -c app --tail=20
    nsrun pod logs web --all-containers --prefix
    nsrun pod logs web -p                    # of the instance before the current one
    nsrun pod logs web --since=10m --timestamps
    nsrun pod logs -f -l app=web --prefix    # of all pods with the label
    nsrun pod logs pod/web pod/db --prefix   # of several pods
    """,
)
@click.argument("words", metavar="POD [CONTAINER] | pod/POD...", nargs=-1, shell_complete=complete_pods)
@namespace_option
@container_option
@selector_options
@click.option("--all-containers", is_flag=True, help="Of all containers, merged by time.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes until the container has ended for good.")
@click.option(
    "--tail", metavar="LINES", help="Only the last lines; -1 or all: everything. [default: all; 10 with a selector]"
)
@click.option("--since", type=DURATION, metavar="DURATION", help="Only what is not older than this.")
@click.option("--since-time", metavar="TIME", help="Only from this RFC 3339 time on.")
@click.option("--limit-bytes", metavar="BYTES", type=click.IntRange(min=1), help="At most so many bytes of each log.")
@click.option("-t", "--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("-p", "--previous", is_flag=True, help="Of the instance before the current one.")
@click.option("--prefix", is_flag=True, help="Begin each line with [pod/POD/CONTAINER].")
@click.pass_obj
def logs(
    settings: Settings,
    /,
    words: tuple[str, ...],
    namespace: str | None,
    container: str | None,
    labels: str | None,
    fields: str | None,
    all_containers: bool,
    follow: bool,
    tail: str | None,
    since: float | None,
    since_time: str | None,
    limit_bytes: int | None,
    timestamps: bool,
    previous: bool,
    prefix: bool,
) -> int:
    """`nsrun pod logs`."""
    return read_logs.print_logs(
        settings,
        words,
        namespace=namespace,
        container=container,
        labels=labels,
        fields=fields,
        all_containers=all_containers,
        follow=follow,
        tail=tail,
        since=since,
        since_time=since_time,
        limit_bytes=limit_bytes,
        timestamps=timestamps,
        previous=previous,
        prefix=prefix,
    )
