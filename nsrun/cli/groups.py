"""Commands that help: lazily imported groups, examples under every --help, and "did you mean"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from nsrun.cli.settings import Settings


class Entry(NamedTuple):
    """A command that is not imported yet.

    Attributes:
        module: where it lives.
        attribute: its name there.
        summary: its line in the group's help.
        section: the heading it stands under.
    """

    module: str
    attribute: str
    summary: str
    section: str = "Commands"


def set_root(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Note --root, wherever it stands."""
    if value is not None:
        ctx.ensure_object(Settings).root = value


def set_output(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Note --output, wherever it stands."""
    settings = ctx.ensure_object(Settings)
    if value is not None:
        settings.output = value
    return value


class HelpfulCommand(click.Command):
    """A command with examples, that takes the global options in any place.

    Args:
        examples: lines for the end of --help; `#` begins a comment.
    """

    def __init__(
        self,
        *args: Any,
        examples: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's parameters and, hidden, the global ones."""
        return with_global(super().get_params(ctx))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)


def with_global(params: list[click.Parameter]) -> list[click.Parameter]:
    """The parameters and, hidden, the global options that are not among them."""
    names = {param.name for param in params}
    if "root" not in names:
        params.append(click.Option(["--root"], hidden=True, expose_value=False, callback=set_root))
    if "output" not in names:
        choice = click.Choice(["text", "json"])
        params.append(
            click.Option(["--output", "-o"], type=choice, hidden=True, expose_value=False, callback=set_output)
        )
    return params


def write_examples(examples: str, formatter: click.HelpFormatter) -> None:
    """The examples as they are written: commands are not wrapped."""
    lines = examples.strip().splitlines()
    if lines:
        formatter.write("\nExamples:\n")
        for line in lines:
            formatter.write(f"  {line.strip()}\n" if line.strip() else "\n")


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used.

    Args:
        entries: the commands, in the order of the help.
        synonyms: words of other tools, and what they are called here.
        examples: lines for the end of --help.
        below: words of the groups below, for "did you mean": word -> group.
    """

    def __init__(
        self,
        *args: Any,
        entries: Mapping[str, Entry],
        synonyms: Mapping[str, str] | None = None,
        examples: str = "",
        below: Callable[[], Mapping[str, str]] = dict,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries
        self.synonyms = synonyms or {}
        self.examples = examples
        self.below = below

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The group's parameters and, hidden, the global ones."""
        return with_global(super().get_params(ctx))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, for help and completion."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        from importlib import import_module

        command: click.Command = getattr(import_module(entry.module), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The commands with their summaries, none of them imported."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.entries.items():
            sections.setdefault(entry.section, []).append((name, entry.summary))
        width = max(len(name) for name in self.entries)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word, or say what was probably meant."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-") and not ctx.resilient_parsing:
            raise UnknownCommandError(word, suggestions(self, ctx.command_path, args), ctx)
        return super().resolve_command(ctx, args)


class UnknownCommandError(click.UsageError):
    """A word that is no command, with what was probably meant."""

    def __init__(self, word: str, meant: Sequence[str], ctx: click.Context) -> None:
        super().__init__(f"{word!r} is not a command of {ctx.command_path!r}", ctx)
        self.meant = meant


def suggestions(group: LazyGroup, path: str, args: Sequence[str]) -> list[str]:
    """Whole commands that the user may have meant, best first."""
    word, rest = args[0], args[1:]
    found: list[str] = []
    following = next((other for other in rest if not other.startswith("-")), None)
    if word in group.synonyms:
        found.append(f"{path} {group.synonyms[word]}")
    below = group.below()
    if word in below:
        found.append(f"{path} {below[word]} {word}")
    if following in group.entries and word not in below and word not in group.synonyms:
        # `nsrun pod web logs`: the name stands before the verb.
        others = [other for other in rest if other != following]
        found.append(" ".join([path, str(following), word, *others]))
    near = closest(word, [*group.entries, *below])
    found += [f"{path} {below[close]} {close}" if close in below else f"{path} {close}" for close in near]
    return list(dict.fromkeys(found))[:3]


def closest(word: str, known: Sequence[str]) -> list[str]:
    """Up to three known words that look like `word`."""
    from difflib import get_close_matches

    return get_close_matches(word.lower(), known, n=3, cutoff=0.6)
