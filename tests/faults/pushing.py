"""A client's push that a fault may disturb, and the faults that it survives."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tests.faults.conftest import NAME
from tests.images import digest_of

from brolga.client import Client, TransportOptions, UploadOptions
from brolga.errors import BrolgaError
from brolga.protocol import Retry
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import (
    Answer,
    Cut,
    CutAnswer,
    DropAnswer,
    FrozenRange,
    MissingRange,
    OtherLocation,
    Redirect,
    Resend,
    ShiftedRange,
    Slow,
    StaleState,
    Stall,
    TokenDies,
    TooMany,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Push the data; return the typed error that it came to, or None if the blob is right.

    No session is left, except that of a POST whose response was lost.
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
    retry = options.pop("retry", AT_ONCE)
    transport = TransportOptions(timeout_s=options.pop("timeout_s", 30.0))
    with Client(retry=retry, transport=transport, uploads=UploadOptions(**options)) as client:
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
    "a redirect at once": (Redirect(),),
    "a redirect in the middle": (Redirect(at=MIDDLE),),
    "a redirect at the end": (Redirect(status=308, at=None),),
    "several redirects": (Redirect(at=EARLY, times=5),),
    "a redirect of each": (Redirect(on="POST upload"), Redirect(), Redirect(on="PUT upload")),
    "a redirect to another place": (
        Answer(status=307, at=MIDDLE, headers=(("Location", "/v2/elsewhere"),)),
    ),
    "a redirect and a cut": (Redirect(at=EARLY), Cut(at=MIDDLE, nth=2)),
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


# What may have no occasion: a session that is not asked tells no Range, and none is stale.
SILENT = {FrozenRange(), StaleState()}
