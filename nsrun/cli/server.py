"""`nsrun server start`, `stop`, `restart` and `status`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from nsrun._version import __version__
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, data, size
from nsrun.cli.params import output_option
from nsrun.cli.settings import Settings, say
from nsrun.client import roots
from nsrun.client import start as starting
from nsrun.client.wire import Connection, ConnectionLost, ServerAway, connect
from nsrun.errors import EXIT_CODES, UsageError


def running(root: roots.Root) -> Connection | None:
    """A connection to the server, of whatever version; None when there is none."""
    try:
        return connect(root)
    except (ServerAway, ConnectionLost):
        return None


@click.command(
    cls=HelpfulCommand,
    help="Start the server. Every command that needs it does that by itself; `systemctl enable nsrun` does it at boot.",
    examples="""
    nsrun server start
    nsrun server start --foreground          # stays, and logs to the terminal
    nsrun server start --foreground --metrics-listen 127.0.0.1:9460
    """,
)
@click.option("--foreground", is_flag=True, help="Be the server instead of starting one.")
@click.option(
    "--metrics-listen",
    metavar="ADDRESS",
    multiple=True,
    help="With --foreground: have metrics for Prometheus at HOST:PORT or unix:PATH; config.toml can say so for every server.",
)
@click.pass_obj
def start(settings: Settings, /, foreground: bool, metrics_listen: tuple[str, ...]) -> int:
    """`nsrun server start`."""
    root = roots.find(settings.root)
    words = [word for one in metrics_listen for word in ("--metrics-listen", one)]
    if foreground:
        if os.geteuid() != 0:
            raise starting.needs_root(root)
        command = starting.server_command(root, ["--foreground", *words])
        sys.stdout.flush()
        os.execv(command[0], command)  # noqa: S606 - this process becomes the server
    if words:
        raise UsageError(
            "--metrics-listen is for --foreground: another server would be started without it",
            resolution=f'Put it into {root.etc}/config.toml for every server: [metrics] listen = ["{metrics_listen[0]}"]',
        )
    connection = running(root)
    if connection is not None:
        connection.close()
        say(f"The server runs already (pid {connection.server_pid}).")
        return 0
    connection = starting.connect_or_start(root)
    connection.close()
    say(f"The server runs (pid {connection.server_pid}).")
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Stop the server. Pods run on; the next command starts it again.",
    examples="""
    nsrun pod down --all && nsrun server stop
    """,
)
@click.pass_obj
def stop(settings: Settings, /) -> int:
    """`nsrun server stop`."""
    root = roots.find(settings.root)
    connection = running(root)
    if connection is None:
        say("The server does not run.")
        return 0
    with contextlib.closing(connection):
        starting.stop_and_wait(connection)
    say(f"The server (pid {connection.server_pid}) has stopped. Pods run on.")
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Exchange the server, for one of another version too. Pods run on.",
    examples="""
    nsrun server restart
    """,
)
@click.pass_obj
def restart(settings: Settings, /) -> int:
    """`nsrun server restart`."""
    root = roots.find(settings.root)
    connection = running(root)
    if connection is not None:
        with contextlib.closing(connection):
            starting.stop_and_wait(connection)
    fresh = starting.connect_or_start(root)
    fresh.close()
    say(f"The server runs (pid {fresh.server_pid}, nsrun {fresh.version}).")
    return 0


@click.command(
    cls=HelpfulCommand,
    help=f"Tell whether the server runs, and what it holds. Ends with {EXIT_CODES['server']} when it does not run.",
    examples="""
    nsrun server status
    nsrun server status -o json
    """,
)
@output_option("text", "json", "yaml")
@click.pass_obj
def status(settings: Settings, /, output: str) -> int:
    """`nsrun server status`."""
    root = roots.find(settings.root)
    connection = running(root)
    if connection is None:
        if output == "text":
            say(f"The server does not run. Its directory: {root.run}")
        else:
            data({"running": False, "run": root.run}, output)
        return EXIT_CODES["server"]
    same = connection.version == __version__
    connection.close()
    if not same:
        say(
            f"The server runs (pid {connection.server_pid}), but it is nsrun {connection.version} and this is {__version__}."
        )
        say(f"nsrun {root.option}server restart exchanges it; pods run on.")
        return EXIT_CODES["server"]
    found = settings.session(may_start=False).request("server.status", {}).result
    if output != "text":
        data({"running": True, **found}, output)
        return 0
    network = found.get("network") or {}
    say(f"The server runs (pid {found.get('pid')}).")
    say(f"  Version:  {found.get('version')}")
    say(f"  Up for:   {age(found.get('uptime_s'))}")
    say(f"  Pods:     {found.get('pods')}")
    say(f"  Memory:   {size(found.get('memory_bytes'))}")
    say(f"  Run:      {root.run}")
    say(f"  Log:      {root.server_log}")
    manifests = found.get("manifests") or {}
    if manifests.get("error"):
        say(f"  Manifests: {clean(manifests['error'])}")
    for file in manifests.get("files") or []:
        what = clean(file["error"]) if file["error"] else ", ".join(map(clean, file["pods"]))
        say(f"  Manifest {clean(file['name'])}: {what}")
    for one in found.get("metrics") or []:
        say(f"  Metrics:  {one['address']}{': ' + clean(one['error']) if one['error'] else ''}")
    names = found.get("dns") or {}
    if names.get("error"):
        say(f"  Names:    {clean(names['error'])}")
    elif names.get("addresses"):
        say(f"  Names:    {names['names']} in {names['domain']}, answered at {', '.join(names['addresses'])}")
    others = network.pop("networks", {})
    for title, one in (("Network", network), *((f"Network {name},", one) for name, one in others.items())):
        for key, value in one.items():
            if value not in (None, "", [], {}):
                words = ", ".join(map(str, value)) if isinstance(value, list) else value
                say(f"  {title} {key.replace('_', ' ')}: {words}")
    return 0
