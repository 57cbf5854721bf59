"""Places: where an image is or goes, in a registry or on this machine.

The grammar is skopeo's (containers-transports(5)):

    oci:DIR[:TAG]                   an image layout (image-spec image-layout.md)
    oci-archive:FILE[:TAG]          such a layout in a tar
    docker-archive:FILE[:NAME:TAG]  what `docker save` writes

The path ends at the first colon. `:@N` names the Nth image, from 0, and `@sha256:...` one by its
digest. FILE `-` is stdin or stdout. A prefix wins over a registry's reference of that name: the
repository `oci` of Docker Hub is written docker.io/library/oci.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, overload

from brolga.errors import InvalidDigest, InvalidReference, excerpt
from brolga.spec.digest import Digest
from brolga.spec.reference import Reference, Repository
from brolga.spec.value import Value, replace
from brolga.stores.names import digest_of, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from brolga.images import Tree


Kind: TypeAlias = Literal["oci", "oci-archive", "docker-archive", "archive"]

# The form of each kind of archive; "" if its content tells.
FORMS: Final[dict[Kind, str]] = {"oci-archive": "oci", "docker-archive": "docker", "archive": ""}
_PREFIXES: Final[dict[str, Kind]] = {
    "oci": "oci",
    "oci-archive": "oci-archive",
    "docker-archive": "docker-archive",
}
# annotations.md, org.opencontainers.image.ref.name; an underscore anywhere, as tags have it.
_NAME: Final = "[A-Za-z0-9_][A-Za-z0-9_.:@+/-]{0,254}"
_GRAMMAR: Final = (
    "a place is written oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME:TAG]"
)
_TAG_AND_DIGEST: Final = ".*@sha(?:256|512):.*"
_BY_DIGEST: Final = "([^:]+)@((?:sha256|sha512):[^:]*)"


class LocalRef(Value, order=True):
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
            variable = "DIR" if self.kind == "oci" else "FILE"
            raise _wrong(f"{self.kind}: has no {variable} behind it")
        if "\0" in self.path:
            raise _wrong(f"path {excerpt(self.path)} has a null character in it")
        if self.kind == "oci" and self.path == "-":
            raise _wrong("oci: names a directory, which cannot be a pipe", "use oci-archive:-")
        if self.name and not self._is_number and self.digest is None:
            _check_name(self.kind, self.name)

    @property
    def identifier(self) -> str:
        """The name in the store, as `Reference.identifier`."""
        return self.name

    @property
    def is_pipe(self) -> bool:
        """Whether it is stdin or stdout."""
        return self.path == "-"

    @property
    def digest(self) -> Digest | None:
        """The digest that names the image, None if it is not named by one."""
        return digest_of(self.name)

    @property
    def tag(self) -> str:
        """The tag to write; "" if the image is named by a digest or number, or not named."""
        return "" if self.digest or self._is_number else self.name

    def with_digest(self, digest: Digest) -> Self:
        """Return the place of a digest; itself in a docker archive, which keeps no manifests."""
        return self if self.kind == "docker-archive" else replace(self, name=str(digest))

    def __str__(self) -> str:
        """Return the name. It parses back to an equal place if the path has no colon."""
        prefix = "" if self.kind == "archive" else f"{self.kind}:"
        link = "@" if self.digest else ":"
        return f"{prefix}{self.path}{link if self.name else ''}{self.name}"

    @property
    def _is_number(self) -> bool:
        return number_of(self.name) is not None


ImageRef: TypeAlias = Reference | LocalRef


@overload
def parse_image_ref(text: ImageRef | str) -> ImageRef: ...
@overload
def parse_image_ref(text: ImageRef | Repository | str) -> ImageRef | Repository: ...
def parse_image_ref(text: ImageRef | Repository | str) -> ImageRef | Repository:
    """Read a registry's reference, or a place on this machine. Raises InvalidReference."""
    if not isinstance(text, str):
        return text
    prefix, colon, rest = text.partition(":")
    kind = _PREFIXES.get(prefix) if colon else None
    if kind is None:
        return Reference.parse(text)
    if match := re.fullmatch(_BY_DIGEST, rest):
        try:
            return LocalRef(kind, match[1], str(Digest.parse(match[2])))
        except InvalidDigest as error:
            raise _wrong(str(error)) from error
    path, colon, name = rest.partition(":")
    if colon and not name:
        raise _wrong(f"{excerpt(text)} ends with a colon: a name is wanted behind it")
    return LocalRef(kind, path, name)


def parse_repository_ref(text: Repository | LocalRef | str) -> Repository | LocalRef:
    """Read a repository, or a layout or archive as a whole. Raises InvalidReference."""
    if not isinstance(text, str):
        return text
    if text.partition(":")[0] not in _PREFIXES or ":" not in text:
        return Repository.parse(text)
    place = parse_image_ref(text)
    if isinstance(place, LocalRef) and not place.name:
        return place
    raise _wrong(f"{excerpt(text)} is one image: all are wanted", "leave the name out")


def home_of(place: ImageRef | Repository) -> Repository | LocalRef:
    """Return the repository, or the layout or archive as a whole, that a place is in."""
    if isinstance(place, Reference):
        return place.repository
    return replace(place, name="") if isinstance(place, LocalRef) else place


def with_name(home: Repository | LocalRef, name: str) -> ImageRef:
    """Return the place of a name in a repository, a layout or an archive. Raises as parsing."""
    return replace(home, name=name) if isinstance(home, LocalRef) else Reference(home, name)


def with_digest(place: ImageRef | Repository, digest: Digest) -> ImageRef:
    """Return the place of a manifest, named by its digest, beside or instead of `place`."""
    if isinstance(place, LocalRef):
        return place.with_digest(digest)
    home = place.repository if isinstance(place, Reference) else place
    return Reference(home, digest=digest)


def pin(place: ImageRef, digest: Digest) -> ImageRef:
    """Return a place with a digest: named by both in a registry, by digest alone elsewhere."""
    if isinstance(place, Reference):
        return replace(place, digest=digest)
    return place.with_digest(digest)


def tag_to_write(place: ImageRef | Repository) -> str:
    """Return the tag that a push writes; "" for none. Raises InvalidReference for a number."""
    if isinstance(place, Repository):
        return ""
    if isinstance(place, LocalRef) and place.name and not place.tag and place.digest is None:
        raise _wrong(f"{place}: a number names what is there already", "give the image a name")
    return place.tag or ""


def tags_to_write(place: ImageRef | Repository, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tag that a push to a place writes, if any, and more `tags` beside it.

    Raises InvalidReference if one of them is not a tag, or the place is an archive.
    """
    more = tuple(tags)
    if more and is_archive(place):
        raise InvalidReference(f"{place} is an archive: it is written under one name")
    for tag in more:
        check_new_tag(home_of(place), tag)
    return tuple(filter(None, [tag_to_write(place), *more]))


def check_new_tag(home: Repository | LocalRef, tag: str) -> ImageRef:
    """Return the place of a new tag. Raises InvalidReference for a number or a digest."""
    named = with_name(home, tag)
    if named.tag != tag or not tag:
        raise InvalidReference(f"{excerpt(tag)} cannot be a new name: it names what is there")
    return named


def check_digest(place: ImageRef | Repository, tree: Tree) -> None:
    """Raise InvalidReference if a place is named by another digest than that of its tree."""
    expected = None if isinstance(place, Repository) else place.digest
    if expected is not None and expected != tree.digest:
        raise InvalidReference(
            f"{with_digest(place, expected)} names another manifest than this one, {tree.digest}"
        )


def blob_digest(place: ImageRef) -> Digest:
    """Return the digest that names a blob. Raises InvalidReference if there is none."""
    if place.digest is None:
        raise _wrong("a blob is named by its digest: REPO@sha256:... or oci:DIR@sha256:...", "")
    return place.digest


def registry_of(place: ImageRef | Repository) -> str:
    """Return the registry that a place is in; "" if it is on this machine."""
    home = home_of(place)
    return home.registry if isinstance(home, Repository) else ""


def is_pipe(place: ImageRef | Repository) -> bool:
    """Return whether a place is stdin or stdout."""
    return isinstance(place, LocalRef) and place.is_pipe


def is_archive(place: ImageRef | Repository) -> bool:
    """Return whether a place is an archive, which is written as a whole."""
    return isinstance(place, LocalRef) and place.kind != "oci"


def keeps_layers(place: ImageRef | Repository) -> bool:
    """Return whether uncompressed layers stay so in a place: in Docker's archives."""
    return isinstance(place, LocalRef) and place.kind == "docker-archive"


def keeps_names(source: ImageRef | Repository, target: ImageRef | Repository) -> bool:
    """Return whether `target` takes any name of `source` as it is, not only its tag."""
    is_local = isinstance(target, LocalRef)
    return isinstance(source, Repository) or (is_local and not is_archive(source))


def _check_name(kind: Kind, name: str) -> None:
    """Raise InvalidReference for a name that no image can have."""
    if kind == "docker-archive":
        if Reference.parse(name).digest is not None:
            raise _wrong("docker-archive: keeps no digests", "name the image by NAME:TAG")
    elif re.fullmatch(_TAG_AND_DIGEST, name):
        raise _wrong(f"{excerpt(name)} is a tag and a digest", "name the image by one of them")
    elif not re.fullmatch(_NAME, name) or ".." in name.split("/"):
        raise _wrong(
            f"name {excerpt(name)} is not 1 to 255 letters, digits and '_.:@+/-' that begin with "
            "a letter, a digit or '_'"
        )


def _wrong(message: str, hint: str = _GRAMMAR) -> InvalidReference:
    return InvalidReference(message, hint=hint)
