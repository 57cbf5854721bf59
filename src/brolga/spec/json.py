"""Members of JSON objects, read so that an error names their place, and kept so that none changes.

Knows JSON's kinds and places (`$.layers[0].size`). Must not know which document is read.

Strategy: a function for each kind of value takes a value and its place, so that they can be put
together; what was read is frozen, whole.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from brolga.errors import InvalidManifest, excerpt
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import check_media_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

__all__ = [
    "MAX_SIZE",
    "Members",
    "Writable",
    "decode",
    "encode",
    "freeze",
    "hashable",
    "parse_member",
    "path",
    "read_artifact_type",
    "read_digest",
    "read_flag",
    "read_media_type",
    "read_strings",
    "read_text",
    "reduced",
    "reuse_originals",
    "thaw",
    "wrong",
]

D = TypeVar("D")
S = TypeVar("S")
T = TypeVar("T")

_PLAIN_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")
_MAX_PATH: Final = 240  # characters: an error is one line

_JSON_NAMES: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


# Values that cannot be changed -------------------------------------------------------------------


def freeze(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return JSON that can be read only: objects as mappings, arrays as tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({name: freeze(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return a copy of frozen JSON that json can write: dicts and lists."""
    if isinstance(value, Mapping):
        return {name: thaw(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def hashable(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return a key of frozen JSON: equal values have equal keys, and a key has a hash."""
    if isinstance(value, Mapping):
        return frozenset((name, hashable(item)) for name, item in value.items())
    if isinstance(value, tuple):
        return tuple(map(hashable, value))
    return value


def reduced(value: Any) -> tuple[object, ...]:  # noqa: ANN401 - any dataclass of frozen JSON
    """Give pickle plain dicts: a read-only mapping cannot reach another process."""
    return _remade, (type(value), {f.name: thaw(getattr(value, f.name)) for f in fields(value)})


def _remade(kind: Callable[..., object], values: dict[str, object]) -> object:
    return kind(**values)


# Reading JSON ------------------------------------------------------------------------------------


def path(where: str, step: str | int) -> str:
    """Return the place of a member or an item in JSON path form, bounded (RFC 9535, section 2)."""
    if isinstance(step, int):
        longer = f"{where}[{step}]"
    elif _PLAIN_NAME.fullmatch(step):
        longer = f"{where}.{step}"
    else:
        longer = f"{where}[{excerpt(step)}]"
    return longer if len(longer) <= _MAX_PATH else f"{longer[: _MAX_PATH - 3]}..."


def wrong(where: str, what: str) -> InvalidManifest:
    """Return the error for a place of a document."""
    return InvalidManifest(f"{where}: {what}")


def _wrong_kind(value: object, where: str, wanted: str) -> InvalidManifest:
    return wrong(where, f"must be {wanted}, not {_JSON_NAMES.get(type(value), 'no JSON')}")


def read_text(value: object, where: str) -> str:
    """Return a string. Raises InvalidManifest."""
    if type(value) is not str:
        raise _wrong_kind(value, where, "a string")
    return value


def read_flag(value: object, where: str) -> bool:
    """Return true or false. Raises InvalidManifest."""
    if type(value) is not bool:
        raise _wrong_kind(value, where, "true or false")
    return value


def read_strings(value: object, where: str) -> dict[str, str]:
    """Return a map of strings to strings (annotations.md, Rules). Raises InvalidManifest."""
    return {
        name: read_text(item, path(where, name)) for name, item in _object(value, where).items()
    }


def read_digest(value: object, where: str) -> Digest:
    """Return a digest (descriptor.md, Digests). Raises InvalidManifest."""
    return parse_member(Digest.parse, read_text(value, where), where)


def read_media_type(value: object, where: str) -> str:
    """Return a media type (RFC 6838, section 4.2). Raises InvalidManifest."""
    text = read_text(value, where)
    parse_member(check_media_type, text, where)
    return text


def read_artifact_type(value: object, where: str) -> str:
    """Return a media type, or nothing where the string is empty. Raises InvalidManifest."""
    return read_media_type(value, where) if value != "" else ""


def parse_member(parse: Callable[[S], T], value: S, where: str) -> T:
    """Return what `parse` makes of a value; its ValueError becomes one that names the place."""
    try:
        return parse(value)
    except ValueError as error:
        raise wrong(where, str(error)) from error


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _wrong_kind(value, where, "an object")
    return value


class Members:
    """The members of one JSON object, read by name; an error names the object's place.

    null is read as absent: "Any OPTIONAL field MAY also be set to null, which is equivalent to
    being absent" (config.md, Properties). Each method raises InvalidManifest.
    """

    __slots__ = ("_members", "_where")

    def __init__(self, value: object, where: str) -> None:
        self._members = _object(value, where)
        self._where = where

    def need(self, name: str, read: Callable[[object, str], T]) -> T:
        """Return a member that must be there."""
        if self._members.get(name) is None:
            raise wrong(path(self._where, name), "is missing")
        return read(self._members[name], path(self._where, name))

    def get(self, name: str, read: Callable[[object, str], T], default: D) -> T | D:
        """Return a member, or `default` where it is absent."""
        value = self._members.get(name)
        return default if value is None else read(value, path(self._where, name))

    def each(self, name: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        """Return the items of an array, none where it is absent."""
        value = self._members.get(name)
        if value is None:
            return ()
        where = path(self._where, name)
        if not isinstance(value, list | tuple):
            raise _wrong_kind(value, where, "an array")
        return tuple(read(item, path(where, i)) for i, item in enumerate(value))

    def unknown(self, known: AbstractSet[str]) -> dict[str, object]:
        """Return the members of other names than these."""
        return {name: item for name, item in self._members.items() if name not in known}

    def reject_case_variants(self, known: AbstractSet[str], *, alone: bool = True) -> None:
        """Refuse a member that has a known name in other letters, as `Layers`.

        Go's encoding/json ignores case: other clients would pull what nobody here has seen. Where
        not `alone`, only beside the known name itself.
        """
        spelling = {name.casefold(): name for name in known}
        for name in self.unknown(known):
            meant = spelling.get(name.casefold())
            if meant and (alone or meant in self._members):
                raise wrong(
                    path(self._where, name), f"other clients read it as {meant!r}: two meanings"
                )


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


def reuse_originals(values: Iterable[W], read: Sequence[W], originals: object) -> list[object]:
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
