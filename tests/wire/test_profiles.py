"""wire/profiles.py: which registry is which, and what is done otherwise there."""

from __future__ import annotations

import pytest

from brolga.wire import profile_of
from brolga.wire.profiles import PROFILES


@pytest.mark.parametrize(
    ("host", "headers", "name"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", {}, "ecr"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", {}, "ecr"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", {}, "ecr"),
        ("public.ecr.aws", {}, "ecr"),
        ("ghcr.io", {}, "ghcr"),
        ("gcr.io", {}, "gar"),
        ("eu.gcr.io", {}, "gar"),
        ("europe-docker.pkg.dev", {}, "gar"),
        ("mine.azurecr.io", {}, "acr"),
        ("mine.azurecr.cn", {}, "acr"),
        ("mine.jfrog.io", {}, "jfrog"),
        ("registry.example", {"x-artifactory-id": "abc"}, "jfrog"),
        ("quay.io", {}, "quay"),
        ("registry.example", {"server": "Zot/2.1"}, "zot"),
        ("registry.example", {"server": "nginx"}, "distribution"),
        (
            "registry-1.docker.io",
            {"docker-distribution-api-version": "registry/2.0"},
            "distribution",
        ),
        ("localhost", {}, "distribution"),
        ("ghcr.io.example", {}, "distribution"),
        ("notghcr.io", {}, "distribution"),
        ("ghcrxio", {}, "distribution"),
        ("dkr.ecr.amazonaws.com.example", {}, "distribution"),
    ],
)
def test_a_registry_is_known_by_its_host_or_by_what_it_shows(
    host: str, headers: dict[str, str], name: str
) -> None:
    """The first row that fits counts; a host that only looks alike does not fit."""
    assert profile_of(host, headers).name == name


def test_each_row_says_why() -> None:
    """A peculiarity has its reason beside it, and each row a name of its own."""
    assert len({profile.name for profile in PROFILES}) == len(PROFILES)
    for profile in PROFILES:
        assert profile.why
        assert profile.hosts or profile.shows[0]
