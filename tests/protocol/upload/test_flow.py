"""upload: one blob's upload, request by request."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.scripted import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    HOME,
    POST,
    QUERY,
    SCOPE,
    SECOND,
    UPLOADS,
    USER,
    Answer,
    Known,
    access,
    authorized,
    delete,
    drive,
    elsewhere,
    joined,
    later,
    patch,
    play,
    put,
    token_call,
    uploading,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    NotComputed,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    SourceError,
    TransportError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol import (
    BodyError,
    Request,
    Response,
    Retry,
    Timeout,
    UploadSession,
    UploadStrategy,
    mount_blob,
    upload_bytes,
    upload_stream,
)
from brolga.spec.digest import Digest
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.protocol import Flow
    from brolga.spec.descriptor import Descriptor

OCTETS = {"Content-Type": "application/octet-stream"}
MISMATCHED = Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')
BODY = [b"bl", b"", b"ob"]
NEXT = Response(202, {"location": SECOND, "range": "0-3"}, sent=4)
CREATED = Response(201, {"location": "/v2/team/app/blobs/somewhere"})
CUT = TransportError("the connection was cut", reason="cut", sent=3)
TOKEN = Response(200, body=b'{"token": "t1"}')


def seal() -> Descriptor:
    """Return what the layer is at its end."""
    return BLOB


def sealed_too_early() -> Descriptor:
    """Raise what a layer raises whose stream did not come to its clean end."""
    raise NotComputed("the stream is not at its end")


# --- The normal course


def test_upload_stream_sends_post_patch_put() -> None:
    """A chunked upload: obtain a session, upload, close it (Pushing a blob in chunks)."""
    flow = uploading(access(), BODY, seal)
    assert play(flow, (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)) is BLOB


def test_upload_stream_sends_no_content_range() -> None:
    """Docker's form of a stream of unknown length; "Content-Length: 0" is a MUST of the POST."""
    requests: list[Request] = []
    answers = iter([ACCEPTED, NEXT, CREATED])

    def answer(request: Request) -> Answer:
        requests.append(joined(request))
        return next(answers)

    drive(uploading(access(), BODY, seal), answer)
    assert [request.body for request in requests] == [b"", BODY, b""]
    assert [name for request in requests for name in request.headers] == ["Content-Type"]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_upload_stream_accepts_each_success_of_patch(status: int) -> None:
    """The spec says 202; ECR answers 201 (aws/containers-roadmap#2831), JFrog 200 and 204."""
    response = Response(status, {"location": SECOND})
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), response),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [201, 204])
def test_upload_stream_accepts_201_or_204_to_put(status: int) -> None:
    """The closing of the session MUST be 201 Created; 204 was distribution's answer of old."""
    response = Response(status)
    play(uploading(access(), BODY, seal), (POST, ACCEPTED), (patch(BODY), NEXT), (put(), response))


def test_upload_stream_ignores_the_range_of_a_successful_patch() -> None:
    """ECR's Range stays at the first chunk although all is stored (aws/containers-roadmap#2831)."""
    stale = Response(201, {"location": SECOND, "range": "0-0"}, sent=4)
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), stale),
        (put(), CREATED),
    )


def test_upload_stream_keeps_the_url_if_patch_has_no_location() -> None:
    """A Location with each PATCH is the registry's MUST; without one the session has not moved."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(202)),
        (put(FIRST), CREATED),
    )


def test_upload_stream_sends_no_credentials_to_another_host() -> None:
    """An upload Location of another host must not get the credentials (CVE-2026-50151)."""
    away = "https://storage.example/one?sig=x"
    bearer = "Bearer t1"
    play(
        uploading(access(USER), BODY, seal),
        (POST, Response(401, BEARER)),
        (token_call(USER), TOKEN),
        (authorized(POST, bearer), Response(202, {"location": away})),
        (elsewhere(patch(BODY, away)), Response(202, {"location": FIRST})),
        (authorized(put(FIRST), bearer), CREATED),
    )


@pytest.mark.parametrize(
    ("away", "named_by"),
    [
        ("https://registry.example:8443/u?", "registry.example"),
        ("https://registry.example.evil.example/u?", "registry.example"),
    ],
)
def test_upload_stream_sends_no_credentials_to_another_port_or_longer_name(
    away: str, named_by: str
) -> None:
    """Another port is another origin for credentials (GHSA-vh4v-2xq2-g5cg).

    It is one that the user did not name: the driver must know who did.
    """
    play(
        uploading(access(USER), BODY, seal),
        (POST, Response(401, BEARER)),
        (token_call(USER), TOKEN),
        (authorized(POST, "Bearer t1"), Response(202, {"location": away})),
        (replace(patch(BODY, away), redirected_from=named_by), Response(401, BEARER)),
        (replace(delete(away), redirected_from=named_by), Response(401, BEARER)),
        error=Unauthorized,
    )


@pytest.mark.parametrize("reason", ["connect", "tls"])
def test_upload_stream_raises_at_once_if_the_location_lost_its_port(reason: str) -> None:
    """The proxy in front did not pass the Host header on: to try again is in vain."""
    lost = "https://registry.example:8443/u?"
    failed = TransportError("cannot connect", reason=reason)
    delete_lost = replace(delete(lost), redirected_from="registry.example")
    error = play(
        uploading(access(USER), BODY, seal),
        (POST, Response(401, BEARER)),
        (token_call(USER), TOKEN),
        (authorized(POST, "Bearer t1"), Response(202, {"location": lost})),
        (replace(patch(BODY, lost), redirected_from="registry.example"), failed),
        (delete_lost, failed),
        error=ProtocolViolation,
        match="named https://registry.example:8443/u, and cannot connect",
    )
    assert "Host header" in error.__notes__[0]


# --- 401 and tokens


def test_upload_stream_gets_token_after_401_to_post() -> None:
    """The POST has no body and proves the token, before any byte of the stream goes out."""
    bearer = "Bearer t1"
    play(
        uploading(access(), BODY, seal),
        (POST, Response(401, BEARER)),
        (token_call(), TOKEN),
        (authorized(POST, bearer), ACCEPTED),
        (authorized(patch(BODY), bearer), NEXT),
        (authorized(put(), bearer), CREATED),
    )


@pytest.mark.parametrize("whole", [True, False])
def test_upload_stream_sends_no_second_patch_after_401(whole: bool) -> None:
    """A 401 in the middle of a streamed body must not make the client send an empty one.

    A stream can be read once: a second PATCH would carry nothing, or the rest, and be committed.
    """
    requests: list[Request] = []
    # A token is to be had, and every other call would be welcome: the temptation is complete.
    answers = {"POST": ACCEPTED, "PATCH": Response(401, BEARER, complete=whole), "GET": TOKEN}

    def answer(request: Request) -> Answer:
        requests.append(joined(request))
        return answers.get(request.method, Response(201))

    with pytest.raises(Unauthorized):
        drive(uploading(access(USER), BODY, seal), answer)
    assert [request.body == BODY for request in requests].count(True) == 1
    assert [request.method for request in requests] == ["POST", "PATCH", "DELETE"]


def test_upload_stream_renews_token_after_401_to_put() -> None:
    """GitLab's tokens live five minutes: a long PATCH ends with a dead one."""
    play(
        uploading(access(), BODY, seal),
        (POST, Response(401, BEARER)),
        (token_call(), TOKEN),
        (authorized(POST, "Bearer t1"), ACCEPTED),
        (authorized(patch(BODY), "Bearer t1"), NEXT),
        (authorized(put(), "Bearer t1"), Response(401, BEARER)),
        (token_call(patience=Timeout.LONG), Response(200, body=b'{"token": "t2"}')),
        (authorized(put(), "Bearer t2"), CREATED),
    )


def test_upload_stream_renews_token_after_401_to_delete() -> None:
    """Clients SHOULD send this request when aborting an upload (Cancel a blob upload)."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), Response(401, BEARER)),
        (token_call(patience=Timeout.SHORT), TOKEN),
        (authorized(delete(FIRST), "Bearer t1"), Response(204)),
        error=UploadInterrupted,
    )


# --- Location


@pytest.mark.parametrize(
    ("said", "session", "closing"),
    [
        ("/v2/team/app/blobs/uploads/u1", f"{UPLOADS}u1", f"{UPLOADS}u1?"),
        ("u1?x=1", f"{UPLOADS}u1?x=1", f"{UPLOADS}u1?x=1&"),
        (f"{HOME}/blobs/upload/u1", f"{HOME}/blobs/upload/u1", f"{HOME}/blobs/upload/u1?"),
        ("/a/b?n=%2F&e=&e=+%20#part", f"{HOME}/a/b?n=%2F&e=&e=+%20", None),
        ("?_state=q==", f"{UPLOADS}?_state=q==", None),
        ("//other.example/u1", "https://other.example/u1", "https://other.example/u1?"),
        ("/a;b;?x=;", f"{HOME}/a;b;?x=;", None),
        ("/a?", f"{HOME}/a?", None),
        (f"{HOME}/a;?#", f"{HOME}/a;?", None),
        ("/a?x=../..//y", f"{HOME}/a?x=../..//y", None),
    ],
)
def test_upload_stream_resolves_location_and_keeps_its_query(
    said: str, session: str, closing: str | None
) -> None:
    """The location MAY be absolute or relative and MAY contain critical query parameters."""
    closing = f"{session}&" if closing is None else closing
    closed = Request("PUT", closing + QUERY, body=b"", timeout=Timeout.LONG)
    named_by = "registry.example" if "other.example" in session else ""
    play(
        uploading(access(), BODY, seal),
        (POST, Response(202, {"location": said})),
        (replace(patch(BODY, session), redirected_from=named_by), Response(202)),
        (replace(closed, redirected_from=named_by), CREATED),
    )


def test_upload_stream_replaces_the_query_by_a_location_of_a_query() -> None:
    """The reference's query is the target's, not joined to the base's (RFC 3986, section 5.2.2)."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(202, {"location": "?_state=b"})),
        (put(SECOND), CREATED),
    )


@pytest.mark.parametrize("headers", [{}, {"location": ""}, {"location": "#part"}])
def test_upload_stream_raises_if_post_has_no_location(headers: dict[str, str]) -> None:
    """The POST's answer MUST include the Location header (POST then PUT)."""
    play(
        uploading(access(), BODY, seal),
        (POST, Response(202, headers)),
        error=ProtocolViolation,
        match="without a Location",
    )


@pytest.mark.parametrize(
    "said",
    [
        "http://registry.example/u?secret",
        "https://someone:secret@registry.example/u",
        "//someone:secret@registry.example/u",
        "https:///u?secret",
        "ftp://registry.example/u?secret",
        "data:text/plain,x?secret",
        "https://registry.example:99999/u?secret",
        "https:u?secret",
        "//[::1?secret",
        "http://[::1?secret",
        "//[zz]/u?secret",
        "/u u?secret",
        "/u\tu?secret",
        "/u?secret=\xe4",
        "https://127.0.0.1/u?secret",
        "https://a.example/u?secret, https://b.example/u",
    ],
)
def test_upload_stream_raises_for_an_unsafe_location(said: str) -> None:
    """A Location may lead out of TLS, inside (CVE-2026-48978), or be no URL at all."""
    error = play(
        uploading(access(USER), BODY, seal),
        (POST, Response(202, {"location": said})),
        error=ProtocolViolation,
        match="the registry's Location",
    )
    assert "secret" not in str(error)


def test_upload_stream_cancels_at_the_old_url_if_the_new_location_is_bad() -> None:
    """The location to cancel is that of the preceding POST or PATCH (Cancel a blob upload)."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(202, {"location": "http://[::1"})),
        (delete(FIRST), Response(204)),
        error=ProtocolViolation,
    )


# --- Refusals


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Denied),
        (404, NotFound),
        (413, RegistryError),
        (429, RateLimited),
        (500, RegistryError),
        (503, RegistryError),
        (307, ProtocolViolation),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_upload_stream_raises_the_refusal_of_patch_and_cancels(
    status: int, kind: type[BrolgaError], whole: bool
) -> None:
    """An error can come while the body is still going out: it is reported as itself."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(status, sent=2, complete=whole)),
        (delete(FIRST), Response(204)),
        error=kind,
        match=str(status),
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_upload_stream_raises_interrupted_after_an_early_success(status: int) -> None:
    """An answer before the end of the stream cannot have seen all of it: no PUT follows."""
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(status, {"location": SECOND}, sent=2, complete=False)),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match="after 2 bytes",
    )
    assert (error.sent, error.acknowledged) == (2, 0)


@pytest.mark.parametrize("status", [200, 201, 204, 303])
def test_upload_stream_raises_if_post_opens_no_session(status: int) -> None:
    """Upon success, the response MUST have a code of 202 Accepted (POST then PUT)."""
    play(uploading(access(), BODY, seal), (POST, Response(status)), error=ProtocolViolation)


@pytest.mark.parametrize("status", [400, 416, 500, 503])
def test_upload_stream_raises_the_refusal_of_put_and_cancels(status: int) -> None:
    """An error of the closing is the registry's own word (Error Codes)."""
    body = b'{"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}'
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status, body=body)),
        (HEAD, Response(404)),  # it, or another one that a proxy sent, may have done its work
        (delete(SECOND), Response(404)),
        error=RegistryError,
    )
    assert (error.status, error.code) == (status, "BLOB_UPLOAD_INVALID")


@pytest.mark.parametrize("status", [200, 202, 303])
def test_upload_stream_raises_for_an_unexpected_success_of_put(status: int) -> None:
    """The response to a successful closing MUST be 201 Created: a login page's 200 is none."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status)),
        *(((HEAD, Response(404)),) if status != 303 else ()),
        (delete(SECOND), Response(204)),
        error=ProtocolViolation,
    )


# --- Cuts


def test_upload_stream_raises_interrupted_after_a_cut() -> None:
    """What was sent is not what arrived: nothing can be committed."""
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match="after 3 bytes",
    )
    assert (error.sent, error.acknowledged, error.__cause__) == (3, 0, CUT)


def test_upload_stream_raises_transport_error_of_post() -> None:
    """No session is known, so there is nothing to cancel."""
    play(uploading(access(), BODY, seal), (POST, CUT), error=TransportError)


LENGTH = {"content-length": "4"}
DIGEST = {"docker-content-digest": str(BLOB.digest)}
OTHER = {"docker-content-digest": str(Digest.of(b"other"))}


@pytest.mark.parametrize(
    "said",
    [
        LENGTH,
        DIGEST,
        LENGTH | DIGEST,
        {"content-length": "0"} | DIGEST,
        LENGTH | {"docker-content-digest": "nonsense"},
        LENGTH | {"docker-content-digest": str(Digest.of(b"blob", "sha512"))},
    ],
)
@pytest.mark.parametrize("lost", [CUT, *map(Response, (200, 202, 203, 408, 500, 502, 504, 524))])
def test_upload_stream_succeeds_after_a_lost_put_if_head_shows_the_blob(
    lost: Answer, said: dict[str, str]
) -> None:
    """A commit may outlast a proxy's patience (goharbor/harbor#19573): ask before failing."""
    flow = uploading(access(), BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), lost), (HEAD, Response(200, said))
    # The PUT may not have come to it, and another upload brought the blob: a session is left then.
    assert play(flow, *steps, (delete(SECOND), Response(404))) is BLOB


# What does not show the blob: the last ones are a page of a proxy, which answers 200 to all, and
# another blob under our name.
ABSENT = [
    Response(404),
    Response(307),
    Response(500),
    CUT,
    Response(401),
    Response(206, LENGTH),
    Response(200),
    Response(200, {"content-length": ""}),
    Response(200, {"content-length": "3"}),
    Response(200, OTHER),
    Response(200, LENGTH | OTHER),
    Response(200, DIGEST | {"content-length": "3"}),
]


@pytest.mark.parametrize("shown", ABSENT)
def test_upload_stream_raises_after_a_cut_put_if_head_shows_no_blob(shown: Answer) -> None:
    """A HEAD of an existing blob MUST return 200 OK (Checking if content exists)."""
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        (HEAD, shown),
        (delete(SECOND), Response(204)),
        error=UploadInterrupted,
        match="does not show the blob",
    )
    assert (error.sent, error.acknowledged, error.__cause__) == (4, 4, CUT)


def test_upload_stream_follows_a_redirect_of_head() -> None:
    """A registry that keeps its blobs elsewhere sends a HEAD there as well."""
    away = elsewhere(Request("HEAD", "https://cdn.example/blob"))
    flow = uploading(access(), BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    there = Response(307, {"location": away.url})
    shown = (away, Response(200, LENGTH)), (delete(SECOND), Response(404))
    assert play(flow, *steps, (HEAD, there), *shown) is BLOB


@pytest.mark.parametrize("shown", [Response(404), Response(200), CUT])
def test_upload_stream_raises_if_the_redirected_head_shows_no_blob(shown: Answer) -> None:
    """A redirect to a page that answers 200 to all is no blob."""
    away = elsewhere(Request("HEAD", "https://cdn.example/blob"))
    flow = uploading(access(), BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    there = HEAD, Response(307, {"location": away.url})
    gone = delete(SECOND), Response(404)
    play(flow, *steps, there, (away, shown), gone, error=UploadInterrupted)


def test_upload_stream_sends_put_once() -> None:
    """A second PUT finds no session where the first one did its work: HEAD tells, with patience."""
    way = access(retry=Retry(attempts=3))
    flow = uploading(way, BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    asked = (HEAD, Response(503)), (later(HEAD, 0.5), Response(200, LENGTH))
    assert play(flow, *steps, *asked, (delete(SECOND), Response(404))) is BLOB


@pytest.mark.parametrize("shown", ABSENT)
def test_upload_stream_raises_504_of_put_if_head_shows_no_blob(shown: Answer) -> None:
    """RFC 9110, sections 15.6.3 and 15.6.5: a proxy speaks, not the registry behind it."""
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(504)),
        (HEAD, shown),
        (delete(SECOND), Response(204)),
        error=RegistryError,
    )
    assert error.status == 504


# --- Failures on our side

FAILURES = [
    SourceError("the source failed"),
    KeyboardInterrupt(),
    SystemExit(1),
    ValueError("a bug in the source"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_upload_stream_cancels_and_raises_the_error_of_the_source(
    failure: BaseException,
) -> None:
    """Clients SHOULD send DELETE when aborting a blob upload (Cancel a blob upload)."""
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), failure),
        (delete(FIRST), Response(204)),
        error=type(failure),
    )
    assert error is failure


@pytest.mark.parametrize(
    ("response", "session"),
    [
        (None, FIRST),
        (NEXT, SECOND),
        (Response(200, {"location": SECOND}), SECOND),
        (Response(202), FIRST),
        (Response(202, {"location": ""}), FIRST),
        (Response(202, {"location": "http://[::1"}), FIRST),
        (Response(202, {"location": "https://127.0.0.1/u"}), FIRST),
        (Response(307, {"location": "/login"}), FIRST),
        (Response(401, {"location": "/login"} | BEARER), FIRST),
        (Response(500, {"location": "/sorry"}), FIRST),
    ],
)
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_upload_stream_cancels_at_the_location_of_the_interrupted_patch(
    failure: BaseException, response: Response | None, session: str
) -> None:
    """Cancel at the Location of the preceding PATCH: docker-registry 2.8 takes no other.

    An answer that is no success names no session, whatever its Location is.
    """
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), BodyError(failure, response)),
        (delete(session), Response(204)),
        error=type(failure),
    )
    assert error is failure
    # Neither the driver's words for it, nor what happened meanwhile, are part of the story.
    assert (error.__cause__, error.__context__) == (None, None)


def test_upload_stream_cancels_at_the_location_of_the_interrupted_chunk() -> None:
    """The driver waits for the answer of a chunk as for the one of a stream."""
    failure = KeyboardInterrupt()
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "0-2"}
    error = play(
        upload_stream(access(), Known(BODY), seal, strategy=UploadStrategy(chunk_size=3)),
        (POST, ACCEPTED),
        (Request("PATCH", FIRST, headers, b"blo", Timeout.LONG), BodyError(failure, NEXT)),
        (delete(SECOND), Response(204)),
        error=KeyboardInterrupt,
    )
    assert error is failure


@pytest.mark.parametrize(
    "failure",
    [
        TransportError("the other registry is gone", reason="cut"),
        RegistryError("no", method="GET", url="", status=500),
        DigestMismatch("other bytes", expected="", actual=""),
        UploadInterrupted("another upload", sent=0, acknowledged=0),
        SourceError("gone"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_upload_stream_raises_the_error_of_the_source_between_chunks(
    failure: BaseException,
) -> None:
    """Its bytes end there: nothing more is sent, nothing is committed, and the error is its own."""

    def source() -> Iterator[bytes]:
        yield b"blo"
        raise failure

    error = play(
        upload_stream(
            access(retry=Retry(attempts=3)),
            Known(source()),
            seal,
            descriptor=BLOB,
            strategy=UploadStrategy(chunk_size=2),
        ),
        (POST, ACCEPTED),
        (Request("PATCH", FIRST, {**OCTETS, "Content-Range": "0-1"}, b"bl", Timeout.LONG), NEXT),
        (delete(SECOND), Response(204)),
        error=type(failure),
    )
    assert error is failure
    assert (error.__cause__, error.__context__) == (None, None)


class _Block(bytearray):
    """A block of which it can be told whether it is still there."""


def test_upload_stream_releases_a_chunk_before_it_gathers_the_next() -> None:
    """There is memory for one chunk, not for two."""
    seen: list[bool] = []

    def source() -> Iterator[bytes]:
        first = _Block(b"bl")
        alive = weakref.ref(first)
        yield memoryview(first)  # type: ignore[misc]
        del first
        yield b"o"  # this one tells that the first chunk is whole
        seen.append(alive() is not None)
        yield b"b"

    flow = upload_stream(access(), Known(source()), seal, strategy=UploadStrategy(chunk_size=2))
    next(flow)
    flow.send(ACCEPTED)
    assert not seen
    flow.send(NEXT)
    assert seen == [False]
    flow.close()


def test_upload_stream_raises_the_transport_error_of_the_source() -> None:
    """A body may come from another registry: its failure is that side's."""
    failure = TransportError("the other registry is gone", reason="cut")
    error = play(
        uploading(access(retry=Retry(attempts=3)), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), BodyError(failure)),
        (delete(FIRST), Response(204)),
        error=TransportError,
    )
    assert error is failure


@pytest.mark.parametrize(
    "refusal",
    [
        Response(404),
        Response(405),
        Response(500, body=b"<html>"),
        Response(401),
        CUT,
        OSError("the driver's own"),
    ],
    ids=repr,
)
def test_upload_stream_ignores_a_failed_cancel(refusal: Answer) -> None:
    """Clients SHOULD ignore any failures (Cancel a blob upload)."""
    failure = SourceError("the source failed")
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), failure),
        (delete(FIRST), refusal),
        error=SourceError,
    )
    assert error is failure


def test_upload_stream_raises_an_interrupt_during_cancel() -> None:
    """A second Ctrl-C means now: no clean-up holds it up."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), KeyboardInterrupt()),
        error=KeyboardInterrupt,
    )


def test_upload_stream_cancels_the_session_if_put_is_interrupted() -> None:
    """The Location of a PUT's answer is the blob, which a DELETE would remove."""
    failure = KeyboardInterrupt()
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), BodyError(failure, CREATED)),
        (delete(SECOND), Response(404)),
        error=KeyboardInterrupt,
    )
    assert error is failure


def test_upload_stream_raises_an_interrupt_while_it_cancels_a_committed_session() -> None:
    """A second Ctrl-C means now, whether the blob is there or not."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        (HEAD, Response(200, LENGTH)),
        (delete(SECOND), KeyboardInterrupt()),
        error=KeyboardInterrupt,
    )


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_upload_stream_sends_nothing_after_close(answered: int) -> None:
    """A generator that is closed must not yield (PEP 342): nobody would make the call."""
    flow = uploading(access(), BODY, seal)
    next(flow)
    for response in (ACCEPTED, NEXT)[:answered]:
        flow.send(response)
    flow.close()  # RuntimeError "generator ignored GeneratorExit" if it made a call


def test_upload_stream_sends_nothing_after_close_during_cancel() -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = uploading(access(), BODY, seal)
    next(flow)
    flow.send(ACCEPTED)
    assert flow.throw(CUT) == delete(FIRST)
    flow.close()


def test_upload_stream_sends_no_put_if_finalize_raises() -> None:
    """The closing PUT MUST include the digest of the whole blob: half a stream has none."""
    play(
        uploading(access(), BODY, sealed_too_early),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (delete(SECOND), Response(204)),
        error=NotComputed,
    )


# --- What the registry says that it stored


def test_upload_stream_raises_mismatch_for_another_stored_digest() -> None:
    """Docker-Content-Digest is the digest of what was stored (Legacy Docker support)."""
    other = Digest.of(b"other")
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(201, {"docker-content-digest": str(other)})),
        (delete(SECOND), Response(404)),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(BLOB.digest), str(other))


@pytest.mark.parametrize(
    "said", [str(BLOB.digest), str(Digest.of(b"blob", "sha512")), "nonsense", "sha256:12", ""]
)
def test_upload_stream_accepts_a_digest_that_does_not_contradict(said: str) -> None:
    """A registry may name a blob by another algorithm, or put something else into the header."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(201, {"docker-content-digest": said})),
    )


@pytest.mark.parametrize("status", [400, 404, 500])
def test_upload_stream_raises_mismatch_for_digest_invalid(status: int) -> None:
    """DIGEST_INVALID: provided digest did not match uploaded content (Error Codes)."""
    body = b'{"errors": [{"code": "DIGEST_INVALID", "message": "other bytes"}]}'
    error = play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status, body=body)),
        *(((HEAD, Response(404)),) if status == 500 else ()),
        (delete(SECOND), Response(404)),
        error=DigestMismatch,
        match="other bytes than sha256:",
    )
    assert (error.expected, error.actual) == (str(BLOB.digest), "")
    assert isinstance(error.__cause__, RegistryError)


# --- Bytes at hand


def put_all(data: bytes = b"blob") -> Request:
    """Return the call that sends a blob whole."""
    headers = {"Content-Type": "application/octet-stream"}
    url = f"{FIRST}&digest=sha256%3A{Digest.of(data).encoded}"
    return Request("PUT", url, headers, data, Timeout.LONG)


def test_upload_bytes_sends_one_put() -> None:
    """POST then PUT (end-4a, end-6): no PATCH for what is known whole."""
    assert (
        play(upload_bytes(access(), b"blob", BLOB), (POST, ACCEPTED), (put_all(), CREATED)) is BLOB
    )


def test_upload_bytes_sends_an_empty_put_for_no_bytes() -> None:
    """An empty blob is closed as soon as its session is open."""
    empty = replace(BLOB, digest=Digest.of(b""), size=0)
    flow = upload_bytes(access(), b"", empty)
    assert play(flow, (POST, ACCEPTED), (put_all(b""), CREATED)) is empty


BY_POST = Request("POST", f"{UPLOADS}?{QUERY}", OCTETS, b"blob")


def by_post(post_max: int = 4, session: UploadSession | None = None) -> Flow[Descriptor]:
    """Upload bytes to a registry that takes tiny ones by the POST."""
    strategy = UploadStrategy(single_post_max=post_max)
    return upload_bytes(access(), b"blob", BLOB, session=session, strategy=strategy)


def test_upload_bytes_sends_small_bytes_with_post() -> None:
    """A blob MAY be pushed by a single POST (end-4b): one request."""
    assert play(by_post(), (BY_POST, CREATED)) is BLOB


def test_upload_bytes_sends_put_if_too_large_for_post_or_in_a_session() -> None:
    """The bound is the style's."""
    assert play(by_post(3), (POST, ACCEPTED), (put_all(), CREATED)) is BLOB
    assert play(by_post(session=UploadSession(FIRST)), (put_all(), CREATED)) is BLOB


@pytest.mark.parametrize("lost", [CUT, Response(500), Response(503)])
def test_upload_bytes_sends_put_after_post_with_bytes_failed(lost: Answer) -> None:
    """What the registry cannot do in one request it may do in two."""
    assert play(by_post(), (BY_POST, lost), (POST, ACCEPTED), (put_all(), CREATED)) is BLOB
    assert play(by_post(), (BY_POST, ACCEPTED), (put_all(), CREATED)) is BLOB


def test_upload_bytes_raises_the_refusal_of_post() -> None:
    """Another form would be refused too."""
    play(by_post(), (BY_POST, Response(403)), error=Denied)
    play(by_post(), (BY_POST, MISMATCHED), error=DigestMismatch)


# --- Blobs whose digest is known


def known(
    strategy: UploadStrategy, attempts: int = 1, body: Known | None = None
) -> Flow[Descriptor]:
    """Upload a blob whose digest is known before."""
    way = access(retry=Retry(attempts=attempts))
    return upload_stream(way, body or Known(BODY), seal, descriptor=BLOB, strategy=strategy)


WHOLE = replace(put_all(), body=BODY, size=4)
ONE_PUT = UploadStrategy(monolithic_max=4)


def test_upload_stream_sends_one_put_if_the_descriptor_is_known() -> None:
    """POST then PUT (Pushing a blob monolithically): its length is told, and nothing is framed."""
    assert play(known(ONE_PUT), (POST, ACCEPTED), (WHOLE, CREATED)) is BLOB


def test_upload_stream_sends_patch_above_monolithic_max() -> None:
    """A PUT that was cut has nothing to go on from on many registries."""
    strategy = UploadStrategy(monolithic_max=3)
    assert play(known(strategy), (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)) is BLOB


def test_upload_stream_resumes_by_patch_after_a_cut_monolithic_put() -> None:
    """The session may have a part of it; the blob is asked for once, and not waited for."""
    play(
        known(ONE_PUT, attempts=3),
        (POST, ACCEPTED),
        (WHOLE, CUT),
        (HEAD, Response(404)),
        (Request("GET", FIRST, delay_s=0.5), Response(204, {"range": "0-1", "location": SECOND})),
        (patch([b"ob"], SECOND), NEXT),
        (put(), CREATED),
    )


def test_upload_stream_sends_chunks_after_413_to_a_monolithic_put() -> None:
    """413, as for a stream: smaller requests, from the first byte."""
    chunk = {**OCTETS, "Content-Range": "0-3"}
    play(
        known(ONE_PUT, attempts=3),
        (POST, ACCEPTED),
        (WHOLE, Response(413, complete=False)),
        (delete(FIRST), Response(204)),
        (POST, ACCEPTED),
        (Request("PATCH", FIRST, chunk, b"blob", Timeout.LONG), NEXT),
        (put(), CREATED),
    )


def test_upload_stream_raises_interrupted_after_an_early_success_of_put() -> None:
    """A success that cannot have seen all bytes is none."""
    play(
        known(ONE_PUT),
        (POST, ACCEPTED),
        (WHOLE, Response(201, sent=2, complete=False)),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match="answered 201 after 2 bytes, before the end",
    )


def test_upload_bytes_repeats_put_with_a_new_token() -> None:
    """What is at hand may be sent again, other than a stream."""
    play(
        upload_bytes(access(), b"blob", BLOB),
        (POST, ACCEPTED),
        (put_all(), Response(401, BEARER)),
        (token_call(patience=Timeout.LONG), TOKEN),
        (authorized(put_all(), "Bearer t1"), CREATED),
    )


@pytest.mark.parametrize("said", [LENGTH, DIGEST])
@pytest.mark.parametrize("lost", [CUT, Response(502), Response(504)])
def test_upload_bytes_succeeds_after_a_lost_put_if_head_shows_the_blob(
    lost: Answer, said: dict[str, str]
) -> None:
    """The same question as after a stream."""
    steps = (POST, ACCEPTED), (put_all(), lost), (HEAD, Response(200, said))
    gone = delete(FIRST), Response(404)
    assert play(upload_bytes(access(), b"blob", BLOB), *steps, gone) is BLOB


@pytest.mark.parametrize(("reason", "sent"), [("connect", 0), ("cut", 3), ("timeout", 4)])
def test_upload_bytes_raises_interrupted_after_a_lost_put(reason: str, sent: int) -> None:
    """What is told is what went out, and nothing of it was acknowledged."""
    error = play(
        upload_bytes(access(), b"blob", BLOB),
        (POST, ACCEPTED),
        (put_all(), TransportError("no answer", reason=reason, sent=sent)),
        (HEAD, Response(404)),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match=f"{sent} of 4 bytes were sent.*does not show",
    )
    assert (error.sent, error.acknowledged) == (sent, 0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (MISMATCHED, DigestMismatch),
        (Response(201, OTHER), DigestMismatch),
        (Response(403), Denied),
        (Response(413), RegistryError),
        (Response(303), ProtocolViolation),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_upload_bytes_cancels_after_a_refused_put(
    answer: Answer, kind: type[BaseException]
) -> None:
    """Clients SHOULD send DELETE when aborting a blob upload (Cancel a blob upload)."""
    flow = upload_bytes(access(), b"blob", BLOB)
    play(flow, (POST, ACCEPTED), (put_all(), answer), (delete(FIRST), Response(204)), error=kind)


@pytest.mark.parametrize("answered", [0, 1])
def test_upload_bytes_sends_nothing_after_close(answered: int) -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = upload_bytes(access(), b"blob", BLOB)
    next(flow)
    for response in (ACCEPTED,)[:answered]:
        flow.send(response)
    flow.close()


# --- Sessions that are open already, and mounts


def test_upload_sends_no_post_in_an_open_session() -> None:
    """A mount that was refused has opened one (Mounting a blob from another repository)."""
    session = UploadSession(FIRST)
    flow = uploading(access(), BODY, seal, session)
    assert play(flow, (patch(BODY), NEXT), (put(), CREATED)) is BLOB
    flow = upload_bytes(access(), b"blob", BLOB, session=session)
    assert play(flow, (put_all(), CREATED)) is BLOB


SOURCE = Repository.parse("registry.example/team/base")
MOUNT = Request(
    "POST", f"{UPLOADS}?mount=sha256%3A{BLOB.digest.encoded}&from=team%2Fbase", body=b""
)


@pytest.mark.parametrize(
    "said", [{}, {"location": "/v2/team/app/blobs/x"}, {"location": "http://["}]
)
def test_mount_blob_returns_none_after_201(said: dict[str, str]) -> None:
    """201 Created where the mount succeeds (end-11): nothing is left to call."""
    assert play(mount_blob(access(), BLOB.digest, SOURCE), (MOUNT, Response(201, said))) is None


@pytest.mark.parametrize("location", [FIRST, FIRST.removeprefix(HOME), "one?_state=a"])
def test_mount_blob_returns_a_session_after_202(location: str) -> None:
    """202 Accepted as for an upload, where the registry cannot mount the blob (end-11)."""
    flow = mount_blob(access(), BLOB.digest, SOURCE)
    assert play(flow, (MOUNT, Response(202, {"location": location}))) == UploadSession(FIRST)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (Response(202), ProtocolViolation),
        (Response(202, {"location": "http://registry.example/u"}), ProtocolViolation),
        (Response(202, {"location": "https://127.0.0.1/u"}), ProtocolViolation),
        (Response(200), ProtocolViolation),
        (Response(204), ProtocolViolation),
        (Response(307, {"location": FIRST}), ProtocolViolation),
        (Response(401), Unauthorized),
        (Response(403), Denied),
        (Response(404), NotFound),
        (Response(405), RegistryError),
    ],
)
def test_mount_blob_raises_the_refusal(response: Response, kind: type[BrolgaError]) -> None:
    """Some registries answer 404 to a source that is not there: who asks uploads the blob then."""
    play(mount_blob(access(), BLOB.digest, SOURCE), (MOUNT, response), error=kind)


def test_mount_blob_gets_a_token_for_both_repositories() -> None:
    """A 401 to a mount is answered by a token that can read the source as well."""
    way = access().registry.access(
        Repository.parse("registry.example/team/app"), "pull,push", SOURCE
    )
    wide = token_call()
    scopes = f"{SCOPE}&scope=repository%3Ateam%2Fbase%3Apull"
    play(
        mount_blob(way, BLOB.digest, SOURCE),
        (MOUNT, Response(401, BEARER)),
        (replace(wide, url=wide.url.replace(SCOPE, scopes)), TOKEN),
        (authorized(MOUNT, "Bearer t1"), Response(201)),
    )
