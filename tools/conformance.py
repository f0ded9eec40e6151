#!/usr/bin/env python3
"""Write docs/conformance.md: which tests prove which rule of a Pod, and what is not done.

A test that proves rules begins with their names: `test_S_TERM_...` proves S-TERM, `test_S_INIT_S_PHASE_...` two of them.
The rules are in tools/rules.toml. A test that is known to fail is marked `xfail(strict=True, reason=...)`: its reason stands on the page.

    tools/conformance.py               write the page
    tools/conformance.py --check       exit with 1 when it is not up to date
    tools/conformance.py --results a.xml b.xml
                                       print what runs of pytest (--junit-xml) say, rule by rule, and exit with 1 when a rule
                                       has a test that failed, or was not run, in any of them

The page itself holds no results of runs, which would be old the next day: a test of a rule that fails makes `make test` fail.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "conformance.md"
RULES = TOP / "tools" / "rules.toml"
RINGS = ("pure", "ns", "host", "vm")
NAME = re.compile(r"test_(S_[A-Z]+(?:_S_[A-Z]+)*)(?:_|$)")

HEAD = """# Conformance

<!-- Written by tools/conformance.py (`make conformance`) from tools/rules.toml and the names of the tests. -->

What the life of a Pod is under a kubelet, rule by rule, and the tests that prove that it is the same here. `pytest -k S_TERM`
runs those of S-TERM. Tests marked pure run on a virtual clock in milliseconds, ns and host on real processes. `make test` fails
when one of them fails. What is knowingly otherwise than under a kubelet, and what is not done, stands with its rule.
`make conformance-run` runs them all and prints the result of each rule.
"""


@dataclass(frozen=True)
class Rule:
    """A rule of a Pod, as tools/rules.toml has it."""

    name: str
    meaning: str
    source: str
    life: bool = False
    differs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Test:
    """A test function that proves a rule. `fails` is the reason of a strict xfail, else empty."""

    rule: str
    name: str
    path: str
    fails: str = ""

    @property
    def ring(self) -> str:
        """pure, ns, host or vm."""
        return self.path.split("/")[1]

    @property
    def words(self) -> str:
        """What it says, without the rule's name."""
        return NAME.sub("", self.name).replace("_", " ").strip() or "the rule itself"


def rules(path: Path = RULES) -> list[Rule]:
    """The rules, in the order of the file. Raises TypeError for a key that no rule has."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    found = []
    for name, fields in data.items():
        fields |= {key: tuple(fields[key]) for key in ("differs", "missing") if key in fields}
        found.append(Rule(name, **fields))
    return found


def tests(top: Path = TOP) -> list[Test]:
    """Every test with a rule's name, in the order of files and lines."""
    found: list[Test] = []
    for ring in RINGS:
        for path in sorted((top / "tests" / ring).rglob("test_*.py")):
            found.extend(_tests_of(path, str(path.relative_to(top))))
    return found


def _tests_of(path: Path, shown: str) -> Iterator[Test]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in sorted(functions, key=lambda function: function.lineno):
        match = NAME.match(node.name)
        if match:
            fails = _known_to_fail(node.decorator_list)
            for rule in re.findall(r"S_([A-Z]+)", match[1]):
                yield Test(f"S-{rule}", node.name, shown, fails)


def _known_to_fail(decorators: Iterable[ast.expr]) -> str:
    """The reason of a strict xfail of the function or of one of its parameters."""
    for decorator in decorators:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "xfail":
                words = {keyword.arg: keyword.value for keyword in node.keywords}
                strict, reason = words.get("strict"), words.get("reason")
                if not (isinstance(strict, ast.Constant) and strict.value is True):
                    raise ValueError(f"line {node.lineno}: an xfail of a rule's test is strict=True")
                if not (isinstance(reason, ast.Constant) and isinstance(reason.value, str)):
                    raise ValueError(f"line {node.lineno}: an xfail of a rule's test has a reason")
                return reason.value
    return ""


def state(rule: Rule, proofs: list[Test]) -> str:
    """One word or two for the table."""
    if not proofs:
        return "not yet"
    if rule.missing or any(test.fails for test in proofs):
        return "partly"
    return "yes, with differences" if rule.differs else "yes"


def page(all_rules: list[Rule], all_tests: list[Test]) -> str:
    """The text of docs/conformance.md."""
    lines = [HEAD]
    for title, life in (("The life of a pod", True), ("What surrounds a container", False)):
        lines += [f"## {title}", "", "| rule | meaning | held | " + " | ".join(RINGS[:3]) + " |", "| --- " * 6 + "|"]
        chosen = [rule for rule in all_rules if rule.life is life]
        for rule in chosen:
            proofs = [test for test in all_tests if test.rule == rule.name]
            counts = [str(sum(test.ring == ring for test in proofs) or "–") for ring in RINGS[:3]]
            link = f"[{rule.name}](#{rule.name.lower()})"
            lines.append(f"| {link} | {rule.meaning} | {state(rule, proofs)} | {' | '.join(counts)} |")
        lines.append("")
    lines += ["## Rule by rule", ""]
    for rule in all_rules:
        lines += _section(rule, [test for test in all_tests if test.rule == rule.name])
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(rule: Rule, proofs: list[Test]) -> list[str]:
    lines = [f"### {rule.name}", "", rule.meaning, "", f"Source: {rule.source}", ""]
    for what, texts in (("Otherwise here", rule.differs), ("Not yet", rule.missing)):
        lines += [f"- **{what}:** {text}" for text in texts]
    known = [test for test in proofs if test.fails]
    lines += [f"- **Not yet:** {test.fails} (`{test.name}`)" for test in known]
    if rule.differs or rule.missing or known:
        lines.append("")
    by_path: dict[str, list[Test]] = {}
    for test in proofs:
        by_path.setdefault(test.path, []).append(test)
    for path, group in by_path.items():
        lines.append(f"- [{path.removeprefix('tests/')}](../{path})")
        lines += [f"  - {test.words}" for test in group if not test.fails]
    if by_path:
        lines.append("")
    return lines


def results(files: Iterable[Path]) -> dict[tuple[str, str], list[str]]:
    """(path of the test's file, name of the function) -> outcome of each of its runs: passed, failed, skipped or xfailed."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            name = case.get("name", "").split("[")[0]
            module = re.match(r"(?:\w+\.)*?test_\w+", case.get("classname", ""))
            path = module[0].replace(".", "/") + ".py" if module else ""
            outcome = "passed"
            for child in case:
                if child.tag in ("failure", "error"):
                    outcome = "failed"
                elif child.tag == "skipped":
                    outcome = "xfailed" if child.get("type") == "pytest.xfail" else "skipped"
            found.setdefault((path, name), []).append(outcome)
    return found


def report(
    all_rules: list[Rule], all_tests: list[Test], outcomes: dict[tuple[str, str], list[str]]
) -> tuple[str, bool]:
    """A line for each rule, then the tests that are not well; and whether all of a rule's tests were run and none failed."""
    lines, details = [], []
    for rule in all_rules:
        counts: dict[str, int] = {}
        for test in (one for one in all_tests if one.rule == rule.name):
            runs = outcomes.get((test.path, test.name), ["not run"])
            worst = next((one for one in ("failed", "not run", "skipped", "xfailed") if one in runs), "passed")
            counts[worst] = counts.get(worst, 0) + 1
            if worst != "passed":
                details.append(f"  {worst}: {test.path}::{test.name}")
        said = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no test"
        lines.append(f"{rule.name:14} {said}")
    fine = not any(line.strip().startswith(("failed", "not run")) for line in details)
    return "\n".join([*lines, *details]), fine


def main(words: list[str] | None = None) -> int:
    """Run as a program; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--check", action="store_true", help="change nothing, exit with 1 when the page is not up to date"
    )
    choice.add_argument("--results", nargs="+", type=Path, metavar="XML", help="what runs of pytest say, rule by rule")
    options = parser.parse_args(words)
    all_rules, all_tests = rules(), tests()
    if options.results:
        text, fine = report(all_rules, all_tests, results(options.results))
        print(text)
        return 0 if fine else 1
    text = page(all_rules, all_tests)
    if options.check:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print("docs/conformance.md is not up to date: make conformance", file=sys.stderr)
        return 0 if current == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
