"""Who is asked for credentials, in which order.

Knows the sources and that the first one that finds something counts. Must not know how a file or a
helper is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from brolga.auth.config_file import HELPER_TIMEOUT_S, ConfigFile, docker_path, podman_paths
from brolga.auth.config_keys import registry_from_key
from brolga.auth.validation import check
from brolga.errors import CredentialsError, InvalidReference
from brolga.protocol import Credentials
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Chain",
    "ConfigFiles",
    "Environment",
    "Keychain",
    "credentials_from_environment",
    "default_keychain",
]


class Keychain(Protocol):
    """Whoever can be asked for the credentials of a repository."""

    def find(self, repository: Repository) -> Credentials | None:
        """Return the credentials for `repository`, or None for anonymous.

        Raises CredentialsError where a source is broken.
        """


def credentials_from_environment() -> Credentials | None:
    """Return BROLGA_USERNAME and BROLGA_PASSWORD as credentials, or None where one is not set.

    Raises CredentialsError for what no registry could be told.
    """
    username, password = os.environ.get("BROLGA_USERNAME"), os.environ.get("BROLGA_PASSWORD")
    if not (username and password):
        return None
    found = Credentials(username, password, origin="BROLGA_USERNAME")
    return check(found, "the environment (BROLGA_USERNAME, BROLGA_PASSWORD)", "set it without")


@dataclass(frozen=True)
class Environment:
    """BROLGA_USERNAME and BROLGA_PASSWORD, for the registry that BROLGA_REGISTRY names.

    Where that is not set they are for `registry`, a canonical name; "" is every registry.
    """

    registry: str = ""

    def find(self, repository: Repository) -> Credentials | None:
        """Return what the environment holds now, or None. Raises CredentialsError."""
        named = os.environ.get("BROLGA_REGISTRY", "")
        registry = _canonical(named) if named else self.registry
        return None if registry not in {"", repository.registry} else credentials_from_environment()


def _canonical(name: str) -> str:
    """Return the canonical name of a registry. Raises CredentialsError."""
    try:
        return Repository(registry_from_key(name), "any").registry
    except InvalidReference as error:
        raise CredentialsError(
            f"BROLGA_REGISTRY: {error}; write registry.example or localhost:5000"
        ) from error


@dataclass(frozen=True)
class ConfigFiles:
    """Docker's config.json, then podman's auth.json files, and the helpers that they name.

    `paths` are other files to read, None those that the environment names when it is asked. A
    helper has `helper_timeout_s` seconds to answer.
    """

    paths: tuple[Path, ...] | None = None
    helper_timeout_s: float = HELPER_TIMEOUT_S

    def find(self, repository: Repository) -> Credentials | None:
        """Return the first credentials that a file or its helper has for `repository`.

        A file that is not there has none. Raises CredentialsError where a file cannot be read or
        understood, or its helper fails.
        """
        paths = (docker_path(), *podman_paths()) if self.paths is None else self.paths
        for path in paths:
            config = ConfigFile.read(path)
            helper = config.helper(repository.registry, timeout_s=self.helper_timeout_s)
            found = (helper and helper.get()) or config.stored(repository)
            if found:
                return found
        return None


class Chain:
    """Keychains one after the other: the first that finds credentials counts."""

    def __init__(self, *keychains: Keychain) -> None:
        self.keychains = keychains

    def find(self, repository: Repository) -> Credentials | None:
        """Return the first credentials found; the keychains after that are not asked.

        Raises CredentialsError where a source that is asked is broken.
        """
        return next(filter(None, (each.find(repository) for each in self.keychains)), None)


def default_keychain(registry: str = "") -> Keychain:
    """Return what the command uses: the environment, then the files of docker and podman.

    `registry` is the one that the environment's credentials are for, as `Environment` has it.
    """
    return Chain(Environment(registry), ConfigFiles())
