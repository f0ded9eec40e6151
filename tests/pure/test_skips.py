"""The rule that a skip in continuous integration has to be somebody's decision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import capabilities
from tests.conftest import ALLOWED_SKIPS, allowed_skips

REPOSITORY = Path(__file__).resolve().parents[2]

SKIPPING = """
import pytest

def test_skips():
    pytest.skip("no such device")

@pytest.mark.xfail(reason="known")
def test_xfails():
    assert False
"""


def run(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a test that skips, with this suite's conftest as a plugin."""
    (directory / "test_it.py").write_text(SKIPPING)
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "NSRUN_TEST_HOST")}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            directory,
            directory,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={**kept, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
    )


def test_a_skip_is_fine_on_a_developers_machine(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 skipped, 1 xfailed" in done.stdout


def test_an_unlisted_skip_fails_in_continuous_integration(tmp_path: Path) -> None:
    done = run(tmp_path, CI="true")
    assert done.returncode == 1, done.stdout
    assert "no such device" in done.stdout
    assert "allowed-skips.txt" in done.stdout


def test_the_list_gives_a_reason_for_each() -> None:
    lines = [line for line in ALLOWED_SKIPS.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), lines
    assert allowed_skips() == [line.split()[0] for line in lines]
    assert all((REPOSITORY / prefix.partition("::")[0]).exists() for prefix in allowed_skips())


def test_an_unknown_capability_is_a_mistake_not_a_skip() -> None:
    with pytest.raises(KeyError):
        capabilities.missing("teleportation")


def test_a_missing_capability_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSRUN_TEST_HOST", raising=False)
    capabilities.missing.cache_clear()
    assert capabilities.reason(()) is None
    assert (capabilities.reason(("test-host",)) or "").startswith("requires test-host: ")
    capabilities.missing.cache_clear()
