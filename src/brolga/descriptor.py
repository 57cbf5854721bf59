"""Descriptors: a digest together with what it takes to fetch it safely.

Knows the properties of the image-spec (descriptor.md, Properties) and their JSON names. Must not
know what the described bytes mean, nor where they are stored.

Strategy: a value that checks itself however it is made and cannot be changed afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from brolga.errors import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.digest import Digest

__all__ = ["Descriptor", "check_media_type"]

# "size: int64" (descriptor.md, Properties).
_MAX_SIZE: Final = 2**63 - 1

# RFC 6838, section 4.2: a type and a subtype of at most 127 characters each, no parameters.
_RESTRICTED_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}+"
_MEDIA_TYPE: Final = re.compile(f"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}")


def check_media_type(text: str) -> None:
    """Raise ValueError where `text` is no type/subtype (RFC 6838, section 4.2)."""
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"media type {excerpt(text)} is not type/subtype as of RFC 6838")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The media type, digest and size in bytes of a blob or manifest.

    `annotations` is copied, and can be read only. Raises ValueError for a media type outside
    RFC 6838, for a size that is no int64 from 0, and for annotations that are not strings
    (image-spec descriptor.md, Properties; annotations.md, Rules).
    """

    media_type: str
    digest: Digest
    size: int
    # Equal descriptors have equal hashes without it, and a mapping has no hash.
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check each property, and keep a read-only copy of the annotations."""
        check_media_type(self.media_type)
        # Not isinstance: True is an int.
        if type(self.size) is not int or not 0 <= self.size <= _MAX_SIZE:
            raise ValueError(
                f"size {excerpt(str(self.size))} is not a whole number of bytes, 0 to 2**63 - 1"
            )
        annotations = dict(self.annotations)
        for text in (*annotations, *annotations.values()):
            # The type in front is a promise; what JSON brought may break it.
            if type(text) is not str:
                raise ValueError(f"annotation {excerpt(repr(text))} is not a string")
        object.__setattr__(self, "annotations", MappingProxyType(annotations))

    def __reduce__(
        self,
    ) -> tuple[type[Descriptor], tuple[str, Digest, int, dict[str, str]]]:
        """Give pickle a plain dict: a read-only mapping cannot reach another process."""
        return type(self), (self.media_type, self.digest, self.size, dict(self.annotations))

    def to_dict(self) -> dict[str, object]:
        """Return the properties by their JSON names, ready for json.

        `annotations` is absent where there are none (annotations.md, Rules).
        """
        properties: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            properties["annotations"] = dict(self.annotations)
        return properties
