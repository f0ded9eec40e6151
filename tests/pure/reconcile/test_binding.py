"""Which claim gets which volume (S-VOL), against the rules of Kubernetes' PV controller; and whoever is killed in between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.reconcile.binding import (
    Binding,
    Machine,
    PutClaim,
    PutVolume,
    RemoveVolume,
    bind,
    capacity,
    own,
    selects,
)
from nsrun.spec import set_defaults
from nsrun.spec.model import LabelSelector, ObjectReference, PersistentVolume, PersistentVolumeClaim

MACHINE = Machine("here", "/lib/persistent", frozenset({"standard"}), 1 << 40)


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> PersistentVolumeClaim:
    fields = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    found = msgspec.convert({"metadata": metadata, "spec": fields}, PersistentVolumeClaim)
    set_defaults(found)
    return found


def volume(name: str, size: str = "1Gi", labels: Any = None, **spec: Any) -> PersistentVolume:
    fields = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/x"}, **spec}
    metadata = {"name": name, "labels": labels or {}}
    found = msgspec.convert({"metadata": metadata, "spec": fields}, PersistentVolume)
    set_defaults(found)
    return found


class Store:
    """What is kept, and steps carried out: all of them, or those before somebody is killed."""

    def __init__(self, *objects: PersistentVolumeClaim | PersistentVolume) -> None:
        self.claims = {one.metadata.name: one for one in objects if isinstance(one, PersistentVolumeClaim)}
        self.volumes = {one.metadata.name: one for one in objects if isinstance(one, PersistentVolume)}
        self.reasons: dict[tuple[str, str], tuple[str, str]] = {}

    def ask(self) -> Binding:
        return bind(self.claims.values(), self.volumes.values(), MACHINE)

    def do(self, binding: Binding, at_most: int | None = None) -> None:
        for step in binding.steps[:at_most]:
            match step:
                case PutClaim(claim=one):
                    self.claims[one.metadata.name] = one
                case PutVolume(volume=two):
                    self.volumes[two.metadata.name] = two
                case RemoveVolume(name=name):
                    del self.volumes[name]

    def settle(self) -> Store:
        for _ in range(8):
            binding = self.ask()
            self.reasons = binding.reasons
            if not binding.steps:
                return self
            self.do(binding)
        raise AssertionError("it does not come to an end")

    def bound(self, name: str | None = "c") -> str | None:
        found = self.claims[name]
        if found.status.phase != "Bound":
            return None
        volume = self.volumes[found.spec.volumeName]
        assert volume.spec.claimRef is not None
        assert volume.spec.claimRef.uid == found.metadata.uid
        assert volume.status.phase == "Bound"
        assert found.status.capacity == volume.spec.capacity
        return volume.metadata.name

    def why(self, name: str = "c") -> str:
        return self.reasons[("default", name)][1]


def test_S_VOL_claim_takes_the_smallest_volume_that_fits() -> None:
    manual = {"storageClassName": "manual"}
    store = Store(
        claim(**manual),
        volume("small", "512Mi", **manual),
        volume("large", "5Gi", **manual),
        volume("fits", "2Gi", **manual),
        volume("other", "1Gi", storageClassName="fast"),
        volume("modes", "1Gi", accessModes=["ReadWriteOnce", "ReadWriteMany"], **manual),
        volume("reads", "1Gi", accessModes=["ReadOnlyMany"], **manual),
        volume("block", "1Gi", volumeMode="Block", **manual),
    ).settle()
    assert store.bound() == "fits"
    assert store.volumes["large"].status.phase == "Available"


def test_S_VOL_claim_selects_volumes_by_label() -> None:
    selector = {"matchLabels": {"tier": "db"}, "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}
    manual = {"storageClassName": "manual"}
    store = Store(
        claim(selector=selector, **manual),
        volume("a", labels={"tier": "web"}, **manual),
        volume("b", labels={"tier": "db", "old": "1"}, **manual),
        volume("c", "3Gi", labels={"tier": "db"}, **manual),
    ).settle()
    assert store.bound() == "c"


@pytest.mark.parametrize(
    ("operator", "values", "labels", "fits"),
    [
        ("In", ["a"], {"k": "a"}, True), ("In", ["a"], {}, False), ("NotIn", ["a"], {}, True),
        ("NotIn", ["a"], {"k": "a"}, False), ("Exists", [], {"k": ""}, True), ("Exists", [], {}, False),
        ("DoesNotExist", [], {"k": ""}, False),
    ],
)  # fmt: skip
def test_selectors(operator: str, values: list[str], labels: dict[str, str], fits: bool) -> None:
    expression = {"key": "k", "operator": operator, "values": values}
    assert selects(msgspec.convert({"matchExpressions": [expression]}, LabelSelector), labels) is fits


def test_S_VOL_claim_that_names_no_class_takes_a_volume_without_one_before_a_new_one() -> None:
    assert Store(claim(), volume("bare"), volume("manual", storageClassName="manual")).settle().bound() == "bare"
    store = Store(claim(), volume("manual", storageClassName="manual")).settle()
    assert store.bound() == "pvc-uid-c"
    made = store.volumes["pvc-uid-c"]
    assert own(made)
    assert made.spec.local is not None
    assert made.spec.local.path == "/lib/persistent/pvc-uid-c"
    assert made.spec.persistentVolumeReclaimPolicy == "Retain"
    assert store.claims["c"].spec.storageClassName == "nsrun"


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (
            claim(storageClassName=""),
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        (claim(storageClassName="gp9"), "ProvisioningFailed", 'storageclass.storage.k8s.io "gp9" not found'),
        (
            claim(selector={"matchLabels": {"a": "b"}}),
            "ProvisioningFailed",
            'failed to provision volume with StorageClass "nsrun": claim.Spec.Selector is not supported',
        ),
        (
            claim(size="2Ti"),
            "ProvisioningFailed",
            'failed to provision volume with StorageClass "nsrun": 2Ti are requested, and the file system of /lib/persistent has'
            " 1099511627776 bytes in all",
        ),
        (claim(volumeName="gone"), "FailedBinding", 'persistentvolume "gone" not found'),
    ],
)
def test_S_VOL_claim_that_stays_pending_says_why(wanted: PersistentVolumeClaim, reason: str, words: str) -> None:
    store = Store(wanted).settle()
    assert store.bound() is None
    assert store.reasons[("default", "c")] == (reason, words)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (volume("v", "512Mi"), "requested PV is too small"),
        (volume("v", storageClassName="x"), "storageClassName does not match"),
        (volume("v", volumeMode="Block"), "incompatible volumeMode"),
        (volume("v", accessModes=["ReadOnlyMany"]), "incompatible accessMode"),
    ],
)
def test_S_VOL_claim_of_a_volume_that_does_not_fit(found: PersistentVolume, problem: str) -> None:
    store = Store(claim(volumeName="v"), found).settle()
    assert store.bound() is None
    assert store.why() == f'Cannot bind to requested volume "v": {problem}'


def test_S_VOL_volume_that_is_kept_for_a_claim_is_given_to_no_other() -> None:
    manual = {"storageClassName": "manual"}
    kept = volume("kept", claimRef={"namespace": "default", "name": "c"}, **manual)
    store = Store(claim("other", **manual), kept).settle()
    assert store.bound("other") is None
    store.claims["c"] = claim(**manual)
    assert store.settle().bound() == "kept"
    store.claims["second"] = claim("second", volumeName="kept", **manual)
    store.settle()
    assert store.why("second") == 'volume "kept" already bound to a different claim.'


def test_S_VOL_volume_is_released_when_its_claim_goes_and_not_used_again() -> None:
    manual = {"storageClassName": "manual"}
    store = Store(claim(**manual), volume("v", **manual)).settle()
    del store.claims["c"]
    assert store.settle().volumes["v"].status.phase == "Released"
    again = claim(**manual)
    again.metadata.uid = "another"
    store.claims["c"] = again
    assert store.settle().bound() is None
    # Whoever looks after the machine gives it free.
    freed = store.volumes["v"]
    store.volumes["v"] = msgspec.structs.replace(freed, spec=msgspec.structs.replace(freed.spec, claimRef=None))
    assert store.settle().bound() == "v"


def test_S_VOL_policy_delete_removes_only_what_is_nsruns_own() -> None:
    mine = Store(claim()).settle()
    kept = mine.volumes["pvc-uid-c"]
    kept.spec.persistentVolumeReclaimPolicy = "Delete"
    del mine.claims["c"]
    assert mine.settle().volumes == {}
    manual = {"storageClassName": "manual", "persistentVolumeReclaimPolicy": "Delete"}
    store = Store(claim(storageClassName="manual"), volume("v", **manual)).settle()
    del store.claims["c"]
    status = store.settle().volumes["v"].status
    assert status.phase == "Failed"
    assert status.message == ('error getting deleter volume plugin for volume "v": no deletable volume plugin matched')


def test_S_VOL_claim_whose_volume_is_gone_is_lost() -> None:
    store = Store(claim()).settle()
    del store.volumes["pvc-uid-c"]
    store.settle()
    assert store.claims["c"].status.phase == "Lost"
    assert store.reasons[("default", "c")][0] == "ClaimLost"


def test_S_VOL_two_claims_of_one_volume_the_second_is_misbound() -> None:
    store = Store(claim(), volume("v")).settle()
    twin = msgspec.structs.replace(
        store.claims["c"], metadata=msgspec.structs.replace(store.claims["c"].metadata, name="t", uid="t")
    )
    store.claims["t"] = twin
    store.settle()
    assert store.claims["t"].status.phase == "Lost"
    assert store.bound() == "v"


def test_S_VOL_own_volume_grows_with_its_claim() -> None:
    store = Store(claim()).settle()
    store.claims["c"].spec.resources.requests["storage"] = "3Gi"
    store.settle()
    assert capacity(store.volumes["pvc-uid-c"]) == 3 << 30
    assert store.claims["c"].status.capacity == {"storage": "3Gi"}


def test_S_VOL_classes_of_the_configuration_are_nsruns_own() -> None:
    store = Store(claim(storageClassName="standard")).settle()
    assert store.volumes["pvc-uid-c"].spec.storageClassName == "standard"
    beta = claim("b")
    beta.metadata.annotations["volume.beta.kubernetes.io/storage-class"] = "standard"
    assert Store(beta).settle().bound("b") == "pvc-uid-b"


CLASSES = st.sampled_from([None, "", "manual", "nsrun"])
SIZES = st.sampled_from(["1Gi", "2Gi", "3Gi"])
REFERENCES = st.sampled_from([None, "c0", "c1"])


@st.composite
def worlds(draw: st.DrawFn) -> list[PersistentVolumeClaim | PersistentVolume]:
    found: list[PersistentVolumeClaim | PersistentVolume] = []
    for number in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from([None, "v0", "v1"]))
        found.append(claim(f"c{number}", draw(SIZES), storageClassName=draw(CLASSES), volumeName=name))
    for number in range(draw(st.integers(0, 4))):
        made = volume(f"v{number}", draw(SIZES), storageClassName=draw(CLASSES))
        reference = draw(REFERENCES)
        if reference is not None:
            made.spec.claimRef = ObjectReference(namespace="default", name=reference)
        found.append(made)
    return found


@given(worlds(), st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, "c0", "c1", "v0"])), max_size=6))
def test_S_VOL_whoever_is_killed_between_two_steps_is_carried_on(
    objects: list[PersistentVolumeClaim | PersistentVolume], kills: list[tuple[int, str | None]]
) -> None:
    """After any history of kills and removals: an end, no volume of two claims, every bound claim with a volume that says so."""
    store = Store(*objects)
    for done, removed in kills:
        store.do(store.ask(), done)
        store.claims.pop(removed, None)
        store.volumes.pop(removed, None)
    store.settle()
    assert not store.ask().steps
    takers = [one.spec.volumeName for one in store.claims.values() if one.status.phase == "Bound"]
    assert len(takers) == len(set(takers))
    for name, one in store.claims.items():
        if one.status.phase == "Bound":
            assert store.bound(name) == one.spec.volumeName
    for volume_name, found in store.volumes.items():
        if found.status.phase == "Bound":
            assert volume_name in takers
