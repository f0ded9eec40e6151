"""PodLogOptions and containers, judged in the API server's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api.streams import containers, log_options, logs
from nsrun.api.streams.log_options import LogOptions
from nsrun.client.crilog import LogLine

pytestmark = pytest.mark.pure


def refused(**query: str) -> dict[str, Any]:
    answer = log_options.read(query, "p1")
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    said: dict[str, Any] = json.loads(answer.body)
    return said


def options(**query: str) -> LogOptions:
    answer = log_options.read(query, "p1")
    assert isinstance(answer, LogOptions)
    return answer


def test_a_negative_tail_is_refused_as_recorded() -> None:
    assert refused(tailLines="-1") == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'PodLogOptions "p1" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
        "reason": "Invalid",
        "details": {
            "name": "p1",
            "kind": "PodLogOptions",
            "causes": [
                {
                    "reason": "FieldValueInvalid",
                    "message": "Invalid value: -1: must be greater than or equal to 0",
                    "field": "tailLines",
                }
            ],
        },
        "code": 422,
    }


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"sinceSeconds": "5", "sinceTime": "2026-01-01T00:00:00Z"},
            422,
            "at most one of `sinceTime` or `sinceSeconds`",
        ),
        ({"stream": "x"}, 422, 'stream: Unsupported value: "x": supported values: "All", "Stderr", "Stdout"'),
        ({"stream": "Stdout", "tailLines": "1"}, 422, "mutually exclusive"),
        ({"tailLines": "abc"}, 400, 'strconv.ParseInt: parsing "abc": invalid syntax'),
        ({"tailLines": "9" * 30}, 400, "value out of range"),
        ({"sinceTime": "yesterday"}, 400, 'parsing time "yesterday"'),
        ({"sinceTime": "2026-13-01T00:00:00Z"}, 400, "parsing time"),
    ],
)
def test_what_is_wrong_is_named(query: dict[str, str], code: int, words: str) -> None:
    said = refused(**query)
    assert said["code"] == code
    assert words in said["message"]


def test_times_are_compared_as_they_stand_in_the_files() -> None:
    assert options(sinceTime="2026-11-22T13:19:11.5+02:00").since == "2026-11-22T11:19:11.500000000"
    assert options(sinceTime="2026-11-22T11:19:11Z").since == "2026-11-22T11:19:11.000000000"
    assert options(sinceTime="0301-11-22T11:19:11Z").since == "0301-11-22T11:19:11.000000000"


@given(
    st.dictionaries(
        st.sampled_from(["tailLines", "limitBytes", "sinceSeconds", "sinceTime", "follow", "stream"]),
        st.text(max_size=30),
    )
)
def test_any_query_is_options_or_a_refusal(query: dict[str, str]) -> None:
    assert isinstance(log_options.read(query, "p1"), LogOptions | web.Response)


def test_lines_are_rendered_as_a_kubelet_does() -> None:
    lines = [
        LogLine("2026-11-22T11:19:11.311054751Z", "stdout", b"hello", True),
        LogLine("2026-11-22T11:19:12.000000000Z", "stderr", b"err", False),
    ]
    assert logs.rendered(lines, options()) == b"hello\nerr"
    assert logs.rendered(lines, options(timestamps="true")) == (
        b"2026-11-22T11:19:11.311054751Z hello\n2026-11-22T11:19:12.000000000Z err"
    )
    assert logs.rendered(lines, options(stream="Stderr")) == b"err"


def pod(**status: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": spec, "status": status}


def state(name: str, **fields: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": name, **fields}]}


def test_a_container_must_be_named_where_there_are_several() -> None:
    with pytest.raises(
        containers.Refused, match=r"a container name must be specified for pod p, choose one of: \[i a b\]"
    ):
        containers.chosen(pod(), "")
    with pytest.raises(containers.Refused, match="container zz is not valid for pod p"):
        containers.chosen(pod(), "zz")
    assert containers.chosen(pod(), "i") == "i"


@pytest.mark.parametrize(
    ("status", "previous", "why"),
    [
        ({}, False, 'container "a" in pod "p" is not available'),
        (
            state("a", state={"waiting": {"reason": "ContainerCreating"}}),
            False,
            "is waiting to start: ContainerCreating",
        ),
        (
            state("a", state={"waiting": {"reason": "ErrImagePull"}}),
            False,
            "is waiting to start: image can't be pulled",
        ),
        (state("a", state={"waiting": {"reason": "ImagePullBackOff"}}), False, "trying and failing to pull image"),
        (state("a", state={}), False, "is waiting to start - no logs yet"),
        (state("a", state={"running": {}}), True, 'previous terminated container "a" in pod "p" not found'),
        (state("a", state={"terminated": {}}), False, 'container "a" in pod "p" is terminated'),
        (state("a", state={"running": {}}), False, None),
        (state("a", state={"terminated": {"containerID": "x"}}), False, None),
        (state("a", state={"running": {}}, lastState={"terminated": {"containerID": "x"}}), True, None),
        (state("a", state={"waiting": {}}, lastState={"terminated": {"containerID": "x"}}), False, None),
    ],
)
def test_why_there_is_no_log(status: dict[str, Any], previous: bool, why: str | None) -> None:
    said = containers.why_no_log(pod(**status), "a", previous=previous)
    assert (said is None) if why is None else (said is not None and why in said)
