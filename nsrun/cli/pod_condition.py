"""`nsrun pod condition`."""

from __future__ import annotations

import click

from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.params import namespace_option, pod_argument
from nsrun.cli.settings import Settings, say
from nsrun.client import requests
from nsrun.errors import UsageError


@click.command(
    cls=HelpfulCommand,
    help="""Set conditions of a pod's status that somebody else than nsrun decides about.

    A pod with such a condition in spec.readinessGates is ready only while it is True. What kubectl does with
    `kubectl patch --subresource=status`.""",
    examples="""
    nsrun pod condition web example.com/warm=True
    nsrun pod condition web example.com/warm=False --reason=Draining --message='requests are sent elsewhere'
    nsrun pod condition web example.com/warm-            # take it away
    """,
)
@pod_argument
@click.argument("conditions", metavar="TYPE=STATUS...", nargs=-1, required=True)
@namespace_option
@click.option("--reason", metavar="WORD", help="Why, in a word.")
@click.option("--message", metavar="TEXT", help="Why, in a sentence.")
@click.pass_obj
def condition(
    settings: Settings,
    /,
    pod: str,
    conditions: tuple[str, ...],
    namespace: str | None,
    reason: str | None,
    message: str | None,
) -> int:
    """`nsrun pod condition`."""
    wanted = dict(map(parsed, conditions))
    requests.condition(settings.session(), pod, namespace, wanted, reason, message)
    for type_, status in wanted.items():
        say(f"pod/{pod} condition {type_} {'removed' if status is None else f'is {status}'}")
    return 0


def parsed(word: str) -> tuple[str, str | None]:
    """("a/b", "True") of `a/b=True` and of `a/b=true`, ("a/b", None) of `a/b-`.

    Raises:
        UsageError: it is neither.
    """
    type_, equals, status = word.partition("=")
    if equals and type_:
        proper = status.capitalize()
        return type_, proper if proper in ("True", "False", "Unknown") else status
    if not equals and len(word) > 1 and word.endswith("-"):
        return word[:-1], None
    raise UsageError(
        f"{word!r} sets no condition",
        resolution="TYPE=True, TYPE=False or TYPE=Unknown sets one, TYPE- takes it away: nsrun pod condition --help",
    )
