"""`nsrun image inspect`, `history` and `df`."""

from __future__ import annotations

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, data, seconds_since, size, table
from nsrun.cli.params import complete_images, output_option
from nsrun.cli.settings import Settings, say

_BY = 60


@click.command(
    cls=HelpfulCommand,
    help="Print images as data: names, digests, layers, what they say of their processes, manifest and config as they came.",
    examples="""
    nsrun image inspect example.org/app:1
    nsrun image inspect 5f3c2a7d91e0 -o yaml
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_images)
@output_option("json", "yaml")
@click.pass_obj
def inspect(settings: Settings, /, names: tuple[str, ...], output: str) -> int:
    """`nsrun image inspect`."""
    session = settings.session()
    data([session.request("image.inspect", {"name": name}).result["image"] for name in names], output)
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Tell how an image was made, the newest step first, and what each step adds.",
    examples="""
    nsrun image history example.org/app:1
    nsrun image history example.org/app:1 -o wide
    """,
)
@click.argument("name", metavar="NAME", shell_complete=complete_images)
@output_option("table", "wide", "json", "yaml")
@click.pass_obj
def history(settings: Settings, /, name: str, output: str) -> int:
    """`nsrun image history`."""
    steps = settings.session().request("image.history", {"name": name}).result["steps"]
    if output in ("json", "yaml"):
        data({"steps": steps}, output)
        return 0
    rows = []
    for step in steps:
        by = clean(step["by"]).strip() or "-"
        rows.append(
            [
                f"{age(seconds_since(step['created']))} ago" if step["created"] else "-",
                size(step["size"]),
                by if output == "wide" or len(by) <= _BY else f"{by[: _BY - 1]}…",
                clean(step["comment"]) or "-",
            ]
        )
    table(["CREATED", "SIZE", "BY", "COMMENT"], rows)
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Tell what images take on the disk: as they came (blobs), and unpacked (layers). Reclaimable is what prune --all gives back.",
    examples="""
    nsrun image df
    """,
)
@output_option("text", "json", "yaml")
@click.pass_obj
def df(settings: Settings, /, output: str) -> int:
    """`nsrun image df`."""
    usage = settings.session().request("image.df", {}).result
    if output in ("json", "yaml"):
        data(usage, output)
        return 0
    say(f"Images:       {usage['images']}, {usage['unused']} of them unused")
    say(f"Blobs:        {size(usage['blobs'])}")
    say(f"Layers:       {size(usage['layers'])}")
    say(f"Reclaimable:  {size(usage['reclaimable'])}")
    return 0
