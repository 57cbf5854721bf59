"""client.remote: a repository as a store; which answer of a mount leads to an upload."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.protocol.driver import HOME, ONCE, REPOSITORY, Answer, drive, make_access

from brolga.errors import (
    DigestMismatch,
    ProtocolViolation,
    RegistryError,
    SourceError,
    TransportError,
)
from brolga.images import BlockStream, Image, InMemoryBlob, StoredBlob, StreamBlob
from brolga.protocol import Request, Response, Retry, UploadStrategy
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.manifest import Manifest
from brolga.spec.mediatypes import OCI_LAYER
from brolga.spec.reference import Repository
from brolga.stores.push import push
from brolga.stores.registry import RegistryStore
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from brolga.protocol import Flow
    from brolga.spec.blob import Blob, BlobStream
    from brolga.stream.replay import ReplayBuffer
    from brolga.transport import Transport

DATA = b"a layer"
BLOB = Descriptor(OCI_LAYER, Digest.of(DATA), len(DATA))
BASE = Repository.parse("registry.example/team/base")
LAYER = StoredBlob(BLOB, InMemoryBlob(DATA, OCI_LAYER).open, BASE)


class Told:
    """A transport whose answers come from a function; it keeps what was asked."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def run(self, flow: Flow[Any]) -> object:
        """Run a flow to its end."""

        def answer(request: Request) -> Answer:
            self.asked.append(
                f"{request.method} {request.url.removeprefix(HOME + '/v2/team/app/')}"
            )
            return self.answer(request)

        return drive(flow, answer)


def remote(told: Told, *, mounts: bool = True, retry: Retry = ONCE) -> RegistryStore:
    """Return a repository behind such a transport."""
    style, way = UploadStrategy(monolithic_max=BLOB.size), make_access(retry=retry)
    transport = cast("Transport", told)
    return RegistryStore(
        REPOSITORY, lambda: way, transport, choose_strategy=lambda _: style, mounts=mounts
    )


def registry(mount: int) -> Callable[[Request], Response]:
    """Return a registry that answers a mount with a status, and takes uploads."""

    def answer(request: Request) -> Response:
        if "mount=" in request.url:
            return Response(mount, {"location": "/session"})
        if request.method == "HEAD":
            return Response(404)
        return Response(202 if request.method == "POST" else 201, {"location": "/session"})

    return answer


MOUNT = f"POST blobs/uploads/?mount=sha256%3A{BLOB.digest.encoded}&from=team%2Fbase"
PUT = f"PUT {HOME}/session?digest=sha256%3A{BLOB.digest.encoded}"
DELETE = f"DELETE {HOME}/session"
UPLOAD = [f"HEAD blobs/{BLOB.digest}", "POST blobs/uploads/", PUT]


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (201, []),
        (202, [PUT]),
        *((status, UPLOAD) for status in (400, 401, 403, 404, 405, 409, 411, 413, 422)),
        *((status, UPLOAD) for status in (408, 500, 501, 502, 504, 507, 520)),
    ],
)
def test_push_uploads_a_blob_that_cannot_be_mounted(status: int, asked: list[str]) -> None:
    """202 opens a session instead (end-11); a refusal says that it may not be taken from there."""
    told = Told(registry(status))
    assert remote(told).push(LAYER) == BLOB
    assert told.asked == [MOUNT, *asked]


@pytest.mark.parametrize("status", [429, 503])
def test_push_raises_a_failure_of_a_mount(status: int) -> None:
    """A registry that is overrun gets no upload on top of it."""
    told = Told(registry(status))
    with pytest.raises(RegistryError, match=str(status)):
        remote(told).push(LAYER)
    assert told.asked == [MOUNT]


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_push_repeats_a_mount_that_fails_once(status: int) -> None:
    """A second mount of a blob does no harm, whatever the first one did (end-11)."""
    answers = [Response(status), Response(201)]
    told = Told(lambda _: answers.pop(0))
    assert remote(told, retry=Retry(attempts=2)).push(LAYER) == BLOB
    assert told.asked == [MOUNT, MOUNT]


@pytest.mark.parametrize(
    ("reason", "asked"), [("cut", UPLOAD), ("timeout", UPLOAD), ("connect", []), ("tls", [])]
)
def test_push_uploads_after_a_mount_without_an_answer(reason: str, asked: list[str]) -> None:
    """A registry that cannot move a blob in time takes it, if it can be reached at all."""

    def answer(request: Request) -> Answer:
        lost = TransportError("no answer", reason=reason)
        return lost if "mount=" in request.url else registry(201)(request)

    told = Told(answer)
    with nullcontext() if asked else pytest.raises(TransportError):
        remote(told).push(LAYER)
    assert told.asked == [MOUNT, *asked]


class Unopened(Exception):
    """What a blob, or a window, raises that cannot be had."""


def test_push_cancels_the_session_of_a_mount_if_the_blob_cannot_be_opened() -> None:
    """202 opens a session (end-11); an abandoned one is not left behind (end-14)."""

    def fail() -> BlobStream:
        raise Unopened

    told = Told(registry(202))
    with pytest.raises(Unopened):
        remote(told).push(StoredBlob(BLOB, fail, BASE))
    assert told.asked == [MOUNT, DELETE]


def test_push_cancels_the_session_of_a_mount_if_it_gets_no_buffer() -> None:
    """A spool needs a disk."""

    def fail(**_: object) -> ReplayBuffer:
        raise Unopened

    told = Told(registry(202))
    with pytest.raises(Unopened):
        replace(remote(told), keep=fail).push(LAYER)
    assert told.asked == [MOUNT, DELETE]


def test_push_tries_no_mount_if_mounts_are_off() -> None:
    """Its token would be refused."""
    told = Told(registry(201))
    remote(told, mounts=False).push(LAYER)
    assert told.asked == UPLOAD


def test_push_opens_the_source_before_it_sends() -> None:
    """A registry may hold a lock over a PUT's body, and let no GET in until that is whole."""
    read: list[str] = []

    def blocks() -> Generator[bytes, None, None]:
        read.append("the source")
        yield DATA

    def answer(request: Request) -> Response:
        if request.method in ("POST", "PUT"):
            assert read == ["the source"]
        return registry(404)(request)

    layer = StoredBlob(BLOB, lambda: BlockStream(blocks()))
    remote(Told(answer)).push(layer)


def test_push_opens_no_session_if_the_source_cannot_be_opened() -> None:
    """It fails before the registry is asked for a session."""

    def blocks() -> Generator[bytes, None, None]:
        yield from ()
        raise SourceError("it is gone")

    told = Told(registry(404))
    with pytest.raises(SourceError, match="it is gone"):
        remote(told).push(StoredBlob(BLOB, lambda: BlockStream(blocks())))
    assert [asked.partition(" ")[0] for asked in told.asked] == ["HEAD"]


DOCUMENT = Image.empty().manifest
STRONG = Manifest.parse(DOCUMENT.raw, algorithm="sha512")


def keeping(*names: str) -> Callable[[Request], Response]:
    """Return a registry that takes everything, and has it under some names alone."""

    def answer(request: Request) -> Response:
        if request.method == "HEAD":
            is_there = any(name in request.url for name in names)
            headers = {"content-type": OCI_LAYER, "content-length": str(len(DATA))}
            return Response(200, headers) if is_there else Response(404)
        said = {"docker-content-digest": str(DOCUMENT.digest), "location": "/session"}
        return Response(202 if request.method == "POST" else 201, said)

    return answer


def naming(*tags: str, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a registry that names in OCI-Tag those of `tags` that are parameters."""

    def named(request: Request) -> Response:
        response = answer(request)
        header = ", ".join(tag for tag in tags if f"tag={tag}" in request.url)
        return replace(response, headers={**response.headers, "oci-tag": header})

    return named


def test_push_manifest_puts_sha512_digest_before_tag() -> None:
    """A registry names by sha256 what comes under a tag."""
    told = Told(keeping("sha512"))
    remote(told).push_manifest(STRONG, "v1")
    name = f"manifests/{STRONG.digest}"
    assert told.asked == [f"PUT {name}?tag=v1", f"HEAD {name}", "PUT manifests/v1"]


def test_push_manifest_puts_sha512_digest_and_tag_at_once() -> None:
    """A registry that knows tags as parameters gives the tag the digest of the URL (end-7b)."""
    told = Told(naming("v1", answer=keeping("sha512")))
    remote(told).push_manifest(STRONG, "v1")
    name = f"manifests/{STRONG.digest}"
    assert told.asked == [f"PUT {name}?tag=v1", f"HEAD {name}"]


@pytest.mark.parametrize(
    ("known", "left"), [((), ("v1", "v2")), (("v1",), ("v2",)), (("v1", "v2"), ())]
)
def test_push_manifest_puts_several_tags(known: tuple[str, ...], left: tuple[str, ...]) -> None:
    """One request sets all of them, or some, or none: the others follow one by one."""
    told = Told(naming(*known, answer=keeping()))
    remote(told).push_manifest(DOCUMENT, "v1", "v2")
    assert told.asked == [
        f"PUT manifests/{DOCUMENT.digest}?tag=v1&tag=v2",
        *(f"PUT manifests/{tag}" for tag in left),
    ]


def test_tag_pushes_the_manifest_once() -> None:
    """The manifest is read once, whatever the number of tags is."""

    def answer(request: Request) -> Response:
        if request.method == "GET":
            return Response(200, {"content-type": DOCUMENT.media_type}, DOCUMENT.raw)
        return Response(201, {"oci-tag": "v2,v3"})

    told = Told(answer)
    assert remote(told).tag("v1", "v2", "v3") == DOCUMENT.descriptor
    put = f"PUT manifests/{DOCUMENT.digest}?tag=v2&tag=v3"
    assert told.asked == ["GET manifests/v1", put]


def test_push_manifest_puts_sha256_once() -> None:
    """One request for one manifest."""
    told = Told(keeping())
    remote(told).push_manifest(DOCUMENT, "v1")
    assert told.asked == ["PUT manifests/v1"]


@pytest.mark.parametrize("name", [str(STRONG.digest), "v1"])
def test_push_manifest_raises_if_the_registry_renames_it(name: str) -> None:
    """It could not be fetched by its own digest."""
    told = Told(keeping("sha256"))
    with pytest.raises(ProtocolViolation, match="does not keep it under this digest") as caught:
        remote(told).push_manifest(STRONG, name)
    assert "PUT manifests/v1" not in told.asked
    assert "use another registry" in caught.value.__notes__[0]


def test_push_manifest_adds_hint_if_the_digest_is_refused() -> None:
    """What is named by sha512 needs a registry that keeps it."""
    told = Told(lambda _: Response(400))
    with pytest.raises(RegistryError) as caught:
        remote(told).push_manifest(STRONG, str(STRONG.digest))
    assert "if the registry does not take sha512" in caught.value.__notes__[-1]
    with pytest.raises(RegistryError) as caught:
        remote(told).push_manifest(DOCUMENT, "v1")
    assert not any("sha512" in note for note in getattr(caught.value, "__notes__", ()))


STRONG_POST = "POST blobs/uploads/?digest-algorithm=sha512"


def strong_stream() -> StreamLayer:
    """Return a stream whose digest is by sha512."""
    return StreamLayer([DATA], "none", digest_algorithm="sha512")


def test_push_opens_session_with_the_algorithm_of_a_stream() -> None:
    """End-4c; and the blob is asked for under its digest, which the manifest will have."""
    told, layer = Told(keeping("sha512")), strong_stream()
    assert remote(told).push(StreamBlob(layer)).digest == layer.digest == Digest.of(DATA, "sha512")
    assert told.asked[0] == STRONG_POST
    assert told.asked[-2].startswith(f"PUT {HOME}/session?digest=sha512")
    assert told.asked[-1] == f"HEAD blobs/{layer.digest}"


@pytest.mark.parametrize(
    ("refused", "response"),
    [
        ("POST", Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')),
        ("POST", Response(404)),
        ("PUT", Response(400, body=b'{"errors": [{"code": "DIGEST_INVALID"}]}')),
        ("PUT", Response(400, body=b'{"errors": [{"code": "UNSUPPORTED"}]}')),
    ],
)
def test_push_adds_hint_if_the_algorithm_of_a_stream_is_refused(
    refused: str, response: Response
) -> None:
    """The error says what the registry answered, and what may be the reason."""
    kept = keeping()
    told = Told(lambda request: response if request.method == refused else kept(request))
    with pytest.raises((RegistryError, DigestMismatch)) as caught:
        remote(told).push(strong_stream())
    assert "if the registry does not take sha512" in caught.value.__notes__[-1]
    told = Told(lambda request: response if request.method == refused else kept(request))
    with pytest.raises((RegistryError, DigestMismatch)) as caught:
        remote(told).push(StreamLayer([DATA], "none"))
    assert not any("sha512" in note for note in getattr(caught.value, "__notes__", ()))


def test_push_adds_no_hint_to_a_failure_of_another_kind() -> None:
    """A registry that is down says nothing of algorithms."""
    with pytest.raises(RegistryError) as caught:
        remote(Told(lambda _: Response(503))).push(strong_stream())
    assert not any("sha512" in note for note in getattr(caught.value, "__notes__", ()))


def test_push_raises_if_the_registry_ignores_the_algorithm() -> None:
    """The blob is in the registry under its sha256 digest alone, and no manifest names it."""
    told = Told(keeping("sha256"))
    with pytest.raises(ProtocolViolation, match=r"took the blob sha512:.*does not keep it under"):
        push(remote(told), Image.empty().append(strong_stream()), "v1")
    assert not any("manifests" in asked for asked in told.asked)


STRONG_BYTES = InMemoryBlob(DATA, OCI_LAYER, "sha512")
STRONG_LAYER = StoredBlob(STRONG_BYTES.descriptor, STRONG_BYTES.open)


@pytest.mark.parametrize("blob", [STRONG_BYTES, STRONG_LAYER], ids=["bytes", "layer"])
def test_push_raises_if_the_registry_renames_a_blob(blob: Blob) -> None:
    """A config or a layer is asked for under the digest that its manifest has."""
    kept = keeping("sha512")
    first = [Response(404)] if blob is STRONG_LAYER else []  # what is at hand is sent at once

    def late(request: Request) -> Response:
        return first.pop() if first and request.method == "HEAD" else kept(request)

    assert remote(Told(late)).push(blob).digest == Digest.of(DATA, "sha512")
    with pytest.raises(ProtocolViolation, match="took the blob sha512:"):
        remote(Told(keeping("sha256"))).push(blob)
