"""upload/flow.py: a stream, request by request."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    POST,
    SECOND,
    USER,
    Answer,
    KnownBody,
    delete,
    drive,
    from_redirect,
    make_access,
    patch,
    play,
    put,
    token_request,
    upload_known,
    with_authorization,
    with_delay,
    with_joined_body,
)
from tests.protocol.upload.conversation import BODY, CREATED, CUT, NEXT, TOKEN, finalize

from brolga.errors import (
    BrolgaError,
    Denied,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    TransportError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.protocol import (
    Request,
    Response,
    Retry,
    Timeout,
    upload_stream,
)
from brolga.spec.digest import Digest

# --- Success


def test_upload_stream_sends_post_patch_put() -> None:
    """A chunked upload: obtain a session, upload, close it (Pushing a blob in chunks)."""
    flow = upload_known(make_access(), BODY, finalize)
    assert play(flow, (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CREATED)) is BLOB


@pytest.mark.parametrize("is_known", [True, False])
def test_upload_stream_opens_session_with_the_algorithm_of_the_digest(is_known: bool) -> None:
    """The registry hashes by it from the first byte on; a new session has it too."""
    strong = replace(BLOB, digest=Digest.of(b"blob", "sha512"))
    post = replace(POST, url=f"{POST.url}?digest-algorithm=sha512")
    closing = replace(put(), url=f"{SECOND}&digest=sha512%3A{strong.digest.encoded}")
    flow = upload_stream(
        make_access(retry=Retry(attempts=2)),
        KnownBody(BODY),
        lambda: strong,
        descriptor=strong if is_known else None,
        algorithm="sha256" if is_known else "sha512",
    )
    steps = [
        (post, ACCEPTED),
        (patch(BODY), Response(404)),
        (delete(FIRST), Response(204)),
        (with_delay(post, 0.5), ACCEPTED),
        (patch(BODY), NEXT),
        (closing, CREATED),
    ]
    assert play(flow, *steps) is strong


def test_upload_stream_sends_no_content_range() -> None:
    """Docker's form of a stream of unknown length; "Content-Length: 0" is a MUST of the POST."""
    requests: list[Request] = []
    answers = iter([ACCEPTED, NEXT, CREATED])

    def answer(request: Request) -> Answer:
        requests.append(with_joined_body(request))
        return next(answers)

    drive(upload_known(make_access(), BODY, finalize), answer)
    assert [request.body for request in requests] == [b"", BODY, b""]
    assert [name for request in requests for name in request.headers] == ["Content-Type"]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_upload_stream_accepts_each_success_of_patch(status: int) -> None:
    """The spec says 202; ECR answers 201 (aws/containers-roadmap#2831), JFrog 200 and 204."""
    response = Response(status, {"location": SECOND})
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), response),
        (put(), CREATED),
    )


@pytest.mark.parametrize("status", [201, 204])
def test_upload_stream_accepts_201_or_204_to_put(status: int) -> None:
    """The closing of the session MUST be 201 Created; 204 was distribution's answer of old."""
    response = Response(status)
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), response),
    )


def test_upload_stream_ignores_the_range_of_a_successful_patch() -> None:
    """ECR's Range stays at the first chunk although all is stored (aws/containers-roadmap#2831)."""
    stale = Response(201, {"location": SECOND, "range": "0-0"}, sent=4)
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), stale),
        (put(), CREATED),
    )


def test_upload_stream_keeps_the_url_if_patch_has_no_location() -> None:
    """A Location with each PATCH is the registry's MUST; without one the session has not moved."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), Response(202)),
        (put(FIRST), CREATED),
    )


def test_upload_stream_sends_no_credentials_to_another_host() -> None:
    """An upload Location of another host must not get the credentials (CVE-2026-50151)."""
    away = "https://storage.example/one?sig=x"
    bearer = "Bearer t1"
    play(
        upload_known(make_access(USER), BODY, finalize),
        (POST, Response(401, BEARER)),
        (token_request(USER), TOKEN),
        (with_authorization(POST, bearer), Response(202, {"location": away})),
        (from_redirect(patch(BODY, away)), Response(202, {"location": FIRST})),
        (with_authorization(put(FIRST), bearer), CREATED),
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
        upload_known(make_access(USER), BODY, finalize),
        (POST, Response(401, BEARER)),
        (token_request(USER), TOKEN),
        (with_authorization(POST, "Bearer t1"), Response(202, {"location": away})),
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
        upload_known(make_access(USER), BODY, finalize),
        (POST, Response(401, BEARER)),
        (token_request(USER), TOKEN),
        (with_authorization(POST, "Bearer t1"), Response(202, {"location": lost})),
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
        upload_known(make_access(), BODY, finalize),
        (POST, Response(401, BEARER)),
        (token_request(), TOKEN),
        (with_authorization(POST, bearer), ACCEPTED),
        (with_authorization(patch(BODY), bearer), NEXT),
        (with_authorization(put(), bearer), CREATED),
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
        requests.append(with_joined_body(request))
        return answers.get(request.method, Response(201))

    with pytest.raises(Unauthorized):
        drive(upload_known(make_access(USER), BODY, finalize), answer)
    assert [request.body == BODY for request in requests].count(True) == 1
    assert [request.method for request in requests] == ["POST", "PATCH", "DELETE"]


def test_upload_stream_renews_token_after_401_to_put() -> None:
    """GitLab's tokens live five minutes: a long PATCH ends with a dead one."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, Response(401, BEARER)),
        (token_request(), TOKEN),
        (with_authorization(POST, "Bearer t1"), ACCEPTED),
        (with_authorization(patch(BODY), "Bearer t1"), NEXT),
        (with_authorization(put(), "Bearer t1"), Response(401, BEARER)),
        (token_request(timeout=Timeout.LONG), Response(200, body=b'{"token": "t2"}')),
        (with_authorization(put(), "Bearer t2"), CREATED),
    )


def test_upload_stream_renews_token_after_401_to_delete() -> None:
    """Clients SHOULD send this request when aborting an upload (Cancel a blob upload)."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), Response(401, BEARER)),
        (token_request(timeout=Timeout.SHORT), TOKEN),
        (with_authorization(delete(FIRST), "Bearer t1"), Response(204)),
        error=UploadInterrupted,
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
        upload_known(make_access(), BODY, finalize),
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
        upload_known(make_access(), BODY, finalize),
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
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, Response(status)),
        error=ProtocolViolation,
    )


@pytest.mark.parametrize("status", [400, 416, 500, 503])
def test_upload_stream_raises_the_refusal_of_put_and_cancels(status: int) -> None:
    """An error of the closing is the registry's own word (Error Codes)."""
    body = b'{"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}'
    error = play(
        upload_known(make_access(), BODY, finalize),
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
    """The response to a successful closing MUST be 201 Created: the 200 of a login page is not."""
    play(
        upload_known(make_access(), BODY, finalize),
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
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), CUT),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match="after 3 bytes",
    )
    assert (error.sent, error.acknowledged, error.__cause__) == (3, 0, CUT)


def test_upload_stream_raises_transport_error_of_post() -> None:
    """No session is known, so there is nothing to cancel."""
    play(upload_known(make_access(), BODY, finalize), (POST, CUT), error=TransportError)


# --- The stored digest


def test_upload_stream_raises_mismatch_for_another_stored_digest() -> None:
    """Docker-Content-Digest is the digest of what was stored (Legacy Docker support)."""
    other = Digest.of(b"other")
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(201, {"docker-content-digest": str(other)})),
        (delete(SECOND), Response(404)),
        error=DigestMismatch,
    )
    assert (error.expected, error.actual) == (str(BLOB.digest), str(other))


@pytest.mark.parametrize(
    "digest", [str(BLOB.digest), str(Digest.of(b"blob", "sha512")), "nonsense", "sha256:12", ""]
)
def test_upload_stream_accepts_a_digest_that_does_not_contradict(digest: str) -> None:
    """A registry may name a blob by another algorithm, or put something else into the header."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(201, {"docker-content-digest": digest})),
    )


@pytest.mark.parametrize("status", [400, 404, 500])
def test_upload_stream_raises_mismatch_for_digest_invalid(status: int) -> None:
    """DIGEST_INVALID: provided digest did not match uploaded content (Error Codes)."""
    body = b'{"errors": [{"code": "DIGEST_INVALID", "message": "other bytes"}]}'
    error = play(
        upload_known(make_access(), BODY, finalize),
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
