"""Files of variables, which `fileKeyRef` reads (S-ENV; Kubernetes pkg/kubelet/util/env/env_util.go): a small part of a shell's language.

A line is blank, a comment, or `NAME='value'`: nothing before the `=` but the name, the value in single quotes, over several lines
if need be, as it stands; behind it blanks and a comment at most.
"""

from __future__ import annotations

LONGEST_LINE = 64 * 1024
"""Bytes; longer ones are refused (Go bufio.MaxScanTokenSize)."""
_BLANKS = " \t"


class EnvFileError(ValueError):
    """A file that is not in this form; the text names the line and no value."""


def env_file_value(text: str, key: str) -> str:
    """The value of a variable; the first counts where there are several, and what is behind it is not looked at.

    Empty when it is not in the file, as when it is empty there. (So it is, too, with a blank between `=` and the quote.)

    Raises:
        EnvFileError: a line up to that variable has another form.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    at = 0
    while at < len(lines):
        number = at + 1
        line = _whole(lines, at).lstrip(_BLANKS)
        at += 1
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        if not equals:
            raise EnvFileError(f"invalid environment variable format at line {number}")
        if not name.strip():
            raise EnvFileError(f"invalid environment variable format at line {number}")
        if name != name.rstrip():
            raise EnvFileError(
                f"invalid environment variable format at line {number}: whitespace before '=' is not allowed"
            )
        if rest[:1] in (" ", "\t"):
            if name == key:
                return ""
            continue
        if not rest.startswith("'"):
            raise EnvFileError(
                f"invalid environment variable format at line {number}: value must be enclosed in single quotes"
            )
        value, at = _quoted(lines, rest[1:], number, at)
        if name == key:
            return value
    return ""


def _quoted(lines: list[str], rest: str, number: int, at: int) -> tuple[str, int]:
    """The value up to its closing quote, and the index of the line behind it."""
    parts = []
    while "'" not in rest:
        parts.append(rest)
        if at == len(lines):
            raise EnvFileError(f"invalid environment variable format starting at line {number}: unclosed single quote")
        rest = _whole(lines, at)
        at += 1
    last, _, behind = rest.partition("'")
    behind = behind.lstrip(_BLANKS)
    if behind and not behind.startswith("#"):
        raise EnvFileError(f"invalid environment variable format at line {at}: unexpected content after closing quote")
    return "\n".join([*parts, last]), at


def _whole(lines: list[str], at: int) -> str:
    if len(lines[at].encode("utf-8", "surrogateescape")) >= LONGEST_LINE:
        raise EnvFileError(f"line {at + 1} is longer than {LONGEST_LINE} bytes")
    return lines[at]
