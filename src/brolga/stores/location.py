"""Places: where an image is or goes, in a registry or on this machine.

Knows the grammar of skopeo's names (containers-transports(5)) and what can be said of a place by
its name alone. Must not know how one is opened, or whether it is there.

    oci:DIR[:TAG]                   an image layout (image-spec image-layout.md)
    oci-archive:FILE[:TAG]          such a layout in a tar
    docker-archive:FILE[:NAME:TAG]  what `docker save` writes

The path ends at the first colon. `:@N` names the Nth image, from 0, and `@sha256:...` one by its
digest. FILE `-` is stdin or stdout. A prefix wins over a registry's reference of that name: the
repository `oci` of Docker Hub is written docker.io/library/oci.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from brolga.errors import InvalidDigest, InvalidReference, excerpt
from brolga.spec.digest import Digest
from brolga.spec.reference import Reference, Repository

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "FORMS",
    "ImageRef",
    "Kind",
    "LocalRef",
    "by_digest",
    "parse_image_ref",
    "parse_repository_ref",
]

Kind: TypeAlias = Literal["oci", "oci-archive", "docker-archive", "archive"]

# What each prefix names in `brolga.stores.archive`: a layout is none, and of an `archive` what is in it
# tells the form.
FORMS: Final[dict[Kind, str]] = {"oci-archive": "oci", "docker-archive": "docker", "archive": ""}
_PREFIXES: Final[dict[str, Kind]] = {
    "oci": "oci",
    "oci-archive": "oci-archive",
    "docker-archive": "docker-archive",
}
# What stands for a path in an error.
_WHAT: Final[dict[Kind, str]] = {
    "oci": "DIR",
    "oci-archive": "FILE",
    "docker-archive": "FILE",
    "archive": "FILE",
}
# annotations.md, org.opencontainers.image.ref.name; an underscore anywhere, as tags have it.
_NAME: Final = re.compile("[A-Za-z0-9_][A-Za-z0-9_.:@+/-]{0,254}")
_GRAMMAR: Final = (
    "a place is written oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]"
)
_NUMBER: Final = re.compile("@[0-9]{1,9}")
_TAG_AND_DIGEST: Final = re.compile(".*@sha(?:256|512):.*")
_BY_DIGEST: Final = re.compile("([^:]+)@((?:sha256|sha512):[^:]*)")


@dataclass(frozen=True, slots=True, order=True)
class LocalRef:
    """A place on this machine: an image layout, or an archive.

    `name` is a tag or another name of an image in it, `@N`, a digest, or "" for the only one. The
    kind `archive` has no prefix: it is read as what it is. Raises InvalidReference.
    """

    kind: Kind
    path: str
    name: str = ""

    def __post_init__(self) -> None:
        """Check both parts."""
        if not self.path:
            raise _wrong(f"{self.kind}: has no {_WHAT[self.kind]} behind it")
        if "\0" in self.path:
            raise _wrong(f"path {excerpt(self.path)} has a null character in it")
        if self.kind == "oci" and self.path == "-":
            raise _wrong("oci: names a directory, which is no pipe", "use oci-archive:-")
        if self.name and not self._is_number and self.digest is None:
            _check_name(self.kind, self.name)

    @property
    def is_pipe(self) -> bool:
        """Whether it is stdin, or stdout."""
        return self.path == "-"

    @property
    def digest(self) -> Digest | None:
        """The digest that names the image, where one does."""
        try:
            return Digest.parse(self.name) if self.name[:3] == "sha" else None
        except InvalidDigest:
            return None

    @property
    def tag(self) -> str:
        """The name to be written: a tag, or "" where what is written is named by its digest."""
        return "" if self.digest or self._is_number else self.name

    def with_digest(self, digest: Digest) -> Self:
        """Name what is there by its digest, where the place keeps manifests: docker's does not."""
        return self if self.kind == "docker-archive" else replace(self, name=str(digest))

    def __str__(self) -> str:
        """Return the name, which parses back to an equal place where the path has no colon."""
        prefix = "" if self.kind == "archive" else f"{self.kind}:"
        link = "@" if self.digest else ":"
        return f"{prefix}{self.path}{link if self.name else ''}{self.name}"

    @property
    def _is_number(self) -> bool:
        return _NUMBER.fullmatch(self.name) is not None


ImageRef: TypeAlias = Reference | LocalRef


def parse_image_ref(text: str) -> ImageRef:
    """Read a registry's reference, or a place on this machine. Raises InvalidReference."""
    prefix, colon, rest = text.partition(":")
    kind = _PREFIXES.get(prefix) if colon else None
    if kind is None:
        return Reference.parse(text)
    if found := _BY_DIGEST.fullmatch(rest):
        try:
            return LocalRef(kind, found[1], str(Digest.parse(found[2])))
        except InvalidDigest as error:
            raise _wrong(str(error)) from error
    path, colon, name = rest.partition(":")
    if colon and not name:
        raise _wrong(f"{excerpt(text)} ends with a colon: a name is wanted behind it")
    return LocalRef(kind, path, name)


def by_digest(place: ImageRef, digest: Digest) -> ImageRef:
    """Return the name by digest of what is at a place, or beside it."""
    if isinstance(place, LocalRef):
        return place.with_digest(digest)
    return Reference(place.repository, digest=digest)


def parse_repository_ref(text: str) -> Repository | LocalRef:
    """Read a repository, or a layout or archive as a whole. Raises InvalidReference."""
    if text.partition(":")[0] not in _PREFIXES or ":" not in text:
        return Repository.parse(text)
    place = parse_image_ref(text)
    if isinstance(place, LocalRef) and not place.name:
        return place
    raise _wrong(f"{excerpt(text)} is one image: all are wanted", "leave the name out")


def _check_name(kind: Kind, name: str) -> None:
    """Refuse a name that no image can have. Raises InvalidReference."""
    if kind == "docker-archive":
        if Reference.parse(name).digest is not None:
            raise _wrong("docker-archive: keeps no digests", "name the image by NAME:TAG")
    elif _TAG_AND_DIGEST.fullmatch(name):
        raise _wrong(f"{excerpt(name)} is a tag and a digest", "name the image by one of them")
    elif not _NAME.fullmatch(name) or ".." in name.split("/"):
        raise _wrong(
            f"name {excerpt(name)} is not 1 to 255 letters, digits and '_.:@+/-' that begin with "
            "a letter, a digit or '_'"
        )


def _wrong(what: str, advice: str = _GRAMMAR) -> InvalidReference:
    error = InvalidReference(what)
    error.add_note(advice)
    return error
