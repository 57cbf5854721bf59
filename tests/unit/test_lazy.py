"""Packages whose names are loaded when they are used."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = (
    "brolga",
    "brolga.auth",
    "brolga.client",
    "brolga.images",
    "brolga.protocol",
    "brolga.stores.archive",
    "brolga.stores.layout",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_each_name_is_what_a_type_checker_reads(name: str) -> None:
    """The table of a package and its imports for type checkers say the same."""
    package = import_module(name)
    tree = ast.parse(Path(str(package.__file__)).read_text())
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{name}.")
        for alias in node.names
    }
    imported = {key: module for key, module in imported.items() if key in package.__all__}
    for key, module in imported.items():
        assert getattr(package, key) is getattr(import_module(str(module)), key)
    assert set(package.__all__) - set(imported) <= {"__version__"}


@pytest.mark.parametrize("name", PACKAGES)
def test_no_name_is_that_of_a_module(name: str) -> None:
    """Importing a module puts it on its package: a function of its name would be lost."""
    package = import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules & set(package.__all__) == set()


@pytest.mark.parametrize("name", PACKAGES)
def test_another_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'no_such_name'"):
        _ = import_module(name).no_such_name
