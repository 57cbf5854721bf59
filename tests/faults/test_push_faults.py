"""The client's pushes, with each fault."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.conftest import NAME, Raw
from tests.faults.counterparts import as_hosted
from tests.faults.pushing import AT_ONCE, DATA, EARLY, MIB, MIDDLE, SILENT, SURVIVED, pieces, push
from tests.images import digest_of

from brolga.client import Client, TransportOptions, UploadOptions
from brolga.errors import (
    BrolgaError,
    DigestMismatch,
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
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import (
    Answer,
    Cut,
    FaultPlan,
    Redirect,
    Stall,
    TooMany,
)
from brolga.testing.registries import PROFILES

if TYPE_CHECKING:
    from pathlib import Path

    from brolga.testing.faults import Fault
    from brolga.testing.plugin import BrolgaRegistry


@pytest.mark.parametrize("faults", SURVIVED.values(), ids=SURVIVED)
def test_push_survives_fault(brolga_registry: BrolgaRegistry, faults: tuple[Fault, ...]) -> None:
    """The push survives the fault, and the blob is right."""
    brolga_registry.use(faults=FaultPlan(*faults))
    assert push(brolga_registry) is None
    assert set(faults) - set(brolga_registry.fired) <= SILENT


REPORTED: dict[str, tuple[tuple[Fault, ...], type[BrolgaError]]] = {
    "cut for ever": ((Cut(at=EARLY, stored=0, times=None),), UploadInterrupted),
    "cut for ever at the first byte": ((Cut(times=None),), UploadInterrupted),
    "no answer to any PUT": ((Cut(on="PUT upload", stored=0, times=None),), UploadInterrupted),
    "no session": ((Cut(on="POST upload", times=None),), TransportError),
    "401 to a POST": ((Answer(on="POST upload", status=401, times=None),), Unauthorized),
    "403 in the middle": ((Answer(status=403, code="DENIED", at=MIDDLE),), RegistryError),
    "500 for ever": ((Answer(status=500, at=MIDDLE, times=None),), RegistryError),
    "429 for ever": ((TooMany(after_s=0, times=None),), RateLimited),
    "a redirect that turns a PATCH into a GET": (
        (Answer(status=303, at=MIDDLE, headers=(("Location", "/v2/elsewhere"),)),),
        ProtocolViolation,
    ),
    "redirects for ever": ((Redirect(at=MIDDLE, times=None),), ProtocolViolation),
    "redirects of a POST for ever": (
        (Redirect(on="POST upload", times=None),),
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
    """A fatal fault is a typed error, and no blob is committed."""
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
        Client(retry=Retry(attempts=1), transport=TransportOptions(timeout_s=0.1)) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.push_layer(brolga_registry.repository(NAME), layer)
    assert caught.value.reason == "timeout"
    assert brolga_registry.fired == plan.faults


@pytest.mark.parametrize("at", [0, MIDDLE, None])
def test_stall_that_ends_in_a_cut(brolga_registry: BrolgaRegistry, at: int | None) -> None:
    """An upload that was stalled and then cut continues, as after any cut."""
    brolga_registry.use(faults=FaultPlan(Stall(at=at)))
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(push, brolga_registry)
        raw = Raw(brolga_registry.address)
        while not brolga_registry.fired:
            raw("GET", "/v2/")
        brolga_registry.use()
        assert pushed.result() is None


def test_push_fails_if_bytes_cannot_be_resent(brolga_registry: BrolgaRegistry) -> None:
    """If the session is dead and the window too small, the error says what is missing."""
    brolga_registry.use(profile="zot", faults=FaultPlan(Cut(at=MIDDLE)))
    error = push(brolga_registry, window=EARLY, style="streamed")
    assert isinstance(error, StreamNotReplayable)
    assert error.sent > MIDDLE > error.kept


def test_image_stream_has_the_whole_window(brolga_registry: BrolgaRegistry) -> None:
    """With several jobs, an image's stream is the only upload in progress."""
    brolga_registry.use(profile="zot", faults=FaultPlan(Cut(at=MIDDLE)))
    layers = [
        StreamLayer(source, compression="none", tar=False)
        for source in (pieces(), iter([b"small"]))
    ]
    name = brolga_registry.repository(NAME)
    with Client(
        retry=AT_ONCE, uploads=UploadOptions(window=3 * MIB, jobs=4, style="streamed")
    ) as client:
        client.push(f"{name}:v1", Image.empty().append(*layers))
    assert len(brolga_registry.fired) == 1
    assert brolga_registry.blobs(NAME)[digest_of(DATA)] == DATA


# Who keeps what of a session that was cut (docs/reliability.md, Which registry, which source).
RESUMES = dict.fromkeys(PROFILES, True) | dict.fromkeys(
    ("distribution-2.8", "ecr-public", "acr", "gar", "jfrog", "zot"), False
)
RESUMES["nginx"] = False  # it answers 413 first: chunks, from the first byte
RESUMES["no-chunked"] = False  # and 411, which hides the cut
KEPT: dict[str, dict[str, Any]] = {
    "a file": {"window": 0},
    "a pipe, within the window": {},
    "a pipe longer than the window": {"window": 3 * MIB // 2},  # which has what was under way
    "a pipe, with a spool": {"spool": True},
}


@pytest.mark.parametrize("buffer", KEPT)
@pytest.mark.parametrize(("name", "resumes"), RESUMES.items())
def test_cut_on_each_profile_with_each_source(
    brolga_registry: BrolgaRegistry, tmp_path: Path, name: str, resumes: bool, buffer: str
) -> None:
    """The blob; or an error if neither the registry nor the client has the bytes."""
    options = dict(KEPT[buffer])
    if buffer == "a file":
        options["source"] = tmp_path / "source"
        options["source"].write_bytes(DATA)
    brolga_registry.use(profile=name, faults=FaultPlan(Cut(at=MIDDLE)))
    with as_hosted(name):
        error = push(brolga_registry, **options)
    if resumes or buffer != "a pipe longer than the window":
        assert error is None
    else:
        assert isinstance(error, StreamNotReplayable)


def test_push_resumes_session(brolga_registry: BrolgaRegistry) -> None:
    """If the registry can be asked, nothing that it has is sent again."""
    brolga_registry.use(profile="distribution-3", faults=FaultPlan(Cut(at=MIDDLE)))
    assert push(brolga_registry) is None
    kinds = [seen.kind for seen in brolga_registry.requests]
    assert kinds.count("POST upload") == 1
    patched = [seen for seen in brolga_registry.requests if seen.kind == "PATCH upload"]
    assert [seen.received for seen in patched] == [MIDDLE, len(DATA) - MIDDLE]
