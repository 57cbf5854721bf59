"""Descriptors: a digest together with what it takes to fetch it safely.

Knows the properties of the image-spec (descriptor.md, Properties; image-index.md, platform),
their JSON names, and how members of a JSON object are read so that an error names their place.
Must not know what the described bytes mean, nor where they are stored.

Strategy: values that check themselves however they are made and cannot be changed afterwards;
what a document says beyond the spec stays with them in `extra`. JSON is read by functions that
take a value and its place (`$.layers[0].size`), so that they can be put together.
"""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from brolga.digest import Digest
from brolga.errors import InvalidManifest, excerpt

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from typing import Self

__all__ = [
    "DEFAULT_PLATFORM",
    "Descriptor",
    "Members",
    "Platform",
    "check_media_type",
    "frozen",
    "path",
    "read_artifact_type",
    "read_digest",
    "read_flag",
    "read_media_type",
    "read_strings",
    "read_text",
    "reduced",
    "thawed",
    "wrong",
]

D = TypeVar("D")
S = TypeVar("S")
T = TypeVar("T")

# "size: int64" (descriptor.md, Properties).
_MAX_SIZE: Final = 2**63 - 1

# RFC 6838, section 4.2: a type and a subtype of at most 127 characters each, no parameters.
_RESTRICTED_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}+"
_MEDIA_TYPE: Final = re.compile(f"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}")

_WORD: Final = "[A-Za-z0-9._-]++"
_PLATFORM: Final = re.compile(
    f"(?P<os>{_WORD})(?:/(?P<architecture>{_WORD})(?:/(?P<variant>{_WORD}))?)?"
    f"(?::(?P<os_version>{_WORD}))?"
)

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


def check_media_type(text: str) -> None:
    """Raise ValueError where `text` is no type/subtype (RFC 6838, section 4.2)."""
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"media type {excerpt(text)} is not type/subtype as of RFC 6838")


def _whole_size(size: object) -> int:
    # Not isinstance: True is an int.
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError(
            f"size {excerpt(str(size))} is not a whole number of bytes, 0 to 2**63 - 1"
        )
    return size


def _check_data(data: bytes, digest: Digest, size: int) -> None:
    """Raise ValueError where embedded data is not what its descriptor says."""
    if len(data) != size:
        raise ValueError(f"the embedded data has {len(data)} bytes where size is {size}")
    if Digest.of(data, digest.algorithm) != digest:
        raise ValueError(f"the embedded data is not what {digest} names")


# Values that cannot be changed -------------------------------------------------------------------


def frozen(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return JSON that can be read only: objects as mappings, arrays as tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({name: frozen(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    return value


def thawed(value: object) -> Any:  # noqa: ANN401 - JSON is of any type
    """Return a copy of frozen JSON that json can write: dicts and lists."""
    if isinstance(value, Mapping):
        return {name: thawed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [thawed(item) for item in value]
    return value


def reduced(value: Any) -> tuple[object, ...]:  # noqa: ANN401 - any dataclass of frozen JSON
    """Give pickle plain dicts: a read-only mapping cannot reach another process."""
    return _remade, (type(value), {f.name: thawed(getattr(value, f.name)) for f in fields(value)})


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
    return wrong(where, f"{_JSON_NAMES.get(type(value), 'no JSON')} stands where {wanted} must")


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
    return _parsed(Digest.parse, read_text(value, where), where)


def read_media_type(value: object, where: str) -> str:
    """Return a media type (RFC 6838, section 4.2). Raises InvalidManifest."""
    text = read_text(value, where)
    _parsed(check_media_type, text, where)
    return text


def read_artifact_type(value: object, where: str) -> str:
    """Return a media type, or nothing where the string is empty. Raises InvalidManifest."""
    return read_media_type(value, where) if value != "" else ""


def _read_size(value: object, where: str) -> int:
    return _parsed(_whole_size, value, where)


def _read_data(digest: Digest, size: int, value: object, where: str) -> bytes:
    """Return the bytes of a base 64 string, where they are what a digest and a size say."""
    text = read_text(value, where)

    def decode(text: str) -> bytes:
        data = binascii.a2b_base64(text, strict_mode=True)
        if data:
            _check_data(data, digest, size)
        return data

    return _parsed(decode, text, where)


def _parsed(parse: Callable[[S], T], value: S, where: str) -> T:
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

    def refuse_look_alikes(self, known: AbstractSet[str]) -> None:
        """Refuse a member that has a known name in other letters, as `Layers`.

        Go's encoding/json ignores case: other clients would pull what nobody here has seen.
        """
        spelling = {name.casefold(): name for name in known}
        for name in self.unknown(known):
            if meant := spelling.get(name.casefold()):
                raise wrong(
                    path(self._where, name), f"other clients read it as {meant!r}: two meanings"
                )


# The values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image needs to run: an operating system, a CPU, and their variants.

    Empty is what is not said. `extra` holds members that the spec does not define
    (image-index.md, platform).
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict, hash=False, kw_only=True)

    def __post_init__(self) -> None:
        """Keep read-only copies."""
        object.__setattr__(self, "os_features", tuple(self.os_features))
        object.__setattr__(self, "extra", frozen(self.extra))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os[/architecture[/variant]][:os.version]`, as `linux/arm64/v8`.

        Raises ValueError.
        """
        found = _PLATFORM.fullmatch(text)
        if not found:
            raise ValueError(
                f"platform {excerpt(text)} is not OS[/ARCHITECTURE[/VARIANT]][:OS.VERSION]"
            )
        return cls(
            found["os"],
            found["architecture"] or "",
            found["variant"] or "",
            found["os_version"] or "",
        )

    @classmethod
    def from_dict(cls, value: object, where: str = "$") -> Self:
        """Read the object of a descriptor (image-index.md, platform). Raises InvalidManifest."""
        members = Members(value, where)
        members.refuse_look_alikes(_PLATFORM_MEMBERS)
        return cls(
            members.get("os", read_text, ""),
            members.get("architecture", read_text, ""),
            members.get("variant", read_text, ""),
            members.get("os.version", read_text, ""),
            members.each("os.features", read_text),
            extra=members.unknown(_PLATFORM_MEMBERS),
        )

    def matches(self, wanted: Platform) -> bool:
        """Return whether this is a platform as wanted: what `wanted` leaves empty matches all."""
        return all(
            getattr(wanted, name) in {"", getattr(self, name)}
            for name in ("os", "architecture", "variant", "os_version")
        ) and set(wanted.os_features) <= set(self.os_features)

    def to_dict(self) -> dict[str, object]:
        """Return the members by their JSON names, ready for json."""
        optional = {
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "variant": self.variant,
        }
        return {
            "architecture": self.architecture,
            "os": self.os,
            **{name: value for name, value in optional.items() if value},
            **thawed(self.extra),
        }

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the platform from its fields."""
        return reduced(self)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        text = "/".join(part for part in (self.os, self.architecture, self.variant) if part)
        return f"{text}:{self.os_version}" if self.os_version else text


_PLATFORM_MEMBERS: Final = frozenset({"os", "architecture", "variant", "os.version", "os.features"})

# What crane and docker take where nothing is said.
DEFAULT_PLATFORM: Final = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The media type, digest and size in bytes of a blob or manifest.

    `data` is the content itself, where it is embedded; it is held against size and digest.
    `extra` holds members that the spec does not define. Mappings are copied, and can be read
    only. Raises ValueError for a media type outside RFC 6838, for a size that is no int64 from 0,
    for annotations that are not strings, and for data that is not what the digest says
    (image-spec descriptor.md, Properties; annotations.md, Rules).
    """

    media_type: str
    digest: Digest
    size: int
    # Equal descriptors have equal hashes without it, and a mapping has no hash.
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = field(default=None, kw_only=True)
    artifact_type: str = field(default="", kw_only=True)
    urls: tuple[str, ...] = field(default=(), kw_only=True)
    data: bytes | None = field(default=None, repr=False, kw_only=True)
    extra: Mapping[str, object] = field(default_factory=dict, hash=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check each property, and keep read-only copies of the mappings."""
        check_media_type(self.media_type)
        _whole_size(self.size)
        annotations = dict(self.annotations)
        for text in (*annotations, *annotations.values()):
            # The type in front is a promise; what JSON brought may break it.
            if type(text) is not str:
                raise ValueError(f"annotation {excerpt(repr(text))} is not a string")
        if self.artifact_type:
            check_media_type(self.artifact_type)
        if taken := self.extra.keys() & _DESCRIPTOR_MEMBERS:
            raise ValueError(f"extra holds {min(taken)!r}, which is a property of its own")
        object.__setattr__(self, "annotations", MappingProxyType(annotations))
        object.__setattr__(self, "urls", tuple(self.urls))
        object.__setattr__(self, "extra", frozen(self.extra))
        # As writers do, who leave out what is empty.
        object.__setattr__(self, "data", self.data or None)
        if self.data is not None:
            _check_data(self.data, self.digest, self.size)

    @classmethod
    def from_dict(cls, value: object, where: str = "$") -> Self:
        """Read a descriptor from JSON's object (descriptor.md, Properties).

        Raises InvalidManifest, whose message begins with the place: `where` is the object's.
        """
        members = Members(value, where)
        members.refuse_look_alikes(_DESCRIPTOR_MEMBERS)
        media_type = members.need("mediaType", read_media_type)
        digest = members.need("digest", read_digest)
        size = members.need("size", _read_size)
        return cls(
            media_type,
            digest,
            size,
            members.get("annotations", read_strings, dict[str, str]()),
            platform=members.get("platform", Platform.from_dict, None),
            artifact_type=members.get("artifactType", read_artifact_type, ""),
            urls=members.each("urls", read_text),
            data=members.get("data", functools.partial(_read_data, digest, size), None),
            extra=members.unknown(_DESCRIPTOR_MEMBERS),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the descriptor from its fields."""
        return reduced(self)

    def to_dict(self) -> dict[str, object]:
        """Return the properties by their JSON names, ready for json.

        What is empty is absent, as `annotations` must be (annotations.md, Rules).
        """
        optional = {
            "urls": list(self.urls),
            "annotations": dict(self.annotations),
            "data": binascii.b2a_base64(self.data or b"", newline=False).decode(),
            "platform": self.platform.to_dict() if self.platform else None,
            "artifactType": self.artifact_type,
        }
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
            **{name: value for name, value in optional.items() if value},
            **thawed(self.extra),
        }


_DESCRIPTOR_MEMBERS: Final = frozenset(
    {
        "mediaType",
        "digest",
        "size",
        "urls",
        "annotations",
        "data",
        "platform",
        "artifactType",
    }
)
