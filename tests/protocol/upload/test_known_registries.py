"""upload/known_registries.py: which registry is which, and how uploads differ there."""

from __future__ import annotations

import pytest

from brolga.protocol import UploadStrategy, identify_registry
from brolga.protocol.upload.known_registries import KNOWN_REGISTRIES


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
        ("registry.example", {"server": "brolga/1.0"}, "brolga"),
        ("registry.example", {"server": "nginx"}, "distribution"),
        ("registry-1.docker.io", {}, "docker hub"),
        # What asks for a token, or a password, names itself: hosts may have names of their own.
        *[
            ("registry.example", {"www-authenticate": challenge}, name)
            for challenge, name in (
                ('Basic realm="https://1.dkr.ecr.x/",service="ecr.amazonaws.com"', "ecr"),
                ('Bearer realm="https://ghcr.io/token",service="ghcr.io"', "ghcr"),
                ('Bearer realm="https://eu-docker.pkg.dev/v2/token"', "gar"),
                ('Bearer realm="https://mine.azurecr.io/oauth2/token"', "acr"),
                ('Bearer realm="https://quay.io/v2/auth"', "quay"),
                ('Bearer realm="https://x/service/token",service="harbor-registry"', "harbor"),
                ('Bearer realm="https://x/jwt/auth",service="container_registry"', "gitlab"),
                ('Bearer realm="https://auth.example/token"', "distribution"),
            )
        ],
        ("localhost", {}, "distribution"),
        ("ghcr.io.example", {}, "distribution"),
        ("notghcr.io", {}, "distribution"),
        ("ghcrxio", {}, "distribution"),
        ("dkr.ecr.amazonaws.com.example", {}, "distribution"),
    ],
)
def test_identify_registry_by_host_or_header(host: str, headers: dict[str, str], name: str) -> None:
    """The first row that fits counts; a host that only looks alike does not fit."""
    assert identify_registry(host, headers).name == name


def test_known_registries_have_evidence_and_unique_names() -> None:
    """A peculiarity has its reason beside it, and each row a name of its own."""
    assert len({profile.name for profile in KNOWN_REGISTRIES}) == len(KNOWN_REGISTRIES)
    for profile in KNOWN_REGISTRIES:
        assert profile.evidence
        assert profile.hosts or profile.header[0]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("distribution", [32, 16, 8, 4, 2, 1]),
        ("quay", [32, 16, 8, 4, 2, 1]),
        ("zot", [32, 16, 8, 4, 2, 1]),
        ("ecr", [16, 8, 5]),
        ("ghcr", [4, 2, 1]),
        ("acr", [4, 2, 1]),
        ("gar", []),
        ("jfrog", []),
    ],
)
def test_known_registries_shrink_chunks_within_their_limits(name: str, sizes: list[int]) -> None:
    """ECR refuses parts under 5 MiB, GHCR chunks over 4; GAR and JFrog take none at all.

    What begins as one stream goes on in these sizes (MiB) after a 413 each.
    """
    strategy = next(profile.strategy for profile in KNOWN_REGISTRIES if profile.name == name)
    assert strategy.chunk_size == 0
    tried = []
    while strategy.can_shrink:
        strategy = strategy.with_smaller_chunks()
        tried.append(strategy.chunk_size >> 20)
    assert tried == sizes


@pytest.mark.parametrize(
    ("wish", "chunk", "put_max"),
    [
        ("auto", 0, 9),
        ("streamed", 0, 0),
        ("put", 0, 1 << 62),
        ("chunked", 7, 0),
        ("chunked:5", 5, 0),
    ],
)
def test_override_returns_the_strategy_of_a_wish(wish: str, chunk: int, put_max: int) -> None:
    """What they do not say stays as suits the registry."""
    strategy = UploadStrategy(
        fallback_chunk_size=7, monolithic_max=9, final_chunk_in_put=True
    ).override(wish)
    assert (strategy.chunk_size, strategy.monolithic_max, strategy.final_chunk_in_put) == (
        chunk,
        put_max,
        True,
    )


def test_override_chunked_ignores_that_a_registry_takes_no_chunks() -> None:
    """The table may be wrong, or old."""
    assert UploadStrategy(fallback_chunk_size=0).override("chunked").chunk_size == 32 << 20


@pytest.mark.parametrize(
    "wish", ["", "Auto", "streamed:1", "put:1", "chunked:", "chunked:0", "chunked:-1", "chunked:1M"]
)
def test_override_raises_for_an_invalid_wish(wish: str) -> None:
    """It says what there is."""
    with pytest.raises(ValueError, match="is not an upload style: auto, streamed, put or chunked"):
        UploadStrategy().override(wish)


@pytest.mark.parametrize(("size", "smaller"), [(1 << 30, 32), (16 << 20, 16), (0, 8)])
def test_cap_chunk_limits_the_fallback_size(size: int, smaller: int) -> None:
    """The promise of memory holds for them too; less than 8 MiB would be many requests."""
    assert UploadStrategy().cap_chunk(size).fallback_chunk_size == smaller << 20
    assert UploadStrategy(fallback_chunk_size=0).cap_chunk(size).fallback_chunk_size == 0
    assert (
        UploadStrategy(fallback_chunk_size=4 << 20).cap_chunk(size).fallback_chunk_size == 4 << 20
    )


@pytest.mark.parametrize(
    ("strategy", "size", "chunk", "smallest"),
    [
        (UploadStrategy(), 0, 0, 1 << 20),
        (UploadStrategy(), 2 << 20, 0, 2 << 20),  # one stream stays one
        (UploadStrategy(chunk_size=1 << 20), 2 << 20, 2 << 20, 2 << 20),
        (UploadStrategy(chunk_size=4 << 20), 2 << 20, 4 << 20, 2 << 20),
        (UploadStrategy(chunk_size=5), 0, 5, 1 << 20),  # the user's word
    ],
)
def test_with_chunk_limits_raises_both_sizes(
    strategy: UploadStrategy, size: int, chunk: int, smallest: int
) -> None:
    """OCI-Chunk-Min-Length holds from the first chunk on, and after each 413."""
    wanted = strategy.with_chunk_limits(size, 0)
    assert (wanted.chunk_size, wanted.min_chunk_size) == (chunk, smallest)


@pytest.mark.parametrize(
    ("strategy", "limits", "chunk", "smallest", "monolithic"),
    [
        (UploadStrategy(), (0, 5 << 20), 5 << 20, 1 << 20, 0),
        (UploadStrategy(), (0, 5), 5, 5, 0),
        (UploadStrategy(), (0, 1 << 40), 32 << 20, 1 << 20, 0),
        (UploadStrategy(fallback_chunk_size=0), (0, 1 << 40), 32 << 20, 1 << 20, 0),
        (UploadStrategy(chunk_size=4), (0, 5), 4, 5, 0),
        (UploadStrategy(chunk_size=6), (0, 5), 5, 5, 0),
        (UploadStrategy(chunk_size=4), (7, 5), 5, 5, 0),  # they contradict one another
        (UploadStrategy(monolithic_max=64), (0, 5), 5, 5, 5),
        (UploadStrategy(monolithic_max=3), (0, 5), 5, 5, 3),
    ],
)
def test_with_chunk_limits_lowers_all_sizes(
    strategy: UploadStrategy, limits: tuple[int, int], chunk: int, smallest: int, monolithic: int
) -> None:
    """OCI-Chunk-Max-Length holds for a stream, which goes in chunks then, and for a PUT of all."""
    wanted = strategy.with_chunk_limits(*limits)
    assert (wanted.chunk_size, wanted.min_chunk_size) == (chunk, smallest)
    assert wanted.monolithic_max == monolithic
    assert wanted.with_chunk_limits(*limits) == wanted
