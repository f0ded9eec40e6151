"""`nsrun object apply`, `get` and `rm`: kubectl's words for what is kept beside pods."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import click

from nsrun.cli.bring_up import object_line
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import age, as_list, clean, data, is_data, seconds_since, table
from nsrun.cli.params import output_option
from nsrun.cli.settings import Settings, note, paint, say
from nsrun.client import manifests
from nsrun.errors import UsageError

Object = dict[str, Any]


def files_of(positional: tuple[str, ...], named: tuple[str, ...]) -> list[str]:
    """FILE... and -f together; at least one."""
    files = [*positional, *named]
    if not files:
        raise UsageError("no manifest was given", resolution="nsrun object apply settings.yaml")
    return files


class Chosen(NamedTuple):
    """Objects that words on the command line mean: these names of each of these kinds; without names, all of them."""

    kinds: list[str]
    names: list[str]


def chosen(words: tuple[str, ...]) -> list[Chosen]:
    """What kubectl's words mean: `cm`, `cm web db`, `cm,secret`, `cm/web secret/db`.

    Raises:
        UsageError: both forms at once.
    """
    if not any("/" in word for word in words):
        return [Chosen([kind for kind in words[0].split(",") if kind], list(words[1:]))] if words else []
    found: dict[str, Chosen] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash:
            raise UsageError(
                "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form",
                resolution="nsrun object get cm/web secret/db",
            )
        found.setdefault(kind, Chosen([kind], [])).names.append(name)
    return list(found.values())


@click.command(
    cls=HelpfulCommand,
    help="""Keep the ConfigMaps, Secrets, PersistentVolumeClaims and PersistentVolumes of manifests, for pods to refer to by name.

    They are kept on disk. Secrets are kept in memory alone: after a reboot they have to be applied again. A container or pod
    that waits for one of them starts at once; running containers keep the variables that they began with.""",
    examples="""
    nsrun object apply settings.yaml
    nsrun object apply -f settings/ -n shop
    kubectl get secret db -o yaml | nsrun object apply -
    """,
)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="As FILE; may be repeated.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("-n", "--namespace", metavar="NAME", help="Of objects whose manifest names none. [default: default]")
@output_option("text", "json", "yaml", "name")
@click.pass_obj
def apply(
    settings: Settings,
    /,
    files: tuple[str, ...],
    filename: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    output: str,
) -> int:
    """`nsrun object apply`."""
    documents = manifests.read(files_of(files, filename), recursive=recursive)
    result = settings.session().request("object.apply", {"documents": documents, "namespace": namespace}).result
    for warning in [*result["warnings"], *(text for one in result["objects"] for text in one["warnings"])]:
        note(paint("Warning:", "yellow", sys.stderr) + f" {clean(warning)}")
    if output in ("json", "yaml"):
        data(result, output)
    else:
        for one in result["objects"]:
            say(object_line(one, output))
    return 0


@click.command(
    cls=HelpfulCommand,
    help="""List the objects that are kept, or print them.

    As with kubectl, -o json and -o yaml print what is in Secrets, too.""",
    examples="""
    nsrun object get
    nsrun object get configmaps -A
    nsrun object get cm web -o yaml
    nsrun object get pvc,pv
    nsrun object get secret/db -o jsonpath='{.data.password}' | base64 -d
    """,
)
@click.argument("words", metavar="[KIND [NAME]... | KIND/NAME...]", nargs=-1)
@click.option("-n", "--namespace", metavar="NAME", help="Only of this namespace. [default: default]")
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@output_option("table", "wide", "name", "json", "yaml", templates=True)
@click.pass_obj
def get(settings: Settings, /, words: tuple[str, ...], namespace: str | None, all_namespaces: bool, output: str) -> int:
    """`nsrun object get`."""
    groups = chosen(words) or [Chosen([], [])]
    if all_namespaces and any(group.names for group in groups):
        raise UsageError("a resource cannot be retrieved by name across all namespaces", resolution="-n NAMESPACE")
    space = None if all_namespaces else namespace or "default"
    found: list[Object] = [
        one
        for group in groups
        for one in settings.session()
        .request("object.get", {"kinds": group.kinds, "names": group.names, "namespace": space})
        .result["objects"]
    ]
    if is_data(output):
        data(found[0] if len(found) == 1 and groups[0].names else as_list(found), output)
    elif output == "name":
        for one in found:
            say(f"{one['kind'].lower()}/{one['metadata']['name']}")
    elif not found:
        note("No resources found" if all_namespaces else f"No resources found in {space} namespace.")
    else:
        tables(found, namespaces=all_namespaces, prefixed=len(groups[0].kinds) != 1 or len(groups) > 1)
    return 0


def tables(found: list[Object], *, namespaces: bool, prefixed: bool) -> None:
    """A table for each kind, as kubectl prints them; of several kinds, names tell theirs."""
    for number, kind in enumerate(dict.fromkeys(one["kind"] for one in found)):
        if number:
            say("")
        heads = list(_COLUMNS.get(kind, ("NAME", *(["TYPE"] if kind == "Secret" else []), "DATA", "AGE")))
        rows = []
        for one in found:
            if one["kind"] != kind:
                continue
            metadata = one["metadata"]
            row = [
                (f"{kind.lower()}/" if prefixed else "") + metadata["name"],
                *_cells(one),
                age(seconds_since(metadata.get("creationTimestamp"))),
            ]
            spaced = namespaces and kind != "PersistentVolume"
            rows.append([metadata["namespace"], *row] if spaced else row)
        table(["NAMESPACE", *heads] if namespaces and kind != "PersistentVolume" else heads, rows)


_COLUMNS = {
    "PersistentVolumeClaim": ("NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS", "AGE"),
    "PersistentVolume": (
        "NAME", "CAPACITY", "ACCESS MODES", "RECLAIM POLICY", "STATUS", "CLAIM", "STORAGECLASS", "REASON", "AGE",
    ),
}  # fmt: skip
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _cells(one: Object) -> list[str]:
    """What kubectl shows of an object between its name and its age."""
    spec, status = one.get("spec") or {}, one.get("status") or {}
    if one["kind"] == "PersistentVolumeClaim":
        shown = [status.get("phase"), spec.get("volumeName"), (status.get("capacity") or {}).get("storage")]
        return [clean(text or "") for text in (*shown, _modes(status), spec.get("storageClassName"))]
    if one["kind"] == "PersistentVolume":
        reference = spec.get("claimRef")
        claim = f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""
        policy, storage = spec.get("persistentVolumeReclaimPolicy"), (spec.get("capacity") or {}).get("storage")
        shown = [storage, _modes(spec), policy, status.get("phase"), claim, spec.get("storageClassName")]
        return [clean(text or "") for text in (*shown, status.get("reason"))]
    count = str(len(one.get("data") or {}) + len(one.get("binaryData") or {}))
    return [clean(one.get("type") or ""), count] if one["kind"] == "Secret" else [count]


def _modes(of: Object) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in of.get("accessModes") or ())


@click.command(
    cls=HelpfulCommand,
    help="""Remove objects, named or in manifests.

    Containers that run with a ConfigMap or Secret go on; those that are started later wait until it is there again. A claim that a
    pod uses is not removed; what is in the volume of one that is removed is kept until `nsrun volume rm`.""",
    examples="""
    nsrun object rm configmap web
    nsrun object rm cm/web cm/db
    nsrun object rm -f settings.yaml
    nsrun object rm secrets --all
    nsrun object rm cm,secrets --all -A
    """,
)
@click.argument("words", metavar="[KIND [NAME]... | KIND/NAME...]", nargs=-1)
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="A manifest of objects.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("--all", "everything", is_flag=True, help="All of the kind in the namespace.")
@click.option("-n", "--namespace", metavar="NAME", help="Namespace of the objects. [default: default]")
@click.option("-A", "--all-namespaces", is_flag=True, help="With --all: of all namespaces.")
@click.option("--ignore-not-found", is_flag=True, help="An object that is not there is no error.")
@output_option("text", "json", "yaml", "name")
@click.pass_obj
def rm(
    settings: Settings,
    /,
    words: tuple[str, ...],
    filename: tuple[str, ...],
    recursive: bool,
    everything: bool,
    namespace: str | None,
    all_namespaces: bool,
    ignore_not_found: bool,
    output: str,
) -> int:
    """`nsrun object rm`."""
    groups = chosen(words)
    named = [group for group in groups if group.names]
    if everything and named:
        raise UsageError("name cannot be provided when --all is given")
    if all_namespaces and named:
        raise UsageError("a resource cannot be retrieved by name across all namespaces", resolution="-n NAMESPACE")
    if not (named or filename or (groups and everything)):
        raise UsageError(
            "resource(s) were provided, but no name was specified" if groups else "no object was named",
            resolution="nsrun object get lists them; KIND --all means all of a kind.",
        )
    which: list[Object] = [
        {"kinds": group.kinds, "names": group.names, "all": everything, "all_namespaces": all_namespaces}
        for group in groups
    ]
    if filename:
        which.append({"documents": manifests.read(list(filename), recursive=recursive)})
    gone: list[Object] = []
    for one in which:
        # Repeated after a server's death, an object that is gone meanwhile is what was asked for.
        answer = settings.session().request(
            "object.rm",
            {**one, "namespace": namespace, "missing_ok": ignore_not_found},
            changed_for_repeat=lambda before: {**before, "missing_ok": True},
        )
        gone += answer.result["objects"]
    if output in ("json", "yaml"):
        data({"objects": gone}, output)
    elif not gone and not ignore_not_found:
        note("No resources found")
    else:
        for one in gone:
            kind = one["kind"].lower()
            say(
                f"{kind}/{one['name']}"
                if output == "name"
                else f'{kind} "{one["name"]}" deleted'
                + (f" from {one['namespace']} namespace" if one["namespace"] else "")
            )
    return 0
