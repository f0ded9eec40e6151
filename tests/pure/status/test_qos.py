"""The QoS class."""

from __future__ import annotations

import pytest

from nsrun.status import qos_class
from tests.pure.reconcile.world import make_pod

FULL = {"cpu": "1", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
        ([{"requests": {"ephemeral-storage": "1Gi"}}], "BestEffort"),
        ([{"requests": {"cpu": "100m"}}], "Burstable"),
        ([{"limits": FULL, "requests": FULL}], "Guaranteed"),
        ([{"limits": FULL, "requests": {"cpu": "1000m", "memory": "65536Ki"}}], "Guaranteed"),
        ([{"limits": FULL, "requests": {"cpu": "500m", "memory": "64Mi"}}], "Burstable"),
        ([{"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": FULL, "requests": FULL}, {}], "Burstable"),
        ([{"limits": FULL, "requests": FULL}, {"limits": FULL, "requests": FULL}], "Guaranteed"),
        ([{"limits": FULL}], "Burstable"),
    ],
)
@pytest.mark.parametrize("last_is_init", [False, True])
def test_S_CGROUP_qos_class(resources: list[dict[str, object]], expected: str, last_is_init: bool) -> None:
    containers = [{"name": f"c{at}", "resources": one} for at, one in enumerate(resources)]
    split = len(containers) - 1 if last_is_init and len(containers) > 1 else len(containers)
    assert qos_class(make_pod(containers=containers[:split], initContainers=containers[split:])) == expected


def test_S_CGROUP_resources_of_the_pod_come_first() -> None:
    pod = make_pod(resources={"limits": FULL, "requests": FULL})
    assert qos_class(pod) == "Guaranteed"
