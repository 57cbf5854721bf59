"""Descriptors: the media type, digest and size of some content (image-spec, descriptor.md).

A value checks itself on every construction and cannot change. Members that the spec does not
define are kept in `extra`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from brolga.errors import excerpt
from brolga.spec import json
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import check_media_type
from brolga.spec.value import Value, field

if TYPE_CHECKING:
    from brolga.spec.platform import Platform

# "size: int64" (descriptor.md, Properties).
_MAX_SIZE: Final = 2**63 - 1
_MEMBERS: Final = frozenset(
    {"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"}
)


class Descriptor(Value):
    """The media type, digest and size in bytes of a blob or manifest.

    `data` is the embedded content, which must have that size and digest. `extra` holds members
    that the spec does not define. Mappings are copied and read-only. Raises ValueError for a
    property that is not valid (image-spec descriptor.md, Properties; annotations.md, Rules).
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = field(default=None, kw_only=True)
    artifact_type: str = field(default="", kw_only=True)
    urls: tuple[str, ...] = field(default=(), kw_only=True)
    data: bytes | None = field(default=None, repr=False, kw_only=True)
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    __hash__ = json.hash_value
    __reduce__ = json.reduce_value

    def __post_init__(self) -> None:
        """Check each property, and keep read-only copies of the mappings."""
        check_media_type(self.media_type)
        _check_size(self.size)
        annotations = dict(self.annotations)
        for text in (*annotations, *annotations.values()):
            # The annotation promises a str; JSON may break it.
            if type(text) is not str:
                raise ValueError(f"annotation {excerpt(repr(text))} is not a string")
        if self.artifact_type:
            check_media_type(self.artifact_type)
        if reserved := self.extra.keys() & _MEMBERS:
            raise ValueError(f"extra holds {min(reserved)!r}, which is a property of its own")
        object.__setattr__(self, "annotations", MappingProxyType(annotations))
        object.__setattr__(self, "urls", tuple(self.urls))
        object.__setattr__(self, "extra", json.freeze(self.extra))
        # Writers leave out an empty member, so empty data equals no data.
        object.__setattr__(self, "data", self.data or None)
        if self.data is not None:
            _check_data(self.data, self.digest, self.size)

    @classmethod
    def from_dict(cls, value: object, path: str = "$") -> Self:
        """Read the JSON object at `path` (descriptor.md, Properties). Raises InvalidManifest."""
        from brolga.spec.platform import Platform

        members = json.Members(value, path)
        members.reject_case_variants(_MEMBERS)
        media_type = members.need("mediaType", json.read_media_type)
        digest = members.need("digest", json.read_digest)
        size = members.need("size", functools.partial(json.parse_member, _check_size))
        return cls(
            media_type,
            digest,
            size,
            members.get("annotations", json.read_string_map, dict[str, str]()),
            platform=members.get("platform", Platform.from_dict, None),
            artifact_type=members.get("artifactType", json.read_artifact_type, ""),
            urls=members.each("urls", json.read_string),
            data=members.get("data", functools.partial(_read_data, digest, size), None),
            extra=members.unknown(_MEMBERS),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the properties by their JSON names. Empty ones are left out (annotations.md)."""
        from binascii import b2a_base64

        optional = {
            "urls": list(self.urls),
            "annotations": dict(self.annotations),
            "data": b2a_base64(self.data or b"", newline=False).decode(),
            "platform": self.platform.to_dict() if self.platform else None,
            "artifactType": self.artifact_type,
        }
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
            **{name: value for name, value in optional.items() if value},
            **json.thaw(self.extra),
        }


def _check_size(size: object) -> int:
    # Not isinstance: True is an int.
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError(
            f"size {excerpt(str(size))} is not a whole number of bytes, 0 to 2**63 - 1"
        )
    return size


def _check_data(data: bytes, digest: Digest, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"the embedded data has {len(data)} bytes, but size is {size}")
    if Digest.of(data, digest.algorithm) != digest:
        raise ValueError(f"the embedded data does not have the digest {digest}")


def _read_data(digest: Digest, size: int, value: object, path: str) -> bytes:
    """Return the bytes of a base64 string, if they have this digest and size."""
    from binascii import a2b_base64

    def decode(text: str) -> bytes:
        data = a2b_base64(text, strict_mode=True)
        if data:
            _check_data(data, digest, size)
        return data

    return json.parse_member(decode, json.read_string(value, path), path)
