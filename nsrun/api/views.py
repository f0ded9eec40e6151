"""Objects in the shape a client asked for: as they are, as rows of a Table, as metadata alone; and in the group it asked by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from nsrun.api.answers import encoded
from nsrun.api.cache import Entry
from nsrun.api.forms import protobuf, tables
from nsrun.api.forms.negotiation import JSON, PROTOBUF, TABLE, Wanted
from nsrun.spec import events_api
from nsrun.spec.resources_table import Resource

_ENCODER = msgspec.json.Encoder()


class View:
    """How objects of one resource are shown to clients that want the same.

    Args:
        resource: of the path.
        form: media type and shape.
        include: of Tables: the objects that come with the rows, `Metadata`, `Object` or `None`.
    """

    def __init__(self, resource: Resource, form: Wanted, include: str = "Metadata") -> None:
        self.resource = resource
        self.form = form
        self.include = include
        self.key = (resource.qualified, form, include)
        self._plain = not form.shape
        self._converted = resource.group == "events.k8s.io"
        self._prefixes = tuple(
            msgspec.json.encode(head)[:-1] + b","
            for head in (
                {"apiVersion": resource.api_version, "kind": resource.kind},
                {"kind": resource.kind, "apiVersion": resource.api_version},
            )
        )

    def of_group(self, entry: Entry) -> dict[str, Any]:
        """The object as the group of the path has it."""
        return events_api.from_core(entry.object) if self._converted else entry.object

    def json(self, entry: Entry) -> bytes:
        """One object as it is, in JSON."""
        return _ENCODER.encode(events_api.from_core(entry.object)) if self._converted else entry.json

    def shaped(self, entry: Entry, *, columns: bool = True) -> dict[str, Any]:
        """One object in another shape than its own.

        Args:
            entry: the object.
            columns: of Tables: with the definitions of the columns.
        """
        obj = self.of_group(entry)
        if self.form.shape != TABLE:
            return tables.partial(obj, self.form.version)
        return tables.table(
            self.resource, [obj], time.time(), include=self.include, version=self.form.version, columns=columns
        )

    def one(self, entry: Entry) -> bytes | dict[str, Any]:
        """One object as the answer to a GET."""
        return self.json(entry) if self._plain else self.shaped(entry)

    def many(self, entries: Sequence[Entry], metadata: dict[str, Any]) -> bytes | dict[str, Any]:
        """A list."""
        if self._plain:
            head = {"kind": f"{self.resource.kind}List", "apiVersion": self.resource.api_version, "metadata": metadata}
            items = b",".join([self._item(entry) for entry in entries])
            return _ENCODER.encode(head)[:-1] + b',"items":[' + items + b"]}"
        objects = [self.of_group(entry) for entry in entries]
        if self.form.shape != TABLE:
            return tables.partial_list(objects, metadata, self.form.version)
        return tables.table(
            self.resource, objects, time.time(), include=self.include, version=self.form.version, metadata=metadata
        )

    def _item(self, entry: Entry) -> bytes:
        """An object in a list, which says once what all of them are."""
        json = self.json(entry)
        for prefix in self._prefixes:
            if json.startswith(prefix):
                return b"{" + json[len(prefix) :]
        return json

    def event(self, change: str, entry: Entry, *, columns: bool = True) -> bytes:
        """One event of a watch, with its line's end."""
        if self._plain and self.form.media == JSON:
            return b'{"type":"%s","object":%s}\n' % (change.encode(), self.json(entry))
        data = self.json(entry) if self._plain else self.shaped(entry, columns=columns)
        return self.frame(change, data)

    def frame(self, change: str, data: bytes | dict[str, Any]) -> bytes:
        """One event with any object."""
        if self.form.media == JSON:
            json = data if isinstance(data, bytes) else _ENCODER.encode(data)
            return b'{"type":"%s","object":%s}\n' % (change.encode(), json)
        obj = msgspec.json.decode(data) if isinstance(data, bytes) else data
        if self.form.media == PROTOBUF:
            return protobuf.watch_frame(change, obj)
        return b"---\n" + encoded({"type": change, "object": obj}, self.form)

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        """The event that tells how far the watch is."""
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: dict[str, Any] = {
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version,
            "metadata": metadata,
        }
        if self.form.shape.startswith("Partial"):
            obj |= {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{self.form.version}"}
        elif self.form.shape == TABLE:
            obj |= {"kind": "Table", "apiVersion": f"meta.k8s.io/{self.form.version}"}
            obj |= {"columnDefinitions": None, "rows": []}
        elif self.resource.kind == "Pod":
            obj |= {"spec": {"containers": None}, "status": {}}
        return self.frame("BOOKMARK", obj)
