"""`nsrun pod exec` and `nsrun pod attach`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from nsrun.cli import inside
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import Keys, complete_containers, container_option, namespace_option, pod_argument
from nsrun.cli.settings import Settings, note
from nsrun.client import execute, terminal
from nsrun.errors import EXIT_CODES, UsageError


class ExecCommand(HelpfulCommand):
    """Options may stand before and after POD; everything from the command's first word on is the command's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `--` before the command where it was left out."""
        return super().parse_args(ctx, split(self, ctx, args))


def split(command: click.Command, ctx: click.Context, args: Sequence[str]) -> list[str]:
    """The words with `--` between nsrun's and the command's.

    Raises:
        UsageError: `--` stands before the pod.
    """
    valued = {
        name
        for param in command.get_params(ctx)
        if isinstance(param, click.Option) and not param.is_flag
        for name in param.opts
    }
    positional = 0
    position = 0
    while position < len(args):
        word = args[position]
        if word == "--":
            if not positional and "--help" not in args[:position]:
                raise UsageError(
                    "the pod stands before --",
                    details="What follows -- is the command that is run in it.",
                    resolution=f"nsrun pod {ctx.info_name} POD -- {' '.join(args[position + 1 :]) or 'sh'}",
                )
            return list(args)
        if word.startswith("-") and word != "-":
            clustered = not word.startswith("--") and len(word) > 2
            position += 2 if takes_next(word, valued, clustered=clustered) else 1
            continue
        positional += 1
        if positional == 2:
            return [*args[:position], "--", *args[position:]]
        position += 1
    return list(args)


def takes_next(word: str, valued: set[str], *, clustered: bool) -> bool:
    """Whether the word after this option is its value: `-c`, `--container`, and `-itc`."""
    if not clustered:
        return word in valued
    # In -itc the c takes the next word; in -capp it has its value already.
    first = next((i for i, letter in enumerate(word[1:], 1) if f"-{letter}" in valued), None)
    return first == len(word) - 1


@click.command(
    cls=ExecCommand,
    help="""Run a command in a container and end with its exit code.

    No shell reads the command. 128+n when signal n ended it, 127 when it is not there, 126 when it cannot be executed.""",
    examples="""
    nsrun pod exec web -- cat /etc/hostname
    nsrun pod exec -it web -- sh
    nsrun pod exec web -c app -- sh -c 'echo $HOSTNAME'
    tar c . | nsrun pod exec -i web -- tar x -C /srv
    """,
)
@pod_argument
@click.argument("command", metavar="COMMAND [ARG]...", nargs=-1, type=click.UNPROCESSED)
@namespace_option
@container_option
@click.option("-i", "--stdin", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-e", "--env", metavar="NAME=VALUE", multiple=True, help="Set a variable; may be repeated.")
@click.option("-w", "--workdir", metavar="DIR", help="Directory in the container.")
@click.option("-u", "--user", metavar="USER", help="uid, uid:gid or a name of the image.")
@click.pass_obj
def exec_(
    settings: Settings,
    /,
    pod: str,
    command: tuple[str, ...],
    namespace: str | None,
    container: str | None,
    stdin: bool,
    tty: bool,
    env: tuple[str, ...],
    workdir: str | None,
    user: str | None,
) -> int:
    """`nsrun pod exec`."""
    return inside.run_command(
        settings,
        pod,
        command,
        namespace=namespace,
        container=container,
        stdin=stdin,
        tty=tty,
        env=env,
        workdir=workdir,
        user=user,
    )


@click.command(
    cls=HelpfulCommand,
    help="""Connect to the output, and with -i the input, of a container's root process.

    Ctrl-C ends the connection, not the container. With a terminal (-it, and tty: true in the manifest) every key goes to the
    container; Ctrl-P Ctrl-Q, or what --detach-keys says, ends the connection. When the container ends, its exit code is the
    command's.""",
    examples="""
    nsrun pod attach web
    nsrun pod attach -it console -c shell
    nsrun pod attach -it console --detach-keys ctrl-a,d
    """,
)
@pod_argument
@namespace_option
@click.option("-c", "--container", metavar="NAME", help="Container of the pod.", shell_complete=complete_containers)
@click.option("-i", "--stdin", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Use our terminal as the container's.")
@click.option(
    "--detach-keys",
    type=Keys(),
    metavar="KEYS",
    default="ctrl-p,ctrl-q",
    help="Pressed one after the other they end the connection; '' for none. [default: ctrl-p,ctrl-q]",
)
@click.pass_obj
def attach(
    settings: Settings,
    /,
    pod: str,
    namespace: str | None,
    container: str | None,
    stdin: bool,
    tty: bool,
    detach_keys: bytes,
) -> int:
    """`nsrun pod attach`."""
    found = settings.session().request("pod.get", {"name": pod, "namespace": namespace}).result["pod"]
    if container is None:
        from nsrun.cli.read_logs import default_query, queries_of_pod

        container = default_query(found, queries_of_pod(found)).container
    return connect(settings, found, str(container), stdin=stdin, tty=tty, keys=detach_keys)


def connect(
    settings: Settings,
    found: dict[str, Any],
    container: str,
    *,
    stdin: bool,
    tty: bool,
    keys: bytes = execute.DETACH_KEYS,
) -> int:
    """Connect to a container of a pod as it was seen; the container's exit code, 0 when detached by keys.

    Raises:
        ConflictError: it does not run (any more).
    """
    session = settings.session()
    pod, namespace = found["metadata"]["name"], found["metadata"].get("namespace")
    before = container_status(found, container)
    output, theirs = os.pipe2(os.O_CLOEXEC)
    theirs_input = -1
    try:
        try:
            answer, fds = session.request(
                "pod.attach",
                {"name": pod, "namespace": namespace, "container": container, "stdin": stdin},
                fds=[theirs],
            )
        finally:
            os.close(theirs)
        theirs_input = fds[0] if fds else -1
        detached = not join(output, theirs_input, tty=tty and bool(answer.get("tty")), stdin=stdin, keys=keys)
    finally:
        os.close(output)
        if theirs_input >= 0:
            with contextlib.suppress(OSError):
                os.close(theirs_input)
    if detached:
        note("")
        return 0
    return ending(settings, pod, namespace, container, before)


def join(output: int, given: int, *, tty: bool, stdin: bool, keys: bytes) -> bool:
    """Move the streams until the output ends; False: detached by keys."""
    raw = tty and given >= 0 and stdin and os.isatty(0)
    source = None
    if stdin and given >= 0:
        os.set_blocking(given, False)
        source = execute.Source(0, keys=keys if raw else b"")
    with contextlib.ExitStack() as stack:
        if raw:
            stack.enter_context(terminal.raw(0))
        if tty and given >= 0 and os.isatty(1):
            stack.enter_context(terminal.following_size(1, lambda high, wide: terminal.resize(given, high, wide)))
        sys.stdout.flush()
        return execute.copy_attached(output, given if stdin else -1, execute.Through(1), source)


def container_status(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """A container's status of the API; empty when it has none."""
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(key) or []:
            if one["name"] == container:
                return dict(one)
    return {}


def ending(settings: Settings, pod: str, namespace: str | None, container: str, before: dict[str, Any]) -> int:
    """The exit code of the instance whose output has just ended; waits for its end, which comes a moment later."""
    instance = before.get("containerID")
    for change in settings.client().watch(namespace or "default", pod):
        if change.object["metadata"]["name"] != pod:
            continue
        now = container_status(change.object, container)
        for state in (now.get("state") or {}, now.get("lastState") or {}):
            ended = state.get("terminated")
            if ended and ended.get("containerID") in (None, instance):
                return int(ended.get("exitCode", EXIT_CODES["internal"]))
        if change.type == "DELETED" or now.get("containerID") != instance:
            return 0
    return 0
