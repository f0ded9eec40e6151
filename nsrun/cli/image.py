"""`nsrun image ls`, `tag`, `rm` and `prune`."""

from __future__ import annotations

import shlex

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, data, seconds_since, size, table
from nsrun.cli.params import complete_images, output_option
from nsrun.cli.settings import Settings, note, say

_PODS = 3


@click.command(
    cls=HelpfulCommand,
    help="List images, and the pods that use them.",
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
            say(("" if quiet else "image/") + (image["name"] or image["id"]))
    elif not images:
        note("No images.")
    else:
        heads = ["NAME", "IMAGE ID", "CREATED", "SIZE", *(["COMMAND"] if output == "wide" else []), "USED BY"]
        rows = []
        for image in images:
            config = image.get("config") or {}
            created = image.get("created")
            row = [
                clean(image["name"]) or "<none>",
                str(image.get("id", "")).removeprefix("sha256:")[:12],
                f"{age(seconds_since(created))} ago" if created else "-",
                size(image.get("size")),
            ]
            if output == "wide":
                row.append(clean(shlex.join([*(config.get("entrypoint") or []), *(config.get("cmd") or [])])) or "-")
            row.append(_pods(image.get("used_by") or [], every=output == "wide"))
            rows.append(row)
        table(heads, rows)
    return 0


def _pods(names: list[str], *, every: bool) -> str:
    """Which pods use an image, in a column: the first few of many."""
    if every or len(names) <= _PODS:
        return ", ".join(names) or "-"
    return f"{', '.join(names[:_PODS])} and {len(names) - _PODS} more"


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


@click.command(
    cls=HelpfulCommand,
    help="Give an image another name. It goes over from the image that has it.",
    examples="""
    nsrun image tag example.org/app:1 example.org/app:stable
    nsrun image tag 5f3c2a7d91e0 app
    """,
)
@click.argument("name", metavar="NAME", shell_complete=complete_images)
@click.argument("new", metavar="NEW")
@click.pass_obj
def tag(settings: Settings, /, name: str, new: str) -> int:
    """`nsrun image tag`."""
    image = settings.session().request("image.tag", {"name": name, "new": new}).result["image"]
    say(f"image/{image['name']} is {str(image['id']).removeprefix('sha256:')[:12]}")
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Remove images that have lost their name and that no pod uses, and what pulls that were cut off left behind. The server does "
    "so by itself when the disk fills up.",
    examples="""
    nsrun image prune
    nsrun image prune --all
    """,
)
@click.option("-a", "--all", "every", is_flag=True, help="Images that have a name, too, unless a pod uses them.")
@click.pass_obj
def prune(settings: Settings, /, every: bool) -> int:
    """`nsrun image prune`."""
    done = settings.session().request("image.prune", {"all": every}).result
    for image in done["images"]:
        say(f"image/{image['name'] or image['id']} removed")
    note(f"{size(done['freed'])} of blobs freed.")
    return 0
