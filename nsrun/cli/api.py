"""`nsrun api serve` and `nsrun api kubeconfig`: other processes, in which the Kubernetes API is known."""

from __future__ import annotations

import os
import sys

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.settings import Settings
from nsrun.client import roots


def become(settings: Settings, *words: str) -> int:
    """Go on as `python -m nsrun.api`."""
    root = roots.find(settings.root)
    options = ["--root", root.given] if root.given else []
    if settings.output:
        options += ["--output", settings.output]
    command = [sys.executable, "-m", "nsrun.api", *options, *words]
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - this process becomes the other one


@click.command(
    cls=HelpfulCommand,
    help="Serve the Kubernetes API of this machine, for kubectl and client libraries. Stays until it is ended.",
    examples="""
    nsrun api serve
    nsrun api serve --listen 192.0.2.7:6443 --name box.example.org
    nsrun api serve --listen 127.0.0.1:8001 --insecure-http      # open to every user of this machine
    """,
)
@click.option(
    "--listen", metavar="ADDRESS", multiple=True, help="HOST:PORT or unix:PATH; 127.0.0.1:6443 if none is given."
)
@click.option(
    "--name", metavar="NAME", multiple=True, help="Another name or address by which clients reach this machine."
)
@click.option("--insecure-http", is_flag=True, help="In the clear, and without tokens; on loopback alone.")
@click.pass_obj
def serve(settings: Settings, /, listen: tuple[str, ...], name: tuple[str, ...], insecure_http: bool) -> int:
    """`nsrun api serve`."""
    words = [*(f"--listen={one}" for one in listen), *(f"--name={one}" for one in name)]
    return become(settings, "serve", *words, *(["--insecure-http"] if insecure_http else []))


@click.command(
    cls=HelpfulCommand,
    help="Print what kubectl needs to reach the API: a kubeconfig with address, authority and token.",
    examples="""
    nsrun api kubeconfig > nsrun.kubeconfig
    nsrun api kubeconfig --write-kubeconfig
    nsrun api kubeconfig --role read-only --server https://192.0.2.7:6443
    """,
)
@click.option("--server", metavar="URL", help="Where clients find the API; https://127.0.0.1:6443 if nothing is said.")
@click.option(
    "--role", type=click.Choice(["full", "read-only"]), default="full", show_default=True, help="What the token may."
)
@click.option(
    "--context", metavar="NAME", default="nsrun", show_default=True, help="Name of cluster, user and context."
)
@click.option("--insecure-http", is_flag=True, help="For an API that is served in the clear.")
@click.option(
    "--write-kubeconfig",
    is_flag=True,
    help="Put it into $KUBECONFIG or ~/.kube/config instead, as the current context.",
)
@click.pass_obj
def kubeconfig(
    settings: Settings, /, server: str | None, role: str, context: str, insecure_http: bool, write_kubeconfig: bool
) -> int:
    """`nsrun api kubeconfig`."""
    words = [f"--role={role}", f"--context={context}"]
    if server:
        words.append(f"--server={server}")
    if insecure_http:
        words.append("--insecure-http")
    if write_kubeconfig:
        words.append("--write-kubeconfig")
    return become(settings, "kubeconfig", *words)
