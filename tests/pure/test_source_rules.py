"""Rules for the source text that no linter has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

TOP = Path(__file__).parents[2]
PYTHON = sorted((TOP / "nsrun").rglob("*.py"))


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(TOP)))
def test_no_python_between_fork_and_exec(path: Path) -> None:
    text = path.read_text()
    assert "preexec_fn" not in text
    assert not re.search(r"\bos\.(fork|forkpty)\b|\bpty\.fork\b|\bmultiprocessing\b", text)
    assert "shell=True" not in text


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(TOP)))
def test_modules_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module begins with a docstring"


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [str(path) for path in PYTHON if path.name in drawers] == []


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    sources = [*PYTHON, *sorted((TOP / "csrc").rglob("*.[ch]")), *sorted((TOP / "tools").iterdir())]
    assert [str(path) for path in sources if path.is_file() and words.search(path.read_text())] == []


def test_the_fuzzer_of_programs_replaces_every_handler() -> None:
    """One that it does not know would really be carried out, by programs that a fuzzer makes."""
    handlers = set(re.findall(r"\.handler = (nsr_op_\w+)", (TOP / "csrc/program.c").read_text()))
    replaced = set(re.findall(r"#define (nsr_op_\w+) walk", (TOP / "csrc/fuzz/fuzz_program.c").read_text()))
    assert handlers == replaced
