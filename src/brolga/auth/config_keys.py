"""The names of registries in files of credentials and in credential helpers.

Knows the three kinds of keys: a registry (`host` or `host:port`), a URL (docker of old, and Docker
Hub to this day), and podman's `host/namespace/repository`. Must not know what they lead to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from brolga.spec.reference import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["covering", "docker_key", "of_registry", "registry_from_key"]

# What docker calls Docker Hub wherever it keeps credentials (docker/cli, registry.IndexServer).
_HUB_KEY: Final = "https://index.docker.io/v1/"
_HUB_HOSTS: Final = frozenset({DEFAULT_REGISTRY, "index.docker.io", "registry-1.docker.io"})
_SCHEME: Final = re.compile("https?://", re.IGNORECASE)


def docker_key(registry: str) -> str:
    """Return the key under which docker keeps the credentials of a canonical `registry`."""
    return _HUB_KEY if registry == DEFAULT_REGISTRY else registry


def of_registry(keys: Iterable[str], registry: str) -> list[str]:
    """Return those of `keys` that mean the whole registry, the one that docker writes first."""
    return covering(keys, registry, "")


def covering(keys: Iterable[str], registry: str, path: str) -> list[str]:
    """Return those of `keys` that a repository's credentials may be under, the best first.

    The longest path wins (containers-auth.json(5)); then the spelling that docker writes, then
    podman's. Docker Hub has more than one key that reads like docker's own: `…/v1/access-token`.
    """
    ranked = []
    for key in keys:
        host, namespace = _meaning(key)
        if host == registry.lower() and f"{path}/".startswith(f"{namespace}/" if namespace else ""):
            spelling = (docker_key(registry), registry, key).index(key)
            ranked.append((-len(namespace), spelling, key))
    return [key for *_, key in sorted(ranked, key=lambda rank: rank[:2])]


def registry_from_key(key: str) -> str:
    """Return the registry that a key for a whole registry means; any other key as it is."""
    registry, path = _meaning(key)
    return key if path else registry


def _meaning(key: str) -> tuple[str, str]:
    """Return the registry that a key means, and the path in it; empty for the whole registry."""
    rest = _SCHEME.sub("", key, count=1)
    host, _, path = rest.partition("/")
    # A URL's path is that of an API, and so is one that ends with a slash: docker reads the host
    # alone (docker/cli, ConvertToHostname).
    if rest != key or path.endswith("/"):
        path = ""
    host = host.lower()
    return DEFAULT_REGISTRY if host in _HUB_HOSTS else host, path
