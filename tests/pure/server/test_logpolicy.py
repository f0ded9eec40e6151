"""The settings of log rotation: the kubelet's names, defaults and rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import SpecError
from nsrun.reconcile.rotation import LogPolicy
from nsrun.server.config import read_config
from nsrun.server.logpolicy import log_policy
from nsrun.state.layout import Layout


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({}, LogPolicy(10 * 1024 * 1024, 5, 10.0)),
        ({"containerLogMaxSize": "40Ki", "containerLogMaxFiles": 3}, LogPolicy(40960, 3, 10.0)),
        ({"containerLogMaxSize": "1e3"}, LogPolicy(1000)),
        ({"containerLogMaxSize": "-1"}, LogPolicy(-1)),
        ({"containerLogMonitorInterval": "1m30s"}, LogPolicy(every_s=90.0)),
        ({"containerLogMonitorInterval": "3000ms"}, LogPolicy(every_s=3.0)),
    ],
)
def test_S_LOG_settings(settings: dict[str, Any], policy: LogPolicy) -> None:
    assert log_policy(settings) == policy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"containerLogMaxFiles": 1}, "must be > 1"),
        ({"containerLogMaxFiles": True}, "must be > 1"),
        ({"containerLogMaxFiles": "5"}, "must be > 1"),
        ({"containerLogMaxSize": 10}, "as a string"),
        ({"containerLogMaxSize": "ten"}, "quantities must match"),
        ({"containerLogMaxSize": "100m"}, "whole number"),
        ({"containerLogMonitorInterval": "2s"}, "greater than or equal to 3s"),
        ({"containerLogMonitorInterval": "10"}, "a duration"),
        ({"containerLogMonitorInterval": 10}, "a duration"),
        ({"containerLogMonitorInterval": ""}, "a duration"),
    ],
)
def test_S_LOG_settings_that_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        log_policy(settings)
    assert next(iter(settings)) in caught.value.brief


def test_S_LOG_a_server_with_wrong_settings_does_not_start(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    layout.etc.mkdir()
    layout.config.write_text("containerLogMaxFiles = 1\n")
    with pytest.raises(SpecError, match="containerLogMaxFiles"):
        read_config(layout)
    layout.config.write_text("containerLogMaxFile = 3\n")
    with pytest.raises(SpecError, match="no setting that nsrun knows") as caught:
        read_config(layout)
    assert "containerLogMaxFiles" in str(caught.value.resolution)
