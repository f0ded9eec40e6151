"""What `nsrun doctor` makes of the checks."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.cli import about
from nsrun.cli.about import doctor
from nsrun.cli.settings import Settings

pytestmark = pytest.mark.pure

YES: dict[str, Any] = {"name": "overlay", "ok": True, "text": "works", "hint": "", "optional": False}
NO = {**YES, "ok": False, "text": "does not work", "hint": "Do something."}
OPTIONAL = {**NO, "name": "user namespaces", "optional": True}


@pytest.mark.parametrize(
    ("checks", "status", "verdict"),
    [
        ([YES], 0, "Everything is there."),
        ([YES, OPTIONAL], 0, "Everything is there that every pod needs; 1 of 2 things that some ask for are missing."),
        ([NO, OPTIONAL], 6, "1 of 2 things are missing."),
        # A server of an earlier version does not say what is optional.
        ([{key: value for key, value in NO.items() if key != "optional"}], 6, "1 of 1 things are missing."),
    ],
)
def test_what_only_some_pods_need_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checks: list[dict[str, Any]],
    status: int,
    verdict: str,
) -> None:
    monkeypatch.setattr(about, "examine", lambda _settings: checks)
    context = doctor.make_context("doctor", [], obj=Settings())
    with context:
        assert doctor.invoke(context) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == verdict
    assert sum(line.startswith("no ") for line in lines) == sum(not check["ok"] for check in checks)
    assert ("       Do something." in lines) == any(not check["ok"] for check in checks)
