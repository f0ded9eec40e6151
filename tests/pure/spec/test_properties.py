"""What holds for any object that decodes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun import spec
from nsrun.spec import model
from tests.pure.spec.generated import fitting, objects

SLOW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def decode(value: Any, *, as_yaml: bool = False) -> Any:
    text = json.dumps(value)
    (document,) = spec.read_documents(("#\n--- " + text if as_yaml else text).encode(), name="g")
    return spec.decode(document)


@SLOW
@given(st.sampled_from(sorted(model.ROOTS)).flatmap(objects))
def test_there_is_a_way_back(value: dict[str, Any]) -> None:
    obj = decode(value)
    again = decode(json.loads(spec.encode(obj)))
    assert again == obj
    assert json.loads(spec.encode(again)) == json.loads(spec.encode(obj)) == json.loads(json.dumps(spec.to_dict(obj)))


@SLOW
@given(fitting("v1.PodStatus"))
def test_the_status_has_a_way_back(status: dict[str, Any]) -> None:
    obj = decode({"apiVersion": "v1", "kind": "Pod", "status": status})
    assert decode(json.loads(spec.encode(obj))) == obj


@SLOW
@given(objects("Pod"))
def test_a_pod_goes_all_the_way(value: dict[str, Any]) -> None:
    pod = decode(value)
    spec.set_defaults(pod)
    once = copy.deepcopy(pod)
    spec.set_defaults(pod)
    assert pod == once, "defaulting twice"

    errors = spec.validate(pod)
    assert pod == once, "validation changes nothing"
    for error in errors:
        assert str(error).startswith(f"{error.path}: {error.type}")
    for found in spec.unsupported(pod):
        assert found.path
        assert found.kind in (spec.NOT_APPLICABLE, spec.NOT_IMPLEMENTED)
        assert found.message
        assert found.message != "nsrun does not know this field"

    assert spec.changes(once, pod) == []
    (verdict,) = spec.load(json.dumps(value).encode(), "g")
    assert verdict.verdict == ("invalid" if errors else "valid")
    assert len(verdict.located_messages()) == len(verdict.messages)


@SLOW
@given(st.sampled_from(["ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume", "Event"]).flatmap(objects))
def test_companions_get_a_verdict(value: dict[str, Any]) -> None:
    (verdict,) = spec.load(json.dumps(value).encode(), "g")
    assert verdict.verdict in ("valid", "invalid")
    assert verdict.object is not None
    once = copy.deepcopy(verdict.object)
    spec.set_defaults(verdict.object)
    assert verdict.object == once


@SLOW
@given(objects("Pod"), objects("Pod"))
def test_changes_are_symmetric_and_complete(one: dict[str, Any], two: dict[str, Any]) -> None:
    a, b = decode(one), decode(two)
    assert spec.changes(a, b) == spec.changes(b, a)
    same = a.spec == b.spec and all(
        getattr(a.metadata, field) == getattr(b.metadata, field) for field in ("labels", "annotations")
    )
    assert bool(spec.changes(a, b)) != same


MISFITS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@SLOW
@given(objects("Pod"), st.data())
def test_a_misfit_anywhere_gets_an_answer(value: dict[str, Any], data: st.DataObject) -> None:
    places: list[tuple[Any, Any]] = []

    def walk(parent: Any) -> None:
        for key in parent if isinstance(parent, dict) else range(len(parent)):
            places.append((parent, key))
            if isinstance(parent[key], (dict, list)):
                walk(parent[key])

    walk(value)
    parent, key = data.draw(st.sampled_from(places))
    parent[key] = data.draw(MISFITS)
    for verdict in spec.load(json.dumps(value).encode(), "g"):
        assert verdict.messages or verdict.verdict in ("valid", "other")


@pytest.mark.parametrize("kind", sorted(model.ROOTS))
def test_an_empty_object_gets_an_answer(kind: str) -> None:
    (verdict,) = spec.load(json.dumps({"apiVersion": "v1", "kind": kind}).encode(), "g")
    assert verdict.verdict == "invalid"
    assert "metadata.name: Required value: name or generateName is required" in verdict.messages
