"""upload: bytes in memory, and blobs of known digest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    POST,
    QUERY,
    SECOND,
    UPLOADS,
    Answer,
    KnownBody,
    advance,
    delete,
    make_access,
    patch,
    play,
    put,
    token_request,
    with_authorization,
)

from brolga.errors import (
    Denied,
    DigestMismatch,
    ProtocolViolation,
    RegistryError,
    TransportError,
    UploadInterrupted,
)
from brolga.protocol import (
    Flow,
    Request,
    Response,
    Retry,
    Timeout,
    UploadSession,
    UploadStrategy,
    upload_bytes,
    upload_stream,
)
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from brolga.protocol import Flow
    from brolga.spec.descriptor import Descriptor

from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    DIGEST,
    LENGTH,
    MISMATCH,
    NEXT,
    OCTETS,
    OTHER,
    TOKEN,
    finalize,
    put_whole,
)

# --- Bytes in memory


def test_upload_bytes_sends_one_put() -> None:
    """POST then PUT (end-4a, end-6): no PATCH for what is known whole."""
    assert (
        play(upload_bytes(make_access(), b"blob", BLOB), (POST, ACCEPTED), (put_whole(), CREATED))
        is BLOB
    )


def test_upload_bytes_sends_an_empty_put_for_no_bytes() -> None:
    """An empty blob is closed as soon as its session is open."""
    empty = replace(BLOB, digest=Digest.of(b""), size=0)
    flow = upload_bytes(make_access(), b"", empty)
    assert play(flow, (POST, ACCEPTED), (put_whole(b""), CREATED)) is empty


BY_POST = Request("POST", f"{UPLOADS}?{QUERY}", OCTETS, b"blob")


def by_post(post_max: int = 4, session: UploadSession | None = None) -> Flow[Descriptor]:
    """Upload bytes to a registry that takes tiny ones by the POST."""
    strategy = UploadStrategy(single_post_max=post_max)
    return upload_bytes(make_access(), b"blob", BLOB, session=session, strategy=strategy)


def test_upload_bytes_sends_small_bytes_with_post() -> None:
    """A blob MAY be pushed by a single POST (end-4b): one request."""
    assert play(by_post(), (BY_POST, CREATED)) is BLOB


def test_upload_bytes_sends_put_if_too_large_for_post_or_in_a_session() -> None:
    """The bound is the style's."""
    assert play(by_post(3), (POST, ACCEPTED), (put_whole(), CREATED)) is BLOB
    assert play(by_post(session=UploadSession(FIRST)), (put_whole(), CREATED)) is BLOB


@pytest.mark.parametrize("lost", [CUT, Response(500), Response(503)])
def test_upload_bytes_sends_put_after_post_with_bytes_failed(lost: Answer) -> None:
    """What the registry cannot do in one request it may do in two."""
    assert play(by_post(), (BY_POST, lost), (POST, ACCEPTED), (put_whole(), CREATED)) is BLOB
    assert play(by_post(), (BY_POST, ACCEPTED), (put_whole(), CREATED)) is BLOB


def test_upload_bytes_raises_the_refusal_of_post() -> None:
    """Another form would be refused too."""
    play(by_post(), (BY_POST, Response(403)), error=Denied)
    play(by_post(), (BY_POST, MISMATCH), error=DigestMismatch)


# --- Blobs of known digest


def known(
    strategy: UploadStrategy, attempts: int = 1, body: KnownBody | None = None
) -> Flow[Descriptor]:
    """Upload a blob whose digest is known before."""
    way = make_access(retry=Retry(attempts=attempts))
    return upload_stream(way, body or KnownBody(BODY), finalize, descriptor=BLOB, strategy=strategy)


WHOLE = replace(put_whole(), body=BODY, size=4)
ONE_PUT = UploadStrategy(monolithic_max=4)


def test_upload_stream_sends_one_put_if_the_descriptor_is_known() -> None:
    """POST then PUT (Pushing a blob monolithically): it has a Content-Length."""
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
    """A success that cannot have seen all bytes is not believed."""
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
        upload_bytes(make_access(), b"blob", BLOB),
        (POST, ACCEPTED),
        (put_whole(), Response(401, BEARER)),
        (token_request(timeout=Timeout.LONG), TOKEN),
        (with_authorization(put_whole(), "Bearer t1"), CREATED),
    )


@pytest.mark.parametrize("headers", [LENGTH, DIGEST])
@pytest.mark.parametrize("lost", [CUT, Response(502), Response(504)])
def test_upload_bytes_succeeds_after_a_lost_put_if_head_shows_the_blob(
    lost: Answer, headers: dict[str, str]
) -> None:
    """The same question as after a stream."""
    steps = (POST, ACCEPTED), (put_whole(), lost), (HEAD, Response(200, headers))
    gone = delete(FIRST), Response(404)
    assert play(upload_bytes(make_access(), b"blob", BLOB), *steps, gone) is BLOB


@pytest.mark.parametrize(("reason", "sent"), [("connect", 0), ("cut", 3), ("timeout", 4)])
def test_upload_bytes_raises_interrupted_after_a_lost_put(reason: str, sent: int) -> None:
    """The error says what was sent, and that nothing was acknowledged."""
    error = play(
        upload_bytes(make_access(), b"blob", BLOB),
        (POST, ACCEPTED),
        (put_whole(), TransportError("no answer", reason=reason, sent=sent)),
        (HEAD, Response(404)),
        (delete(FIRST), Response(204)),
        error=UploadInterrupted,
        match=f"{sent} of 4 bytes were sent.*does not show",
    )
    assert (error.sent, error.acknowledged) == (sent, 0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (MISMATCH, DigestMismatch),
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
    flow = upload_bytes(make_access(), b"blob", BLOB)
    play(flow, (POST, ACCEPTED), (put_whole(), answer), (delete(FIRST), Response(204)), error=kind)


@pytest.mark.parametrize("answered", [0, 1])
def test_upload_bytes_sends_nothing_after_close(answered: int) -> None:
    """A generator that is closed must not yield (PEP 342)."""
    flow = upload_bytes(make_access(), b"blob", BLOB)
    advance(flow)
    for response in (ACCEPTED,)[:answered]:
        advance(flow, response)
    flow.close()
