"""The pytest plugin: pods for tests.

    import pytest

    @pytest.mark.nsrun_pod("pod.yaml")              # beside the test's file
    def test_answers(nsrun_pod):                    # the pod, ready
        assert nsrun_pod.exec(["true"]).exit_code == 0

    def test_two(nsrun_pod):                        # without the marker: bring up pods by calling
        one = nsrun_pod("one.yaml")
        two = nsrun_pod({"apiVersion": "v1", "kind": "Pod", ...}, wait="running")

`pytest --nsrun-time-scale=60`, or `nsrun_time_scale = 60` in pytest's settings, lets back-off delays and probe periods of all
these pods pass sixty times as fast: a test sees CrashLoopBackOff in a second.

All pods of a test are taken down after it, and a test that fails shows their state, events and logs in its report. They run in a private
engine (`nsrun_engine`) that lives as long as the test session and ends with it, however that ends. Tests with pods need root.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nsrun.client.engine import Engine
    from nsrun.client.pod import Pod

READY_TIMEOUT_S = 60.0
TAIL_LINES = 200

_PODS = pytest.StashKey[list["Pod"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option and the setting of the same meaning."""
    text = "divide back-off delays and probe periods of nsrun's pods by N, so that tests need not wait for them"
    parser.getgroup("nsrun").addoption("--nsrun-time-scale", metavar="N", type=float, default=None, help=text)
    parser.addini("nsrun_time_scale", text, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "nsrun_pod(manifest, wait='ready', timeout=60.0, ignore_unsupported=False, time_scale=None): "
        "the fixture nsrun_pod is the pod of this manifest (a path beside the test's file, text or a mapping)",
    )


@pytest.fixture(scope="session")
def nsrun_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A private engine for the whole session: a server of its own, gone with the test process."""
    from nsrun.client.engine import Engine

    with Engine(time_scale=_time_scale(request.config)) as engine:
        yield engine


def _time_scale(config: pytest.Config) -> float | None:
    given = config.getoption("nsrun_time_scale")
    text = config.getini("nsrun_time_scale") if given is None else given
    try:
        return float(text) if text != "" else None
    except ValueError:
        raise pytest.UsageError(f"nsrun_time_scale is no number: {text!r}") from None


class PodFactory:
    """Brings up pods for one test."""

    def __init__(self, engine: Engine, item: pytest.Item) -> None:
        self._engine = engine
        self._directory = item.path.parent
        self._pods = item.stash.setdefault(_PODS, [])

    def __call__(
        self,
        manifest: Any,
        *,
        wait: str = "ready",
        timeout: float = READY_TIMEOUT_S,
        ignore_unsupported: bool = False,
        time_scale: float | None = None,
    ) -> Pod:
        """Bring up the pod of a manifest.

        Args:
            manifest: a path (relative ones are beside the test's file), text, or a mapping.
            wait: "none", "running" or "ready".
            timeout: seconds.
            ignore_unsupported: go on where nsrun cannot do what the manifest asks for.
            time_scale: back-off delays and probe periods are divided by it; None takes that of the whole run.

        Raises:
            nsrun.NsrunError: as nsrun.Client.up.
        """
        pod = self._engine.up(
            self._found(manifest), wait="none", ignore_unsupported=ignore_unsupported, time_scale=time_scale
        )
        self._pods.append(pod)
        if wait == "ready":
            pod.wait_ready(timeout)
        elif wait == "running":
            pod.wait_phase("Running", timeout)
        return pod

    def _found(self, manifest: Any) -> Any:
        if isinstance(manifest, str) and "\n" not in manifest and not manifest.lstrip().startswith("{"):
            manifest = Path(manifest)
        if isinstance(manifest, Path) and not manifest.is_absolute():
            return self._directory / manifest
        return manifest

    def down(self) -> None:
        """Take all pods of the test down."""
        while self._pods:
            self._pods.pop().down(missing_ok=True, grace_period=0)


@pytest.fixture
def nsrun_pod(nsrun_engine: Engine, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The pod of the test's marker `nsrun_pod(manifest)`; without the marker a PodFactory to call."""
    factory = PodFactory(nsrun_engine, request.node)
    marker = request.node.get_closest_marker("nsrun_pod")
    try:
        yield factory if marker is None else factory(*marker.args, **marker.kwargs)
    finally:
        factory.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the test's pods have to say into the report of its failure."""
    report = yield
    if report.failed and report.when in ("setup", "call"):
        for pod in item.stash.get(_PODS, []):
            report.sections.append((f"nsrun pod {pod.name}", told(pod)))
    return report


def told(pod: Pod) -> str:
    """A pod's state, events and the last lines of its logs."""
    from nsrun.errors import NsrunError

    try:
        found = pod.object
        lines = [f"phase {(found.get('status') or {}).get('phase')}"]
        lines += [f"event {event.get('reason')}: {event.get('message')}" for event in pod.events()]
        spec = found["spec"]
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            name = container["name"]
            lines += [f"--- logs of {name}", pod.logs(name, tail=TAIL_LINES).rstrip()]
    except NsrunError as error:
        # The report of the failure must not fail itself.
        return f"nothing more is known: {error.brief}"
    return "\n".join(lines)
