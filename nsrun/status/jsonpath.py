"""kubectl's JSONPath: templates such as `{.status.podIP}` or `{range .items[*]}{.metadata.name}{"\\n"}{end}`.

A template is text with parts in braces. A part is a chain of steps: `.name`, `['name']`, `[3]`, `[1:3]`, `[*]`, `.*`, `..` (whatever
lies below), `[0,2]`, `[?(@.type=="Ready")]`; `$` and `@` are the present object; strings in quotes and numbers stand for themselves.

Source: client-go util/jsonpath/parser.go, jsonpath.go; kubectl pkg/cmd/get/customcolumn.go RelaxedJSONPathExpression.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nsrun.errors import UsageError

HELP = 'Steps are .name, [number], [*] and [?(@.name=="value")], as in {.status.containerStatuses[0].ready}.'

_RELAXED = re.compile(r"\{\.?(?P<braced>[^{}]+)\}|\.?(?P<bare>[^{}]+)")
_NAME = re.compile(r"(?:\\.|[^\s.,\[\]$@{}\\])*")
_WORD = re.compile(r"[\w][^\s.,\[\]$@{}]*")
_NUMBER = re.compile(r"[+-]?[\d.]+")
_SLICE = re.compile(r"(-?\d*)(:-?\d*)?(:-?\d*)?")
_COMPARED = re.compile(r"(?P<left>[^!<>=]+)(?P<operator>[!<>=]+)(?P<right>.+)", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class JsonPathError(UsageError):
    """A template that cannot be read, or that does not fit the object."""

    def __init__(self, text: str) -> None:
        super().__init__(f"jsonpath: {text}", resolution=HELP)


class OutOfBoundsError(JsonPathError):
    """An index that the list does not have."""


@dataclass(frozen=True, slots=True)
class _Text:
    value: Any


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


@dataclass(frozen=True, slots=True)
class _Every:
    pass


@dataclass(frozen=True, slots=True)
class _Below:
    pass


@dataclass(frozen=True, slots=True)
class _Slice:
    """Of a list; `single` is an index that was given alone."""

    first: int | None
    last: int | None
    step: int
    single: bool


@dataclass(frozen=True, slots=True)
class _Union:
    paths: tuple[_Path, ...]


@dataclass(frozen=True, slots=True)
class _Filter:
    left: _Path
    operator: str
    right: _Path


@dataclass(frozen=True, slots=True)
class _Word:
    """`range` or `end`."""

    name: str


_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""As Go's JSON is fit for a web page; outside of strings there are none of these."""

_Step = _Text | _Name | _Every | _Below | _Slice | _Union | _Filter | _Word
_Path = tuple[_Step, ...]


class JsonPath:
    """A template.

    Args:
        text: the template.
        missing_ok: what is not there is left out instead of being an error.

    Raises:
        JsonPathError: it cannot be read.
    """

    def __init__(self, text: str, *, missing_ok: bool = True) -> None:
        self._parts = list(_template(text))
        self._missing_ok = missing_ok

    def find(self, value: Any) -> list[list[Any]]:
        """What each part of the template finds in `value` (builtins, as JSON has them).

        Raises:
            JsonPathError: the template does not fit.
        """
        results, at = self._run(0, value, depth=0)
        assert at == len(self._parts)
        return results

    def render(self, value: Any) -> str:
        """The template filled in, as `kubectl get -o jsonpath=` prints it. Raises as `find` does."""
        return "".join(" ".join(_printed(one) for one in found) for found in self.find(value))

    def _run(self, at: int, value: Any, depth: int) -> tuple[list[list[Any]], int]:
        """Evaluate the parts from `at` on, up to the end of the range or of the template; and where that is."""
        results: list[list[Any]] = []
        while at < len(self._parts):
            part = self._parts[at]
            word = part[0] if part else None
            if isinstance(word, _Word) and word.name == "end":
                if depth == 0:
                    raise JsonPathError("not in range, nothing to end")
                return results, at
            if isinstance(word, _Word) and word.name == "range":
                items = self._walk([value], part[1:])
                end = self._end_of(at + 1)
                for item in items:
                    inner, _ = self._run(at + 1, item, depth + 1)
                    results += inner
                at = end + 1
                continue
            results.append(self._walk([value], part))
            at += 1
        return results, at

    def _end_of(self, at: int) -> int:
        depth = 1
        while at < len(self._parts):
            word = self._parts[at][0] if self._parts[at] else None
            if isinstance(word, _Word):
                depth += 1 if word.name == "range" else -1
                if depth == 0:
                    return at
            at += 1
        return at - 1

    def _walk(self, values: list[Any], path: Sequence[_Step]) -> list[Any]:
        for step in path:
            values = self._step(values, step)
        return values

    def _step(self, values: list[Any], step: _Step) -> list[Any]:
        match step:
            case _Text(value):
                return [value]
            case _Name(name):
                return self._named(values, name)
            case _Every():
                return [one for value in values for one in _children(value)]
            case _Below():
                return [one for value in values for one in _below(value)]
            case _Slice():
                return [one for value in values if value is not None for one in _sliced(value, step)]
            case _Union(paths):
                return [one for path in paths for one in self._walk(values, path)]
            case _Filter():
                return [one for value in values for one in self._filtered(value, step)]
            case _Word(name):
                raise JsonPathError(f"unrecognized identifier {name}")

    def _named(self, values: list[Any], name: str) -> list[Any]:
        if name == "":
            return values
        found = [value[name] for value in values if isinstance(value, dict) and name in value]
        if not found and values and not self._missing_ok:
            raise JsonPathError(f"{name} is not found")
        return found

    def _filtered(self, value: Any, step: _Filter) -> Iterator[Any]:
        if not isinstance(value, list):
            raise JsonPathError(f"{_printed(value)} is not array or slice and cannot be filtered")
        for item in value:
            lefts = self._walk([item], step.left)
            if step.operator == "exists":
                if lefts:
                    yield item
                continue
            rights = self._walk([item], step.right)
            if not lefts or not rights:
                continue
            if len(lefts) > 1 or len(rights) > 1:
                raise JsonPathError("can only compare one element at a time")
            if _compare(lefts[0], step.operator, rights[0]):
                yield item


def relaxed(text: str) -> JsonPath:
    """A single path in any of the forms `{.a.b}`, `{a.b}`, `.a.b` and `a.b`, as `kubectl wait` takes it.

    Raises:
        JsonPathError: it is none.
    """
    if not text:
        raise JsonPathError("expression cannot be empty")
    match = _RELAXED.fullmatch(text)
    if match is None:
        raise JsonPathError(
            f"unexpected path string {text!r}, expected a 'name1.name2' or '.name1.name2' or '{{name1.name2}}' or "
            "'{.name1.name2}'"
        )
    return JsonPath(f"{{.{match['braced'] or match['bare']}}}")


# reading


def _template(text: str) -> Iterator[_Path]:
    at = 0
    while at < len(text):
        brace = text.find("{", at)
        if brace < 0:
            yield (_Text(text[at:]),)
            return
        if brace > at:
            yield (_Text(text[at:brace]),)
        path, at = _path(text, brace + 1, "}")
        yield path


def _path(text: str, at: int, end: str) -> tuple[_Path, int]:
    """The steps from `at` to `end` (a character, or "" for the end of the text), and what follows them."""
    steps: list[_Step] = []
    while True:
        if at >= len(text):
            if end:
                raise JsonPathError("unclosed action")
            return tuple(steps), at
        character = text[at]
        if character == end:
            return tuple(steps), at + 1
        if text.startswith("[?(", at):
            step, at = _filter(text, at + 3)
            steps.append(step)
        elif text.startswith("..", at):
            if steps and isinstance(steps[-1], _Below):
                raise JsonPathError("invalid multiple recursive descent")
            steps.append(_Below())
            at += 2
            if at < len(text) and (text[at].isalnum() or text[at] == "_"):
                step, at = _field(text, at)
                steps.append(step)
        elif character in "\r\n":
            raise JsonPathError("unclosed action")
        elif character in " @$":
            at += 1
        elif character == "[":
            found, at = _array(text, at + 1)
            steps += found
        elif character in "\"'":
            value, at = _quoted(text, at)
            steps.append(_Text(value))
        elif character == ".":
            step, at = _field(text, at + 1)
            steps.append(step)
        elif character in "+-" or character.isdigit():
            step, at = _number(text, at)
            steps.append(step)
        elif character.isalpha() or character == "_":
            match = _WORD.match(text, at)
            assert match is not None
            word, at = match.group(), match.end()
            steps.append(_Text(word == "true") if word in ("true", "false") else _Word(word))
            if word not in ("true", "false", "range", "end"):
                raise JsonPathError(f"unrecognized identifier {word}")
        else:
            raise JsonPathError(f"unrecognized character in action: {character!r}")


def _field(text: str, at: int) -> tuple[_Step, int]:
    match = _NAME.match(text, at)
    assert match is not None
    name = re.sub(r"\\(.)", r"\1", match.group())
    return (_Every() if match.group() == "*" else _Name(name)), match.end()


def _number(text: str, at: int) -> tuple[_Step, int]:
    match = _NUMBER.match(text, at)
    try:
        assert match is not None
        value: int | float = int(match.group()) if match.group().lstrip("+-").isdigit() else float(match.group())
    except (ValueError, AssertionError):
        raise JsonPathError(f"cannot parse number {text[at:]!r}") from None
    return _Text(value), match.end()


def _quoted(text: str, at: int) -> tuple[str, int]:
    quote, end = text[at], at + 1
    while end < len(text) and text[end] != quote:
        if text[end] == "\n":
            break
        end += 2 if text[end] == "\\" else 1
    if end >= len(text) or text[end] != quote:
        raise JsonPathError("unterminated quoted string")
    return _unquoted(text[at + 1 : end]), end + 1


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}


def _unquoted(text: str) -> str:
    def unescaped(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1][1:], 16))
        if match[2] not in _ESCAPES:
            raise JsonPathError(f"unquote string {text!r} error invalid syntax")
        return _ESCAPES[match[2]]

    return re.sub(r"\\(?:(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})|(.))", unescaped, text, flags=re.DOTALL)


def _array(text: str, at: int) -> tuple[list[_Step], int]:
    end = text.find("]", at)
    if end < 0 or "\n" in text[at:end]:
        raise JsonPathError("unterminated array")
    return _inside(text[at:end]), end + 1


def _inside(text: str) -> list[_Step]:
    if "," in text:
        return [_Union(tuple(tuple(_inside(one.strip(" "))) for one in text.split(",")))]
    if len(text) >= 2 and text[0] == text[-1] == "'" and "'" not in text[1:-1]:
        return list(_path(f".{text[1:-1]}", 0, "")[0])
    if text == "*":
        return [_Slice(None, None, 1, single=False)]
    match = _SLICE.fullmatch(text)
    if match is None or text in ("", "-"):
        raise JsonPathError(f"invalid array index {text}")
    try:
        first, last, step = (
            int(one) if one else None for one in (match[1], (match[2] or "")[1:], (match[3] or "")[1:])
        )
    except ValueError:
        raise JsonPathError(f"invalid array index {text}") from None
    if step is not None and step <= 0:
        raise JsonPathError("step must be > 0")
    return [_Slice(first, last, step or 1, single=match[2] is None)]


def _filter(text: str, at: int) -> tuple[_Step, int]:
    end, quote = at, ""
    while end < len(text) and (quote or text[end] != ")"):
        if text[end] == "\n":
            break
        if quote and text[end] == quote and text[end - 1] != "\\":
            quote = ""
        elif not quote and text[end] in "\"'":
            quote = text[end]
        end += 1
    if end >= len(text) or text[end] != ")":
        raise JsonPathError("unterminated filter")
    if text[end + 1 : end + 2] != "]":
        raise JsonPathError("unclosed array expect ]")
    body = text[at:end]
    match = _COMPARED.fullmatch(body)
    if match is None:
        return _Filter(_path(body, 0, "")[0], "exists", ()), end + 2
    if match["operator"] not in _OPERATORS:
        raise JsonPathError(f"unrecognized filter operator {match['operator']}")
    left, right = _path(match["left"], 0, "")[0], _path(match["right"], 0, "")[0]
    return _Filter(left, match["operator"], right), end + 2


# evaluating


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | str) else []


def _below(value: Any) -> Iterator[Any]:
    """`value` and all objects and lists in it."""
    if isinstance(value, dict | list) and value:
        yield value
        for child in _children(value):
            yield from _below(child)


def _sliced(value: Any, step: _Slice) -> list[Any]:
    if not isinstance(value, list):
        raise JsonPathError(f"{_printed(value)} is not array or slice")
    count = len(value)
    first = 0 if step.first is None else step.first
    first += count if first < 0 else 0
    last = first + 1 if step.single else count if step.last is None else step.last
    last += count if last < 0 else 0
    if first == last:
        return []
    for index in (first, last - 1):
        if not 0 <= index < count:
            raise OutOfBoundsError(f"array index out of bounds: index {index}, length {count}")
    if first > last:
        raise JsonPathError(f"starting index {first} is greater than ending index {last}")
    return value[first : last : step.step]


def _compare(left: Any, sign: str, right: Any) -> bool:
    kinds = [
        bool if isinstance(one, bool) else float if isinstance(one, int | float) else type(one) for one in (left, right)
    ]
    if kinds[0] is not kinds[1] or kinds[0] not in (bool, float, str):
        raise JsonPathError("incompatible types for comparison")
    return _OPERATORS[sign](left, right)


def _printed(value: Any) -> str:
    """As Go prints it: objects and lists as JSON."""
    if isinstance(value, str):
        return value
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return text.translate(_ESCAPED)
