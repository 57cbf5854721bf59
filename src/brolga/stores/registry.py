"""One repository of a registry, as a store of images.

Knows which flow does what. Must not know HTTP, nor how registries are found.

Strategy: a thin layer, one method for each thing that can be done, over the flows of `wire`. What
may be saved is saved here: a blob that the registry has is not read, one of another repository of
the same registry is mounted, and small bytes go in one PUT.
"""

from __future__ import annotations

from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from brolga.errors import (
    BrolgaError,
    InvalidManifest,
    NotComputed,
    ProtocolViolation,
    RegistryError,
    StreamConsumed,
    TransportError,
)
from brolga.images import BlockStream, InMemoryBlob, StoredBlob
from brolga.protocol import (
    add_referrer,
    cancel,
    find_manifest,
    get_manifest,
    has_blob,
    mount_blob,
    put_manifest,
    read_blob,
    upload_bytes,
    upload_stream,
)
from brolga.spec.blob import Rereadable
from brolga.spec.index import parse_manifest
from brolga.stores.store import go_on
from brolga.stream.replay import MemoryBuffer, ReplayableBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.protocol import Access, Retry, UploadSession, UploadStrategy
    from brolga.spec.blob import Blob, BlobStream, Block
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.spec.reference import Repository
    from brolga.stream.replay import ReplayBuffer
    from brolga.transport import Transport

__all__ = ["RegistryStore"]

E = TypeVar("E", bound=BrolgaError)

# A blob that is not known there, may not be taken from there (docker.io says 401), or cannot be: it
# can be uploaded all the same. A registry that is overrun gets no upload on top of it, and one that
# cannot be reached would not get it.
_OVERRUN: Final = (429, 503)
_LOST_ANSWER: Final = ("cut", "timeout")
# What every registry names by (image-spec descriptor.md, Registered algorithms: "MUST implement").
_CANONICAL: Final = "sha256"
_SMALL: Final = 1 << 20  # bytes; what goes in one PUT, at one request less


def _new_window(*, is_reopenable: bool) -> ReplayBuffer:  # noqa: ARG001 - one buffer for both
    return MemoryBuffer()


@dataclass(frozen=True)
class RegistryStore:
    """A repository of a registry, with what may be done in it (`access`). Threads may share one.

    `mounts` is whether blobs may be taken over from other repositories. `sent` is where blobs went
    that can be read once only, by registry and digest: they can be taken over from there.

    `keep(is_reopenable=...)` makes what keeps the bytes of an upload while they may have to go out
    again; the flag is whether the stream can be read again. `retry` bounds how often an upload may
    fail; `style` is how its bytes go out.
    """

    repository: Repository
    access: Access
    transport: Transport
    keep: Callable[..., ReplayBuffer] = _new_window
    retry: Retry | None = None
    style: UploadStrategy | None = None
    mounts: bool = True
    sent: dict[tuple[str, Digest], Repository] = field(default_factory=dict)

    def push(self, blob: Blob, watch: Callable[[], None] = go_on) -> Descriptor:
        """Upload a blob, or see to it that it is there; return its descriptor.

        A stream is read once, and its digest exists from then on.
        """
        try:
            descriptor = blob.descriptor
        except NotComputed:
            return self._upload(blob, watch)
        if isinstance(blob, InMemoryBlob):
            flow = upload_bytes(self.access, blob.data, descriptor, strategy=self.style)
            return self._kept(self.transport.run(flow))
        is_there, session = self._mount(blob, descriptor)
        if is_there or (session is None and self.transport.run(has_blob(self.access, descriptor))):
            return descriptor
        return self._upload(blob, watch, session, descriptor)

    def upload(
        self,
        blob: Blob,
        stream: BlobStream,
        watch: Callable[[], None] = go_on,
        session: UploadSession | None = None,
        known: Descriptor | None = None,
    ) -> Descriptor:
        """Upload a blob whose stream is open, into `session` where that is; return its descriptor.

        `known` is that descriptor, where it is known before the bytes have gone.

        Where the connection fails, the bytes that the registry lacks go out once more, from what
        keeps them: the window or the spool (`keep`), or the source, opened again.
        """
        again = _repeater(blob, stream)
        with self._or_cancelled(session):
            kept = self.keep(is_reopenable=again is not None)
        with closing(kept) as keep:
            tape = ReplayableBody(stream.blocks(), keep, again, watch)
            flow = upload_stream(
                self.access,
                tape,
                lambda: blob.descriptor,
                descriptor=known,
                session=session,
                strategy=self.style,
                retry=self.retry,
            )
            return self._kept(self.transport.run(flow))

    def exists(self, descriptor: Descriptor, name: str = "") -> bool:
        """Ask whether a manifest is there: few registries keep one without what it refers to."""
        digest = descriptor.digest
        return self.named(name or str(digest)) == digest

    def named(self, tag: str) -> Digest | None:
        """Ask what a tag stands for; None where it is not known to stand for anything."""
        found = self.transport.run(find_manifest(self.access, tag))
        return None if found is None else found.digest

    def push_manifest(self, document: Manifest | Index, name: str) -> None:
        """Push a manifest under a tag or its digest, and see to it that its subject knows it.

        A registry names by sha256 what comes under a tag: what has another digest goes by that
        first. Raises ProtocolViolation if the registry does not keep that digest.
        """
        run = self.transport.run
        digest = document.digest
        if digest.algorithm != _CANONICAL and name != str(digest):
            self.push_manifest(document, str(digest))
        try:
            receipt = run(put_manifest(self.access, name, document.raw, document.media_type))
        except RegistryError as error:
            raise _advised(error, digest) from None
        if name == str(digest) and digest.algorithm != _CANONICAL and not self.named(name):
            raise self._not_kept("manifest", digest)
        if document.subject is not None and not receipt.subject_processed:
            run(add_referrer(self.access, document.subject.digest, document.as_referrer))

    @property
    def mount_source(self) -> Repository:
        """Where blobs can be mounted from."""
        return self.repository

    def fetch_blob(self, descriptor: Descriptor) -> BlobStream:
        """Open a blob's bytes, verified while they are read."""
        if descriptor.data is not None:
            return InMemoryBlob(descriptor.data, descriptor.media_type).open()
        blocks = read_blob(self.access, descriptor.digest, descriptor.size)
        return BlockStream(self.transport.stream(blocks))

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read the manifest or index that a tag or a digest names."""
        stored = self.transport.run(get_manifest(self.access, name))
        try:
            return parse_manifest(stored.raw, stored.media_type, stored.digest.algorithm)
        except InvalidManifest as error:
            named = f"{self.repository}{'@' if ':' in name else ':'}{name}"
            wrong = InvalidManifest(f"{named} is not a valid manifest: {error}")
            wrong.add_note("it was pushed so: tell whoever pushed it, or push it again")
            raise wrong from error

    def _upload(
        self,
        blob: Blob,
        watch: Callable[[], None],
        session: UploadSession | None = None,
        known: Descriptor | None = None,
    ) -> Descriptor:
        with self._or_cancelled(session):
            stream = self._opened(blob)
        with stream:
            return self.note(blob, self.upload(blob, stream, watch, session, known))

    def note(self, blob: Blob, described: Descriptor) -> Descriptor:
        """Remember where a blob went, if it can be read once only; return its descriptor."""
        if not isinstance(blob, StoredBlob):
            self.sent[self.repository.registry, described.digest] = self.repository
        return described

    def _opened(self, blob: Blob) -> BlobStream:
        """Open a blob, and have its first block if it comes from a store.

        A registry may hold a lock over the body of a PUT (go-containerregistry's does): a GET of
        the same registry that began after it would wait for it for ever.

        Raises StreamConsumed, which says where its bytes went, if that is known.
        """
        try:
            stream = blob.open()
            if isinstance(stream, BlockStream):
                stream.start()
        except StreamConsumed as error:
            with suppress(NotComputed):
                digest = blob.descriptor.digest
                for home in [home for (_, one), home in self.sent.items() if one == digest][:1]:
                    error.add_note(f"it went to {home}: push an image that is read from there")
            raise
        return stream

    def _kept(self, described: Descriptor) -> Descriptor:
        """Return what a blob that was taken is. Raises ProtocolViolation if it has no such name."""
        if described.digest.algorithm != _CANONICAL:
            is_there = self.transport.run(has_blob(self.access, described))
            if not is_there:
                raise self._not_kept("blob", described.digest)
        return described

    def _not_kept(self, what: str, digest: Digest) -> ProtocolViolation:
        """Return the error for what the registry took, and has under another name only."""
        error = ProtocolViolation(
            f"{self.repository.registry} took the {what} {digest}, and does not keep it under "
            "this digest"
        )
        return _advised(error, digest)

    def _mount(self, blob: Blob, descriptor: Descriptor) -> tuple[bool, UploadSession | None]:
        """Take a blob over from another repository of this registry, where it is in one.

        Return whether that is done, and the session that the registry opened instead.
        """
        here = self.repository
        home = blob.mount_source if isinstance(blob, StoredBlob) else self._sent_to(descriptor)
        if not self.mounts or home is None or home == here or home.registry != here.registry:
            return False, None
        access = self.access.registry.access(here, "pull,push", home)
        try:
            session = self.transport.run(mount_blob(access, descriptor.digest, home))
        except RegistryError as error:
            if error.status in _OVERRUN:
                raise
            return False, None
        except TransportError as error:
            if error.reason not in _LOST_ANSWER:
                raise
            return False, None
        return session is None, session

    @contextmanager
    def _or_cancelled(self, session: UploadSession | None) -> Iterator[None]:
        """Cancel a session that is open already if the upload cannot begin."""
        try:
            yield
        except BaseException:
            if session is not None:
                self.transport.run(cancel(self.access, session))
            raise

    def _sent_to(self, descriptor: Descriptor) -> Repository | None:
        return self.sent.get((self.repository.registry, descriptor.digest))


def _advised(error: E, digest: Digest) -> E:
    """Add to an error what to do if it is the digest's algorithm that a registry cannot keep."""
    if digest.algorithm != _CANONICAL:
        error.add_note(
            f"if the registry does not take {digest.algorithm}, copy to another or to oci:DIR"
        )
    return error


def _repeater(blob: Blob, stream: BlobStream) -> Callable[[], Iterator[Block]] | None:
    """Return what gives a stream's bytes once more, or None where nothing can."""
    if isinstance(stream, Rereadable):
        return stream.reread if stream.is_reopenable else None
    return partial(_reopened, blob) if isinstance(blob, StoredBlob) else None


def _reopened(blob: Blob) -> Iterator[Block]:
    with blob.open() as stream:
        yield from stream.blocks()
