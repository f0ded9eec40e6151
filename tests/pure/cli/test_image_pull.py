"""What `nsrun image pull` tells while layers come."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.cli.bring_images import Progress

pytestmark = pytest.mark.pure


def layer(letter: str, state: str, done: int, total: int = 100_000_000) -> dict[str, Any]:
    """An event."""
    return {"layer": f"sha256:{letter * 64}", "state": state, "done": done, "total": total}


def test_a_bar_with_its_rate_and_the_time_left() -> None:
    progress = Progress(terminal=True)
    assert progress.line(layer("a", "waiting", 0), 0.0) == "aaaaaaaaaaaa  waits (100MB)"
    assert progress.line(layer("a", "pulling", 0), 10.0) == "aaaaaaaaaaaa  [....................] 0B/100MB"
    half = progress.line(layer("a", "pulling", 50_000_000), 12.0)
    assert half == "aaaaaaaaaaaa  [##########..........] 50.0MB/100MB, 25.0MB/s, 2 s left"
    # The rate is of late: what was slow before does not count for ever.
    for at in range(1, 11):
        late = progress.line(layer("a", "pulling", 50_000_000 + at * 1_000_000), 12.0 + at)
    assert late.endswith("60.0MB/100MB, 1.0MB/s, 40 s left")
    assert progress.line(layer("a", "done", 100_000_000), 30.0) == "aaaaaaaaaaaa  pulled (100MB)"


def test_all_layers_without_those_that_are_here() -> None:
    progress = Progress(terminal=False)
    for one in (layer("a", "here", 100_000_000), layer("b", "pulling", 20_000_000), layer("c", "done", 100_000_000)):
        progress.event(one)
    assert progress.total(0.0) == "120MB of 200MB"
    progress.event(layer("b", "pulling", 60_000_000))
    assert progress.total(4.0) == "160MB of 200MB, 10.0MB/s, 4 s left"


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(terminal=False)
    for state, done in (("waiting", 0), ("pulling", 1), ("pulling", 2), ("done", 100_000_000), ("done", 100_000_000)):
        progress.event(layer("a", state, done))
    progress.event(layer("b", "here", 5))
    progress.end()
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()) == (
        "",
        ["aaaaaaaaaaaa: pulled (100MB)", "bbbbbbbbbbbb: here already (100MB)"],
    )
