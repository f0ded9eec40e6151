"""`nsrun pod wait`, `restart` and `kill`."""

from __future__ import annotations

import sys

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import DURATION, SIGNED_DURATION, complete_pods, namespace_option, pod_argument, selector_options
from nsrun.cli.settings import Settings, say
from nsrun.cli.show import bare
from nsrun.client import requests
from nsrun.errors import UsageError

WAIT_TIMEOUT_S = 30.0
WEEK_S = 168 * 3600.0


@click.command(
    cls=HelpfulCommand,
    help="Wait until pods meet a condition, in kubectl's words.",
    examples="""
    nsrun pod wait web --for=condition=Ready
    nsrun pod wait web db --for=condition=Ready=false
    nsrun pod wait --all --for=condition=Ready --timeout=2m
    nsrun pod wait -l app=web --for=condition=Ready
    nsrun pod wait job --for=phase=Succeeded --timeout=10m
    nsrun pod wait web --for=jsonpath='{.status.podIP}'
    nsrun pod wait web --for=jsonpath='{.status.containerStatuses[0].ready}'=true
    nsrun pod wait web --for=delete
    """,
)
@click.argument("names", metavar="[POD]...", nargs=-1, shell_complete=complete_pods)
@namespace_option
@click.option(
    "--for",
    "condition",
    metavar="CONDITION",
    default="condition=Ready",
    show_default=True,
    help="condition=NAME[=VALUE], phase=PHASE, jsonpath=PATH[=VALUE], create, or delete.",
)
@click.option("--all", "every", is_flag=True, help="All pods of the namespace.")
@selector_options
@click.option(
    "--timeout",
    type=SIGNED_DURATION,
    metavar="DURATION",
    default=WAIT_TIMEOUT_S,
    help="How long; 0 looks once, a negative one is a week. [default: 30s]",
)
@click.pass_obj
def wait(
    settings: Settings,
    /,
    names: tuple[str, ...],
    namespace: str | None,
    condition: str,
    every: bool,
    labels: str | None,
    fields: str | None,
    timeout: float,
) -> int:
    """`nsrun pod wait`."""
    if (every or bool(labels or fields)) == bool(names):
        raise UsageError("name pods to wait for, or say --all or -l", resolution="nsrun pod wait --help")
    kind, _, rest = condition.partition("=")
    if kind.lower() not in (("condition", "phase", "jsonpath") if rest else ("create", "delete")):
        raise UsageError(
            f"--for={condition} is no condition",
            details="condition=Ready, phase=Succeeded, jsonpath={.status.podIP}=10.88.0.5, create, or delete.",
            resolution="nsrun pod wait --help",
        )
    requests.wait(
        settings.session(),
        [bare(name) for name in names],
        namespace,
        condition,
        WEEK_S if timeout < 0 else timeout,
        every=every,
        labels=labels,
        fields=fields,
        on_met=say_met,
    )
    return 0


def say_met(name: str) -> None:
    """Tell of a pod at once: others may take their time."""
    say(f"pod/{name} condition met")
    sys.stdout.flush()


@click.command(
    cls=HelpfulCommand,
    help="Stop containers of a pod and start them again in the same sandbox: its address stays.",
    examples="""
    nsrun pod restart web
    nsrun pod restart web -c app
    """,
)
@pod_argument
@namespace_option
@click.option(
    "-c", "--container", "containers", metavar="NAME", multiple=True, help="Only this container; may be repeated."
)
@click.option("--grace-period", type=DURATION, metavar="DURATION", help="Time between the stop signal and SIGKILL.")
@click.pass_obj
def restart(
    settings: Settings, /, pod: str, namespace: str | None, containers: tuple[str, ...], grace_period: float | None
) -> int:
    """`nsrun pod restart`."""
    requests.restart(settings.session(), pod, namespace, containers, grace_period)
    say(f"pod/{pod} restarted")
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Send a signal to the root process of containers. What follows is up to the restart policy.",
    examples="""
    nsrun pod kill web                       # SIGKILL to all its containers
    nsrun pod kill web -c app -s HUP
    """,
)
@pod_argument
@namespace_option
@click.option(
    "-c", "--container", "containers", metavar="NAME", multiple=True, help="Only this container; may be repeated."
)
@click.option(
    "-s", "--signal", "name", metavar="SIGNAL", default="SIGKILL", show_default=True, help="HUP, SIGHUP or 1."
)
@click.pass_obj
def kill(settings: Settings, /, pod: str, namespace: str | None, containers: tuple[str, ...], name: str) -> int:
    """`nsrun pod kill`."""
    requests.kill(settings.session(), pod, namespace, containers, known_signal(name))
    say(f"pod/{pod} got {known_signal(name)}")
    return 0


def known_signal(name: str) -> str:
    """SIGHUP for HUP, hup, SIGHUP and 1; SIGRTMIN+3 for rtmin+3 and 37.

    Raises:
        UsageError: there is no such signal.
    """
    import re
    import signal

    text = name.upper()
    first, last = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
    found = re.fullmatch(r"(?:SIG)?RT(MIN|MAX)([+-][0-9]{1,2})|([0-9]{1,2})", text)
    if found is not None:
        number = int(found[3]) if found[3] else (first if found[1] == "MIN" else last) + int(found[2])
        if first < number < last:
            return f"SIGRTMIN+{number - first}"
        text = str(number) if first <= number <= last or found[3] else text
    try:
        if text.isdecimal():
            return signal.Signals(int(text)).name
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"].name
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"there is no signal {name!r}", resolution="kill -l lists them; HUP, SIGHUP and 1 are the same."
        ) from error
