"""`nsrun pod port-forward`."""

from __future__ import annotations

import contextlib
import resource
import sys

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import DURATION, namespace_option, pod_argument
from nsrun.cli.settings import Settings, note, say
from nsrun.client import forward
from nsrun.client import ports as words
from nsrun.client.requests import wait
from nsrun.errors import ConflictError, NsrunError

RUNNING_TIMEOUT_S = 60.0


@click.command(
    cls=HelpfulCommand,
    help="""Forward ports of this machine to a pod, until Ctrl-C.

    Connections end at the pod's own loopback: also what listens on 127.0.0.1 alone is reached. They go on while
    servers die, new ones find the pod again after its sandbox was made anew.""",
    examples="""
    nsrun pod port-forward web 8080:80
    nsrun pod port-forward web 80 443        # the same ports on both sides
    nsrun pod port-forward web :80           # a free port of this machine
    nsrun pod port-forward web 8080:http     # a port of the manifest, by its name
    nsrun pod port-forward dns 5353:53/udp
    nsrun pod port-forward --address 0.0.0.0 web 8080:80
    """,
)
@pod_argument
@click.argument("ports", metavar="[LOCAL:]REMOTE[/udp]...", nargs=-1, required=True)
@namespace_option
@click.option(
    "--address",
    "addresses",
    metavar="ADDRESS",
    multiple=True,
    default=("localhost",),
    help="Of this machine, to listen on; several with commas. [default: localhost]",
)
@click.option(
    "--pod-running-timeout",
    type=DURATION,
    metavar="DURATION",
    default=RUNNING_TIMEOUT_S,
    help="How long to wait for a pod that does not run yet. [default: 1m]",
)
@click.pass_obj
def port_forward(
    settings: Settings,
    /,
    pod: str,
    ports: tuple[str, ...],
    namespace: str | None,
    addresses: tuple[str, ...],
    pod_running_timeout: float,
) -> int:
    """`nsrun pod port-forward`."""
    session = settings.session()
    where = words.addresses(addresses)
    found = session.request("pod.get", {"name": pod, "namespace": namespace}).result["pod"]
    wanted = [words.parse(text, found) for text in ports]
    phase = found["status"].get("phase")
    if phase in ("Succeeded", "Failed"):
        raise ConflictError(f"unable to forward port because pod is not running. Current status={phase}")
    if phase == "Pending":
        wait(session, [pod], namespace, "phase=Running", pod_running_timeout)
    many_descriptors()

    def told(listening: forward.Listening) -> None:
        say(f"Handling connection for {listening.local}")
        sys.stdout.flush()

    def failed(listening: forward.Listening, error: NsrunError) -> None:
        note(f"an error occurred forwarding {listening.local} -> {listening.remote}: {error.brief}")

    complained = False

    def full(connections: int) -> None:
        nonlocal complained
        if not complained:
            complained = True
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            note(
                f"warning: {connections} connections are as many as {limit} open files let us carry (ulimit -Hn); more wait"
            )

    carrier = forward.Forwarder(
        session, pod, namespace, wanted, where, on_connection=told, on_failure=failed, on_full=full
    )
    try:
        for one in carrier.listening:
            suffix = "" if one.protocol == "tcp" else f"/{one.protocol}"
            say(f"Forwarding from {one.written}{suffix} -> {one.remote}{suffix}")
        sys.stdout.flush()
        carrier.run()
    finally:
        carrier.close()
    return 0


def many_descriptors() -> None:
    """As many open files as the machine lets us have: a connection takes two, and two more for each way while it is busy."""
    with contextlib.suppress(OSError, ValueError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
