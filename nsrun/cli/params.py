"""Options that several commands have, their types, and the completion of names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from nsrun.cli.groups import set_output
from nsrun.cli.output import JSONPATH
from nsrun.cli.settings import Settings
from nsrun.cli.show import bare

F = TypeVar("F", bound=Callable[..., Any])

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """`30`, `30s`, `1m30s`, `500ms`, `2h`, `1d`: seconds as float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds of a duration."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if text and not _PART.sub("", text):
            return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
        raise click.BadParameter(f"{text!r} is no duration; write 30s, 1m30s, 500ms or 2h", ctx, param)


class SignedDuration(Duration):
    """As Duration, and the same with a minus sign."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds of a duration."""
        if isinstance(value, str) and value.strip().startswith("-"):
            return -super().convert(value.strip()[1:], param, ctx)
        return super().convert(value, param, ctx)


DURATION = Duration()
SIGNED_DURATION = SignedDuration()


def namespace_option(command: F) -> F:
    """-n, --namespace."""
    return click.option("-n", "--namespace", metavar="NAME", help="Namespace of the pod. [default: default]")(command)


def container_option(command: F) -> F:
    """-c, --container."""
    return click.option(
        "-c", "--container", metavar="NAME", help="Container of the pod.", shell_complete=complete_containers
    )(command)


def selector_options(command: F) -> F:
    """-l, --selector and --field-selector."""
    fields = click.option(
        "--field-selector", "fields", metavar="QUERY", help="Pods with these fields: status.phase=Running."
    )
    labels = click.option(
        "-l", "--selector", "labels", metavar="QUERY", help="Pods with these labels: app=web,tier!=db."
    )
    return labels(fields(command))


class Keys(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """`ctrl-p,ctrl-q`, `ctrl-a,d`: the bytes that a terminal sends for these keys, pressed one after the other."""

    name = "keys"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The bytes."""
        if isinstance(value, bytes):
            return value
        keys = b""
        for word in str(value).split(",") if value else ():
            found = re.fullmatch(r"ctrl-([a-z@\[\\\]^_])|([!-~])", word)
            if not found:
                raise click.BadParameter(
                    f"{word!r} is no key; write single characters and ctrl-a to ctrl-z, ctrl-@, ctrl-[, ctrl-\\, ctrl-], "
                    "ctrl-^ and ctrl-_, with commas between them",
                    ctx,
                    param,
                )
            keys += bytes([ord(found[1].upper()) & 0x1F]) if found[1] else found[2].encode()
        return keys


class OutputFormat(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """One of some words, or a template: `jsonpath={.status.podIP}`."""

    name = "format"

    def __init__(self, formats: tuple[str, ...]) -> None:
        self._words = click.Choice(list(formats))

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """What --help shows."""
        return f"[{'|'.join(self._words.choices)}|jsonpath=TEMPLATE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, or the template with its `jsonpath=`."""
        if isinstance(value, str) and value.startswith(JSONPATH):
            return value
        return str(self._words.convert(value, param, ctx))


def output_option(*formats: str, templates: bool = False) -> Callable[[F], F]:
    """-o, --output with the command's formats, of which the first is the default; and templates."""

    def add(command: F) -> F:
        return click.option(
            "-o",
            "--output",
            type=OutputFormat(formats) if templates else click.Choice(list(formats)),
            callback=chosen_output(formats),
            help=f"How to print. [default: {formats[0]}]",
        )(command)

    return add


def chosen_output(formats: tuple[str, ...]) -> Callable[[click.Context, click.Parameter, str | None], str]:
    """The command's own --output, else the global one where the command knows it, else the first."""

    def choose(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
        set_output(ctx, param, value)
        if value is not None:
            return value
        wanted = ctx.ensure_object(Settings).output
        return wanted if wanted in formats else formats[0]

    return choose


def pod_argument(command: F) -> F:
    """POD: a name, also as pod/NAME."""
    return click.argument("pod", metavar="POD", callback=plain_name, shell_complete=complete_pods)(command)


def plain_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """The callback of a pod's name."""
    return bare(value)


def complete_pods(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the pods there are; no server is started for it."""
    return [
        CompletionItem(pod["metadata"]["name"])
        for pod in known_pods(ctx)
        if pod["metadata"]["name"].startswith(incomplete)
    ]


def complete_containers(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the containers of the pod that was typed."""
    wanted = ctx.params.get("pod")
    names = [
        container["name"]
        for pod in known_pods(ctx)
        if wanted in (None, pod["metadata"]["name"])
        for key in ("initContainers", "containers", "ephemeralContainers")
        for container in pod["spec"].get(key) or []
    ]
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def complete_images(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the images there are."""
    found = ask_quietly(ctx, "image.list").get("images") or []
    return [CompletionItem(image["name"]) for image in found if image["name"].startswith(incomplete)]


def known_pods(ctx: click.Context) -> list[dict[str, Any]]:
    """The pods of a running server; none when there is none."""
    pods: list[dict[str, Any]] = ask_quietly(ctx, "pod.list").get("pods") or []
    return pods


def ask_quietly(ctx: click.Context, method: str) -> dict[str, Any]:
    """An answer for completion: a shell that completes wants no server started and no error."""
    from nsrun.errors import NsrunError

    settings = ctx.ensure_object(Settings)
    parent = ctx
    while parent is not None:
        settings.root = settings.root or parent.params.get("root")
        if parent.parent is None:
            break
        parent = parent.parent
    try:
        return settings.session(may_start=False).request(method, {}, repeat=False).result
    except NsrunError:
        return {}
