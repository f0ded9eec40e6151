"""The words of `nsrun object`, and plans of pods that refer to objects."""

from __future__ import annotations

import pytest

from nsrun.cli.object import Chosen, chosen
from nsrun.client import offline
from nsrun.client.roots import find
from nsrun.errors import UsageError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), []),
        (("cm",), [Chosen(["cm"], [])]),
        (("cm,secret",), [Chosen(["cm", "secret"], [])]),
        (("cm", "a", "b"), [Chosen(["cm"], ["a", "b"])]),
        (("cm/a", "secret/b", "cm/c"), [Chosen(["cm"], ["a", "c"]), Chosen(["secret"], ["b"])]),
    ],
)
def test_words_are_kubectls(words: tuple[str, ...], expected: list[Chosen]) -> None:
    assert chosen(words) == expected


def test_both_forms_at_once() -> None:
    with pytest.raises(UsageError, match="resource/name form"):
        chosen(("cm/a", "b"))


OBJECTS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {A: plain, B: other}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: hunter2}
---
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: app
    image: box
    command: ["true", "$(P)"]
    envFrom:
    - configMapRef: {name: one}
    - secretRef: {name: s}
      prefix: S_
    env:
    - name: P
      valueFrom: {secretKeyRef: {name: s, key: password}}
    - name: X
      valueFrom: {configMapKeyRef: {name: one, key: KEY}}
"""


def planned(text: str) -> offline.Planned:
    return offline.plan([{"name": "f", "text": text}], find("/x"), {}, "app")[0]


def test_S_ENV_a_plan_has_the_values_of_configmaps_and_no_secret() -> None:
    found = planned(OBJECTS + POD.replace("KEY", "B"))
    assert found.problem is None
    (line,) = [one for one in found.lines if "env -i" in one]
    assert "A=plain" in line
    assert "X=other" in line
    assert "S_password=<password of secret s>" in line
    assert "P=<password of secret s>" in line
    assert "hunter2" not in "".join(found.lines)


def test_S_ENV_a_plan_without_the_objects_names_what_is_not_known() -> None:
    found = planned(POD.replace("KEY", "B"))
    assert found.problem is None
    (line,) = [one for one in found.lines if "env -i" in one]
    for words in ("X=<B of configmap one>", "<keys of configmap one>=<values>", "S_<keys of secret s>=<values>"):
        assert words in line


def test_S_ENV_a_plan_tells_of_a_key_that_its_own_file_lacks() -> None:
    found = planned(OBJECTS + POD.replace("KEY", "gone"))
    assert found.problem is not None
    assert found.problem.brief == "couldn't find key gone in ConfigMap default/one"
