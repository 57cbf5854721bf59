"""Keychains: sources of credentials, and the order in which they are used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from brolga.auth.config_file import ConfigFile, docker_path, podman_paths
from brolga.auth.entries import check_credentials, registry_from_key
from brolga.errors import CredentialsError, InvalidReference
from brolga.protocol import Credentials
from brolga.spec.reference import Repository
from brolga.spec.value import Value

if TYPE_CHECKING:
    from brolga.auth.config_file import StrPath


class Keychain(Protocol):
    """A source of credentials."""

    def find(self, repository: Repository) -> Credentials | None:
        """Return the credentials for `repository`, or None for anonymous access.

        Raises CredentialsError if a source fails.
        """


class Environment(Value):
    """BROLGA_USERNAME and BROLGA_PASSWORD, for the registry that BROLGA_REGISTRY names.

    Without that variable they are for `registry`, a canonical name; "" means every registry.
    """

    registry: str = ""

    def find(self, repository: Repository) -> Credentials | None:
        """Return the credentials that are set now, or None. Raises CredentialsError."""
        registry = self.registry
        if name := os.environ.get("BROLGA_REGISTRY"):
            try:
                registry = Repository(registry_from_key(name), "any").registry
            except InvalidReference as error:
                raise CredentialsError(
                    f"BROLGA_REGISTRY: {error}; write registry.example or localhost:5000"
                ) from error
        username, password = os.environ.get("BROLGA_USERNAME"), os.environ.get("BROLGA_PASSWORD")
        if not (username and password) or registry not in {"", repository.registry}:
            return None
        credentials = Credentials(username, password, source="BROLGA_USERNAME")
        return check_credentials(
            credentials, "the environment (BROLGA_USERNAME, BROLGA_PASSWORD)", "set it without"
        )


class ConfigFiles(Value):
    """Docker's config.json, then podman's auth.json files, and the helpers that they name.

    `paths` None means the files that the environment names at each call.
    """

    paths: tuple[StrPath, ...] | None = None

    def find(self, repository: Repository) -> Credentials | None:
        """Return the first credentials that a file or its helper has for `repository`, or None.

        Missing files are skipped. Raises CredentialsError if a file is invalid or a helper fails.
        """
        paths = (docker_path(), *podman_paths()) if self.paths is None else self.paths
        for path in paths:
            config = ConfigFile.read(path)
            helper = config.helper(repository.registry)
            if credentials := (helper and helper.get()) or config.stored(repository):
                return credentials
        return None


class Chain:
    """Several keychains; the first that finds credentials wins."""

    def __init__(self, *keychains: Keychain) -> None:
        self.keychains = keychains

    def find(self, repository: Repository) -> Credentials | None:
        """Return the first credentials, or None; later keychains are not used.

        Raises CredentialsError if a source fails.
        """
        return next(filter(None, (keychain.find(repository) for keychain in self.keychains)), None)


def default_keychain(registry: str = "") -> Keychain:
    """Return the keychain of the command: the environment, then docker's and podman's files.

    `registry` limits the environment's credentials, as in `Environment`.
    """
    return Chain(Environment(registry), ConfigFiles())
