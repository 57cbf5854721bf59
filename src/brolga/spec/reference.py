"""References: the names of repositories and manifests (distribution-spec, Pulling manifests).

Short names are read by Docker's rules. The values check themselves on every construction and hold
the canonical spelling, so equal names are equal values. A host is judged by its text, never by DNS.
An error shows only the wrong part, since the rest may contain a pasted password.
"""

from __future__ import annotations

import functools
import re
from typing import Final, Self

from brolga.errors import InvalidDigest, InvalidReference, excerpt
from brolga.spec.digest import MAX_DIGEST_LENGTH, Digest
from brolga.spec.value import Value, field

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"

# Docker Hub has an older name, and its API a third one.
_OLD_DEFAULT_REGISTRY: Final = "index.docker.io"
_DEFAULT_REGISTRY_API: Final = "registry-1.docker.io"

# "Many clients impose a limit of 255 characters on the length of the concatenation of the
# registry hostname (and optional port), `/`, and `<name>`" (distribution-spec, Pulling manifests).
_MAX_NAME: Final = 255
_MAX_TAG: Final = 128
_MAX_REFERENCE: Final = _MAX_NAME + len(":") + _MAX_TAG + len("@") + MAX_DIGEST_LENGTH
_MAX_LABEL: Final = 63  # RFC 1035, section 2.3.4; a longer one makes the resolver raise
_MAX_PORT: Final = 65535

# See digest.py for the choice of classes and quantifiers.
_LABEL: Final = "[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*"
_REGISTRY: Final = rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]++\])(?::(?P<port>[0-9]*+))?"
_PORT: Final = "[1-9][0-9]{0,4}"
_COMPONENT: Final = r"[a-z0-9]++(?:(?:\.|__?+|-++)[a-z0-9]++)*"
_PATH: Final = f"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG: Final = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}+"
_IMAGE_ID: Final = "[0-9a-f]{64}"
_SCHEME: Final = "[A-Za-z][A-Za-z0-9+.-]*+://"
_NOT_PRINTABLE_ASCII: Final = "[^!-~]"


class Repository(Value, order=True):
    """A registry (`host` or `host:port`) and the path of a repository in it.

    Holds the canonical spelling: the host in lower case, Docker Hub as `docker.io` and its
    one-word paths under `library/`. Raises InvalidReference (distribution-spec, Pulling manifests).
    """

    registry: str
    path: str

    def __post_init__(self) -> None:
        """Check both parts and make them canonical."""
        # The length first, to bound the text that the expressions see.
        _check_length(max(len(self.registry), len(self.path)))
        registry = _canonical_registry(self.registry)
        path = self.path
        if not re.fullmatch(_PATH, path):
            raise _invalid_name(f"path {excerpt(path)} {_describe_path_error(path)}")
        if registry == DEFAULT_REGISTRY and "/" not in path:
            path = f"library/{path}"
        _check_length(len(registry) + len("/") + len(path))
        object.__setattr__(self, "registry", registry)
        object.__setattr__(self, "path", path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a name without tag or digest by Docker's rules. Raises InvalidReference."""
        _check_text(text)
        name, tag, digest = _split(text)
        if tag is not None or digest is not None:
            raise _invalid_name("a repository is wanted here, without tag or digest")
        return cls(*_split_name(name))

    @property
    def host(self) -> str:
        """The registry without its port; an IPv6 address keeps its brackets."""
        if self.registry.endswith("]"):
            return self.registry
        return self.registry.rpartition(":")[0] or self.registry

    @property
    def api_host(self) -> str:
        """The `host` or `host:port` of the registry's API; Docker Hub's differs."""
        return _DEFAULT_REGISTRY_API if self.registry == DEFAULT_REGISTRY else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the name can only be this machine: localhost (RFC 6761), 127.0.0.0/8, [::1]."""
        host = self.host
        if host in {"localhost", "[::1]"} or host.endswith(".localhost"):
            return True
        from ipaddress import IPv4Address

        try:
            return IPv4Address(host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """Return the canonical name, which parses back to an equal repository."""
        return f"{self.registry}/{self.path}"


@functools.total_ordering
class Reference(Value):
    """A manifest in a repository, by tag, by digest, or by both.

    With neither, the tag is `latest` and `tag_is_default` is true; comparisons ignore that flag.
    Raises InvalidReference (distribution-spec, Pulling manifests).
    """

    repository: Repository
    tag: str | None = None
    digest: Digest | None = None
    tag_is_default: bool = field(init=False, default=False, compare=False)

    def __post_init__(self) -> None:
        """Check the tag, or set the default one."""
        if self.tag is not None:
            if not is_tag(self.tag):
                raise InvalidReference(
                    f"tag {excerpt(self.tag)} is not 1 to {_MAX_TAG} letters, digits and '_.-' "
                    "that begin with neither '.' nor '-'"
                )
        elif self.digest is None:
            object.__setattr__(self, "tag", DEFAULT_TAG)
            object.__setattr__(self, "tag_is_default", True)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `name[:tag][@digest]` by Docker's rules. Raises InvalidReference."""
        _check_text(text)
        name, tag, digest_text = _split(text)
        # The digest first: in `user:password@host` it is the wrong part, and not a secret.
        try:
            digest = None if digest_text is None else Digest.parse(digest_text)
        except InvalidDigest as error:
            raise InvalidReference(str(error)) from error
        return cls(Repository(*_split_name(name)), tag, digest)

    @property
    def identifier(self) -> str:
        """The end of a manifest's URL: the digest, else the tag."""
        return str(self.digest or self.tag)

    def __str__(self) -> str:
        """Return the canonical name, which parses back to an equal reference."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.repository}{tag}{digest}"

    def __lt__(self, other: object) -> bool:
        """Order by repository, then tag, then digest; None comes first."""
        if not isinstance(other, Reference):
            return NotImplemented
        mine, theirs = (
            (name.repository, name.tag or "", str(name.digest or "")) for name in (self, other)
        )
        return mine < theirs


def _invalid_name(message: str) -> InvalidReference:
    hint = "a repository is written like registry.example/team/app"
    return InvalidReference(message, hint=hint)


def _check_length(length: int) -> None:
    if length > _MAX_NAME:
        raise _invalid_name(
            f"repository name of {length} characters: registry, '/' and path "
            f"have at most {_MAX_NAME} together"
        )


def _check_text(text: str) -> None:
    """Raise InvalidReference for text that no part of a name can have."""
    if not text:
        raise _invalid_name("the name is empty")
    if len(text) > _MAX_REFERENCE:
        raise _invalid_name(
            f"name of {len(text)} characters: a reference has at most {_MAX_REFERENCE}"
        )
    if wrong := re.search(_NOT_PRINTABLE_ASCII, text):
        character = wrong[0]
        kind = "a control character" if character.isascii() else "not ASCII"
        if character.isspace():
            kind = "white space"
        raise _invalid_name(f"character {wrong.start() + 1} of the name is {kind}: {character!a}")
    if scheme := re.match(_SCHEME, text):
        raise _invalid_name(
            f"a name has no scheme: drop {excerpt(scheme[0])} in front of the registry"
        )
    # Docker reserves these for the IDs of local images.
    if re.fullmatch(_IMAGE_ID, text):
        raise _invalid_name(
            "path of 64 hexadecimal digits is an image ID, not a name; "
            "a digest is written name@sha256:..."
        )


def _split(text: str) -> tuple[str, str | None, str | None]:
    """Split a reference into name, tag and digest, without checks."""
    rest, at, digest = text.partition("@")
    # A colon before the last slash is a port's, one before a bracket an IPv6 address's.
    start = max(rest.rfind("/"), rest.rfind("]")) + 1
    last, colon, tag = rest[start:].partition(":")
    return rest[:start] + last, tag if colon else None, digest if at else None


def _split_name(name: str) -> tuple[str, str]:
    """Split a name into registry and path.

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
    """Check a registry and return its canonical spelling."""
    match = re.fullmatch(_REGISTRY, registry)
    if match is None:
        raise InvalidReference(
            f"registry {excerpt(registry)} is not a host name, an IPv4 address or "
            "an IPv6 address in brackets, with a port or without"
        )
    port = match["port"]
    if port is not None and not (re.fullmatch(_PORT, port) and int(port) <= _MAX_PORT):
        raise InvalidReference(f"registry port {excerpt(port)} is not a number of 1 to {_MAX_PORT}")
    host = _canonical_host(match["host"])
    canonical = host if port is None else f"{host}:{port}"
    if not _reads_as_registry(canonical):
        raise InvalidReference(
            f"registry {excerpt(registry)} has neither a dot nor a port: "
            f"it would be read as a path of {DEFAULT_REGISTRY}"
        )
    # Host names ignore case (RFC 3986, section 3.2.2). But if only an upper-case letter
    # distinguishes the registry from a path, it must stay.
    if _reads_as_registry(canonical.lower()):
        canonical = canonical.lower()
    return DEFAULT_REGISTRY if canonical == _OLD_DEFAULT_REGISTRY else canonical


def _canonical_host(host: str) -> str:
    if not host.startswith("["):
        if any(len(label) > _MAX_LABEL for label in host.split(".")):
            raise InvalidReference(
                f"registry {excerpt(host)} has more than {_MAX_LABEL} characters between two dots"
            )
        return host
    from ipaddress import IPv6Address

    try:
        address = IPv6Address(host[1:-1])
    except ValueError as error:
        raise InvalidReference(f"registry {excerpt(host)} is not an IPv6 address") from error
    # Docker's grammar excludes these; and a second spelling of an IPv4 address must not pass a
    # check of the first.
    if address.ipv4_mapped is not None:
        raise InvalidReference(
            f"registry {excerpt(host)} is an IPv4 address: write {address.ipv4_mapped}"
        )
    return f"[{address.compressed}]"


def _describe_path_error(path: str) -> str:
    if not path:
        return "is empty: a repository's name follows the registry"
    if path.endswith("/"):
        return "ends with a slash"
    if path.startswith("/") or "//" in path:
        return "has an empty component"
    if re.fullmatch(_PATH, path.lower()):
        return f"has upper-case letters: write {excerpt(path.lower())}"
    return (
        "has a component that is not lower-case letters and digits, "
        "joined by one '.', one or two '_', or any number of '-'"
    )


def is_tag(text: str) -> bool:
    """Return whether a text is a valid tag (distribution-spec, Pulling manifests)."""
    return re.fullmatch(_TAG, text) is not None
