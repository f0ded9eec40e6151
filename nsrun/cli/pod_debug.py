"""`nsrun pod debug`: an ephemeral container with tools, in a pod that is there.

Words, defaults and profiles are those of `kubectl debug` (kubectl pkg/cmd/debug/debug.go, profiles.go).
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

import click

from nsrun.cli.params import complete_containers, complete_images, namespace_option, pod_argument
from nsrun.cli.pod_exec import ExecCommand, connect, container_status
from nsrun.cli.settings import Settings, note
from nsrun.errors import ConflictError, NotFoundError, UsageError

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of generated names (apimachinery pkg/util/rand)."""

PROFILES: dict[str, dict[str, Any]] = {
    "general": {"capabilities": {"add": ["SYS_PTRACE"]}},
    "baseline": {},
    "restricted": {
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "netadmin": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    "sysadmin": {"privileged": True},
}
"""The securityContext of each."""


@click.command(
    cls=ExecCommand,
    name="debug",
    help="""Add a container with tools to a pod that is there: an ephemeral container.

    It shares the pod's network, and with --target sees the processes of that container; /proc/1/root is its file system then.
    It is never restarted, and goes with the pod.""",
    examples="""
    nsrun pod debug web -it --image busybox
    nsrun pod debug web -it --image busybox --target app -- sh
    nsrun pod debug web --image tools -c tracer --target app -- strace -p 1
    nsrun pod logs web -c tracer
    """,
)
@pod_argument
@click.argument("command", metavar="[-- COMMAND [ARG]...]", nargs=-1, type=click.UNPROCESSED)
@namespace_option
@click.option("--image", metavar="IMAGE", help="Image of the container.", shell_complete=complete_images)
@click.option("-c", "--container", metavar="NAME", help="Name of the container. [default: debugger- and five letters]")
@click.option(
    "--target", metavar="NAME", help="See the processes of this container.", shell_complete=complete_containers
)
@click.option("-i", "--stdin", is_flag=True, help="Keep its standard input open, and pass ours on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="Set a variable; may be repeated.")
@click.option(
    "--attach/--no-attach",
    default=None,
    help="Wait until it runs, then attach to it. [default: with -i]",
)
@click.option("--arguments-only", is_flag=True, help="What follows -- are arguments, not the command.")
@click.option(
    "--image-pull-policy",
    metavar="POLICY",
    type=click.Choice(["Always", "IfNotPresent", "Never"]),
    help="When to pull.",
)
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default="general",
    show_default=True,
    help="What it may do.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing beside.")
@click.pass_obj
def debug(
    settings: Settings,
    /,
    pod: str,
    command: tuple[str, ...],
    namespace: str | None,
    image: str | None,
    container: str | None,
    target: str | None,
    stdin: bool,
    tty: bool,
    env: tuple[str, ...],
    attach: bool | None,
    arguments_only: bool,
    image_pull_policy: str | None,
    profile: str,
    quiet: bool,
) -> int:
    """`nsrun pod debug`."""
    if not image:
        raise UsageError("--image is missing", resolution=f"nsrun pod debug {pod} -it --image IMAGE")
    if tty and not stdin:
        raise UsageError("-i/--stdin is required for containers with -t/--tty=true")
    session = settings.session()
    found = session.request("pod.get", {"name": pod, "namespace": namespace}).result["pod"]
    if target and not quiet:
        note(f'Targeting container "{target}".')
    wanted = definition(
        {
            "name": container or generated(found, quiet=quiet),
            "image": image,
            "imagePullPolicy": image_pull_policy,
            "args" if arguments_only else "command": list(command),
            "env": [variable(one) for one in env],
            "stdin": stdin,
            "tty": tty,
            "targetContainerName": target,
        },
        PROFILES[profile],
    )
    name = str(wanted["name"])
    if not quiet:
        warn_of_user(found, wanted)
    session.request("pod.debug", {"name": pod, "namespace": namespace, "container": wanted})
    if not (stdin if attach is None else attach):
        return 0
    return join(settings, pod, namespace, name, stdin=stdin, tty=tty, quiet=quiet)


def generated(pod: dict[str, Any], *, quiet: bool) -> str:
    """A name that no container of the pod has."""
    spec = pod["spec"]
    taken = {
        one["name"] for key in ("initContainers", "containers", "ephemeralContainers") for one in spec.get(key) or []
    }
    while True:
        name = "debugger-" + "".join(secrets.choice(SUFFIX_LETTERS) for _ in range(5))
        if name not in taken:
            if not quiet:
                note(f"Defaulting debug container name to {name}.")
            return name


def variable(text: str) -> dict[str, str]:
    """NAME=VALUE as an EnvVar."""
    name, equal, value = text.partition("=")
    if not equal:
        raise UsageError(f"--env {text} has no =", resolution=f"--env {text}=VALUE")
    return {"name": name, "value": value}


def definition(fields: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """An EphemeralContainer without what is empty."""
    fields = {**fields, "terminationMessagePolicy": "File", "securityContext": context}
    return {name: value for name, value in fields.items() if value not in (None, "", [], {}, False)}


def warn_of_user(pod: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Say that what a profile grants is lost on a pod whose processes are not root's."""
    context = wanted.get("securityContext") or {}
    granted = context.get("privileged") or (context.get("capabilities") or {}).get("add")
    if granted and (pod["spec"].get("securityContext") or {}).get("runAsUser"):
        note(
            "Warning: Non-root user is configured for the entire target Pod, and some capabilities granted by debug profile may not work."
        )


def join(
    settings: Settings, pod: str, namespace: str | None, container: str, *, stdin: bool, tty: bool, quiet: bool
) -> int:
    """Wait until the container runs, and attach to it; what one without input, or over by then, has written is printed."""
    seen = started(settings, pod, namespace, container, quiet=quiet)
    status = container_status(seen, container)
    # Without an input of ours the log tells all of it, from its first line on.
    if stdin and (status.get("state") or {}).get("terminated") is None:
        if not quiet and tty and sys.stdin.isatty():
            note("If you don't see a command prompt, try pressing enter.")
        try:
            code = connect(settings, seen, container, stdin=stdin, tty=tty)
        except ConflictError:
            # It has ended in between.
            return told(settings, pod, namespace, container)
        if not quiet and tty:
            again = f"nsrun pod attach {pod} -c {container} -i -t"
            note(
                f"Session ended, the ephemeral container will not be restarted but may be reattached using '{again}' if it is still running"
            )
        return code
    return told(settings, pod, namespace, container)


def started(settings: Settings, pod: str, namespace: str | None, container: str, *, quiet: bool) -> dict[str, Any]:
    """The pod as soon as the container runs, or is over; says what it waits for."""
    said = ""
    for change in settings.client().watch(namespace or "default", pod):
        if change.object["metadata"]["name"] != pod:
            continue
        state = container_status(change.object, container).get("state") or {}
        if state.get("running") or state.get("terminated"):
            return change.object
        message = (state.get("waiting") or {}).get("message") or ""
        if message and message != said and not quiet:
            note(f"Warning: container {container}: {message}")
            said = message
        if change.type == "DELETED":
            break
    raise NotFoundError(f'pod "{namespace or "default"}/{pod}" is gone; container "{container}" did not run')


def told(settings: Settings, pod: str, namespace: str | None, container: str) -> int:
    """Print what a container writes, until it is over; its exit code."""
    from nsrun.cli.read_logs import write
    from nsrun.client.logs import Query

    write(settings, [Query(pod, namespace, container)], follow=True, timestamps=False, prefix=False)
    found = settings.session().request("pod.get", {"name": pod, "namespace": namespace}).result["pod"]
    ended = (container_status(found, container).get("state") or {}).get("terminated") or {}
    return int(ended.get("exitCode", 0))
