"""Tables, ages, sizes, durations: numbers as kubectl and docker print them."""

from __future__ import annotations

import click
import pytest

from nsrun.cli import bring_up, output, read_logs, show
from nsrun.cli.params import DURATION
from nsrun.client.crilog import LogLine


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "<unknown>"),
        (-3, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3600 * 3 - 1, "179m"),
        (3600 * 3, "3h"),
        (3600 * 5 + 60, "5h1m"),
        (3600 * 8, "8h"),
        (3600 * 48, "2d"),
        (3600 * 50, "2d2h"),
        (86400 * 8, "8d"),
        (86400 * 729, "729d"),
        (86400 * 730, "2y"),
        (86400 * 740, "2y10d"),
        (86400 * 365 * 9, "9y"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert output.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0B"), (999, "999B"), (1500, "1.5kB"), (250_000, "250kB"), (3_400_000_000, "3.4GB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("1.5", 1.5), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5x", "-3s", "1m 30s", "one"])
def test_no_durations(text: str) -> None:
    import click

    with pytest.raises(click.BadParameter):
        DURATION.convert(text, None, None)


def test_table_aligns_and_neutralises(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["NAME", "X"], [["a\x1b[31m", "1"], ["longer", "2"]])
    assert capsys.readouterr().out == "NAME     X\na [31m   1\nlonger   2\n"


POD = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"containers": [{"name": "a", "image": "i1"}, {"name": "b", "image": "i2"}, {"name": "c", "image": "i1"}]},
    "status": {"podIP": "10.0.0.2"},
}


def test_rows() -> None:
    columns = {"ready": "1/3", "status": "Running", "restarts": "2 (5s ago)", "age_s": 61}
    assert show.row(POD, columns, False, "table") == ["web", "1/3", "Running", "2 (5s ago)", "61s"]
    assert show.row(POD, columns, True, "wide") == [
        "default", "web", "1/3", "Running", "2 (5s ago)", "61s", "10.0.0.2", "<none>", "<none>", "<none>",
    ]  # fmt: skip
    assert len(show.heads_of(True, "wide")) == 10


@pytest.mark.parametrize(
    ("pod", "waited", "text"),
    [
        ({"name": "w", "verdict": "created", "phase": "Running"}, "running", "pod/w created and running"),
        ({"name": "w", "verdict": "created", "phase": "Running"}, "ready", "pod/w created and ready"),
        ({"name": "w", "verdict": "unchanged", "phase": "Succeeded"}, "ready", "pod/w unchanged and succeeded"),
        ({"name": "w", "verdict": "created", "phase": "Pending"}, "none", "pod/w created"),
        (
            {"name": "w", "verdict": "replaced", "changes": ["spec.a"], "phase": "Running"},
            "running",
            "pod/w replaced (spec.a) and running",
        ),
    ],
)
def test_what_up_says(pod: dict[str, object], waited: str, text: str) -> None:
    assert bring_up.sentence(pod, waited) == text  # type: ignore[arg-type] # a literal, from the table


def test_log_lines_as_they_are_printed() -> None:
    whole = LogLine("2026-01-02T03:04:05.000000001Z", "stdout", b"\xff one", True, "app")
    part = LogLine("2026-01-02T03:04:06.000000001Z", "stdout", b"two", False, "app")
    assert read_logs.rendered([whole, part], {}, False) == b"\xff one\ntwo"
    assert read_logs.rendered([whole], {("", "app"): b"[p] "}, True) == b"[p] 2026-01-02T03:04:05.000000001Z \xff one\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000"),
        ("2026-01-02T03:04:05.25+01:00", "2026-01-02T02:04:05.250000000"),
    ],
)
def test_since_time_is_utc(given: str, expected: str) -> None:
    assert read_logs.utc(given) == expected


def test_a_template_is_filled_in_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    from nsrun.cli.output import data, is_data

    data({"items": [{"name": "a"}, {"name": "b"}]}, "jsonpath={.items[*].name}")
    assert capsys.readouterr().out == "a b"
    assert [is_data(one) for one in ("json", "yaml", "jsonpath={.x}", "table", "wide", "name")] == [True] * 3 + [
        False
    ] * 3


@pytest.mark.parametrize("words", [["pod", "ls"], ["pod", "inspect", "web"]])
def test_a_template_is_a_format_of_its_own(words: list[str]) -> None:
    from nsrun.cli.main import root_command

    context = root_command.make_context("nsrun", [])
    command = root_command
    for word in words[:2]:
        command = command.get_command(context, word)  # type: ignore[assignment] # groups down to the command
    parsed = command.make_context(words[1], [*words[2:], "-o", "jsonpath={.status.phase}"])
    assert parsed.params["output"] == "jsonpath={.status.phase}"
    with pytest.raises(click.BadParameter):
        command.make_context(words[1], [*words[2:], "-o", "xml"])
