"""A client of `api.*`: one connection with the stream, as the process that serves HTTP has it."""

from __future__ import annotations

import select
import time
from types import TracebackType
from typing import Any

from nsrun.errors import NsrunError, StatusError
from tests.host.server.harness import Server, Wire

Key = tuple[str, str, str]
"""Kind, namespace and name."""


def key_of(obj: dict[str, Any]) -> Key:
    """What an object is known by."""
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class ApiClient:
    """Requests and the stream on one connection. `objects` is what the stream has told, up to the last answer or wait.

    Args:
        server: whose socket it is.
    """

    def __init__(self, server: Server) -> None:
        self.wire = Wire(server.socket)
        self.objects: dict[Key, dict[str, Any]] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []
        """All changes after the first BOOKMARK."""
        self.bookmark = ""
        self._watch = self.wire.send("api.watch", {}, ())
        while not self.bookmark:
            self._take()

    def _take(self) -> dict[str, Any] | None:
        message, _fds = self.wire.receive()
        if message.get("id") != self._watch:
            return message
        assert "event" in message, message
        event = message["event"]
        if event["type"] == "BOOKMARK":
            self.bookmark = event["resourceVersion"]
            return None
        obj = event["object"]
        assert obj["kind"] == event["kind"]
        if self.bookmark:
            self.told.append((event["type"], obj))
        if event["type"] == "DELETED":
            self.objects.pop(key_of(obj), None)
        else:
            self.objects[key_of(obj)] = obj
        return None

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A request on the stream's connection: all that was told before its answer is in `objects`."""
        number = self.wire.send(method, params, ())
        while True:
            message = self._take()
            if message is None or message.get("id") != number:
                continue
            if "error" in message:
                raise NsrunError.from_data(message["error"])
            result: dict[str, Any] = message["result"]
            return result

    def create(self, obj: dict[str, Any], **params: Any) -> dict[str, Any]:
        """api.create; the object."""
        found: dict[str, Any] = self.call("api.create", object=obj, **params)["object"]
        return found

    def update(self, obj: dict[str, Any], **params: Any) -> dict[str, Any]:
        """api.update; the object."""
        found: dict[str, Any] = self.call("api.update", object=obj, **params)["object"]
        return found

    def delete(self, kind: str, name: str, namespace: str = "default", **params: Any) -> dict[str, Any]:
        """api.delete; the answer."""
        return self.call("api.delete", kind=kind, name=name, namespace=namespace, **params)

    def refusal(self, method: str, **params: Any) -> dict[str, Any]:
        """The Status of a request that is refused."""
        try:
            answer = self.call(method, **params)
        except StatusError as error:
            return error.status
        raise AssertionError(f"{method} was not refused: {answer}")

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """An object as it is now."""
        self.call("server.ping")
        return self.objects[kind, namespace, name]

    def until(self, condition: Any, timeout_s: float = 20.0) -> None:
        """Wait until the stream has told what makes a condition true."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not within {timeout_s} s; the last that was told: {self.told[-3:]}"
            if select.select([self.wire.sock], [], [], left)[0]:
                self._take()

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wire.close()
