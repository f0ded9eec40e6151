"""Manifest text → documents: YAML and JSON as Kubernetes reads them, with the line of every field.

Kubernetes turns YAML into JSON first (sigs.k8s.io/yaml over go.yaml.in/yaml/v2), so the scalars mean what that pair makes of
them, not what YAML 1.2 or PyYAML say: ``y`` is true, ``0o17`` is 15, ``08`` is 8, ``1:30`` and ``2026-01-02`` are strings.
libyaml (or PyYAML's own scanner) only gives the events; resolving and building are done here, without recursion, so that no
input can overflow a stack, and aliases are counted as go-yaml counts them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

from nsrun.errors import SpecError

MAX_INPUT_BYTES = 64 * 1024 * 1024
"""Of one file or stream, however many documents it holds."""
MAX_DOCUMENT_BYTES = 3 * 1024 * 1024
"""Of one document: what the API server accepts in a request body (apiserver pkg/server/config.go)."""
MAX_DEPTH = 200
"""Of nested maps and lists, aliases followed. No API object needs a tenth of it."""
_MAX_PATCHES = 1000
"""Of ``\\'`` in double quotes, per document, for which the text is read again."""

_SEPARATOR = re.compile(r"^---(?=[ \t\r]|$).*$", re.MULTILINE)
_BARE_SEPARATOR = re.compile(r"---[ \t\r]*(?:#.*)?")
_JSON_SPACE = re.compile(r"[ \t\r\n]*")


class Document:
    """One document of a manifest.

    Attributes:
        name: the file it came from, for messages.
        index: its place among the documents of the file, from 0; empty documents count.
        line: the line of the file on which it begins, from 1.
        value: what it says, in JSON terms (dict, list, str, int, float, bool, None); None when `error` is set.
        kind: its ``kind``, "" when it has none.
        error: why it cannot be read.
        is_json: it was read as JSON: keys keep their order, numbers keep their text.
        strict_errors: what only strict decoding objects to (duplicate keys).
        duplicates: for JSON: the keys that an object of `value` repeats, by the object's id.
    """

    __slots__ = (
        "_lines", "_text", "duplicates", "error", "index", "is_json", "kind", "line", "name", "strict_errors", "value",
    )  # fmt: skip

    def __init__(self, name: str, index: int, line: int, *, is_json: bool = False) -> None:
        self.name = name
        self.index = index
        self.line = line
        self.value: Any = None
        self.kind = ""
        self.error: SpecError | None = None
        self.is_json = is_json
        self.strict_errors: list[str] = []
        self.duplicates: dict[int, list[str]] = {}
        self._lines: dict[int, dict[Any, int]] = {}
        self._text = ""

    def __repr__(self) -> str:
        return f"Document({self.name!r}, index={self.index}, line={self.line}, kind={self.kind!r})"

    def item(self, index: int) -> Document:
        """The `index`-th of a List's items, as a document of its own at the same place."""
        part = Document(self.name, self.index, self.line_of(f"items[{index}]"), is_json=self.is_json)
        part.value = self.value["items"][index]
        part.kind = kind_of(part.value)
        part.duplicates = self.duplicates
        part._lines = self._lines
        return part

    def line_of(self, path: str) -> int:
        """The line of the file on which the field `path` (``spec.containers[0].image``) stands.

        A path that is not in the document gives the line of its deepest part that is.
        """
        if self.is_json and not self._lines and self._text:
            # JSON has no positions of its own; nearly all of it is YAML, whose reader has them.
            reader = _Reader(self._text, self.line, self.name)
            try:
                value = reader.read()
            except SpecError:
                return self.line
            self._lines, self._text = reader.lines, ""
            return self._walk(value, path)
        return self._walk(self.value, path)

    def _walk(self, value: Any, path: str) -> int:
        line = self.line
        for step in path_steps(path):
            table = self._lines.get(id(value))
            if table is None:
                break
            if step in table:
                line = table[step]
                value = value[step]
            else:
                break
        return line

    def where(self, path: str = "") -> str:
        """``file:line`` of a field, for messages."""
        return f"{self.name}:{self.line_of(path) if path else self.line}"


def path_steps(path: str) -> Iterator[str | int]:
    """The steps of a field path: ``a.b[0].c`` gives "a", "b", 0, "c"; ``m[k.l]`` gives "m", "k.l"."""
    for match in re.finditer(r"\.?([^.\[\]]+)|\[([^\]]*)\]", path):
        name, key = match.groups()
        if name is not None:
            yield name
        else:
            yield int(key) if key.isdigit() else key


def kind_of(value: Any) -> str:
    """The ``kind`` of a decoded document, "" when there is none."""
    kind = value.get("kind") if type(value) is dict else None
    return kind if isinstance(kind, str) else ""


def read_documents(data: bytes, *, name: str) -> list[Document]:
    """Read all documents of a manifest.

    A document that cannot be read is in the list with its `error` set, so that the others still get their verdict; empty
    documents are left out but keep their index.

    Args:
        data: the file's bytes, UTF-8.
        name: how messages call the file.

    Raises:
        SpecError: the input as a whole is not a manifest: too large, not text, or without any document.
    """
    if len(data) > MAX_INPUT_BYTES:
        raise SpecError(
            f"{name}: {_mebibytes(len(data))} is too much for a manifest",
            details=f"The limit is {_mebibytes(MAX_INPUT_BYTES)} for a file and {_mebibytes(MAX_DOCUMENT_BYTES)} for"
            " a document, as for a request to a Kubernetes API server.",
            resolution="Is this the right file?",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{name}:{line}: not text in UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start})",
            resolution="A manifest is a YAML or JSON text file. Is this the right file?",
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SpecError(
            f"{name}:{line}: a binary file, not a manifest (it has a zero byte)",
            resolution="A manifest is a YAML or JSON text file. Is this the right file?",
        )
    documents: list[Document] = []
    index = 0
    for line, chunk in _chunks(text):
        for document in _read_chunk(chunk, line, name, index):
            index = document.index + 1
            if document.value is not None or document.error is not None:
                documents.append(document)
    if not documents:
        raise SpecError(
            f"{name}: there is no document in it" if text.strip() else f"{name}: empty",
            resolution="Expected a Pod manifest in YAML or JSON.",
        )
    return documents


def _mebibytes(size: int) -> str:
    return f"{size / (1024 * 1024):.4g} MiB"


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The texts between separators, with the line each begins on; as the reader of kubectl and the API server cuts them.

    A directive (``%YAML``) belongs to the document that its own ``---`` begins.
    """
    start, line = 0, 1
    for match in _SEPARATOR.finditer(text):
        begin, end = match.span()
        part = text[start:begin]
        if "%" in part and all(row.lstrip()[:1] in ("", "%", "#") for row in part.splitlines()):
            continue
        if part:
            yield line, part
        line += part.count("\n")
        start = begin
        if _BARE_SEPARATOR.fullmatch(match.group()):
            start = min(end + 1, len(text))
            line += 1
    if start < len(text):
        yield line, text[start:]


def _read_chunk(chunk: str, line: int, name: str, index: int) -> Iterator[Document]:
    """The documents of a chunk: one, or several JSON objects one after another."""
    size = len(chunk) if chunk.isascii() else len(chunk.encode("utf-8"))
    if size > MAX_DOCUMENT_BYTES:
        document = Document(name, index, line)
        document.error = SpecError(
            f"{name}:{line}: a document of {_mebibytes(size)}; at most {_mebibytes(MAX_DOCUMENT_BYTES)} are accepted",
            details="An API server refuses larger request bodies, too.",
        )
        yield document
        return
    if chunk.lstrip()[:1] == "{":
        found = _read_json(chunk, line, name, index)
        if found is not None:
            yield from found
            return
    blank = len(chunk) - len(chunk.lstrip("\n"))
    document = Document(name, index, line + blank)
    reader = _Reader(chunk, line, name)
    try:
        document.value = reader.read()
    except SpecError as error:
        document.error = error
    else:
        document._lines = reader.lines
        if reader.duplicates:
            document.strict_errors.append("yaml: unmarshal errors:\n" + "\n".join(reader.duplicates))
        document.kind = kind_of(document.value)
        document.line = reader.first_line or document.line
    yield document


# JSON


class JsonNumber(float):
    """A number of a JSON text that is not written as an integer; `text` is how it is written."""

    text: str

    @classmethod
    def read(cls, text: str) -> JsonNumber:
        """Read the literal `text`."""
        number = cls(text)
        number.text = text
        return number


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _read_json(chunk: str, line: int, name: str, index: int) -> list[Document] | None:
    """The JSON objects of `chunk`, or None when it is not (only) JSON: then it is read as YAML, as Kubernetes does."""
    duplicates: dict[int, list[str]] = {}

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            duplicates[id(value)] = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        return value

    decoder = json.JSONDecoder(
        object_pairs_hook=build, parse_float=JsonNumber.read, parse_constant=_refuse_constant, strict=True
    )
    documents = []
    at = _space(chunk, 0)
    while at < len(chunk):
        begin = line + chunk.count("\n", 0, at)
        document = Document(name, index + len(documents), begin, is_json=True)
        try:
            document.value, end = decoder.raw_decode(chunk, at)
        except RecursionError:
            document.error = _too_deep(name, begin)
            return [*documents, document]
        except ValueError:
            return None
        if _depth_exceeds(document.value):
            document.value, document.error = None, _too_deep(name, begin)
        document.kind = kind_of(document.value)
        document.duplicates = duplicates
        document._text = chunk[at:end]
        documents.append(document)
        at = _space(chunk, end)
    return documents


def _space(text: str, at: int) -> int:
    match = _JSON_SPACE.match(text, at)
    return match.end() if match else at


def _depth_exceeds(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _too_deep(name: str, line: int) -> SpecError:
    return SpecError(
        f"{name}:{line}: maps and lists are nested more than {MAX_DEPTH} deep",
        resolution="No Kubernetes object is nested this deep. Is this the right file?",
    )


# YAML


class _Frame:
    """A map or list under construction."""

    __slots__ = ("anchor", "container", "height", "key", "key_line", "lines", "merging", "size", "start")

    def __init__(self, container: Any, anchor: str | None, start: int) -> None:
        self.container = container
        self.anchor = anchor
        self.start = start
        self.lines: dict[Any, int] = {}
        self.key: Any = _NO_KEY
        self.key_line = 0
        self.merging = False
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


class _Reader:
    """Builds the value of the first document of a text from its YAML events."""

    def __init__(self, text: str, first_line: int, name: str) -> None:
        self.text = text
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

        for _ in range(_MAX_PATCHES):
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
        at = self._index(mark)
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

    def _index(self, mark: Any) -> int:
        return int(mark.index)

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
                        raise _too_deep(self.name, self.offset + line)
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
                        raise _too_deep(self.name, self.offset + line)
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
                self.duplicates.append(f"  line {self.offset + line}: key {_go_value(key)} already set in map")
            container[key] = value
            frame.lines[key] = self.offset + frame.key_line

    def _merge(self, frame: _Frame, value: Any, line: int) -> None:
        sources = value if type(value) is list else [value]
        for source in reversed(sources):  # earlier ones win
            if type(source) is not dict:
                raise self.fail(line, "yaml: map merge requires map or sequence of maps as the value")
            for key, item in source.items():
                if key in frame.container:
                    self.duplicates.append(f"  line {self.offset + line}: key {_go_value(key)} already set in map")
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
            return _float32_text(value)
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
        return yaml.cyaml.CParser(text)
    return yaml.Loader(text)


def _allowed_alias_ratio(steps: int) -> float:
    """How much of the decoding may come from aliases (go-yaml v2 decode.go)."""
    low, high = 400_000, 4_000_000
    if steps <= low:
        return 0.99
    if steps >= high:
        return 0.10
    return 0.99 - 0.89 * (steps - low) / (high - low)


# Scalars

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_NUMBERLIKE = frozenset("0123456789+-.")
_DECIMAL_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_RADIX_INT = re.compile(r"([-+]?)0(?:[xX]([0-9a-fA-F]+)|[bB]([01]+)|[oO]?([0-7]+))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_DOT_FLOAT = re.compile(r"\.[0-9]+(?:[eE][-+]?[0-9]+)?", re.ASCII)


def resolve(text: str) -> Any:
    """What a plain YAML scalar means to Kubernetes (go-yaml v2 resolve.go).

    A float with a whole value comes back as an int, because its JSON form is one.
    """
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first not in _NUMBERLIKE:
        return text
    if first == ".":
        return _float(text, text) if _DOT_FLOAT.fullmatch(text) else text
    plain = text.replace("_", "")
    if len(plain) <= 66:  # no 64-bit number is longer
        number: int | None = None
        if _DECIMAL_INT.fullmatch(plain):
            number = int(plain)
        elif match := _RADIX_INT.fullmatch(plain):
            sign, hexadecimal, binary, octal = match.groups()
            number = int(hexadecimal, 16) if hexadecimal else int(binary, 2) if binary else int(octal, 8)
            number = -number if sign == "-" else number
        if number is not None and -(1 << 63) <= number < (1 << 63 if plain[0] in "+-" else 1 << 64):
            return number
    if _FLOAT.fullmatch(plain):
        return _float(plain, text)
    return text


def _float(plain: str, text: str) -> Any:
    value = float(plain)
    if math.isinf(value):
        return text
    if value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def go_float(value: float) -> str:
    """A float as Go's encoding/json writes it."""
    if isinstance(value, JsonNumber):
        return value.text
    text = repr(value)
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return format(value, "f") if "e" in text and float(format(value, "f")) == value else _no_exponent(text)
    return re.sub(r"e([-+])0(\d)$", r"e\1\2", text)


def _no_exponent(text: str) -> str:
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction}{'0' * (shift - len(fraction))}"


def _float32_text(value: float) -> str:
    """A float as a map key: Go's shortest form that is the same 32-bit float."""
    if math.isnan(value):
        return ".nan"
    try:
        (single,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        single = math.inf if value > 0 else -math.inf
    if math.isinf(single):
        return ".inf" if single > 0 else "-.inf"
    for digits in range(1, 10):
        text = f"{single:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == single:
            break
    return text


def _go_value(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)
