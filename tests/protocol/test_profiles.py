"""wire/profiles.py: which registry is which, and what is done otherwise there."""

from __future__ import annotations

import pytest

from brolga.protocol import UploadStrategy, profile_of
from brolga.protocol.profiles import PROFILES


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
def test_chunks_stay_within_what_a_registry_takes(name: str, sizes: list[int]) -> None:
    """ECR refuses parts under 5 MiB, GHCR chunks over 4; GAR and JFrog take none at all.

    What begins as one stream goes on in these sizes (MiB) after a 413 each.
    """
    style = next(profile.style for profile in PROFILES if profile.name == name)
    assert style.chunk == 0
    tried = []
    while style.can_shrink:
        style = style.chunked()
        tried.append(style.chunk >> 20)
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
def test_a_user_may_wish_for_another_style(wish: str, chunk: int, put_max: int) -> None:
    """What they do not say stays as suits the registry."""
    style = UploadStrategy(smaller=7, monolithic_max=9, final_chunk_in_put=True).override(wish)
    assert (style.chunk, style.monolithic_max, style.final_chunk_in_put) == (chunk, put_max, True)


def test_who_wants_chunks_gets_them_from_whoever_takes_none() -> None:
    """The table may be wrong, or old."""
    assert UploadStrategy(smaller=0).override("chunked").chunk == 32 << 20


@pytest.mark.parametrize(
    "wish", ["", "Auto", "streamed:1", "put:1", "chunked:", "chunked:0", "chunked:-1", "chunked:1M"]
)
def test_what_is_not_a_style_is_refused(wish: str) -> None:
    """It says what there is."""
    with pytest.raises(ValueError, match="is not an upload style: auto, streamed, put or chunked"):
        UploadStrategy().override(wish)


@pytest.mark.parametrize(("size", "smaller"), [(1 << 30, 32), (16 << 20, 16), (0, 8)])
def test_chunks_after_a_413_lie_in_the_window(size: int, smaller: int) -> None:
    """The promise of memory holds for them too; less than 8 MiB would be many requests."""
    assert UploadStrategy().cap_chunk(size).smaller == smaller << 20
    assert UploadStrategy(smaller=0).cap_chunk(size).smaller == 0
    assert UploadStrategy(smaller=4 << 20).cap_chunk(size).smaller == 4 << 20


@pytest.mark.parametrize(
    ("style", "size", "chunk", "smallest"),
    [
        (UploadStrategy(), 0, 0, 1 << 20),
        (UploadStrategy(), 2 << 20, 0, 2 << 20),  # one stream stays one
        (UploadStrategy(chunk=1 << 20), 2 << 20, 2 << 20, 2 << 20),
        (UploadStrategy(chunk=4 << 20), 2 << 20, 4 << 20, 2 << 20),
        (UploadStrategy(chunk=5), 0, 5, 1 << 20),  # the user's word
    ],
)
def test_the_registry_s_wish_for_larger_chunks_is_kept(
    style: UploadStrategy, size: int, chunk: int, smallest: int
) -> None:
    """OCI-Chunk-Min-Length holds from the first chunk on, and after each 413."""
    wanted = style.at_least(size)
    assert (wanted.chunk, wanted.smallest) == (chunk, smallest)
