"""Arbitrary objects: JSON that fits the Go types of the model, with values that are now and then sensible."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from nsrun.spec import model

WORDS = (
    "a", "web", "x-1", "A", "", "a.b", "app/v1", "Always", "Never", "OnFailure", "File", "TCP", "HTTP", "Localhost",
    "RuntimeDefault", "None", "Default", "linux", "windows", "cpu", "memory", "hugepages-2Mi", "/x", "../x", "1.2.3.4",
    "In", "Exists", "NoExecute", "v1", "metadata.name", "metadata.labels['a']", "limits.cpu", "nginx:1", "n@x", "é",
)  # fmt: skip
TEXT = st.sampled_from(WORDS) | st.text(max_size=5)
QUANTITIES = st.sampled_from(["1", "0", "500m", "1Gi", "64Mi", "1.5", "0.0001", "-1", "1e3", "2Mi"]) | st.integers(0, 5)
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "bool": st.booleans(),
    "int": st.integers(-2, 70000),
    "int32": st.integers(-2, 70000) | st.sampled_from([-(2**31), 2**31 - 1]),
    "int64": st.integers(-2, 70000) | st.sampled_from([-(2**63), 2**63 - 1]),
    "[]byte": st.sampled_from(["", "aGk=", "AAAA"]),
    "resource.Quantity": QUANTITIES,
    "intstr.IntOrString": st.integers(-1, 70000) | TEXT,
    "v1.Time": st.sampled_from(["2026-01-02T03:04:05Z", "1999-12-31T23:59:59+02:00"]),
    "v1.MicroTime": st.just("2026-01-02T03:04:05.678901Z"),
    "v1.FieldsV1": st.dictionaries(TEXT, st.integers(0, 3) | st.none(), max_size=2),
}
STRUCTS = {"v1." + cls.__name__: cls for cls in model.GO_FIELDS}


def fitting(go_type: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """JSON values that decode as `go_type`."""
    go_type = go_type.removeprefix("*")
    if go_type in LEAVES:
        return LEAVES[go_type]
    if go_type in STRUCTS:
        return struct(go_type, depth)
    if go_type in model.GO_ALIASES:
        return fitting(model.GO_ALIASES[go_type], depth)
    if go_type.startswith("[]"):
        return st.lists(fitting(go_type[2:], depth), max_size=2)
    match = re.fullmatch(r"map\[[\w.]+\](.+)", go_type)
    assert match is not None, go_type
    return st.dictionaries(TEXT, fitting(match[1], depth), max_size=2)


def struct(go_type: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of a struct with a handful of its fields."""
    fields = dict(model.GO_FIELDS[STRUCTS[go_type]])

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4 if depth < 3 else 2, unique=True))
        if go_type == "v1.PodSpec":
            names = [*dict.fromkeys([*names, "containers"])]
        return {name: draw(fitting(fields[name], depth + 1)) for name in names}

    return build()


def objects(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of a kind, with a spec where it has one."""
    fields = dict(model.GO_FIELDS[model.ROOTS[kind]])
    fixed: dict[str, st.SearchStrategy[Any]] = {"apiVersion": st.just("v1"), "kind": st.just(kind)}
    parts = {name: fitting(go_type, 0) for name, go_type in fields.items() if name not in fixed}
    if kind == "Pod":
        parts.pop("status")
    return st.fixed_dictionaries({**fixed, **parts})
