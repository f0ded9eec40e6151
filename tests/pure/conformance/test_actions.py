"""What is started, stopped and made again: the situations that the kubelet's own tests name.

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_manager_test.go, TestComputePodActions and its sisters for init containers,
sidecars and container restart rules. A container that the runtime cannot tell about ("unknown") has no counterpart here:
a shim that answers knows its containers, and one that does not is dead.
"""

from __future__ import annotations

import msgspec
import pytest

from nsrun.reconcile import decide
from nsrun.reconcile.model import CreateSandbox, Observed
from nsrun.spec.model import Pod
from tests.pure.conformance.situations import Deed, NextSandbox, deed, next_sandbox
from tests.pure.reconcile.world import T0, make_pod

NOTHING = Deed()
MAINS = ("foo1", "foo2", "foo3")


def three(policy: str = "Always", **of_each: str) -> Pod:
    """A pod of three main containers; keywords give a container a restartPolicy of its own."""
    containers = [
        {"name": name, "image": "img"} | ({"restartPolicy": of_each[name]} if name in of_each else {}) for name in MAINS
    ]
    return make_pod(policy=policy, containers=containers)


def all_are(word: str) -> dict[str, str]:
    """Every main container in the same state."""
    return dict.fromkeys(MAINS, word)


def test_S_START_a_new_pod_gets_a_sandbox_and_all_containers() -> None:
    (action,) = decide(three(), Observed(), T0)
    assert isinstance(action, CreateSandbox)
    assert action.attempt == 0
    assert deed(three(), all_are("new")) == Deed(MAINS)


@pytest.mark.parametrize(
    ("policy", "words", "starts"),
    [
        ("Always", all_are("run"), ()),
        ("Always", {"foo1": "ok", "foo2": "111", "foo3": "run"}, ("foo1", "foo2")),
        ("OnFailure", {"foo1": "ok", "foo2": "111", "foo3": "run"}, ("foo2",)),
        ("OnFailure", {"foo1": "ok", "foo2": "unstarted", "foo3": "run"}, ("foo2",)),
        ("Never", {"foo1": "ok", "foo2": "111", "foo3": "run"}, ()),
    ],
)
def test_S_RESTART_pod_policy_by_the_kubelets_table(
    policy: str, words: dict[str, str], starts: tuple[str, ...]
) -> None:
    assert deed(three(policy), words) == Deed(starts)


@pytest.mark.parametrize(
    ("pod_policy", "own", "words", "starts"),
    [
        ("Never", "Always", {"foo1": "ok", "foo2": "111", "foo3": "run"}, ("foo1", "foo2")),
        ("Never", "OnFailure", {"foo1": "ok", "foo2": "111", "foo3": "run"}, ("foo2",)),
        ("Never", "OnFailure", {"foo1": "ok", "foo2": "unstarted", "foo3": "run"}, ("foo2",)),
        ("Always", "Never", {"foo1": "ok", "foo2": "111", "foo3": "run"}, ()),
    ],
)
def test_S_RESTART_container_policy_by_the_kubelets_table(
    pod_policy: str, own: str, words: dict[str, str], starts: tuple[str, ...]
) -> None:
    assert deed(three(pod_policy, foo1=own, foo2=own), words) == Deed(starts)


@pytest.mark.parametrize(
    ("pod", "words", "attempt", "expected"),
    [
        (three(), all_are("run"), 0, NextSandbox(1, MAINS)),
        (three("OnFailure"), all_are("run") | {"foo2": "ok"}, 0, NextSandbox(1, ("foo1", "foo3"))),
        (three(foo2="OnFailure"), all_are("run") | {"foo2": "ok"}, 0, NextSandbox(1, ("foo1", "foo3"))),
        (three("Never"), all_are("ok"), 1, None),
        (three("Never"), all_are("run"), 1, None),
        (three("OnFailure"), all_are("ok"), 1, None),
        (three("Never"), all_are("new"), 2, NextSandbox(3, MAINS)),
    ],
)
def test_S_SANDBOX_that_died_by_the_kubelets_table(
    pod: Pod, words: dict[str, str], attempt: int, expected: NextSandbox | None
) -> None:
    assert next_sandbox(pod, words, attempt) == expected


INITS = ("init1", "init2", "init3")
INITIALIZED = dict.fromkeys(INITS, "ok")


def with_inits(policy: str = "Always") -> Pod:
    """Three init containers before three mains."""
    return make_pod(MAINS, INITS, policy)


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Always", INITIALIZED, Deed(MAINS)),
        ("Always", {}, Deed(("init1",))),
        ("Always", INITIALIZED | {"init3": "run"}, NOTHING),
        ("Always", INITIALIZED | {"init3": "starting"}, NOTHING),
        ("Always", INITIALIZED | {"init3": "137"}, Deed(("init3",))),
        ("OnFailure", INITIALIZED | {"init3": "137"}, Deed(("init3",))),
        ("Never", INITIALIZED | {"init3": "137"}, Deed(ends=True)),
        ("Always", INITIALIZED | {"init3": "unstarted"}, Deed(("init3",))),
        # Records of init containers that had their turn may be gone.
        ("Always", {"init3": "run"}, NOTHING),
        ("Always", {"init3": "ok"}, Deed(MAINS)),
        ("Always", {"foo1": "run", "foo2": "run", "foo3": "run"}, NOTHING),
    ],
)
def test_S_INIT_by_the_kubelets_table(policy: str, words: dict[str, str], expected: Deed) -> None:
    assert deed(with_inits(policy), words) == expected


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Always", INITIALIZED, NextSandbox(1, ("init1",))),
        ("OnFailure", INITIALIZED | {"init3": "137"}, NextSandbox(1, ("init1",))),
        ("Never", INITIALIZED | {"init3": "137"}, None),
        ("Never", {"init1": "run"}, None),
        ("Never", {}, NextSandbox(1, ("init1",))),
        ("Always", INITIALIZED | all_are("run"), NextSandbox(1, ("init1",))),
        ("Never", INITIALIZED | all_are("run"), None),
        ("OnFailure", INITIALIZED | all_are("ok"), None),
    ],
)
def test_S_INIT_S_SANDBOX_a_new_sandbox_begins_with_the_first_init(
    policy: str, words: dict[str, str], expected: NextSandbox | None
) -> None:
    assert next_sandbox(with_inits(policy), words) == expected


SIDECARS = ("side1", "side2", "side3")
UP = dict.fromkeys(SIDECARS, "run")


def with_sidecars(policy: str = "Always") -> Pod:
    """Three sidecars before three mains."""
    return make_pod(MAINS, [f"{name}*" for name in SIDECARS], policy)


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Always", UP, Deed(MAINS)),
        ("Always", {}, Deed(("side1",))),
        ("Always", UP | {"side3": "unstarted"}, Deed(("side3",))),
        ("Always", {"side1": "run"}, Deed(("side2",))),
        ("Always", {"side1": "run", "side2": "run"}, Deed(("side3",))),
        ("Always", {"side1": "ok", "side2": "run", "side3": "ok"}, Deed(("side1", "side3"))),
        ("Always", UP | {"side1": "ok"}, Deed(("side1", *MAINS))),
        ("Never", UP | {"side3": "137"}, Deed(("side3",))),
        ("Never", UP | {"side3": "137"} | all_are("run"), Deed(("side3",))),
        ("Never", UP | all_are("ok"), Deed(stops=("side3",))),
        ("Never", UP | all_are("ok") | {"side3": "ok"}, Deed(stops=("side2",))),
        ("Never", dict.fromkeys(SIDECARS, "ok") | all_are("ok"), Deed(ends=True)),
    ],
)
def test_S_SIDECAR_by_the_kubelets_table(policy: str, words: dict[str, str], expected: Deed) -> None:
    assert deed(with_sidecars(policy), words) == expected


@pytest.mark.parametrize(
    ("policy", "words", "expected"),
    [
        ("Never", {}, NextSandbox(1, ("side1",))),
        ("OnFailure", UP | {"side3": "137"}, NextSandbox(1, ("side1",))),
        ("Always", UP | {"side3": "137"}, NextSandbox(1, ("side1",))),
    ],
)
def test_S_SIDECAR_S_SANDBOX_a_new_sandbox_begins_with_the_first(
    policy: str, words: dict[str, str], expected: NextSandbox | None
) -> None:
    assert next_sandbox(with_sidecars(policy), words) == expected


def ruled(own: str, *rules: tuple[str, str, list[int]], pod_policy: str = "Never") -> Pod:
    """A main with rules (action, operator, codes), and another one that runs."""
    items = [{"action": action, "exitCodes": {"operator": word, "values": codes}} for action, word, codes in rules]
    first = {"name": "app", "image": "img", "restartPolicy": own, "restartPolicyRules": items}
    pod = make_pod(policy=pod_policy, containers=[first, {"name": "other", "image": "img"}])
    assert msgspec.to_builtins(pod.spec.containers[0].restartPolicyRules)
    return pod


@pytest.mark.parametrize(
    ("pod", "code", "again"),
    [
        (ruled("Never", ("Restart", "In", [42])), 42, True),
        (ruled("Never", ("Restart", "In", [42])), 43, False),
        (ruled("Never", ("Restart", "In", [42])), 0, False),
        (ruled("Never", ("Restart", "NotIn", [42])), 43, True),
        (ruled("Never", ("Restart", "NotIn", [42])), 42, False),
        (ruled("Never", ("Restart", "NotIn", [42])), 0, True),
        (ruled("OnFailure", ("Restart", "In", [0])), 0, True),
        (ruled("OnFailure", ("Restart", "In", [42])), 7, True),
        (ruled("Always", ("Restart", "In", [42])), 0, True),
        (ruled("Never", ("Restart", "In", [1]), ("Restart", "In", [2])), 2, True),
    ],
)
def test_S_RESTART_rules_before_the_containers_policy(pod: Pod, code: int, again: bool) -> None:
    assert deed(pod, {"app": str(code), "other": "run"}) == Deed(("app",) if again else ())


def test_S_RESTART_rules_of_an_init_container() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    init = {"name": "i", "image": "img", "restartPolicy": "Never", "restartPolicyRules": rules}
    pod = make_pod(initContainers=[init])
    assert deed(pod, {"i": "42"}) == Deed(("i",))
    assert deed(pod, {"i": "43"}) == Deed(ends=True)


DEBUG = [{"name": "debug", "image": "img"}]
STEADY = INITIALIZED | all_are("run") | {"debug": "run"}


def with_debug(policy: str = "Always", *more: str) -> Pod:
    """Three init containers, three mains and ephemeral containers."""
    ephemeral = [*DEBUG, *({"name": name, "image": "img"} for name in more)]
    return make_pod(MAINS, INITS, policy, ephemeralContainers=ephemeral)


@pytest.mark.parametrize(
    ("pod", "words", "expected"),
    [
        (with_debug(), STEADY, NOTHING),
        (with_debug(), STEADY | {"debug": "new"}, Deed(("debug",))),
        (with_debug("Always", "debug2"), STEADY, Deed(("debug2",))),
        (with_debug(), STEADY | {"debug": "ok"}, NOTHING),
        (with_debug(), STEADY | {"debug": "1"}, NOTHING),
        (with_debug(), {"init1": "ok", "init2": "run"}, Deed(("debug",))),
        (with_debug("Never"), STEADY | all_are("ok"), Deed(stops=("debug",))),
        (with_debug("Never"), STEADY | all_are("ok") | {"debug": "ok"}, Deed(ends=True)),
    ],
)
def test_S_START_ephemeral_containers_by_the_kubelets_table(pod: Pod, words: dict[str, str], expected: Deed) -> None:
    assert deed(pod, words) == expected


def test_S_SANDBOX_where_a_kubelet_leaves_a_pod_behind_that_never_ran() -> None:
    """It makes no other sandbox for these two, and they stay Pending and Running for ever; here they go on."""
    assert next_sandbox(with_inits("Never"), INITIALIZED) == NextSandbox(1, ("init1",))
    assert next_sandbox(three("Never", foo1="Always"), all_are("run")) == NextSandbox(1, ("foo1",))


def test_S_SANDBOX_an_ephemeral_container_does_not_come_back_with_another_sandbox() -> None:
    assert next_sandbox(with_debug(), STEADY) == NextSandbox(1, ("init1",))
