"""`nsrun volume ls` and `rm`: what outlives pods, with docker's words."""

from __future__ import annotations

from typing import Any

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, clean, data, is_data, seconds_since, size, table
from nsrun.cli.params import output_option
from nsrun.cli.settings import Settings, note, say

Volume = dict[str, Any]


@click.command(
    cls=HelpfulCommand,
    help="""List persistent volumes: those that nsrun made for claims, and those of manifests.

    USED is what a directory of nsrun's own takes on the disk; of a large one that there was no time to read, what it takes at
    least. Nothing keeps a pod from putting more into it than CAPACITY says.""",
    examples="""
    nsrun volume ls
    nsrun volume ls -q
    nsrun volume ls -o json
    """,
)
@click.option("-q", "--quiet", is_flag=True, help="Only the names.")
@click.option("--no-size", is_flag=True, help="Leave USED out: faster where much is kept.")
@output_option("table", "json", "yaml", "name")
@click.pass_obj
def ls(settings: Settings, /, quiet: bool, no_size: bool, output: str) -> int:
    """`nsrun volume ls`."""
    only_names = quiet or output == "name"
    result = settings.session().request("volume.list", {"sizes": not (only_names or no_size)}).result
    volumes: list[Volume] = result["volumes"]
    if only_names:
        for one in volumes:
            say(one["name"])
    elif is_data(output):
        data(result, output)
    else:
        heads = ["NAME", "CLAIM", "STATUS", "CLASS", "CAPACITY", *([] if no_size else ["USED"]), "USED BY", "AGE"]
        table(heads, [_row(one, sizes=not no_size) for one in volumes])
    if not only_names and not is_data(output):
        for claim in result["claims"]:
            text = f": {clean(claim['message'])}" if claim["message"] else ""
            note(f"claim {claim['namespace']}/{claim['name']} is {claim['phase']}{text}")
    return 0


def _row(one: Volume, *, sizes: bool) -> list[str]:
    claim = one["claim"]
    row = [
        clean(one["name"]),
        f"{claim['namespace']}/{claim['name']}" if claim else "-",
        one["status"],
        clean(one["storage_class"]) or "-",
        clean(one["size"]),
    ]
    if sizes:
        row.append("-" if one["used"] is None else ("" if one["complete"] else ">") + size(one["used"]))
    return [*row, ",".join(one["used_by"]) or "-", age(seconds_since(one["created"]))]


@click.command(
    cls=HelpfulCommand,
    help="""Remove volumes, with what is in them and the claims that are bound to them.

    A volume is named by its own name, or by that of its claim. What lies at a path of a manifest's PersistentVolume is left as it is:
    only what nsrun made is removed. A volume that a pod uses is not removed.""",
    examples="""
    nsrun volume rm data
    nsrun volume rm data -n shop
    nsrun volume rm pvc-0b7f0f3e-5d0c-4a53-a7f1-62b8ad4d1a3c
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-n", "--namespace", metavar="NAME", help="Namespace of the claims. [default: default]")
@click.option("-f", "--force", is_flag=True, help="A volume that is not there is no error.")
@output_option("text", "json", "yaml")
@click.pass_obj
def rm(settings: Settings, /, names: tuple[str, ...], namespace: str | None, force: bool, output: str) -> int:
    """`nsrun volume rm`."""
    answer = settings.session().request(
        "volume.remove",
        {"names": list(names), "namespace": namespace or "default", "missing_ok": force},
        changed_for_repeat=lambda before: {**before, "missing_ok": True},
    )
    if output in ("json", "yaml"):
        data(answer.result, output)
    else:
        for one in answer.result["volumes"]:
            say(one["name"])
    return 0
