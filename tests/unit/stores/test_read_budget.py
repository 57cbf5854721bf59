"""stores.read_budget: what the blobs that are read at a time share."""

from __future__ import annotations

import pytest

from brolga.stores.read_budget import ReadBudget, ReadOptions, Share, Tokens


def test_share_takes_what_is_free() -> None:
    """No more than there is."""
    tokens = Tokens(2)
    one, other = Share(tokens), Share(tokens)
    assert one.take()
    assert other.take()
    assert not one.take()
    assert (one.count, other.count) == (1, 1)


def test_closed_share_returns_tokens() -> None:
    """They are for others."""
    tokens = Tokens(2)
    one, other = Share(tokens), Share(tokens)
    assert one.take()
    assert one.take()
    one.close()
    assert (one.count, len(tokens.free)) == (0, 2)
    assert other.take()


def test_share_gives_to_one_that_waits() -> None:
    """A blob that begins gets the next connection of one that has several."""
    tokens = Tokens(2)
    one, other = Share(tokens), Share(tokens)
    assert one.take()
    assert one.take()
    assert not one.give_if_owed()
    other.require()
    assert other.count == 0
    assert one.give_if_owed()
    assert (one.count, other.count, len(tokens.free)) == (1, 1, 0)


def test_share_keeps_its_last_token() -> None:
    """Each blob has one connection."""
    tokens = Tokens(1)
    one, other = Share(tokens), Share(tokens)
    one.require()
    other.require()
    assert not one.give_if_owed()
    one.close()
    assert other.count == 1


def test_share_that_was_closed_gets_nothing() -> None:
    """It waits no more."""
    tokens = Tokens(1)
    one, other = Share(tokens), Share(tokens)
    one.require()
    other.require()
    other.close()
    one.give()
    assert (other.count, len(tokens.free)) == (0, 1)
    one.give()  # it has none
    assert len(tokens.free) == 1


def test_share_returns_token_that_comes_after_close() -> None:
    """Another thread may give while this one closes."""
    tokens = Tokens(1)
    one, other = Share(tokens), Share(tokens)
    one.require()
    other.require()
    other.is_closed = True
    one.give()
    assert (other.count, len(tokens.free)) == (0, 1)


def test_budget_has_parts_of_window() -> None:
    """The window is in bytes."""
    budget = ReadBudget(ReadOptions(window=10, part_size=3), 2)
    assert (len(budget.parts.free), len(budget.connections.free)) == (3, 2)


def test_part_size_must_be_positive() -> None:
    """There would be parts without end."""
    with pytest.raises(ValueError, match="1 byte or more"):
        ReadOptions(part_size=0)
