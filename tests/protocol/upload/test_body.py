"""upload/body.py: a silent source, and a proxy that bounds the wait for a body."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocol.driver import (
    ACCEPTED,
    FIRST,
    HOME,
    POST,
    REPOSITORY,
    SECOND,
    Answer,
    delete,
    drive,
    play,
    with_delay,
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
from brolga.protocol.upload.body import SilenceLimit, check_replayable, wait_for_bytes
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
    """A clock that advances while a source is silent."""

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
    return ReplayableBody(source, MemoryBuffer(window), None)


def descriptor_of(*data: bytes) -> Descriptor:
    """Return the descriptor of a blob."""
    joined = b"".join(data)
    return Descriptor("application/octet-stream", Digest.of(joined), len(joined))


def upload(
    clock: Clock,
    *parts: bytes | int | Exception,
    strategy: UploadStrategy | None = None,
    attempts: int = 2,
    window: int = 1 << 20,
) -> Flow[Descriptor]:
    """Upload a source of bytes and silences."""
    blob = descriptor_of(*(part for part in parts if isinstance(part, bytes)))
    registry = RegistrySession(HOME, None, retry=Retry(attempts=attempts), clock=clock)
    body = tape(clock.source(*parts), window)
    way = registry.access(REPOSITORY, "pull,push")
    return upload_stream(way, body, lambda: blob, strategy=strategy)


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


@pytest.mark.parametrize("strategy", [UploadStrategy(), ONE_PATCH])
def test_upload_opens_patch_when_there_are_bytes(strategy: UploadStrategy) -> None:
    """A program may be silent for longer than a proxy waits for a body (pg_dump, a large query)."""
    play(
        upload(Clock(), 3600, ONE, strategy=strategy),
        (POST, ACCEPTED),
        (patch(ONE), NEXT),
        (put(descriptor_of(ONE)), CREATED),
    )


def test_upload_opens_no_patch_for_the_header_of_a_compressor() -> None:
    """Gzip gives its header before it was given a byte."""
    play(
        upload(Clock(), GZIP_HEADER, 3600, ONE),
        (POST, ACCEPTED),
        (patch(GZIP_HEADER, ONE), NEXT),
        (put(descriptor_of(GZIP_HEADER, ONE)), CREATED),
    )


@pytest.mark.parametrize("parts", [(), (3600,)])
def test_upload_sends_no_patch_of_an_empty_stream(parts: tuple[int, ...]) -> None:
    """A PUT of no bytes closes the session (POST then PUT)."""
    play(
        upload(Clock(), *parts),
        (POST, ACCEPTED),
        (put(descriptor_of(), FIRST), CREATED),
    )


def test_upload_cancels_if_the_source_fails_before_patch() -> None:
    """What it raises is the source's, and not the registry's."""
    play(
        upload(Clock(), 60, SourceError("gone")),
        (POST, ACCEPTED),
        (delete(FIRST), GONE),
        error=SourceError,
        match="gone",
    )


def test_wait_for_bytes_retains_what_it_reads() -> None:
    """What was read to find out that there is something goes out from what keeps it."""
    body = tape([ONE, TWO, THREE], window=0)
    body.retain_from(0)
    wait_for_bytes(body)
    assert body.bytes_read == len(ONE)
    assert b"".join(body.blocks(0)) == ONE + TWO + THREE


# --- Silence in the middle


def test_upload_ends_a_silent_patch_and_sends_the_rest_in_another() -> None:
    """A proxy waits a minute for the next bytes of a body (nginx, client_body_timeout)."""
    play(
        upload(Clock(), ONE, 3600, TWO, 3600, THREE),
        (POST, ACCEPTED),
        (patch(ONE, 15, b""), Response(202, {"location": SECOND})),
        (patch(TWO, 15, b"", session=SECOND), Response(202, {"location": SECOND})),
        (patch(THREE, session=SECOND), Response(202, {"location": SECOND})),
        (put(descriptor_of(ONE, TWO, THREE)), CREATED),
    )


def test_upload_sends_no_patch_after_a_silence_at_the_end() -> None:
    """The source ended without another byte."""
    play(
        upload(Clock(), ONE, 3600),
        (POST, ACCEPTED),
        (patch(ONE, 15, b""), NEXT),
        (put(descriptor_of(ONE)), CREATED),
    )


def test_upload_keeps_patch_open_in_a_short_silence() -> None:
    """Each PATCH costs the registry something."""
    play(
        upload(Clock(), ONE, 10, TWO, 10, THREE),
        (POST, ACCEPTED),
        (patch(ONE, 10, TWO, 10, THREE), NEXT),
        (put(descriptor_of(ONE, TWO, THREE)), CREATED),
    )


@pytest.mark.parametrize("strategy", [ONE_PATCH, UploadStrategy().override("streamed")])
def test_upload_sends_one_patch_if_the_strategy_does_not_split(strategy: UploadStrategy) -> None:
    """JFrog, GAR; and `--upload-style streamed`."""
    play(
        upload(Clock(), ONE, 60, TWO, strategy=strategy),
        (POST, ACCEPTED),
        (patch(ONE, 60, TWO), NEXT),
        (put(descriptor_of(ONE, TWO)), CREATED),
    )


def test_idle_limit_ends_no_request_without_heartbeats() -> None:
    """An iterable runs in the thread of the upload, so its silence is not noticed."""
    limit = SilenceLimit(lambda: 0.0, 1.0)
    assert list(limit.watch(tape([ONE, TWO]), 0, ends=True)) == [ONE, TWO]
    assert list(limit.watch(tape([b"", b""]), 0, ends=True)) == []


@pytest.mark.parametrize("status", [400, 404, 410, 416])
def test_upload_restarts_in_one_patch_if_the_second_is_refused(status: int) -> None:
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
    (with_delay(POST, 0.5), ACCEPTED),
    (patch(ONE, TWO), NEXT),
    (put(descriptor_of(ONE, TWO)), CREATED),
)


def test_upload_restarts_in_one_patch_after_a_mismatch() -> None:
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
    return ReplayableBody(live, MemoryBuffer(0), lambda: clock.source(*parts))


def test_idle_limit_waits_until_a_reread_source_is_at_the_offset() -> None:
    """To hash a large file up to there may take longer than a proxy waits for a body."""
    clock = Clock()
    body = reopened(clock, ONE, 3600, TWO, live=[ONE, TWO])
    wait_for_bytes(body)
    list(body.blocks(body.bytes_read))
    blocks = SilenceLimit(clock, 15.0).watch(body, len(ONE), ends=True)
    assert clock.now_s == 3600
    assert b"".join(blocks) == TWO


def test_idle_limit_ends_no_request_before_all_read_bytes_are_sent() -> None:
    """What it acknowledges is all that the body has given."""
    clock = Clock()
    body = reopened(clock, ONE, 3600, TWO, live=[ONE, TWO])
    list(body.blocks(0))
    blocks = SilenceLimit(clock, 15.0).watch(body, 0, ends=True)
    assert b"".join(blocks) == ONE + TWO


def test_idle_limit_raises_body_error_if_a_reread_source_fails() -> None:
    """A file that has changed is not the failure of the registry."""
    body = ReplayableBody(
        [ONE, TWO], MemoryBuffer(0), lambda: Clock().source(SourceError("changed"))
    )
    list(body.blocks(0))
    with pytest.raises(BodyError) as caught:
        SilenceLimit(Clock(), 15.0).watch(body, 0, ends=True)
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


STRATEGIES = (
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
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_upload_survives_a_silent_source(
    *, strategy: UploadStrategy, silence_s: int, bound_s: int, buffers: bool, cuts: bool
) -> None:
    """A healthy registry and a source that gives its bytes a moment later: two tries are enough."""
    clock = Clock()
    one_patch = not strategy.splits and not strategy.resumes
    proxy = Proxy(clock, bound_s, buffers, cuts, one_patch)
    parts = [part for data in PARTS for part in (data, silence_s)]
    drive(upload(clock, silence_s, *parts, strategy=strategy), proxy)
    assert proxy.blob == b"".join(PARTS)
    assert proxy.patches <= 2 * len(PARTS) + 3


silences = st.lists(
    st.integers(1, 3 * KIB).map(bytes) | st.integers(1, 200), min_size=1, max_size=12
)


@given(
    parts=silences,
    strategy=st.sampled_from(STRATEGIES),
    bound_s=st.integers(1, 100),
    buffers=st.booleans(),
    cuts=st.booleans(),
)
def test_upload_survives_any_silence(
    *, parts: list[bytes | int], strategy: UploadStrategy, bound_s: int, buffers: bool, cuts: bool
) -> None:
    """The right blob, whatever the source's delays and whatever the proxy's bound."""
    clock = Clock()
    one_patch = not strategy.splits and not strategy.resumes
    proxy = Proxy(clock, bound_s, buffers, cuts, one_patch)
    drive(upload(clock, *parts, strategy=strategy), proxy)
    assert proxy.blob == b"".join(part for part in parts if isinstance(part, bytes))


def test_upload_ends_patch_sooner_after_an_idle_timeout() -> None:
    """The next PATCH is ended in half the time: one failure shows the timeout."""
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


def test_idle_limit_keeps_the_limit_if_bytes_were_coming() -> None:
    """A cut between two blocks says nothing of the wait for a body."""
    clock = Clock()
    limit = SilenceLimit(clock, 15.0)
    blocks = limit.watch(tape(clock.source(ONE, 10, TWO)), 0, ends=True)
    assert b"".join(blocks) == ONE + TWO
    limit.shorten()
    assert not limit.waits
    assert list(limit.watch(tape(clock.source(ONE, 10, TWO)), 0, ends=True))[-1] == TWO


def test_idle_limit_has_a_minimum() -> None:
    """A request that failed at once had another reason."""
    clock = Clock()
    limit = SilenceLimit(clock, 15.0)
    assert list(limit.watch(tape([ONE, b""]), 0, ends=True)) == [ONE, b""]
    limit.shorten()
    blocks = limit.watch(tape(clock.source(ONE, 1, TWO)), 0, ends=True)
    assert list(blocks) == [ONE, b"", b""]  # at 0.25 s each


def test_check_replayable_raises_if_bytes_are_gone() -> None:
    """How many were sent, acknowledged, kept."""
    body = tape([ONE, TWO], window=len(TWO))
    list(body.blocks(0))
    cause = BrolgaError("cut")
    check_replayable(body, len(ONE), cause)
    with pytest.raises(StreamNotReplayable, match="cut; the registry has 0 of the 4096") as caught:
        check_replayable(body, 0, cause)
    assert caught.value.__cause__ is cause


def test_upload_raises_a_mismatch_in_one_patch() -> None:
    """A stream that was not silent went out in one PATCH: no other try can end otherwise."""
    play(
        upload(Clock(), ONE, attempts=3),
        (POST, ACCEPTED),
        (patch(ONE), NEXT),
        (put(descriptor_of(ONE)), Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')),
        (delete(SECOND), GONE),
        error=DigestMismatch,
    )


def test_with_one_patch_changes_splits_only() -> None:
    """All else stays."""
    assert UploadStrategy(chunk_size=7).with_one_patch() == replace(
        UploadStrategy(chunk_size=7), splits=False
    )
