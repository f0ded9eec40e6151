"""Packages that import their names lazily."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import nsrun.plan

pytestmark = pytest.mark.pure


def test_every_name_is_there() -> None:
    for name in nsrun.plan.__all__:
        assert getattr(nsrun.plan, name) is not None


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match=r"module 'nsrun\.plan' has no attribute 'nothing'"):
        _ = nsrun.plan.nothing


@pytest.mark.parametrize("package", ["nsrun.plan"])
def test_no_module_has_the_name_of_what_the_package_gives(package: str) -> None:
    # Or who imported the module before would have made it the package's.
    module = import_module(package)
    assert not {one.name for one in pkgutil.iter_modules(module.__path__)} & set(module.__all__)
