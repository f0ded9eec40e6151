"""Manifest text → documents: YAML and JSON as Kubernetes reads them, with the line of every field.

The text is cut at its ``---`` lines first, as kubectl and the API server do; then each part is read by itself, as JSON when
it is that, else as YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from nsrun.errors import SpecError
from nsrun.spec.scalars import JsonNumber
from nsrun.spec.yaml_reader import MAX_DEPTH, YamlReader, too_deep

MAX_INPUT_BYTES = 64 * 1024 * 1024
"""Of one file or stream, however many documents it holds."""
MAX_DOCUMENT_BYTES = 3 * 1024 * 1024
"""Of one document: what the API server accepts in a request body (apiserver pkg/server/config.go)."""

MAX_DOCUMENTS = 10_000
"""In one file."""

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
        duplicates: for JSON: by the id of an object of `value`: the object, and the keys that it repeats.
    """

    __slots__ = (
        "_lines", "_located", "_text", "_whole", "duplicates", "error", "index", "is_json", "kind", "line", "name",
        "strict_errors", "value",
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
        self.duplicates: dict[int, tuple[Any, list[str]]] = {}
        self._lines: dict[int, dict[Any, int]] = {}
        self._text = ""
        self._located: Any = None
        self._whole: tuple[Document, str] | None = None

    def __repr__(self) -> str:
        return f"Document({self.name!r}, index={self.index}, line={self.line}, kind={self.kind!r})"

    def item(self, index: int, kind: str = "") -> Document:
        """The `index`-th of a List's items, as a document of its own at the same place.

        The items of a typed list (``PodList``) need not say their `kind`.
        """
        place = f"items[{index}]"
        part = Document(self.name, self.index, self.line_of(place), is_json=self.is_json)
        part._whole = (self, place)
        part.value = self.value["items"][index]
        if kind and type(part.value) is dict and "kind" not in part.value:
            part.value = {"apiVersion": "v1", "kind": kind, **part.value}
        part.kind = kind_of(part.value)
        part.duplicates = self.duplicates
        return part

    def line_of(self, path: str) -> int:
        """The line of the file on which the field `path` (``spec.containers[0].image``) stands.

        A path that is not in the document gives the line of its deepest part that is.
        """
        if self._whole is not None:
            whole, place = self._whole
            return whole.line_of(f"{place}.{path}" if path else place)
        if self._text:
            # JSON has no positions of its own; nearly all of it is YAML, whose reader has them.
            reader = YamlReader(self._text, self.line, self.name, is_json=True)
            self._text = ""
            try:
                self._located = reader.read()
            except SpecError:
                return self.line
            self._lines = reader.lines
        value = self._located if self.is_json else self.value
        line = self.line
        for step in path_steps(path):
            table = self._lines.get(id(value))
            if table is None:
                break
            step = step if step in table else str(step)  # a map may have numbers as keys
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
        if len(documents) > MAX_DOCUMENTS:
            raise SpecError(
                f"{name}: more than {MAX_DOCUMENTS} documents",
                resolution="Is this the right file? Otherwise cut it into several.",
            )
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
    reader = YamlReader(chunk, line, name)
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


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _read_json(chunk: str, line: int, name: str, index: int) -> list[Document] | None:
    """The JSON objects of `chunk`, or None when it is not (only) JSON: then it is read as YAML, as Kubernetes does."""
    duplicates: dict[int, tuple[Any, list[str]]] = {}

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            repeated: dict[str, None] = {}
            for key, _ in pairs:
                if key in seen:
                    repeated[key] = None
                seen.add(key)
            # The object goes along so that its id stays its own.
            duplicates[id(value)] = (value, list(repeated))
        return value

    decoder = json.JSONDecoder(
        object_pairs_hook=build, parse_float=JsonNumber.read, parse_constant=_refuse_constant, strict=True
    )
    documents: list[Document] = []
    at, counted = _space(chunk, 0), 0
    begin = line
    while at < len(chunk) and len(documents) <= MAX_DOCUMENTS:
        begin += chunk.count("\n", counted, at)
        counted = at
        document = Document(name, index + len(documents), begin, is_json=True)
        try:
            document.value, end = decoder.raw_decode(chunk, at)
        except RecursionError:
            document.error = too_deep(name, begin)
            return [*documents, document]
        except ValueError:
            return None
        if _depth_exceeds(document.value):
            document.value, document.error = None, too_deep(name, begin)
        elif "\\u" in chunk:
            _mend(document.value)
        document.kind = kind_of(document.value)
        document.duplicates = duplicates
        document._text = chunk[at:end]
        documents.append(document)
        at = _space(chunk, end)
    return documents


_LONE = re.compile("[\ud800-\udfff]")


def _mend(value: Any) -> None:
    """Put U+FFFD, as Go does, for each half of a character that JSON has escaped (``"\\ud800"``): no text can hold that."""
    if isinstance(value, dict):
        if any(_LONE.search(key) for key in value):
            pairs = [(_LONE.sub("\ufffd", key), one) for key, one in value.items()]
            value.clear()
            value.update(pairs)
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return
    for place, one in items:
        if isinstance(one, str):
            if _LONE.search(one):
                value[place] = _LONE.sub("\ufffd", one)
        else:
            _mend(one)


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
