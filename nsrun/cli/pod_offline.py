"""`nsrun pod validate` and `nsrun pod plan`: neither needs a server or root."""

from __future__ import annotations

import sys
from typing import Any

import click

from nsrun.cli.bring_up import files_of
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import clean, data
from nsrun.cli.params import output_option
from nsrun.cli.settings import Settings, note, paint, say
from nsrun.client import manifests, offline, roots
from nsrun.errors import EXIT_CODES, NsrunError

COLOURS = {"valid": "green", "other": "dim"}


@click.command(
    cls=HelpfulCommand,
    help=f"""Check manifests as a Kubernetes API server does: one verdict for each object.

    valid; invalid (a rule of validation is broken); unknown-field (strict decoding objects); decode-error (it cannot be read).
    Kinds that nsrun does not read are named and passed over. Ends with {EXIT_CODES["spec"]} when an object is not valid.""",
    examples="""
    nsrun pod validate pod.yaml
    nsrun pod validate manifests/ -R
    nsrun pod validate pod.yaml --defaulted  # the object as Kubernetes would store it
    nsrun pod validate pod.yaml -o json
    """,
)
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path())
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="As FILE; may be repeated.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("--defaulted", is_flag=True, help="Print the objects after defaulting.")
@output_option("text", "json", "yaml", "name")
def validate(files: tuple[str, ...], filename: tuple[str, ...], recursive: bool, defaulted: bool, output: str) -> int:
    """`nsrun pod validate`."""
    verdicts = offline.validate(manifests.read(files_of(files, filename), recursive=recursive))
    if output in ("json", "yaml"):
        data([as_data(one, defaulted=defaulted) for one in verdicts], output)
    elif defaulted:
        objects = [one.object for one in verdicts if one.object is not None]
        for number, one in enumerate(objects):
            if number:
                say("---")
            data(one, "yaml")
        for verdict in verdicts:
            if verdict.verdict != "valid":
                for line in lines_of(verdict):
                    note(line)
    else:
        for verdict in verdicts:
            for line in lines_of(verdict)[: 1 if output == "name" else None]:
                say(line)
        if not verdicts:
            note("There is no object in it.")
    good = bool(verdicts) and all(one.verdict in ("valid", "other") for one in verdicts)
    return 0 if good else EXIT_CODES["spec"]


def as_data(verdict: offline.DocumentVerdict, *, defaulted: bool) -> dict[str, Any]:
    """A verdict for programs."""
    found: dict[str, Any] = verdict._asdict()
    del found["located"]
    if not defaulted:
        del found["object"]
    return found


def lines_of(verdict: offline.DocumentVerdict) -> list[str]:
    """A verdict for people."""
    what = " ".join(filter(None, [verdict.kind or "document", clean(verdict.name)]))
    colour = COLOURS.get(verdict.verdict, "red")
    head = f"{verdict.file}:{verdict.line}: {what}: {paint(verdict.verdict, colour)}"
    if verdict.verdict == "other":
        head += " (nsrun does not read this kind)"
    return [
        head,
        *(f"  {clean(text)}" for text in verdict.located),
        *(f"  note: {clean(text)}" for text in verdict.warnings),
    ]


@click.command(
    cls=HelpfulCommand,
    help="""Print every step of starting the containers of a manifest. Needs no root, touches nothing.

    What is only known once the pod runs stands in angle brackets.""",
    examples="""
    nsrun pod plan pod.yaml
    nsrun pod plan pod.yaml --container app
    nsrun pod plan pod.yaml -o json | jq '.[].steps | length'
    """,
)
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path())
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="As FILE; may be repeated.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("-c", "--container", metavar="NAME", help="Only this container.")
@output_option("text", "json", "yaml")
@click.pass_obj
def plan(
    settings: Settings,
    /,
    files: tuple[str, ...],
    filename: tuple[str, ...],
    recursive: bool,
    container: str | None,
    output: str,
) -> int:
    """`nsrun pod plan`."""
    documents = manifests.read(files_of(files, filename), recursive=recursive)
    planned = offline.plan(documents, roots.find(settings.root), images(settings), container)
    if output != "text":
        data([plan_data(one) for one in planned], output)
    else:
        for number, one in enumerate(planned):
            if number:
                say("")
            say(paint(f"# pod {one.pod}, " + (title_of(one.container)), "bold"))
            for line in one.lines:
                say(clean(line))
            if one.problem is not None:
                say(f"# no program: {clean(one.problem.brief)}")
    problems = [one.problem for one in planned if one.problem is not None]
    if problems:
        sys.stdout.flush()
        raise problems[0]
    return 0


def title_of(container: str) -> str:
    """What a program is of."""
    if not container:
        return "sandbox"
    return "first process of the shared PID namespace" if container == "<pause>" else f"container {container}"


def plan_data(planned: offline.Planned) -> dict[str, Any]:
    """A program for programs."""
    return {
        "pod": planned.pod,
        "container": planned.container or None,
        "steps": planned.lines,
        "problem": None if planned.problem is None else planned.problem.as_data(),
    }


def images(settings: Settings) -> dict[str, dict[str, Any]]:
    """Configurations of the images that a running server knows; none is started and none is needed."""
    try:
        found = settings.session(may_start=False).request("image.list", {}, repeat=False).result.get("images") or []
    except NsrunError:
        return {}
    return {str(image["name"]): image.get("config") or {} for image in found}
