"""What keeps a pod from beginning: the scheduler's words about its claims (S-VOL)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsrun.reconcile import decide
from nsrun.reconcile.model import Deletion, Observed, RemovePod
from nsrun.reconcile.placement import claim_names, unschedulable
from nsrun.spec import set_defaults
from nsrun.spec.model import OwnerReference, PersistentVolumeClaim, Pod
from nsrun.status import pod_status

ONE = "0/1 nodes are available:"
TEMPLATE = {
    "volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
}


def pod(*volumes: dict[str, Any]) -> Pod:
    found = msgspec.convert(
        {
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "a", "image": "i"}], "volumes": list(volumes)},
        },
        Pod,
    )
    set_defaults(found)
    return found


def claim(name: str, *, bound: bool = True, modes: tuple[str, ...] = ("ReadWriteOnce",)) -> PersistentVolumeClaim:
    found = PersistentVolumeClaim()
    found.metadata.name, found.metadata.namespace = name, "default"
    found.spec.accessModes, found.spec.volumeName = list(modes), "v"
    found.status.phase = "Bound" if bound else "Pending"
    if bound:
        found.metadata.annotations["pv.kubernetes.io/bind-completed"] = "yes"
    return found


DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "x"}}
SCRATCH = {"name": "scratch", "ephemeral": TEMPLATE}


def lost() -> PersistentVolumeClaim:
    found = claim("x")
    found.status.phase = "Lost"
    return found


def owned(by: str) -> PersistentVolumeClaim:
    found = claim("web-scratch")
    found.metadata.ownerReferences = [OwnerReference(kind="Pod", name="web", uid=by, controller=True)]
    return found


@pytest.mark.parametrize(
    ("volume", "found", "used", "words"),
    [
        (DATA, [], [], 'persistentvolumeclaim "x" not found.'),
        (DATA, [claim("x", bound=False)], [], "pod has unbound immediate PersistentVolumeClaims."),
        (DATA, [lost()], [], 'persistentvolumeclaim "x" bound to non-existent persistentvolume "v".'),
        (DATA, [claim("x")], ["x"], ""),
        (DATA, [claim("x", modes=("ReadWriteOncePod",))], [], ""),
        (
            DATA,
            [claim("x", modes=("ReadWriteOncePod",))],
            ["x"],
            "1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.",
        ),
        (
            SCRATCH,
            [],
            [],
            'waiting for ephemeral volume controller to create the persistentvolumeclaim "web-scratch".',
        ),
        (SCRATCH, [owned("u")], [], ""),
        (
            SCRATCH,
            [owned("another")],
            [],
            "PVC default/web-scratch was not created for pod default/web (pod is not owner).",
        ),
        ({"name": "tmp", "emptyDir": {}}, [], [], ""),
    ],
)
def test_S_VOL_what_keeps_a_pod_waiting(
    volume: dict[str, Any], found: list[PersistentVolumeClaim], used: list[str], words: str
) -> None:
    claims = {one.metadata.name or "": one for one in found}
    assert unschedulable(pod(volume), claims, used) == (f"{ONE} {words}" if words else "")


def test_S_VOL_claims_of_a_pod_by_name() -> None:
    assert claim_names(pod(DATA, {"name": "tmp", "emptyDir": {}}, SCRATCH)) == ["x", "web-scratch"]


def test_S_VOL_pod_that_waits_for_a_claim_is_not_scheduled_and_nothing_of_it_is_begun() -> None:
    web = pod(DATA)
    observed = Observed(unscheduled=f'{ONE} persistentvolumeclaim "x" not found.')
    assert decide(web, observed, 1000.0) == []
    status = pod_status(web, observed, 1000.0)
    assert (status.phase, status.startTime, status.containerStatuses) == ("Pending", None, [])
    assert [(one.type, one.status, one.reason, one.message) for one in status.conditions] == [
        ("PodScheduled", "False", "Unschedulable", observed.unscheduled)
    ]
    later = pod_status(web, observed, 2000.0, status)
    assert later.conditions[0].lastTransitionTime == status.conditions[0].lastTransitionTime
    going = Observed(unscheduled="x", deletion=Deletion(1000.0, 30.0))
    assert [type(one) for one in decide(web, going, 1000.0)] == [RemovePod]
