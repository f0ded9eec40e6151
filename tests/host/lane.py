"""One lane of the host ring (`lanes.py`), as a plugin of its pytest: runs the groups of tests that it is given.

Standard input is a socket. The plugin says, in lines of JSON, what groups there are, each test's outcome and each group's end; it hears the
name of the group to run next, or an empty line for none.
"""

from __future__ import annotations

import json
import os
import socket
from typing import cast

import pytest

from tests.host.lanes import Group

OUTCOMES = ("passed", "skipped", "failed", "error")


def group_of(item: pytest.Item) -> tuple[str, bool]:
    """(name, quiet) of the group that a test belongs to."""
    quiet = item.get_closest_marker("quiet") is not None
    path = item.nodeid.partition("::")[0]
    return (f"{path} (quiet)" if quiet else path), quiet


class Lane:
    """The plugin.

    Args:
        line: to the one who hands out groups.
    """

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.heard = line.makefile("r", encoding="utf-8")
        self._outcome = ""
        self._seconds = 0.0

    def say(self, **message: object) -> None:
        """One line to the other side."""
        self.line.sendall(json.dumps(message).encode() + b"\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running everything."""
        if session.testsfailed or session.config.option.collectonly:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        groups: dict[tuple[str, bool], list[pytest.Item]] = {}
        for item in session.items:
            groups.setdefault(group_of(item), []).append(item)
        self.say(groups=[Group(name, len(items), quiet) for (name, quiet), items in groups.items()])
        by_name = {name: items for (name, _), items in groups.items()}
        while (name := self.heard.readline().strip()) in by_name:
            items = by_name[name]
            # What is of the session stays for the next group: nothing but collectors is asked for here, and the session is one.
            after = cast("pytest.Item", session)
            for item, following in zip(items, [*items[1:], after], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.shouldfail or session.shouldstop:
                    break
            self.say(done=name, stop=bool(session.shouldfail or session.shouldstop))
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The worst of the three phases is the test's outcome."""
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        if report.when == "setup":
            self._outcome, self._seconds = "passed", 0.0
        self._outcome = max(self._outcome, outcome, key=OUTCOMES.index)
        self._seconds += report.duration
        if report.when == "teardown":
            self.say(test=report.nodeid, outcome=self._outcome, seconds=round(self._seconds, 3))


def _take_standard_input() -> socket.socket:
    line = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return line


def pytest_configure(config: pytest.Config) -> None:
    """Become a lane."""
    config.pluginmanager.register(Lane(_LINE))


# While this module is imported (-p), before pytest puts its own file in the place of standard input.
_LINE = _take_standard_input()
