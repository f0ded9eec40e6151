#!/usr/bin/env python3
"""Generate nsrun/api/forms/facts.py: what the Go sources say of each field beyond what nsrun.spec.model needs.

    git clone --depth 1 --branch v0.36.2 https://github.com/kubernetes/api /tmp/api
    git clone --depth 1 --branch v0.36.2 https://github.com/kubernetes/apimachinery /tmp/apimachinery
    tools/generate_facts.py --api /tmp/api --apimachinery /tmp/apimachinery --version v1.36.2

Only names, numbers and tags are taken over (protobuf numbers, merge keys, kinds of lists and maps, defaults, enumerations), no
comment of the sources; run `ruff format` on it. A test compares the fields with those of nsrun.spec.model.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

CORE = (
    "Pod", "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume", "Event", "Namespace", "Node", "Service",
    "ServiceAccount", "Endpoints", "ResourceQuota", "LimitRange", "PodExecOptions", "PodAttachOptions", "PodPortForwardOptions",
    "PodLogOptions",
)  # fmt: skip
ROOTS = (
    *(f"core.v1.{name}" for name in CORE),
    "discovery.v1.EndpointSlice",
    "coordination.v1.Lease",
    "events.v1.Event",
    "node.v1.RuntimeClass",
    "scheduling.v1.PriorityClass",
    "policy.v1.Eviction",
    "authentication.v1.TokenRequest",
    "authentication.v1.SelfSubjectReview",
    "authorization.v1.SelfSubjectAccessReview",
    "authorization.v1.SelfSubjectRulesReview",
    "meta.v1.Status",
    "meta.v1.DeleteOptions",
    "meta.v1.ListMeta",
    "meta.v1.PartialObjectMetadata",
)
"""The types that requests and answers are made of; everything they reach comes along."""

PACKAGES = {
    "core.v1": "core/v1", "discovery.v1": "discovery/v1", "coordination.v1": "coordination/v1", "events.v1": "events/v1",
    "node.v1": "node/v1", "scheduling.v1": "scheduling/v1", "policy.v1": "policy/v1", "authentication.v1": "authentication/v1",
    "authorization.v1": "authorization/v1",
}  # fmt: skip
LEAVES = {
    "resource.Quantity": "Quantity",
    "intstr.IntOrString": "IntOrString",
    "metav1.Time": "Time",
    "metav1.MicroTime": "MicroTime",
    "metav1.FieldsV1": "FieldsV1",
    "runtime.RawExtension": "RawExtension",
    "types.UID": "string",
    "types.NodeName": "string",
    "string": "string",
    "bool": "bool",
    "int": "int64",
    "int32": "int32",
    "int64": "int64",
    "uint16": "int32",
    "[]byte": "bytes",
}
"""Go types with an encoding of their own."""


@dataclass
class Go:
    """A declaration: a struct's lines or the type that an alias stands for, and the markers above it."""

    package: str
    lines: list[str] = field(default_factory=list)
    alias: str = ""
    markers: dict[str, list[str]] = field(default_factory=dict)


class Sources:
    """All declarations by `package.Name`, and the constants of each named type."""

    def __init__(self) -> None:
        self.types: dict[str, Go] = {}
        self.values: dict[str, list[str]] = {}

    def load(self, package: str, path: Path) -> None:
        """Read the declarations of one file."""
        lines = re.sub(r"(?s)/\*.*?\*/", "", path.read_text(encoding="utf-8")).splitlines()
        comments: list[str] = []
        at = 0
        while at < len(lines):
            line = lines[at]
            if line.strip().startswith("//"):
                comments.append(line.strip()[2:].strip())
            elif match := re.match(r"^type (\w+) struct \{(\})?$", line):
                body: list[str] = []
                while not match.group(2) and lines[at + 1] != "}":
                    at += 1
                    body.append(lines[at])
                self.types[f"{package}.{match.group(1)}"] = Go(package, body, markers=markers(comments))
                comments = []
            elif match := re.match(r"^type (\w+) =? ?([\w.*\[\]]+)$", line):
                self.types[f"{package}.{match.group(1)}"] = Go(package, alias=match.group(2), markers=markers(comments))
                comments = []
            elif match := re.match(r'^\s+\w+\s+(\w+)\s*=\s*"([^"]*)"', line):
                self.values.setdefault(f"{package}.{match.group(1)}", []).append(match.group(2))
                comments = []
            elif line.strip():
                comments = []
            at += 1

    def name(self, package: str, go_type: str) -> str:
        """The full name of a type that a file of `package` mentions."""
        if go_type in LEAVES:
            return LEAVES[go_type]
        if f"metav1.{go_type}" in LEAVES and package == "meta.v1":
            return LEAVES[f"metav1.{go_type}"]
        head, _, tail = go_type.rpartition(".")
        if head == "metav1":
            return f"meta.v1.{tail}"
        if head in ("v1", "apiv1", "corev1"):
            return f"core.v1.{tail}"
        if head:
            raise SystemExit(f"{package}: what is {go_type}?")
        return f"{package}.{go_type}"

    def resolve(self, package: str, go_type: str) -> tuple[str, str]:
        """(the type as facts say it, the enumeration it is of or ""); pointers are gone."""
        go_type = go_type.removeprefix("*")
        if go_type in LEAVES or (package == "meta.v1" and f"metav1.{go_type}" in LEAVES):
            return self.name(package, go_type), ""
        if go_type.startswith("[]"):
            inner, enum = self.resolve(package, go_type[2:])
            return f"[]{inner}", enum
        if match := re.fullmatch(r"map\[([\w.]+)\](.+)", go_type):
            return f"map:{self.resolve(package, match.group(2))[0]}", ""
        full = self.name(package, go_type)
        if full in LEAVES.values():
            return full, ""
        found = self.types[full]
        if found.alias:
            inner, enum = self.resolve(found.package, found.alias)
            return inner, enum or (full if "enum" in found.markers and inner == "string" else "")
        return full, ""


def markers(comments: list[str]) -> dict[str, list[str]]:
    """`+name=value` of the comments above something."""
    found: dict[str, list[str]] = {}
    for one in comments:
        if match := re.match(r"^\+([\w:]+)(?:=(.*))?$", one):
            found.setdefault(match.group(1), []).append((match.group(2) or "").strip())
    return found


def rows(sources: Sources, full: str) -> tuple[list[str], list[str]]:
    """The rows of a struct and the types that they mention."""
    go = sources.types[full]
    out, reached = [], []
    comments: list[str] = []
    for raw in go.lines:
        line = raw.strip()
        if line.startswith("//"):
            comments.append(line[2:].strip())
            continue
        match = re.match(r"^(?:(\w+)\s+)?([\w.*\[\]]+)\s+`([^`]*)`", line)
        if not match:
            if line:
                raise SystemExit(f"{full}: cannot read {line!r}")
            continue
        tags = dict(re.findall(r'(\w+):"([^"]*)"', match.group(3)))
        marks, comments = markers(comments), []
        words = tags["json"].split(",")
        number = tags.get("protobuf", "").split(",")[1] if tags.get("protobuf", "-") not in ("-", "") else "0"
        if words[0] == "-" or (match.group(2) in ("metav1.TypeMeta", "TypeMeta")):
            continue
        kind, enum = sources.resolve(go.package, match.group(2))
        base = re.sub(r"^(\[\]|map:)+", "", kind)
        if "." in base:
            reached.append(base)
        flags: list[str] = []
        if "inline" in words:
            out.append(f"~ {kind} {number}")
            continue
        if match.group(2).startswith("*"):
            flags.append("*")
        if "omitempty" in words or "omitzero" in words:
            flags.append("o")
        if "omitzero" in words:
            flags.append("z")
        if "optional" not in marks and "omitempty" not in words:
            flags.append("!")
        alias = (
            sources.types.get(sources.name(go.package, match.group(2).lstrip("*")))
            if re.fullmatch(r"\*?[\w.]+", match.group(2))
            else None
        )
        if alias is not None:
            marks = {
                **{k: v for k, v in alias.markers.items() if k in ("listType", "mapType", "listMapKey", "structType")},
                **marks,
            }
        if "listType" in marks:
            keys = ",".join(marks.get("listMapKey", []))
            flags.append(f"list={marks['listType'][0]}" + (f":{keys}" if keys else ""))
        if "mapType" in marks or "structType" in marks:
            flags.append(f"map={(marks.get('mapType') or marks['structType'])[0]}")
        if "patchStrategy" in tags:
            flags.append(f"patch={tags['patchStrategy']}:{tags.get('patchMergeKey', '')}")
        if "default" in marks and not marks["default"][0].startswith("ref("):
            flags.append(f"default={json.dumps(json.loads(marks['default'][0]), separators=(',', ':'))}")
        if enum:
            flags.append(f"enum={enum}")
        out.append(" ".join([words[0], kind, number, *flags]))
    return out, reached


def main() -> None:
    """Write the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", type=Path, required=True, help="a checkout of kubernetes/api")
    parser.add_argument("--apimachinery", type=Path, required=True, help="a checkout of kubernetes/apimachinery")
    parser.add_argument("--version", required=True, help="the Kubernetes version that the checkouts belong to")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent.parent / "nsrun/api/forms/facts.py")
    args = parser.parse_args()

    sources = Sources()
    for package, where in PACKAGES.items():
        sources.load(package, args.api / where / "types.go")
    sources.load("meta.v1", args.apimachinery / "pkg/apis/meta/v1/types.go")

    done: dict[str, list[str]] = {}
    todo = list(reversed(ROOTS))
    while todo:
        full = todo.pop()
        if full not in done:
            done[full], reached = rows(sources, full)
            todo += reversed(reached)
    enums = {
        flag[5:] for one in done.values() for row in one for flag in row.split()[3:] if flag.startswith("enum=")
    } & sources.values.keys()

    out = [
        f'"""Every field of the Kubernetes {args.version} types that are served, as the Go sources tag them.',
        "",
        f"GENERATED by tools/generate_facts.py from k8s.io/api and k8s.io/apimachinery ({args.version}): do not edit.",
        '"""',
        "",
        "TYPES: dict[str, str] = {",
    ]
    for full, lines in done.items():
        if not lines:
            out.append(f'    "{full}": "",')
            continue
        out.append(f'    "{full}": """\\')
        text = "\n".join(lines).replace("\\", "\\\\").replace('"', '\\"')
        out.append(text + '""",')
    out += [
        "}",
        '"""A line for each field: JSON name (`~`: laid flat), type, protobuf number (0: none), flags (`*` a pointer, `o` omitempty,',
        "`z` omitzero, `!` required,",
        '`list=` and `map=` how they are merged by server-side apply, `patch=` strategy and key, `default=`, `enum=`)."""',
        "",
        "ATOMIC: frozenset[str] = frozenset({",
    ]
    out += [f'    "{name}",' for name in sorted(done) if "atomic" in sources.types[name].markers.get("structType", [])]
    out += [
        "})",
        '"""Structs that server-side apply takes as one value."""',
        "",
        "ENUMS: dict[str, tuple[str, ...]] = {",
    ]
    for name in sorted(enums):
        listed = ", ".join(json.dumps(value) for value in sorted(set(sources.values[name])))
        out.append(f'    "{name}": ({listed},),')
    out += ["}", '"""The values of named strings."""']
    args.output.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
