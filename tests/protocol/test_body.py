"""wire/body.py: a source that is silent, and a proxy that bounds the wait for a body."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.scripted import (
    ACCEPTED,
    FIRST,
    HOME,
    POST,
    REPOSITORY,
    SECOND,
    Answer,
    delete,
    drive,
    later,
    play,
)

from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    SourceError,
    StreamNotReplayable,
    TransportError,
)
from brolga.protocol import (
    BodyError,
    RegistrySession,
    Request,
    Response,
    Retry,
    Timeout,
    UploadStrategy,
    upload_stream,
)
from brolga.protocol.body import IdleLimit, check_kept, wait_for_bytes
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.stream.replay import MemoryBuffer, ReplayableBody

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from brolga.protocol import Flow

KIB = 1 << 10
ONE, TWO, THREE = b"1" * 2 * KIB, b"2" * 2 * KIB, b"3" * 2 * KIB
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
NEXT = Response(202, {"location": SECOND})
CREATED = Response(201)
GONE = Response(204)
HEARTBEATS_A_S = 4
ONE_PATCH = UploadStrategy(splits=False)


@dataclass
class Clock:
    """A clock that goes on where a source is silent."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def source(self, *parts: bytes | int | Exception) -> Iterator[bytes]:
        """Yield bytes; a number is so many seconds of silence, with heartbeats."""
        for part in parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, bytes):
                yield part
                continue
            for _ in range(part * HEARTBEATS_A_S):
                self.now_s += 1 / HEARTBEATS_A_S
                yield b""


def tape(source: Iterable[bytes], window: int = 1 << 20) -> ReplayableBody:
    """Return a body that keeps what its window holds."""
    return ReplayableBody(source, MemoryBuffer(window), None, lambda: None)


def descriptor_of(*data: bytes) -> Descriptor:
    """Return the descriptor of a blob."""
    joined = b"".join(data)
    return Descriptor("application/octet-stream", Digest.of(joined), len(joined))


def upload(
    clock: Clock,
    *parts: bytes | int | Exception,
    style: UploadStrategy | None = None,
    attempts: int = 2,
    window: int = 1 << 20,
) -> Flow[Descriptor]:
    """Upload a source of bytes and silences."""
    blob = descriptor_of(*(part for part in parts if isinstance(part, bytes)))
    registry = RegistrySession(HOME, None, retry=Retry(attempts=attempts), clock=clock)
    body = tape(clock.source(*parts), window)
    way = registry.access(REPOSITORY, "pull,push")
    return upload_stream(way, body, lambda: blob, style=style)


def patch(*blocks: bytes | int, session: str = FIRST) -> Request:
    """Return a PATCH with blocks; a number is so many seconds of heartbeats."""
    body: list[bytes] = []
    for block in blocks:
        body += [block] if isinstance(block, bytes) else [b""] * block * HEARTBEATS_A_S
    headers = {"Content-Type": "application/octet-stream"}
    return Request("PATCH", session, headers, body, Timeout.LONG)


def put(blob: Descriptor, session: str = SECOND) -> Request:
    """Return the PUT that closes a session."""
    url = f"{session}&digest=sha256%3A{blob.digest.encoded}"
    return Request("PUT", url, body=b"", timeout=Timeout.LONG)


# --- Before the first byte


@pytest.mark.parametrize("style", [UploadStrategy(), ONE_PATCH])
def test_patch_is_opened_when_there_are_bytes(style: UploadStrategy) -> None:
    """A program may be silent for longer than a proxy waits for a body (pg_dump, a large query)."""
    play(
        upload(Clock(), 3600, ONE, style=style),
        (POST, ACCEPTED),
        (patch(ONE), NEXT),
        (put(descriptor_of(ONE)), CREATED),
    )


def test_patch_is_not_opened_for_the_header_of_a_compressor() -> None:
    """Gzip gives its header before it was given a byte."""
    play(
        upload(Clock(), GZIP_HEADER, 3600, ONE),
        (POST, ACCEPTED),
        (patch(GZIP_HEADER, ONE), NEXT),
        (put(descriptor_of(GZIP_HEADER, ONE)), CREATED),
    )


@pytest.mark.parametrize("parts", [(), (3600,)])
def test_empty_stream_needs_no_patch(parts: tuple[int, ...]) -> None:
    """A PUT of no bytes closes the session (POST then PUT)."""
    play(
        upload(Clock(), *parts),
        (POST, ACCEPTED),
        (put(descriptor_of(), FIRST), CREATED),
    )


def test_source_that_fails_before_the_patch_cancels_the_session() -> None:
    """What it raises is the source's, and not the registry's."""
    play(
        upload(Clock(), 60, SourceError("gone")),
        (POST, ACCEPTED),
        (delete(FIRST), GONE),
        error=SourceError,
        match="gone",
    )


def test_wait_for_bytes_keeps_what_it_reads() -> None:
    """What was read to find out that there is something goes out from what keeps it."""
    body = tape([ONE, TWO, THREE], window=0)
    body.retain_from(0)
    wait_for_bytes(body)
    assert body.bytes_read == len(ONE)
    assert b"".join(body.blocks(0)) == ONE + TWO + THREE


# --- Silence in the middle


def test_silent_patch_is_ended_and_the_next_one_has_the_rest() -> None:
    """A proxy waits a minute for the next bytes of a body (nginx, client_body_timeout)."""
    play(
        upload(Clock(), ONE, 3600, TWO, 3600, THREE),
        (POST, ACCEPTED),
        (patch(ONE, 15, b""), Response(202, {"location": SECOND})),
        (patch(TWO, 15, b"", session=SECOND), Response(202, {"location": SECOND})),
        (patch(THREE, session=SECOND), Response(202, {"location": SECOND})),
        (put(descriptor_of(ONE, TWO, THREE)), CREATED),
    )


def test_silence_at_the_end_needs_no_further_patch() -> None:
    """The source ended without another byte."""
    play(
        upload(Clock(), ONE, 3600),
        (POST, ACCEPTED),
        (patch(ONE, 15, b""), NEXT),
        (put(descriptor_of(ONE)), CREATED),
    )


def test_short_silence_ends_no_patch() -> None:
    """Each PATCH costs the registry something."""
    play(
        upload(Clock(), ONE, 10, TWO, 10, THREE),
        (POST, ACCEPTED),
        (patch(ONE, 10, TWO, 10, THREE), NEXT),
        (put(descriptor_of(ONE, TWO, THREE)), CREATED),
    )


@pytest.mark.parametrize("style", [ONE_PATCH, UploadStrategy().override("streamed")])
def test_session_that_takes_one_patch_gets_one(style: UploadStrategy) -> None:
    """JFrog, GAR; and whoever asks for one (`--upload-style streamed`)."""
    play(
        upload(Clock(), ONE, 60, TWO, style=style),
        (POST, ACCEPTED),
        (patch(ONE, 60, TWO), NEXT),
        (put(descriptor_of(ONE, TWO)), CREATED),
    )


def test_time_without_heartbeats_ends_no_request() -> None:
    """An iterable is asked in the thread of whoever uploads: nobody can tell that it is silent."""
    limit = IdleLimit(lambda: 0.0, 1.0)
    assert list(limit.watch(tape([ONE, TWO]), 0, ends=True)) == [ONE, TWO]
    assert list(limit.watch(tape([b"", b""]), 0, ends=True)) == []


@pytest.mark.parametrize("status", [400, 404, 410, 416])
def test_session_that_takes_no_second_stream_is_begun_again_in_one(status: int) -> None:
    """A registry that is not known to take one PATCH alone shows it."""
    play(
        upload(Clock(), ONE, 20, TWO, attempts=3),
        (POST, ACCEPTED),
        (patch(ONE, 15, b""), NEXT),
        (patch(TWO, session=SECOND), Response(status)),
        (delete(SECOND), GONE),
        *ONE_AGAIN,
    )


ONE_AGAIN = (
    (later(POST, 0.5), ACCEPTED),
    (patch(ONE, TWO), NEXT),
    (put(descriptor_of(ONE, TWO)), CREATED),
)


def test_other_bytes_after_a_second_stream_are_sent_anew_in_one() -> None:
    """Another node took the second one: the comparison of the digest finds it."""
    play(
        upload(Clock(), ONE, 20, TWO, attempts=3),
        (POST, ACCEPTED),
        (patch(ONE, 15, b""), NEXT),
        (patch(TWO, session=SECOND), NEXT),
        (
            put(descriptor_of(ONE, TWO)),
            Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}'),
        ),
        (delete(SECOND), GONE),
        *ONE_AGAIN,
    )


# --- A source that is read a second time


def reopened(clock: Clock, *parts: bytes | int, live: Iterable[bytes] = ()) -> ReplayableBody:
    """Return a body that keeps nothing, and whose source gives its bytes again, slowly."""
    return ReplayableBody(live, MemoryBuffer(0), lambda: clock.source(*parts), lambda: None)


def test_patch_is_opened_when_a_second_pass_is_where_the_registry_is() -> None:
    """To hash a large file up to there may take longer than a proxy waits for a body."""
    clock = Clock()
    body = reopened(clock, ONE, 3600, TWO, live=[ONE, TWO])
    wait_for_bytes(body)
    list(body.blocks(body.bytes_read))
    blocks = IdleLimit(clock, 15.0).watch(body, len(ONE), ends=True)
    assert clock.now_s == 3600
    assert b"".join(blocks) == TWO


def test_patch_is_not_ended_before_all_that_was_given_went_out() -> None:
    """What it acknowledges is all that the body has given."""
    clock = Clock()
    body = reopened(clock, ONE, 3600, TWO, live=[ONE, TWO])
    list(body.blocks(0))
    blocks = IdleLimit(clock, 15.0).watch(body, 0, ends=True)
    assert b"".join(blocks) == ONE + TWO


def test_second_pass_that_fails_before_the_patch_is_the_sources() -> None:
    """A file that has changed is no failure of the registry."""
    body = ReplayableBody(
        [ONE, TWO], MemoryBuffer(0), lambda: Clock().source(SourceError("changed")), lambda: None
    )
    list(body.blocks(0))
    with pytest.raises(BodyError) as caught:
        IdleLimit(Clock(), 15.0).watch(body, 0, ends=True)
    assert isinstance(caught.value.error, SourceError)


# --- A proxy that bounds the wait


@dataclass
class Proxy:
    """A registry behind a proxy that waits `bound_s` for the next bytes of a body.

    It answers 408 then, or cuts the connection. What `buffers` hands on no request before its end.
    """

    clock: Clock
    bound_s: float
    buffers: bool
    cuts: bool
    one_patch: bool = False
    stored: bytes = b""
    patches: int = 0
    blob: bytes | None = None
    sessions: int = 0
    has_patch: bool = field(default=False, init=False)

    def __call__(self, request: Request) -> Answer:
        """Answer a call."""
        if request.method == "POST":
            self.stored, self.has_patch = b"", False
            self.sessions += 1
            return ACCEPTED
        if request.method == "PATCH":
            return self._patch(request)
        if request.method == "PUT":
            digest = re.search("sha256%3A([0-9a-f]+)", request.url)
            assert digest
            assert digest[1] == Digest.of(self.stored).encoded
            self.blob = self.stored
            return CREATED
        return Response(204, {"range": f"0-{len(self.stored) - 1}" if self.stored else "0-0"})

    def _patch(self, request: Request) -> Answer:
        self.patches += 1
        if self.one_patch and self.has_patch:
            return Response(404)
        self.has_patch = True
        taken, last_s = b"", self.clock()
        assert not isinstance(request.body, bytes)
        with closing(iter(request.body or ())) as blocks:  # type: ignore[type-var] # a generator
            for block in blocks:
                if not block and self.clock() - last_s >= self.bound_s:
                    self.stored += b"" if self.buffers else taken
                    lost = TransportError("cut", reason="cut", sent=len(taken))
                    return lost if self.cuts else Response(408, sent=len(taken), complete=False)
                taken += block
                last_s = self.clock() if block else last_s
        self.stored += taken
        return Response(202, {"location": FIRST}, sent=len(taken))


STYLES = (
    UploadStrategy(),
    UploadStrategy(resumes=False),
    ONE_PATCH,
    UploadStrategy(resumes=False, splits=False),
)
PARTS = [bytes([number]) * 2 * KIB for number in range(30)]


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("bound_s", [60, 10, 1])
@pytest.mark.parametrize("silence_s", [3, 40, 300])
@pytest.mark.parametrize("style", STYLES)
def test_silent_source_is_survived(
    *, style: UploadStrategy, silence_s: int, bound_s: int, buffers: bool, cuts: bool
) -> None:
    """A healthy registry and a source that gives its bytes a moment later: two tries are enough."""
    clock = Clock()
    one_patch = not style.splits and not style.resumes
    proxy = Proxy(clock, bound_s, buffers, cuts, one_patch)
    parts = [part for data in PARTS for part in (data, silence_s)]
    drive(upload(clock, silence_s, *parts, style=style), proxy)
    assert proxy.blob == b"".join(PARTS)
    assert proxy.patches <= 2 * len(PARTS) + 3


silences = st.lists(
    st.integers(1, 3 * KIB).map(bytes) | st.integers(1, 200), min_size=1, max_size=12
)


@given(
    parts=silences,
    style=st.sampled_from(STYLES),
    bound_s=st.integers(1, 100),
    buffers=st.booleans(),
    cuts=st.booleans(),
)
def test_any_silence_is_survived(
    *, parts: list[bytes | int], style: UploadStrategy, bound_s: int, buffers: bool, cuts: bool
) -> None:
    """The right blob, whatever the source's pauses and whatever the proxy's bound."""
    clock = Clock()
    one_patch = not style.splits and not style.resumes
    proxy = Proxy(clock, bound_s, buffers, cuts, one_patch)
    drive(upload(clock, *parts, style=style), proxy)
    assert proxy.blob == b"".join(part for part in parts if isinstance(part, bytes))


def test_silence_that_failed_once_is_not_waited_for_again() -> None:
    """The next PATCH is ended in half the time: one failure tells the bound."""
    clock = Clock()
    proxy = Proxy(clock, 5, buffers=False, cuts=False)
    parts = [part for data in PARTS for part in (data, 60)]
    failures = []

    def answer(request: Request) -> Answer:
        response = proxy(request)
        failures.extend([response] * (isinstance(response, Response) and response.status == 408))
        return response

    drive(upload(clock, *parts), answer)
    assert len(failures) == 1


def test_failure_while_bytes_come_shortens_nothing() -> None:
    """A cut between two blocks says nothing of the wait for a body."""
    clock = Clock()
    limit = IdleLimit(clock, 15.0)
    blocks = limit.watch(tape(clock.source(ONE, 10, TWO)), 0, ends=True)
    assert b"".join(blocks) == ONE + TWO
    limit.shorten()
    assert not limit.waits
    assert list(limit.watch(tape(clock.source(ONE, 10, TWO)), 0, ends=True))[-1] == TWO


def test_time_of_a_silence_is_no_shorter_than_a_busy_machine_needs() -> None:
    """A request that failed at once had another reason."""
    clock = Clock()
    limit = IdleLimit(clock, 15.0)
    assert list(limit.watch(tape([ONE, b""]), 0, ends=True)) == [ONE, b""]
    limit.shorten()
    blocks = limit.watch(tape(clock.source(ONE, 1, TWO)), 0, ends=True)
    assert list(blocks) == [ONE, b"", b""]  # at 0.25 s each


def test_bytes_that_are_gone_are_told() -> None:
    """How many were sent, acknowledged, kept."""
    body = tape([ONE, TWO], window=len(TWO))
    list(body.blocks(0))
    cause = BrolgaError("cut")
    check_kept(body, len(ONE), cause)
    with pytest.raises(StreamNotReplayable, match="cut; the registry has 0 of the 4096") as caught:
        check_kept(body, 0, cause)
    assert caught.value.__cause__ is cause


def test_mismatch_in_one_patch_is_told() -> None:
    """A stream that was not silent went out in one PATCH: no other try can end otherwise."""
    play(
        upload(Clock(), ONE, attempts=3),
        (POST, ACCEPTED),
        (patch(ONE), NEXT),
        (put(descriptor_of(ONE)), Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')),
        (delete(SECOND), GONE),
        error=DigestMismatch,
    )


def test_style_in_one_patch() -> None:
    """All else stays."""
    assert UploadStrategy(chunk=7).in_one_patch() == replace(UploadStrategy(chunk=7), splits=False)
