"""The common forms of `pod up`, `pod ls`, `pod exec`, `pod logs` and `image pull`, recognised without click.

Importing click and declaring the commands costs twice as much as these commands do. What is not recognised here, and everything
that is wrong, --help too, goes to the declared commands; a test compares both readings of the same words.
"""

from __future__ import annotations

from collections.abc import Sequence

from nsrun.cli.settings import Settings

Options = dict[str, str | bool | list[str]]

GLOBAL = {"--root": "root"}
LS_FLAGS = {
    "-A": "all_namespaces",
    "--all-namespaces": "all_namespaces",
    "-q": "quiet",
    "--quiet": "quiet",
    "--show-labels": "show_labels",
}
LS_VALUES = {
    "-n": "namespace",
    "--namespace": "namespace",
    "-l": "labels",
    "--selector": "labels",
    "--field-selector": "fields",
    "-o": "output",
    "--output": "output",
    **GLOBAL,
}
UP_FLAGS = {
    "-R": "recursive",
    "--recursive": "recursive",
    "--replace": "replace",
    "--no-wait": "no_wait",
    "--ignore-unsupported": "ignore_unsupported",
}
UP_VALUES = {
    "-f": "filename",
    "--filename": "filename",
    "-n": "namespace",
    "--namespace": "namespace",
    "-o": "output",
    "--output": "output",
    **GLOBAL,
}
EXEC_FLAGS = {"-i": "stdin", "--stdin": "stdin", "-t": "tty", "--tty": "tty"}
EXEC_VALUES = {
    "-n": "namespace",
    "--namespace": "namespace",
    "-c": "container",
    "--container": "container",
    "-w": "workdir",
    "--workdir": "workdir",
    "-u": "user",
    "--user": "user",
    "-e": "env",
    "--env": "env",
    **GLOBAL,
}
LOGS_FLAGS = {
    "--all-containers": "all_containers",
    "-f": "follow",
    "--follow": "follow",
    "-t": "timestamps",
    "--timestamps": "timestamps",
    "-p": "previous",
    "--previous": "previous",
    "--prefix": "prefix",
}
LOGS_VALUES = {
    "-n": "namespace",
    "--namespace": "namespace",
    "-c": "container",
    "--container": "container",
    "-l": "labels",
    "--selector": "labels",
    "--field-selector": "fields",
    "--tail": "tail",
    "--since-time": "since_time",
    **GLOBAL,
}
PULL_FLAGS = {"-q": "quiet", "--quiet": "quiet"}
PULL_VALUES = {"-o": "output", "--output": "output", **GLOBAL}
REPEATED = ("env", "filename")
FORMATS = {
    "ls": ("table", "wide", "name", "json", "yaml"),
    "up": ("text", "json", "yaml", "name"),
    "pull": ("text", "name", "json", "yaml"),
}
"""What `--output` may be, the default first."""


class NotQuickError(Exception):
    """These words are for click."""


def recognise(argv: Sequence[str]) -> tuple[str, list[str], Options] | None:
    """("up", "ls", "exec", "logs" or "pull", positional words, options) of a command line; None: ask click."""
    options: Options = {}
    words = list(argv)
    try:
        while words[:1] == ["--root"] and len(words) > 1:
            options["root"] = words[1]
            del words[:2]
        if words[:2] == ["pod", "ls"]:
            names, found = read(words[2:], LS_FLAGS, LS_VALUES, command_after=None)
        elif words[:2] == ["pod", "up"]:
            names, found = read(words[2:], UP_FLAGS, UP_VALUES, command_after=None)
        elif words[:2] == ["pod", "logs"]:
            names, found = read(words[2:], LOGS_FLAGS, LOGS_VALUES, command_after=None)
        elif words[:2] == ["image", "pull"]:
            names, found = read(words[2:], PULL_FLAGS, PULL_VALUES, command_after=None)
            if not names:
                return None
        elif words[:2] == ["pod", "exec"]:
            names, found = read(words[2:], EXEC_FLAGS, EXEC_VALUES, command_after=1)
            if len(names) < 2:
                return None
        else:
            return None
    except NotQuickError:
        return None
    return words[1], names, {**options, **found}


def read(
    words: Sequence[str], flags: dict[str, str], values: dict[str, str], *, command_after: int | None
) -> tuple[list[str], Options]:
    """Positional words and options; after `command_after` positional words, or --, nothing is an option any more.

    Raises:
        NotQuickError: a word that is not known here.
    """
    names: list[str] = []
    options: Options = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            if command_after is None or len(names) != command_after:
                raise NotQuickError
            return names + list(words[position:]), options
        if not word.startswith("-") or word == "-":
            if command_after is not None and len(names) == command_after:
                return names + list(words[position - 1 :]), options
            names.append(word)
            continue
        name, equals, given = word.partition("=")
        if word in flags:
            options[flags[word]] = True
        elif word in values and position < len(words):
            put(options, values[word], words[position])
            position += 1
        elif equals and name.startswith("--") and name in values:
            put(options, values[name], given)
        elif not word.startswith("--") and all(f"-{letter}" in flags for letter in word[1:]):
            options.update({flags[f"-{letter}"]: True for letter in word[1:]})
        else:
            raise NotQuickError
    return names, options


def put(options: Options, name: str, value: str) -> None:
    """Note an option's value; the last one counts but for those that may be repeated."""
    if name in REPEATED:
        before = options.get(name)
        options[name] = [*before, value] if isinstance(before, list) else [value]
    else:
        options[name] = value


def run(argv: Sequence[str]) -> int | None:
    """Run a command line that is recognised and give its exit status; None: ask click."""
    found = recognise(argv)
    if found is None:
        return None
    command, words, options = found
    from nsrun.cli.failure import guarded

    settings = Settings()
    root = options.pop("root", None)
    settings.root = str(root) if root is not None else None
    if command in FORMATS:
        output = str(options.pop("output", FORMATS[command][0]))
        if output not in FORMATS[command]:
            return None
        settings.output = output
        options["output"] = output
    if command == "ls":
        from nsrun.cli.show import list_pods

        return guarded(lambda: list_pods(settings, words, **options), settings)  # type: ignore[arg-type] # as read
    if command == "up":
        from nsrun.cli.bring_up import bring_up

        return guarded(lambda: bring_up(settings, words, **options), settings)  # type: ignore[arg-type] # as read
    if command == "pull":
        from nsrun.cli.bring_images import pull_images

        return guarded(lambda: pull_images(settings, words, **options), settings)  # type: ignore[arg-type] # as read
    if command == "logs":
        from nsrun.cli.read_logs import print_logs

        return guarded(lambda: print_logs(settings, words, **options), settings)  # type: ignore[arg-type] # as read
    from nsrun.cli.inside import run_command
    from nsrun.cli.show import bare

    return guarded(lambda: run_command(settings, bare(words[0]), words[1:], **options), settings)  # type: ignore[arg-type] # as read
