"""Names of a package, each loaded from its module when it is first used (PEP 562)."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes as long as half a start of Python
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package, with a table of `modules` and the names in each."""
    module_by_name = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> object:
        if name not in module_by_name:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(module_by_name[name]), name)
        setattr(import_module(package), name, value)
        return value

    return load
