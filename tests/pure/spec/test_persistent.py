"""PersistentVolumes and claims in the API server's words, created and changed."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from nsrun.spec import load, set_defaults
from nsrun.spec.model import PersistentVolume, PersistentVolumeClaim
from nsrun.spec.support_objects import unsupported_object
from nsrun.spec.update_objects import inherit, judge_object, same_object

HERE = {"kubernetes.io/hostname": "here", "kubernetes.io/os": "linux"}
ON_HERE = {
    "required": {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["here"]}]}
        ]
    }
}


def errors(kind: str, **spec: Any) -> list[str]:
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    return load(msgspec.json.encode(document), "x.json")[0].messages


def volume(**spec: Any) -> list[str]:
    given = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec}
    return errors("PersistentVolume", **given)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"hostPath": {"path": "/x"}}, []),
        ({"local": {"path": "/x"}, "nodeAffinity": ON_HERE}, []),
        ({}, ["spec: Required value: must specify a volume type"]),
        ({"local": {"path": "/x"}}, ["spec.nodeAffinity: Required value: Local volume requires node affinity"]),
        (
            {"local": {"path": "/x/../y"}, "nodeAffinity": ON_HERE},
            ["spec.local.path: Invalid value: \"/x/../y\": must not contain '..'"],
        ),
        ({"local": {}, "nodeAffinity": ON_HERE}, ["spec.local.path: Required value"]),
        (
            {"hostPath": {"path": "/x"}, "nfs": {"server": "s", "path": "/"}},
            ["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            {"hostPath": {"path": "//"}, "persistentVolumeReclaimPolicy": "Recycle"},
            ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
        ),
        (
            {"hostPath": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Keep"},
            [
                'spec.persistentVolumeReclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Recycle", "Retain"'
            ],
        ),
        (
            {"hostPath": {"path": "/x"}, "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]},
            ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
        ),
        (
            {"hostPath": {"path": "/x"}, "nodeAffinity": {}},
            ["spec.nodeAffinity.required: Required value: must specify required node constraints"],
        ),
        (
            {"hostPath": {"path": "/x"}, "nodeAffinity": {"required": {"nodeSelectorTerms": []}}},
            ["spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"],
        ),
        (
            {"hostPath": {"path": "/x"}, "volumeMode": "Raw"},
            ['spec.volumeMode: Unsupported value: "Raw": supported values: "Block", "Filesystem"'],
        ),
        (
            {"hostPath": {"path": "/x"}, "volumeAttributesClassName": "gold"},
            ["spec.csi: Required value: has to be specified when using volumeAttributesClassName"],
        ),
    ],
)
def test_S_VOL_persistent_volume_in_the_api_servers_words(spec: dict[str, Any], expected: list[str]) -> None:
    assert volume(**spec) == expected


def made(kind: type[Any], **spec: Any) -> Any:
    found = msgspec.convert({"metadata": {"name": "x", "namespace": "default"}, "spec": spec}, kind)
    set_defaults(found)
    return found


def claim(size: str = "1Gi", **spec: Any) -> PersistentVolumeClaim:
    fields = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    found: PersistentVolumeClaim = made(PersistentVolumeClaim, **fields)
    return found


def bound(size: str = "2Gi") -> PersistentVolumeClaim:
    found = claim(size, volumeName="v", storageClassName="nsrun")
    found.status.phase, found.status.capacity = "Bound", {"storage": size}
    found.metadata.annotations["pv.kubernetes.io/bind-completed"] = "yes"
    return found


FIXED = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
SIZE = "spec.resources.requests.storage: Forbidden:"
GROWS = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
)


@pytest.mark.parametrize(
    ("old", "new", "grows", "expected"),
    [
        (bound(), claim("2Gi"), False, []),
        (bound(), claim("3Gi"), True, []),
        (bound(), claim("3Gi"), False, [f"{SIZE} {GROWS}"]),
        (bound(), claim("1Gi"), True, [f"{SIZE} field can not be less than status.capacity"]),
        (bound(), claim("2Gi", accessModes=["ReadWriteMany"]), True, [FIXED]),
        (bound(), claim("2Gi", storageClassName="other"), True, [FIXED]),
        (bound(), claim("2Gi", volumeName="w"), True, [FIXED]),
        (claim(), claim("2Gi"), False, [FIXED]),
        (claim(), claim(volumeName="v"), False, []),
        (claim(), claim(storageClassName="late"), False, []),
    ],
)
def test_S_VOL_claim_may_become(
    old: PersistentVolumeClaim, new: PersistentVolumeClaim, grows: bool, expected: list[str]
) -> None:
    wanted = copy.deepcopy(new)
    inherit(old, wanted, {"spec": {name: getattr(new.spec, name) for name in ("volumeName", "storageClassName")}})
    assert [str(error) for error in judge_object(old, wanted, grows=grows)] == expected


def test_S_VOL_claim_applied_again_is_the_same() -> None:
    old, new = bound(), claim("2Gi")
    inherit(old, new, {"spec": {}})
    assert same_object(old, new)
    assert new.status.phase == "Bound"


def test_S_VOL_source_of_a_volume_stays() -> None:
    old = made(PersistentVolume, hostPath={"path": "/x"}, capacity={"storage": "1Gi"})
    new = made(PersistentVolume, hostPath={"path": "/y"}, capacity={"storage": "1Gi"}, volumeMode="Block")
    assert [str(error) for error in judge_object(old, new)] == [
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        'volumeMode: Invalid value: "Block": field is immutable',
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "path"),
    [
        (PersistentVolumeClaim, {"volumeMode": "Block"}, "spec.volumeMode"),
        (PersistentVolumeClaim, {"dataSource": {"kind": "PersistentVolumeClaim", "name": "y"}}, "spec.dataSource"),
        (PersistentVolumeClaim, {"volumeAttributesClassName": "gold"}, "spec.volumeAttributesClassName"),
        (PersistentVolume, {"nfs": {"server": "s", "path": "/"}}, "spec.nfs"),
        (PersistentVolume, {"hostPath": {"path": "/"}, "volumeMode": "Block"}, "spec.volumeMode"),
        (PersistentVolume, {"hostPath": {"path": "/"}, "mountOptions": ["ro"]}, "spec.mountOptions"),
        (PersistentVolume, {"local": {"path": "/x", "fsType": "ext4"}}, "spec.local.fsType"),
        (
            PersistentVolume,
            {"hostPath": {"path": "/x"}, "persistentVolumeReclaimPolicy": "Recycle"},
            "spec.persistentVolumeReclaimPolicy",
        ),
    ],
)
def test_S_VOL_what_volumes_cannot_be_is_named(kind: type[Any], spec: dict[str, Any], path: str) -> None:
    assert [(one.path, one.kind) for one in unsupported_object(made(kind, **spec), HERE)] == [(path, "not-implemented")]


@pytest.mark.parametrize(
    ("operator", "values", "told"),
    [("In", ["here"], False), ("In", ["there"], True), ("Exists", [], False), ("DoesNotExist", [], True), ("NotIn", ["here"], True)],
)  # fmt: skip
def test_S_VOL_volume_of_another_machine_is_told_of(operator: str, values: list[str], told: bool) -> None:
    expression = {"key": "kubernetes.io/hostname", "operator": operator, "values": values}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    found = unsupported_object(made(PersistentVolume, local={"path": "/x"}, nodeAffinity=affinity), HERE)
    assert [(one.path, one.kind) for one in found] == ([("spec.nodeAffinity", "not-applicable")] if told else [])


def test_S_VOL_what_kubectl_prints_of_a_claim_can_be_applied() -> None:
    found = claim()
    found.metadata.finalizers = ["kubernetes.io/pvc-protection"]
    assert unsupported_object(found, HERE) == []
