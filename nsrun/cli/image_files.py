"""`nsrun image load`, `save` and `import`: images and files."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import click

from nsrun.cli.bring_images import one_line
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import data
from nsrun.cli.params import complete_images, output_option
from nsrun.cli.settings import Settings, say
from nsrun.errors import NotFoundError, StepError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsrun.client.session import Session


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
        say(one_line(image, "imported"))
    return 0


def shell_words(option: str, words: str) -> list[str]:
    """The words of an option."""
    try:
        return shlex.split(words)
    except ValueError as error:
        raise UsageError(f"--{option} {words!r}: {error}") from error


@click.command(
    cls=HelpfulCommand,
    help="Bring images out of a file that docker save, podman save, buildah, skopeo, kaniko or nix wrote (also compressed), out of an OCI "
    "layout directory, or with - out of standard input.",
    examples="""
    docker save nginx:1.27 | nsrun image load -
    nsrun image load images.tar
    nsrun image load ./layout --name example.org/app:1
    """,
)
@click.argument("path", metavar="PATH", type=click.Path())
@click.option("--name", metavar="NAME", help="What the image is to be called, if there is one in the file.")
@output_option("text", "name", "json", "yaml")
@click.pass_obj
def load(settings: Settings, /, path: str, name: str | None, output: str) -> int:
    """`nsrun image load`."""
    params = {"path": "standard input" if path == "-" else os.path.abspath(path), "name": name}
    images = _load(settings, path, params)
    if output in ("json", "yaml"):
        data({"images": images}, output)
        return 0
    for image in images:
        say(f"image/{image['name'] or image['id']}" if output == "name" else one_line(image, "loaded"))
    return 0


def _load(settings: Settings, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    session = settings.session()
    if path == "-":
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal", resolution="docker save IMAGE | nsrun image load -")
        images: list[dict[str, Any]] = session.request("image.load", params, fds=[0], repeat=False).result["images"]
    elif os.path.isdir(path):
        images = session.request("image.load", params).result["images"]
    else:
        images = _load_file(session, path, params)
    return images


def _load_file(session: Session, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: there is no such file or directory") from None
    except OSError as error:
        raise StepError("read", path, error.errno or 0) from error
    try:
        images: list[dict[str, Any]] = session.request("image.load", params, fds=[fd], repeat=False).result["images"]
    finally:
        os.close(fd)
    return images


@click.command(
    cls=HelpfulCommand,
    help="Write images to a file that docker, podman, containerd, skopeo and nsrun load: an OCI layout and a docker-archive in one.",
    examples="""
    nsrun image save example.org/app:1 -o app.tar
    nsrun image save example.org/app:1 example.org/db:2 | ssh other nsrun image load -
    """,
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_images)
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="The file; else standard output.")
@click.pass_obj
def save(settings: Settings, /, names: tuple[str, ...], output: str | None) -> int:
    """`nsrun image save`."""
    session = settings.session()
    if output is None or output == "-":
        if sys.stdout.isatty():
            raise UsageError(
                "an archive is not for a terminal", resolution=f"nsrun image save {' '.join(names)} -o FILE"
            )
        session.request("image.save", {"names": list(names)}, fds=[1], repeat=False)
        return 0
    temporary = f"{output}.part"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StepError("write", temporary, error.errno or 0) from error
    try:
        session.request("image.save", {"names": list(names)}, fds=[fd], repeat=False)
        os.rename(temporary, output)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    return 0
