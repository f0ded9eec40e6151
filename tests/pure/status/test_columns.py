"""kubectl's columns."""

from __future__ import annotations

import msgspec
import pytest

from nsrun.reconcile.model import ContainerLedger, Deletion, Observed, Waiting
from nsrun.spec.model import Pod, PodStatus
from nsrun.status import pod_status, summary
from nsrun.status.times import go_duration, human_duration, rfc3339, seconds_of
from tests.pure.reconcile.world import T0, instance, make_pod, seen

NOW = T0 + 2


def columns(pod: Pod, observed: Observed, now: float = NOW) -> tuple[str, str, str]:
    """READY, STATUS, RESTARTS."""
    pod.metadata.creationTimestamp = rfc3339(T0)
    line = summary(pod, pod_status(pod, observed, now), now)
    return line.ready, line.status, line.restarts


def looping(name: str, code: int = 1) -> ContainerLedger:
    """It crashed three times, the last time at T0."""
    last = instance(name, "exited", attempt=2, code=code, finished=T0, reason="Error")
    return ContainerLedger(starts=3, restart_count=2, backoff_s=40.0, last_start_at=T0, last=last)


CASES: list[tuple[str, Pod, Observed, tuple[str, str, str]]] = [
    ("new", make_pod(), Observed(), ("0/1", "ContainerCreating", "0")),
    ("running", make_pod(("a", "b")), seen(instance("a"), instance("b")), ("2/2", "Running", "0")),
    ("init 1 of 2", make_pod(inits=("i", "j")), seen(instance("i")), ("0/1", "Init:0/2", "0")),
    ("init 2 of 2", make_pod(inits=("i", "j")), seen(instance("i", "exited"), instance("j")), ("0/1", "Init:1/2", "0")),
    ("init error", make_pod(inits=("i",)), seen(instance("i", "exited", code=1)), ("0/1", "Init:Error", "0")),
    (
        "init failed for good",
        make_pod(inits=("i",), policy="Never"),
        seen(instance("i", "exited", code=1)),
        ("0/1", "Init:Error", "0"),
    ),
    (
        "init crash loop",
        make_pod(inits=("i",)),
        seen(instance("i", "exited", attempt=2, code=1, finished=T0), ledgers={"i": looping("i")}),
        ("0/1", "Init:CrashLoopBackOff", "2 (2s ago)"),
    ),
    (
        "init image",
        make_pod(inits=("i",)),
        seen(ledgers={"i": ContainerLedger(waiting=Waiting("ErrImageNeverPull", "x", T0 + 9))}),
        ("0/1", "Init:ErrImageNeverPull", "0"),
    ),
    (
        "init oom",
        make_pod(inits=("i",), policy="Never"),
        seen(instance("i", "exited", code=137, reason="OOMKilled")),
        ("0/1", "Init:OOMKilled", "0"),
    ),
    ("sidecar, then init", make_pod(inits=("s*", "i")), seen(instance("s"), instance("i")), ("1/2", "Init:1/2", "0")),
    (
        "sidecar and main",
        make_pod(inits=("s*",)),
        seen(instance("s"), instance("app")),
        ("2/2", "Running", "0"),
    ),
    (
        "sidecar crashes under a running main",
        make_pod(inits=("s*",)),
        seen(instance("s", "exited", attempt=2, code=1, finished=T0), instance("app"), ledgers={"s": looping("s")}),
        ("1/2", "Init:CrashLoopBackOff", "2 (2s ago)"),
    ),
    (
        "crash loop",
        make_pod(),
        seen(instance("app", "exited", attempt=2, code=1, finished=T0), ledgers={"app": looping("app")}),
        ("0/1", "CrashLoopBackOff", "2 (2s ago)"),
    ),
    (
        "running again",
        make_pod(),
        seen(instance("app", attempt=3), ledgers={"app": looping("app")}),
        ("1/1", "Running", "3 (2s ago)"),
    ),
    (
        "init restarts do not count once it is through",
        make_pod(inits=("i",)),
        seen(instance("i", "exited", attempt=3), instance("app"), ledgers={"i": looping("i")}),
        ("1/1", "Running", "0"),
    ),
    ("completed", make_pod(policy="Never"), seen(instance("app", "exited")), ("0/1", "Completed", "0")),
    ("error", make_pod(policy="Never"), seen(instance("app", "exited", code=2)), ("0/1", "Error", "0")),
    ("start error", make_pod(policy="Never"), seen(instance("app", "start-failed")), ("0/1", "StartError", "0")),
    (
        "one completed, one runs",
        make_pod(("a", "b"), policy="Never"),
        seen(instance("a", "exited"), instance("b")),
        ("1/2", "NotReady", "0"),
    ),
    (
        "one failed, one runs",
        make_pod(("a", "b"), policy="Never"),
        seen(instance("a", "exited", code=1), instance("b")),
        ("1/2", "Error", "0"),
    ),
]


@pytest.mark.parametrize(("pod", "observed", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_columns_are_kubectls(pod: Pod, observed: Observed, expected: tuple[str, str, str]) -> None:
    assert columns(pod, observed) == expected


def test_terminating_until_the_phase_is_terminal() -> None:
    pod = make_pod()
    pod.metadata.deletionTimestamp = rfc3339(T0)
    deleted = Deletion(T0, 30)
    assert columns(pod, seen(instance("app"), deletion=deleted))[1] == "Terminating"
    assert columns(pod, seen(instance("app", "exited", code=143), deletion=deleted))[1] == "Error"


def test_a_reason_of_the_pod_is_its_status() -> None:
    pod = make_pod()
    status = PodStatus(phase="Failed", reason="DeadlineExceeded")
    assert summary(pod, status, NOW).status == "DeadlineExceeded"


@pytest.mark.parametrize(
    ("terminated", "expected"), [({"exitCode": 3}, "ExitCode:3"), ({"exitCode": 137, "signal": 9}, "Signal:9")]
)
@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
def test_an_end_without_a_reason(terminated: dict[str, int], expected: str, where: str) -> None:
    pod = make_pod(inits=("app",) if where.startswith("init") else ())
    status = msgspec.convert(
        {"phase": "Failed", where: [{"name": "app", "state": {"terminated": terminated}}]}, PodStatus
    )
    prefix = "Init:" if where.startswith("init") else ""
    assert summary(pod, status, NOW).status == prefix + expected


def test_age_and_address() -> None:
    pod = make_pod()
    pod.metadata.creationTimestamp = rfc3339(T0)
    status = pod_status(pod, seen(instance("app")), NOW)
    line = summary(pod, status, T0 + 125)
    assert (line.age_s, line.age, line.ip) == (125.0, "2m5s", "10.1.0.2")
    assert summary(pod, PodStatus(), T0).ip == "<none>"


DAY, YEAR = 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11000, "3h3m"),
        (28800, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 3600, "2d1h"),
        (8 * DAY, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + 3 * DAY, "2y3d"),
        (8 * YEAR + 3 * DAY, "8y"),
    ],
)
def test_ages_in_words(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_durations_and_times() -> None:
    assert [go_duration(s) for s in (0.64, 1.5, 62.003)] == ["640ms", "1.5s", "1m2.003s"]
    assert [go_duration(s) for s in (0, 10, 60, 80, 300, 3600, 3725)] == [
        "0s",
        "10s",
        "1m0s",
        "1m20s",
        "5m0s",
        "1h0m0s",
        "1h2m5s",
    ]
    assert rfc3339(T0 + 0.99) == "2001-09-09T01:46:40Z"
    assert rfc3339(None) is None
    assert rfc3339(2.0**63) == rfc3339(float("inf")) == "9999-12-31T23:59:59Z"
    assert seconds_of("2001-09-09T01:46:40Z") == T0
    assert seconds_of("2001-09-09T03:46:40.5+02:00") == T0 + 0.5
