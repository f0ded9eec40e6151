"""YAML text → value, as Kubernetes reads it, with the line of every field.

libyaml (or PyYAML's own scanner where that is not built in) only gives the events. Resolving and building are done here:
without recursion, so that no input can overflow a stack; with aliases counted as go-yaml counts them, so that none can
fill the memory.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from nsrun.errors import SpecError
from nsrun.spec.scalars import float32_text, resolve

MAX_DEPTH = 200
"""Of nested maps and lists, aliases followed. No API object needs a tenth of it."""
_MAX_REREAD_BYTES = 16 * 1024 * 1024
"""Of text that is read again because of ``\\'`` in double quotes."""


def too_deep(name: str, line: int) -> SpecError:
    return SpecError(
        f"{name}:{line}: maps and lists are nested more than {MAX_DEPTH} deep",
        resolution="No Kubernetes object is nested this deep. Is this the right file?",
    )


class _Frame:
    """A map or list under construction."""

    __slots__ = ("anchor", "container", "height", "key", "key_line", "lines", "size", "start")

    def __init__(self, container: Any, anchor: str | None, start: int) -> None:
        self.container = container
        self.anchor = anchor
        self.start = start
        self.lines: dict[Any, int] = {}
        self.key: Any = _NO_KEY
        self.key_line = 0
        self.size = 1
        self.height = 1


class _Anchored:
    """What an anchor names: the value, how many decoding steps it takes, and how deep it is."""

    __slots__ = ("height", "size", "value")

    def __init__(self, value: Any, size: int, height: int) -> None:
        self.value = value
        self.size = size
        self.height = height


_NO_KEY = object()
_MERGE = object()


class YamlReader:
    """Builds the value of the first document of a text from its YAML events."""

    def __init__(self, text: str, first_line: int, name: str, *, is_json: bool = False) -> None:
        self.text = text
        self.is_json = is_json
        self.offset = first_line
        self.name = name
        self.lines: dict[int, dict[Any, int]] = {}
        self.duplicates: list[str] = []
        self.first_line = 0

    def fail(self, mark_line: int, problem: str) -> SpecError:
        """The error for a problem on the `mark_line`-th line (from 0) of the text."""
        return SpecError(
            f"{self.name}:{self.offset + mark_line}: {problem}",
            resolution="Correct the YAML; a manifest must be one map per document.",
        )

    def read(self) -> Any:
        """The value.

        Raises:
            SpecError: the text is not YAML, or not YAML that has a JSON form.
        """
        import yaml

        for _ in range(10 + _MAX_REREAD_BYTES // (len(self.text) + 1)):
            self.lines.clear()
            self.duplicates.clear()
            try:
                return self._build()
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark or error.context_mark
                if not self._patched(error):
                    line = mark.line if mark else 0
                    problem = f"yaml: {error.problem or error.context or 'cannot be read'}"
                    raise self.fail(line, problem) from None
            except yaml.YAMLError as error:
                problem = f"yaml: {getattr(error, 'reason', None) or error}"
                position = getattr(error, "position", 0)
                line = self.text.count("\n", 0, position if isinstance(position, int) else 0)
                raise self.fail(line, problem) from None
        raise self.fail(0, "yaml: too many \\' in double quotes")

    def _patched(self, error: Any) -> bool:
        """go-yaml accepts ``\\'`` in double quotes and libyaml does not: spell it differently and read again."""
        mark = error.problem_mark
        if mark is None or "unknown escape" not in str(error.problem):
            return False
        at: int = mark.index
        for start in (at - 1, at, at - 2):
            if start >= 0 and self.text[start : start + 2] == "\\'":
                break
        else:
            return False
        # The rest of this scalar at once, so that a long one is not read once per quote.
        end = start
        while end < len(self.text) and self.text[end] != '"':
            end += 2 if self.text[end] == "\\" else 1
        scalar = re.sub(r"\\(.)", lambda m: "\\x27" if m[1] == "'" else m[0], self.text[start:end], flags=re.DOTALL)
        self.text = self.text[:start] + scalar + self.text[end:]
        return True

    def _build(self) -> Any:
        from yaml import events as ev

        parser = _event_source(self.text)
        get_event = parser.get_event
        anchors: dict[str, _Anchored] = {}
        open_anchors: set[str] = set()
        stack: list[_Frame] = []
        steps = aliased = 0
        try:
            while True:
                event = get_event()
                kind = type(event)
                anchor = None
                if kind is ev.ScalarEvent:
                    line = event.start_mark.line
                    value: Any = self._scalar(event, line, stack)
                    size, height, anchor = 1, 0, event.anchor
                    steps += 1
                elif kind is ev.MappingStartEvent or kind is ev.SequenceStartEvent:
                    line = event.start_mark.line
                    if not self.first_line:
                        self.first_line = self.offset + line
                    if len(stack) >= MAX_DEPTH:
                        raise too_deep(self.name, self.offset + line)
                    if event.anchor is not None:
                        open_anchors.add(event.anchor)
                        anchors.pop(event.anchor, None)
                    stack.append(_Frame({} if kind is ev.MappingStartEvent else [], event.anchor, line))
                    steps += 1
                    continue
                elif kind is ev.MappingEndEvent or kind is ev.SequenceEndEvent:
                    frame = stack.pop()
                    value, line, size, height = frame.container, frame.start, frame.size, frame.height
                    anchor = frame.anchor
                    self.lines[id(value)] = frame.lines
                    if anchor is not None:
                        open_anchors.discard(anchor)
                elif kind is ev.AliasEvent:
                    line = event.start_mark.line
                    if event.anchor in open_anchors:
                        raise self.fail(line, f"yaml: anchor '{event.anchor}' value contains itself")
                    target = anchors.get(event.anchor)
                    if target is None:
                        raise self.fail(line, f"yaml: unknown anchor '{event.anchor}' referenced")
                    value, size, height = target.value, target.size + 1, target.height
                    steps += size
                    aliased += target.size
                    if aliased > 100 and steps > 1000 and aliased / steps > _allowed_alias_ratio(steps):
                        raise self.fail(line, "yaml: document contains excessive aliasing")
                    if len(stack) + height > MAX_DEPTH:
                        raise too_deep(self.name, self.offset + line)
                elif kind is ev.DocumentEndEvent:
                    self._nothing_follows(get_event, ev)
                    return value
                elif kind is ev.StreamEndEvent:
                    return None
                else:
                    continue
                if anchor is not None:
                    anchors[anchor] = _Anchored(value, size, height)
                if stack:
                    top = stack[-1]
                    top.size += size
                    if height >= top.height:
                        top.height = height + 1
                    self._put(top, value, line)
        finally:
            dispose = getattr(parser, "dispose", None)
            if dispose is not None:
                dispose()

    def _nothing_follows(self, get_event: Any, ev: Any) -> None:
        """Kubernetes would ignore what stands behind ``...``: here that is an error, nothing is dropped in silence."""
        event = get_event()
        if type(event) is not ev.StreamEndEvent:
            raise self.fail(
                event.start_mark.line, "yaml: text after the end of the document ('...'): begin it with '---'"
            )

    def _put(self, frame: _Frame, value: Any, line: int) -> None:
        container = frame.container
        if type(container) is list:
            frame.lines[len(container)] = self.offset + line
            container.append(value)
        elif frame.key is _NO_KEY:
            if value is _MERGE:
                frame.key = _MERGE
                return
            frame.key = self._key(value, line)
            frame.key_line = line
        else:
            key, frame.key = frame.key, _NO_KEY
            if key is _MERGE:
                self._merge(frame, value, line)
                return
            if key in container:
                self._duplicate(key, line)
            container[key] = value
            frame.lines[key] = self.offset + frame.key_line

    def _duplicate(self, key: str, line: int) -> None:
        quoted = json.dumps(key, ensure_ascii=False)
        self.duplicates.append(f"  line {self.offset + line}: key {quoted} already set in map")

    def _merge(self, frame: _Frame, value: Any, line: int) -> None:
        sources = value if type(value) is list else [value]
        for source in reversed(sources):  # earlier ones win
            if type(source) is not dict:
                raise self.fail(line, "yaml: map merge requires map or sequence of maps as the value")
            for key, item in source.items():
                if key in frame.container:
                    self._duplicate(key, line)
                frame.container[key] = item
                frame.lines[key] = self.lines.get(id(source), {}).get(key, self.offset + line)

    def _key(self, value: Any, line: int) -> str:
        """A key as the conversion to JSON spells it."""
        if type(value) is str:
            return value
        if value is True or value is False:
            return "true" if value else "false"
        if type(value) is int:
            return str(value)
        if type(value) is float:
            return float32_text(value)
        if value is None:
            raise self.fail(line, "a key is null; quote it if it is meant as text")
        raise self.fail(line, "a key is a map or a list; JSON has no such keys")

    def _scalar(self, event: Any, line: int, stack: list[_Frame]) -> Any:
        text: str = event.value
        tag: str | None = event.tag
        if not self.first_line:
            self.first_line = self.offset + line
        if tag is None:
            if event.implicit[0]:
                if text == "<<" and stack and type(stack[-1].container) is dict and stack[-1].key is _NO_KEY:
                    return _MERGE
                return resolve(text)
            if event.style == '"':
                self._check_escapes(event, line)
            return text
        if event.style == '"':
            self._check_escapes(event, line)
        return self._tagged(tag.removeprefix("tag:yaml.org,2002:"), tag, text, line)

    def _check_escapes(self, event: Any, line: int) -> None:
        """libyaml accepts ``\\/`` in double quotes and go-yaml does not."""
        if self.is_json:
            return
        source = self.text[event.start_mark.index : event.end_mark.index]
        if "\\/" in source and re.search(r"(?<!\\)(?:\\\\)*\\/", source):
            raise self.fail(line, "yaml: found unknown escape character (\\/ in double quotes)")

    def _tagged(self, short: str, tag: str, text: str, line: int) -> Any:
        """A scalar with an explicit tag."""
        if short == "binary":
            try:
                return base64.b64decode(text.replace("\n", ""), validate=True).decode("utf-8", "replace")
            except (binascii.Error, ValueError):
                raise self.fail(line, "yaml: !!binary value contains invalid base64 data") from None
        if short == "str" or short == tag or short not in ("bool", "int", "float", "null", "timestamp"):
            return text
        if short == "timestamp":
            return text
        value = resolve(text)
        found = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "str")
        if short == "float" and found == "int":
            return value
        if found != short:
            raise self.fail(line, f"yaml: cannot decode !!{found} `{text}` as a !!{short}")
        return value


def _event_source(text: str) -> Any:
    """A parser that gives YAML events: libyaml's, or PyYAML's own where that is not built in."""
    import yaml

    if yaml.__with_libyaml__:
        return yaml.CLoader(text)
    return yaml.Loader(text)


def _allowed_alias_ratio(steps: int) -> float:
    """How much of the decoding may come from aliases (go-yaml v2 decode.go)."""
    low, high = 400_000, 4_000_000
    if steps <= low:
        return 0.99
    if steps >= high:
        return 0.10
    return 0.99 - 0.89 * (steps - low) / (high - low)
