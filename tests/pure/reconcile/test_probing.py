"""The worker of a probe on a clock of its own: the kubelet's rules as tables, and what must hold whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.reconcile.model import (
    ContainerLedger,
    Deletion,
    Instance,
    InstanceState,
    Observed,
    PodFailure,
    ProbeKind,
    ProbeResults,
    Role,
)
from nsrun.reconcile.order import View
from nsrun.reconcile.probing import (
    LOOKS_S,
    Target,
    Timing,
    Worker,
    due_at,
    finish,
    new_worker,
    observe,
    probes_of,
    take,
    target_of,
    timing_of,
)
from nsrun.spec.model import Container, ExecAction, Probe

pytestmark = pytest.mark.pure

STARTUP, READINESS, LIVENESS = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS


@dataclass
class Bench:
    """A worker, its container, and a clock that runs from one due time to the next."""

    kind: ProbeKind
    timing: Timing
    now: float = 100.0
    chance: float = 0.0
    takes_s: float = 0.0
    target: Target = field(default_factory=Target)
    answer: Callable[[float], bool | None] = lambda _at: True
    runs: list[float] = field(default_factory=list)
    verdicts: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.worker: Worker = new_worker(self.kind, self.timing, self.now, chance=self.chance)
        self.see()

    def see(self, **changes: object) -> Bench:
        self.target = replace(self.target, **changes)  # type: ignore[arg-type]
        self.worker = observe(self.worker, self.target, self.now)
        return self

    def start(self, name: str = "one", *, started: bool = True) -> Bench:
        return self.see(instance_id=name, running=True, since=self.now, started=started, result=None)

    def until(self, end: float) -> Bench:
        for _ in range(10_000):
            at = due_at(self.worker)
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self.worker, due = take(self.worker, self.target, self.now)
            if due:
                self.runs.append(self.now)
                said = self.answer(self.now)
                self.now += self.takes_s
                self.worker, verdict = finish(self.worker, self.target.instance_id, said)
                if verdict is not None:
                    self.verdicts.append((self.now, verdict))
                    self.target = replace(self.target, result=verdict)
                self.see()
        else:
            raise AssertionError("the worker spins")
        self.now = max(self.now, end)
        return self


def timing(**fields: int) -> Timing:
    return timing_of(Probe(**fields))  # type: ignore[arg-type]


def test_S_PROBE_defaults() -> None:
    assert timing_of(Probe()) == Timing(10.0, 0.0, 1.0, successes=1, failures=3)


def test_S_PROBE_a_container_has_the_probes_that_it_names() -> None:
    probe = Probe(exec=ExecAction(["x"]))
    assert probes_of(Container(name="a")) == {}
    assert probes_of(Container(name="a", livenessProbe=probe)) == {LIVENESS: probe}
    assert list(probes_of(Container(name="a", livenessProbe=probe, startupProbe=probe, readinessProbe=probe))) == [
        STARTUP, READINESS, LIVENESS,
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "started"), [(LIVENESS, True), (STARTUP, False)])
def test_S_PROBE_ticks_begin_with_the_pod_and_not_with_the_container(kind: ProbeKind, started: bool) -> None:
    bench = Bench(kind, timing(periodSeconds=10), answer=lambda _: None)
    bench.now = 103.0
    bench.start(started=started).until(140)
    assert bench.runs == [110, 120, 130, 140]


@pytest.mark.parametrize(("delay", "first"), [(0, 110), (6, 110), (7, 110), (8, 120), (17, 120), (18, 130), (60, 170)])
def test_S_PROBE_initial_delay_counts_from_the_containers_start_and_ends_at_a_tick(delay: int, first: float) -> None:
    bench = Bench(LIVENESS, timing(periodSeconds=10, initialDelaySeconds=delay))
    bench.now = 103.0
    bench.start().until(200)
    assert bench.runs[0] == first
    assert bench.runs[1] == first + 10


def test_S_PROBE_readiness_is_run_when_a_container_without_startup_probe_runs() -> None:
    bench = Bench(READINESS, timing(periodSeconds=10), answer=lambda _: True)
    bench.now = 103.0
    bench.start().until(130)
    first = 103 + LOOKS_S[0]
    assert bench.runs == [first, first + 10, first + 20], "and the ticks begin anew there"
    assert bench.verdicts[0] == (first, True)


def test_S_PROBE_readiness_is_looked_at_once_more_within_the_first_second() -> None:
    bench = Bench(READINESS, timing(periodSeconds=10), answer=lambda at: at > 103.5)
    bench.now = 103.0
    bench.start().until(130)
    assert bench.runs == [103 + LOOKS_S[0], 104.0, 114.0, 124.0]
    assert bench.verdicts[0] == (104.0, True)


def test_S_PROBE_readiness_is_run_at_once_when_the_startup_probe_succeeds() -> None:
    bench = Bench(READINESS, timing(periodSeconds=10), answer=lambda _: True)
    bench.start(started=False).until(107)
    assert bench.runs == []
    bench.see(started=True).until(120)
    assert bench.runs == [107, 117]


def test_S_PROBE_readiness_run_at_a_start_respects_the_initial_delay() -> None:
    bench = Bench(READINESS, timing(periodSeconds=10, initialDelaySeconds=4))
    bench.start().until(130)
    # Both looks come too early; they moved the ticks all the same.
    assert bench.runs == [111.0, 121.0]


def test_S_PROBE_startup_blocks_the_others() -> None:
    for kind in (READINESS, LIVENESS):
        bench = Bench(kind, timing(periodSeconds=1)).start(started=False).until(200)
        assert bench.runs == []
        bench.see(started=True).until(203)
        assert bench.runs


def test_S_PROBE_startup_holds_after_its_success_until_a_new_container() -> None:
    bench = Bench(STARTUP, timing(periodSeconds=1)).start(started=False).until(105)
    assert bench.runs == [100]
    assert bench.verdicts == [(100, True)]
    bench.see(started=True).until(110)
    assert bench.runs == [100]
    bench.start("two", started=False).until(115)
    assert bench.runs == [100, 110]


@pytest.mark.parametrize("kind", [STARTUP, LIVENESS])
def test_S_PROBE_a_failed_container_is_left_alone_until_there_is_another(kind: ProbeKind) -> None:
    started = kind is LIVENESS
    bench = Bench(kind, timing(periodSeconds=1, failureThreshold=3), answer=lambda _: False)
    bench.start(started=started).until(150)
    assert bench.runs == [100, 101, 102]
    assert bench.verdicts == [(102, False)]
    bench.start("two", started=started).until(160)
    assert bench.runs[3:] == [150, 151, 152]
    assert bench.verdicts[1:] == [(152, False)]


@pytest.mark.parametrize(("kind", "result"), [(STARTUP, True), (STARTUP, False), (LIVENESS, False)])
def test_S_PROBE_a_hold_outlives_the_server(kind: ProbeKind, result: bool) -> None:
    bench = Bench(kind, timing(periodSeconds=1), chance=0.5)
    bench.see(instance_id="one", running=True, since=10.0, started=result, result=result).until(200)
    assert bench.runs == []


def test_S_PROBE_thresholds_are_of_consecutive_results() -> None:
    said = iter([False, False, True, False, True, True, False, False, False, True])
    bench = Bench(READINESS, timing(periodSeconds=1, successThreshold=2, failureThreshold=3))
    bench.answer = lambda _at: next(said)
    bench.see(instance_id="one", running=True, since=0.0, started=True).until(109)
    assert len(bench.runs) == 10
    assert bench.verdicts == [(105, True), (108, False)]


def test_S_PROBE_an_error_of_the_prober_counts_for_nothing() -> None:
    said = iter([False, False, None, None, False, None])
    bench = Bench(LIVENESS, timing(periodSeconds=1, failureThreshold=3))
    bench.answer = lambda _at: next(said)
    bench.start().until(105)
    assert bench.verdicts == [(104, False)]
    assert bench.runs == [100, 101, 102, 103, 104]


def test_S_PROBE_results_of_one_instance_are_not_held_against_the_next() -> None:
    bench = Bench(LIVENESS, timing(periodSeconds=1, failureThreshold=3), answer=lambda _: False)
    bench.start().until(101)
    assert len(bench.runs) == 2
    bench.until(101.5).start("two").until(103)
    assert bench.verdicts == []
    bench.until(104)
    assert bench.verdicts == [(104, False)]


def test_S_PROBE_a_container_that_does_not_run_is_not_probed() -> None:
    bench = Bench(READINESS, timing(periodSeconds=1)).start().until(103)
    count = len(bench.runs)
    assert count
    bench.see(running=False, started=False).until(120)
    assert len(bench.runs) == count
    assert due_at(bench.worker) is None


@pytest.mark.parametrize(("kind", "goes_on"), [(LIVENESS, False), (STARTUP, False), (READINESS, True)])
def test_S_PROBE_S_TERM_readiness_alone_goes_on_while_the_pod_terminates(kind: ProbeKind, goes_on: bool) -> None:
    bench = Bench(kind, timing(periodSeconds=1), answer=lambda _: None)
    bench.start(started=kind is not STARTUP).until(103.5)
    count = len(bench.runs)
    assert count
    bench.see(stopping=True).until(110)
    assert (len(bench.runs) > count) is goes_on


def test_S_PROBE_containers_that_ran_before_the_server_have_a_random_first_tick() -> None:
    bench = Bench(LIVENESS, timing(periodSeconds=10), chance=0.4)
    bench.see(instance_id="one", running=True, since=10.0, started=True).until(130)
    assert bench.runs == [104, 114, 124]


def test_S_PROBE_a_ready_container_is_not_probed_at_once_by_a_new_server_and_an_unready_one_is() -> None:
    ready = Bench(READINESS, timing(periodSeconds=10), chance=0.4)
    ready.see(instance_id="one", running=True, since=10.0, started=True, result=True).until(120)
    assert ready.runs == [104, 114]
    unready = Bench(READINESS, timing(periodSeconds=10), chance=0.4)
    unready.see(instance_id="one", running=True, since=10.0, started=True, result=False).until(115)
    assert unready.runs == [100, 110]


def test_S_PROBE_ticks_during_a_long_run_are_one() -> None:
    bench = Bench(LIVENESS, timing(periodSeconds=2), takes_s=5.0, answer=lambda _: None)
    bench.start().until(115)
    assert bench.runs == [100, 105, 110, 115]
    bench.takes_s = 0.0
    bench.until(126)
    assert bench.runs[4:] == [120, 122, 124, 126]


def test_S_PROBE_a_time_scale_divides_period_and_initial_delay_and_not_the_timeout() -> None:
    probe = Probe(periodSeconds=10, initialDelaySeconds=30, timeoutSeconds=5)
    assert timing_of(probe, 10.0) == Timing(1.0, 3.0, 5.0, 1, 3, tempo=10.0)
    bench = Bench(READINESS, timing_of(probe, 10.0)).start().until(106)
    assert bench.runs == [103.1, 104.1, 105.1]


def test_S_PROBE_a_clock_that_was_set_back_stops_nothing() -> None:
    bench = Bench(LIVENESS, timing(periodSeconds=10, initialDelaySeconds=5), answer=lambda _: None)
    bench.now = 100_000.0
    bench.start().until(100_030)
    bench.now, bench.runs = 500.0, []
    bench.see().until(600)
    assert len(bench.runs) >= 9


def test_S_PROBE_what_is_said_of_another_instance_than_the_newest_is_dropped() -> None:
    bench = Bench(READINESS, timing(periodSeconds=1)).start()
    worker, due = take(bench.worker, bench.target, bench.now + 1)
    assert due
    worker = observe(worker, replace(bench.target, instance_id="two"), bench.now + 1)
    assert worker.busy
    worker, verdict = finish(worker, "one", True)
    assert verdict is None
    assert worker.last is None


def test_S_PROBE_the_target_is_what_the_pod_is_observed_to_be() -> None:
    instance = Instance("id", "a", 0, InstanceState.RUNNING, started_at=5.0)
    results = ProbeResults("id", startup=True, readiness=True, liveness=False)
    container = Container(name="a", startupProbe=Probe())
    view = View(container, Role.MAIN, ContainerLedger(starts=1, instance_id="id", probes=results), instance)
    assert target_of(view, Observed(), STARTUP) == Target("id", True, 5.0, True, True)
    assert target_of(view, Observed(), READINESS).result is True
    assert target_of(view, Observed(), LIVENESS).result is False
    assert target_of(view, Observed(deletion=Deletion(1.0, 30.0)), LIVENESS).stopping
    assert target_of(view, Observed(failure=PodFailure("DeadlineExceeded", "", 1.0)), LIVENESS).stopping
    older = replace(view, ledger=ContainerLedger(starts=1, instance_id="id", probes=ProbeResults("old", startup=True)))
    assert target_of(older, Observed(), STARTUP) == Target("id", True, 5.0, False, None)
    assert target_of(replace(view, instance=None), Observed(), STARTUP) == Target()


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 40)),
    st.tuples(st.just("start"), st.booleans()),
    st.tuples(st.just("see"), st.fixed_dictionaries({}, optional={
        "running": st.booleans(), "started": st.booleans(), "stopping": st.booleans(),
    })),
    st.tuples(st.just("clock"), st.floats(-1e5, 1e5)),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(ProbeKind),
    probe=st.builds(
        Probe,
        periodSeconds=st.integers(1, 20),
        initialDelaySeconds=st.integers(0, 30),
        successThreshold=st.integers(1, 3),
        failureThreshold=st.integers(1, 3),
    ),
    chance=st.floats(0, 1),
    takes_s=st.sampled_from([0.0, 0.1, 3.0]),
    steps=st.lists(STEPS, max_size=20),
    said=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=7),
)
def test_S_PROBE_whatever_happens_a_worker_neither_spins_nor_sleeps(
    kind: ProbeKind,
    probe: Probe,
    chance: float,
    takes_s: float,
    steps: list[tuple[str, object]],
    said: list[bool | None],
) -> None:
    numbers = timing_of(probe)
    bench = Bench(kind, numbers, now=1e6, chance=chance, takes_s=takes_s)
    bench.answer = lambda at: said[len(bench.runs) % len(said)]
    for number, (what, value) in enumerate(steps):
        before, began = len(bench.runs), bench.now
        if what == "wait":
            bench.until(bench.now + float(value))  # type: ignore[arg-type]
            # A tick a period, two looks, one that was due, and one more that a long run had pending.
            assert len(bench.runs) - before <= float(value) / numbers.period_s + 4  # type: ignore[arg-type]
        elif what == "start":
            bench.start(f"i{number}", started=bool(value))
        elif what == "see":
            bench.see(**value)  # type: ignore[arg-type]
        else:
            bench.now = max(1.0, bench.now + float(value))  # type: ignore[arg-type]
            bench.see()
        at = due_at(bench.worker)
        may = bench.target.running and not bench.worker.hold and (
            bench.target.started is (kind is not STARTUP)
        ) and (kind is READINESS or not bench.target.stopping)  # fmt: skip
        assert (at is not None) is may, (what, bench.target, bench.worker)
        if at is not None:
            longest = max(bench.now, bench.target.since + numbers.initial_delay_s) + max(numbers.period_s, LOOKS_S[-1])
            assert at <= longest + 1e-3, "it will be run within a period, or after the initial delay"
        assert began <= bench.now or what == "clock"
