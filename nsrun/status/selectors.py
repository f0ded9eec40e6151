"""Which pods a request means: label selectors (`app=web,tier in (a,b),!old`) and field selectors (`status.phase=Running`).

Sources: apimachinery pkg/labels/selector.go and pkg/fields/selector.go for both languages and the words of their errors,
kubernetes pkg/apis/core/v1/conversion.go and pkg/registry/core/pod/strategy.go for the fields of a pod.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nsrun.errors import UsageError
from nsrun.spec.names import label_value, qualified_name

OPERATORS = ("in", "notin", "=", "==", "!=", "gt", "lt")
"""As the error for a missing one lists them."""
_SYMBOLS = frozenset(["=", "==", "!=", "!", "(", ")", ",", "<", ">"])
_TOKEN = re.compile(r"[ \t\r\n]*([=!(),<>]+|[^ \t\r\n=!(),<>]+)")
_INT64 = re.compile(r"[+-]?[0-9]+")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of a label selector.

    Attributes:
        key: the label's.
        operator: `=`, `!=`, `in`, `notin`, `exists`, `!`, `<` or `>`.
        values: what it is compared with.
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        """Whether labels meet it. What excludes values is met by those that have no such label."""
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "=" | "in":
                return value in self.values
            case "!=" | "notin":
                return value not in self.values
        number, (bound,) = _int64(value), (int(one) for one in self.values)
        return number is not None and (number > bound if self.operator == ">" else number < bound)


class _Parser:
    """Reads a label selector from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), ""]
        self._at = 0

    def requirements(self) -> Iterator[Requirement]:
        """All of them.

        Raises:
            ValueError: in the API server's words.
        """
        while self._next != "":
            if self._next in _SYMBOLS - {"!"}:
                raise ValueError(f"found '{self._next}', expected: !, identifier, or 'end of string'")
            try:
                yield self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            after = self._take()
            if after == "":
                return
            if after != ",":
                raise ValueError(f"found '{after}', expected: ',' or 'end of string'")
            if self._next == "" or self._next in _SYMBOLS - {"!"}:
                raise ValueError(f"found '{self._next}', expected: identifier after ','")

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        token = self._next
        if token:
            self._at += 1
        return token

    def _requirement(self) -> Requirement:
        absent = self._next == "!"
        if absent:
            self._take()
        key = self._take()
        if key == "" or key in _SYMBOLS:
            raise ValueError(f"found '{key}', expected: identifier")
        if objections := qualified_name(key):
            raise ValueError(f'Invalid value: "{key}": {"; ".join(objections)}')
        if self._next in ("", ","):
            return Requirement(key, "!" if absent else "exists")
        operator = self._take()
        if absent or operator not in ("in", "notin", "=", "==", "!=", "<", ">"):
            raise ValueError(f"found '{operator}', expected: {', '.join(OPERATORS)}")
        values = self._values() if operator in ("in", "notin") else self._value()
        for value in sorted(values):
            if operator in "<>" and _int64(value) is None:
                raise ValueError(
                    f'values[0][{key}]: Invalid value: "{value}": '
                    "for 'Gt', 'Lt' operators, the value must be an integer"
                )
            if objections := label_value(value):
                raise ValueError(f'values[0][{key}]: Invalid value: "{value}": {"; ".join(objections)}')
        return Requirement(key, "=" if operator == "==" else operator, frozenset(values))

    def _value(self) -> set[str]:
        if self._next in ("", ","):
            return {""}
        value = self._take()
        if value in _SYMBOLS:
            raise ValueError(f"found '{value}', expected: identifier")
        return {value}

    def _values(self) -> set[str]:
        """`(a,b)`: what stands between the commas, also nothing."""
        opening = self._take()
        if opening != "(":
            raise ValueError(f"found '{opening}' expected: '('")
        values: set[str] = set()
        while True:
            value = "" if self._next in (",", ")") else self._take()
            if value in _SYMBOLS or (value == "" and self._next == ""):
                raise ValueError(f"found '{value}', expected: ',', ')' or identifier")
            values.add(value)
            after = self._take()
            if after == ")":
                return values
            if after != ",":
                raise ValueError(f"found '{after}', expected: ',' or ')'")


def _tokens(text: str) -> Iterator[str]:
    for run in _TOKEN.findall(text):
        rest = run
        # Of signs that stand together the longest that means something is taken first: `!=` is one, `(,` are two.
        while rest and rest[0] in "=!(),<>":
            size = 2 if rest[:2] in _SYMBOLS else 1
            yield rest[:size]
            rest = rest[size:]
        if rest:
            yield rest


def _int64(text: str | None) -> int | None:
    if text is None or not _INT64.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def label_requirements(text: str) -> list[Requirement]:
    """A label selector's requirements, all of which have to be met; none for an empty one.

    Raises:
        ValueError: in the API server's words.
    """
    return list(_Parser(text).requirements())


def parse_labels(text: str) -> list[Requirement]:
    """As `label_requirements`, with an error for people.

    Raises:
        UsageError: what was found, and what was expected.
    """
    try:
        return label_requirements(text)
    except ValueError as error:
        raise UsageError(
            f'label selector "{text}": {error}', resolution="Examples: app=web  tier!=db  'env in (a,b)'  app  '!app'"
        ) from None


FIELDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "metadata.name": lambda pod: str(pod["metadata"]["name"]),
    "metadata.namespace": lambda pod: str(pod["metadata"].get("namespace", "")),
    "spec.nodeName": lambda pod: str(pod["spec"].get("nodeName") or ""),
    "spec.restartPolicy": lambda pod: str(pod["spec"].get("restartPolicy") or ""),
    "spec.schedulerName": lambda pod: str(pod["spec"].get("schedulerName") or ""),
    "spec.serviceAccountName": lambda pod: str(pod["spec"].get("serviceAccountName") or ""),
    "spec.hostNetwork": lambda pod: "true" if pod["spec"].get("hostNetwork") else "false",
    "status.phase": lambda pod: str((pod.get("status") or {}).get("phase") or ""),
    "status.podIP": lambda pod: str((pod.get("status") or {}).get("podIP") or ""),
    "status.podIPs": lambda pod: str((pod.get("status") or {}).get("podIP") or ""),
    "status.nominatedNodeName": lambda pod: str((pod.get("status") or {}).get("nominatedNodeName") or ""),
}
"""The fields of a pod that can be selected by, and how each reads."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a field selector: the field has, or has not, the value."""

    field: str
    value: str
    equal: bool

    def matches(self, pod: dict[str, Any]) -> bool:
        """Whether a Pod object meets it."""
        return (FIELDS[self.field](pod) == self.value) is self.equal


def field_terms(text: str) -> list[Term]:
    """A field selector's terms, of whatever fields. A backslash takes , = and \\ as they are.

    Raises:
        ValueError: in the API server's words.
    """
    terms = []
    for part in re.findall(r"(?:[^,\\]|\\.|\\$)+", text):
        found = re.fullmatch(r"((?:[^=!\\]|\\.|!(?!=))*)(!=|==|=)(.*)", part, re.DOTALL)
        if found is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = found.groups()
        if re.search(r"\\(?![\\,=])|(?<!\\)=", value):
            raise ValueError(f"invalid field selector: '{value}' holds a = or \\ that no backslash stands before")
        terms.append(Term(field, re.sub(r"\\(.)", r"\1", value), operator != "!="))
    return terms


def parse_fields(text: str) -> list[Term]:
    """A field selector's terms, all of which have to be met; none for an empty one.

    Raises:
        UsageError: it cannot be read, or a pod cannot be selected by such a field.
    """
    try:
        terms = field_terms(text)
    except ValueError as error:
        raise UsageError(str(error), resolution="--field-selector=status.phase=Running,metadata.name!=web") from None
    for term in terms:
        if term.field not in FIELDS:
            raise UsageError(
                f'field label not supported: "{term.field}"', resolution=f"Pods can be selected by: {', '.join(FIELDS)}"
            )
    return terms


class Selector:
    """Both selectors of a request.

    Args:
        labels: a label selector, or None.
        fields: a field selector, or None.

    Raises:
        UsageError: one of them cannot be read.
    """

    def __init__(self, labels: str | None = None, fields: str | None = None) -> None:
        self._requirements = parse_labels(labels or "")
        self._terms = parse_fields(fields or "")

    def matches(self, pod: dict[str, Any]) -> bool:
        """Whether a Pod object, with its status, is meant."""
        labels = pod["metadata"].get("labels") or {}
        return all(one.matches(labels) for one in self._requirements) and all(one.matches(pod) for one in self._terms)

    def __bool__(self) -> bool:
        return bool(self._requirements or self._terms)
