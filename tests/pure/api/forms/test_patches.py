"""JSON patch and merge patch: the examples of RFC 6902 and RFC 7386, and their laws."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api.forms.patches import MAX_OPERATIONS, equal, json_patch, merge_patch
from nsrun.errors import StatusError

pytestmark = pytest.mark.pure

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab/~-0", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~-0", max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text("ab/~-0", max_size=2), JSON, max_size=4)


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        (
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
            {"baz": "qux", "foo": ["a", 2, "c"]},
        ),
        ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"foo": "bar", "child": {"g": {}}}),
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}], {"foo": "bar", "baz": "qux"}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
        ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
        ({}, [{"op": "test", "path": "/a", "value": None}], {}),
        ({"a": 1}, [{"op": "add", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
    ],
)
def test_json_patch_examples(document: Any, operations: Any, result: Any) -> None:
    before = copy.deepcopy(document)
    assert json_patch(document, operations) == result
    assert document == before


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "bar"}),
        ({"foo": "bar"}, {"op": "add", "path": "/baz/bat", "value": "qux"}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": "10"}),
        ({}, {"op": "remove", "path": "/a"}),
        ({}, {"op": "replace", "path": "/a", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/01", "value": 1}),
        ({"a": [1]}, {"op": "add", "path": "/a/-1", "value": 1}),
        ({"a": [1]}, {"op": "remove", "path": "/a/-"}),
        ({"a": {}}, {"op": "move", "from": "/a", "path": "/a/b"}),
        ({"a": 1}, {"op": "add", "path": "/b"}),
        ({"a": 1}, {"op": "add", "path": "b", "value": 1}),
        ({"a": 1}, {"op": "add", "value": 1}),
        ({"a": 1}, {"op": "spam", "path": "/a"}),
        ({"a": 1}, {"path": "/a"}),
        ({"a": True}, {"op": "test", "path": "/a", "value": 1}),
        ({"a": 1}, {"op": "remove", "path": ""}),
    ],
)
def test_a_json_patch_that_does_not_apply_is_rejected(document: Any, operation: Any) -> None:
    with pytest.raises(StatusError) as caught:
        json_patch(document, [operation])
    assert caught.value.status == {
        "code": 422,
        "reason": "Invalid",
        "message": "the server rejected our request due to an error in our request",
        "details": {},
    }


def test_a_json_patch_is_a_list_of_a_bounded_number_of_operations() -> None:
    with pytest.raises(StatusError) as caught:
        json_patch({}, {})
    assert caught.value.status["code"] == 400
    assert caught.value.status["message"] == "json: cannot unmarshal object into Go value of type jsonpatch.Patch"
    with pytest.raises(StatusError) as caught:
        json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 1}] * (MAX_OPERATIONS + 1))
    assert caught.value.status["code"] == 413


def test_copies_that_double_a_document_end() -> None:
    operations = [{"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(60)]
    with pytest.raises(StatusError) as caught:
        json_patch({"a": {"x": "y"}}, operations)
    assert caught.value.status["code"] == 422


def _pointers(value: Any, at: str = "") -> list[str]:
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        found += _pointers(one, f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}")
    return found


@given(OBJECTS, JSON, st.data())
def test_add_then_remove_is_nothing_and_replace_then_test_holds(document: Any, value: Any, data: Any) -> None:
    path = data.draw(st.sampled_from(_pointers(document)))
    replaced = json_patch(document, [{"op": "replace", "path": path, "value": value}])
    assert equal(json_patch(replaced, [{"op": "test", "path": path, "value": value}]), replaced)
    new = "/new~0~1key"
    assert equal(
        json_patch(document, [{"op": "add", "path": new, "value": value}, {"op": "remove", "path": new}]), document
    )
    moved = [{"op": "move", "from": path, "path": "/zz"}, {"op": "move", "from": "/zz", "path": path}]
    if path:
        assert equal(json_patch(document, moved), document)


@given(OBJECTS, JSON)
def test_any_json_as_patch_is_applied_or_refused(document: Any, patch: Any) -> None:
    for one in (
        patch,
        [patch],
        [{"op": "add", "path": patch, "value": 1}],
        [{"op": patch, "path": "/a", "from": "/b"}],
    ):
        try:
            json_patch(document, one)
        except StatusError as error:
            assert error.status["code"] in (400, 413, 422)


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_examples(document: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(document)
    assert merge_patch(document, patch) == result
    assert document == before


@given(OBJECTS, OBJECTS)
def test_merge_patch_is_idempotent_and_leaves_no_null_of_its_own(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert equal(merge_patch(once, patch), once)
    for key, value in patch.items():
        assert (key in once) == (value is not None)
    assert equal(merge_patch(document, {}), document)


def test_a_merge_patch_is_an_object() -> None:
    with pytest.raises(StatusError) as caught:
        merge_patch({}, [1])
    assert caught.value.status["code"] == 400
    assert "cannot unmarshal array into Go value of type map[string]interface {}" in caught.value.status["message"]
