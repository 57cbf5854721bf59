"""The profiles of hosted registries, and all profiles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from tests.faults.conftest import NAME, Raw, chunk, emulate, session_bytes
from tests.images import digest_of

from brolga.registry.server import running
from brolga.testing.faults import Answer, Cut, FaultPlan
from brolga.testing.injector import Injector
from brolga.testing.middleware import fault_middleware
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.testing.plugin import BrolgaRegistry

DATA = b"0123456789"


@pytest.mark.parametrize(
    "brolga_registry", [name for name in PROFILES if name != "no-chunked"], indirect=True
)
def test_every_profile_accepts_streamed_patch(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """POST, one PATCH without length or range, an empty PUT: the most widely accepted form."""
    location = raw.start()
    patched = raw.patch(location, [DATA[:4], DATA[4:]])
    assert patched.status in (200, 201, 202, 204)
    location = raw.resolve(location, patched)
    assert raw.finish(location, DATA, Content_Length=0).status == 201
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}


@pytest.mark.parametrize("brolga_registry", PROFILES, indirect=True)
def test_every_profile_accepts_one_put(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """POST, then PUT with all bytes (distribution-spec, end-4a and end-6)."""
    assert raw.push(DATA) == digest_of(DATA)


@pytest.mark.parametrize("brolga_registry", PROFILES, indirect=True)
def test_every_profile_has_evidence(brolga_registry: BrolgaRegistry) -> None:
    """A row of the table says what is known; no registry's host is in it."""
    assert brolga_registry.profile is not None
    assert len(brolga_registry.profile.why) > 40
    assert "://" not in brolga_registry.profile.why


def test_ghcr_has_another_session_path(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A client must not build a session's path itself: it is `/blobs/upload/…`."""
    emulate(brolga_registry, "ghcr")
    path = urlsplit(raw.start()).path
    assert path.startswith(f"/v2/{NAME}/blobs/upload/")
    assert raw("GET", path).status == 204
    assert raw("GET", path.replace("/upload/", "/uploads/")).status == 404


def test_ghcr_bounds_chunks(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A longer chunk gives 416 (oras-project/rust-oci-client#35); streams and PUT are fine."""
    assert PROFILES["ghcr"].chunk_max == 4 << 20
    emulate(brolga_registry, "ghcr", chunk_max=4)
    location = raw.start()
    assert chunk(raw, location, 0, DATA[:5]).status == 416
    assert chunk(raw, location, 0, DATA[:4]).range == "0-3"
    assert raw.patch(location, [DATA[4:]]).range == "0-9"


@pytest.mark.parametrize("streamed", [False, True])
def test_ghcr_bounds_layers(brolga_registry: BrolgaRegistry, raw: Raw, streamed: bool) -> None:
    """10 GB a layer, however the bytes come."""
    emulate(brolga_registry, "ghcr", blob_max=8)
    location = raw.start()
    assert raw.patch(location, [DATA[:3]]).status == 202
    reply = raw.patch(location, [DATA[3:]] if streamed else DATA[3:])
    assert reply.status == 202 if len(DATA[3:]) + 3 <= 8 else reply.status == 413
    assert raw.finish(location, DATA, DATA[3:]).status == 413


def test_ghcr_ends_session_after_ten_minutes(tmp_path: Path) -> None:
    """10 minutes an upload."""
    now = [0.0]
    injector = Injector(None, "ghcr", clock=lambda: now[0])
    with running(tmp_path, middleware=fault_middleware(injector)) as address:
        raw = Raw(address)
        location = raw.start()
        now[0] = 600
        assert raw.patch(location, DATA).status == 202
        now[0] = 601
        assert raw.finish(location, DATA).status == 404


def test_ghcr_has_no_referrers_api(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """No Referrers API: 404."""
    emulate(brolga_registry, "ghcr")
    assert raw("GET", f"referrers/{digest_of(DATA)}").status == 404


def test_ecr_freezes_range(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """PATCH is 201, and Range stays at the first chunk (aws/containers-roadmap#2831)."""
    emulate(brolga_registry, "ecr", chunk_min=3)
    location = raw.start()
    for start, stop in ((0, 4), (4, 8)):
        reply = chunk(raw, location, start, DATA[start:stop])
        assert (reply.status, reply.range) == (201, "0-3")
    # The last one in the PUT.
    assert raw.finish(location, DATA, DATA[8:], Content_Range="8-9").status == 201
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}


def test_ecr_requires_last_chunk_in_put(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """After several PATCHes an empty PUT is refused; after one it is taken."""
    emulate(brolga_registry, "ecr", chunk_min=0)
    location = raw.start()
    for start in (0, 5):
        assert chunk(raw, location, start, DATA[start : start + 5]).status == 201
    assert raw.finish(location, DATA, Content_Length=0).status == 400


def test_ecr_bounds_chunks(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Parts of 5 MiB or more except the last, 20 MiB at most."""
    ecr = PROFILES["ecr"]
    assert (ecr.chunk_min, ecr.chunk_max) == (5 << 20, 20 << 20)
    emulate(brolga_registry, "ecr", chunk_min=4, chunk_max=6)
    location = raw.start()
    assert chunk(raw, location, 0, DATA[:7]).status == 413
    assert chunk(raw, location, 0, DATA[:2]).status == 201
    assert chunk(raw, location, 2, DATA[2:8]).status == 400
    # Too short, but the last.
    assert raw.finish(location, DATA[:2], Content_Length=0).status == 201


def test_ecr_requires_repository(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """The repository must exist."""
    emulate(brolga_registry, "ecr")
    other = Raw(raw.address, "team/other")
    reply = other("POST", "blobs/uploads/")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")
    brolga_registry.repository("team/other")
    assert other("POST", "blobs/uploads/").status == 202


def test_ecr_accepts_repository_with_content(brolga_registry: BrolgaRegistry) -> None:
    """A repository that has something exists."""
    other = Raw(brolga_registry.address, "team/other")
    other.push(DATA)
    emulate(brolga_registry, "ecr")
    assert other("POST", "blobs/uploads/").status == 202


def test_ecr_manifests_and_lists(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A manifest's PUT has no Location; pages have at most 1000."""
    emulate(brolga_registry, "ecr")
    raw.push(b"{}")
    kind = "application/vnd.example+json"
    put = raw("PUT", "manifests/v1", b"{}", Content_Type=kind)
    assert (put.status, put.headers["Location"]) == (201, None)
    assert raw("GET", "tags/list?n=1001").status == 400
    assert raw("GET", "tags/list?n=1000").status == 200


def test_ecr_public_has_no_status(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Public ECR answers 404 to GET of a session."""
    emulate(brolga_registry, "ecr-public")
    location = raw.start()
    assert raw("GET", location).status == 404
    assert raw.patch(location, [DATA]).status == 201


def test_acr_bounds_chunks_and_puts(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Content-Range without Content-Length is 400; one PUT over about 20 MB is 413."""
    assert PROFILES["acr"].put_max == 20_000_000
    emulate(brolga_registry, "acr", put_max=8, chunk_max=4)
    location = raw.start()
    assert location.startswith(f"http://{raw.address}/v2/")
    assert raw.patch(location, [DATA], Content_Range="0-9").status == 400
    assert chunk(raw, location, 0, DATA[:5]).status == 413
    assert raw.finish(location, DATA, DATA).status == 413
    assert chunk(raw, location, 0, DATA[:4]).status == 202


@pytest.mark.parametrize("name", ["acr", "zot"])
def test_cut_ends_session(brolga_registry: BrolgaRegistry, raw: Raw, name: str) -> None:
    """ACR: an interrupted upload cannot be resumed (Azure/azure-sdk-for-js#25448). Zot too."""
    brolga_registry.use(profile=name, faults=FaultPlan(Cut(at=6)))
    location = raw.start()
    assert not urlsplit(raw("GET", location).headers["Location"]).netloc
    assert raw.patch(location, [DATA]).status == 0
    assert raw("GET", location).status == 404


def test_gar_rejects_chunks(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Content-Range is not supported; a stream is."""
    emulate(brolga_registry, "gar")
    location = raw.start()
    assert chunk(raw, location, 0, DATA).status == 400
    assert raw.patch(location, [DATA]).status == 202


def test_gar_requires_signed_location(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A long signed Location on another path, whose query must come back byte for byte."""
    profile = emulate(brolga_registry, "gar")
    location = raw.start()
    assert urlsplit(location).path.startswith("/artifacts-uploads/")
    assert urlsplit(location).query == profile.query
    assert len(profile.query) > 300
    assert raw.patch(location.partition("?")[0], DATA).status == 403
    assert raw.patch(location.replace("%2F", "/"), DATA).status == 403


def test_quay_range_of_zero_bytes(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Range of POST is `bytes=0--1`; GET of a session has no Location."""
    emulate(brolga_registry, "quay")
    opened = raw("POST", "blobs/uploads/")
    assert opened.range == "bytes=0--1"
    location = raw.resolve("/", opened)
    assert raw.patch(location, [DATA]).range == "bytes=0-9"
    status = raw("GET", location)
    assert (status.range, status.headers["Location"]) == ("bytes=0-9", None)


def test_quay_skips_stored_bytes(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Overlap is skipped, a gap gives 416."""
    emulate(brolga_registry, "quay")
    location = raw.start()
    assert chunk(raw, location, 0, DATA[:5]).status == 202
    assert chunk(raw, location, 3, DATA[3:8]).range == "bytes=0-7"
    assert chunk(raw, location, 9, DATA[9:]).status == 416
    assert raw.finish(location, DATA, DATA[6:], Content_Range="6-9").status == 201
    assert brolga_registry.blobs(NAME) == {digest_of(DATA): DATA}


@pytest.mark.parametrize(("fault", "status"), [(Cut(on="PUT upload", at=2), 0), (None, 413)])
def test_quay_ends_session_after_failed_put(
    brolga_registry: BrolgaRegistry, raw: Raw, fault: Cut | None, status: int
) -> None:
    """A failed PUT cancels the session: one that is cut, and one that is refused."""
    brolga_registry.use(
        profile=replace(PROFILES["quay"], put_max=3 if fault is None else None),
        faults=FaultPlan(*filter(None, [fault])),
    )
    location = raw.start()
    assert raw.patch(location, DATA).status == 202
    assert raw.finish(location, DATA + DATA, DATA).status == status
    assert session_bytes(brolga_registry) == []


def test_jfrog_accepts_one_patch(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """Each PATCH may reach another node: one for each blob. It may be answered 204."""
    emulate(brolga_registry, "jfrog")
    location = raw.start()
    first = raw.patch(location, DATA[:5])
    assert first.status == 204
    assert "X-Artifactory-Id" in first.headers
    assert raw.patch(location, DATA[5:]).status == 404
    assert raw.finish(location, DATA, DATA[5:]).status == 201


def test_jfrog_answers_403_for_missing(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """403 for 404; partial uploads may need delete rights."""
    emulate(brolga_registry, "jfrog")
    raw.push(DATA)
    assert raw("HEAD", f"blobs/{digest_of(b'')}").status == 403
    assert raw("GET", "manifests/nothing").status == 403
    assert raw("GET", f"blobs/{digest_of(DATA)}").status == 200
    assert raw("DELETE", raw.start()).status == 403


def test_zot_requires_content_length(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """`Content-Length: 0` on the PUT; without both headers a PATCH is a stream."""
    emulate(brolga_registry, "zot")
    location = raw.start()
    assert raw.patch(location, [DATA[:5]], Content_Range="77-99").range == "0-4"
    assert chunk(raw, location, 77, DATA[5:]).status == 416
    assert chunk(raw, location, 5, DATA[5:]).status == 202
    assert raw("PUT", f"{location}?digest={digest_of(DATA)}", []).status == 400
    assert raw.finish(location, DATA, Content_Length=0).status == 201


def test_zot_requires_mount_source(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """`mount` without `from` gives 405."""
    emulate(brolga_registry, "zot")
    assert raw("POST", f"blobs/uploads/?mount={digest_of(DATA)}").status == 405
    assert raw("POST", f"blobs/uploads/?mount={digest_of(DATA)}&from=team/other").status == 202


def test_faults_and_profiles_compose(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A profile's limit stands beside a fault: each fires if it is first."""
    small = replace(PROFILES["ghcr"], blob_max=8)
    brolga_registry.use(profile=small, faults=FaultPlan(Answer(status=500, at=4)))
    location = raw.start()
    assert raw.patch(location, [DATA]).status == 500
    assert raw.patch(location, [DATA]).status == 413


def test_status_of_session_that_is_being_written(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """The status has the bytes that are stored by then."""
    emulate(brolga_registry, "quay")
    location = raw.start()
    with raw.connect() as connection:
        connection.sendall(raw.head("PATCH", location, 10) + DATA[:5])
        while not any(seen.received for seen in brolga_registry.requests):
            raw("GET", "/v2/")
        assert raw("GET", location).status == 204
        connection.sendall(DATA[5:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 202 ")


def test_invalid_name_with_profile(brolga_registry: BrolgaRegistry, raw: Raw) -> None:
    """A profile refuses no more than it must: names are judged by the registry itself."""
    emulate(brolga_registry, "ecr")
    assert raw("GET", "/v2/_Bad_/blobs/uploads/x").status == 400
    assert raw("GET", "/v2/team/app/blobs/uploads/x").status == 404
