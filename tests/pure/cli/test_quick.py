"""The quick reading of `pod up`, `pod ls`, `pod exec`, `pod logs` and `image pull` against click's of the same words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.cli import bring_images, bring_up, image_pull, inside, pod_up, quick, read_logs, show
from nsrun.cli.main import root_command
from nsrun.cli.settings import Settings

UP_DEFAULTS = (("wait", "running"), ("timeout", bring_up.UP_TIMEOUT_S))
Call = tuple[str | None, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Call]]:
    """What would have been done."""
    made: list[Call] = []

    def note(given: Settings, *words: Any, **options: Any) -> int:
        kept = {name: value for name, value in options.items() if value not in (None, False, (), [], "table", "text")}
        kept = {name: value for name, value in kept.items() if (name, value) not in UP_DEFAULTS}
        for repeated in ("env", "filename"):
            if repeated in kept:
                kept[repeated] = list(kept[repeated])
        flat = [list(word) if isinstance(word, list | tuple) else word for word in words]
        made.append((given.root, tuple(map(str, flat)), kept))
        return 0

    monkeypatch.setattr(show, "list_pods", note)
    monkeypatch.setattr(inside, "run_command", note)
    monkeypatch.setattr(read_logs, "print_logs", note)
    monkeypatch.setattr(bring_images, "pull_images", note)
    monkeypatch.setattr(image_pull, "pull_images", note)
    monkeypatch.setattr(bring_up, "bring_up", note)
    monkeypatch.setattr(pod_up, "bring_up", note)
    yield made


def by_click(argv: list[str]) -> bool:
    """Run as click reads it; False when it is wrong."""
    try:
        with root_command.make_context("nsrun", list(argv), obj=Settings()) as ctx:
            root_command.invoke(ctx)
    except (click.ClickException, click.exceptions.Exit):
        return False
    except Exception as error:
        if type(error).__name__ == "UsageError":
            return False
        raise
    return True


WORDS = st.sampled_from(
    ["web", "pod/web", "sh", "-c", "--container", "app", "-it", "-i", "-t", "-ti", "--", "-n", "ns", "--namespace=x", "-q",
     "-A", "-o", "json", "wide", "name", "--output=yaml", "-e", "A=b", "--env=C=d", "--help", "--bad", "-x", "--workdir=/tmp",
     "-u", "0", "--root", "/r", "--root=/q", "ls", "-", "-cfoo", "--tty", "-w",
     "-f", "a.yaml", "-fa", "--filename=b", "--no-wait", "--replace", "-R", "--wait", "--wait=ready", "--attach",
     "--tail", "-1", "--tail=10", "-p", "--prefix", "--since=1m", "--follow", "--all-containers", "--limit-bytes", "5", "-l", "a=b"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["pod up", "pod ls", "pod exec", "pod logs", "image pull"]),
    st.booleans(),
    st.lists(WORDS, max_size=8),
)
def test_what_is_recognised_is_what_click_reads(
    calls: list[Call], command: str, with_root: bool, words: list[str]
) -> None:
    argv = [*(["--root", "/before"] if with_root else []), *command.split(), *words]
    calls.clear()
    if quick.run(argv) is None:
        return
    (ours,) = calls
    calls.clear()
    assert by_click(argv), f"{argv} was recognised, but click refuses it"
    (theirs,) = calls
    assert ours == theirs


@pytest.mark.parametrize(
    "argv",
    [
        ["pod", "ls"],
        ["--root", "/r", "pod", "ls", "-o", "json"],
        ["pod", "ls", "-n", "kube-system", "-q"],
        ["pod", "exec", "web", "--", "true"],
        ["pod", "exec", "-it", "web", "sh", "-c", "echo -n x"],
        ["pod", "exec", "web", "-c", "app", "--", "ls", "-l"],
        ["pod", "up", "web.yaml"],
        ["pod", "logs", "web", "--tail", "10"],
        ["image", "pull", "-q", "nginx:1.27"],
        ["image", "pull", "a", "b", "-o", "json"],
        ["pod", "logs", "-f", "web", "-c", "app", "--tail=-1", "--timestamps"],
        ["--root", "/r", "pod", "up", "-f", "a.yaml", "-f", "b.yaml", "--no-wait"],
    ],
)
def test_the_frequent_forms_are_recognised(argv: list[str]) -> None:
    assert quick.recognise(argv) is not None


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["pod"],
        ["pod", "ls", "--help"],
        ["pod", "ls", "-w"],
        ["pod", "exec"],
        ["pod", "exec", "web"],
        ["pod", "exec", "--", "web"],
        ["pod", "exec", "web", "-c"],
        ["pod", "up", "x.yaml", "--attach"],
        ["image", "pull"],
        ["image", "pull", "--help"],
        ["image", "pull", "a", "--retry"],
        ["pod", "logs", "web", "--since=10m"],
        ["-o", "json", "pod", "ls"],
    ],
)
def test_everything_else_is_for_click(argv: list[str]) -> None:
    assert quick.recognise(argv) is None
