"""Users, groups, capabilities, seccomp profiles, oom scores."""

from __future__ import annotations

import dataclasses

import pytest

from nsrun.plan import ImageConfig, ImageUser, PlanError, assumed_user, oom_score_adj, user_spec
from nsrun.plan.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, flags, resolve
from nsrun.plan.identity import identity
from nsrun.spec.model import (
    Capabilities,
    Container,
    PodSecurityContext,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
)
from tests.pure.plan.pods import NODE, inputs, pod


def _user(of_pod: PodSecurityContext | None, own: SecurityContext | None, image: str) -> str:
    container = Container(name="app", securityContext=own)
    return user_spec(pod(container, securityContext=of_pod), container, ImageConfig(user=image))


@pytest.mark.parametrize(
    ("of_pod", "own", "image", "expected"),
    [
        (None, None, "", "0"),
        (None, None, "app", "app"),
        (None, None, "1000:2000", "1000"),
        (PodSecurityContext(runAsUser=1), None, "app", "1"),
        (PodSecurityContext(runAsUser=1), SecurityContext(runAsUser=0), "app", "0"),
        (PodSecurityContext(runAsGroup=5), None, "app:staff", "app:5"),
        (PodSecurityContext(runAsGroup=5), SecurityContext(runAsGroup=6), "", "0:6"),
        (None, SecurityContext(runAsNonRoot=True, runAsUser=3), "", "3"),
        (None, SecurityContext(runAsNonRoot=True), "3", "3"),
        (PodSecurityContext(runAsNonRoot=True), SecurityContext(runAsNonRoot=False), "", "0"),
    ],
)
def test_whose_word_counts(
    of_pod: PodSecurityContext | None, own: SecurityContext | None, image: str, expected: str
) -> None:
    assert _user(of_pod, own, image) == expected


@pytest.mark.parametrize(
    ("own", "image", "text"),
    [
        (SecurityContext(runAsNonRoot=True, runAsUser=0), "app", "container's runAsUser breaks non-root policy"),
        (SecurityContext(runAsNonRoot=True), "", "container has runAsNonRoot and image will run as root"),
        (SecurityContext(runAsNonRoot=True), "0:0", "container has runAsNonRoot and image will run as root"),
        (
            SecurityContext(runAsNonRoot=True),
            "app",
            "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
        ),
    ],
)
def test_run_as_non_root_in_the_kubelets_words(own: SecurityContext, image: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        _user(None, own, image)
    assert caught.value.reason == "CreateContainerConfigError"
    assert caught.value.brief == f'{text} (pod: "web_default(0b6b7f3e-uid)", container: app)'


def test_supplementary_groups() -> None:
    user = ImageUser(1000, 1000, (29, 50), "/home/app")
    merged = PodSecurityContext(supplementalGroups=[5, 29], fsGroup=7)
    container = Container(name="app")
    assert identity(pod(container, securityContext=merged), container, inputs(user=user)).groups == (1000, 29, 50, 5, 7)
    strict = PodSecurityContext(supplementalGroups=[5], supplementalGroupsPolicy="Strict")
    assert identity(pod(container, securityContext=strict), container, inputs(user=user)).groups == (1000, 5)


EVERY = frozenset(ALL_CAPABILITIES)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], DEFAULT_CAPABILITIES),
        (["NET_ADMIN"], [], DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN"}),
        (["CAP_NET_ADMIN", "sys_time"], [], DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN", "CAP_SYS_TIME"}),
        ([], ["ALL"], frozenset()),
        ([], ["all"], frozenset()),
        (["NET_BIND_SERVICE"], ["ALL"], frozenset({"CAP_NET_BIND_SERVICE"})),
        (["ALL"], [], EVERY),
        (["ALL"], ["SYS_ADMIN"], EVERY - {"CAP_SYS_ADMIN"}),
        (["ALL"], ["ALL"], frozenset()),
        (["KILL"], ["KILL"], DEFAULT_CAPABILITIES - {"CAP_KILL"}),
    ],
)
def test_adding_and_dropping(add: list[str], drop: list[str], expected: frozenset[str]) -> None:
    assert resolve(add, drop, EVERY) == expected


def test_a_machine_that_lacks_some() -> None:
    few = frozenset({"CAP_CHOWN", "CAP_KILL"})
    assert resolve([], [], few) == few
    node = dataclasses.replace(NODE, capabilities=few)
    added = Container(name="app", securityContext=SecurityContext(capabilities=Capabilities(add=["SYS_TIME"])))
    with pytest.raises(PlanError, match="cannot add CAP_SYS_TIME: nsrun itself does not have it"):
        identity(pod(added), added, inputs(node=node))
    privileged = Container(name="app", securityContext=SecurityContext(privileged=True))
    assert identity(pod(privileged), privileged, inputs(node=node)).capabilities == few


def test_a_capability_that_does_not_exist() -> None:
    container = Container(name="app", securityContext=SecurityContext(capabilities=Capabilities(add=["FLY"])))
    with pytest.raises(PlanError, match="there is no capability 'FLY'") as caught:
        identity(pod(container), container, inputs())
    assert caught.value.reason == "CreateContainerError"


def test_flags_are_in_the_order_of_the_numbers() -> None:
    assert flags(frozenset({"CAP_KILL", "CAP_CHOWN"})) == "CAP_CHOWN|CAP_KILL"
    assert flags(frozenset()) == ""


@pytest.mark.parametrize(
    ("of_pod", "own", "expected"),
    [
        (None, None, "RuntimeDefault"),
        (SeccompProfile(type="Unconfined"), None, "Unconfined"),
        (SeccompProfile(type="Unconfined"), SeccompProfile(type="RuntimeDefault"), "RuntimeDefault"),
        (None, SeccompProfile(type="Localhost", localhostProfile="p/audit.json"), "Localhost/p/audit.json"),
    ],
)
def test_seccomp_profile(of_pod: SeccompProfile | None, own: SeccompProfile | None, expected: str) -> None:
    container = Container(name="app", securityContext=SecurityContext(seccompProfile=own))
    one = pod(container, securityContext=PodSecurityContext(seccompProfile=of_pod))
    assert identity(one, container, inputs()).seccomp == expected


def test_privileged_is_unconfined_whatever_the_profile() -> None:
    context = SecurityContext(privileged=True, seccompProfile=SeccompProfile(type="RuntimeDefault"))
    container = Container(name="app", securityContext=context)
    assert identity(pod(container), container, inputs()).seccomp == "Unconfined"


@pytest.mark.parametrize(("value", "expected"), [(None, False), (True, False), (False, True)])
def test_allow_privilege_escalation(value: bool | None, expected: bool) -> None:
    container = Container(name="app", securityContext=SecurityContext(allowPrivilegeEscalation=value))
    assert identity(pod(container), container, inputs()).no_new_privs is expected


def _resources(memory: str | None, cpu: str | None = None, *, limits: bool = False) -> ResourceRequirements:
    amounts = {name: value for name, value in (("memory", memory), ("cpu", cpu)) if value}
    return ResourceRequirements(requests=amounts, limits=amounts if limits else {})


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (ResourceRequirements(), 1000),
        (_resources("1Gi", "1", limits=True), -997),
        (_resources("2Gi"), 750),
        (_resources("8Gi"), 3),
        (_resources("1"), 999),
        (_resources(None, "1"), 999),
    ],
)
def test_S_CGROUP_oom_score(resources: ResourceRequirements, expected: int) -> None:
    container = Container(name="app", resources=resources)
    assert oom_score_adj(pod(container), container, 8 << 30) == expected


def test_S_CGROUP_a_sidecar_is_no_more_killable_than_what_it_serves() -> None:
    main = Container(name="app", resources=_resources("4Gi"))
    sidecar = Container(name="mesh", restartPolicy="Always")
    init = Container(name="init")
    one = pod(main, initContainers=[sidecar, init])
    assert oom_score_adj(one, main, 8 << 30) == 500
    assert oom_score_adj(one, sidecar, 8 << 30) == 500
    assert oom_score_adj(one, init, 8 << 30) == 999


def test_S_CGROUP_a_critical_pod_is_the_last_to_go() -> None:
    one = pod(priorityClassName="system-node-critical")
    assert oom_score_adj(one, one.spec.containers[0], 8 << 30) == -997


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("0", ImageUser(0, 0, (), "/root")),
        ("1000", ImageUser(1000, 0, (), "/")),
        ("1000:5", ImageUser(1000, 5, (), "/")),
        ("app", ImageUser(-1, -1, (), "/")),
        ("app:5", ImageUser(-1, 5, (), "/")),
    ],
)
def test_what_can_be_said_without_the_image(spec: str, expected: ImageUser) -> None:
    assert assumed_user(spec) == expected
