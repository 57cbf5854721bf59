"""Entries of credential files and helpers: their keys, and what credentials may contain.

A key is a registry (`host` or `host:port`), a URL (old docker versions, and Docker Hub),
or podman's `host/namespace/repository`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from brolga.errors import CredentialsError
from brolga.spec.reference import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brolga.protocol import Credentials

# Docker's key of Docker Hub (docker/cli, registry.IndexServer).
_HUB_KEY: Final = "https://index.docker.io/v1/"
_HUB_HOSTS: Final = frozenset({DEFAULT_REGISTRY, "index.docker.io", "registry-1.docker.io"})
_SCHEME: Final = "(?i)https?://"
# "The user-id and password MUST NOT contain any control characters" (RFC 7617, section 2).
_CONTROL: Final = r"[\x00-\x1f\x7f]"
# Surrogates other than those that stand for a byte (PEP 383), which is sent as it is.
_LONE_SURROGATE: Final = "[\ud800-\udc7f\udd00-\udfff]"
# RFC 6749, appendix A.12 and A.17: 1*VSCHAR.
_VSCHARS: Final = "[ -~]*"


def docker_key(registry: str) -> str:
    """Return docker's key for the credentials of a canonical `registry`."""
    return _HUB_KEY if registry == DEFAULT_REGISTRY else registry


def keys_covering(keys: Iterable[str], registry: str, path: str = "") -> list[str]:
    """Return the keys that may hold the credentials of a repository, or registry, the best first.

    The longest path wins (containers-auth.json(5)), then docker's spelling, then podman's. Docker
    Hub has several keys that look like docker's own, such as `…/v1/access-token`.
    """
    ranked = []
    for key in keys:
        host, namespace = _parse_key(key)
        if host == registry.lower() and f"{path}/".startswith(f"{namespace}/" if namespace else ""):
            spelling = (docker_key(registry), registry, key).index(key)
            ranked.append((-len(namespace), spelling, key))
    return [key for *_, key in sorted(ranked, key=lambda rank: rank[:2])]


def registry_from_key(key: str) -> str:
    """Return the registry of a key for a whole registry; any other key unchanged."""
    registry, path = _parse_key(key)
    return key if path else registry


def _parse_key(key: str) -> tuple[str, str]:
    """Return the registry and the path that a key means; the path of a registry is empty."""
    rest = re.sub(_SCHEME, "", key, count=1)
    host, _, path = rest.partition("/")
    # A URL's path is that of an API, and so is one that ends with a slash: docker reads only the
    # host (docker/cli, ConvertToHostname).
    if rest != key or path.endswith("/"):
        path = ""
    host = host.lower()
    return DEFAULT_REGISTRY if host in _HUB_HOSTS else host, path


def describe_problem(credentials: Credentials) -> str:
    """Describe the part of credentials that HTTP cannot carry; or return "".

    The text names the part and never shows it. A line break in a password is usually the end of a
    copied line; in a token it would end the header.
    """
    for name, text in (("username", credentials.username), ("password", credentials.password)):
        if re.search(_CONTROL, text):
            return f"a control character (a line break?) in the {name}"
        if re.search(_LONE_SURROGATE, text):
            return f"half a character (a lone surrogate) in the {name}"
    tokens = ("identity token", credentials.identity_token), ("token", credentials.registry_token)
    for name, text in tokens:
        if not re.fullmatch(_VSCHARS, text):
            return f"a character in the {name} that is not printable ASCII"
    return ""


def check_credentials(credentials: Credentials, place: str, remedy: str) -> Credentials:
    """Return the credentials. Raises CredentialsError, with their `place`, if they are invalid."""
    if problem := describe_problem(credentials):
        raise CredentialsError(f"{place} has {problem}; {remedy}")
    return credentials
