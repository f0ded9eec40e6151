"""What all rings share: the ring's marker, the question for capabilities, and the rule that a skip in CI is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests import capabilities

TESTS = Path(__file__).resolve().parent
RINGS = ("pure", "ns", "host", "vm")
ALLOWED_SKIPS = TESTS / "allowed-skips.txt"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker (`--strict-markers`)."""
    config.addinivalue_line(
        "markers", f"requires(*names): skipped where the kernel lacks one of {', '.join(capabilities._QUESTIONS)}"
    )


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's directory is its ring; the whole host ring needs the test host around it."""
    for item in items:
        try:
            ring = item.path.relative_to(TESTS).parts[0]
        except ValueError:
            continue
        if ring in RINGS:
            item.add_marker(ring)
        if ring == "host":
            item.add_marker(pytest.mark.requires("test-host"), append=False)
        limit = item.get_closest_marker("timeout")
        if limit is not None and capabilities.PATIENCE > 1:
            item.add_marker(pytest.mark.timeout(limit.args[0] * capabilities.PATIENCE), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip for what the machine cannot do."""
    for marker in item.iter_markers("requires"):
        reason = capabilities.reason(marker.args)
        if reason is not None:
            pytest.skip(reason)


def allowed_skips() -> list[str]:
    """Prefixes of test ids (path::name) that may be skipped in CI; a reason follows the first blank."""
    if not ALLOWED_SKIPS.exists() or os.environ.get("NSRUN_TEST_VM") == "1":
        # What others may skip runs in the virtual machine.
        return []
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip that is not listed fails: "cannot work here" must be somebody's decision."""
    report = yield
    unlisted = not any(item.nodeid.startswith(prefix) for prefix in allowed_skips())
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true" and unlisted:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = (
            f"{reason}\n(a skip in CI; list it in tests/allowed-skips.txt with the reason, or make it run)"
        )
    return report
