"""Manifests with several objects that are wrong."""

from __future__ import annotations

import pytest

from nsrun.errors import SpecError
from nsrun.spec.load import load, pods, require_all_valid

GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fine}\n"
BAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n"
UNKNOWN = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndate: {a: b}\n"
OTHER = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"


def test_all_that_is_wrong_is_said_at_once() -> None:
    verdicts = load("---\n".join((BAD, GOOD, UNKNOWN, OTHER)).encode(), "all.yaml")
    with pytest.raises(SpecError) as caught:
        require_all_valid(verdicts)
    assert caught.value.brief == "2 of 4 objects are not valid"
    assert "all.yaml" in (caught.value.details or "")
    assert "'Bad_Name' is not valid" in (caught.value.details or "")
    assert 'unknown field "date"' in (caught.value.details or "")
    with pytest.raises(SpecError, match="2 of 4"):
        pods(verdicts)


def test_one_is_said_in_its_own_words() -> None:
    with pytest.raises(SpecError, match="'Bad_Name' is not valid"):
        require_all_valid(load(f"{GOOD}---\n{BAD}".encode(), "one.yaml"))


def test_what_is_right_passes() -> None:
    require_all_valid(load(f"{GOOD}---\n{OTHER}".encode(), "fine.yaml"))
