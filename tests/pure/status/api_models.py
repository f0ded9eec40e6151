"""What Kubernetes' own Python client makes of our objects: a second opinion on every field's name and type."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubernetes import client

_API: Any = client.ApiClient()


def plain(value: Any) -> Any:
    """JSON data without what the API takes for absent, and with times in one form."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str) and len(value) >= 20 and value[4] == "-" and value[10] == "T":
        return datetime.fromisoformat(value).isoformat()
    return value


def assert_round_trip(data: dict[str, Any], model: str) -> None:
    """`data` fits the client's `model` (a member that it does not know is an error), and comes back the same."""
    kind = getattr(client, model)
    made = kind.model_validate(data)
    assert plain(_API.sanitize_for_serialization(made)) == plain(data)


def assert_pod(data: dict[str, Any]) -> None:
    """A Pod of the API."""
    assert data["kind"] == "Pod"
    assert data["apiVersion"] == "v1"
    assert_round_trip(data, "V1Pod")


def assert_event(data: dict[str, Any]) -> None:
    """An Event of the API."""
    assert data["kind"] == "Event"
    assert_round_trip(data, "CoreV1Event")
