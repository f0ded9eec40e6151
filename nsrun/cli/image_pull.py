"""`nsrun image pull`, `nsrun login` and `logout`: images from registries."""

from __future__ import annotations

import sys

import click

from nsrun.cli.bring_images import pull_images
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import complete_images, output_option
from nsrun.cli.quick import FORMATS
from nsrun.cli.settings import Settings, say
from nsrun.errors import UsageError


@click.command(
    cls=HelpfulCommand,
    help="Bring images from registries. What is here already of their layers is not fetched again, and what was cut off is gone on with.",
    examples="""
    nsrun image pull nginx:1.27
    nsrun image pull registry.example.org:5000/team/app:1 quay.io/prometheus/busybox
    nsrun image pull alpine@sha256:<64 digits>
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_images)
@click.option("-q", "--quiet", is_flag=True, help="Nothing but the images' names.")
@output_option(*FORMATS["pull"])
@click.pass_obj
def pull(settings: Settings, /, names: tuple[str, ...], quiet: bool, output: str) -> int:
    """`nsrun image pull`."""
    return pull_images(settings, names, quiet=quiet, output=output)


@click.command(
    cls=HelpfulCommand,
    help="Remember a user and a password for a registry, after asking it whether they are right. They lie in etc/auth.json, for root's "
    "eyes only; what docker login and podman login wrote for root is used, too.",
    examples="""
    nsrun login registry.example.org:5000 -u me
    pass show registry | nsrun login registry.example.org:5000 -u me --password-stdin
    """,
)
@click.argument("registry", metavar="[REGISTRY]", default="docker.io")
@click.option("-u", "--username", metavar="USER", required=True, help="The user.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_obj
def login(settings: Settings, /, registry: str, username: str, password_stdin: bool) -> int:
    """`nsrun login`."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, err=True)
    else:
        raise UsageError("standard input is no terminal to ask for a password", resolution="Pass --password-stdin.")
    if not password:
        raise UsageError("the password is empty")
    params = {"registry": registry, "user": username, "password": password}
    done = settings.session().request("registry.login", params).result
    say(f"logged in to {registry}; the password is in {done['file']}")
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Forget what nsrun login remembered for a registry.",
    examples="""
    nsrun logout registry.example.org:5000
    """,
)
@click.argument("registry", metavar="[REGISTRY]", default="docker.io")
@click.pass_obj
def logout(settings: Settings, /, registry: str) -> int:
    """`nsrun logout`."""
    settings.session().request("registry.logout", {"registry": registry}, repeat=False)
    say(f"logged out of {registry}")
    return 0
