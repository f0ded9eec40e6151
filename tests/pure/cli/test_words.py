"""What users type: help, wrong words, exit codes, errors as data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import nsrun
from nsrun import errors
from nsrun.cli import failure
from nsrun.cli.main import root_command, run
from nsrun.cli.pod_control import known_signal
from nsrun.cli.pod_exec import exec_, split
from nsrun.cli.settings import Settings
from nsrun.errors import EXIT_CODES, NsrunError

REPOSITORY = Path(__file__).resolve().parents[3]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its path."""

    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            ctx = click.Context(command, info_name=path)
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                assert below is not None, f"{path} {name}"
                yield from walk(f"{path} {name}", below)

    yield from walk("nsrun", root_command)


COMMANDS = dict(commands())


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("HUP", "SIGHUP"), ("sighup", "SIGHUP"), ("1", "SIGHUP"), ("RTMIN", "SIGRTMIN"), ("34", "SIGRTMIN"), ("RTMIN+0", "SIGRTMIN"),
        ("RTMIN+3", "SIGRTMIN+3"), ("sigrtmin+3", "SIGRTMIN+3"), ("37", "SIGRTMIN+3"), ("RTMAX-27", "SIGRTMIN+3"), ("64", "SIGRTMAX"),
        ("RTMIN+30", "SIGRTMAX"),
    ],
)  # fmt: skip
def test_signals_are_called_as_kill_calls_them(word: str, name: str) -> None:
    assert known_signal(word) == name


@pytest.mark.parametrize("word", ["FOO", "", "0", "65", "99", "-1", "RTMIN-1", "RTMAX+1", "RTMIN+31", "32", "SIG9"])
def test_what_is_no_signal(word: str) -> None:
    with pytest.raises(NsrunError, match="no signal"):
        known_signal(word)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_a_sentence_and_examples_of_this_command(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path.split()[1:], "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: {path}")
    examples = text.partition("Examples:\n")[2]
    assert re.search(rf"(^|[ (]){path}\b", examples, re.MULTILINE), text


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_is_explained(path: str) -> None:
    for param in COMMANDS[path].params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, f"{path} {param.opts}"


def test_examples_are_commands_that_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """No example has an option or a command that is not there."""
    import shlex

    count = 0
    for path, command in COMMANDS.items():
        for line in getattr(command, "examples", "").splitlines():
            for part in re.findall(r"nsrun [^|()<>]*", line.partition("  #")[0]):
                words = shlex.split(part.replace("$", ""), comments=True)[1:]
                current: click.Command = root_command
                ctx = click.Context(root_command, info_name="nsrun", obj=Settings())
                while isinstance(current, click.Group) and words and not words[0].startswith("-"):
                    found = current.get_command(ctx, words[0])
                    assert found is not None, f"{path}: {line}"
                    current, words = found, words[1:]
                    ctx = click.Context(current, info_name=current.name, parent=ctx, obj=Settings())
                if not isinstance(current, click.Group):
                    current.parse_args(ctx, words)
                    count += 1
    assert count > 40


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("pos ls", "nsrun pod"),
        ("ps", "nsrun pod ls"),
        ("up x.yaml", "nsrun pod up"),
        ("pod delete web", "nsrun pod down"),
        ("pod lgos web", "nsrun pod logs"),
        ("pod web logs", "nsrun pod logs web"),
        ("pod web exec -- sh", "nsrun pod exec web -- sh"),
        ("ls pod", "ls"),
        ("images", "nsrun image ls"),
        ("server boot", "nsrun server --help"),
        ("pod up --replac x.yaml", "--replace"),
        ("pod logs --folow web", "--follow"),
        ("pod exec -- sh web", "nsrun pod exec POD -- sh web"),
        ("pod exec web", "nsrun pod exec -it web -- sh"),
        ("pod down", "nsrun pod ls"),
        ("pod up", "nsrun pod up pod.yaml"),
        ("pod logs", "no pod was named"),
        ("pod logs web db shop", "nsrun pod logs pod/web pod/db pod/shop"),
        ("pod logs web -l app=web", "exclude one another"),
        ("pod ls web -l app=web", "exclude one another"),
        ("pod down web -l app=web", "exclude one another"),
        ("pod wait web -l app=web", "--all or -l"),
        ("pod logs web -c a --all-containers", "exclude one another"),
        ("pod logs web --tail=many", "--tail=20"),
        ("pod logs web --since-time=yesterday", "RFC 3339"),
        ("pod wait web --for=sunshine", "condition=Ready"),
        ("pod wait web --timeout=soon", "1m30s"),
        ("pod kill web -s NOPE", "no signal"),
        ("pod ls -o csv", "'table', 'wide'"),
        ("completion tcsh", "'bash', 'zsh', 'fish'"),
        ("pod exec -e NOVALUE web -- sh", "NOVALUE=VALUE"),
        ("pod up http://example.org/pod.yaml", "curl -fsSL"),
        ("pod up - -", "standard input"),
        ("image import onlyname", "needs PATH"),
    ],
)
def test_wrong_words_get_the_right_ones(words: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == EXIT_CODES["usage"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert meant in captured.err
    assert "Traceback" not in captured.err


def test_alone_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Examples:" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--version", "-V", "--root /x --version"])
def test_version(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    from nsrun import __version__

    assert run(words.split()) == 0
    assert capsys.readouterr().out == f"nsrun {__version__}\n"


@pytest.mark.parametrize("words", ["-o json pod down", "pod down -o json", "pod -o json down"])
def test_errors_as_data(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == EXIT_CODES["usage"]
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "usage"
    assert error["exit_code"] == EXIT_CODES["usage"]
    assert error["brief"]
    assert error["resolution"]


def test_exit_codes_are_documented() -> None:
    text = (REPOSITORY / "docs" / "exit-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \|.*\| `(\w+)` \|$", text, re.MULTILINE)
    assert {word: int(code) for code, word, _ in rows} == EXIT_CODES
    for _code, word, name in rows:
        assert getattr(errors, name).code == word


@pytest.mark.parametrize("code", EXIT_CODES)
def test_each_error_ends_with_its_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise NsrunError.from_data({"code": code, "brief": "b", "details": "d1\nd2", "resolution": "r"})

    assert failure.guarded(fail, Settings()) == EXIT_CODES[code]
    assert capsys.readouterr().err == "Error: b\n  d1\n  d2\n  r\n"


def test_a_bug_is_one_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSRUN_DEBUG", raising=False)

    def fail() -> int:
        raise ZeroDivisionError("by zero")

    assert failure.guarded(fail, Settings()) == 70
    text = capsys.readouterr().err
    assert "ZeroDivisionError" in text
    assert "test_words.py" in text
    assert "Traceback" not in text


def test_ctrl_c_is_130() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert failure.guarded(interrupted, Settings()) == 130


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("web -- ls -l", "web -- ls -l"),
        ("web ls -l", "web -- ls -l"),
        ("-c app web ls -c x", "-c app web -- ls -c x"),
        ("web -c app -- ls", "web -c app -- ls"),
        ("web --container=app ls", "web --container=app -- ls"),
        ("-itc app web sh", "-itc app web -- sh"),
        ("-itcapp web sh", "-itcapp web -- sh"),
        ("-it web sh", "-it web -- sh"),
        ("web", "web"),
    ],
)
def test_the_command_begins_at_the_second_word(words: str, expected: str) -> None:
    assert split(exec_, click.Context(exec_), words.split()) == expected.split()


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), "60", True])
def test_what_is_no_time_scale(scale: float) -> None:
    with pytest.raises(NsrunError, match="the time scale must be a number above 0"):
        nsrun.Engine(time_scale=scale)
