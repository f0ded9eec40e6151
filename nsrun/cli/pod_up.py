"""`nsrun pod up` and `nsrun pod down`."""

from __future__ import annotations

import os
from typing import Any

import click

from nsrun.cli.bring_up import UP_TIMEOUT_S, Progress, bring_up
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import data
from nsrun.cli.params import DURATION, complete_pods, namespace_option, output_option, selector_options
from nsrun.cli.quick import FORMATS
from nsrun.cli.settings import Settings, note, say
from nsrun.cli.show import bare
from nsrun.client import manifests, requests
from nsrun.errors import NotFoundError, UsageError


@click.command(
    cls=HelpfulCommand,
    help="""Bring up the pods of manifests, and wait until they run.

    A pod that is there already with the same spec is left as it is. Of one that differs, what Kubernetes lets change of a
    running pod is changed (images, labels, annotations, ...); anything else is an error that says what, unless --replace
    is given.""",
    examples="""
    nsrun pod up pod.yaml                    # wait until its containers run
    nsrun pod up pod.yaml --wait=ready       # until it is ready
    nsrun pod up -f pods/ --no-wait          # all manifests of a directory
    kubectl get pod web -o yaml | nsrun pod up -
    nsrun pod up pod.yaml --attach           # follow its logs; Ctrl-C takes it down
    nsrun pod up pod.yaml --replace          # exchange the pod by the changed one
    nsrun pod up pod.yaml --time-scale=60    # CrashLoopBackOff and probes as fast as a test wants them
    """,
)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="As FILE; may be repeated.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("-n", "--namespace", metavar="NAME", help="Of pods whose manifest names none. [default: default]")
@click.option("--replace", is_flag=True, help="Take a pod down and up again when it cannot be changed in place.")
@click.option(
    "--wait",
    type=click.Choice(["none", "running", "ready"]),
    default="running",
    is_flag=False,
    flag_value="running",
    show_default=True,
    help="What to wait for.",
)
@click.option("--no-wait", is_flag=True, help="As --wait=none.")
@click.option(
    "--timeout",
    type=DURATION,
    metavar="DURATION",
    default=UP_TIMEOUT_S,
    help="How long to wait. [default: 5m]",
)
@click.option("--attach", is_flag=True, help="Follow the logs; Ctrl-C takes the pods down.")
@click.option("--ignore-unsupported", is_flag=True, help="Only warn of what nsrun cannot do.")
@click.option(
    "--time-scale",
    type=float,
    metavar="N",
    help="Divide back-off delays and probe periods by N: for tests that cannot wait. [default: 1]",
)
@output_option(*FORMATS["up"])
@click.pass_obj
def up(
    settings: Settings,
    /,
    files: tuple[str, ...],
    filename: tuple[str, ...],
    recursive: bool,
    namespace: str | None,
    replace: bool,
    wait: requests.Wait,
    no_wait: bool,
    timeout: float,
    attach: bool,
    ignore_unsupported: bool,
    time_scale: float | None,
    output: str,
) -> int:
    """`nsrun pod up`."""
    return bring_up(
        settings,
        files,
        filename=filename,
        recursive=recursive,
        namespace=namespace,
        replace=replace,
        wait=wait,
        no_wait=no_wait,
        timeout=timeout,
        attach=attach,
        ignore_unsupported=ignore_unsupported,
        time_scale=time_scale,
        output=output,
    )


@click.command(
    cls=HelpfulCommand,
    help="""Take pods down, and wait until nothing of them is left.

    Pods are named, or meant by the manifests they came from.""",
    examples="""
    nsrun pod down web
    nsrun pod down pod.yaml
    nsrun pod down --all
    nsrun pod down -l app=web
    nsrun pod down web --grace-period=2s
    nsrun pod down web --force               # SIGKILL at once
    """,
)
@click.argument("pods", metavar="[POD|FILE]...", nargs=-1, shell_complete=complete_pods)
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="A manifest of pods.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("--all", "everything", is_flag=True, help="All pods; of one namespace with -n.")
@namespace_option
@selector_options
@click.option(
    "--grace-period",
    type=DURATION,
    metavar="DURATION",
    help="Time between the stop signal and SIGKILL. [default: the pod's]",
)
@click.option("--force", is_flag=True, help="SIGKILL at once.")
@click.option("--ignore-not-found", is_flag=True, help="A pod that is not there is no error.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the pods are gone.")
@click.option("--timeout", type=DURATION, metavar="DURATION", help="How long to wait. [default: for ever]")
@output_option("text", "json", "yaml", "name")
@click.pass_obj
def down(
    settings: Settings,
    /,
    pods: tuple[str, ...],
    filename: tuple[str, ...],
    recursive: bool,
    everything: bool,
    namespace: str | None,
    labels: str | None,
    fields: str | None,
    grace_period: float | None,
    force: bool,
    ignore_not_found: bool,
    no_wait: bool,
    timeout: float | None,
    output: str,
) -> int:
    """`nsrun pod down`."""
    files = [word for word in pods if manifests.looks_like_file(bare(word))] + list(filename)
    names = [bare(word) for word in pods if not manifests.looks_like_file(bare(word))]
    selected = everything or bool(labels or fields)
    if selected and (files or names):
        raise UsageError("--all, or a selector, and names exclude one another")
    if not (selected or files or names):
        raise UsageError("no pod was named", resolution="nsrun pod ls lists them; --all means all of them.")
    which: list[dict[str, Any]] = []
    if selected:
        which.append({"all": everything, "namespace": namespace, "labels": labels, "fields": fields})
    if names:
        which.append({"names": names, "namespace": namespace})
    if files:
        which.append({"documents": manifests.read(files, recursive=recursive), "namespace": namespace})
    gone: list[dict[str, Any]] = []
    progress, told = Progress(), set[str]()

    def look_on(event: dict[str, Any]) -> None:
        if event.get("kind") != "gone":
            progress(event)
            return
        # Each at once: one that takes its whole grace period holds back none of the others' lines.
        progress.clear()
        told.add(event["pod"])
        say(f"pod/{event['pod'].partition('/')[2]} down")

    for one in which:
        try:
            result = requests.down(
                settings.session(),
                one,
                grace_period=grace_period,
                force=force,
                missing_ok=ignore_not_found or selected,
                wait=not no_wait,
                timeout=timeout,
                on_progress=look_on if output == "text" else None,
            )
        except NotFoundError as error:
            # A bare word is a pod's name: names and directories look alike.
            here = [name for name in names if os.path.isdir(name)]
            if here and "names" in one:
                error.resolution = (
                    f"{here[0]} is a directory here: nsrun pod down {here[0]}/ means the manifests in it."
                )
            raise
        finally:
            progress.clear()
        gone += result.get("pods") or []
    if output in ("json", "yaml"):
        data({"pods": gone}, output)
    elif output == "name":
        for pod in gone:
            say(f"pod/{pod['name']}")
    else:
        for pod in gone:
            if f"{pod['namespace']}/{pod['name']}" not in told:
                say(f"pod/{pod['name']} {'is going down' if no_wait else 'down'}")
        if not gone and not told:
            note("No pods.")
    return 0
