"""Manifest text → verdicts: what Kubernetes would say of every object in it, and the defaulted objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nsrun.errors import SpecError
from nsrun.spec import model
from nsrun.spec.decode import DecodeError, StrictError, check_kind, decode
from nsrun.spec.defaults import set_defaults
from nsrun.spec.documents import Document, read_documents
from nsrun.spec.field_errors import FieldError
from nsrun.spec.model import Object, Pod
from nsrun.spec.validate import validate

VerdictWord = Literal["valid", "invalid", "unknown-field", "decode-error", "other"]


@dataclass
class Verdict:
    """What Kubernetes says of one object.

    Attributes:
        document: where it stands.
        verdict: "valid"; "invalid": a rule of validation is broken; "unknown-field": strict decoding objects (unknown or
            duplicate fields); "decode-error": it is not an object of its kind at all, or cannot be read; "other": an object
            of a kind that nsrun knows of but does not read (a Service, a Deployment): its contents are not checked.
        messages: the API server's messages, [] when valid.
        paths: the field path of each message, "" where a message has none.
        object: the defaulted object, for every verdict but "decode-error" and "other".
        errors: for "invalid", the messages as data.
        hints: for "unknown-field", what may be meant by each, "" where nothing comes to mind.
    """

    document: Document
    verdict: VerdictWord
    messages: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    object: Object | None = None
    errors: list[FieldError] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    @property
    def raw(self) -> Any:
        """The object as it was written, in JSON terms; None when it could not be read."""
        return self.document.value

    @property
    def kind(self) -> str:
        """The object's kind, "" when it has none."""
        return self.document.kind

    @property
    def name(self) -> str:
        """The object's name, "" when it has none."""
        meta = self.raw.get("metadata") if isinstance(self.raw, dict) else None
        name = meta.get("name") if isinstance(meta, dict) else None
        return name if isinstance(name, str) else ""

    def where(self, path: str = "") -> str:
        """``file:line`` of a field of the object, of its first line for ""."""
        return self.document.where(path)

    def located_messages(self) -> list[str]:
        """The messages, each behind ``file:line``, and with a hint where there is one."""
        if self.document.error is not None:
            return list(self.messages)
        hints = self.hints or [""] * len(self.messages)
        return [
            f"{self.where(path)}: {message}{hint and f' ({hint})'}"
            for path, message, hint in zip(self.paths, self.messages, hints, strict=True)
        ]

    def require_valid(self) -> Object:
        """The object, when it is valid.

        Raises:
            SpecError: it is not; the messages are in it with file, line and field path.
        """
        if self.verdict == "valid" and self.object is not None:
            return self.object
        if self.document.error is not None:
            raise self.document.error
        what = f"{self.kind or 'object'} {self.name!r}" if self.name else self.kind or "document"
        if self.verdict == "other":
            raise SpecError(
                f"{self.where()}: {what} is not something nsrun runs",
                resolution="nsrun runs Pods. Leave the other objects out.",
            )
        reason = {
            "invalid": "is not valid",
            "unknown-field": "has fields that Kubernetes does not know",
            "decode-error": "does not fit its kind",
        }[self.verdict]
        raise SpecError(
            f"{self.where()}: {what} {reason}",
            details="\n".join(self.located_messages()),
            resolution=self._hint() or "Correct the manifest; a Kubernetes API server refuses it with the same words.",
        )

    def _hint(self) -> str | None:
        """What usually is behind a message that does not say it."""
        if self.verdict == "decode-error" and not self.document.is_json and "of type string" in self.messages[0]:
            if "unmarshal bool" in self.messages[0]:
                return "YAML reads y, n, yes, no, on, off, true and false as booleans: quote what is meant as text."
            if "unmarshal number" in self.messages[0]:
                return "YAML reads digits as a number: quote what is meant as text."
        return None


def load(data: bytes, name: str) -> list[Verdict]:
    """Read, decode, default and validate everything in a manifest.

    The items of a List are judged one by one, as kubectl does.

    Args:
        data: the file's bytes.
        name: how messages call the file.

    Raises:
        SpecError: the input as a whole is not a manifest (see `read_documents`).
    """
    return [judge(part) for document in read_documents(data, name=name) for part in _parts(document)]


def _parts(document: Document) -> Iterator[Document]:
    value = document.value
    item_kind = document.kind.removesuffix("List")
    is_list = document.kind == "List" or (document.kind != item_kind and item_kind in model.ROOTS)
    if is_list and value.get("apiVersion") == "v1" and isinstance(value.get("items") or [], list):
        for index in range(len(value.get("items") or [])):
            yield from _parts(document.item(index, item_kind))
    else:
        yield document


def judge(document: Document) -> Verdict:
    """The verdict on one document."""
    if document.error is not None:
        return Verdict(document, "decode-error", [document.error.brief], [""])
    try:
        version, kind = check_kind(document)
        if version == "v1" and kind.endswith("List"):
            raise DecodeError(f"the items of this {kind} are not a list", "items")
        if version != "v1" or kind not in model.ROOTS:
            return Verdict(document, "other")
        obj = decode(document)
    except DecodeError as error:
        return Verdict(document, "decode-error", [str(error)], [error.path])
    except StrictError as error:
        set_defaults(error.object)
        hints = [_meant(path, known) for path, known in zip(error.paths, error.known, strict=True)]
        return Verdict(document, "unknown-field", error.messages, error.paths, error.object, hints=hints)
    set_defaults(obj)
    # The same objection twice helps nobody; the API server folds them, too.
    errors = {str(error): error for error in validate(obj)}
    if not errors:
        return Verdict(document, "valid", object=obj)
    found = list(errors.values())
    return Verdict(document, "invalid", list(errors), [error.path for error in found], obj, found)


def _meant(path: str, known: tuple[str, ...]) -> str:
    """The field that an unknown one was meant to be, as a question."""
    from difflib import get_close_matches

    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(path.rpartition(".")[2].lower(), by_lower, n=1, cutoff=0.75)
    return f"did you mean {by_lower[close[0]]}?" if close else ""


def pods(verdicts: list[Verdict]) -> list[Pod]:
    """The pods among `verdicts`.

    Raises:
        SpecError: one of the objects is not valid, or several.
    """
    require_all_valid(verdicts)
    objects = [verdict.require_valid() for verdict in verdicts if verdict.verdict != "other"]
    return [obj for obj in objects if isinstance(obj, Pod)]


def require_all_valid(verdicts: Sequence[Verdict]) -> None:
    """That every object of a known kind is valid: who corrects a manifest wants to know all that is wrong with it.

    Raises:
        SpecError: of one, what `Verdict.require_valid` says; of several, that of each.
    """
    errors: list[SpecError] = []
    for verdict in verdicts:
        if verdict.verdict not in ("valid", "other"):
            try:
                verdict.require_valid()
            except SpecError as error:
                errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SpecError(
            f"{len(errors)} of {len(verdicts)} objects are not valid",
            details="\n".join(line for error in errors for line in (error.brief, *(error.details or "").splitlines())),
            resolution=errors[0].resolution,
        )
