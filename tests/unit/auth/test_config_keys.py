"""keys.py: which key of a file means which registry."""

from __future__ import annotations

import pytest

from brolga.auth.config_keys import covering, docker_key, of_registry


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("docker.io", "https://index.docker.io/v1/"),
        ("registry.example", "registry.example"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_docker_writes_the_registry_but_for_its_own(registry: str, key: str) -> None:
    """Docker Hub's key is a URL of old."""
    assert docker_key(registry) == key


@pytest.mark.parametrize(
    "key",
    [
        "registry.example",
        "Registry.Example",
        "https://registry.example",
        "http://registry.example",
        "HTTPS://registry.example/v1/",
        "https://registry.example/v2/",
        "https://registry.example/any/path",
        "registry.example/v1/",
        "registry.example/",
    ],
)
def test_each_spelling_of_a_registry(key: str) -> None:
    """'https://host/v1/'-style URLs of old mean the host."""
    assert of_registry([key], "registry.example") == [key]
    assert covering([key], "registry.example", "team/app") == [key]


@pytest.mark.parametrize(
    "key",
    [
        "registry.example:443",
        "registry.example.org",
        "registry.example.org/registry.example",
        "https://registry.example.org/registry.example/",
        "example",
        "*.example",
        "registry.example/other",
        "registry.example/tea",
        "registry.example/team/app/part",
        "registry.example/team/application",
        "user@registry.example",
        "",
        "/",
        "https://",
    ],
)
def test_what_means_something_else(key: str) -> None:
    """A port, another host, another path, half a component: none of them covers team/app."""
    assert covering([key], "registry.example", "team/app") == []


def test_the_longest_path_wins() -> None:
    """containers-auth.json(5): the path is matched in its hierarchical order."""
    best_first = [
        "registry.example/team/sub/app",
        "registry.example/team/sub",
        "registry.example/team",
        "registry.example",
    ]
    assert covering(reversed(best_first), "registry.example", "team/sub/app") == best_first
    assert of_registry(best_first, "registry.example") == ["registry.example"]


def test_what_docker_writes_comes_before_what_reads_like_it() -> None:
    """Docker keeps an access token and a refresh token under keys that read like Hub's own."""
    keys = [
        "https://index.docker.io/v1/access-token",
        "index.docker.io",
        "docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1/refresh-token",
    ]
    assert of_registry(keys, "docker.io") == [
        "https://index.docker.io/v1/",
        "docker.io",
        "https://index.docker.io/v1/access-token",
        "index.docker.io",
        "https://index.docker.io/v1/refresh-token",
    ]


def test_podmans_namespace_on_docker_hub() -> None:
    """docker.io/NAMESPACE is a key of podman's."""
    keys = ["docker.io", "docker.io/library/python", "docker.io/other"]
    assert covering(keys, "docker.io", "library/python") == [
        "docker.io/library/python",
        "docker.io",
    ]


def test_a_registry_with_a_letter_that_must_stay() -> None:
    """Where an upper-case letter is all that tells a registry from a path, case is no matter."""
    assert of_registry(["Registry"], "Registry") == ["Registry"]
