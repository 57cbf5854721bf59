"""cli.figures: numbers as text, and text in columns."""

from __future__ import annotations

import pytest

from brolga.cli.figures import (
    draw_bar,
    fit_columns,
    format_bytes,
    format_part,
    format_share,
    format_time,
    pad_columns,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.9, "1000 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_234_000_000, "1.2 GB"),
        (5 * 10**15, "5.0 PB"),
        (5 * 10**18, "5000.0 PB"),
    ],
)
def test_format_bytes_chooses_unit(count: float, text: str) -> None:
    """Units of 1000, as rates and sizes of disks are given in."""
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 of 0 B"),
        (5, 999, "5 of 999 B"),
        (95_100_000, 250_000_000, "95.1 of 250.0 MB"),
        (300_000_000, 1_200_000_000, "0.3 of 1.2 GB"),
        (300_000_000, None, "300.0 MB"),
    ],
)
def test_format_part_uses_unit_of_whole(part: int, whole: int | None, text: str) -> None:
    """Two numbers with one unit are compared at a glance."""
    assert format_part(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (0.1, "0:00:01"), (59, "0:00:59"), (60, "0:01:00"), (3661, "1:01:01")],
)
def test_format_time_counts_part_of_second_as_one(seconds: float, text: str) -> None:
    """What takes some time yet is not at its end."""
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "share", "bar"),
    [
        (0, 100, "0%", "[          ]"),
        (1, 100, "1%", "[          ]"),
        (50, 100, "50%", "[====>     ]"),
        (99, 100, "99%", "[========> ]"),
        (100, 100, "100%", "[==========]"),
        (999, 1000, "99%", "[========> ]"),
        (150, 100, "100%", "[==========]"),  # a file that grew while it was read
        (0, 0, "100%", "[==========]"),
    ],
)
def test_bar_and_share_are_full_at_the_end_only(
    part: int, whole: int, share: str, bar: str
) -> None:
    """A blob that is almost there is not there."""
    assert format_share(part, whole) == share
    assert draw_bar(part, whole, 12) == bar


@pytest.mark.parametrize(
    ("text", "columns", "fitted", "padded"),
    [
        ("abc", 3, "abc", "abc"),
        ("abc", 5, "abc", "abc  "),
        ("abcdef", 4, "abc…", "abc…"),
        ("äbc", 3, "äbc", "äbc"),
        ("漢字", 4, "漢字", "漢字"),
        ("漢字", 3, "漢…", "漢…"),
        ("漢字漢", 4, "漢…", "漢… "),
        ("e\u0301te\u0301", 3, "e\u0301te\u0301", "e\u0301te\u0301"),
        ("abc", 1, "…", "…"),
        ("abc", 0, "", ""),
    ],
)
def test_fit_and_pad_count_columns(text: str, columns: int, fitted: str, padded: str) -> None:
    """A Chinese character takes two columns, an accent none; a longer line would wrap."""
    assert fit_columns(text, columns) == fitted
    assert pad_columns(text, columns) == padded
