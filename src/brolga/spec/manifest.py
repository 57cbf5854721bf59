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

from brolga.errors import excerpt
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.json import (
    MAX_SIZE,
    Members,
    decode,
    encode,
    read_artifact_type,
    read_strings,
    read_text,
    reuse_originals,
    wrong,
)
from brolga.spec.mediatypes import (
    DOCKER_BY_OCI,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_SCHEMA_1,
    DOCKER_SCHEMA_1_SIGNED,
    IMAGE_CONFIGS,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self


__all__ = [
    "INDEX_TYPES",
    "MANIFEST_TYPES",
    "Manifest",
    "ManifestBase",
    "convert_manifest",
    "convert_media_type",
    "detect_family",
    "detect_media_type",
    "mixed_media_types",
]

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


def detect_media_type(document: Mapping[str, object], content_type: str = "") -> str:
    """Return the media type of a manifest or index: what it says, else what it looks like.

    `content_type` is the header that it came with, or empty; parameters are ignored. Raises
    InvalidManifest where header and document differ, and where other clients could read the
    document as something else (CVE-2021-41190).
    """
    members = Members(document, "$")
    members.reject_case_variants(_MEMBERS)
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
class ManifestBase:
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
        media_type = detect_media_type(document, self.media_type)
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


@dataclass(frozen=True, slots=True)
class Manifest(ManifestBase):
    """The manifest of one image or artifact: a typed view over its exact bytes.

    `artifact_type` is what referrers are listed by: `artifactType`, else the config's media type
    (distribution-spec, Listing Referrers). Raises InvalidManifest.
    """

    config: Descriptor = field(init=False, compare=False, repr=False)
    layers: tuple[Descriptor, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Read the bytes."""
        members = self._open(MANIFEST_TYPES, "an image manifest")
        config = members.need("config", Descriptor.from_dict)
        if "layers" not in self._document:
            raise wrong("$.layers", "is missing")
        self._set(
            config=config,
            # null is how Go writes an empty list.
            layers=members.each("layers", Descriptor.from_dict),
            artifact_type=self.artifact_type or config.media_type,
        )

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "", algorithm: str = "sha256") -> Self:
        """Read a manifest; `media_type` is the Content-Type that it came with, if any.

        `algorithm` is that of the digest that names it. Raises InvalidManifest, and InvalidDigest
        for an algorithm that cannot be computed here.
        """
        return cls(raw, media_type, algorithm)

    @classmethod
    def new(  # noqa: PLR0913 - the members of a manifest
        cls,
        config: Descriptor,
        layers: Iterable[Descriptor],
        *,
        media_type: str = OCI_MANIFEST,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | None = None,
        artifact_type: str = "",
    ) -> Self:
        """Write a manifest. Raises InvalidManifest.

        "`artifactType` MUST be set when `config.mediaType` is set to the empty value"
        (manifest.md, Image Manifest Property Descriptions).
        """
        if config.media_type == OCI_EMPTY and not artifact_type:
            raise wrong("$.artifactType", "is missing; an artifact without a config needs it")
        members: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "artifactType": artifact_type or None,
            "config": config.to_dict(),
            "layers": [layer.to_dict() for layer in layers],
            "subject": subject.to_dict() if subject else None,
            "annotations": dict(annotations or {}) or None,
        }
        return cls(encode({name: item for name, item in members.items() if item is not None}))

    def replace(  # noqa: PLR0913 - the members of a manifest
        self,
        *,
        config: Descriptor | None = None,
        layers: Iterable[Descriptor] | None = None,
        annotations: Mapping[str, str] | None = None,
        subject: Descriptor | EllipsisType | None = ...,
        media_type: str | None = None,
        artifact_type: str | None = None,
    ) -> Self:
        """Return a manifest with other members; what is not given stays, unknown members too.

        Layers that stay keep their JSON as it is. Empty annotations and an empty artifact type
        take the member away, as None does with the subject. Where nothing changes the bytes
        stay. Raises InvalidManifest.
        """
        changes = self._shared(media_type, artifact_type, annotations, subject)
        if config is not None and config != self.config:
            changes["config"] = config.to_dict()
        if layers is not None and (wanted := tuple(layers)) != self.layers:
            changes["layers"] = reuse_originals(wanted, self.layers, self._document["layers"])
        return self._changed(changes)


_OCI_BY_DOCKER: Final[Mapping[str, str]] = MappingProxyType(
    {docker: oci for oci, docker in DOCKER_BY_OCI.items()}
)
_OCI_IMAGE: Final = "application/vnd.oci.image."


def detect_family(manifest: str, layers: Iterable[str]) -> str:
    """Return the media type of a manifest with layers of some media types: its own, or OCI's."""
    if manifest == DOCKER_MANIFEST and any(map(_is_oci_only, layers)):
        return _OCI_BY_DOCKER[manifest]
    return manifest


def convert_media_type(manifest: str, media_type: str) -> str:
    """Return the name that a media type has in the family of a manifest's; its own without one."""
    return _names(manifest).get(media_type, media_type)


def convert_manifest(
    manifest: Manifest, config: Descriptor, layers: Iterable[Descriptor]
) -> Manifest:
    """Return a manifest with this config and these layers, all of one family."""
    layers = tuple(layers)
    family = detect_family(manifest.media_type, (layer.media_type for layer in layers))

    def renamed(part: Descriptor) -> Descriptor:
        return replace(part, media_type=convert_media_type(family, part.media_type))

    return manifest.replace(
        media_type=family, config=renamed(config), layers=[renamed(layer) for layer in layers]
    )


def mixed_media_types(manifest: Manifest) -> Iterator[Descriptor]:
    """Yield the parts of an image whose media types belong to the other family.

    An artifact's parts may be of any type.
    """
    if manifest.config.media_type not in IMAGE_CONFIGS:
        return
    names = _names(manifest.media_type)
    for part in (manifest.config, *manifest.layers):
        if part.media_type in names or (
            manifest.media_type == DOCKER_MANIFEST and _is_oci_only(part.media_type)
        ):
            yield part


def _names(manifest: str) -> Mapping[str, str]:
    """Return the names of a manifest's family, by those of the other one."""
    return DOCKER_BY_OCI if manifest == DOCKER_MANIFEST else _OCI_BY_DOCKER


def _is_oci_only(media_type: str) -> bool:
    return media_type.startswith(_OCI_IMAGE) and media_type not in DOCKER_BY_OCI
