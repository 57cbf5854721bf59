"""auth/entries.py: the keys of registries, and valid credentials."""

from __future__ import annotations

import pytest

from brolga.auth.entries import (
    check_credentials,
    describe_problem,
    docker_key,
    keys_covering,
)
from brolga.errors import CredentialsError
from brolga.protocol import Credentials


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("docker.io", "https://index.docker.io/v1/"),
        ("registry.example", "registry.example"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_docker_key(registry: str, key: str) -> None:
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
def test_keys_covering_accepts_each_spelling(key: str) -> None:
    """'https://host/v1/'-style URLs of old mean the host."""
    assert keys_covering([key], "registry.example") == [key]
    assert keys_covering([key], "registry.example", "team/app") == [key]


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
def test_keys_covering_ignores_other_keys(key: str) -> None:
    """A port, another host, another path, half a component: none of them covers team/app."""
    assert keys_covering([key], "registry.example", "team/app") == []


def test_keys_covering_prefers_longest_path() -> None:
    """containers-auth.json(5): the path is matched in its hierarchical order."""
    best_first = [
        "registry.example/team/sub/app",
        "registry.example/team/sub",
        "registry.example/team",
        "registry.example",
    ]
    assert keys_covering(reversed(best_first), "registry.example", "team/sub/app") == best_first
    assert keys_covering(best_first, "registry.example") == ["registry.example"]


def test_keys_covering_prefers_spelling_of_docker() -> None:
    """Docker keeps an access token and a refresh token under keys that read like Hub's own."""
    keys = [
        "https://index.docker.io/v1/access-token",
        "index.docker.io",
        "docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1/refresh-token",
    ]
    assert keys_covering(keys, "docker.io") == [
        "https://index.docker.io/v1/",
        "docker.io",
        "https://index.docker.io/v1/access-token",
        "index.docker.io",
        "https://index.docker.io/v1/refresh-token",
    ]


def test_keys_covering_namespace_on_docker_hub() -> None:
    """docker.io/NAMESPACE is a key of podman's."""
    keys = ["docker.io", "docker.io/library/python", "docker.io/other"]
    assert keys_covering(keys, "docker.io", "library/python") == [
        "docker.io/library/python",
        "docker.io",
    ]


def test_keys_covering_with_upper_case_registry() -> None:
    """If only an upper-case letter tells a registry from a path, case is ignored."""
    assert keys_covering(["Registry"], "Registry") == ["Registry"]


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(),
        Credentials("someone", " secret: with \u00e4 and \udcff "),
        Credentials("someone", "", "a.b-c~d+e/f="),
        Credentials("", "", "", "a b"),
    ],
)
def test_check_credentials_accepts_valid_ones(credentials: Credentials) -> None:
    """Text of any language, and the bytes beside UTF-8 that the environment may hold (PEP 383)."""
    assert describe_problem(credentials) == ""
    assert check_credentials(credentials, "here", "do that") is credentials


@pytest.mark.parametrize(
    ("credentials", "what"),
    [
        (Credentials("a\nb", "secret"), "a control character (a line break?) in the username"),
        (Credentials("a", "secret\n"), "a control character (a line break?) in the password"),
        (Credentials("a", "sec\x7fret"), "a control character (a line break?) in the password"),
        (Credentials("a", "secret\0"), "a control character (a line break?) in the password"),
        (Credentials("a\ud800", "x"), "half a character (a lone surrogate) in the username"),
        (Credentials("a", "\udfff"), "half a character (a lone surrogate) in the password"),
        (
            Credentials("", "", "x\r\n"),
            "a character in the identity token that is not printable ASCII",
        ),
        (
            Credentials("", "", "", "x\u00e4"),
            "a character in the token that is not printable ASCII",
        ),
    ],
)
def test_check_credentials_rejects_control_characters_and_surrogates(
    credentials: Credentials, what: str
) -> None:
    """RFC 7617, section 2: no control characters; RFC 6749, appendix A: tokens are printable ASCII.

    The message says which part, and never what it is.
    """
    assert describe_problem(credentials) == what
    with pytest.raises(CredentialsError) as caught:
        check_credentials(credentials, "the file", "log in again")
    assert str(caught.value) == f"the file has {what}; log in again"
