"""Packages that import a name's home at its first use (PEP 562): who needs a type of a package does not pay for all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from sys import modules


def homes(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        names: of each module, by its full name, what the package gives of it. No module of the package may have such a name too: the
            package has that module by its name once somebody imported it.
    """
    where = {name: module for module, of_module in names.items() for name in of_module}

    def get(name: str) -> object:
        home = where.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(home), name)
        setattr(modules[package], name, value)
        return value

    return get
