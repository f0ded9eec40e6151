"""The objects that nsrun prints, read by Kubernetes' own Python client."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from nsrun.reconcile.model import ContainerLedger, Observed, PodFailure, ProcessUser, Sandbox, SandboxState
from nsrun.server.events import as_object
from nsrun.spec.model import Pod, PodCondition, PodStatus
from nsrun.status import pod_status
from nsrun.status.events import NORMAL, STARTED, Event
from tests.pure.reconcile.world import T0, instance, make_pod, seen
from tests.pure.status.api_models import assert_event, assert_pod
from tests.pure.status.test_pod_status import PHASES, STATES

CASES = [
    (f"{name} ({kind})", pod, observed)
    for kind, table in (("phase", PHASES), ("state", STATES))
    for name, pod, observed, _ in table
]


def whole(pod: Pod, status: PodStatus) -> dict[str, Any]:
    """The Pod with its status, as the server gives it out."""
    data: dict[str, Any] = msgspec.to_builtins(pod)
    data["status"] = msgspec.to_builtins(status)
    return data


@pytest.mark.parametrize(("pod", "observed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_every_status_fits_the_clients_models(pod: Pod, observed: Observed) -> None:
    assert_pod(whole(pod, pod_status(pod, replace(observed, host_ips=("192.0.2.1",)), T0 + 2)))


def test_a_status_with_everything_in_it_fits() -> None:
    mounts = [
        {"name": "a", "mountPath": "/a", "readOnly": True, "recursiveReadOnly": "IfPossible"},
        {"name": "b", "mountPath": "/b"},
    ]
    resources = {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m"}}
    pod = make_pod(
        containers=[{"name": "app", "image": "img", "volumeMounts": mounts, "resources": resources}],
        resources=resources,
        readinessGates=[{"conditionType": "example.com/a"}],
        ephemeralContainers=[{"name": "debugger", "image": "img"}],
    )
    last = instance("app", "exited", code=137, reason="OOMKilled", message="too much")
    ledger = ContainerLedger(starts=2, restart_count=1, last=last, user=ProcessUser(1, 2, (3,)), stop_signal=37)
    ledgers = {"app": ledger, "debugger": ContainerLedger(starts=1, user=ProcessUser(0, 0))}
    observed = seen(instance("app", attempt=1), instance("debugger"), ledgers=ledgers, host_ips=("192.0.2.1",))
    old = PodStatus(
        conditions=[PodCondition(type="example.com/a", status="True", lastTransitionTime="2001-01-01T00:00:00Z")]
    )
    data = whole(pod, pod_status(pod, observed, T0, old))
    assert_pod(data)
    status = data["status"]["containerStatuses"][0]
    assert status["volumeMounts"] == [
        {"name": "a", "mountPath": "/a", "readOnly": True, "recursiveReadOnly": "Enabled"},
        {"name": "b", "mountPath": "/b"},
    ]
    assert (status["resources"], status["allocatedResources"]) == (resources, {"cpu": "500m"})
    assert status["stopSignal"] == "SIGRTMIN+3"
    assert data["status"]["allocatedResources"] == {"cpu": "500m"}
    assert data["status"]["ephemeralContainerStatuses"][0]["user"]["linux"]["supplementalGroups"] == [0]


def test_a_refused_pod_fits() -> None:
    pod = make_pod()
    failure = PodFailure("SysctlForbidden", "forbidden sysctl", T0)
    observed = Observed(sandbox=Sandbox(SandboxState.NONE), failure=failure, start_time=T0)
    assert_pod(whole(pod, pod_status(pod, observed, T0)))


def test_events_fit() -> None:
    event = Event(NORMAL, STARTED, "Container started", "spec.containers{app}", 3, T0, T0 + 1)
    assert_event(as_object(event, make_pod().metadata, "1", "box"))


def test_the_check_can_fail() -> None:
    good = whole(make_pod(), pod_status(make_pod(), seen(instance("app")), T0))
    for path, value in ((("status", "bogus"), 1), (("status", "phase"), 3), (("metadata", "labels"), "x")):
        bad = {**good, path[0]: {**good[path[0]], path[1]: value}}
        with pytest.raises(ValidationError):
            assert_pod(bad)
