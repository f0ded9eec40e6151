"""The layers of docs/architecture.md, walked: who may import whom."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

PACKAGE = Path(__file__).parents[2] / "nsrun"

SAY = {"cli", "client", "pytest_plugin", "__main__", "__init__"}
DECIDE = {"spec", "plan", "reconcile", "status"}
DO = {"images", "volumes", "network", "cgroups", "security", "probes", "resolver", "shim", "doctor"}
HOLD = {"state", "server"}
SERVE = {"api"}
BASE = {"errors", "native", "_native", "_version", "lazy", "waiting"}

# What the Kubernetes API says is decided as purely as what a pod means.
FORMS = "api/forms/"

# The one door: `pod plan` and `pod validate` work without a server, so this module of the client may ask DECIDE, and lazily.
OFFLINE = "client/offline.py"

DECIDE_MAY_IMPORT = {
    "__future__", "abc", "base64", "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "hashlib", "ipaddress", "itertools", "json", "math", "msgspec", "operator", "posixpath", "re", "signal", "string",
    "struct", "textwrap", "types", "typing", "urllib", "yaml", "zoneinfo", "errno", "difflib", "unicodedata", "stat", "binascii", "shlex",
}  # fmt: skip
"""What a pure layer needs of the standard library: nothing in here reads a clock or the world."""


@functools.cache
def modules() -> tuple[tuple[str, str, ast.Module], ...]:
    """(path, first component below the package, syntax tree) of each module."""
    paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
    return tuple(
        (str(path), path.parts[0].removesuffix(".py"), ast.parse((PACKAGE / path).read_text())) for path in paths
    )


def imports(tree: ast.Module, path: str) -> Iterator[tuple[str, int]]:
    """(absolute dotted module name, line) of each import that happens at run time, at module level or in a function."""
    type_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    parents = ["nsrun", *Path(path).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in type_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            name = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            if name == "nsrun":
                for alias in node.names:
                    yield f"nsrun.{alias.name}", node.lineno
            else:
                yield name, node.lineno


def allowed(path: str, layer_of: str, target: str) -> bool:
    """Whether the module at `path`, in component `layer_of`, may import component `target` of nsrun."""
    if target in BASE or target == layer_of:
        return True
    if path == OFFLINE:
        return target in DECIDE | {"client"}
    if layer_of in BASE:
        return False
    if layer_of in SAY:
        return target == "client" or (layer_of == "__main__" and target == "cli")
    if layer_of in DECIDE:
        return target in DECIDE
    if layer_of in DO:
        return target in DECIDE
    if layer_of in SERVE:
        return target in DECIDE or (target == "client" and not path.startswith(FORMS))
    return layer_of in HOLD and target in DECIDE | DO | HOLD


def test_every_component_has_a_layer() -> None:
    known = SAY | DECIDE | DO | HOLD | SERVE | BASE
    assert {component for _, component, _ in modules()} <= known


def test_layers_import_downwards_only() -> None:
    broken = [
        f"nsrun/{path}:{line} imports {name}"
        for path, component, tree in modules()
        for name, line in imports(tree, path)
        if name.split(".")[0] == "nsrun" and len(name.split(".")) > 1
        and not allowed(path, component, name.split(".")[1])
    ]  # fmt: skip
    assert broken == []


def test_deciding_is_pure() -> None:
    broken = [
        f"nsrun/{path}:{line} imports {name}"
        for path, component, tree in modules()
        if component in DECIDE or path.startswith(FORMS)
        for name, line in imports(tree, path)
        if name.split(".")[0] not in DECIDE_MAY_IMPORT | {"nsrun"}
    ]
    assert broken == []


def test_only_the_server_side_pays_for_pyroute2() -> None:
    users = {
        component
        for path, component, tree in modules()
        for name, _ in imports(tree, path)
        if name.split(".")[0] == "pyroute2"
    }
    assert users <= {"network"}


@pytest.mark.parametrize(("library", "module"), [("httptools", "probes/response.py"), ("h2", "probes/grpc.py")])
def test_only_a_probe_pays_for_its_library(library: str, module: str) -> None:
    users = {path for path, _, tree in modules() for name, _ in imports(tree, path) if name.split(".")[0] == library}
    assert users == {module}


def test_only_the_resolver_pays_for_dnspython() -> None:
    users = {path for path, _, tree in modules() for name, _ in imports(tree, path) if name.split(".")[0] == "dns"}
    assert users == {"resolver/answers.py"}


def test_a_broken_rule_would_be_seen() -> None:
    tree = ast.parse("from nsrun.server import engine\nfrom ..network import leases\n")
    assert [name for name, _ in imports(tree, "spec/yaml.py")] == ["nsrun.server", "nsrun.network"]
    assert not allowed("spec/yaml.py", "spec", "server")
    assert not allowed("cli/pod.py", "cli", "spec")
    assert not allowed("network/links.py", "network", "cgroups")
    assert allowed("api/process.py", "api", "client")
    assert not allowed("api/process.py", "api", "server")
    assert not allowed("server/pods.py", "server", "api")
    assert not allowed("cli/api.py", "cli", "api")
    assert not allowed("api/forms/tables.py", "api", "client")
    assert allowed(OFFLINE, "client", "spec")


def at_import(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that happen when a module is imported: not those in functions, nor those for types alone."""
    left: list[ast.stmt] = list(tree.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            left += [*node.body, *node.orelse]
        elif isinstance(node, ast.Try):
            left += [*node.body, *(one for handler in node.handlers for one in handler.body), *node.orelse]


def needs() -> dict[str, set[str]]:
    """Which modules each module has imported first; of a package's own modules not the package, which is there by then."""
    trees = {
        "nsrun." + path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree
        for path, _, tree in modules()
    }
    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        wanted: set[str] = set()
        for node in at_import(tree):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            else:
                module = node.module or ""
                wanted |= {inner if (inner := f"{module}.{alias.name}") in trees else module for alias in node.names}
        found[name] = {one for one in wanted if one in trees and one != name and not name.startswith(f"{one}.")}
    return found


def test_no_module_needs_itself() -> None:
    """Or it depends on which of them is imported first whether any of them can be."""
    graph = needs()
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, left = stack.pop()
            if left:
                path.pop()
                done.add(name)
            elif name in path:
                raise AssertionError(" -> ".join([*path[path.index(name) :], name]))
            elif name not in done:
                path.append(name)
                stack += [(name, True), *((other, False) for other in graph[name])]
