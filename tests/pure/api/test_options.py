"""What a deletion's options mean, and the words in which those that mean nothing are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.api.options import deletion
from nsrun.errors import StatusError

pytestmark = pytest.mark.pure
NOTHING = {"grace_period_s": None, "uid": None, "resource_version": None, "propagation": None, "dry_run": None}


@pytest.mark.parametrize(
    ("said", "query", "found"),
    [
        (None, {}, {}),
        ({}, {}, {}),
        ({"kind": "DeleteOptions", "apiVersion": "policy/v1", "gracePeriodSeconds": 0}, {}, {"grace_period_s": 0}),
        ({"gracePeriodSeconds": 3}, {"gracePeriodSeconds": "5"}, {"grace_period_s": 3}),
        (None, {"gracePeriodSeconds": "-5"}, {"grace_period_s": -5}),
        ({"preconditions": {"uid": "u", "resourceVersion": "7"}}, {}, {"uid": "u", "resource_version": "7"}),
        ({"propagationPolicy": "Orphan"}, {}, {"propagation": "Orphan"}),
        (None, {"propagationPolicy": "Foreground"}, {"propagation": "Foreground"}),
        ({"orphanDependents": True}, {}, {"propagation": "Orphan"}),
        ({"orphanDependents": False}, {}, {"propagation": "Background"}),
        ({"dryRun": ["All"]}, {}, {"dry_run": True}),
        (None, {"dryRun": "All"}, {"dry_run": True}),
        ({"unknown": 1}, {}, {}),
    ],
)
def test_what_they_mean(said: Any, query: dict[str, str], found: dict[str, Any]) -> None:
    assert deletion(said, query) == NOTHING | found


@pytest.mark.parametrize(
    ("said", "query", "code", "words"),
    [
        ([], {}, 400, "the options of a deletion are no object"),
        ({"kind": "Pod"}, {}, 400, "decoded object cannot be converted to DeleteOptions: Pod"),
        ({"gracePeriodSeconds": "x"}, {}, 400, "DeleteOptions.gracePeriodSeconds of type int64"),
        ({"preconditions": [1]}, {}, 400, "DeleteOptions.preconditions of type"),
        ({"preconditions": {"uid": 7}}, {}, 400, "cannot unmarshal number"),
        ({"dryRun": 7}, {}, 400, "DeleteOptions.dryRun of type []string"),
        ({"propagationPolicy": {}}, {}, 400, "cannot unmarshal object"),
        ({"dryRun": ["Some"]}, {}, 422, 'dryRun: Unsupported value: {"Some"}: supported values: "All"'),
        (None, {"dryRun": "x"}, 422, 'dryRun: Unsupported value: {"x"}: supported values: "All"'),
        (None, {"gracePeriodSeconds": "--5"}, 400, 'strconv.ParseInt: parsing "--5": invalid syntax'),
        (None, {"gracePeriodSeconds": "²"}, 400, 'strconv.ParseInt: parsing "²": invalid syntax'),
        (None, {"gracePeriodSeconds": "9" * 30}, 400, "value out of range"),
        (None, {"gracePeriodSeconds": "9" * 5000}, 400, "value out of range"),
        ({"orphanDependents": True, "propagationPolicy": "Orphan"}, {}, 422, "cannot be both set"),
    ],
)
def test_what_they_cannot_mean(said: Any, query: dict[str, str], code: int, words: str) -> None:
    with pytest.raises(StatusError) as refused:
        deletion(said, query)
    assert refused.value.status["code"] == code
    assert words in refused.value.status["message"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["kind", "gracePeriodSeconds", "preconditions", "orphanDependents", "propagationPolicy", "dryRun"]
        ),
        _JSON,
    ),
    st.dictionaries(st.sampled_from(["gracePeriodSeconds", "propagationPolicy", "dryRun"]), st.text(max_size=6)),
)
def test_whatever_they_are_they_are_read_or_refused(said: dict[str, Any], query: dict[str, str]) -> None:
    try:
        found = deletion(said, query)
    except StatusError as refused:
        assert refused.status["code"] in (400, 422)
    else:
        assert found.keys() == NOTHING.keys()
