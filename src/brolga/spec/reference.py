"""Names: which repository of which registry, and which manifest in it.

Knows the rules by which Docker reads a short name, and the grammars of the distribution-spec
("Pulling manifests") for names and tags. Must not know how to reach a registry: a host is judged
by its letters alone, never by asking DNS.

Strategy: cut from the right, where the separators are unambiguous: the digest after `@`, the tag
after the last `:`, the registry before the first `/`. The value types check themselves however
they are made and hold the canonical spelling, so that equal names are equal values and `str`
parses back to an equal one. Names go into URLs and paths later: what is outside the grammar is
refused here. An error shows the wrong part alone, since the rest may hold a pasted password.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from brolga.errors import InvalidDigest, InvalidReference, excerpt
from brolga.spec.digest import MAX_DIGEST_LENGTH, Digest

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DEFAULT_REGISTRY", "DEFAULT_TAG", "Reference", "Repository", "is_tag"]

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"

# Docker Hub has a name of old, and an API that answers under a third one.
_DEFAULT_REGISTRY_OF_OLD: Final = "index.docker.io"
_DEFAULT_REGISTRY_API: Final = "registry-1.docker.io"

# "Many clients impose a limit of 255 characters on the length of the concatenation of the
# registry hostname (and optional port), `/`, and `<name>`" (distribution-spec, Pulling manifests).
_MAX_NAME: Final = 255
_MAX_TAG: Final = 128
_MAX_REFERENCE: Final = _MAX_NAME + len(":") + _MAX_TAG + len("@") + MAX_DIGEST_LENGTH
_MAX_LABEL: Final = 63  # RFC 1035, section 2.3.4; a longer one makes the resolver raise
_MAX_PORT: Final = 65535

# Spelled-out classes, never \w or \d: those match other alphabets. Repeated classes are
# possessive, so that nothing is tried twice; groups are not, as Python before 3.11.5 gets
# possessive groups wrong (python/cpython#106052).
_LABEL: Final = "[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*"
_REGISTRY: Final = re.compile(
    rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]++\])(?::(?P<port>[0-9]*+))?"
)
_PORT: Final = re.compile("[1-9][0-9]{0,4}")
_COMPONENT: Final = r"[a-z0-9]++(?:(?:\.|__?+|-++)[a-z0-9]++)*"
_PATH: Final = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile("[A-Za-z0-9_][A-Za-z0-9._-]{0,127}+")
_IMAGE_ID: Final = re.compile("[0-9a-f]{64}")
_SCHEME: Final = re.compile("[A-Za-z][A-Za-z0-9+.-]*+://")
_NOT_PRINTABLE_ASCII: Final = re.compile("[^!-~]")


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A registry (`host` or `host:port`) and the path of a repository in it.

    Holds the canonical spelling: the host in lower case, Docker Hub as `docker.io` and its
    one-word paths under `library/`. Raises InvalidReference (distribution-spec, Pulling manifests).
    """

    registry: str
    path: str

    def __post_init__(self) -> None:
        """Check both parts and make them canonical."""
        # The length first: no expression then sees more than a bounded text.
        _check_length(max(len(self.registry), len(self.path)))
        registry = _canonical_registry(self.registry)
        path = self.path
        _check_path(path)
        if registry == DEFAULT_REGISTRY and "/" not in path:
            path = f"library/{path}"
        _check_length(len(registry) + len("/") + len(path))
        object.__setattr__(self, "registry", registry)
        object.__setattr__(self, "path", path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the name of a repository by Docker's rules: `python` is on Docker Hub.

        Raises InvalidReference, for a name with a tag or a digest too.
        """
        _check_text(text)
        name, tag, digest = _split(text)
        if tag is not None or digest is not None:
            raise InvalidReference("a repository is wanted here, without tag or digest")
        return cls(*_split_name(name))

    @property
    def host(self) -> str:
        """The registry without its port; an IPv6 address keeps its brackets."""
        if self.registry.endswith("]"):
            return self.registry
        return self.registry.rpartition(":")[0] or self.registry

    @property
    def api_host(self) -> str:
        """The `host` or `host:port` that answers the registry's API; Docker Hub's differs."""
        return _DEFAULT_REGISTRY_API if self.registry == DEFAULT_REGISTRY else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the registry's name, as written, can only mean this machine.

        True for localhost and the names below it (RFC 6761, section 6.3), 127.0.0.0/8 and [::1].
        """
        host = self.host
        if host in {"localhost", "[::1]"} or host.endswith(".localhost"):
            return True
        try:
            return IPv4Address(host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """Return the canonical name, which parses back to an equal repository."""
        return f"{self.registry}/{self.path}"


@functools.total_ordering
@dataclass(frozen=True, slots=True)
class Reference:
    """A manifest in a repository, by tag, by digest, or by both.

    With neither, the tag is `latest` and `tag_is_default` is true; that flag does not count when
    references are compared. Raises InvalidReference (distribution-spec, Pulling manifests).
    """

    repository: Repository
    tag: str | None = None
    digest: Digest | None = None
    tag_is_default: bool = field(init=False, default=False, compare=False)

    def __post_init__(self) -> None:
        """Check the tag, or set the default one."""
        if self.tag is not None:
            _check_tag(self.tag)
        elif self.digest is None:
            object.__setattr__(self, "tag", DEFAULT_TAG)
            object.__setattr__(self, "tag_is_default", True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name`, `name:tag`, `name@digest` or `name:tag@digest` by Docker's rules.

        Raises InvalidReference, naming the part that is wrong.
        """
        _check_text(text)
        name, tag, digest_text = _split(text)
        # The digest first: in `user:password@host` it is what is wrong, and is no secret.
        digest = None if digest_text is None else _parse_digest(digest_text)
        return cls(Repository(*_split_name(name)), tag, digest)

    @property
    def identifier(self) -> str:
        """What a manifest's URL ends with: the digest, or the tag where there is none."""
        return str(self.digest or self.tag)

    def __str__(self) -> str:
        """Return the canonical name, which parses back to an equal reference."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.repository}{tag}{digest}"

    def __lt__(self, other: object) -> bool:
        """Order by repository, then tag, then digest; none comes before any."""
        if not isinstance(other, Reference):
            return NotImplemented
        return self._key() < other._key()

    def _key(self) -> tuple[Repository, str, str]:
        # None does not compare; no tag and no digest is the empty text.
        return self.repository, self.tag or "", str(self.digest or "")


def _check_length(length: int) -> None:
    if length > _MAX_NAME:
        raise InvalidReference(
            f"repository name of {length} characters: registry, '/' and path "
            f"have at most {_MAX_NAME} together"
        )


def _check_text(text: str) -> None:
    """Refuse what can be in no part of a name, before any part is looked at."""
    if not text:
        raise InvalidReference("the name is empty")
    if len(text) > _MAX_REFERENCE:
        raise InvalidReference(
            f"name of {len(text)} characters: a reference has at most {_MAX_REFERENCE}"
        )
    if wrong := _NOT_PRINTABLE_ASCII.search(text):
        kind = _kind(wrong[0])
        raise InvalidReference(f"character {wrong.start() + 1} of the name is {kind}: {wrong[0]!a}")
    if scheme := _SCHEME.match(text):
        raise InvalidReference(
            f"a name has no scheme: drop {excerpt(scheme[0])} in front of the registry"
        )
    # Docker keeps these for the IDs of local images.
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReference(
            "path of 64 hexadecimal digits is an image ID, not a name; "
            "a digest is written name@sha256:..."
        )


def _kind(character: str) -> str:
    if character.isspace():
        return "white space"
    return "a control character" if character.isascii() else "not ASCII"


def _split(text: str) -> tuple[str, str | None, str | None]:
    """Cut a reference into its name, tag and digest; nothing is checked yet."""
    rest, at, digest = text.partition("@")
    # A colon before the last slash is a port's, one before a bracket an IPv6 address's.
    start = max(rest.rfind("/"), rest.rfind("]")) + 1
    last, colon, tag = rest[start:].partition(":")
    return rest[:start] + last, tag if colon else None, digest if at else None


def _split_name(name: str) -> tuple[str, str]:
    """Cut a name into registry and path.

    The first component is a registry only if no path of Docker Hub can begin with it
    (distribution/reference, normalize.go).
    """
    first, slash, rest = name.partition("/")
    if first.startswith("[") or (slash and _reads_as_registry(first)):
        return first, rest
    return DEFAULT_REGISTRY, name


def _reads_as_registry(component: str) -> bool:
    return (
        component == "localhost"
        or "." in component
        or ":" in component
        or component != component.lower()
    )


def _canonical_registry(registry: str) -> str:
    """Check a registry and return its one spelling."""
    match = _REGISTRY.fullmatch(registry)
    if match is None:
        raise InvalidReference(
            f"registry {excerpt(registry)} is not a host name, an IPv4 address or "
            "an IPv6 address in brackets, with a port or without"
        )
    _check_port(match["port"])
    host = _canonical_host(match["host"])
    canonical = host if match["port"] is None else f"{host}:{match['port']}"
    if not _reads_as_registry(canonical):
        raise InvalidReference(
            f"registry {excerpt(registry)} has neither a dot nor a port: "
            f"it would be read as a path of {DEFAULT_REGISTRY}"
        )
    # Host names have no case (RFC 3986, section 3.2.2); but where an upper-case letter is all
    # that tells a registry from a path, it must stay.
    if _reads_as_registry(canonical.lower()):
        canonical = canonical.lower()
    return DEFAULT_REGISTRY if canonical == _DEFAULT_REGISTRY_OF_OLD else canonical


def _check_port(port: str | None) -> None:
    if port is not None and not (_PORT.fullmatch(port) and int(port) <= _MAX_PORT):
        raise InvalidReference(f"registry port {excerpt(port)} is not a number of 1 to {_MAX_PORT}")


def _canonical_host(host: str) -> str:
    if not host.startswith("["):
        if any(len(label) > _MAX_LABEL for label in host.split(".")):
            raise InvalidReference(
                f"registry {excerpt(host)} has more than {_MAX_LABEL} characters between two dots"
            )
        return host
    try:
        address = IPv6Address(host[1:-1])
    except ValueError as error:
        raise InvalidReference(f"registry {excerpt(host)} is not an IPv6 address") from error
    # Docker's grammar leaves these out; and a second spelling of an IPv4 address must not get
    # past a check of the first.
    if address.ipv4_mapped is not None:
        raise InvalidReference(
            f"registry {excerpt(host)} is an IPv4 address: write {address.ipv4_mapped}"
        )
    return f"[{address.compressed}]"


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise InvalidReference(f"path {excerpt(path)} {_fault_of_path(path)}")


def _fault_of_path(path: str) -> str:
    if not path:
        return "is empty: a repository's name follows the registry"
    if path.endswith("/"):
        return "ends with a slash"
    if path.startswith("/") or "//" in path:
        return "has an empty component"
    if _PATH.fullmatch(path.lower()):
        return f"has upper-case letters: write {excerpt(path.lower())}"
    return (
        "has a component that is not lower-case letters and digits, "
        "joined by one '.', one or two '_', or any number of '-'"
    )


def is_tag(text: str) -> bool:
    """Tell whether a text is a tag (distribution-spec, Pulling manifests)."""
    return _TAG.fullmatch(text) is not None


def _check_tag(tag: str) -> None:
    if not is_tag(tag):
        raise InvalidReference(
            f"tag {excerpt(tag)} is not 1 to {_MAX_TAG} letters, digits and '_.-' "
            "that begin with neither '.' nor '-'"
        )


def _parse_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise InvalidReference(str(error)) from error
