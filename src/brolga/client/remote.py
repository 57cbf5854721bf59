"""One repository of a registry, as a store of images.

Knows which flow does what. Must not know HTTP, nor how registries are found.

Strategy: a thin layer, one method for each thing that can be done, over the flows of `wire`. What
may be saved is saved here: a blob that the registry has is not read, one of another repository of
the same registry is mounted, and small bytes go in one PUT.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.errors import NotComputed, NotFound, RegistryError
from brolga.images import BlobLayer, BlockStream, BytesBlob
from brolga.layer import LayerStream
from brolga.manifest import parse_manifest
from brolga.replay import Tape, Window
from brolga.wire import (
    Style,
    get_manifest,
    has_blob,
    head_manifest,
    mount_blob,
    put_manifest,
    read_blob,
    upload_bytes,
    upload_stream,
)
from brolga.wire.referrers import add_referrer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.compression import Block
    from brolga.descriptor import Descriptor
    from brolga.digest import Digest
    from brolga.layer import Blob, BlobStream
    from brolga.manifest import Index, Manifest
    from brolga.reference import Repository
    from brolga.replay import Keep
    from brolga.transport import Transport
    from brolga.wire import Access, Retry

__all__ = ["Remote"]

_SMALL: Final = 1 << 20  # bytes; what goes in one PUT, at one request less


def _go_on() -> None:
    return None


@dataclass(frozen=True)
class Remote:
    """A repository of a registry, with what may be done in it (`access`). Threads may share one.

    `keep` makes what keeps the bytes of an upload while they may have to go out again; `retry`
    bounds how often an upload may fail; `style` is how its bytes go out.
    """

    repository: Repository
    access: Access
    transport: Transport
    keep: Callable[[], Keep] = Window
    retry: Retry | None = None
    style: Style | None = None

    def push(self, blob: Blob, watch: Callable[[], None] = _go_on) -> Descriptor:
        """Upload a blob, or see to it that it is there; return its descriptor.

        A stream is read once, and its digest exists from then on.
        """
        try:
            descriptor = blob.descriptor
        except NotComputed:
            return self._upload(blob, watch)
        if isinstance(blob, BytesBlob):
            return self.transport.run(upload_bytes(self.access, blob.data, descriptor))
        session = self._mount(blob, descriptor)
        if session is None or (
            not session and self.transport.run(has_blob(self.access, descriptor))
        ):
            return descriptor
        return self._upload(blob, watch, session)

    def upload(
        self,
        blob: Blob,
        stream: BlobStream,
        watch: Callable[[], None] = _go_on,
        session: str = "",
    ) -> Descriptor:
        """Upload a blob whose stream is open, into `session` where that is; return its descriptor.

        Where the connection fails, the bytes that the registry lacks go out once more, from what
        keeps them: the window or the spool (`keep`), or the source, opened again.
        """
        with closing(self.keep()) as keep:
            tape = Tape(stream.with_heartbeats(), keep, _repeater(blob, stream), watch)
            flow = upload_stream(
                self.access,
                tape,
                lambda: blob.descriptor,
                session=session,
                style=self.style or Style(),
                retry=self.retry,
            )
            return self.transport.run(flow)

    def holds(self, descriptor: Descriptor, name: str = "") -> bool:
        """Ask whether a manifest is there: few registries keep one without what it refers to."""
        digest = descriptor.digest
        return self.named(name or str(digest)) == digest

    def named(self, tag: str) -> Digest | None:
        """Ask what a tag stands for; None where there is no such tag."""
        try:
            return self.transport.run(head_manifest(self.access, tag)).digest
        except NotFound:
            return None

    def put(self, document: Manifest | Index, name: str) -> None:
        """Push a manifest under a tag or its digest, and see to it that its subject knows it."""
        run = self.transport.run
        receipt = run(put_manifest(self.access, name, document.raw, document.media_type))
        if document.subject is not None and not receipt.subject:
            run(add_referrer(self.access, document.subject.digest, document.as_referrer))

    @property
    def home(self) -> Repository:
        """Where blobs can be mounted from."""
        return self.repository

    def read(self, descriptor: Descriptor) -> BlobStream:
        """Open a blob's bytes, verified while they are read."""
        if descriptor.data is not None:
            return BytesBlob(descriptor.data, descriptor.media_type).open()
        blocks = read_blob(self.access, descriptor.digest, descriptor.size)
        return BlockStream(self.transport.stream(blocks))

    def document(self, name: str) -> Manifest | Index:
        """Read the manifest or index that a tag or a digest names."""
        stored = self.transport.run(get_manifest(self.access, name))
        # A type that says nothing of the document is none: some registries send it for all JSON.
        media_type = "" if stored.media_type == "application/json" else stored.media_type
        return parse_manifest(stored.raw, media_type)

    def _upload(self, blob: Blob, watch: Callable[[], None], session: str = "") -> Descriptor:
        with blob.open() as stream:
            if isinstance(blob, BlobLayer) and blob.descriptor.size <= _SMALL:
                watch()
                data = b"".join(stream.with_heartbeats())
                flow = upload_bytes(self.access, data, blob.descriptor, session)
                return self.transport.run(flow)
            return self.upload(blob, stream, watch, session)

    def _mount(self, blob: Blob, descriptor: Descriptor) -> str | None:
        """Take a blob over from another repository of this registry, where it is in one.

        Return None where that is done, the session that the registry opened instead, or "".
        """
        home = blob.home if isinstance(blob, BlobLayer) else None
        here = self.repository
        if home is None or home == here or home.registry != here.registry:
            return ""
        access = self.access.registry.access(here, "pull,push", home)
        try:
            return self.transport.run(mount_blob(access, descriptor.digest, home)) or None
        except RegistryError:
            return ""  # not allowed there, or not known here: it can be uploaded all the same


def _repeater(blob: Blob, stream: BlobStream) -> Callable[[], Iterator[Block]] | None:
    """Return what gives a stream's bytes once more, or None where nothing can."""
    if isinstance(stream, LayerStream):
        return stream.repeat if stream.can_repeat else None
    return partial(_reopened, blob) if isinstance(blob, BlobLayer) else None


def _reopened(blob: Blob) -> Iterator[Block]:
    with blob.open() as stream:
        yield from stream.with_heartbeats()
