"""upload/flow.py: a PUT without an answer, or with a doubtful one."""

from __future__ import annotations

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    BLOB,
    HEAD,
    POST,
    SECOND,
    Answer,
    KnownBody,
    Step,
    delete,
    drive,
    from_redirect,
    make_access,
    patch,
    play,
    put,
    upload_known,
    with_delay,
)
from tests.protocol.upload.conversation import (
    BODY,
    CREATED,
    CUT,
    DIGEST,
    GONE,
    LENGTH,
    NEXT,
    NOT_THERE,
    OTHER,
    THIRD,
    finalize,
    located,
    query,
    restart,
    upload,
)

from brolga.errors import (
    RegistryError,
    StreamNotReplayable,
    UploadInterrupted,
)
from brolga.protocol import (
    Request,
    Response,
    Retry,
    UploadStrategy,
)
from brolga.spec.digest import Digest

# --- The blob is asked for


@pytest.mark.parametrize(
    "headers",
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
    lost: Answer, headers: dict[str, str]
) -> None:
    """A commit may outlast a proxy's patience (goharbor/harbor#19573): ask before failing."""
    flow = upload_known(make_access(), BODY, finalize)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), lost), (HEAD, Response(200, headers))
    # The PUT may not have come to it, and another upload brought the blob: a session is left then.
    assert play(flow, *steps, (delete(SECOND), Response(404))) is BLOB


# What leaves it unknown whether the blob is there.
UNKNOWN = [Response(307), Response(500), CUT, Response(401), Response(206, LENGTH)]
# What does not show the blob: the last ones are a page of a proxy, which answers 200 to all, and
# another blob under our name.
ABSENT = [
    Response(404),
    Response(200),
    Response(200, {"content-length": ""}),
    Response(200, {"content-length": "3"}),
    Response(200, OTHER),
    Response(200, LENGTH | OTHER),
    Response(200, DIGEST | {"content-length": "3"}),
]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        *((shown, "does not show the blob.*; nothing was committed$") for shown in ABSENT),
        *((shown, "does not answer.*; the blob may have been committed$") for shown in UNKNOWN),
    ],
)
def test_upload_stream_raises_after_a_cut_put_if_head_shows_no_blob(
    shown: Answer, text: str
) -> None:
    """A HEAD of an existing blob MUST return 200 OK (Checking if content exists).

    The error says that nothing was committed only if the registry said so.
    """
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        (HEAD, shown),
        (delete(SECOND), Response(204)),
        error=UploadInterrupted,
        match=text,
    )
    assert (error.sent, error.acknowledged, error.__cause__) == (4, 4, CUT)


def test_upload_stream_follows_a_redirect_of_head() -> None:
    """A registry that keeps its blobs elsewhere sends a HEAD there as well."""
    away = from_redirect(Request("HEAD", "https://cdn.example/blob"))
    flow = upload_known(make_access(), BODY, finalize)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    there = Response(307, {"location": away.url})
    shown = (away, Response(200, LENGTH)), (delete(SECOND), Response(404))
    assert play(flow, *steps, (HEAD, there), *shown) is BLOB


@pytest.mark.parametrize("shown", [Response(404), Response(200), CUT])
def test_upload_stream_raises_if_the_redirected_head_shows_no_blob(shown: Answer) -> None:
    """A redirect to a page that answers 200 to everything does not show a blob."""
    away = from_redirect(Request("HEAD", "https://cdn.example/blob"))
    flow = upload_known(make_access(), BODY, finalize)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    there = HEAD, Response(307, {"location": away.url})
    gone = delete(SECOND), Response(404)
    play(flow, *steps, there, (away, shown), gone, error=UploadInterrupted)


def test_upload_stream_sends_put_once() -> None:
    """A second PUT finds no session if the first one stored the blob: HEAD shows it."""
    way = make_access(retry=Retry(attempts=3))
    flow = upload_known(way, BODY, finalize)
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), CUT)
    query = (HEAD, Response(503)), (with_delay(HEAD, 0.5), Response(200, LENGTH))
    assert play(flow, *steps, *query, (delete(SECOND), Response(404))) is BLOB


@pytest.mark.parametrize("shown", ABSENT)
def test_upload_stream_raises_504_of_put_if_head_shows_no_blob(shown: Answer) -> None:
    """RFC 9110, sections 15.6.3 and 15.6.5: a proxy speaks, not the registry behind it."""
    error = play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(504)),
        (HEAD, shown),
        (delete(SECOND), Response(204)),
        error=RegistryError,
    )
    assert error.status == 504


# --- The session after a PUT


@pytest.mark.parametrize("lost", [CUT, Response(408), Response(500), Response(502), Response(504)])
def test_upload_finds_the_blob_by_repeated_head_after_a_lost_put(lost: Answer) -> None:
    """A large blob is committed after its proxy's patience (goharbor/harbor#19573)."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), lost),
        (HEAD, Response(404)),
        (with_delay(HEAD, 0.5), Response(404)),
        (with_delay(HEAD, 1.5), Response(200, {"content-length": "4"})),
        (delete(SECOND), GONE),
    )


def test_upload_queries_the_session_after_a_head_without_an_answer() -> None:
    """A HEAD has attempts of its own. After them the session is queried."""
    play(
        upload(attempts=2),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        (HEAD, Response(502)),
        (with_delay(HEAD, 0.5), Response(502)),
        (query(SECOND), located("0-3")),
        (put(THIRD), CREATED),
    )


@pytest.mark.parametrize("lost", [CUT, Response(408), Response(500), Response(504)])
def test_upload_finds_the_blob_if_the_session_is_gone_after_a_lost_put(lost: Answer) -> None:
    """Its 404 may say that the PUT did its work: the blob is asked for before a byte goes again."""
    there = Response(200, {"content-length": "4"})
    steps = (POST, ACCEPTED), (patch(BODY), NEXT), (put(), lost), *NOT_THERE
    play(upload(), *steps, (query(SECOND), Response(404)), (HEAD, there), (delete(SECOND), GONE))


def test_upload_finds_the_blob_after_404_to_the_second_put() -> None:
    """The first PUT was still under way, and ended the session after all."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), CUT),
        *NOT_THERE,
        (query(SECOND), located("0-3")),
        (put(THIRD), Response(404)),
        (HEAD, Response(200, {"content-length": "4"})),
        (delete(THIRD), GONE),
    )


@pytest.mark.parametrize("status", [429, 503])
def test_upload_finds_the_blob_if_the_session_is_gone_after_a_refused_put(status: int) -> None:
    """The session is gone, and the bytes too: one HEAD before the error is raised."""
    steps: list[Step] = [
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status)),
        (query(SECOND), Response(404)),
    ]
    there = (HEAD, Response(200, {"content-length": "4"})), (delete(SECOND), GONE)
    assert play(upload(KnownBody(BODY, replayable_from=4)), *steps, *there) is BLOB
    gone = (HEAD, Response(404)), (delete(SECOND), GONE)
    play(upload(KnownBody(BODY, replayable_from=4)), *steps, *gone, error=StreamNotReplayable)


def test_upload_asks_for_the_blob_before_it_raises_the_last_refusal_of_put() -> None:
    """All attempts are used, but one HEAD is sent before the error is raised."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), Response(503))]
    there = (HEAD, Response(200, {"content-length": "4"})), (delete(SECOND), GONE)
    assert play(upload(attempts=1), *steps, *there) is BLOB
    gone = (HEAD, Response(404)), (delete(SECOND), GONE)
    play(upload(attempts=1), *steps, *gone, error=RegistryError, match="503")


SECOND_PUT = (
    Response(400),
    Response(400, body=b'{"errors": [{"code": "BLOB_UPLOAD_INVALID"}]}'),
    Response(404),
    Response(409),
    Response(410),
    Response(416),
)


@pytest.mark.parametrize("answer", SECOND_PUT)
def test_upload_finds_the_blob_after_a_put_that_a_proxy_repeated(answer: Response) -> None:
    """Nginx sends a PUT again whose answer it lost (proxy_next_upstream): the session is gone.

    The bytes need not be here any more.
    """
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), answer)]
    shown = HEAD, Response(200, {"docker-content-digest": str(BLOB.digest), "content-length": "4"})
    flow = upload(KnownBody(BODY, replayable_from=3))
    assert play(flow, *steps, shown, (delete(SECOND), GONE)) is BLOB


@pytest.mark.parametrize("status", [404, 410, 416])
def test_upload_restarts_if_put_finds_no_session_and_head_no_blob(status: int) -> None:
    """The blob is asked for once, and not shown: the session was lost before."""
    play(
        upload(),
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(status)),
        (HEAD, Response(404)),
        (delete(SECOND), GONE),
        *restart(),
    )


@pytest.mark.parametrize("status", [401, 403, 405, 413])
def test_upload_sends_no_head_after_a_clean_refusal_of_put(status: int) -> None:
    """A registry that forbids the upload is believed."""
    steps: list[Step] = [(POST, ACCEPTED), (patch(BODY), NEXT), (put(), Response(status))]
    requests: list[str] = []
    answers = [answer for _, answer in steps]

    def answer(request: Request) -> Answer:
        requests.append(request.method)
        return answers.pop(0) if answers else GONE

    with pytest.raises(RegistryError):
        drive(upload(strategy=UploadStrategy(fallback_chunk_size=0), attempts=1), answer)
    assert "HEAD" not in requests


def test_upload_finds_the_blob_after_404_to_the_post_that_follows_a_lost_put() -> None:
    """The commit took longer than its session, and another POST: no session is left to cancel."""
    steps: list[Step] = [
        (POST, ACCEPTED),
        (patch(BODY), NEXT),
        (put(), Response(503)),
        (query(SECOND), Response(404)),
        (HEAD, Response(404)),
        (delete(SECOND), GONE),
        (POST, Response(404)),
        (HEAD, Response(200, {"content-length": "4"})),
    ]
    assert play(upload(), *steps) is BLOB
