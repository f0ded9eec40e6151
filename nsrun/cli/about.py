"""`nsrun doctor`, `version` and `completion`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from click.shell_completion import get_completion_class, shell_complete

from nsrun._version import __version__
from nsrun.cli.groups import HelpfulCommand
from nsrun.cli.output import clean, data
from nsrun.cli.params import output_option
from nsrun.cli.settings import Settings, paint, say
from nsrun.client import roots
from nsrun.client.wire import ConnectionLost, ServerAway, connect
from nsrun.errors import EXIT_CODES, InternalError, NsrunError, ServerError

COMPLETE_VARIABLE = "_NSRUN_COMPLETE"


@click.command(
    cls=HelpfulCommand,
    help="""Tell what this kernel, its cgroups and this user can and cannot do, with a hint for each no.

    Where the server runs it answers; else the checks are made here, also without root.""",
    examples="""
    nsrun doctor
    nsrun doctor -o json
    """,
)
@output_option("text", "json", "yaml")
@click.pass_obj
def doctor(settings: Settings, /, output: str) -> int:
    """`nsrun doctor`."""
    checks = examine(settings)
    wanting = [check for check in checks if not check["ok"]]
    failed = [check for check in wanting if not check.get("optional")]
    if output != "text":
        data({"checks": checks}, output)
    else:
        for check in checks:
            mark = paint("yes", "green") if check["ok"] else paint("no ", "yellow" if check.get("optional") else "red")
            say(f"{mark}  {check['name']}: {clean(str(check['text']))}")
            if not check["ok"] and check.get("hint"):
                say(f"       {clean(str(check['hint']))}")
        say("")
        say(_verdict(len(checks), len(failed), len(wanting) - len(failed)))
    return EXIT_CODES["unsupported"] if failed else 0


def _verdict(checks: int, missing: int, optional: int) -> str:
    if missing:
        return f"{missing} of {checks} things are missing."
    if optional:
        return f"Everything is there that every pod needs; {optional} of {checks} things that some ask for are missing."
    return "Everything is there."


def examine(settings: Settings) -> list[dict[str, Any]]:
    """The checks of the running server, else of a process made for them."""
    try:
        return list(settings.session(may_start=False).request("doctor", {}).result["checks"])
    except (ServerError, NsrunError) as error:
        if not isinstance(error, ServerError) and error.code != "permission":
            raise
    import subprocess

    command = [sys.executable, "-m", "nsrun.doctor", roots.find(settings.root).lib]
    done = subprocess.run(command, capture_output=True, check=False)
    try:
        return list(json.loads(done.stdout)["checks"])
    except (ValueError, KeyError) as error:
        raise InternalError(
            f"{' '.join(command)} ended with {done.returncode}",
            details=done.stderr.decode("utf-8", "replace")[-500:].strip(),
        ) from error


@click.command(
    cls=HelpfulCommand,
    help="Print the versions of the command and of the running server.",
    examples="""
    nsrun version
    nsrun --version                          # only the command's, at once
    """,
)
@output_option("text", "json", "yaml")
@click.pass_obj
def version(settings: Settings, /, output: str) -> int:
    """`nsrun version`."""
    found: dict[str, Any] = {"client": __version__, "server": None}
    try:
        connection = connect(roots.find(settings.root))
    except (ServerAway, ConnectionLost):
        text = "not running"
    except NsrunError as error:
        text = error.brief
    else:
        connection.close()
        found["server"] = text = connection.version
    if output == "text":
        say(f"nsrun {__version__}")
        say(f"server {text}")
    else:
        data(found, output)
    return 0


@click.command(
    cls=HelpfulCommand,
    help="Print the script that makes a shell complete nsrun's commands, options, pods and containers.",
    examples="""
    source <(nsrun completion bash)
    nsrun completion bash > /etc/bash_completion.d/nsrun
    nsrun completion zsh > "${fpath[1]}/_nsrun"
    nsrun completion fish > ~/.config/fish/completions/nsrun.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """`nsrun completion`."""
    from nsrun.cli.main import root_command

    kind = get_completion_class(shell)
    if kind is None:
        raise InternalError(f"click knows no completion for {shell}")
    say(kind(root_command, {}, "nsrun", COMPLETE_VARIABLE).source())
    return 0


def complete(instruction: str) -> int:
    """Answer a shell that completes."""
    from nsrun.cli.main import root_command

    return shell_complete(root_command, {}, "nsrun", COMPLETE_VARIABLE, instruction)
