"""brolga's own client against each fault and each profile.

The outcome is the right blob, which the registry's disk and a client read back, or a typed error,
and then nothing is committed.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.conftest import NAME, Raw, digest_of
from tests.faults.counterparts import as_hosted

from brolga.client import Client
from brolga.errors import (
    BrolgaError,
    DigestMismatch,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RegistryError,
    StreamNotReplayable,
    TransportError,
    Unauthorized,
    UploadInterrupted,
)
from brolga.images import Image
from brolga.protocol import Retry
from brolga.spec.reference import Repository
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import (
    Answer,
    Cut,
    CutAnswer,
    DropAnswer,
    FaultPlan,
    FrozenRange,
    MissingRange,
    OtherLocation,
    Resend,
    ShiftedRange,
    Slow,
    StaleState,
    Stall,
    TokenDies,
    TooMany,
)
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.testing.faults import Fault
    from brolga.testing.plugin import BrolgaRegistry

MIB = 1 << 20
# A few blocks of the pipeline, and one that is not whole.
DATA = random.Random(5).randbytes(2 * MIB + 12_345)
EARLY = MIB // 2
MIDDLE = MIB + 7
AT_ONCE = Retry(initial_delay_s=0.0)


def pieces() -> Iterator[bytes]:
    """Yield the bytes, once: a source that cannot be opened again."""
    for start in range(0, len(DATA), 100_000):
        yield DATA[start : start + 100_000]


def push(registry: BrolgaRegistry, **options: Any) -> BrolgaError | None:
    """Push the data; return the typed error that it came to, or None where the blob is right.

    No session is left, but of a POST whose answer was lost: nobody knows that one.
    """
    error = _pushed(registry, **options)
    may_cancel = registry.profile is None or registry.profile.may_cancel
    posts = {fault for fault in registry.fired if fault.on == "POST upload"}
    lost = any(isinstance(fault, Cut | DropAnswer) for fault in posts)
    assert lost or not may_cancel or registry.uploads(NAME) == {}
    return error


def _pushed(registry: BrolgaRegistry, **options: Any) -> BrolgaError | None:
    name = registry.repository(NAME)
    source = options.pop("source", None) or pieces()
    layer = StreamLayer(source, compression="none", tar=False)
    with Client(**{"retry": AT_ONCE, "timeout_s": 30.0, **options}) as client:
        try:
            descriptor = client.push_layer(name, layer)
        except BrolgaError as error:
            assert registry.blobs(NAME) == {}
            return error
        assert str(descriptor.digest) == digest_of(DATA)
        assert descriptor.size == len(DATA)
        assert registry.blobs(NAME) == {digest_of(DATA): DATA}
        with client.blob(f"{name}@{descriptor.digest}") as stream:
            assert b"".join(stream.blocks()) == DATA
    return None


# --- Each fault alone, on the embedded registry

SURVIVED: dict[str, tuple[Fault, ...]] = {
    "cut at the first byte": (Cut(),),
    "cut before storing": (Cut(at=MIDDLE, stored=0),),
    "cut while storing": (Cut(at=MIDDLE, stored=EARLY),),
    "cut after storing": (Cut(at=MIDDLE),),
    "cut after storing, in order": (Cut(at=MIDDLE, reset=False),),
    "cut at the end": (Cut(at=len(DATA)),),
    "cut behind the end": (Cut(at=2 * len(DATA)),),
    "cut twice": (Cut(at=EARLY), Cut(at=EARLY, nth=2)),
    "cut four times": (Cut(at=EARLY, times=4),),
    "cut of a POST": (Cut(on="POST upload"),),
    "no answer to a POST": (DropAnswer(on="POST upload"),),
    "no answer to a PATCH": (DropAnswer(on="PATCH upload"),),
    "no answer to a PUT": (DropAnswer(),),
    "no answer to a PUT, reset": (DropAnswer(reset=True),),
    "no answer to a PUT that failed": (Cut(on="PUT upload", stored=0),),
    "503 to a POST": (Answer(on="POST upload", status=503),),
    "500 at once": (Answer(status=500),),
    "500 in the middle": (Answer(status=500, at=MIDDLE, stored=None),),
    "500 in the middle, nothing stored": (Answer(status=500, at=MIDDLE),),
    "502 after it all": (Answer(status=502, at=None, stored=None),),
    "503 after it all, nothing stored": (Answer(status=503, at=None),),
    "502 to a PUT that did its work": (Answer(on="PUT upload", status=502, at=None, stored=None),),
    "a PUT that a proxy sent twice": (Resend(),),
    "504 to a PUT that did nothing": (Answer(on="PUT upload", status=504),),
    "404 in the middle": (Answer(status=404, code="BLOB_UPLOAD_UNKNOWN", at=MIDDLE),),
    "413 in the middle": (Answer(status=413, code="SIZE_INVALID", at=MIDDLE),),
    "416 in the middle": (Answer(status=416, code="RANGE_INVALID", at=MIDDLE),),
    "429 with seconds": (TooMany(after_s=0),),
    "429 with a date": (TooMany(after_s=-5, as_date=True),),
    "429 to a PATCH": (TooMany(on="PATCH upload", after_s=0),),
    "429 to a PUT": (TooMany(on="PUT upload", after_s=0),),
    "429 that is no JSON": (TooMany(after_s=0, body=b"Too Many Requests"),),
    "a pause": (Stall(at=MIDDLE, for_s=0.001),),
    "a slow reader": (Slow(bytes_per_s=1e9),),
    "no Range": (Cut(at=MIDDLE), MissingRange()),
    "a frozen Range": (Cut(at=EARLY), Cut(at=EARLY, nth=2), FrozenRange()),
    "a Range that is too far": (Cut(at=MIDDLE), ShiftedRange(by=100)),
    "a Range that is far too far": (Cut(at=MIDDLE), ShiftedRange(by=1 << 40)),
    "a Range that is too near": (Cut(at=MIDDLE), ShiftedRange(by=-100)),
    "a stale state": (Cut(at=MIDDLE), StaleState()),
    "relative Location": (OtherLocation(form="relative"),),
    "absolute Location": (OtherLocation(form="absolute"),),
    "Location elsewhere": (OtherLocation(form="elsewhere"),),
    "relative Location, cut": (OtherLocation(form="relative"), Cut(at=MIDDLE)),
    "a token that dies before the PUT": (TokenDies(uses=2),),
    "a token that dies before the PATCH": (TokenDies(uses=1),),
    "a token that is dead": (TokenDies(after_s=0),),
    "a cut answer": (CutAnswer(at=MIDDLE),),
    "several": (
        TooMany(after_s=0),
        Cut(at=MIDDLE),
        Answer(nth=2, status=500),
        DropAnswer(),
        CutAnswer(at=1),
    ),
}


@pytest.mark.parametrize("faults", SURVIVED.values(), ids=SURVIVED)
def test_push_survives_fault(brolga_registry: BrolgaRegistry, faults: tuple[Fault, ...]) -> None:
    """A failure is survived, and nobody notices: the blob is right."""
    brolga_registry.use(faults=FaultPlan(*faults))
    assert push(brolga_registry) is None
    assert set(faults) - set(brolga_registry.fired) <= _SILENT


# What may have no occasion: a session that is not asked tells no Range, and none is stale.
_SILENT = {FrozenRange(), StaleState()}


REPORTED: dict[str, tuple[tuple[Fault, ...], type[BrolgaError]]] = {
    "cut for ever": ((Cut(at=EARLY, stored=0, times=None),), UploadInterrupted),
    "cut for ever at the first byte": ((Cut(times=None),), UploadInterrupted),
    "no answer to any PUT": ((Cut(on="PUT upload", stored=0, times=None),), UploadInterrupted),
    "no session": ((Cut(on="POST upload", times=None),), TransportError),
    "401 to a POST": ((Answer(on="POST upload", status=401, times=None),), Unauthorized),
    "403 in the middle": ((Answer(status=403, code="DENIED", at=MIDDLE),), RegistryError),
    "500 for ever": ((Answer(status=500, at=MIDDLE, times=None),), RegistryError),
    "429 for ever": ((TooMany(after_s=0, times=None),), RateLimited),
    "a redirect of the body": (
        (Answer(status=307, at=MIDDLE, headers=(("Location", "/v2/elsewhere"),)),),
        ProtocolViolation,
    ),
    "another digest": (
        (
            Answer(
                on="PUT upload",
                status=201,
                at=None,
                headers=(("Docker-Content-Digest", digest_of(b"other")),),
            ),
        ),
        DigestMismatch,
    ),
}


@pytest.mark.parametrize(("faults", "kind"), REPORTED.values(), ids=REPORTED)
def test_push_reports_fatal_fault(
    brolga_registry: BrolgaRegistry, faults: tuple[Fault, ...], kind: type[BrolgaError]
) -> None:
    """What is not survived is reported: a typed error, and nothing is committed."""
    brolga_registry.use(faults=FaultPlan(*faults))
    error = push(brolga_registry)
    assert isinstance(error, kind)
    assert brolga_registry.pending == ()


@pytest.mark.parametrize("as_date", [False, True])
def test_push_waits_no_longer_than_max_delay(
    brolga_registry: BrolgaRegistry, as_date: bool
) -> None:
    """Honour Retry-After with a bound: beyond it, the refusal is the answer."""
    brolga_registry.use(faults=FaultPlan(TooMany(after_s=3600, as_date=as_date)))
    assert isinstance(push(brolga_registry), RateLimited)


def test_stall_is_a_timeout(brolga_registry: BrolgaRegistry) -> None:
    """A registry that does not answer is not waited for without end."""
    plan = FaultPlan(Stall(on="GET api"))
    brolga_registry.use(faults=plan)
    layer = StreamLayer(pieces(), compression="none", tar=False)
    with (
        Client(retry=Retry(attempts=1), timeout_s=0.1) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.push_layer(brolga_registry.repository(NAME), layer)
    assert caught.value.reason == "timeout"
    assert brolga_registry.fired == plan.faults


@pytest.mark.parametrize("at", [0, MIDDLE, None])
def test_stall_that_ends_in_a_cut(brolga_registry: BrolgaRegistry, at: int | None) -> None:
    """What was stalled and then cut goes on, as any cut does."""
    brolga_registry.use(faults=FaultPlan(Stall(at=at)))
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(push, brolga_registry)
        raw = Raw(brolga_registry.address)
        while not brolga_registry.fired:
            raw("GET", "/v2/")
        brolga_registry.use()
        assert pushed.result() is None


def test_push_fails_if_bytes_cannot_be_resent(brolga_registry: BrolgaRegistry) -> None:
    """Where the session is dead and the window too small, the error says what is missing."""
    brolga_registry.use(profile="zot", faults=FaultPlan(Cut(at=MIDDLE)))
    error = push(brolga_registry, window=EARLY, upload_style="streamed")
    assert isinstance(error, StreamNotReplayable)
    assert error.sent > MIDDLE > error.kept


def test_image_stream_has_the_whole_window(brolga_registry: BrolgaRegistry) -> None:
    """However many blobs could be pushed at a time: it is the only one that is under way."""
    brolga_registry.use(profile="zot", faults=FaultPlan(Cut(at=MIDDLE)))
    layers = [
        StreamLayer(one, compression="none", tar=False) for one in (pieces(), iter([b"small"]))
    ]
    name = brolga_registry.repository(NAME)
    with Client(retry=AT_ONCE, window=3 * MIB, jobs=4, upload_style="streamed") as client:
        client.push(f"{name}:v1", Image.empty().append(*layers))
    assert len(brolga_registry.fired) == 1
    assert brolga_registry.blobs(NAME)[digest_of(DATA)] == DATA


# Who keeps what of a session that was cut (docs/reliability.md, Which registry, which source).
RESUMES = dict.fromkeys(PROFILES, True) | dict.fromkeys(
    ("distribution-2.8", "ecr-public", "acr", "gar", "jfrog", "zot"), False
)
RESUMES["nginx"] = False  # it says 413 first: chunks, from the first byte
RESUMES["no-chunked"] = False  # and 411, which hides the cut
KEPT: dict[str, dict[str, Any]] = {
    "a file": {"window": 0},
    "a pipe, within the window": {},
    "a pipe longer than the window": {"window": 3 * MIB // 2},  # which has what was under way
    "a pipe, with a spool": {"spool": True},
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize(("name", "resumes"), RESUMES.items())
def test_cut_on_each_profile_with_each_source(
    brolga_registry: BrolgaRegistry, tmp_path: Path, name: str, resumes: bool, kept: str
) -> None:
    """The blob; or, where neither the registry nor we have the bytes, that they are gone."""
    options = dict(KEPT[kept])
    if kept == "a file":
        options["source"] = tmp_path / "source"
        options["source"].write_bytes(DATA)
    brolga_registry.use(profile=name, faults=FaultPlan(Cut(at=MIDDLE)))
    with as_hosted(name):
        error = push(brolga_registry, **options)
    if resumes or kept != "a pipe longer than the window":
        assert error is None
    else:
        assert isinstance(error, StreamNotReplayable)


def test_push_resumes_session(brolga_registry: BrolgaRegistry) -> None:
    """Where the registry can be asked, nothing that it has is sent again."""
    brolga_registry.use(profile="distribution-3", faults=FaultPlan(Cut(at=MIDDLE)))
    assert push(brolga_registry) is None
    kinds = [seen.kind for seen in brolga_registry.requests]
    assert kinds.count("POST upload") == 1
    patched = [seen for seen in brolga_registry.requests if seen.kind == "PATCH upload"]
    assert [seen.received for seen in patched] == [MIDDLE, len(DATA) - MIDDLE]


# --- Each profile


@pytest.mark.parametrize("style", ["auto", "streamed"])
@pytest.mark.parametrize("brolga_registry", PROFILES, indirect=True)
def test_push_to_every_profile(brolga_registry: BrolgaRegistry, style: str) -> None:
    """A stream of unknown length goes into every kind of registry."""
    assert push(brolga_registry, upload_style=style) is None
    assert brolga_registry.uploads(NAME) == {}


CHUNK = MIB


@pytest.mark.parametrize("name", PROFILES)
def test_push_to_every_known_registry(brolga_registry: BrolgaRegistry, name: str) -> None:
    """The client's row for a registry fits what that registry does."""
    brolga_registry.use(profile=name)
    with as_hosted(name):
        assert push(brolga_registry) is None


# A registry that is known to want its chunks otherwise, or none: what is told where a user insists.
INSISTED: dict[str, type[BrolgaError] | None] = {
    **dict.fromkeys(PROFILES),
    "ecr": RegistryError,  # 5 MiB at least
    "ecr-public": RegistryError,
    "gar": RegistryError,  # no Content-Range
    "jfrog": NotFound,  # one PATCH
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("name", "kind"), INSISTED.items())
def test_push_in_chunks_to_every_profile(
    brolga_registry: BrolgaRegistry, name: str, kind: type[BrolgaError] | None, known: bool
) -> None:
    """Chunks go into each that takes them; the others refuse, by a typed error."""
    brolga_registry.use(profile=name)
    with as_hosted(name) if known else nullcontext():
        error = push(brolga_registry, upload_style=f"chunked:{CHUNK}")
    assert type(error) is (kind or type(None))


SMALL = {
    "ecr": replace(PROFILES["ecr"], chunk_min=CHUNK, chunk_max=2 * CHUNK),
    "ghcr": replace(PROFILES["ghcr"], chunk_max=CHUNK),
    "acr": replace(PROFILES["acr"], chunk_max=CHUNK, put_max=CHUNK),
}


@pytest.mark.parametrize("name", SMALL)
def test_push_keeps_limits_of_known_registry(brolga_registry: BrolgaRegistry, name: str) -> None:
    """Chunks of the size that a registry takes, the last one where it wants it."""
    brolga_registry.use(profile=SMALL[name])
    with as_hosted(name):
        assert push(brolga_registry, upload_style=f"chunked:{CHUNK}") is None
    patched = [seen for seen in brolga_registry.requests if seen.kind == "PATCH upload"]
    assert {seen.received for seen in patched} <= {CHUNK, len(DATA) % CHUNK}
    assert len(patched) == (2 if name == "ecr" else 3)


@pytest.mark.parametrize("name", ["ghcr", "acr", "nginx"])
def test_push_shrinks_rejected_chunk(brolga_registry: BrolgaRegistry, name: str) -> None:
    """It is halved, whether the registry says so by 413, by a page of a proxy's, or by 416."""
    sizes = {"request_max": CHUNK} if name == "nginx" else {"chunk_max": CHUNK}
    brolga_registry.use(profile=replace(PROFILES[name], **sizes))  # type: ignore[arg-type] # bytes
    with as_hosted(name):
        assert push(brolga_registry, upload_style=f"chunked:{2 * CHUNK}") is None
    refused = [seen.status for seen in brolga_registry.requests if seen.kind == "PATCH upload"]
    assert refused[0] == (416 if name == "ghcr" else 413)


# Those on which the kind of registry makes a difference.
TOGETHER = (
    "cut while storing",
    "cut after storing",
    "cut at the end",
    "no answer to a PATCH",
    "no answer to a PUT",
    "no answer to a PUT that failed",
    "500 in the middle",
    "502 after it all",
    "404 in the middle",
    "413 in the middle",
    "a PUT that a proxy sent twice",
    "429 to a PUT",
    "a Range that is too far",
    "a stale state",
    "relative Location, cut",
    "a token that dies before the PUT",
    "several",
)


# All is survived everywhere, but for a 413 where no smaller requests are taken.
NOT_SURVIVED: dict[tuple[str, str], type[BrolgaError]] = {
    ("gar", "413 in the middle"): RegistryError,
    ("jfrog", "413 in the middle"): RegistryError,
}
# The rest of a stream that was cut goes with the PUT at ECR: there is no second PATCH.
NOT_MET: dict[tuple[str, str], set[Fault]] = {("ecr", "several"): {Answer(nth=2, status=500)}}


@pytest.mark.parametrize("chosen", TOGETHER)
@pytest.mark.parametrize("name", PROFILES)
def test_push_survives_faults_of_every_profile(
    brolga_registry: BrolgaRegistry, name: str, chosen: str
) -> None:
    """Whatever comes together, the client's row for each registry brings the blob there."""
    faults = SURVIVED[chosen]
    brolga_registry.use(profile=name, faults=FaultPlan(*faults))
    with as_hosted(name):
        error = push(brolga_registry)
    assert type(error) is NOT_SURVIVED.get((name, chosen), type(None))
    assert set(faults) - set(brolga_registry.fired) <= _SILENT | NOT_MET.get((name, chosen), set())


@pytest.mark.parametrize("name", ["distribution-3", "ghcr", "acr"])
def test_push_sends_smaller_requests_after_413(brolga_registry: BrolgaRegistry, name: str) -> None:
    """On 413 halve and begin again (opencontainers/distribution-spec#485)."""
    too_large = Answer(status=413, code="SIZE_INVALID", at=MIDDLE)
    brolga_registry.use(profile=PROFILES[name], faults=FaultPlan(too_large))
    assert push(brolga_registry, upload_style=f"chunked:{2 * CHUNK}") is None
    assert brolga_registry.fired == (too_large,)


def test_push_fails_for_layer_over_the_limit(brolga_registry: BrolgaRegistry) -> None:
    """A blob over the registry's limit is refused, whatever its chunks are."""
    brolga_registry.use(profile=replace(PROFILES["ghcr"], blob_max=MIB))
    error = push(brolga_registry, upload_style=f"chunked:{CHUNK}")
    assert isinstance(error, RegistryError)
    assert error.status == 413


def test_push_fails_without_repository(brolga_registry: BrolgaRegistry) -> None:
    """ECR: the repository must exist; nothing of the stream is read before that is known."""
    brolga_registry.use(profile="ecr")
    layer = StreamLayer(pieces(), compression="none", tar=False)
    with Client(retry=AT_ONCE) as client, pytest.raises(RegistryError) as caught:
        client.push_layer(Repository.parse(f"{brolga_registry.address}/not/made"), layer)
    assert caught.value.code == "NAME_UNKNOWN"
    assert "PATCH upload" not in {seen.kind for seen in brolga_registry.requests}
