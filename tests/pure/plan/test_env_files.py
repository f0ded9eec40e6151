"""Files of variables (S-ENV)."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.plan.env_files import LONGEST_LINE, EnvFileError, env_file_value

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("K='v'", "v"),
        ("K='v'\n", "v"),
        ("\n  \n# note\n \t K='v'\r\n", "v"),
        ("A='1'\nK='v' # note\nsomething else", "v"),
        ("K='1'\nK='2'", "1"),
        ("K='a=b#c \"d\" \\\\ $HOME'", 'a=b#c "d" \\\\ $HOME'),
        ("K='one\n  two \n\n# three'\n", "one\n  two \n\n# three"),
        ("A='x\nK=\ny'\nK='v'", "v"),
        ("K='  '", "  "),
        ("K=''", ""),
        ("A='1'", ""),
        ("", ""),
        ("K= 'v'", ""),
        ("A= what\nK='v'", "v"),
        ("k='v'", ""),
    ],
)
def test_S_ENV_values_of_a_file(text: str, value: str) -> None:
    assert env_file_value(text, "K") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("K", "at line 1"),
        ("A='1'\n\nnothing\nK='v'", "at line 3"),
        ("='v'", "at line 1"),
        (" ='v'", "at line 1"),
        ("K ='v'", "at line 1: whitespace before '=' is not allowed"),
        ("K=v", "at line 1: value must be enclosed in single quotes"),
        ('K="v"', "at line 1: value must be enclosed in single quotes"),
        ("K=", "at line 1: value must be enclosed in single quotes"),
        ("K='a''b'", "at line 1: unexpected content after closing quote"),
        ("K='a'b", "at line 1: unexpected content after closing quote"),
        ("A='a\nb' c\nK='v'", "at line 2: unexpected content after closing quote"),
        ("A='1'\nK='v", "starting at line 2: unclosed single quote"),
        ("K='" + "x" * LONGEST_LINE + "'", "line 1 is longer"),
    ],
)
def test_S_ENV_files_of_another_form(text: str, problem: str) -> None:
    with pytest.raises(EnvFileError, match=problem) as caught:
        env_file_value(text, "K")
    assert "x" * 20 not in str(caught.value)


_VALUES = st.text(st.characters(blacklist_characters="'\r\0", blacklist_categories=["Cs"]), max_size=12)
_NOTES = st.sampled_from(["", " # note", "\t", "\n# note", "\n\n   "])


@given(st.lists(st.tuples(st.sampled_from("ABC"), _VALUES, _NOTES), max_size=4))
@settings(max_examples=60, deadline=None)
def test_S_ENV_what_can_be_read_is_what_a_shell_reads(lines: list[tuple[str, str, str]]) -> None:
    """But for a name that is set twice: there the first counts, and in a shell the last."""
    first = {name: value for name, value, _ in reversed(lines)}
    text = "".join(f"{name}='{value}'{note}\n" for name, value, note in lines if first[name] == value)
    for name, value in first.items():
        assert env_file_value(text, name) == value
    if shutil.which("sh"):
        script = text + "".join(f'printf "%s\\0" "${name}"\n' for name in first)
        said = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True).stdout
        assert said == b"".join(value.encode() + b"\0" for value in first.values())


@given(st.text("K='#x \n\t\\r", max_size=30))
def test_S_ENV_any_text_has_a_value_or_an_error(text: str) -> None:
    with contextlib.suppress(EnvFileError):
        assert isinstance(env_file_value(text, "K"), str)
