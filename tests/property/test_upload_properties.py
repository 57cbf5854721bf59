"""upload and stream/replay.py: whatever fails, the result is the right blob or a typed error.

A `Simulated` registry is a state machine that answers calls: sessions that hold bytes, blobs that
were committed by their digest, peculiarities (`Kind`), and faults, of which each call meets the
next one of its method. No socket, no clock.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.protocol.driver import BEARER, HOME, REALM, REPOSITORY, UPLOADS, Answer, drive

from brolga.errors import BrolgaError, DigestMismatch, NotComputed, SourceError, TransportError
from brolga.protocol import BodyError, RegistrySession, Request, Response, Retry, upload_stream
from brolga.protocol.upload.known_registries import KNOWN_REGISTRIES, UploadStrategy
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.stream.replay import MemoryBuffer, ReplayableBody
from brolga.stream.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.stream.replay import ReplayBuffer

MOST_CALLS = 5000
ACCEPTED = 202
MOST_S = 5 * 3600
PASSING = (408, 429, 500, 502, 503, 504)
DOUBTFUL = (408, 500, 502, 504)
SESSION = re.compile(re.escape(UPLOADS) + r"s([0-9]+)\?_state=([0-9]+)(?:&digest=.+)?")
# What holds here does not depend on how busy the machine is. `make soak` draws more.
many = settings(
    max_examples=max(200, (settings.default or settings()).max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# --- The registry


@dataclass(frozen=True)
class Fault:
    """What happens at one call.

    `at` bytes of its body arrive. `stored` tells whether those are kept, and whether a call whose
    body came whole does its work before its answer is lost. `status` is that of an `answer`;
    `said` the Range of a `range`, or the Retry-After of an answer.
    """

    act: Literal["cut", "answer", "forget", "expire", "range"]
    at: int = 0
    stored: bool = False
    status: int = 503
    said: str = ""
    reason: str = "cut"
    fresh: bool = True


@dataclass(frozen=True)
class Kind:
    """What a registry is like.

    `on_cut` is what a PATCH that was cut leaves; `strict` ends a session that is called at a stale
    Location (distribution 2.8); `checks` compares Content-Range with what is there. `codes` tells
    why, by the spec's codes. `put_ends` ends a session with a PUT that fails. `hidden` is how many
    times a blob whose commit had no answer is not shown yet. `limit` is the largest request.
    """

    on_cut: Literal["keep", "drop", "end"] = "keep"
    strict: bool = False
    checks: bool = True
    codes: bool = True
    put_ends: bool = False
    moves: bool = True
    patched: int = 202
    hidden: int = 0
    limit: int | None = None
    guarded: bool = False


@dataclass
class Session:
    """An upload session; `doubt` tells that the client cannot know what it holds."""

    data: bytearray = field(default_factory=bytearray)
    told: bool = False  # the client knows of it
    doubt: bool = False


@dataclass
class Simulated:
    """A registry of one repository."""

    kind: Kind
    faults: dict[str, list[Fault | None]]
    sessions: dict[int, Session] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    opened: int = 0
    calls: int = 0
    token: int = 1
    challenged: bool = False  # the last answer was a 401
    commit_lost: bool = False  # a blob was committed, and the client was told something else
    commit_doubtful: bool = False  # the same, and what it was told may mean that
    misled: bool = False  # the client was told another offset than the true one
    delete_lost: bool = False
    waited_s: float = 0.0

    def __call__(self, request: Request) -> Answer:
        self.calls += 1
        assert self.calls < MOST_CALLS, "no end"
        self.waited_s += request.delay_s
        if request.url.startswith(REALM):
            return Response(200, body=b'{"token": "t%d"}' % self.token)
        left = self.faults.get(request.method)
        fault = left.pop(0) if left else None
        if fault and fault.act == "forget":
            self.sessions.clear()
        # A token that was given for this very call is good for it.
        if fault and fault.act == "expire" and not self.challenged:
            self.token += 1
        try:
            arrived, sent, whole = _taken(request, self._reach(request, fault))
        except SourceError as error:
            return BodyError(error, Response(202))
        answer = self._answer(request, fault, arrived, sent, whole=whole)
        self.challenged = isinstance(answer, Response) and answer.status == 401
        return answer

    def _reach(self, request: Request, fault: Fault | None) -> int | None:
        """Return how many bytes of a body are taken in before the answer; None for all."""
        reach = [fault.at] if fault and fault.act in {"cut", "answer"} else []
        if self._refuses(request):
            reach.append(fault.at if fault else 0)
        elif self.kind.limit is not None:
            reach.append(self.kind.limit + 1)
        return min(reach, default=None)

    def _refuses(self, request: Request) -> bool:
        said = request.headers.get("Authorization", "")
        return self.kind.guarded and said != f"Bearer t{self.token}"

    def _answer(
        self, request: Request, fault: Fault | None, arrived: bytes, sent: int, *, whole: bool
    ) -> Answer:
        if self._refuses(request):
            return Response(401, BEARER, sent=sent, complete=whole)
        if self.kind.limit is not None and len(arrived) > self.kind.limit:
            return Response(413, sent=sent, complete=whole)
        if fault is None or fault.act not in {"cut", "answer"}:
            return replace(self._work(request, arrived, fault), sent=sent)
        return self._failed(request, fault, arrived, sent, whole=whole)

    def _failed(
        self, request: Request, fault: Fault, arrived: bytes, sent: int, *, whole: bool
    ) -> Answer:
        """Let a call fail, after its work or a part of it, or none."""
        session = self._session(request)
        status = _status(request, fault, whole=whole)
        self.delete_lost |= request.method == "DELETE"
        # A refusal of bytes at hand did nothing; a stream is refused when some of it was taken in.
        clean = fault.act == "answer" and status in {401, 429} and request.is_repeatable
        if fault.stored and whole and not clean:
            done = self._work(request, arrived, None, told=False)
            committed = request.method == "PUT" and done.status == 201
            self.commit_lost |= committed
            self.commit_doubtful |= committed and (fault.act == "cut" or status in DOUBTFUL)
        elif request.method == "PATCH" and session and not clean:
            self._keep_part(request, session, arrived)
        if session and request.method in {"PATCH", "PUT"}:
            session.doubt |= not clean
        if fault.act == "cut":
            return TransportError(
                "cut", reason=fault.reason, sent=sent, is_new_connection=fault.fresh
            )
        headers = {"retry-after": fault.said} if status in {429, 503} else {}
        return Response(
            status, headers | (BEARER if status == 401 else {}), sent=sent, complete=whole
        )

    def _keep_part(self, request: Request, session: Session, arrived: bytes) -> None:
        if self.kind.on_cut == "end":
            self.sessions = {n: one for n, one in self.sessions.items() if one is not session}
        elif self.kind.on_cut == "keep" and self._fits(request, session):
            session.data += arrived

    # What it does where nothing fails.

    def _work(
        self, request: Request, body: bytes, fault: Fault | None, *, told: bool = True
    ) -> Response:
        if request.method == "POST":
            self.opened += 1
            self.sessions[self.opened] = Session(told=told)
            return self._at(self.opened, ACCEPTED)
        if request.method == "HEAD":
            return self._head(request)
        return self._in_session(request, body, fault)

    def _in_session(self, request: Request, body: bytes, fault: Fault | None) -> Response:
        match = SESSION.fullmatch(request.url)
        assert match, request.url
        number = int(match[1])
        session = self.sessions.get(number)
        if session and self.kind.strict and self.kind.moves and int(match[2]) != len(session.data):
            del self.sessions[number]
            session = None
        if session is None:
            return self._error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "DELETE":
            del self.sessions[number]
            return Response(204)
        if request.method == "GET":
            return self._tell(number, session, fault)
        return self._take_in(request, number, session, body)

    def _take_in(self, request: Request, number: int, session: Session, body: bytes) -> Response:
        assert not (session.doubt and body), "bytes for a session whose offset is unknown"
        if not self._fits(request, session):
            return self._error(416, "RANGE_INVALID")
        session.data += body
        if request.method == "PATCH":
            return self._at(number, self.kind.patched)
        digest = request.url.partition("digest=")[2].replace("%3A", ":")
        return self._commit(number, session, digest)

    def _commit(self, number: int, session: Session, digest: str) -> Response:
        data = bytes(session.data)
        if digest == f"sha256:{hashlib.sha256(data).hexdigest()}":
            self.blobs[digest] = data
            del self.sessions[number]
            return Response(201, {"docker-content-digest": digest})
        if self.kind.put_ends:
            del self.sessions[number]
        return self._error(400, "DIGEST_INVALID")

    def _head(self, request: Request) -> Response:
        digest = request.url.rpartition("/")[2]
        if digest not in self.blobs or self.kind.hidden:
            self.kind = replace(self.kind, hidden=max(0, self.kind.hidden - 1))
            return Response(404)
        return Response(200, {"content-length": str(len(self.blobs[digest]))})

    def _tell(self, number: int, session: Session, fault: Fault | None) -> Response:
        """Tell how far a session came, or something else."""
        session.doubt = False
        said = f"0-{max(0, len(session.data) - 1)}"
        if fault and fault.act == "range":
            said = fault.said
        self.misled |= said != f"0-{len(session.data) - 1}" or len(session.data) == 1
        return self._at(number, 204, {"range": said})

    def _at(self, number: int, status: int, said: dict[str, str] | None = None) -> Response:
        """Answer with the Location of a session, which a registry without `moves` tells once."""
        state = len(self.sessions[number].data) if self.kind.moves else 0
        location = {"location": f"{UPLOADS}s{number}?_state={state}"}
        told = location if self.kind.moves or status == ACCEPTED else {}
        return Response(status, told | (said or {}))

    def _fits(self, request: Request, session: Session) -> bool:
        said = request.headers.get("Content-Range")
        return not (said and self.kind.checks) or said.startswith(f"{len(session.data)}-")

    def _error(self, status: int, code: str) -> Response:
        body = b'{"errors": [{"code": "%s"}]}' % code.encode() if self.kind.codes else b""
        return Response(status, body=body)

    def _session(self, request: Request) -> Session | None:
        match = SESSION.fullmatch(request.url)
        return self.sessions.get(int(match[1])) if match else None


def _status(request: Request, fault: Fault, *, whole: bool) -> int:
    """Return the status of a fault, where it is one that this call can meet."""
    if fault.status < 300:  # a success of a PATCH that is whole, or of a PUT, would be a lie
        early = request.method == "PATCH" and not whole
        return fault.status if early or request.method in {"GET", "HEAD"} else 503
    # What else a POST is refused with is told at once.
    return fault.status if request.method != "POST" or fault.status in PASSING else 503


def _taken(request: Request, reach: int | None) -> tuple[bytes, int, bool]:
    """Take in a body as a driver sends it, to `reach` bytes at most.

    Return what arrived, how much of it counts as sent (in whole blocks), and whether it was all.
    """
    if isinstance(request.body, bytes | None):
        body = request.body or b""
        whole = reach is None or reach >= len(body)
        return (body, len(body), True) if whole else (body[:reach], 0, False)
    arrived, sent, whole = bytearray(), 0, True
    blocks = iter(request.body)
    for block in blocks:
        arrived += block
        if reach is not None and len(arrived) > reach:
            whole = False
            break
        sent += len(block)
    getattr(blocks, "close", lambda: None)()
    return bytes(arrived[:reach]), sent, whole


# --- An upload


@dataclass(frozen=True)
class Plan:
    """An upload, all of it.

    `source` is `once`, `again` (it can be opened again), `changed` (so it can, and gives other
    bytes) or `failing`, which fails at its end. `keep` is the bytes of a window, None a spool.
    """

    size: int
    block: int
    strategy: UploadStrategy = field(default_factory=UploadStrategy)
    keep: int | None = 0
    source: Literal["once", "again", "changed", "failing"] = "once"
    attempts: int = 4
    kind: Kind = field(default_factory=Kind)
    faults: tuple[tuple[str, tuple[Fault | None, ...]], ...] = ()  # by method

    @property
    def data(self) -> bytes:
        """The bytes of the blob: any part of them is at one place alone."""
        return b"".join(b"%03d," % number for number in range(self.size))[: self.size]

    @property
    def keeps_all(self) -> bool:
        """Whether every byte can go out again."""
        return self.keep is None or self.keep >= self.size or self.source == "again"


@dataclass
class Outcome:
    """How an upload ended."""

    plan: Plan
    registry: Simulated
    result: Descriptor | BrolgaError
    ended: bool
    asked_in_vain: bool  # the blob was asked for, and that failed, or it was not shown yet

    def check(self) -> None:
        """Hold it to what is promised."""
        data, registry = self.plan.data, self.registry
        digest = Digest.of(data)
        assert all(blob == data for blob in registry.blobs.values())
        if isinstance(self.result, BrolgaError):
            assert not registry.blobs or registry.commit_lost
            assert not registry.commit_doubtful or self.asked_in_vain
            assert registry.misled or not isinstance(self.result, DigestMismatch)
            left = [one for one in registry.sessions.values() if one.told]
            assert not left or registry.delete_lost
        else:
            assert self.ended
            assert (self.result.digest, self.result.size) == (digest, len(data))
            assert registry.blobs == {str(digest): data}
        assert registry.waited_s <= MOST_S


def uploaded(plan: Plan) -> Outcome:
    """Upload as planned; every error but a typed one comes out."""
    registry = Simulated(plan.kind, {name: list(said) for name, said in plan.faults})
    keep: ReplayBuffer = Spool() if plan.keep is None else MemoryBuffer(plan.keep)
    with closing(keep):
        again = None
        if plan.source in {"again", "changed"}:
            again = lambda: _again(plan)  # noqa: E731 - what the tape calls
        tape = ReplayableBody(_blocks(plan), keep, again)

        def seal() -> Descriptor:
            if not tape.ended:
                raise NotComputed("not at its end")
            return Descriptor("application/octet-stream", Digest.of(plan.data), plan.size)

        way = RegistrySession(HOME, retry=Retry(attempts=plan.attempts)).access(
            REPOSITORY, "pull,push"
        )
        result: Descriptor | BrolgaError
        try:
            result = drive(upload_stream(way, tape, seal, strategy=plan.strategy), registry)
        except BrolgaError as error:
            result = error
        in_vain = plan.kind.hidden > 0 or any(dict(plan.faults).get("HEAD", ()))
        return Outcome(plan, registry, result, tape.ended, in_vain)


def _blocks(plan: Plan) -> Iterator[bytes]:
    for start in range(0, plan.size, plan.block):
        yield b""
        yield plan.data[start : start + plan.block]
    if plan.source == "failing":
        raise SourceError("the source failed")


def _again(plan: Plan) -> Iterator[bytes]:
    data = plan.data[: plan.size // 2] + b"?" if plan.source == "changed" else plan.data
    yield from (data[start : start + 7] for start in range(0, len(data), 7))
    if plan.source == "changed":
        raise SourceError("the source changed while it was read")


# --- What is drawn

# How often a call of each method may fail in one upload.
METHODS = {"POST": 2, "PATCH": 5, "PUT": 3, "GET": 4, "HEAD": 2, "DELETE": 1}


def faults(size: int, *statuses: int) -> st.SearchStrategy[Fault | None]:
    """Draw what happens at a call of an upload of `size` bytes: something, more often than not."""
    at = st.integers(0, size + 1)
    said = st.one_of(
        st.builds("0-{}".format, st.integers(-1, size)),
        st.builds("bytes=0-{}".format, st.integers(-1, size)),
        st.sampled_from(["", "0-0", "nonsense", "5-9", "0-99999999999999999999"]),
    )
    cut = st.builds(
        Fault,
        st.just("cut"),
        at=at,
        stored=st.booleans(),
        reason=st.sampled_from(["cut", "connect", "timeout"]),
        fresh=st.booleans(),
    )
    answer = st.builds(
        Fault,
        st.just("answer"),
        at=at,
        stored=st.booleans(),
        status=st.sampled_from(statuses),
        said=st.sampled_from(["", "1", "30"]),
    )
    other = st.builds(Fault, st.sampled_from(["forget", "expire", "range"]), at=at, said=said)
    return st.none() | cut | answer | other


kinds = st.builds(
    Kind,
    on_cut=st.sampled_from(["keep", "drop", "end"]),
    strict=st.booleans(),
    checks=st.booleans(),
    codes=st.booleans(),
    put_ends=st.booleans(),
    moves=st.booleans(),
    patched=st.sampled_from([200, 201, 202, 204]),
    hidden=st.integers(0, 3),
    limit=st.none() | st.integers(1, 60),
    guarded=st.booleans(),
)


@st.composite
def strategies(draw: st.DrawFn) -> UploadStrategy:
    """Draw how the bytes go out: as a profile says, in sizes that are reached here."""
    strategy = draw(st.sampled_from([profile.strategy for profile in KNOWN_REGISTRIES]))
    return replace(
        strategy,
        chunk_size=draw(st.sampled_from([0, 0, 1, 5, 16, 64])),
        fallback_chunk_size=strategy.fallback_chunk_size and 32,
        min_chunk_size=draw(st.sampled_from([1, 4])),
    )


@st.composite
def plans(draw: st.DrawFn, *statuses: int) -> Plan:
    """Draw an upload."""
    size = draw(st.integers(0, 120))
    fault = faults(size, *statuses)
    return Plan(
        size=size,
        block=draw(st.sampled_from([1, 3, 16, 50, 200])),
        strategy=draw(strategies()),
        keep=draw(st.none() | st.sampled_from([0, 10, 40, 200])),
        source=draw(st.sampled_from(["once", "once", "again", "changed", "failing"])),
        attempts=draw(st.integers(1, 6)),
        kind=draw(kinds),
        faults=tuple(
            (name, tuple(draw(st.lists(fault, max_size=most)))) for name, most in METHODS.items()
        ),
    )


@many
@given(plans(*PASSING, 200, 202, 204, 400, 401, 403, 404, 413, 416, 501))
def test_upload_ends_in_the_right_blob_or_a_typed_error(plan: Plan) -> None:
    """A failure is survived or reported, never hidden.

    The blob that is there is the source's, whole; where an error is told, none is there, and no
    session that the client knew of.
    """
    outcome = uploaded(plan)
    event(type(outcome.result).__name__)
    outcome.check()
    if plan.source == "failing":
        assert isinstance(outcome.result, BrolgaError)


@many
@given(plans(*PASSING, 202, 401, 404, 416))
def test_upload_survives_transient_failures_if_replayable(plan: Plan) -> None:
    """With a spool, a window that is large enough or a source that can be opened again."""
    source: Literal["once", "again"] = "once" if plan.source == "once" else "again"
    plan = replace(plan, source=source, attempts=2 * sum(METHODS.values()))
    plan = replace(plan, kind=replace(plan.kind, limit=None))
    outcome = uploaded(plan)
    outcome.check()
    if plan.keeps_all:
        assert isinstance(outcome.result, Descriptor), outcome.result
