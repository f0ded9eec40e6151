"""The documentation's transcripts are typed again, and its programs run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nsrun.cli.main import root_command
from tests.host.testhost import REPOSITORY, Host

COMMANDS = REPOSITORY / "docs" / "commands.md"
LIBRARY = REPOSITORY / "docs" / "library.md"


def blocks(path: Path, kind: str) -> Iterator[tuple[int, str]]:
    """(line, content) of each fenced block of a kind."""
    text = path.read_text()
    for found in re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start()) + 1, found.group(1)


def steps(path: Path) -> list[tuple[int, str, list[str]]]:
    """(line, command, expected lines) of each command of the transcripts."""
    found: list[tuple[int, str, list[str]]] = []
    for start, block in blocks(path, "console"):
        for number, line in enumerate(block.splitlines(), start + 1):
            if line.startswith("$ "):
                found.append((number, line[2:], []))
            else:
                found[-1][2].append(line)
    return found


def pattern(lines: list[str]) -> re.Pattern[str]:
    """What the output has to look like: `…` is anything within a line, a line of `...` any number of lines."""
    parts = [r"(?:.*\n)*?" if line == "..." else re.escape(line).replace("…", ".*") + r"\n" for line in lines]
    return re.compile("".join(parts))


@pytest.fixture
def workplace(host: Host) -> Path:
    """A directory with the examples' manifests."""
    for manifest in (REPOSITORY / "examples").glob("*.yaml"):
        shutil.copy(manifest, host.scratch)
    return host.scratch


def environment(host: Host) -> dict[str, str]:
    return {
        **host.environment,
        "PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }


def test_commands(leak_check: None, host: Host, workplace: Path) -> None:
    for line, command, expected in steps(COMMANDS):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=workplace, env=environment(host), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        where = f"{COMMANDS.name}:{line}: {command}"
        assert pattern(expected).fullmatch(done.stdout), f"{where}\nsays\n{done.stdout}\nand not\n" + "\n".join(
            expected
        )


def test_every_command_is_in_the_transcripts() -> None:
    typed = " ; ".join(command for _, command, _ in steps(COMMANDS))

    def walk(path: str, command: click.Command) -> Iterator[str]:
        if isinstance(command, click.Group):
            ctx = click.Context(command)
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                assert below is not None
                yield from walk(f"{path} {name}", below)
        else:
            yield path

    missing = [path for path in walk("nsrun", root_command) if path not in typed]
    assert missing == []


def test_library(leak_check: None, host: Host, workplace: Path) -> None:
    count = 0
    for line, program in blocks(LIBRARY, "python"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=workplace, env=environment(host), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{LIBRARY.name}:{line}\n{done.stdout}{done.stderr}"
        count += 1
    assert count >= 7
    host.nsrun("server", "stop")


def test_the_pattern_of_a_transcript_can_fail() -> None:
    assert pattern(["a", "...", "b …"]).fullmatch("a\nx\ny\nb 1\n")
    assert pattern(["a", "...", "b"]).fullmatch("a\nb\n")
    assert not pattern(["a"]).fullmatch("b\n")
    assert not pattern(["a", "...", "b"]).fullmatch("a\nx\n")
    assert not pattern([]).fullmatch("unexpected\n")
