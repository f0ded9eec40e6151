"""Label and field selectors read and refuse what the API server reads and refuses."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.errors import UsageError
from nsrun.status.selectors import FIELDS, Requirement, Selector, parse_fields, parse_labels

pytestmark = pytest.mark.pure


def pod(labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "labels": labels or {}}
    return {"metadata": metadata, "spec": {"restartPolicy": "Always"}, "status": {"phase": "Running"}, **more}


@pytest.mark.parametrize(
    ("selector", "labels", "meant"),
    [
        ("", {}, True),
        ("app", {"app": ""}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("!app", {"app": "web"}, False),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web"}, True),
        (" app = web , tier = db ", {"app": "web", "tier": "db"}, True),
        ("app=web,tier=db", {"app": "web"}, False),
        ("app!=web", {}, True),
        ("app!=web", {"app": "web"}, False),
        ("app in (web,api)", {"app": "api"}, True),
        ("app in (web,api)", {}, False),
        ("app notin (web,api)", {}, True),
        ("app notin (web,api)", {"app": "api"}, False),
        ("app in ()", {"app": ""}, True),
        ("app in (,web)", {"app": ""}, True),
        ("app in (web,)", {"app": ""}, True),
        ("app in (a,,b)", {"app": ""}, True),
        ("app=", {"app": ""}, True),
        ("app=,tier=db", {"app": "", "tier": "db"}, True),
        ("in in (in,notin)", {"in": "notin"}, True),
        ("rank>4", {"rank": "5"}, True),
        ("rank>4", {"rank": "4"}, False),
        ("rank<4", {"rank": "-5"}, True),
        ("rank<4", {"rank": "3"}, True),
        ("rank>4", {"rank": "many"}, False),
        ("rank>4", {}, False),
        ("example.com/app=web", {"example.com/app": "web"}, True),
        ("app=web,", {"app": "web"}, None),
    ],
)
def test_labels(selector: str, labels: dict[str, str], meant: bool | None) -> None:
    if meant is None:
        with pytest.raises(UsageError):
            Selector(selector)
    else:
        assert Selector(selector).matches(pod(labels)) is meant


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("app=web,", "found '', expected: identifier after ','"),
        (",app", "found ',', expected: !, identifier, or 'end of string'"),
        ("app web", "unable to parse requirement: found 'web', expected: in, notin, =, ==, !=, gt, lt"),
        ("app=web db", "found 'db', expected: ',' or 'end of string'"),
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        ("app in (web", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app=(web)", "unable to parse requirement: found '(', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("rank>many", "for 'Gt', 'Lt' operators, the value must be an integer"),
        ("-app=web", "name part must consist of alphanumeric characters"),
        ("app=web!", "found '!', expected: ',' or 'end of string'"),
        (f"app={'x' * 64}", "must be no more than 63 "),
    ],
)
def test_labels_that_cannot_be_read(selector: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_labels(selector)
    assert words in caught.value.brief
    assert selector in caught.value.brief


VALUES = st.text("abcXYZ019._-", min_size=1, max_size=8).filter(lambda text: text[0].isalnum() and text[-1].isalnum())


@given(st.text("ab=!<>(), in\t", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        selector = Selector(text)
    except UsageError:
        return
    selector.matches(pod({"a": "b"}))


@given(VALUES, st.sets(VALUES, min_size=1, max_size=4))
def test_sets_come_back(key: str, values: set[str]) -> None:
    assert parse_labels(f"{key} in ({','.join(values)})") == [Requirement(key, "in", frozenset(values))]
    assert parse_labels(f"{key} notin ({', '.join(values)})") == [Requirement(key, "notin", frozenset(values))]


@given(VALUES, st.dictionaries(VALUES, VALUES, max_size=4))
def test_what_excludes_is_the_opposite_of_what_includes(value: str, labels: dict[str, str]) -> None:
    for including, excluding in (("a=", "a!="), ("a in (", "a notin (")):
        close = ")" if "(" in including else ""
        one, other = Selector(f"{including}{value}{close}"), Selector(f"{excluding}{value}{close}")
        assert one.matches(pod(labels)) is not other.matches(pod(labels))


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        ("status.phase=Running", True),
        ("status.phase==Running,metadata.name!=db", True),
        ("status.phase!=Running", False),
        ("metadata.namespace=shop", True),
        ("spec.restartPolicy=Always,spec.hostNetwork=false", True),
        ("spec.nodeName=", True),
        (r"metadata.name=w\,b", False),
        (",status.phase=Running,", True),
    ],
)
def test_fields(selector: str, meant: bool) -> None:
    assert Selector(None, selector).matches(pod()) is meant


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("status.phase", "invalid selector: 'status.phase'; can't understand 'status.phase'"),
        ("spec.image=x", 'field label not supported: "spec.image"'),
        ("metadata.name=a=b", "that no backslash stands before"),
    ],
)
def test_fields_that_cannot_be_read(selector: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fields(selector)
    assert words in caught.value.brief


def test_every_field_reads_a_pod_without_status() -> None:
    bare = {"metadata": {"name": "web"}, "spec": {}}
    assert {field: read(bare) for field, read in FIELDS.items() if read(bare)} == {
        "metadata.name": "web",
        "spec.hostNetwork": "false",
    }


@given(st.text(st.sampled_from("status.phase=!,\\ab"), max_size=24))
def test_any_field_selector_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        Selector(None, text).matches(pod())


def test_a_selector_that_says_nothing_means_all_and_is_false() -> None:
    assert not Selector()
    assert not Selector("", "")
    assert Selector().matches(pod())
    assert Selector("app")
