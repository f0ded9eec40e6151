"""All objects as the server told of them, and what changed lately.

Reads are answered from here. A watch is a place in the history: those that want the same in the same form share the work
(watching.py). How far back the history goes decides which watches can go on after a pause; others get 410 Gone.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from nsrun.api.link import Change
from nsrun.spec.resources_table import RESOURCES

HISTORY_MIN = 10_000
"""Changes that are remembered at least, while their bytes allow it."""
HISTORY_S = 300.0
"""Younger changes are remembered also when there are more."""
HISTORY_MAX = 50_000
HISTORY_BYTES_MAX = 128 * 1024 * 1024
"""However many there are, the JSON of what is remembered never takes more."""

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()

Key = tuple[str, str]
"""Namespace ("" for what is in none) and name."""


class Entry:
    """One state of one object. Never changed: another state is another entry.

    Attributes:
        kind: of the object.
        key: namespace and name.
        version: its resourceVersion, as a number.
        json: the whole object.
    """

    __slots__ = ("_kept", "_object", "json", "key", "kind", "version")

    def __init__(self, kind: str, key: Key, version: int, json: bytes, obj: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self.key = key
        self.version = version
        self.json = json
        self._object = obj
        self._kept = True

    @property
    def object(self) -> dict[str, Any]:
        """The object; not to be changed."""
        if self._object is not None:
            return self._object
        found: dict[str, Any] = _DECODER.decode(self.json)
        if self._kept:
            self._object = found
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata; not to be changed."""
        found: dict[str, Any] = self.object["metadata"]
        return found

    def with_version(self, version: int) -> Entry:
        """The same state, as what ended with a change of that version."""
        metadata = {**self.metadata, "resourceVersion": str(version)}
        obj = {**self.object, "metadata": metadata}
        return Entry(self.kind, self.key, version, _ENCODER.encode(obj), obj)

    def forget_object(self) -> None:
        """Keep the bytes alone from now on: an object of dictionaries takes ten times as much."""
        self._object = None
        self._kept = False


class Step:
    """One change.

    Attributes:
        number: its place in the history, never used again.
        version: the resourceVersion that it has.
        entry: the object after the change; of one that is gone its last state, with the version of its going.
        before: the object before, or None for a new one.
        gone: the object is not there any more.
        at: when it was heard of, in seconds of the monotonic clock.
    """

    __slots__ = ("at", "before", "entry", "gone", "number", "version")

    def __init__(self, number: int, entry: Entry, before: Entry | None, *, gone: bool, at: float) -> None:
        self.number = number
        self.version = entry.version
        self.entry = entry
        self.before = before
        self.gone = gone
        self.at = at


class Cache:
    """All objects and the history.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._objects: dict[str, dict[Key, Entry]] = {one.kind: {} for one in RESOURCES}
        self._history: list[Step] = []
        self._bytes = 0
        self._next_number = 0
        self._snapshot: dict[tuple[str, Key], Entry] | None = {}
        self.version = 0
        """The resourceVersion of the newest change."""
        self.oldest = 0
        """The resourceVersion that a watch may begin behind: everything younger is remembered."""
        self.on_steps: Callable[[], None] = lambda: None
        """Called when the history has grown."""

    # what the server tells

    def begin(self) -> None:
        """What comes now, up to a bookmark, is all there is."""
        self._snapshot = {}

    def take(self, change: Change) -> None:
        """One event of the stream."""
        if change.type == "BOOKMARK":
            if self._snapshot is not None:
                self._settle(self._snapshot.values(), int(change.resourceVersion or 0))
                self._snapshot = None
            return
        entry = _entry(change)
        if self._snapshot is not None:
            # Changes happen while what there is is told: the newest word on an object counts.
            if change.type == "DELETED":
                self._snapshot.pop((entry.kind, entry.key), None)
            else:
                self._snapshot[entry.kind, entry.key] = entry
            return
        self._apply(entry, gone=change.type == "DELETED")
        self._trim()
        self.on_steps()

    def _settle(self, snapshot: Iterable[Entry], version: int) -> None:
        """Replace what was known by what there is: the difference becomes changes, in the order of their versions."""
        there: dict[str, dict[Key, Entry]] = {}
        for entry in snapshot:
            there.setdefault(entry.kind, {})[entry.key] = entry
        first = self.version == 0
        steps: list[tuple[Entry, bool]] = []
        went: list[tuple[Entry, int]] = []
        for kind, known in self._objects.items():
            now = there.get(kind, {})
            for key, old in known.items():
                new = now.get(key)
                if new is None:
                    went.append((old, version))
                elif new.metadata.get("uid") != old.metadata.get("uid"):
                    # It went before the one that has its name now came.
                    went.append((old, new.version - 1))
        for kind, now in there.items():
            known = self._objects.setdefault(kind, {})
            for key, new in now.items():
                old_one = known.get(key)
                if old_one is None or old_one.version != new.version:
                    steps.append((new, False))
        steps += self._goings(went, {entry.version for entry, _ in steps})
        if first:
            for entry, _ in steps:
                self._objects.setdefault(entry.kind, {})[entry.key] = entry
            self.oldest = version
        else:
            for entry, gone in sorted(steps, key=lambda step: (step[0].version, not step[1])):
                self._apply(entry, gone=gone)
        self.version = max(self.version, version)
        self._trim()
        self.on_steps()

    def _goings(self, went: Iterable[tuple[Entry, int]], taken: set[int]) -> list[tuple[Entry, bool]]:
        """Give objects that went unheard the versions at which they may have gone, each its own.

        The server gave each going a version that nothing else has, and said no more of it. Two changes of one version would be one place
        in the history: a watch that was cut off between them would go on behind both.

        Args:
            went: each with the highest version that will do.
            taken: versions of changes; grows.
        """
        goings = []
        free: dict[int, int] = {}
        for entry, highest in sorted(went, key=lambda one: -one[1]):
            found = free.get(highest, highest)
            while found in taken:
                found -= 1
            free[highest] = found - 1
            taken.add(found)
            goings.append((entry.with_version(found), True))
        return goings

    def _apply(self, entry: Entry, *, gone: bool) -> None:
        objects = self._objects.setdefault(entry.kind, {})
        before = objects.pop(entry.key, None) if gone else objects.get(entry.key)
        if not gone:
            objects[entry.key] = entry
        elif before is None:
            return
        self._next_number += 1
        step = Step(self._next_number, entry, before, gone=gone, at=self._clock())
        # Versions in the history never fall, so that a place in it can be found by one.
        self.version = step.version = max(entry.version, self.version)
        self._history.append(step)
        self._bytes += len(entry.json)
        if before is not None:
            before.forget_object()
        if gone:
            entry.forget_object()

    def _trim(self) -> None:
        count = len(self._history)
        keep_from = 0
        now = self._clock()
        while keep_from < count and self._too_much(count - keep_from, now - self._history[keep_from].at):
            self._bytes -= len(self._history[keep_from].entry.json)
            self.oldest = self._history[keep_from].version
            keep_from += 1
        if keep_from:
            del self._history[:keep_from]

    def _too_much(self, count: int, age_s: float) -> bool:
        if self._bytes > HISTORY_BYTES_MAX or count > HISTORY_MAX:
            return True
        return count > HISTORY_MIN and age_s > HISTORY_S

    # what reads ask

    def get(self, kind: str, namespace: str, name: str) -> Entry | None:
        """An object, or None; `namespace` is "" for a kind without."""
        return self._objects[kind].get((namespace, name))

    def of(self, kind: str, namespace: str | None = None) -> list[Entry]:
        """The objects of a kind (of one namespace), by namespace and name."""
        objects = self._objects[kind]
        keys = sorted(objects if namespace is None else (key for key in objects if key[0] == namespace))
        return [objects[key] for key in keys]

    def counts(self) -> Iterator[tuple[str, int]]:
        """How many objects there are, by kind."""
        return ((kind, len(objects)) for kind, objects in self._objects.items() if objects)

    def at(self, kind: str, namespace: str | None, version: int) -> list[Entry] | None:
        """The objects of a kind as they were at an earlier version; None when that is too long ago."""
        if version < self.oldest:
            return None
        then = {entry.key: entry for entry in self.of(kind, namespace)}
        for step in reversed(self._history):
            if step.version <= version:
                break
            entry = step.entry
            if entry.kind != kind or (namespace is not None and entry.key[0] != namespace):
                continue
            if step.before is None:
                then.pop(entry.key, None)
            else:
                then[entry.key] = step.before
        return [then[key] for key in sorted(then)]

    # the history

    @property
    def last(self) -> int:
        """The number of the newest step; 0 before the first."""
        return self._next_number

    def number_at(self, version: int) -> int:
        """The number of the newest step that is not younger than a version."""
        index = bisect_right(self._history, version, key=lambda step: step.version)
        if index < len(self._history):
            return self._history[index].number - 1
        return self._next_number

    def after(self, number: int) -> list[Step] | None:
        """The steps behind one; None when some of them are forgotten."""
        if number >= self._next_number:
            return []
        if not self._history or self._history[0].number > number + 1:
            return None
        return self._history[number + 1 - self._history[0].number :]

    @property
    def remembered(self) -> tuple[int, int]:
        """Changes and bytes of JSON in the history."""
        return len(self._history), self._bytes


def _entry(change: Change) -> Entry:
    json = bytes(change.object)
    obj = _DECODER.decode(json)
    metadata = obj["metadata"]
    key = (metadata.get("namespace") or "", metadata["name"])
    return Entry(change.kind, key, int(metadata.get("resourceVersion") or 0), json, obj)
