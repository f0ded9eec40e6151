"""What may become of a ConfigMap or Secret that is there, as the API server judges it."""

from __future__ import annotations

import pytest

from nsrun.spec.model import ConfigMap, ObjectMeta, Secret
from nsrun.spec.update_objects import inherit, judge_object, same_object

META = ObjectMeta(name="x", namespace="default")
FIXED = "Forbidden: field is immutable when `immutable` is set"


def config(**fields: object) -> ConfigMap:
    return ConfigMap(metadata=META, **fields)  # type: ignore[arg-type] # the fields of a ConfigMap


def secret(**fields: object) -> Secret:
    return Secret(metadata=META, **({"type": "Opaque"} | fields))  # type: ignore[arg-type] # the fields of a Secret


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (config(data={"a": "1"}), config(data={"a": "2"}), []),
        (config(data={"a": "1"}), config(data={"a": "1"}, immutable=True), []),
        (config(immutable=True), config(immutable=True), []),
        (config(immutable=True), config(), [f"immutable: {FIXED}"]),
        (config(immutable=True), config(immutable=False, data={"a": "1"}), [f"immutable: {FIXED}", f"data: {FIXED}"]),
        (config(immutable=True), config(immutable=True, binaryData={"a": b"1"}), [f"binaryData: {FIXED}"]),
        (secret(), secret(type="x"), ['type: Invalid value: "x": field is immutable']),
        (secret(immutable=True, data={"a": b"1"}), secret(immutable=True, data={"a": b"2"}), [f"data: {FIXED}"]),
    ],
)
def test_updates(old: ConfigMap | Secret, new: ConfigMap | Secret, expected: list[str]) -> None:
    assert [str(error) for error in judge_object(old, new)] == expected


def test_a_type_that_is_not_named_stays() -> None:
    old, new = secret(type="kubernetes.io/tls"), secret()
    inherit(old, new, {"kind": "Secret"})
    assert new.type == "kubernetes.io/tls"
    inherit(old, named := secret(), {"type": "Opaque"})
    assert named.type == "Opaque"


def test_what_counts_as_the_same() -> None:
    assert same_object(config(data={"a": "1"}), config(data={"a": "1"}, immutable=False))
    assert not same_object(config(), config(binaryData={"a": b""}))
    assert not same_object(secret(), secret(type="x"))
    labelled = ConfigMap(metadata=ObjectMeta(name="x", labels={"a": "b"}))
    assert not same_object(config(), labelled)
    assert same_object(config(), ConfigMap(metadata=ObjectMeta(name="x", uid="u", resourceVersion="1")))
