"""S-EXPAND: the rules of Kubernetes third_party/forked/golang/expansion, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.plan.expansion import expand

VARIABLES = {
    "VAR_A": "A",
    "VAR_B": "B",
    "VAR_C": "C",
    "VAR_REF": "$(VAR_A)",
    "VAR_EMPTY": "",
    "odd name": "odd",
    "(": "paren",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)-$(VAR_B)", "A-B"),
        ("$(VAR_A)$(VAR_B)$(VAR_A)", "ABA"),
        ("$(VAR_EMPTY)", ""),
        ("x$(VAR_EMPTY)y", "xy"),
        # what is put in is not expanded again
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        # unknown names stay
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("foo-$(VAR_DNE)-$(VAR_A)", "foo-$(VAR_DNE)-A"),
        ("$()", "$()"),
        ("$( VAR_A)", "$( VAR_A)"),
        ("$(odd name)", "odd"),
        # the operator escapes itself
        ("$$", "$"),
        ("$$$", "$$"),
        ("$$$$", "$$"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$$$$$(VAR_A)", "$$A"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("\\$(VAR_A)", "\\A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        # things that only look like references
        ("$VAR_A", "$VAR_A"),
        ("${VAR_A}", "${VAR_A}"),
        ("$", "$"),
        ("foo$", "foo$"),
        ("$(", "$("),
        ("$(VAR_A", "$(VAR_A"),
        ("$)", "$)"),
        ("VAR_A)", "VAR_A)"),
        ("$((VAR_A))", "$((VAR_A))"),
        ("$(()", "paren"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_A))", "A)"),
        ("foo\\\\$(VAR_A)", "foo\\\\A"),
        ("foo$\n(VAR_A)", "foo$\n(VAR_A)"),
        ("$(VAR\n_A)", "$(VAR\n_A)"),
        ("tab\t$(VAR_A)\n$(VAR_B)", "tab\tA\nB"),
        ("äö$(VAR_A)ü", "äöAü"),
        ("$ä$(VAR_A)", "$äA"),
        ("$$$(VAR_DNE)", "$$(VAR_DNE)"),
    ],
)
def test_S_EXPAND_rule(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


def _reference(text: str, variables: dict[str, str]) -> str:
    """The same rules as a scanner that looks at one character after the other."""
    result, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            result += text[at]
            at += 1
        elif text[at + 1] == "$":
            result += "$"
            at += 2
        elif text[at + 1] == "(" and (close := text.find(")", at + 2)) >= 0:
            name = text[at + 2 : close]
            result += variables.get(name, f"$({name})")
            at = close + 1
        else:
            result += text[at : at + 2]
            at += 2
    return result


@given(
    st.text(alphabet="$()AB \nä", max_size=40),
    st.dictionaries(st.sampled_from(["A", "B", "AB", ""]), st.text("$()A", max_size=5)),
)
def test_S_EXPAND_agrees_with_a_scanner(text: str, variables: dict[str, str]) -> None:
    assert expand(text, variables) == _reference(text, variables)


@given(st.text(max_size=40))
def test_S_EXPAND_doubling_the_operator_escapes_everything(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"A": "x"}) == text
