"""Manifests → typed, defaulted, validated Kubernetes objects. Pure: no input or output, no clock.

    load(data, name) → list[Verdict]          everything at once
    read_documents → decode → set_defaults → validate   the steps
    unsupported(pod) → list[Unsupported]      what nsrun does not do, of a valid pod
    changes(old, new) → list[str]             the field paths in which two pods differ
    encode(obj), to_dict(obj)                 back to JSON

The types are in nsrun.spec.model, the amounts in nsrun.spec.quantity. Verdicts and messages are those of a Kubernetes
v1.36 API server.
"""

from __future__ import annotations

from nsrun.spec.changes import changes
from nsrun.spec.decode import DecodeError, StrictError, decode, encode, to_dict
from nsrun.spec.defaults import set_defaults
from nsrun.spec.documents import Document, read_documents
from nsrun.spec.field_errors import FieldError
from nsrun.spec.load import Verdict, judge, load, pods
from nsrun.spec.model import ConfigMap, Event, Object, PersistentVolume, PersistentVolumeClaim, Pod, Secret
from nsrun.spec.quantity import Quantity, QuantityError
from nsrun.spec.support import NOT_APPLICABLE, NOT_IMPLEMENTED, Unsupported, unsupported
from nsrun.spec.validate import validate

__all__ = [
    "NOT_APPLICABLE",
    "NOT_IMPLEMENTED",
    "ConfigMap",
    "DecodeError",
    "Document",
    "Event",
    "FieldError",
    "Object",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "Quantity",
    "QuantityError",
    "Secret",
    "StrictError",
    "Unsupported",
    "Verdict",
    "changes",
    "decode",
    "encode",
    "judge",
    "load",
    "pods",
    "read_documents",
    "set_defaults",
    "to_dict",
    "unsupported",
    "validate",
]
