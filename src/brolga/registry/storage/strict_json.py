"""JSON that every reader reads alike (RFC 8259), without Python's extensions."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "parse"]

# "An implementation may set limits on the maximum depth of nesting" (RFC 8259, section 9). The
# spec's documents have about six levels; a reader that recurses breaks at some hundreds.
MAX_DEPTH = 64


def parse(body: bytes) -> dict[str, Any]:
    """Read a JSON object in UTF-8 without a byte order mark (RFC 8259, sections 4, 6, 8, 9).

    Raises ValueError, also for names that come twice and for text that is not Unicode.
    """
    try:
        fields = json.loads(
            body.decode(),
            object_pairs_hook=_once,
            parse_constant=_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the text is wrong, not its type
    _check_depth(fields)
    _check_text(fields)
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number (section 6)")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _check_depth(fields: dict[str, Any]) -> None:
    level: list[Any] = [fields]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _inside(value: Any) -> Any:  # noqa: ANN401 - JSON is of any type
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_text(fields: dict[str, Any]) -> None:
    """Reject half of a surrogate pair, written as an escape: it has no UTF-8."""
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("text that is not Unicode: half of a surrogate pair") from error
