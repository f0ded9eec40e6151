"""kubectl's JSONPath. The tables are those of client-go's own tests, on an object like theirs, and what users write."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.status.jsonpath import JsonPath, JsonPathError, OutOfBoundsError, relaxed

STORE: dict[str, Any] = {
    "Name": "jsonpath",
    "Book": [
        {"Category": "reference", "Author": "Nigel Rees", "Title": "Sayings of the Centurey", "Price": 8.95},
        {"Category": "fiction", "Author": "Evelyn Waugh", "Title": "Sword of Honour", "Price": 12.99},
    ],
    "Bicycle": [{"Color": "red", "Price": 19.95, "IsNew": True}, {"Color": "green", "Price": 20.01, "IsNew": False}],
    "Labels": {"engieer": 10, "web/html": 15, "k8s-app": 20},
    "Employees": {"jason": "manager", "dan": "clerk"},
    "Empty": None,
}

POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web", "tier": "front"}, "generation": 2},
    "spec": {"containers": [{"name": "app", "image": "a:1"}, {"name": "log", "image": "b:2"}]},
    "status": {
        "phase": "Running",
        "podIP": "10.85.0.2",
        "podIPs": [{"ip": "10.85.0.2"}, {"ip": "fd00::2"}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}],
        "containerStatuses": [
            {"name": "app", "ready": True, "restartCount": 3, "state": {"running": {"startedAt": "x"}}},
            {"name": "log", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ],
    },
}

STORE_TABLE = [
    ("hello jsonpath", "hello jsonpath"),
    ("hello {.Name}", "hello jsonpath"),
    ("{{}", None),
    ("{}", "{...}"),
    ('{"{"}', "{"),
    ("{.Name}", "jsonpath"),
    ("{$.Name}", "jsonpath"),
    ("{['Name']}", "jsonpath"),
    ("{.Book[0].Title}", "Sayings of the Centurey"),
    ("{.Book[-1].Title}", "Sword of Honour"),
    ("{.Book[0:1].Title}", "Sayings of the Centurey"),
    ("{.Book[0:2].Title}", "Sayings of the Centurey Sword of Honour"),
    ("{.Book[0:2:2].Title}", "Sayings of the Centurey"),
    ("{.Book[:1].Title}", "Sayings of the Centurey"),
    ("{.Book[1:].Title}", "Sword of Honour"),
    ("{.Book[*].Author}", "Nigel Rees Evelyn Waugh"),
    ("{.Bicycle.*.Color}", "red green"),
    ("{..Color}", "red green"),
    ("{.Bicycle[?(@.IsNew==true)].Color}", "red"),
    ("{.Book[?(@.Price<10)].Title}", "Sayings of the Centurey"),
    ("{.Book[?(@.Price >= 12.99)].Title}", "Sword of Honour"),
    ('{.Book[?(@.Category!="fiction")].Author}', "Nigel Rees"),
    ("{.Book[?(@.Nothing)].Title}", ""),
    ("{.Labels.engieer}", "10"),
    ("{.Labels['engieer']}", "10"),
    ("{.Labels.web/html}", "15"),
    ("{.Labels.k8s-app}", "20"),
    ("{.Employees['jason', 'dan']}", "manager clerk"),
    ("{['Employees','Labels']}", '{"dan":"clerk","jason":"manager"} {"engieer":10,"k8s-app":20,"web/html":15}'),
    ("{.Book[0,1].Price}", "8.95 12.99"),
    ("{[0,1]}", None),
    ("{.Missing.deeper}", ""),
    ("{.Empty}", "null"),
    ("{.Book[0].Title} by {.Book[0].Author}", "Sayings of the Centurey by Nigel Rees"),
    ('{range .Book[*]}{.Title}{"\\n"}{end}', "Sayings of the Centurey\nSword of Honour\n"),
    ("{range .Bicycle[*]}{.Color}={.Price};{end}!", "red=19.95;green=20.01;!"),
    ("{range .Missing[*]}{.x}{end}rest", "rest"),
    ("{range .Book[*]}[{range .Nothing[*]}x{end}{.Price}]{end}", "[8.95][12.99]"),
    ("{.Book[5].Title}", None),
    ("{.Book[?(@.Price=='x')]}", None),
    ("{.Name[0]}", None),
    ("{.Name", None),
    ("{.Book[}", None),
    ("{.Book[x]}", None),
    ("{.Book[0:1:0]}", None),
    ("{.Book[?(@.Price<10)}", None),
    ("{.Book[?(@.Price<10}", None),
    ("{end}", None),
    ("{something}", None),
    ("{'unterminated}", None),
]


@pytest.mark.parametrize(("template", "expected"), STORE_TABLE, ids=[row[0] for row in STORE_TABLE])
def test_as_client_go_reads_it(template: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(JsonPathError):
            JsonPath(template).render(STORE)
    elif expected == "{...}":
        assert json.loads(JsonPath(template).render(STORE)) == STORE
    else:
        assert JsonPath(template).render(STORE) == expected


USERS = [
    ("{.status.podIP}", "10.85.0.2"),
    ("{.status.podIPs[*].ip}", "10.85.0.2 fd00::2"),
    ("{.metadata.labels.app\\.kubernetes\\.io/name}", "web"),
    ("{.metadata.labels['app\\.kubernetes\\.io/name']}", "web"),
    ('{.status.conditions[?(@.type=="Ready")].status}', "True"),
    ("{.status.conditions[?(@.type=='Initialized')].status}", "False"),
    ("{.status.containerStatuses[*].ready}", "true false"),
    ('{.status.containerStatuses[?(@.name=="log")].state.waiting.reason}', "CrashLoopBackOff"),
    ("{.status.containerStatuses[?(@.restartCount>0)].name}", "app"),
    ("{.status.containerStatuses[0].state}", '{"running":{"startedAt":"x"}}'),
    ("{..image}", "a:1 b:2"),
    ('{range .spec.containers[*]}{.name}{"\\t"}{.image}{"\\n"}{end}', "app\ta:1\nlog\tb:2\n"),
]


@pytest.mark.parametrize(("template", "expected"), USERS, ids=[row[0] for row in USERS])
def test_what_users_write(template: str, expected: str) -> None:
    assert JsonPath(template).render(POD) == expected


@pytest.mark.parametrize("text", ["{.status.phase}", "{status.phase}", ".status.phase", "status.phase"])
def test_the_relaxed_forms(text: str) -> None:
    assert relaxed(text).find(POD) == [["Running"]]


@pytest.mark.parametrize("text", ["", "{.a}{.b}", "x{.a}", "{{.a}}", "{.a"])
def test_what_is_no_single_path(text: str) -> None:
    with pytest.raises(JsonPathError):
        relaxed(text)


def test_what_is_missing_is_an_error_if_wished() -> None:
    with pytest.raises(JsonPathError, match="nowhere is not found"):
        JsonPath("{.nowhere}", missing_ok=False).find(POD)


def test_an_index_beyond_the_end_is_its_own_error() -> None:
    with pytest.raises(OutOfBoundsError, match="array index out of bounds: index 7, length 2"):
        JsonPath("{.spec.containers[7]}").find(POD)


@given(st.text(alphabet="{}[]().@$?*'\"\\,:=<>!~ abr019-_\n", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(JsonPathError):
        JsonPath(text).render(POD)


NAMES = st.text(alphabet="abcXYZ019_-/", min_size=1, max_size=6)
TREES = st.recursive(
    st.integers() | st.text(max_size=5) | st.booleans(),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


def paths(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every place in a tree, and how to say it."""
    found = [(path, value)] if path else []
    if isinstance(value, dict):
        for key, one in value.items():
            found += paths(one, f"{path}['{key}']")
    elif isinstance(value, list):
        for at, one in enumerate(value):
            found += paths(one, f"{path}[{at}]")
    return found


@given(TREES)
def test_every_place_of_a_tree_can_be_named(tree: Any) -> None:
    for path, value in paths(tree):
        assert JsonPath(f"{{{path}}}").find(tree) == [[value]]
