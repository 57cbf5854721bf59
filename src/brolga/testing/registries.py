"""How known registries differ from the specification, as a table of profiles.

The values come from users, maintainers and sources, each with the public issue. Everything else is
the embedded registry's own conformant behaviour. Sizes are the real ones: a test that cannot send
so much uses `dataclasses.replace(PROFILES["ghcr"], chunk_max=1000)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.testing.faults import LocationForm


_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
# A signature as storage services write it; a client must return it byte for byte.
_SIGNED: Final = "signature=" + 40 * "a%2Fb%2B~" + "&expires=1800000000"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One kind of registry; the defaults are the embedded registry's own behaviour."""

    name: str
    why: str = ""  # what is known of it, with its public issue
    # The URL of a session
    location: LocationForm = "path"
    session_path: str = "/v2/{name}/blobs/uploads/{upload}"
    query: str = ""  # of a Location; it must be returned unchanged
    # `_state` in Location: none; changes with each response; or a stale one ends the session
    state: Literal["", "moves", "kills"] = ""
    status_has_location: bool = True  # whether the response to GET has a Location
    # Chunks: PATCHes with Content-Range (sizes in bytes); overlap: stored bytes are skipped
    content_range: Literal["checked", "ignored", "refused", "overlap"] = "checked"
    # Content-Range without Content-Length; streamed: Content-Range is ignored
    without_length: Literal["checked", "refused", "streamed"] = "checked"
    chunk_max: int | None = None
    chunk_max_status: int = 416
    chunk_min: int = 0  # a shorter chunk must be the last
    patches: int | None = None  # how many PATCHes a session accepts
    patch_status: int = 202
    last_in_put: bool = False  # whether the last of several chunks must come with the PUT
    # Range, in responses
    range_prefix: str = ""
    range_of_none: str = "0-0"  # the range of zero bytes
    range_frozen: bool = False  # whether it stays at the first chunk
    # The end
    put_max: int | None = None  # the largest body of a PUT, else 413
    put_wants_length: bool = False  # whether a PUT without Content-Length is rejected
    failed_put_ends: bool = False  # whether a failed PUT ends the session
    after_cut: Literal["kept", "gone"] = "kept"  # whether a session survives a cut body
    has_status: bool = True  # whether GET of a session is answered, else 404
    may_cancel: bool = True  # whether DELETE of a session is allowed, else 403
    blob_max: int | None = None
    blob_max_status: int = 413
    session_s: float | None = None  # how many seconds a session lives
    # Around it
    must_exist: bool = False  # whether a push requires `Injector.create` before
    mount_needs_from: bool = False  # whether `mount` without `from` is rejected (405)
    cookie: str = ""  # a cookie that is set; a client that returns it is rejected (403)
    headers: tuple[tuple[str, str], ...] = ()  # of each response
    missing_status: int = 404  # of a missing blob or manifest
    list_type: str = ""  # the Content-Type of a list of names, instead of JSON's
    api_type: str = ""  # the same of the API check
    tag_is_digest: bool = False  # whether a missing tag `sha256-<hex>` is that digest's manifest
    deletes_tags: bool = True  # whether a tag can be deleted, else 400 DIGEST_INVALID
    manifest_location: bool = True  # whether the response to a pushed manifest has a Location
    referrers: bool = True  # whether there is a referrers API
    page_max: int | None = None  # the largest `n` of a list
    # In front of it
    request_max: int | None = None  # the largest body that a proxy lets through, else 413
    chunked_status: int | None = None  # of a body with Transfer-Encoding: chunked; None: accepted
    body_wait_s: float | None = None  # how long a proxy waits for bytes of a body, else 408
    # Whether a proxy rejects (408, 411, 413, 501, and 429 of a plan) with a page of HTML, not JSON
    proxy_pages: bool = False
    token_s: int | None = None  # how many seconds its tokens live; None: it requires none


_DISTRIBUTION: Final = Profile(
    name="distribution-3",
    why="`_state` in Location changes with each answer, and an older one is accepted; a chunk must "
    "begin at the end of the session (416); a PATCH that was cut can be resumed (its source)",
    location="absolute",
    state="moves",
)

_ECR: Final = Profile(
    name="ecr",
    why="chunks of 5 to 20 MiB but for the last, which must come with the PUT if there were "
    "several; a PATCH is answered 201 and its Range stays at the first chunk "
    "(aws/containers-roadmap#2831); the repository must exist; a manifest's answer has no "
    "Location; a page of a list has at most 1000 entries",
    location="absolute",
    chunk_min=5 * _MIB,
    chunk_max=20 * _MIB,
    chunk_max_status=413,
    patch_status=201,
    last_in_put=True,
    range_frozen=True,
    must_exist=True,
    manifest_location=False,
    page_max=1000,
)

_TABLE: Final = (
    _DISTRIBUTION,
    replace(
        _DISTRIBUTION,
        name="distribution-2.8",
        why="Content-Range is ignored; a `_state` with another offset than the stored one cancels "
        "the session, whatever the method (its source): after a cut the session is dead, and "
        "DELETE works at the newest Location only. Range is 0-0 for zero bytes and for one; a tag "
        "cannot be deleted (400 DIGEST_INVALID), and it has no referrers API",
        state="kills",
        deletes_tags=False,
        referrers=False,
        content_range="ignored",
    ),
    replace(
        _DISTRIBUTION,
        name="harbor",
        why="distribution behind a portal that requires its CSRF token from clients that return "
        "its cookie (dotnet/sdk#37221); proxies give up on the largest layers: 502 "
        "(goharbor/harbor#19573)",
        cookie="sid=1; Path=/; HttpOnly",
        blob_max=32 * _GIB,
        blob_max_status=502,
    ),
    replace(
        _DISTRIBUTION,
        name="docker-hub",
        why="distribution behind a proxy: a 429 is a page, not JSON; tokens live 5 minutes",
        proxy_pages=True,
        token_s=300,
    ),
    replace(
        _DISTRIBUTION,
        name="gitlab",
        why="distribution, with tokens that live 5 minutes, even during a longer upload; no "
        "referrers API, and the referrers tag is answered with the subject itself "
        "(oras-project/oras#2148)",
        token_s=300,
        referrers=False,
        tag_is_digest=True,
    ),
    replace(
        _DISTRIBUTION,
        name="nginx",
        why="distribution behind nginx with its defaults: a request has at most 1 MiB "
        "(client_max_body_size; Cloudflare has 100 MB), else 413 with a page, and the limit is "
        "not announced (opencontainers/distribution-spec#485); 408 if a body sends nothing for "
        "60 s (client_body_timeout)",
        request_max=_MIB,
        body_wait_s=60.0,
        proxy_pages=True,
    ),
    replace(
        _DISTRIBUTION,
        name="no-chunked",
        why="distribution behind a proxy without the chunked transfer coding: 411 with a page "
        "(nginx before 1.3.9; others answer 501: RFC 9112, section 6.1)",
        chunked_status=411,
        proxy_pages=True,
    ),
    Profile(
        name="ghcr",
        why="chunks over 4 MiB are 416 (oras-project/rust-oci-client#35), a streamed PATCH and a "
        "PUT may have any size; sessions are at another path than the spec's example; 10 GB a "
        "layer, 10 minutes an upload; no referrers API",
        session_path="/v2/{name}/blobs/upload/{upload}",
        chunk_max=4 * _MIB,
        blob_max=10_000_000_000,
        session_s=600,
        referrers=False,
    ),
    _ECR,
    replace(
        _ECR,
        name="ecr-public",
        why="as ecr, but GET of a session is 404: a client knows only what was acknowledged",
        has_status=False,
    ),
    Profile(
        name="acr",
        why="chunks of at most 4 MiB, Content-Range without Content-Length is 400, a PUT over "
        "about 20 MB 413; relative Location; an upload that was cut cannot be resumed "
        "(Azure/azure-sdk-for-js#25448)",
        without_length="refused",
        chunk_max=4 * _MIB,
        chunk_max_status=413,
        put_max=20_000_000,
        after_cut="gone",
    ),
    Profile(
        name="gar",
        why="no chunks with Content-Range: one streamed PATCH or one PUT; a long signed Location "
        "on another path",
        location="absolute",
        session_path="/artifacts-uploads/{name}/uploads/{upload}",
        query=_SIGNED,
        content_range="refused",
    ),
    Profile(
        name="quay",
        why="Range of zero bytes is `bytes=0--1`; stored bytes of a chunk are skipped, a gap is "
        "416; GET of a session has no Location; a failed PUT ends the session, and one over 20 GB "
        "is rejected; the API check is text/html",
        api_type="text/html; charset=utf-8",
        content_range="overlap",
        status_has_location=False,
        range_prefix="bytes=",
        range_of_none="0--1",
        failed_put_ends=True,
        put_max=20_000_000_000,
    ),
    Profile(
        name="jfrog",
        why="one PATCH for each blob: the next may reach a node that does not know the session; a "
        "PATCH is answered 200, 201, 202 or 204; DELETE may need rights that a pusher lacks; "
        "missing content is 403",
        headers=(("X-Artifactory-Id", "00000000"),),
        patches=1,
        patch_status=204,
        may_cancel=False,
        missing_status=403,
    ),
    Profile(
        name="ggcr",
        why="the registry of `crane registry serve`: a list of names is JSON, and its media type "
        "is Go's default, text/plain (google/go-containerregistry, pkg/registry)",
        list_type="text/plain; charset=utf-8",
    ),
    Profile(
        name="zot",
        why="a PATCH that is cut deletes the session, and one without both Content-Length and "
        "Content-Range is a stream (its source); relative Location; `mount` without `from` is 405; "
        "a PUT needs a Content-Length, even 0",
        headers=(("Server", "zot"),),
        without_length="streamed",
        put_wants_length=True,
        after_cut="gone",
        mount_needs_from=True,
    ),
)

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in _TABLE}


def find_profile(name: str) -> Profile:
    """Return a profile. Raises ValueError, which lists the known ones."""
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}: there are {', '.join(PROFILES)}")
    return PROFILES[name]
