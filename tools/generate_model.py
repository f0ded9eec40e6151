#!/usr/bin/env python3
"""Generate nsrun/spec/model.py from the Go sources that define the Kubernetes API.

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
    return re.sub(r"(?m)//.*$", "", text)


class Sources:
    """The parsed Go sources; every type is known as ``v1.Name`` (core and meta never clash below ROOTS)."""

    def __init__(self) -> None:
        self.raw: dict[str, str] = {}
        self.alias: dict[str, str] = {"types.UID": "string", "types.NodeName": "string"}

    def load(self, path: Path, *, only_missing: bool) -> None:
        text = _strip_comments(path.read_text(encoding="utf-8"))
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


def reachable(sources: Sources) -> list[GoStruct]:
    """ROOTS and what they reach, dependencies first."""
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

    for root in ROOTS:
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


def declaration(sources: Sources, root: bool, name: str, go_field: GoField) -> str:
    """One line of a class body."""
    attribute = go_field.json + "_" if keyword.iskeyword(go_field.json) else go_field.json
    rename = f', name="{go_field.json}"' if attribute != go_field.json else ""
    if root and go_field.json in ("kind", "apiVersion"):
        value = name if go_field.json == "kind" else "v1"
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


def main() -> None:
    """Write the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", type=Path, required=True, help="a checkout of kubernetes/api")
    parser.add_argument("--apimachinery", type=Path, required=True, help="a checkout of kubernetes/apimachinery")
    parser.add_argument("--version", required=True, help="the Kubernetes version that the checkouts belong to")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "nsrun/spec/model.py")
    args = parser.parse_args()

    sources = Sources()
    sources.load(args.api / "core/v1/types.go", only_missing=False)
    sources.load(args.apimachinery / "pkg/apis/meta/v1/types.go", only_missing=True)
    structs = reachable(sources)

    out = [HEADER.format(version=args.version)]
    for struct in structs:
        name = struct.name.removeprefix("v1.")
        root = name in ROOTS
        out.append(f"\nclass {name}(ApiStruct):")
        out.append(f'    """Kubernetes {name}."""\n')
        out += [declaration(sources, root, name, go_field) for go_field in struct.fields]
        out.append("")

    used = {"types.UID"}
    todo = [go_field.go_type for struct in structs for go_field in struct.fields]
    while todo:
        for word in re.findall(r"[\w]+\.[\w]+", todo.pop()):
            if word in sources.alias and word not in used:
                used.add(word)
                todo.append(sources.alias[word])
    out.append("\nGO_ALIASES: dict[str, str] = {")
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
    out.append("ROOTS: dict[str, type[ApiStruct]] = {")
    out += [f'    "{name}": {name},' for name in ROOTS]
    out.append("}")
    out.append('"""The kinds of apiVersion v1 that nsrun reads into typed objects."""\n')
    out.append("Object = " + " | ".join(ROOTS))
    args.output.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
