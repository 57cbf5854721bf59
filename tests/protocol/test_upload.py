"""wire/upload.py: one blob's upload, call by call."""

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


def test_an_upload_is_post_patch_put() -> None:
    """A chunked upload: obtain a session, upload, close it (Pushing a blob in chunks)."""
    flow = uploading(access(), BODY, seal)
    assert play(flow, (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)) is BLOB


def test_the_stream_has_no_range_and_the_other_calls_have_an_empty_body() -> None:
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
def test_a_patch_succeeds_with_each_status_that_registries_use(status: int) -> None:
    """The spec says 202; ECR answers 201 (aws/containers-roadmap#2831), JFrog 200 and 204."""
    response = Response(status, {"location": SECOND})
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), response),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [201, 204])
def test_a_put_succeeds_with_201_or_204(status: int) -> None:
    """The closing of the session MUST be 201 Created; 204 was distribution's answer of old."""
    response = Response(status)
    play(uploading(access(), BODY, seal), (POST, ACCEPTED), (patch(BODY), NEXT), (put(), response))


def test_a_range_that_stands_still_is_not_believed() -> None:
    """ECR's Range stays at the first chunk although all is stored (aws/containers-roadmap#2831)."""
    stale = Response(201, {"location": SECOND, "range": "0-0"}, sent=4)
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), stale),
        (put(), CREATED),
    )


def test_a_patch_without_location_keeps_the_session() -> None:
    """A Location with each PATCH is the registry's MUST; without one the session has not moved."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(202)),
        (put(FIRST), CREATED),
    )


def test_a_session_on_another_host_gets_no_authorization() -> None:
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
def test_another_port_and_a_longer_name_are_other_origins(away: str, named_by: str) -> None:
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
def test_a_location_that_lost_its_port_is_told_at_once(reason: str) -> None:
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


def test_a_401_to_the_post_is_answered_by_a_token_and_a_second_post() -> None:
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
def test_a_401_to_the_stream_never_sends_it_again(whole: bool) -> None:
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


def test_a_token_that_died_during_the_stream_is_renewed_for_the_put() -> None:
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


def test_a_token_that_died_is_renewed_to_cancel_the_session() -> None:
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
def test_location_is_resolved_and_its_query_kept(
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


def test_a_location_of_a_query_alone_replaces_the_query() -> None:
    """The reference's query is the target's, not joined to the base's (RFC 3986, section 5.2.2)."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), Response(202, {"location": "?_state=b"})),
        (put(SECOND), CREATED),
    )


@pytest.mark.parametrize("headers", [{}, {"location": ""}, {"location": "#part"}])
def test_a_session_without_location_is_a_violation(headers: dict[str, str]) -> None:
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
def test_a_location_that_is_not_safe_to_call_is_a_violation(said: str) -> None:
    """A Location may lead out of TLS, inside (CVE-2026-48978), or be no URL at all."""
    error = play(
        uploading(access(USER), BODY, seal),
        (POST, Response(202, {"location": said})),
        error=ProtocolViolation,
        match="the registry's Location",
    )
    assert "secret" not in str(error)


def test_a_bad_location_after_the_stream_cancels_the_session_that_is_known() -> None:
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
def test_a_refusal_of_the_stream_is_itself_and_the_session_is_cancelled(
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
def test_an_early_success_is_an_interruption(status: int) -> None:
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
def test_a_post_that_opens_no_session_is_a_violation(status: int) -> None:
    """Upon success, the response MUST have a code of 202 Accepted (POST then PUT)."""
    play(uploading(access(), BODY, seal), (POST, Response(status)), error=ProtocolViolation)


@pytest.mark.parametrize("status", [400, 416, 500, 503])
def test_a_refusal_of_the_put_is_itself_and_the_session_is_cancelled(status: int) -> None:
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
def test_a_put_that_is_not_confirmed_is_a_violation(status: int) -> None:
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


def test_a_cut_stream_is_an_interruption() -> None:
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


def test_a_post_without_an_answer_fails_as_itself() -> None:
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
def test_a_put_whose_answer_was_lost_succeeds_where_the_blob_is_there(
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
def test_a_put_without_an_answer_fails_where_the_blob_is_not_shown(shown: Answer) -> None:
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


def test_a_blob_may_be_shown_elsewhere() -> None:
    """A registry that keeps its blobs elsewhere sends a HEAD there as well."""
    away = elsewhere(Request("HEAD", "https://cdn.example/blob"))
    flow = uploading(access(), BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    there = Response(307, {"location": away.url})
    shown = (away, Response(200, LENGTH)), (delete(SECOND), Response(404))
    assert play(flow, *steps, (HEAD, there), *shown) is BLOB


@pytest.mark.parametrize("shown", [Response(404), Response(200), CUT])
def test_a_blob_that_is_not_shown_elsewhere_is_not_believed(shown: Answer) -> None:
    """A redirect to a page that answers 200 to all is no blob."""
    away = elsewhere(Request("HEAD", "https://cdn.example/blob"))
    flow = uploading(access(), BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    there = HEAD, Response(307, {"location": away.url})
    gone = delete(SECOND), Response(404)
    play(flow, *steps, there, (away, shown), gone, error=UploadInterrupted)


def test_the_closing_is_made_once() -> None:
    """A second PUT finds no session where the first one did its work: HEAD tells, with patience."""
    way = access(retry=Retry(attempts=3))
    flow = uploading(way, BODY, seal)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    asked = (HEAD, Response(503)), (later(HEAD, 0.5), Response(200, LENGTH))
    assert play(flow, *steps, *asked, (delete(SECOND), Response(404))) is BLOB


@pytest.mark.parametrize("shown", ABSENT)
def test_a_gateway_error_of_the_put_is_itself_where_the_blob_is_not_shown(shown: Answer) -> None:
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
def test_a_failure_of_the_source_cancels_the_session_and_comes_out_as_it_was(
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
    ("reply", "session"),
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
def test_a_session_is_given_up_where_it_is_now(
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


def test_an_interrupt_under_a_chunk_is_given_up_where_its_answer_says() -> None:
    """The driver waits for the answer of a chunk as for the one of a stream."""
    failure = KeyboardInterrupt()
    headers = {"Content-Type": "application/octet-stream", "Content-Range": "0-2"}
    error = play(
        upload_stream(access(), Known(BODY), seal, style=UploadStrategy(chunk=3)),
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
def test_a_source_that_fails_between_chunks_is_no_failure_of_the_registry(
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
            known=BLOB,
            style=UploadStrategy(chunk=2),
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


def test_a_chunk_is_let_go_before_the_next_one_is_gathered() -> None:
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

    flow = upload_stream(access(), Known(source()), seal, style=UploadStrategy(chunk=2))
    next(flow)
    flow.send(ACCEPTED)
    assert not seen
    flow.send(NEXT)
    assert seen == [False]
    flow.close()


def test_a_body_that_is_cut_on_its_own_side_is_no_interruption_here() -> None:
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
def test_a_cancel_that_fails_changes_nothing(refusal: Answer) -> None:
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


def test_an_interrupt_during_the_cancel_is_obeyed() -> None:
    """A second Ctrl-C means now: no clean-up holds it up."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), KeyboardInterrupt()),
        error=KeyboardInterrupt,
    )


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_dropped_flow_makes_no_call(answered: int) -> None:
    """A generator that is closed must not yield (PEP 342): nobody would make the call."""
    flow = uploading(access(), BODY, seal)
    next(flow)
    for response in (ACCEPTED, NEXT)[:answered]:
        flow.send(response)
    flow.close()  # RuntimeError "generator ignored GeneratorExit" if it made a call


def test_a_flow_dropped_during_its_cancel_makes_no_other_call() -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = uploading(access(), BODY, seal)
    next(flow)
    flow.send(ACCEPTED)
    assert flow.throw(CUT) == delete(FIRST)
    flow.close()


def test_a_stream_without_a_digest_is_not_committed() -> None:
    """The closing PUT MUST include the digest of the whole blob: half a stream has none."""
    play(
        uploading(access(), BODY, sealed_too_early),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (delete(SECOND), Response(204)),
        error=NotComputed,
    )


# --- What the registry says that it stored


def test_another_digest_is_a_mismatch() -> None:
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
def test_a_digest_that_does_not_contradict_is_no_mismatch(said: str) -> None:
    """A registry may name a blob by another algorithm, or put something else into the header."""
    play(
        uploading(access(), BODY, seal),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(201, {"docker-content-digest": said})),
    )


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_digest_that_the_registry_does_not_agree_with_is_a_mismatch(status: int) -> None:
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


def test_bytes_go_out_in_one_put() -> None:
    """POST then PUT (end-4a, end-6): no PATCH for what is known whole."""
    assert (
        play(upload_bytes(access(), b"blob", BLOB), (POST, ACCEPTED), (put_all(), CREATED)) is BLOB
    )


def test_no_bytes_are_an_empty_put() -> None:
    """An empty blob is closed as soon as its session is open."""
    empty = replace(BLOB, digest=Digest.of(b""), size=0)
    flow = upload_bytes(access(), b"", empty)
    assert play(flow, (POST, ACCEPTED), (put_all(b""), CREATED)) is empty


BY_POST = Request("POST", f"{UPLOADS}?{QUERY}", OCTETS, b"blob")


def by_post(post_max: int = 4, session: UploadSession | None = None) -> Flow[Descriptor]:
    """Upload bytes to a registry that takes tiny ones by the POST."""
    style = UploadStrategy(single_post_max=post_max)
    return upload_bytes(access(), b"blob", BLOB, session=session, style=style)


def test_tiny_bytes_go_with_the_post() -> None:
    """A blob MAY be pushed by a single POST (end-4b): one request."""
    assert play(by_post(), (BY_POST, CREATED)) is BLOB


def test_what_is_not_tiny_or_has_a_session_goes_as_usual() -> None:
    """The bound is the style's."""
    assert play(by_post(3), (POST, ACCEPTED), (put_all(), CREATED)) is BLOB
    assert play(by_post(session=UploadSession(FIRST)), (put_all(), CREATED)) is BLOB


@pytest.mark.parametrize("lost", [CUT, Response(500), Response(503)])
def test_a_post_of_bytes_that_fails_is_followed_by_a_usual_upload(lost: Answer) -> None:
    """What the registry cannot do in one request it may do in two."""
    assert play(by_post(), (BY_POST, lost), (POST, ACCEPTED), (put_all(), CREATED)) is BLOB
    assert play(by_post(), (BY_POST, ACCEPTED), (put_all(), CREATED)) is BLOB


def test_a_post_of_bytes_that_is_refused_is_told() -> None:
    """Another form would be refused too."""
    play(by_post(), (BY_POST, Response(403)), error=Denied)
    play(by_post(), (BY_POST, MISMATCHED), error=DigestMismatch)


# --- Blobs whose digest is known


def known(style: UploadStrategy, attempts: int = 1, body: Known | None = None) -> Flow[Descriptor]:
    """Upload a blob whose digest is known before."""
    way = access(retry=Retry(attempts=attempts))
    return upload_stream(way, body or Known(BODY), seal, known=BLOB, style=style)


WHOLE = replace(put_all(), body=BODY, size=4)
ONE_PUT = UploadStrategy(monolithic_max=4)


def test_a_blob_of_known_length_goes_in_one_put() -> None:
    """POST then PUT (Pushing a blob monolithically): its length is told, and nothing is framed."""
    assert play(known(ONE_PUT), (POST, ACCEPTED), (WHOLE, CREATED)) is BLOB


def test_a_larger_one_is_streamed() -> None:
    """A PUT that was cut has nothing to go on from on many registries."""
    style = UploadStrategy(monolithic_max=3)
    assert play(known(style), (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)) is BLOB


def test_a_put_that_was_cut_goes_on_by_a_patch() -> None:
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


def test_a_put_that_was_too_large_is_made_in_chunks() -> None:
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


def test_an_answer_before_the_end_of_a_put_is_not_believed() -> None:
    """A success that cannot have seen all bytes is none."""
    play(
        known(ONE_PUT),
        (POST, ACCEPTED),
        (WHOLE, Response(201, sent=2, complete=False)),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match="answered 201 after 2 bytes, before the end",
    )


def test_bytes_are_sent_again_with_a_new_token() -> None:
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
def test_bytes_whose_answer_was_lost_may_be_there(lost: Answer, said: dict[str, str]) -> None:
    """The same question as after a stream."""
    steps = (POST, ACCEPTED), (put_all(), lost), (HEAD, Response(200, said))
    gone = delete(FIRST), Response(404)
    assert play(upload_bytes(access(), b"blob", BLOB), *steps, gone) is BLOB


@pytest.mark.parametrize(("reason", "sent"), [("connect", 0), ("cut", 3), ("timeout", 4)])
def test_bytes_that_did_not_arrive_are_an_interruption(reason: str, sent: int) -> None:
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
def test_bytes_that_are_refused_leave_no_session(answer: Answer, kind: type[BaseException]) -> None:
    """Clients SHOULD send DELETE when aborting a blob upload (Cancel a blob upload)."""
    flow = upload_bytes(access(), b"blob", BLOB)
    play(flow, (POST, ACCEPTED), (put_all(), answer), (delete(FIRST), Response(204)), error=kind)


@pytest.mark.parametrize("answered", [0, 1])
def test_a_dropped_upload_of_bytes_makes_no_call(answered: int) -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = upload_bytes(access(), b"blob", BLOB)
    next(flow)
    for response in (ACCEPTED,)[:answered]:
        flow.send(response)
    flow.close()


# --- Sessions that are open already, and mounts


def test_an_open_session_needs_no_post() -> None:
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
def test_a_mounted_blob_needs_no_upload(said: dict[str, str]) -> None:
    """201 Created where the mount succeeds (end-11): nothing is left to call."""
    assert play(mount_blob(access(), BLOB.digest, SOURCE), (MOUNT, Response(201, said))) is None


@pytest.mark.parametrize("location", [FIRST, FIRST.removeprefix(HOME), "one?_state=a"])
def test_a_blob_that_is_not_mounted_gets_a_session(location: str) -> None:
    """202 Accepted as for an upload, where the registry cannot mount the blob (end-11)."""
    flow = mount_blob(access(), BLOB.digest, SOURCE)
    assert play(flow, (MOUNT, Response(202, {"location": location}))) == UploadSession(FIRST)


@pytest.mark.parametrize(
    ("reply", "kind"),
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
def test_a_mount_that_is_refused_is_told(response: Response, kind: type[BrolgaError]) -> None:
    """Some registries answer 404 to a source that is not there: who asks uploads the blob then."""
    play(mount_blob(access(), BLOB.digest, SOURCE), (MOUNT, response), error=kind)


def test_a_mount_asks_for_a_token_of_both_repositories() -> None:
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
