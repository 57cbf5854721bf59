"""Numbers of bytes, times and shares as text, and text that fits into columns of a terminal."""

from __future__ import annotations

from math import ceil
from typing import Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP: Final = 1000  # from one unit to the next


def format_bytes(count: float) -> str:
    """Return a number of bytes in the unit that gives one to three digits."""
    step = _unit_of(count)
    return f"{_in_unit(count, step)} {_UNITS[step]}"


def format_part(part: float, whole: float | None) -> str:
    """Return how many bytes of a whole there are, in the unit of the whole, if it is known."""
    if whole is None:
        return format_bytes(part)
    step = _unit_of(whole)
    return f"{_in_unit(part, step)} of {_in_unit(whole, step)} {_UNITS[step]}"


def _unit_of(count: float) -> int:
    step = 0
    # 999,950 bytes would be rounded to 1000.0 kB.
    while count >= (_STEP - 0.05 if step else _STEP) and step < len(_UNITS) - 1:
        count, step = count / _STEP, step + 1
    return step


def _in_unit(count: float, step: int) -> str:
    return f"{count / _STEP**step:.{1 if step else 0}f}"


def format_time(seconds: float) -> str:
    """Return a time as hours, minutes and seconds, a part of a second as one more."""
    minutes, rest = divmod(ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def format_share(part: int, whole: int) -> str:
    """Return a part of a whole in percent; 100 % is all of it, not almost."""
    return f"{min(100, 100 * part // whole) if whole else 100}%"


def draw_bar(part: int, whole: int, columns: int) -> str:
    """Return a bar of so many columns, filled to the share of a part in the whole."""
    inner = columns - 2
    filled = min(inner, inner * part // whole) if whole else inner
    head = ">" if 0 < filled < inner else ""
    return f"[{'=' * (filled - len(head))}{head}{' ' * (inner - filled)}]"


def fit_columns(text: str, columns: int) -> str:
    """Return text that takes at most so many columns: what is too long is cut, with an ellipsis."""
    if text.isascii() and len(text) <= columns:
        return text
    widths = [_width(letter) for letter in text]
    if sum(widths) <= columns:
        return text
    kept, left = 0, columns - 1
    while kept < len(text) and widths[kept] <= left:
        left -= widths[kept]
        kept += 1
    return f"{text[:kept]}…"[: max(0, columns)]


def pad_columns(text: str, columns: int) -> str:
    """Return text that takes exactly so many columns."""
    text = fit_columns(text, columns)
    return text + " " * (columns - sum(map(_width, text)))


def _width(letter: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if letter.isascii():
        return 1
    from unicodedata import combining, east_asian_width

    return 0 if combining(letter) else 1 + (east_asian_width(letter) in "WF")
