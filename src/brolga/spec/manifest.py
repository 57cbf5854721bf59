"""Image manifests, and what they share with indexes (manifest.md, image-index.md).

A manifest is its exact bytes; its attributes are a view of them. A change is made in the decoded
document, so that unknown members stay. The result is decoded again and passes the same checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Self, TypedDict, Unpack

from brolga.errors import excerpt
from brolga.spec import json, mediatypes
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.value import Value, field, replace


def detect_media_type(document: Mapping[str, object], content_type: str = "") -> str:
    """Return the media type of a manifest or index: the declared one, else that of its members.

    `content_type` is the header that it came with, or empty; parameters are ignored. Raises
    InvalidManifest if header and document differ, or if other clients could read the document as
    something else (CVE-2021-41190).
    """
    members = json.Members(document, "$")
    members.reject_case_variants(mediatypes.MANIFEST_MEMBERS)
    declared = members.get("mediaType", json.read_string, "")
    # "The registry SHOULD ignore parameters on the `Content-Type` header" (distribution-spec,
    # Pushing manifests); media types ignore case (RFC 9110, section 8.3.1).
    header = content_type.partition(";")[0].strip().lower()
    _check_version(members, document, {declared, header})
    if document.get("manifests") is not None and (
        document.get("layers") is not None or document.get("config") is not None
    ):
        raise json.error_at(
            "$.manifests", "is there as well as $.config or $.layers: manifest and index at once"
        )
    if declared and header and declared != header:
        raise json.error_at(
            "$.mediaType", f"{excerpt(declared)} came with the Content-Type {excerpt(header)}"
        )
    if header in mediatypes.DOCKER_MANIFEST_TYPES and not declared:
        raise json.error_at("$.mediaType", f"is missing; Docker's format needs it to be {header!r}")
    media_type = declared or header or _media_type_of_members(document)
    if media_type not in mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES:
        raise json.error_at(
            "$.mediaType", f"{excerpt(media_type)} is neither an image manifest nor an index"
        )
    return media_type


def _check_version(
    members: json.Members, document: Mapping[str, object], media_types: set[str]
) -> None:
    """Raise InvalidManifest for Docker's schema 1, or a schemaVersion other than 2."""

    def read(value: object, path: str) -> None:
        if type(value) is not int or value != 2:  # noqa: PLR2004 - "this MUST be `2`"
            raise json.error_at(path, "is not the number 2")

    version = document.get("schemaVersion")
    is_version_1 = type(version) is int and version == 1
    if (
        is_version_1
        or media_types & mediatypes.SCHEMA_1_TYPES
        or document.get("fsLayers") is not None
    ):
        raise json.error_at(
            "$.schemaVersion",
            "Docker's image manifest of schema 1, which is deprecated and not read here; push the "
            "image again with a client that writes schema 2 or OCI",
        )
    members.need("schemaVersion", read)


def _media_type_of_members(document: Mapping[str, object]) -> str:
    if document.get("manifests") is not None:
        return mediatypes.OCI_INDEX
    if document.get("config") is not None:
        return mediatypes.OCI_MANIFEST
    raise json.error_at(
        "$", "neither 'manifests' nor 'config': not an image manifest, and not an index"
    )


class SharedMembers(TypedDict, total=False):
    """The members that can be set in both manifests and indexes, as keyword arguments."""

    media_type: str
    artifact_type: str
    annotations: Mapping[str, str] | None
    subject: Descriptor | None


class ManifestBase(Value):
    """The bytes of a manifest or index, and a view of the members that both have.

    `media_type` may be given as the Content-Type that the bytes came with; it must agree with
    what they declare. `algorithm` is that of the digest by which the bytes were requested: they
    keep that name wherever they are copied.
    """

    raw: bytes = field(repr=False)
    media_type: str = ""
    algorithm: str = field(default="sha256", repr=False)
    digest: Digest = field(init=False, compare=False)
    artifact_type: str = field(init=False, compare=False, repr=False)
    subject: Descriptor | None = field(init=False, compare=False, repr=False)
    annotations: Mapping[str, str] = field(init=False, compare=False, repr=False)
    _document: dict[str, object] = field(init=False, compare=False, repr=False)

    max_size: ClassVar[int] = json.MAX_SIZE

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Self:
        """Parse the bytes, as the constructor does. Raises InvalidManifest, InvalidDigest."""
        return cls(raw, media_type, algorithm)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """The media type, digest and size of the bytes."""
        return Descriptor(self.media_type, self.digest, self.size)

    @property
    def as_referrer(self) -> Descriptor:
        """The entry in a list of referrers (distribution-spec, Listing Referrers)."""
        return replace(
            self.descriptor, artifact_type=self.artifact_type, annotations=self.annotations
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the bytes only."""
        return type(self), (self.raw, self.media_type, self.algorithm)

    def _decode(self, types: frozenset[str], name: str) -> json.Members:
        """Decode the bytes and set the shared attributes; return all members."""
        document = json.decode(self.raw, self.max_size)
        media_type = detect_media_type(document, self.media_type)
        if media_type not in types:
            raise json.error_at("$.mediaType", f"{media_type!r} is not the media type of {name}")
        members = json.Members(document, "$")
        annotations = members.get("annotations", json.read_string_map, dict[str, str]())
        self._set(
            media_type=media_type,
            digest=Digest.of(self.raw, self.algorithm),
            artifact_type=members.get("artifactType", json.read_artifact_type, ""),
            subject=members.get("subject", Descriptor.from_dict, None),
            annotations=MappingProxyType(annotations),
            _document=document,
        )
        return members

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _encode(cls, media_type: str, parts: Mapping[str, object], shared: SharedMembers) -> Self:
        """Return a new document; `parts` are the members that only one of both kinds has."""
        subject = shared.get("subject")
        members: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": shared.get("media_type", media_type),
            "artifactType": shared.get("artifact_type") or None,
            **parts,
            "subject": subject.to_dict() if subject else None,
            "annotations": dict(shared.get("annotations") or {}) or None,
        }
        return cls(json.encode(json.update_members({}, members)))

    def _replace(self, changes: dict[str, object], shared: SharedMembers) -> Self:
        """Return the document with changes; one to None removes the member."""
        media_type, artifact_type = shared.get("media_type"), shared.get("artifact_type")
        if media_type not in {None, self.media_type}:
            changes["mediaType"] = media_type
        if artifact_type not in {None, self._document.get("artifactType") or ""}:
            changes["artifactType"] = artifact_type or None
        annotations = shared.get("annotations")
        if annotations is not None and annotations != self.annotations:
            changes["annotations"] = dict(annotations) or None
        if "subject" in shared and (subject := shared["subject"]) != self.subject:
            changes["subject"] = subject.to_dict() if subject else None
        if not changes:
            return self
        return type(self)(json.encode(json.update_members(self._document, changes)))


class Manifest(ManifestBase):
    """The manifest of one image or artifact: a typed view of its exact bytes.

    `artifact_type` is `artifactType`, else the config's media type, as in a list of referrers
    (distribution-spec, Listing Referrers). Raises InvalidManifest.
    """

    config: Descriptor = field(init=False, compare=False, repr=False)
    layers: tuple[Descriptor, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Decode the bytes."""
        members = self._decode(mediatypes.MANIFEST_TYPES, "an image manifest")
        config = members.need("config", Descriptor.from_dict)
        if "layers" not in self._document:
            raise json.error_at("$.layers", "is missing")
        self._set(
            config=config,
            # Go writes an empty list as null.
            layers=members.each("layers", Descriptor.from_dict),
            artifact_type=self.artifact_type or config.media_type,
        )

    @classmethod
    def new(
        cls, config: Descriptor, layers: Iterable[Descriptor], **shared: Unpack[SharedMembers]
    ) -> Self:
        """Return a new manifest, of OCI's media type by default. Raises InvalidManifest.

        "`artifactType` MUST be set when `config.mediaType` is set to the empty value"
        (manifest.md, Image Manifest Property Descriptions).
        """
        if config.media_type == mediatypes.OCI_EMPTY and not shared.get("artifact_type"):
            raise json.error_at(
                "$.artifactType", "is missing; an artifact without a config needs it"
            )
        parts = {"config": config.to_dict(), "layers": [layer.to_dict() for layer in layers]}
        return cls._encode(mediatypes.OCI_MANIFEST, parts, shared)

    def replace(
        self,
        *,
        config: Descriptor | None = None,
        layers: Iterable[Descriptor] | None = None,
        **shared: Unpack[SharedMembers],
    ) -> Self:
        """Return a manifest with some members replaced. All others stay, unknown ones too.

        Empty annotations, an empty artifact type and the subject None remove the member. Layers
        that stay keep their JSON, and without a change the bytes stay. Raises InvalidManifest.
        """
        changes: dict[str, object] = {}
        if config is not None and config != self.config:
            changes["config"] = config.to_dict()
        if layers is not None and (layers := tuple(layers)) != self.layers:
            changes["layers"] = json.reuse_originals(layers, self.layers, self._document["layers"])
        return self._replace(changes, shared)


def convert_manifest(
    manifest: Manifest, config: Descriptor, layers: Iterable[Descriptor]
) -> Manifest:
    """Return a manifest with this config and these layers, all of one family of media types."""
    layers = tuple(layers)
    family = mediatypes.detect_family(manifest.media_type, (layer.media_type for layer in layers))

    def convert(part: Descriptor) -> Descriptor:
        return replace(part, media_type=mediatypes.convert_media_type(family, part.media_type))

    return manifest.replace(media_type=family, config=convert(config), layers=map(convert, layers))


def mixed_media_types(manifest: Manifest) -> Iterator[Descriptor]:
    """Yield the parts of an image, but not of an artifact, whose types are of another family."""
    if manifest.config.media_type not in mediatypes.IMAGE_CONFIGS:
        return
    for part in (manifest.config, *manifest.layers):
        if not mediatypes.is_of_family(manifest.media_type, part.media_type):
            yield part
