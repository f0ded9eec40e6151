"""The ring's lanes: everything runs once, what is quiet runs alone, and nothing that went wrong is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.host.testhost import REPOSITORY, Host

HEAD = """
import os, time
from pathlib import Path
import pytest
pytestmark = pytest.mark.host
HERE = Path(__file__).parent
def note(word):
    with open(HERE / "notes", "a") as notes:
        notes.write(f"{word} {os.environ['NSRUN_TEST_HOST'][:20]} {time.monotonic()}\\n")
"""


def lanes(host: Host, *options: str, **files: str) -> subprocess.Popen[str]:
    """Two lanes on test files of these contents."""
    for name, content in files.items():
        (host.scratch / f"test_{name}.py").write_text(HEAD + content)
    argv = [sys.executable, "-m", "tests.host.lanes", "--lanes", "2", f"--config-file={REPOSITORY}/pyproject.toml"]
    environment = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [*argv, "-p", "no:cacheprovider", *options, str(host.scratch)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def notes(host: Host) -> dict[str, tuple[str, float]]:
    """(test host, time) of each word that a test noted."""
    lines = (host.scratch / "notes").read_text().splitlines()
    found = [line.rsplit(" ", 1) for line in lines]
    assert len({text.split(" ", 1)[0] for text, _ in found}) == len(found), lines
    return {text.split(" ", 1)[0]: (text.split(" ", 1)[1], float(at)) for text, at in found}


def test_each_test_runs_once_and_the_quiet_ones_alone(host: Host) -> None:
    many = "@pytest.mark.parametrize('n', range(3))\n"
    done = lanes(
        host,
        one=many + "def test_one(n):\n    note(f'one{n}'); time.sleep(0.1)\n",
        two=many
        + "def test_two(n):\n    note(f'two{n}')\n"
        + "@pytest.mark.quiet\ndef test_quiet():\n    note('quiet'); time.sleep(0.3); note('quiet-end')\n",
        three="def test_three():\n    note('three'); time.sleep(0.5); note('three-end')\n",
    )
    output, _ = done.communicate(timeout=60)
    assert done.returncode == 0, output
    noted = notes(host)
    assert sorted(noted) == [
        *("one0", "one1", "one2"),
        *("quiet", "quiet-end"),
        *("three", "three-end", "two0", "two1", "two2"),
    ]
    assert max(noted, key=lambda word: noted[word][1]) == "quiet-end"
    assert sorted(noted.values(), key=lambda pair: pair[1])[-2] == noted["quiet"]
    assert len({where for where, _ in noted.values()}) == 2
    assert output.splitlines()[-1].startswith("=== host ring: 8 passed in "), output


def test_a_failure_a_skip_and_a_leak_are_in_the_sum(host: Host) -> None:
    done = lanes(
        host,
        one="def test_fails():\n    assert 'this' == 'that'\ndef test_skips():\n    pytest.skip('no')\n",
        two="@pytest.fixture\ndef broken():\n    yield\n    assert 0\ndef test_two(broken):\n    pass\n",
    )
    output, _ = done.communicate(timeout=60)
    assert done.returncode == 1, output
    assert "AssertionError: assert 'this' == 'that'" in output
    assert "=== host ring: 1 failed, 1 error, 1 skipped in " in output
    assert "test_one.py::test_fails" in output.partition("--- failed")[2]
    assert "test_two.py::test_two" in output.partition("--- failed")[2]

    for path in host.scratch.glob("test_*.py"):
        path.unlink()
    leak = "import subprocess\ndef test_leaks():\n    subprocess.run(['ip', 'link', 'add', 'left0', 'type', 'bridge'], check=True)\n"
    done = lanes(host, leak=leak, fine="def test_fine():\n    pass\n")
    output, _ = done.communicate(timeout=60)
    assert done.returncode == 97, output
    assert "testhost: left behind: links: left0" in output
    assert "=== host ring: 2 passed" in output


def test_what_dies_or_is_told_to_stop_takes_its_lanes_along(host: Host) -> None:
    test = "def test_{0}():\n    note('{0}'); note(str(os.getppid())); {1}\n"
    done = lanes(host, one=test.format("one", "os.kill(os.getpid(), 9)"), two=test.format("two", "time.sleep(0.1)"))
    output, _ = done.communicate(timeout=60)
    assert done.returncode == 137, output
    assert "test_one.py (unfinished)" in output.partition("--- failed")[2]
    assert "=== host ring: 1 passed" in output

    for number in (signal.SIGTERM, signal.SIGKILL):
        shutil.rmtree(host.scratch)
        host.scratch.mkdir()
        sleeps = "def test_{0}():\n    note('{0}'); time.sleep(60)\n"
        done = lanes(host, one=sleeps.format("one"), two=sleeps.format("two"))
        deadline = time.monotonic() + 20
        while not (host.scratch / "notes").exists() or len(notes(host)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        wrappers = [int(pid) for pid in Path(f"/proc/{done.pid}/task/{done.pid}/children").read_text().split()]
        assert len(wrappers) == 2
        done.send_signal(number)
        output, _ = done.communicate(timeout=20)
        assert done.returncode not in (0, 97), output
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in wrappers):
            assert time.monotonic() < deadline, "a lane outlived its ring"
            time.sleep(0.05)
