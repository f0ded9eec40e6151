"""`nsrun pod cp`."""

from __future__ import annotations

from typing import NamedTuple

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import container_option, namespace_option
from nsrun.cli.settings import Settings, note
from nsrun.cli.show import bare
from nsrun.errors import UsageError


class Place(NamedTuple):
    """SRC or DST: a path of this machine, or of a pod's container."""

    path: str
    pod: str | None = None
    namespace: str | None = None


def place(text: str) -> Place:
    """`PATH`, `POD:PATH` or `NAMESPACE/POD:PATH`. What begins with / or . is a path of this machine, also with a colon in it.

    Raises:
        UsageError: it is neither.
    """
    before, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        if not text:
            raise UsageError("an empty path cannot be copied")
        return Place(text)
    if not path:
        raise UsageError(
            f"{text!r} has no path after the colon", resolution=f"The container's root directory is {text}/"
        )
    pod = bare(before)
    namespace, slash, name = pod.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise UsageError(f"{text!r} is no POD:PATH", resolution="web:/etc/hosts, or shop/web:/etc/hosts")
    return Place(path, name, namespace or None)


@click.command(
    cls=HelpfulCommand,
    help="""Copy files and directories to and from containers.

    SRC and DST are paths, one of them POD:PATH. The container needs neither tar nor any other program. An existing directory DST
    gets the copy under its own name; SRC/. means what is in a directory.""",
    examples="""
    nsrun pod cp ./site web:/usr/share/nginx/html
    nsrun pod cp web:/etc/nginx/nginx.conf .
    nsrun pod cp shop/web:/var/log/. logs -c app
    nsrun pod cp -a web:/etc ./etc           # owners and set-id bits as they are
    """,
)
@click.argument("src", metavar="SRC", type=str)
@click.argument("dst", metavar="DST", type=str)
@namespace_option
@container_option
@click.option("-a", "--archive", is_flag=True, help="Keep owners and set-id bits.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say how much was copied.")
@click.pass_obj
def cp(
    settings: Settings, /, src: str, dst: str, namespace: str | None, container: str | None, archive: bool, quiet: bool
) -> int:
    """`nsrun pod cp`."""
    source, target = place(src), place(dst)
    for one, instead in (
        (source, "nsrun pod exec -i POD -- tar x -C DIR"),
        (target, "nsrun pod exec POD -- tar c PATH"),
    ):
        if one == Place("-"):
            raise UsageError(
                "pod cp copies files, and does not stream archives",
                resolution=f"{instead}; a file of that name is ./-",
            )
    if (source.pod is None) == (target.pod is None):
        raise UsageError(
            "one of SRC and DST has to be a path of this machine, and the other one POD:PATH",
            resolution="nsrun pod cp ./file web:/tmp/file",
        )
    named = source if source.pod else target
    pod = settings.client().pod(named.pod or "", named.namespace or namespace)

    def skipped(path: str) -> None:
        note(f"skipped: {path}")

    if source.pod:
        done = pod.copy_from(source.path, target.path, container=container, archive=archive, on_skipped=skipped)
    else:
        done = pod.copy_to(source.path, target.path, container=container, archive=archive, on_skipped=skipped)
    if not quiet:
        note(f"{done.files} {'file' if done.files == 1 else 'files'}, {done.bytes} bytes")
    return 0
