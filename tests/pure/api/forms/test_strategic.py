"""Strategic merge patch: lists by key, directives, order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api.forms import strategic
from nsrun.errors import StatusError

pytestmark = pytest.mark.pure


def merge(document: Any, patch: Any) -> Any:
    before = copy.deepcopy((document, patch))
    result = strategic.merge("v1", "Pod", document, patch)
    assert (document, patch) == before
    return result


def names(pod: Any) -> list[str]:
    return [one["name"] for one in pod["spec"]["containers"]]


POD: dict[str, Any] = {
    "metadata": {"name": "p", "labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y", "z"]},
    "spec": {
        "containers": [
            {"name": "c", "image": "one", "args": ["x"], "env": [{"name": "A", "value": "1"}]},
            {"name": "d", "image": "two", "ports": [{"containerPort": 80, "name": "http"}]},
        ],
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
        "tolerations": [{"key": "k"}],
    },
}


def test_an_element_is_found_by_its_merge_key() -> None:
    result = merge(POD, {"spec": {"containers": [{"name": "d", "image": "three"}]}})
    assert names(result) == ["c", "d"]
    assert result["spec"]["containers"][1] == {**POD["spec"]["containers"][1], "image": "three"}
    result = merge(POD, {"spec": {"containers": [{"name": "c", "env": [{"name": "B", "value": "2"}], "args": ["y"]}]}})
    # What the patch names comes first, in its order.
    assert result["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]
    assert result["spec"]["containers"][0]["args"] == ["y"]


def test_null_takes_away_and_maps_are_merged() -> None:
    result = merge(POD, {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"tolerations": None}})
    assert result["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert "tolerations" not in result["spec"]
    assert merge({}, {"metadata": {"labels": {"a": None}}}) == {"metadata": {"labels": {}}}


def test_a_list_without_strategy_is_replaced() -> None:
    result = merge(POD, {"spec": {"tolerations": [{"key": "other"}]}})
    assert result["spec"]["tolerations"] == [{"key": "other"}]


def test_primitives_are_merged_and_deleted() -> None:
    assert sorted(merge(POD, {"metadata": {"finalizers": ["w", "x"]}})["metadata"]["finalizers"]) == [
        "w",
        "x",
        "y",
        "z",
    ]
    result = merge(POD, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["y", "nothing"]}})
    assert result["metadata"]["finalizers"] == ["x", "z"]


def test_patch_directives() -> None:
    assert merge(POD, {"metadata": {"labels": {"$patch": "replace", "n": "1"}}})["metadata"]["labels"] == {"n": "1"}
    assert merge(POD, {"metadata": {"labels": {"$patch": "delete"}}})["metadata"]["labels"] == {}
    assert names(merge(POD, {"spec": {"containers": [{"$patch": "delete", "name": "c"}]}})) == ["d"]
    replaced = merge(POD, {"spec": {"containers": [{"$patch": "replace"}, {"name": "e"}]}})
    assert replaced["spec"]["containers"] == [{"name": "e"}]


def test_element_order() -> None:
    order = [{"name": "e"}, {"name": "d"}, {"name": "c"}]
    patch: Any = {"spec": {"$setElementOrder/containers": order, "containers": [{"name": "e", "image": "five"}]}}
    assert names(merge(POD, patch)) == ["e", "d", "c"]
    patch = {
        "spec": {"$setElementOrder/containers": [{"name": "d"}], "containers": [{"$patch": "delete", "name": "c"}]}
    }
    assert names(merge(POD, patch)) == ["d"]
    patch = {
        "metadata": {
            "$setElementOrder/finalizers": ["w", "z", "x"],
            "$deleteFromPrimitiveList/finalizers": ["y"],
            "finalizers": ["w"],
        }
    }
    assert merge(POD, patch)["metadata"]["finalizers"] == ["w", "z", "x"]


def test_what_the_patch_does_not_order_stays_where_it_was() -> None:
    pod = {"spec": {"containers": [{"name": name} for name in "abcd"]}}
    order = [{"name": "d"}, {"name": "b"}]
    assert names(merge(pod, {"spec": {"$setElementOrder/containers": order}})) == ["a", "c", "d", "b"]


def test_retain_keys() -> None:
    volume: Any = {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}
    result = merge(POD, {"spec": {"$setElementOrder/volumes": [{"name": "v"}], "volumes": [volume]}})
    assert result["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


def test_an_ordered_set_by_a_number() -> None:
    result = merge(POD, {"spec": {"containers": [{"name": "d", "ports": [{"containerPort": 80, "hostPort": 8080}]}]}})
    assert result["spec"]["containers"][1]["ports"] == [{"containerPort": 80, "name": "http", "hostPort": 8080}]


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, 500, "map: map[image:x] does not contain declared merge key: name"),
        ({"spec": {"containers": [{"$patch": "spam", "name": "c"}]}}, 500, "unknown patch type: spam in map: map[$patch:spam name:c]"),
        ({"spec": {"containers": [{"name": "c"}, "x"]}}, 500, "list element types are not identical"),
        ({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {}}]}}, 400, "invalid patch format of retainKeys"),
        ({"spec": {"$setElementOrder/containers": [{"name": "d"}], "containers": [{"name": "c"}]}}, 500, "The order in patch list:\n"),
        ({"spec": {"$setElementOrder/spam": []}}, 500, 'unable to find api field in struct PodSpec for the json field "spam"'),
        ([], 400, "error decoding patch: json: cannot unmarshal array"),
    ],
)  # fmt: skip
def test_refusals(patch: Any, code: int, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        merge(POD, patch)
    assert caught.value.status["code"] == code
    assert caught.value.status["message"].startswith(message)


ELEMENTS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"image": st.sampled_from("xyz"), "stdin": st.booleans()}),
    max_size=4, unique_by=lambda one: one["name"],
)  # fmt: skip


@given(ELEMENTS, ELEMENTS)
def test_every_element_of_a_patch_is_there_once_and_a_second_time_changes_nothing(old: Any, new: Any) -> None:
    pod = {"spec": {"containers": old}}
    patch = {"spec": {"containers": new}}
    once = merge(pod, patch)
    found = names(once)
    assert sorted(found) == sorted({one["name"] for one in old + new})
    assert [name for name in found if name in {one["name"] for one in new}] == [one["name"] for one in new]
    for one in new:
        assert one.items() <= once["spec"]["containers"][found.index(one["name"])].items()
    assert merge(once, patch) == once


@given(st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "replace", "delete", "c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["spec", "containers", "name", "$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/containers",
         "env", "metadata", "labels", "finalizers", "$setElementOrder/finalizers", "volumes"]), inner, max_size=3),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_applied_or_refused(patch: Any) -> None:
    for one in (patch, {"spec": patch}, {"metadata": patch}, {"spec": {"containers": patch}}):
        try:
            merge(POD, one)
        except StatusError as error:
            assert error.status["code"] in (400, 422, 500)


def test_what_is_new_is_taken_as_it_is_and_stands_where_the_order_says() -> None:
    """As kubectl 1.36 and the API server have it: tests/host/api/test_patching.py compares the two at random."""
    result = merge(POD, {"spec": {"containers": [{"name": "e", "image": None}]}})
    assert result["spec"]["containers"][0] == {"name": "e", "image": None}
    result = merge(POD, {"spec": {"containers": [{"name": "e"}], "$setElementOrder/containers": [{"name": "e"}]}})
    assert names(result) == ["e", "c", "d"]
    for patch, message in (
        ({"spec": {"containers": ["c"]}}, "list element types are not identical"),
        ({"spec": {"initContainers": ["c"]}}, "expected a map"),
        ({"spec": {"$setElementOrder/tolerations": [], "tolerations": []}}, "declared merge key"),
    ):
        with pytest.raises(StatusError, match=message):
            merge({**POD, "spec": {**POD["spec"], "initContainers": []}}, patch)
