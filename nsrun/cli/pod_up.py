"""`nsrun pod up` and `nsrun pod down`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import clean, data
from nsrun.cli.params import DURATION, complete_pods, namespace_option, output_option
from nsrun.cli.settings import Settings, coloured, note, paint, say
from nsrun.cli.show import bare
from nsrun.client import library, manifests
from nsrun.errors import EXIT_CODES, UsageError

UP_TIMEOUT_S = 300.0


class Progress:
    """What happens while waiting: one line for each pod, rewritten on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._live = coloured(sys.stderr) or (sys.stderr.isatty() and not sys.stderr.closed)
        self._lines: dict[str, str] = {}
        self._painted = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event of the server's."""
        pod = clean(str(event.get("pod", ""))).removeprefix("default/")
        text = clean(str(event.get("text", "")))
        if event.get("kind") == "warning":
            self.clear()
            note(paint("Warning:", "yellow", sys.stderr) + f" pod/{pod}: {text}")
        elif not self._live:
            note(f"pod/{pod}: {text}")
        else:
            self._lines[pod] = text
            self._repaint()

    def _repaint(self) -> None:
        width = 79
        lines = [
            f"{paint('pod/' + pod, 'bold', sys.stderr)}: {text[: width - len(pod) - 6]}"
            for pod, text in self._lines.items()
        ]
        # Only the last lines: what has scrolled out of the window cannot be rewritten.
        lines = lines[-10:]
        back = f"\x1b[{self._painted}A\r\x1b[J" if self._painted else ""
        sys.stderr.write(back + "".join(line + "\n" for line in lines))
        sys.stderr.flush()
        self._painted = len(lines)

    def clear(self) -> None:
        """Take the live lines away."""
        if self._painted:
            sys.stderr.write(f"\x1b[{self._painted}A\r\x1b[J")
            sys.stderr.flush()
            self._painted = 0


def files_of(positional: Sequence[str], named: Sequence[str]) -> list[str]:
    """FILE… and -f together; at least one."""
    files = [*positional, *named]
    if not files:
        raise UsageError(
            "no manifest was given",
            details="A manifest is a file, a directory of .yaml, .yml and .json files, or - for standard input.",
            resolution="nsrun pod up pod.yaml",
        )
    return files


@click.command(
    cls=HelpfulCommand,
    help="""Bring up the pods of manifests, and wait until they run.

    A pod that is there already with the same spec is left as it is; one that differs is an error that says where,
    unless --replace is given.""",
    examples="""
    nsrun pod up pod.yaml                    # wait until its containers run
    nsrun pod up pod.yaml --wait=ready       # until it is ready
    nsrun pod up -f pods/ --no-wait          # all manifests of a directory
    kubectl get pod web -o yaml | nsrun pod up -
    nsrun pod up pod.yaml --attach           # follow its logs; Ctrl-C takes it down
    nsrun pod up pod.yaml --replace          # exchange the pod by the changed one
    """,
)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="As FILE; may be repeated.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("--replace", is_flag=True, help="Take a pod down and up again when its spec has changed.")
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
@output_option("text", "json", "yaml", "name")
@click.pass_obj
def up(
    settings: Settings,
    /,
    files: tuple[str, ...],
    filename: tuple[str, ...],
    recursive: bool,
    replace: bool,
    wait: library.Wait,
    no_wait: bool,
    timeout: float,
    attach: bool,
    ignore_unsupported: bool,
    output: str,
) -> int:
    """`nsrun pod up`."""
    documents = manifests.read(files_of(files, filename), recursive=recursive)
    waited: library.Wait = "none" if no_wait else wait
    progress = Progress()
    try:
        result = library.up(
            settings.session(),
            documents,
            replace=replace,
            ignore_unsupported=ignore_unsupported,
            wait=waited,
            timeout=timeout,
            on_progress=progress if output == "text" else None,
        )
    finally:
        progress.clear()
    pods = result["pods"]
    for pod in pods:
        for warning in pod.get("warnings") or []:
            note(paint("Warning:", "yellow", sys.stderr) + f" pod/{pod['name']}: {clean(warning)}")
    if output in ("json", "yaml"):
        data(result, output)
    else:
        for pod in pods:
            say(f"pod/{pod['name']}" if output == "name" else sentence(pod, waited))
    return follow(settings, pods) if attach else 0


def sentence(pod: dict[str, Any], waited: library.Wait) -> str:
    """`pod/web created and running`."""
    verdict = str(pod.get("verdict", "created"))
    text = f"pod/{pod['name']} {verdict}"
    changes = pod.get("changes") or []
    if verdict == "replaced" and changes:
        text += f" ({', '.join(map(clean, changes))})"
    if waited == "none":
        return text
    phase = str(pod.get("phase") or "")
    state = "ready" if waited == "ready" and phase == "Running" else phase.lower()
    return f"{text} and {state}" if state else text


def follow(settings: Settings, pods: Sequence[dict[str, Any]]) -> int:
    """Follow the logs of pods until they end; Ctrl-C takes the pods down."""
    from nsrun.cli import pod_logs

    session = settings.session()
    try:
        found = [
            session.request("pod.get", {"name": pod["name"], "namespace": pod["namespace"]}).result["pod"]
            for pod in pods
        ]
        queries = [query for pod in found for query in pod_logs.queries_of_pod(pod)]
        pod_logs.write(settings, queries, follow=True, timestamps=False, prefix=len(queries) > 1)
        for pod in found:
            metadata = pod["metadata"]
            last = session.request("pod.get", {"name": metadata["name"], "namespace": metadata["namespace"]}).result[
                "pod"
            ]
            if (last.get("status") or {}).get("phase") == "Failed":
                note(f"pod/{metadata['name']} failed")
                return EXIT_CODES["pod-failed"]
        return 0
    except KeyboardInterrupt:
        note(
            "Taking down "
            + ", ".join(f"pod/{pod['name']}" for pod in pods)
            + " (Ctrl-C once more leaves that to the server)"
        )
        for pod in pods:
            which = {"names": [pod["name"]], "namespace": pod["namespace"]}
            library.down(session, which, missing_ok=True)
        return 130


@click.command(
    cls=HelpfulCommand,
    help="""Take pods down, and wait until nothing of them is left.

    Pods are named, or meant by the manifests they came from.""",
    examples="""
    nsrun pod down web
    nsrun pod down pod.yaml
    nsrun pod down --all
    nsrun pod down web --grace-period=2s
    nsrun pod down web --force               # SIGKILL at once
    """,
)
@click.argument("pods", metavar="[POD|FILE]...", nargs=-1, shell_complete=complete_pods)
@click.option("-f", "--filename", metavar="FILE", multiple=True, type=click.Path(), help="A manifest of pods.")
@click.option("-R", "--recursive", is_flag=True, help="Read directories of directories, too.")
@click.option("--all", "everything", is_flag=True, help="All pods; of one namespace with -n.")
@namespace_option
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
    if everything and (files or names):
        raise UsageError("--all and names exclude one another")
    if not (everything or files or names):
        raise UsageError("no pod was named", resolution="nsrun pod ls lists them; --all means all of them.")
    which: list[dict[str, Any]] = []
    if everything:
        which.append({"all": True, "namespace": namespace})
    if names:
        which.append({"names": names, "namespace": namespace})
    if files:
        which.append({"documents": manifests.read(files, recursive=recursive), "namespace": namespace})
    gone: list[dict[str, Any]] = []
    progress = Progress()
    for one in which:
        try:
            result = library.down(
                settings.session(),
                one,
                grace_period=grace_period,
                force=force,
                missing_ok=ignore_not_found or everything,
                wait=not no_wait,
                timeout=timeout,
                on_progress=progress if output == "text" else None,
            )
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
            say(f"pod/{pod['name']} {'is going down' if no_wait else 'down'}")
        if not gone:
            note("No pods.")
    return 0
