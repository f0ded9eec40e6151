"""docs/conformance.md says what the tests prove, no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import conformance

RULES = conformance.rules()
TESTS = conformance.tests()


def test_the_page_is_up_to_date() -> None:
    assert conformance.PAGE.read_text() == conformance.page(RULES, TESTS), "write it anew: make conformance"


def test_every_rule_that_a_test_names_is_a_rule() -> None:
    known = {rule.name for rule in RULES}
    assert [f"{test.path}::{test.name}" for test in TESTS if test.rule not in known] == []


FILE = """
import pytest

def test_S_TERM_one(): ...

class TestMore:
    @pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.xfail(strict=True, reason="two is hard"))])
    async def test_S_TERM_two_of_them(self, number): ...

def test_S_TERMMSG(): ...
def test_S_INIT_S_PHASE_of_some_Pod(): ...
def test_something_else(): ...
"""


def tree(directory: Path, text: str) -> Path:
    (directory / "tests/pure").mkdir(parents=True)
    (directory / "tests/pure/test_it.py").write_text(text)
    return directory


def test_tests_are_found_by_their_names(tmp_path: Path) -> None:
    found = conformance.tests(tree(tmp_path, FILE))
    path = "tests/pure/test_it.py"
    assert found == [
        conformance.Test("S-TERM", "test_S_TERM_one", path),
        conformance.Test("S-TERM", "test_S_TERM_two_of_them", path, "two is hard"),
        conformance.Test("S-TERMMSG", "test_S_TERMMSG", path),
        conformance.Test("S-INIT", "test_S_INIT_S_PHASE_of_some_Pod", path),
        conformance.Test("S-PHASE", "test_S_INIT_S_PHASE_of_some_Pod", path),
    ]
    assert [test.words for test in found] == ["one", "two of them", "the rule itself", *["of some Pod"] * 2]


@pytest.mark.parametrize("mark", ["xfail(reason='x')", "xfail(strict=True)", "xfail(strict=False, reason='x')"])
def test_an_excuse_without_a_reason_or_an_end_is_refused(tmp_path: Path, mark: str) -> None:
    text = f"import pytest\n@pytest.mark.{mark}\ndef test_S_TERM_one(): ...\n"
    with pytest.raises(ValueError, match="an xfail of a rule's test"):
        conformance.tests(tree(tmp_path, text))


def test_what_is_held_and_what_is_not() -> None:
    rule = conformance.Rule("S-X", "m", "s", life=True)
    good = conformance.Test("S-X", "test_S_X_a", "tests/pure/test_a.py")
    bad = conformance.Test("S-X", "test_S_X_b", "tests/host/test_b.py", "because")
    assert conformance.state(rule, []) == "not yet"
    assert conformance.state(rule, [good]) == "yes"
    assert conformance.state(rule, [good, bad]) == "partly"
    assert conformance.state(conformance.Rule("S-X", "m", "s", missing=("a",)), [good]) == "partly"
    assert conformance.state(conformance.Rule("S-X", "m", "s", differs=("a",)), [good]) == "yes, with differences"
    text = conformance.page([rule], [good, bad])
    assert "| [S-X](#s-x) | m | partly | 1 | – | 1 |" in text
    assert "- **Not yet:** because (`test_S_X_b`)" in text


JUNIT = """<testsuites><testsuite>
<testcase classname="tests.pure.test_a" name="test_S_X_a[1]"/>
<testcase classname="tests.pure.test_a.TestIt" name="test_S_X_a[2]">{}</testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("inside", "word", "fine"),
    [
        ("", "1 passed", True),
        ("<failure/>", "1 failed", False),
        ("<error/>", "1 failed", False),
        ("<skipped type='pytest.skip'/>", "1 skipped", True),
        ("<skipped type='pytest.xfail'/>", "1 xfailed", True),
    ],
)
def test_results_of_runs(tmp_path: Path, inside: str, word: str, fine: bool) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(JUNIT.format(inside))
    rule = conformance.Rule("S-X", "m", "s")
    proof = conformance.Test("S-X", "test_S_X_a", "tests/pure/test_a.py")
    text, good = conformance.report([rule], [proof], conformance.results([file]))
    assert (word in text, good) == (True, fine)
    unseen = conformance.Test("S-X", "test_S_X_b", "tests/pure/test_a.py")
    text, good = conformance.report([rule], [proof, unseen], conformance.results([file]))
    assert "not run: tests/pure/test_a.py::test_S_X_b" in text
    assert not good
