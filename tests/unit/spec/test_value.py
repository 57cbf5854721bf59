"""Values behave as frozen dataclasses do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import ClassVar

import pytest

from brolga.spec.value import Value, as_dict, field, field_names, replace


class Point(Value, order=True):
    origin: ClassVar[int] = 0

    x: int
    y: int = 0


class Named(Point):
    name: str = field(default="", repr=False, compare=False)
    tags: list[str] = field(default_factory=list, kw_only=True)
    length: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive a field."""
        object.__setattr__(self, "length", len(self.name))


class Keyed(Value, kw_only=True):
    key: str
    size: int = 1


class Identity(Value, eq=False):
    x: int


class Nothing(Value):
    """A value without fields."""


def test_fields_are_given_by_position_or_keyword() -> None:
    assert Point(1, 2) == Point(1, y=2) == Point(y=2, x=1)
    assert (Point(1).x, Point(1).y, Point.y) == (1, 0, 0)


def test_fields_of_a_base_come_first() -> None:
    assert field_names(Named) == ("x", "y", "name", "tags", "length")
    named = Named(1, 2, "ab", tags=["t"])
    assert as_dict(named) == {"x": 1, "y": 2, "name": "ab", "tags": ["t"], "length": 2}


def test_annotations_may_be_types() -> None:
    """As in a module without `from __future__ import annotations`."""
    kind = type("Plain", (Value,), {"__annotations__": {"x": int, "y": ClassVar[int]}, "y": 2})
    assert field_names(kind) == ("x",)


def test_factory_makes_a_new_default_for_each_value() -> None:
    assert Named(1).tags is not Named(1).tags
    assert Named(1, tags=["t"]).tags == ["t"]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((), {"y": 1}),
        ((1, 2, 3), {}),
        ((1,), {"x": 1}),
        ((1,), {"z": 1}),
        ((1,), {"origin": 1}),
    ],
)
def test_wrong_arguments_are_a_type_error(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    with pytest.raises(TypeError, match=r"Point\(\) was given .*takes \(x: 'int', y: 'int' = 0\)"):
        Point(*args, **kwargs)


def test_field_without_init_is_not_an_argument() -> None:
    with pytest.raises(TypeError):
        Named(1, length=1)  # type: ignore[call-arg]


def test_keyword_only_field_is_not_positional() -> None:
    with pytest.raises(TypeError):
        Keyed("k")  # type: ignore[call-arg]
    assert Keyed(key="k").size == 1


def test_value_cannot_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="Point is frozen: 'x' cannot be set"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="Point is frozen: 'x' cannot be deleted"):
        del point.x
    assert point == Point(1)


def test_values_are_equal_if_class_and_compared_fields_are() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != Named(1)
    assert Named(1, name="a") == Named(1, name="b")
    assert Nothing() == Nothing()


def test_equal_values_have_equal_hashes() -> None:
    assert len({Point(1), Point(x=1, y=0), Point(y=0, x=1)}) == 1
    assert hash(Nothing()) == hash(Nothing())


def test_values_without_eq_are_compared_by_identity() -> None:
    one = Identity(1)
    assert one == one  # noqa: PLR0124 - the same object
    assert one != Identity(1)
    assert len({one, Identity(1)}) == 2


def test_values_with_order_are_compared_by_their_fields() -> None:
    assert Point(1, 2) < Point(2) > Point(1, 3)
    assert Point(1) <= Point(1) >= Point(1)
    with pytest.raises(TypeError):
        assert Point(1) < Named(1)
    with pytest.raises(TypeError):
        assert Keyed(key="a") < Keyed(key="b")  # type: ignore[operator]


def test_repr_shows_fields_except_hidden_ones() -> None:
    assert repr(Named(1, 2, "secret")) == "Named(x=1, y=2, tags=[], length=6)"


def test_replace_returns_a_checked_value() -> None:
    assert replace(Named(1, name="ab"), name="abc").length == 3
    with pytest.raises(TypeError):
        replace(Point(1), z=1)  # type: ignore[call-arg]


def test_value_is_copied_and_pickled() -> None:
    value = Named(1, 2, "ab", tags=["t"])
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301 - our own bytes
        assert again == value
        assert again.length == 2


def test_value_matches_a_pattern_by_position() -> None:
    match Point(1, 2):
        case Point(1, y):
            assert y == 2
        case _:
            pytest.fail("no match")


def test_functions_of_dataclasses_take_values() -> None:
    value = Named(1, 2, "ab", tags=["t"])
    assert dataclasses.is_dataclass(value)
    assert [each.name for each in dataclasses.fields(value)] == list(field_names(Named))
    assert dataclasses.asdict(value) == as_dict(value)
    assert dataclasses.replace(value, name="abc").length == 3
    assert list(inspect.signature(Named).parameters) == ["x", "y", "name", "tags"]
