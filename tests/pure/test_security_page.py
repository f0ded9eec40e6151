"""docs/security.md names every attack that is tested, and nothing that is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.host.escapes.test_calls import CALLS

TESTS = Path(__file__).resolve().parents[1]
ESCAPES = TESTS / "host" / "escapes"
PAGE = TESTS.parent / "docs" / "security.md"
NO_ATTACKS = ("test_visible.py", "test_seccomp_profiles.py")


def functions(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def attacks() -> set[str]:
    names = {
        f"{path.name}::{name}"
        for path in ESCAPES.glob("test_*.py")
        if path.name not in NO_ATTACKS
        for name in functions(path)
    }
    return (names - {"test_calls.py::test_refused"}) | {f"test_calls.py::test_refused[{call.name}]" for call in CALLS}


def rows() -> list[list[str]]:
    table = PAGE.read_text(encoding="utf-8").partition("## Attacks")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_has_every_attack_that_is_tested() -> None:
    listed = {row[3].strip("` ") for row in rows()}
    assert {name for name in listed if not name.startswith("tests/")} == attacks()


def test_what_the_table_names_elsewhere_exists() -> None:
    for row in rows():
        name = row[3].strip("` ")
        if name.startswith("tests/"):
            path, _, function = name.partition("::")
            assert (TESTS.parent / path).is_file(), name
            assert not function or function in functions(TESTS.parent / path), name


def test_each_row_says_what_stops_it_and_where_it_is_from() -> None:
    found = rows()
    assert len(found) >= 40
    for row in found:
        assert len(row) == 4 and all(row), row
        assert re.search(r"CVE-\d{4}-\d{4,}|\(\w+\)|Kubernetes|spec", row[1]), row
    titles = [row[0] for row in found]
    assert len(titles) == len(set(titles))
