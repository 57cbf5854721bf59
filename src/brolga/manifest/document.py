"""JSON documents: bytes to a dict and back, within bounds.

Knows JSON (RFC 8259) and which of its liberties two readers would take differently. Must not
know what a member means.

Strategy: the standard library reads; one walk over what it read then finds what it lets pass
(names that come twice, numbers that are none, text that is not Unicode, endless nesting) and names
the place. Numbers keep their value as other readers see it (binary64, RFC 8259 section 6), not
their spelling. Writing is compact, in the document's own order, so that a change stays small.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from brolga.members import path, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MAX_SIZE", "Writable", "as_read", "decode", "encode"]

# "Client and registry implementations SHOULD expect to be able to support manifest pushes of
# at least 4 megabytes" (distribution-spec, Pushing manifests); others take no more of a config.
MAX_SIZE: Final = 4 << 20  # bytes

# Documents of the spec nest about six deep.
_MAX_DEPTH: Final = 64


class Writable(Protocol):
    """A value that was read from an object of a document, and can be written as one."""

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names."""


W = TypeVar("W", bound=Writable)


class _Twice:
    """Stands where an object was in which the name `name` came twice."""

    def __init__(self, name: str) -> None:
        self.name = name


def decode(raw: bytes, limit: int = MAX_SIZE) -> dict[str, object]:
    """Return the JSON object that `raw` is, if every reader would see the same in it.

    Raises InvalidManifest, naming the place, for more than `limit` bytes and for what is no JSON
    object in UTF-8 without a byte order mark (RFC 8259, sections 4, 6, 8 and 9).
    """
    if len(raw) > limit:
        raise wrong("$", f"{len(raw)} bytes, where at most {limit} are read")
    document = _parsed(raw)
    _check(document, [])
    if not isinstance(document, dict):
        raise wrong("$", "not a JSON object")
    return document


def _parsed(raw: bytes) -> object:
    try:
        document: object = json.loads(raw.decode(), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise wrong("$", f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise wrong("$", f"not JSON: {error.msg} ({place})") from error
    except ValueError as error:
        raise wrong("$", f"a number of too many digits: {error}") from error
    except RecursionError as error:
        raise wrong("$", f"nested deeper than {_MAX_DEPTH} levels") from error
    return document


def encode(document: dict[str, object]) -> bytes:
    """Return an object as compact JSON in UTF-8, its members in their order.

    Raises InvalidManifest for values that JSON does not have.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise wrong("$", f"cannot be written as JSON: {error}") from error


def as_read(values: Iterable[W], read: Sequence[W], originals: object) -> list[object]:
    """Return the JSON of values, of each that was read before as it was then.

    `originals` is the array that `read` was made of: its objects keep the order of their members.
    """
    if not isinstance(originals, list):
        return [value.to_dict() for value in values]
    # Most values are the very objects that were read: only the others are compared.
    places = {id(value): number for number, value in enumerate(read)}
    values = list(values)
    others = {value for value in values if id(value) not in places}
    equal = {value: number for number, value in enumerate(read) if others and value in others}

    def written(value: W) -> object:
        place = places.get(id(value), equal.get(value) if others else None)
        return value.to_dict() if place is None else originals[place]

    return [written(value) for value in values]


def _once(pairs: list[tuple[str, object]]) -> object:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    counts = Counter(name for name, _ in pairs)
    return _Twice(counts.most_common(1)[0][0])


def _check(value: object, steps: list[str | int]) -> None:
    """Refuse what json lets pass. `steps` lead to the value; they are left as they were."""
    if len(steps) > _MAX_DEPTH:
        raise wrong(_place(steps), f"nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, item in value.items():
            steps.append(name)
            _check_text(name, steps)
            _check(item, steps)
            steps.pop()
    elif isinstance(value, list):
        for number, item in enumerate(value):
            steps.append(number)
            _check(item, steps)
            steps.pop()
    elif isinstance(value, str):
        _check_text(value, steps)
    elif isinstance(value, float) and not math.isfinite(value):
        raise wrong(_place(steps), "a number that JSON does not have, or out of range")
    elif isinstance(value, _Twice):
        raise wrong(_place([*steps, value.name]), "appears twice")


def _check_text(text: str, steps: list[str | int]) -> None:
    # Half of a surrogate pair, written as an escape: it has no UTF-8.
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise wrong(_place(steps), "text that is not Unicode: half of a surrogate pair")


def _place(steps: list[str | int]) -> str:
    where = "$"
    for step in steps:
        where = path(where, step)
    return where
