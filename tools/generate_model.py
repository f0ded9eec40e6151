#!/usr/bin/env python3
"""Generate nsrun/spec/model.py and model_kinds.py from the Go sources that define the Kubernetes API.

The Go structs are the maintained source: field names, order, optionality, and which Go type a decode error names.

    git clone --depth 1 --branch v0.36.2 https://github.com/kubernetes/api /tmp/api
    git clone --depth 1 --branch v0.36.2 https://github.com/kubernetes/apimachinery /tmp/apimachinery
    tools/generate_model.py --api /tmp/api --apimachinery /tmp/apimachinery --version v1.36.2

Only names and shapes are taken over, no comment of the sources. Re-run it for a new Kubernetes release, look at the diff
of the generated file, and give every new field a row in nsrun/spec/support.py (a test asks for it).
"""

from __future__ import annotations

import argparse
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOTS = (
    "Pod",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "PersistentVolume",
    "Event",
)
"""Kinds of the module; everything they reach comes along."""

KINDS = (
    ("Namespace", "v1"),
    ("Node", "v1"),
    ("ServiceAccount", "v1"),
    ("Service", "v1"),
    ("Endpoints", "v1"),
    ("ResourceQuota", "v1"),
    ("LimitRange", "v1"),
    ("EndpointSlice", "discovery.k8s.io/v1"),
    ("Lease", "coordination.k8s.io/v1"),
    ("RuntimeClass", "node.k8s.io/v1"),
    ("PriorityClass", "scheduling.k8s.io/v1"),
)
"""Kinds of the second module, with their apiVersions: those around pods, which only a server that keeps them needs."""

GROUPS: tuple[tuple[str, dict[str, str]], ...] = (
    ("discovery", {"EndpointPort": "SliceEndpointPort"}),
    ("coordination", {}),
    ("node", {}),
    ("scheduling", {}),
)
"""Directories of other groups than core, and their types that are called as others of core are."""

LEAVES = {
    "resource.Quantity": ("str", '"0"'),
    "intstr.IntOrString": ("int | str", "0"),
    "v1.Time": ("str", '""'),
    "v1.MicroTime": ("str", '""'),
    "v1.FieldsV1": ("Any", "None"),
}
"""Go types with an encoding of their own: the Python type and the zero value."""

SCALARS = {"string": "str", "bool": "bool", "int": "int", "int32": "int", "int64": "int"}
ZERO = {"str": '""', "bool": "False", "int": "0"}


@dataclass
class GoField:
    """A field of a Go struct that takes part in JSON."""

    json: str
    go_type: str
    omit: bool
    """Not written when it has Go's zero value (omitempty on anything but a struct, or omitzero)."""


@dataclass
class GoStruct:
    """A Go struct, embedded structs already laid flat."""

    name: str
    fields: list[GoField]


def _strip_comments(text: str) -> str:
    return re.sub(r"(?m)//.*$", "", re.sub(r"(?s)/\*.*?\*/", "", text))


class Sources:
    """The parsed Go sources; every type is known as ``v1.Name`` (core and meta never clash below ROOTS)."""

    def __init__(self) -> None:
        self.raw: dict[str, str] = {}
        self.alias: dict[str, str] = {"types.UID": "string", "types.NodeName": "string"}

    def load(self, path: Path, *, only_missing: bool, renamed: dict[str, str] | None = None) -> None:
        text = _strip_comments(path.read_text(encoding="utf-8")).replace("corev1.", "v1.").replace("apiv1.", "v1.")
        for old, new in (renamed or {}).items():
            text = re.sub(rf"\b{old}\b", new, text)
        for match in re.finditer(r"(?ms)^type (\w+) struct \{\n(.*?)^\}", text):
            name = "v1." + match.group(1)
            if not (only_missing and name in self.raw):
                self.raw[name] = match.group(2)
        for match in re.finditer(r"(?m)^type (\w+) =? ?([\w.\[\]]+)\s*$", text):
            name = "v1." + match.group(1)
            if match.group(2) != "struct" and not (only_missing and (name in self.alias or name in self.raw)):
                self.alias[name] = self.qualify(match.group(2))

    def qualify(self, go_type: str) -> str:
        """``[]Container`` → ``[]v1.Container``; packages keep the name that Go's reflection prints."""
        go_type = go_type.replace("metav1.", "v1.")
        if go_type.startswith("*"):
            return "*" + self.qualify(go_type[1:])
        if go_type.startswith("[]"):
            return "[]" + self.qualify(go_type[2:])
        if match := re.fullmatch(r"map\[([\w.]+)\](.+)", go_type):
            return f"map[{self.qualify(match.group(1))}]{self.qualify(match.group(2))}"
        if "." in go_type or go_type in SCALARS or go_type in {"byte", "uint8", "float64", "interface{}"}:
            return go_type
        return "v1." + go_type

    def struct(self, name: str) -> GoStruct:
        """The struct `name` with its embedded structs laid flat in place."""
        fields: list[GoField] = []
        for line in self.raw[name].splitlines():
            line = line.strip()
            if match := re.match(r'^([\w.]+)\s+`json:",inline"', line):
                fields += self.struct(self.qualify(match.group(1))).fields
            elif match := re.match(r'^(?:(?:\w+\s+)?(\S+))\s+`json:"([^"]*)"', line):
                words = match.group(2).split(",")
                if words[0] == "-":
                    continue
                go_type = self.qualify(match.group(1))
                is_struct = go_type in self.raw or go_type in {"resource.Quantity", "intstr.IntOrString"}
                omit = "omitzero" in words or ("omitempty" in words and not is_struct)
                fields.append(GoField(words[0], go_type, omit))
            elif line:
                raise SystemExit(f"{name}: cannot read the line {line!r}")
        return GoStruct(name, fields)


def reachable(sources: Sources, roots: Iterable[str]) -> list[GoStruct]:
    """`roots` and what they reach, dependencies first."""
    done: dict[str, GoStruct] = {}

    def visit(go_type: str) -> None:
        base = re.sub(r"^(\*|\[\]|map\[[\w.]+\])+", "", go_type)
        base_alias = sources.alias.get(base)
        if base_alias is not None:
            visit(base_alias)
        elif base in sources.raw and base not in done and base not in LEAVES:
            struct = sources.struct(base)
            for go_field in struct.fields:
                visit(go_field.go_type)
            done[base] = struct

    for root in roots:
        visit("v1." + root)
    return list(done.values())


def python_type(sources: Sources, go_type: str) -> tuple[str, str]:
    """The Python type of a Go type without its pointer, and its zero value's source text."""
    if go_type in LEAVES:
        return LEAVES[go_type]
    if go_type in sources.alias:
        return python_type(sources, sources.alias[go_type])
    if go_type in SCALARS:
        return SCALARS[go_type], ZERO[SCALARS[go_type]]
    if go_type == "[]byte":
        return "bytes", 'b""'
    if go_type.startswith("[]"):
        return f"list[{python_type(sources, go_type[2:])[0]}]", "[]"
    if match := re.fullmatch(r"map\[[\w.]+\](.+)", go_type):
        return f"dict[str, {python_type(sources, match.group(1))[0]}]", "{}"
    return go_type.removeprefix("v1."), go_type.removeprefix("v1.") + "()"


def declaration(sources: Sources, version: str | None, name: str, go_field: GoField) -> str:
    """One line of a class body; `version` is the apiVersion of a kind, None for what is none."""
    attribute = go_field.json + "_" if keyword.iskeyword(go_field.json) else go_field.json
    rename = f', name="{go_field.json}"' if attribute != go_field.json else ""
    if version is not None and go_field.json in ("kind", "apiVersion"):
        value = name if go_field.json == "kind" else version
        return f'    {attribute}: str = field(default_factory=lambda: "{value}")'
    pointer = go_field.go_type.startswith("*")
    kind, zero = python_type(sources, go_field.go_type.removeprefix("*"))
    if pointer or (go_field.omit and zero not in ("[]", "{}")):
        default = f"field(default=None{rename})" if rename else "None"
        if not go_field.omit:
            default = f"field(default_factory=lambda: None{rename})"  # written as null
        kind = kind if kind == "Any" else f"{kind} | None"
        return f"    {attribute}: {kind} = {default}"
    if zero == "[]":
        factory = "list" if go_field.omit else "lambda: []"
        return f"    {attribute}: {kind} = field(default_factory={factory}{rename})"
    if zero == "{}":
        return f"    {attribute}: {kind} = field(default_factory=dict{rename})"
    if zero.endswith("()"):
        return f"    {attribute}: {kind} = field(default_factory={kind}{rename})"
    return f"    {attribute}: {kind} = field(default_factory=lambda: {zero}{rename})"


HEADER = '''"""The Kubernetes {version} API types that a Pod and its companions reach, as msgspec structs.

GENERATED by tools/generate_model.py from k8s.io/api core/v1 and k8s.io/apimachinery meta/v1 ({version}): do not edit.

Attributes have the names of the Kubernetes fields. Optional scalars and objects are None when absent, lists and maps
are empty; encoding leaves out what Go's omitempty leaves out. Quantities and times are strings in the form in which the
API server prints them (nsrun.spec.quantity, nsrun.spec.decode).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class ApiStruct(Struct, kw_only=True, omit_defaults=True):
    """Base of every type here: keyword arguments only, defaults are not encoded."""

'''


KINDS_HEADER = '''"""The Kubernetes {version} API types of the kinds that are around pods, as msgspec structs (see nsrun.spec.model).

GENERATED by tools/generate_model.py from k8s.io/api and k8s.io/apimachinery ({version}): do not edit.
"""

from __future__ import annotations

from msgspec import field

from nsrun.spec.model import (
    ApiStruct,
{imported}
)

'''


def classes(sources: Sources, structs: list[GoStruct], versions: dict[str, str]) -> list[str]:
    """The lines of the classes."""
    out = []
    for struct in structs:
        name = struct.name.removeprefix("v1.")
        out.append(f"\nclass {name}(ApiStruct):")
        out.append(f'    """Kubernetes {name}."""\n')
        out += [declaration(sources, versions.get(name), name, go_field) for go_field in struct.fields]
        out.append("")
    return out


def tables(sources: Sources, structs: list[GoStruct], known: set[str]) -> list[str]:
    """The lines of the tables: aliases besides those that are `known`, and fields."""
    used = set() if known else {"types.UID"}
    todo = [go_field.go_type for struct in structs for go_field in struct.fields]
    while todo:
        for word in re.findall(r"[\w]+\.[\w]+", todo.pop()):
            if word in sources.alias and word not in used | known:
                used.add(word)
                todo.append(sources.alias[word])
    out = ["\nGO_ALIASES: dict[str, str] = {"]
    out += [f'    "{name}": "{sources.alias[name]}",' for name in sorted(used)]
    out.append("}")
    out.append('"""Named Go types that are not structs, and what they are made of."""\n')
    out.append("GO_FIELDS: dict[type[ApiStruct], tuple[tuple[str, str], ...]] = {")
    for struct in structs:
        out.append(f"    {struct.name.removeprefix('v1.')}: (")
        out += [f'        ("{go_field.json}", "{go_field.go_type}"),' for go_field in struct.fields]
        out.append("    ),")
    out.append("}")
    out.append(
        '"""JSON name and Go type of every field, in Go\'s order: what decoding follows and what its errors name."""\n'
    )
    return out


def main() -> None:
    """Write the modules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", type=Path, required=True, help="a checkout of kubernetes/api")
    parser.add_argument("--apimachinery", type=Path, required=True, help="a checkout of kubernetes/apimachinery")
    parser.add_argument("--version", required=True, help="the Kubernetes version that the checkouts belong to")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "nsrun/spec")
    args = parser.parse_args()

    sources = Sources()
    sources.load(args.api / "core/v1/types.go", only_missing=False)
    sources.load(args.apimachinery / "pkg/apis/meta/v1/types.go", only_missing=True)
    structs = reachable(sources, ROOTS)
    out = [HEADER.format(version=args.version)]
    out += classes(sources, structs, dict.fromkeys(ROOTS, "v1"))
    out += tables(sources, structs, set())
    known = set(re.findall(r'^    "([\w.]+)": "', "\n".join(out), re.MULTILINE))
    out.append("ROOTS: dict[str, type[ApiStruct]] = {")
    out += [f'    "{name}": {name},' for name in ROOTS]
    out.append("}")
    out.append('"""The kinds of apiVersion v1 that nsrun reads into typed objects."""\n')
    out.append("Object = " + " | ".join(ROOTS))
    (args.output / "model.py").write_text("\n".join(out) + "\n", encoding="utf-8")

    for group, renamed in GROUPS:
        sources.load(args.api / group / "v1/types.go", only_missing=True, renamed=renamed)
    there = {struct.name for struct in structs}
    more = [struct for struct in reachable(sources, [kind for kind, _ in KINDS]) if struct.name not in there]
    body = classes(sources, more, dict(KINDS)) + tables(sources, more, known)
    words = set(re.findall(r"\w+", "\n".join(body)))
    imported = sorted(name for name in (one.removeprefix("v1.") for one in there) if name in words)
    out = [KINDS_HEADER.format(version=args.version, imported="\n".join(f"    {name}," for name in imported)), *body]
    out.append("ROOTS: dict[tuple[str, str], type[ApiStruct]] = {")
    out += [f'    ("{version}", "{name}"): {name},' for name, version in KINDS]
    out.append("}")
    out.append('"""The kinds by apiVersion and kind."""')
    (args.output / "model_kinds.py").write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
