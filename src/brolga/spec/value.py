"""Frozen values: classes whose instances are equal if their fields are.

`class Size(Value)` is what `@dataclass(frozen=True) class Size` is, for type checkers too. But a
dataclass compiles methods of its own, a third of a millisecond each, and a command would define
fifty of them before it does anything. All values share the methods of `Value`.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import ClassVar

__all__ = ["Value", "as_dict", "field", "field_names", "replace"]

_MISSING: Final = object()


class _Field:
    """A field: its type, and the options of `dataclasses.field`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.annotation: Any = None
        self.options = options
        self.default: object = options.get("default", _MISSING)
        self.factory: Callable[[], object] | None = options.get("default_factory")

    def has(self, option: str, default: bool = True) -> bool:  # noqa: FBT001, FBT002 - as in dict.get
        """Return whether an option is set: `init`, `repr`, `compare` or `kw_only`."""
        value: bool = self.options.get(option, default)
        return value


class _Fields:
    """The fields of a class, prepared for the methods of its values."""

    def __init__(self, by_name: Mapping[str, _Field]) -> None:
        self.by_name = by_name
        self.arguments = {name for name, each in by_name.items() if each.has("init")}
        self.positional = tuple(
            name
            for name, each in by_name.items()
            if each.has("init") and not each.has("kw_only", default=False)
        )
        self.defaults = {
            name: each.default for name, each in by_name.items() if each.default is not _MISSING
        }
        self.factories = {name: each.factory for name, each in by_name.items() if each.factory}
        self.shown = tuple(name for name, each in by_name.items() if each.has("repr"))
        compared = [name for name, each in by_name.items() if each.has("compare")]
        self.key: Callable[[object], Any] = (
            operator.attrgetter(*compared) if compared else lambda _value: ()
        )


class _OfDataclass:
    """An attribute that `dataclasses` and `inspect` look for, made if they do."""

    def __set_name__(self, kind: type[Value], name: str) -> None:
        self._name = name

    def __get__(self, value: object, kind: type[Value]) -> Any:  # noqa: ANN401 - of several types
        import dataclasses
        import inspect

        made = dataclasses.make_dataclass(
            kind.__name__,
            [
                (name, each.annotation, dataclasses.field(**each.options))
                for name, each in kind.__fields__.by_name.items()
            ],
        )
        is_signature = self._name == "__signature__"
        return inspect.signature(made) if is_signature else getattr(made, self._name)


if TYPE_CHECKING:  # type checkers know the types of these
    from dataclasses import field, replace
else:

    def field(**options: object) -> _Field:
        """Describe a field, as `dataclasses.field` does."""
        return _Field(options)

    def replace(value: Value, /, **changes: object) -> Value:
        """Return a value with some fields changed. Raises what the class raises for them."""
        kept = type(value).__fields__.arguments - changes.keys()
        return type(value)(**{name: getattr(value, name) for name in kept}, **changes)


def field_names(kind: type[Value]) -> tuple[str, ...]:
    """Return the names of the fields of a class, in order."""
    return tuple(kind.__fields__.by_name)


def as_dict(value: Value) -> dict[str, Any]:
    """Return the fields of a value by name, in order."""
    return {name: getattr(value, name) for name in field_names(type(value))}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value:
    """Base of frozen values. The fields are the annotations of a class, except ClassVars.

    `kw_only`, `order` and `eq` are as in `dataclasses.dataclass`. `__post_init__` checks a new
    value, and may set fields by `object.__setattr__`. The functions of `dataclasses` take values.
    """

    if TYPE_CHECKING:
        __fields__: ClassVar[_Fields]
        __dataclass_fields__: ClassVar[dict[str, Any]]
        __signature__: ClassVar[object]
    else:
        __fields__ = _Fields({})
        __dataclass_fields__ = _OfDataclass()
        __dataclass_params__ = _OfDataclass()
        __signature__ = _OfDataclass()
        __replace__ = replace  # copy.replace, of Python 3.13

    def __init_subclass__(
        cls, *, kw_only: bool = False, order: bool = False, eq: bool = True
    ) -> None:
        """Collect the fields of a class and of its base."""
        by_name = dict(cls.__fields__.by_name)
        for name, annotation in cls.__annotations__.items():
            if "ClassVar" in str(annotation):
                continue
            given = cls.__dict__.get(name, _MISSING)
            if not isinstance(given, _Field):
                given = _Field({} if given is _MISSING else {"default": given})
            elif given.default is not _MISSING:
                setattr(cls, name, given.default)
            else:
                delattr(cls, name)
            given.annotation = annotation
            given.options.setdefault("kw_only", kw_only)
            by_name[name] = given
        cls.__fields__ = _Fields(by_name)
        cls.__match_args__ = cls.__fields__.positional  # type: ignore[attr-defined, misc]
        if not eq:
            cls.__eq__ = object.__eq__  # type: ignore[method-assign]
            cls.__hash__ = object.__hash__  # type: ignore[method-assign]
        if order:
            for name, method in _ORDER.items():
                setattr(cls, name, method)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - of any fields
        fields, values = type(self).__fields__, self.__dict__
        values.update(fields.defaults)
        values.update(zip(fields.positional, args, strict=False))
        values.update(kwargs)
        for name, make in fields.factories.items():
            if name not in values:
                values[name] = make()
        are_keywords_valid = not kwargs or (
            kwargs.keys() <= fields.arguments
            and kwargs.keys().isdisjoint(fields.positional[: len(args)])
        )
        if (
            not are_keywords_valid
            or len(args) > len(fields.positional)
            or not values.keys() >= fields.arguments
        ):
            names = ", ".join(kwargs)
            raise TypeError(
                f"{type(self).__name__}() was given {len(args)} positional arguments and the "
                f"keywords ({names}); it takes {type(self).__signature__}"
            )
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check a new value."""

    def __setattr__(self, name: str, _value: object) -> None:
        """Raise AttributeError: a value does not change."""
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        """Raise AttributeError: a value does not change."""
        raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        """Return whether another value is of the same class, with equal fields."""
        if type(other) is not type(self):
            return NotImplemented
        key = type(self).__fields__.key
        return bool(key(self) == key(other))

    def __hash__(self) -> int:
        """Return the hash of the fields that are compared."""
        return hash(type(self).__fields__.key(self))

    def __repr__(self) -> str:
        """Show the class and its fields."""
        fields = (f"{name}={getattr(self, name)!r}" for name in type(self).__fields__.shown)
        return f"{type(self).__qualname__}({', '.join(fields)})"


def _ordering(compare: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Any]:
    """Return the method that compares the fields of two values of one class."""

    def method(self: Value, other: Value) -> Any:  # noqa: ANN401 - of the fields
        if type(other) is not type(self):
            return NotImplemented
        key = type(self).__fields__.key
        return compare(key(self), key(other))

    return method


_ORDER: Final = {
    f"__{compare.__name__}__": _ordering(compare)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge)
}
