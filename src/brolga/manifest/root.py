"""What an image manifest and an index share: each is the root of a tree of blobs.

Knows the members that both have (manifest.md, image-index.md), and how to tell one from the
other. Must not know what else is in either.

Strategy: a root is its bytes, and its attributes are a view of them. A change is made in the
document that was read, where every member stays that nobody here knows; the result is read anew,
so what is written passes the same checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.errors import excerpt
from brolga.manifest.document import MAX_SIZE, decode, encode
from brolga.mediatypes import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_SCHEMA_1,
    DOCKER_SCHEMA_1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
)
from brolga.members import Members, read_artifact_type, read_strings, read_text, wrong

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["INDEX_TYPES", "MANIFEST_TYPES", "Root", "identify"]

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
_DOCKER_TYPES: Final = frozenset({DOCKER_MANIFEST, DOCKER_MANIFEST_LIST})
_SCHEMA_1_TYPES: Final = frozenset({DOCKER_SCHEMA_1, DOCKER_SCHEMA_1_SIGNED})

_MEMBERS: Final = frozenset(
    {
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
    }
)


def identify(document: Mapping[str, object], content_type: str = "") -> str:
    """Return the media type of a manifest or index: what it says, else what it looks like.

    `content_type` is the header that it came with, or empty; parameters are ignored. Raises
    InvalidManifest where header and document differ, and where other clients could read the
    document as something else (CVE-2021-41190).
    """
    members = Members(document, "$")
    members.refuse_look_alikes(_MEMBERS)
    written = members.get("mediaType", read_text, "")
    # "The registry SHOULD ignore parameters on the `Content-Type` header" (distribution-spec,
    # Pushing manifests); media types ignore case (RFC 9110, section 8.3.1).
    sent = content_type.partition(";")[0].strip().lower()
    _refuse_schema_1(document, {written, sent})
    _check_version(members)
    if document.get("manifests") is not None and (
        document.get("layers") is not None or document.get("config") is not None
    ):
        raise wrong(
            "$.manifests", "is there as well as $.config or $.layers: manifest and index at once"
        )
    if written and sent and written != sent:
        raise wrong("$.mediaType", f"{excerpt(written)} came with the Content-Type {excerpt(sent)}")
    if sent in _DOCKER_TYPES and not written:
        raise wrong("$.mediaType", f"is missing; Docker's format needs it to be {sent!r}")
    media_type = written or sent or _by_shape(document)
    if media_type not in MANIFEST_TYPES | INDEX_TYPES:
        raise wrong(
            "$.mediaType", f"{excerpt(media_type)} is neither an image manifest nor an index"
        )
    return media_type


def _refuse_schema_1(document: Mapping[str, object], types: set[str]) -> None:
    version = document.get("schemaVersion")
    if (
        types & _SCHEMA_1_TYPES
        or document.get("fsLayers") is not None
        or (type(version) is int and version == 1)
    ):
        raise wrong(
            "$.schemaVersion",
            "Docker's image manifest of schema 1, which is deprecated and not read here; push the "
            "image again with a client that writes schema 2 or OCI",
        )


def _check_version(members: Members) -> None:
    def read(value: object, where: str) -> None:
        if type(value) is not int or value != 2:  # noqa: PLR2004 - "this MUST be `2`"
            raise wrong(where, "is not the number 2")

    members.need("schemaVersion", read)


def _by_shape(document: Mapping[str, object]) -> str:
    if document.get("manifests") is not None:
        return OCI_INDEX
    if document.get("config") is not None:
        return OCI_MANIFEST
    raise wrong("$", "neither 'manifests' nor 'config': not an image manifest, and not an index")


@dataclass(frozen=True, slots=True)
class Root:
    """The bytes of a manifest or index, and what both say.

    `media_type` may be given as the Content-Type that the bytes came with; it must agree with
    what they say, and is the media type afterwards. `algorithm` is that of the digest by which the
    bytes were asked for: they keep that name wherever they are copied.
    """

    raw: bytes = field(repr=False)
    media_type: str = ""
    algorithm: str = field(default="sha256", repr=False)
    digest: Digest = field(init=False, compare=False)
    artifact_type: str = field(init=False, compare=False, repr=False)
    subject: Descriptor | None = field(init=False, compare=False, repr=False)
    annotations: Mapping[str, str] = field(init=False, compare=False, repr=False)
    _document: dict[str, object] = field(init=False, compare=False, repr=False)

    # How many bytes are read of one.
    max_size: ClassVar[int] = MAX_SIZE

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """What names these bytes: media type, digest and size."""
        return Descriptor(self.media_type, self.digest, self.size)

    @property
    def as_referrer(self) -> Descriptor:
        """What a list of referrers says of it (distribution-spec, Listing Referrers)."""
        return replace(
            self.descriptor, artifact_type=self.artifact_type, annotations=self.annotations
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the value from its bytes."""
        return type(self), (self.raw, self.media_type, self.algorithm)

    def _open(self, wanted: frozenset[str], name: str) -> Members:
        """Read what both kinds share; return the members for the rest."""
        document = decode(self.raw, self.max_size)
        media_type = identify(document, self.media_type)
        if media_type not in wanted:
            raise wrong("$.mediaType", f"{media_type!r} where {name} is wanted")
        members = Members(document, "$")
        annotations = members.get("annotations", read_strings, dict[str, str]())
        self._set(
            media_type=media_type,
            digest=Digest.of(self.raw, self.algorithm),
            artifact_type=members.get("artifactType", read_artifact_type, ""),
            subject=members.get("subject", Descriptor.from_dict, None),
            annotations=MappingProxyType(annotations),
            _document=document,
        )
        return members

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _shared(
        self,
        media_type: str | None,
        artifact_type: str | None,
        annotations: Mapping[str, str] | None,
        subject: Descriptor | EllipsisType | None,
    ) -> dict[str, object]:
        """Return what changes of the members that both kinds share, as `_changed` takes it."""
        changes: dict[str, object] = {}
        if media_type not in {None, self.media_type}:
            changes["mediaType"] = media_type
        if artifact_type not in {None, self._document.get("artifactType") or ""}:
            changes["artifactType"] = artifact_type or None
        if annotations is not None and annotations != self.annotations:
            changes["annotations"] = dict(annotations) or None
        if not isinstance(subject, EllipsisType) and subject != self.subject:
            changes["subject"] = subject.to_dict() if subject else None
        return changes

    def _changed(self, changes: Mapping[str, object]) -> Self:
        """Return the document with other members; None takes one away, all others stay."""
        if not changes:
            return self
        document = {**self._document, **changes}
        for name in changes:
            if document[name] is None:
                del document[name]
        return type(self)(encode(document))
