"""`nsrun image import`, `ls` and `rm`."""

from __future__ import annotations

import os
import shlex

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, data, seconds_since, size, table
from nsrun.cli.params import complete_images, output_option
from nsrun.cli.settings import Settings, note, say
from nsrun.errors import NotFoundError, UsageError


@click.command(
    cls=HelpfulCommand,
    help="Make an image of a directory or a tar file (also compressed). A manifest refers to it by NAME.",
    examples="""
    nsrun image import example.org/app:1 ./rootfs --entrypoint /bin/app
    docker export $(docker create alpine) | gzip > alpine.tar.gz
    nsrun image import docker.io/library/alpine:3 alpine.tar.gz --cmd /bin/sh --env LANG=C.UTF-8
    """,
)
@click.argument("name", metavar="NAME")
@click.argument("path", metavar="PATH", type=click.Path())
@click.option("--entrypoint", metavar="WORDS", help="Command as shell words; the manifest's `command` replaces it.")
@click.option("--cmd", metavar="WORDS", help="Arguments as shell words; the manifest's `args` replaces them.")
@click.option("-e", "--env", metavar="NAME=VALUE", multiple=True, help="A variable; may be repeated.")
@click.option("-u", "--user", metavar="USER", help="uid, uid:gid or a name of the image.")
@click.option("-w", "--workdir", metavar="DIR", help="Working directory.")
@output_option("text", "name", "json", "yaml")
@click.pass_obj
def import_(
    settings: Settings,
    /,
    name: str,
    path: str,
    entrypoint: str | None,
    cmd: str | None,
    env: tuple[str, ...],
    user: str | None,
    workdir: str | None,
    output: str,
) -> int:
    """`nsrun image import`."""
    if not os.path.exists(path):
        wrong_way = os.path.exists(name)
        raise NotFoundError(
            f"{path}: there is no such directory or tar file",
            details="The name comes first, then the path." if wrong_way else None,
            resolution=f"nsrun image import {path} {name}" if wrong_way else None,
        )
    config: dict[str, object] = {}
    for key, words in (("entrypoint", entrypoint), ("cmd", cmd)):
        if words is not None:
            config[key] = shell_words(key, words)
    for variable in env:
        if not variable.partition("=")[1]:
            raise UsageError(f"--env {variable} has no =", resolution=f"--env {variable}=VALUE")
    config |= {key: value for key, value in (("env", list(env)), ("user", user), ("workdir", workdir)) if value}
    params = {"name": name, "path": os.path.abspath(path), "config": config}
    image = settings.session().request("image.import", params).result["image"]
    if output in ("json", "yaml"):
        data(image, output)
    elif output == "name":
        say(f"image/{image['name']}")
    else:
        say(f"image/{image['name']} imported ({size(image.get('size'))}, {str(image.get('id', ''))[:19]})")
    return 0


def shell_words(option: str, words: str) -> list[str]:
    """The words of an option."""
    try:
        return shlex.split(words)
    except ValueError as error:
        raise UsageError(f"--{option} {words!r}: {error}") from error


@click.command(
    cls=HelpfulCommand,
    help="List images.",
    examples="""
    nsrun image ls
    nsrun image ls -o json
    """,
)
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@output_option("table", "wide", "name", "json", "yaml")
@click.pass_obj
def ls(settings: Settings, /, quiet: bool, output: str) -> int:
    """`nsrun image ls`."""
    images = settings.session().request("image.list", {}).result["images"]
    if output in ("json", "yaml"):
        data({"images": images}, output)
    elif quiet or output == "name":
        for image in images:
            say(("" if quiet else "image/") + image["name"])
    elif not images:
        note("No images.")
    else:
        heads = ["NAME", "IMAGE ID", "CREATED", "SIZE"] + (["COMMAND", "USED BY"] if output == "wide" else [])
        rows = []
        for image in images:
            config = image.get("config") or {}
            created = image.get("created")
            row = [
                clean(image["name"]),
                str(image.get("id", "")).removeprefix("sha256:")[:12],
                f"{age(seconds_since(created))} ago" if created else "-",
                size(image.get("size")),
            ]
            if output == "wide":
                row.append(clean(shlex.join([*(config.get("entrypoint") or []), *(config.get("cmd") or [])])) or "-")
                row.append(", ".join(image.get("used_by") or []) or "-")
            rows.append(row)
        table(heads, rows)
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Remove images that no pod uses.",
    examples="""
    nsrun image rm example.org/app:1
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_images)
@click.pass_obj
def rm(settings: Settings, /, names: tuple[str, ...]) -> int:
    """`nsrun image rm`."""
    for name in names:
        settings.session().request("image.remove", {"name": name}, repeat=False)
        say(f"image/{name} removed")
    return 0
