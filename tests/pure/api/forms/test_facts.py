"""The table of fields agrees with the typed model, which was made from the same sources."""

from __future__ import annotations

import msgspec
import pytest

from nsrun.api.forms import facts, schema
from nsrun.spec import model
from nsrun.spec.resources_table import RESOURCES

pytestmark = pytest.mark.pure

_SCALARS = {"int": "int64", "[]byte": "bytes", "resource.Quantity": "Quantity", "intstr.IntOrString": "IntOrString",
            "v1.Time": "Time", "v1.MicroTime": "MicroTime", "v1.FieldsV1": "FieldsV1"}  # fmt: skip


def _resolved(go_type: str) -> str:
    go_type = go_type.removeprefix("*")
    if go_type in _SCALARS:
        return _SCALARS[go_type]
    if go_type.startswith("[]"):
        return "[]" + _resolved(go_type[2:])
    if go_type.startswith("map["):
        return "map:" + _resolved(go_type.partition("]")[2])
    if go_type in model.GO_ALIASES:
        return _resolved(model.GO_ALIASES[go_type])
    return go_type


def test_fields_are_those_of_the_model() -> None:
    compared = 0
    for cls, declared in model.GO_FIELDS.items():
        for package in ("core", "meta"):
            name = f"{package}.v1.{cls.__name__}"
            if name in facts.TYPES:
                found = {
                    one.name: one.type.replace("core.v1", "v1").replace("meta.v1", "v1")
                    for one in schema.fields(name).values()
                }
                expected = {
                    key: _resolved(go_type)
                    for key, go_type in declared
                    if key not in ("apiVersion", "kind") or cls not in model.ROOTS.values()
                }
                assert found == expected, name
                compared += 1
    assert compared > 150


def test_protobuf_numbers_are_there_once() -> None:
    for name in facts.TYPES:
        numbers = [one.number for one in schema.members(name) if one.number]
        assert len(numbers) == len(set(numbers)), name


def test_merge_keys_are_fields_of_the_elements() -> None:
    for name in facts.TYPES:
        for one in schema.members(name):
            element = one.type.removeprefix("[]")
            for key in (*one.keys, *([one.merge_key] if one.merge_key else [])):
                assert key in schema.fields(element), (name, one.name)
            assert one.list_type != "map" or one.keys


def test_every_kept_kind_has_a_type() -> None:
    for one in RESOURCES:
        if one.kept:
            assert schema.type_of(one.api_version, one.kind), one.kind
    assert schema.type_of("v1", "Status") == "meta.v1.Status"
    assert schema.type_of("apps/v1", "Deployment") is None


def test_known_facts() -> None:
    container = schema.fields("core.v1.Container")
    assert container["ports"].keys == ("containerPort", "protocol")
    assert container["ports"].merge_key == "containerPort"
    assert container["name"].number == 1
    assert schema.fields("core.v1.ContainerPort")["protocol"].default == "TCP"
    assert schema.fields("core.v1.PodSpec")["volumes"].strategies == ("merge", "retainKeys")
    assert schema.is_atomic("core.v1.LocalObjectReference")
    assert "Always" in facts.ENUMS["core.v1.RestartPolicy"]
    assert msgspec.json.encode(facts.ENUMS)
