"""testing.faults: values, and the requests on which each fires."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from brolga.testing.faults import KINDS, Cut, DropAnswer, FaultPlan, Slow, Stall, TooMany


@pytest.mark.parametrize("kind", ["PATCH", "PATCH blob", "any thing", "patch upload", ""])
def test_fault_rejects_invalid_kind(kind: str) -> None:
    """A kind that does not exist is an error, which lists the valid ones."""
    with pytest.raises(ValueError, match="is not a kind of request; there are") as caught:
        Cut(on=kind)
    assert "PATCH upload" in str(caught.value)


@pytest.mark.parametrize("numbers", [{"nth": 0}, {"times": 0}])
def test_fault_rejects_invalid_counts(numbers: dict[str, int]) -> None:
    """Requests are counted from 1."""
    with pytest.raises(ValueError, match="counted from 1"):
        Cut(**numbers)  # type: ignore[arg-type] # of the fields that are numbers


@pytest.mark.parametrize("rate", [0, -1])
def test_slow_rejects_zero_bytes_a_second(rate: float) -> None:
    """That is a Stall."""
    with pytest.raises(ValueError, match="see Stall"):
        Slow(bytes_per_s=rate)


@pytest.mark.parametrize(
    ("fault", "fired"),
    [
        (Cut(), [1]),
        (Cut(nth=2), [2]),
        (Cut(nth=2, times=3), [2, 3, 4]),
        (Cut(nth=4, times=None), [4, 5, 6]),
    ],
)
def test_fires_on_nth_requests(fault: Cut, fired: list[int]) -> None:
    """The `nth` and those after it, `times` in all; None is each one."""
    assert [number for number in range(1, 7) if fault.fires_on(number)] == fired


@pytest.mark.parametrize("kind", sorted(KINDS - {"any"}))
def test_matches_kinds(kind: str) -> None:
    """`any` is each request, `any upload` each method."""
    assert Cut(on="any").matches(kind)
    assert Cut(on=kind).matches(kind)
    assert Cut(on=f"any {kind.split()[1]}").matches(kind)
    assert not Cut(on=kind).matches("GET other")


def test_fault_plan_is_a_value() -> None:
    """Plans compare, hash and travel; they hold no counts."""
    plan = FaultPlan(Cut(at=5), DropAnswer(), TooMany(after_s=2))
    assert plan == FaultPlan(Cut(at=5), DropAnswer(), TooMany(after_s=2))
    assert hash(plan) == hash(pickle.loads(pickle.dumps(plan)))  # noqa: S301 - our own
    assert plan != FaultPlan()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Stall().at = 1  # type: ignore[misc] # that is the point
