"""What `pod wait --for` names, and whether a pod has come to it.

Source: kubectl pkg/cmd/wait/wait.go, condition.go, json.go. `phase=` is nsrun's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nsrun.errors import UsageError
from nsrun.spec.model import Pod, PodStatus
from nsrun.status.jsonpath import JsonPath, OutOfBoundsError, relaxed

HELP = (
    "Known: condition=Ready, condition=Ready=False, phase=Succeeded, jsonpath={.status.podIP}, "
    "jsonpath={.status.phase}=Running, create, delete"
)


@dataclass(frozen=True, slots=True)
class Created:
    """The pod is there."""

    def met(self, _pod: Pod, _status: PodStatus, _whole: Callable[[], Any]) -> bool:
        """A pod that can be asked is there."""
        return True


@dataclass(frozen=True, slots=True)
class Deleted:
    """Nothing is left of the pod."""

    def met(self, _pod: Pod, _status: PodStatus, _whole: Callable[[], Any]) -> bool:
        """A pod that can be asked is still there."""
        return False


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of the pod has a status; both regardless of case."""

    name: str
    status: str

    def met(self, pod: Pod, status: PodStatus, _whole: Callable[[], Any]) -> bool:
        """Whether it holds, of the present generation of the pod."""
        for one in status.conditions:
            if one.type.casefold() == self.name.casefold():
                observed = one.observedGeneration or status.observedGeneration
                if pod.metadata.generation and observed and observed < pod.metadata.generation:
                    return False
                return one.status.casefold() == self.status.casefold()
        return False


@dataclass(frozen=True, slots=True)
class Phase:
    """The pod is in a phase, regardless of case."""

    name: str

    def met(self, _pod: Pod, status: PodStatus, _whole: Callable[[], Any]) -> bool:
        """Whether it is."""
        return (status.phase or "Pending").casefold() == self.name.casefold()


@dataclass(frozen=True, slots=True)
class Value:
    """A path leads to a value; None is any."""

    path: JsonPath
    value: str | None

    def met(self, _pod: Pod, _status: PodStatus, whole: Callable[[], Any]) -> bool:
        """Whether it does.

        Raises:
            UsageError: the path leads to several values, or to one that is no string, number or truth value.
        """
        try:
            found = self.path.find(whole())
        except OutOfBoundsError:
            return False  # there may be as many later
        if not found or not found[0]:
            return False
        if len(found) > 1 or len(found[0]) > 1:
            raise UsageError(f"given jsonpath expression matches more than one {'list' if len(found) > 1 else 'value'}")
        if self.value is None:
            return True
        value = found[0][0]
        if isinstance(value, dict | list):
            raise UsageError("jsonpath leads to a nested object or list which is not supported")
        text = str(value).lower() if isinstance(value, bool) else "<nil>" if value is None else str(value)
        return text.strip() == self.value.strip()


Awaited = Created | Deleted | Condition | Phase | Value


def awaited(text: str) -> Awaited:
    """Read what stands after `--for=`.

    Raises:
        UsageError: it is nothing that can be waited for.
    """
    word, equals, rest = text.partition("=")
    match word.lower():
        case "create" if not equals:
            return Created()
        case "delete" if not equals:
            return Deleted()
        case "condition" if rest:
            name, _, wanted = rest.partition("=")
            return Condition(name, wanted or "true")
        case "phase" if rest:
            return Phase(rest)
        case "jsonpath":
            return _value(rest)
    raise UsageError(f'unrecognized condition: "{text}"', resolution=HELP)


def _value(text: str) -> Value:
    parts = _split(text)
    if len(parts) > 2:
        raise UsageError(
            "jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or "
            "--for=jsonpath='{.status.readyReplicas}'"
        )
    path = relaxed(parts[0])
    if len(parts) == 1:
        return Value(path, None)
    wanted = parts[1].strip("'\"")
    if not wanted:
        raise UsageError(
            "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3"
        )
    return Value(path, wanted)


def _split(text: str) -> list[str]:
    """At each single `=`; `==` belongs to a filter."""
    parts, at = [""], 0
    while at < len(text):
        if text.startswith("==", at):
            parts[-1] += "=="
            at += 2
            continue
        if text[at] == "=":
            parts.append("")
        else:
            parts[-1] += text[at]
        at += 1
    return parts
