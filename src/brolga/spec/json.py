"""Strict JSON: decoded only if every reader would see the same, and read by member.

Errors begin with a JSON path, as `$.layers[0].size`. A reader of a value is a function of the value
and its path; it raises InvalidManifest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import reduce
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from brolga.errors import InvalidManifest, excerpt
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import check_media_type
from brolga.spec.value import Value, as_dict

D = TypeVar("D")
S = TypeVar("S")
T = TypeVar("T")
W = TypeVar("W", bound="Writable")

# "Client and registry implementations SHOULD expect to be able to support manifest pushes of
# at least 4 megabytes" (distribution-spec, Pushing manifests); others have the same limit for
# configs.
MAX_SIZE: Final = 4 << 20  # bytes

# "An implementation may set limits on the maximum depth of nesting" (RFC 8259, section 9). The
# spec's documents have about six levels.
MAX_DEPTH: Final = 64

_PLAIN_NAME: Final = "[A-Za-z_][A-Za-z0-9_]{0,63}"
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


def error_at(path: str, problem: str) -> InvalidManifest:
    """Return the error for a JSON path of a document."""
    return InvalidManifest(f"{path}: {problem}")


def join_path(path: str, step: str | int) -> str:
    """Return the JSON path of a member or an item, of bounded length (RFC 9535, section 2)."""
    if isinstance(step, int):
        longer = f"{path}[{step}]"
    elif re.fullmatch(_PLAIN_NAME, step):
        longer = f"{path}.{step}"
    else:
        longer = f"{path}[{excerpt(step)}]"
    return longer if len(longer) <= _MAX_PATH else f"{longer[: _MAX_PATH - 3]}..."


def decode(raw: bytes, limit: int = MAX_SIZE) -> dict[str, object]:
    """Return the JSON object of `raw`, which every other reader sees the same.

    Raises InvalidManifest for more than `limit` bytes, and for anything but a JSON object in UTF-8
    without a byte order mark, with unique names (RFC 8259, sections 4, 6, 8 and 9).
    """
    if len(raw) > limit:
        raise error_at("$", f"{len(raw)} bytes, but at most {limit} are read")
    import json

    try:
        document: object = json.loads(raw.decode(), object_pairs_hook=_mark_duplicate)
    except UnicodeDecodeError as error:
        raise error_at("$", f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise error_at("$", f"not JSON: {error.msg} ({position})") from error
    except ValueError as error:
        raise error_at("$", f"a number of too many digits: {error}") from error
    except RecursionError as error:
        raise error_at("$", f"nested deeper than {MAX_DEPTH} levels") from error
    _check(document, [])
    if not isinstance(document, dict):
        raise error_at("$", "not a JSON object")
    return document


class _Duplicate:
    """Stands for an object in which `name` appears twice."""

    def __init__(self, name: str) -> None:
        self.name = name


def _mark_duplicate(pairs: list[tuple[str, object]]) -> object:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    counts = Counter(name for name, _ in pairs)
    return _Duplicate(counts.most_common(1)[0][0])


def _check(value: object, steps: list[str | int]) -> None:
    """Reject what the json module accepts beyond RFC 8259. `steps` lead to the value."""
    if len(steps) > MAX_DEPTH:
        raise _error_after(steps, f"nested deeper than {MAX_DEPTH} levels")
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
        raise _error_after(steps, "a number that JSON does not have, or out of range")
    elif isinstance(value, _Duplicate):
        raise _error_after([*steps, value.name], "appears twice")


def _check_text(text: str, steps: list[str | int]) -> None:
    # A lone surrogate, written as an escape, has no UTF-8.
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _error_after(steps, "text that is not Unicode: half of a surrogate pair")


def _error_after(steps: list[str | int], problem: str) -> InvalidManifest:
    return error_at(reduce(join_path, steps, "$"), problem)


def encode(document: dict[str, object]) -> bytes:
    """Return an object as compact JSON in UTF-8, its members in order. Raises InvalidManifest."""
    import json

    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise error_at("$", f"cannot be written as JSON: {error}") from error


def _kind_error(value: object, path: str, wanted: str) -> InvalidManifest:
    return error_at(path, f"must be {wanted}, not {_JSON_NAMES.get(type(value), 'a Python value')}")


def read_string(value: object, path: str) -> str:
    """Return a string."""
    if type(value) is not str:
        raise _kind_error(value, path, "a string")
    return value


def read_boolean(value: object, path: str) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise _kind_error(value, path, "true or false")
    return value


def read_string_map(value: object, path: str) -> dict[str, str]:
    """Return a map of strings to strings (annotations.md, Rules)."""
    return {
        name: read_string(item, join_path(path, name))
        for name, item in _read_object(value, path).items()
    }


def read_digest(value: object, path: str) -> Digest:
    """Return a digest (descriptor.md, Digests)."""
    return parse_member(Digest.parse, read_string(value, path), path)


def read_media_type(value: object, path: str) -> str:
    """Return a media type (RFC 6838, section 4.2)."""
    text = read_string(value, path)
    parse_member(check_media_type, text, path)
    return text


def read_artifact_type(value: object, path: str) -> str:
    """Return a media type, or ""."""
    return read_media_type(value, path) if value != "" else ""


def _read_object(value: object, path: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _kind_error(value, path, "an object")
    return value


def parse_member(parse: Callable[[S], T], value: S, path: str) -> T:
    """Return `parse(value)`; a ValueError becomes an InvalidManifest with the path."""
    try:
        return parse(value)
    except ValueError as error:
        raise error_at(path, str(error)) from error


class Members:
    """The members of the JSON object at a path. Each method raises InvalidManifest.

    null is read as absent: "Any OPTIONAL field MAY also be set to null, which is equivalent to
    being absent" (config.md, Properties).
    """

    __slots__ = ("_members", "_path")

    def __init__(self, value: object, path: str) -> None:
        self._members = _read_object(value, path)
        self._path = path

    def need(self, name: str, read: Callable[[object, str], T]) -> T:
        """Return a required member."""
        if self._members.get(name) is None:
            raise error_at(join_path(self._path, name), "is missing")
        return read(self._members[name], join_path(self._path, name))

    def get(self, name: str, read: Callable[[object, str], T], default: D) -> T | D:
        """Return a member, or `default` if it is absent."""
        value = self._members.get(name)
        return default if value is None else read(value, join_path(self._path, name))

    def each(self, name: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        """Return the items of an array, or () if it is absent."""
        value = self._members.get(name)
        if value is None:
            return ()
        path = join_path(self._path, name)
        if not isinstance(value, list | tuple):
            raise _kind_error(value, path, "an array")
        return tuple(read(item, join_path(path, i)) for i, item in enumerate(value))

    def unknown(self, known: AbstractSet[str]) -> dict[str, object]:
        """Return the members that are not in `known`."""
        return {name: item for name, item in self._members.items() if name not in known}

    def reject_case_variants(self, known: AbstractSet[str], *, alone: bool = True) -> None:
        """Reject a member whose name differs from a known one in case only, as `Layers`.

        Go's encoding/json ignores case, so other clients would see other content. With `alone`
        false, such a member is rejected only beside the known one.
        """
        spelling = {name.casefold(): name for name in known}
        for name in self.unknown(known):
            known_name = spelling.get(name.casefold())
            if known_name and (alone or known_name in self._members):
                raise error_at(
                    join_path(self._path, name),
                    f"other clients read it as {known_name!r}: two meanings",
                )


def freeze(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return a read-only copy of JSON: objects as mappings, arrays as tuples."""
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


def hash_key(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return a hashable key of frozen JSON; equal values have equal keys."""
    if isinstance(value, Mapping):
        return frozenset((name, hash_key(item)) for name, item in value.items())
    if isinstance(value, tuple):
        return tuple(map(hash_key, value))
    return value


def hash_value(value: Value) -> int:
    """Implement `__hash__` of every field: equal hashes would make a set of many values slow."""
    return hash(hash_key(tuple(as_dict(value).values())))


def update_members(members: Mapping[str, T], changes: Mapping[str, T | None]) -> dict[str, T]:
    """Return members with changes; a change to None removes the member."""
    updated = dict(members)
    for name, item in changes.items():
        if item is None:
            updated.pop(name, None)
        else:
            updated[name] = item
    return updated


def reduce_value(value: Value) -> tuple[object, ...]:
    """Implement `__reduce__` with plain dicts: a read-only mapping cannot be pickled."""
    return _rebuild, (type(value), {name: thaw(item) for name, item in as_dict(value).items()})


def _rebuild(kind: Callable[..., object], values: dict[str, object]) -> object:
    return kind(**values)


class Writable(Protocol):
    """A value that was read from a JSON object, and can be written as one."""

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names."""


def reuse_originals(values: Iterable[W], read: Sequence[W], originals: object) -> list[object]:
    """Return the JSON of values; those that are in `read` keep their JSON in `originals`."""
    if not isinstance(originals, list):
        return [value.to_dict() for value in values]
    # Most values are the very objects in `read`: compare only the others.
    index_by_id = {id(value): index for index, value in enumerate(read)}
    values = list(values)
    others = {value for value in values if id(value) not in index_by_id}
    index_by_value = {value: i for i, value in enumerate(read) if value in others} if others else {}
    written: list[object] = []
    for value in values:
        index = index_by_id.get(id(value))
        if index is None:
            index = index_by_value.get(value)
        written.append(value.to_dict() if index is None else originals[index])
    return written
