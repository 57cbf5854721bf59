"""A repository of a registry, as a store of images.

Each method runs a flow of `protocol`. A push saves what it can: a blob that the registry has is not
read, one of another repository of the registry is mounted, and a small one goes in one PUT.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from brolga import images, protocol, stores
from brolga.errors import (
    InvalidManifest,
    NotComputed,
    ProtocolViolation,
)
from brolga.spec.digest import CANONICAL, Digest
from brolga.spec.value import Value, field
from brolga.stores.algorithm_hints import algorithm_hint, algorithm_hint_on_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from brolga.images import Tree
    from brolga.protocol import Access, Flow, RegistrySession, Retry, UploadSession, UploadStrategy
    from brolga.spec.blob import Blob, BlobStream, Prefix
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.index import Index
    from brolga.spec.manifest import Manifest
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.blob_reader import BlobReader
    from brolga.stores.journal import FileJournal
    from brolga.stores.progress import BlobReport, ProgressReporter
    from brolga.stores.read_budget import ReadBudget
    from brolga.stream.replay import ReplayBuffer
    from brolga.transport import Transport


def _keep_in_memory(*, is_reopenable: bool) -> ReplayBuffer:  # noqa: ARG001 - it is for others
    from brolga.stream.replay import MemoryBuffer

    return MemoryBuffer()


def _new_read_budget() -> ReadBudget:
    from brolga.stores.read_budget import ReadBudget

    return ReadBudget()


class RegistryStore(Value):
    """A repository of a registry, as a `store.Store`. Threads may share one.

    `connect` pings the registry; it is called when the first request is made. `mounts` says whether
    blobs may be mounted from other repositories. `pushed_blobs` records by registry and digest
    which repository a stream was pushed to, so that it can be mounted from there.

    `keep(is_reopenable=...)` returns a buffer for the bytes of an upload that may have to be sent
    again; `is_reopenable` says whether the stream can be read again. `open_journal`, called with
    the repository, the blob and `is_reopenable`, returns the journal of an upload, if it has one.
    `retry` bounds how often an upload may fail; `strategy` is how its bytes are sent to a registry.
    `read_budget` returns what the blobs that are read at a time share. What happens to its blobs is
    reported to `progress`.
    """

    repository: Repository
    connect: Callable[[], Access]
    transport: Transport
    keep: Callable[..., ReplayBuffer] = _keep_in_memory
    open_journal: Callable[..., FileJournal | None] | None = None
    retry: Retry | None = None
    choose_strategy: Callable[[RegistrySession], UploadStrategy] | None = None
    mounts: bool = True
    pushed_blobs: dict[tuple[str, Digest], Repository] = field(default_factory=dict)
    read_budget: Callable[[], ReadBudget] = _new_read_budget
    progress: ProgressReporter | None = None

    @cached_property
    def access(self) -> Access:
        """The access to the repository, for the actions that the store is opened for."""
        return self.connect()

    @property
    def upload_strategy(self) -> UploadStrategy | None:
        """How the bytes of an upload are sent; None if nothing is known of the registry."""
        return self.choose_strategy(self.access.registry) if self.choose_strategy else None

    @property
    def mount_source(self) -> Repository:
        """The repository that blobs can be mounted from."""
        return self.repository

    # --- Reading

    def tags(self) -> Iterator[str]:
        """Yield the tags page by page, in the registry's order."""
        with closing(self.transport.stream(protocol.list_tags(self.access))) as pages:
            for page in pages:
                yield from page

    def tree(self, name: str = "", platform: Platform | None = None) -> Tree:  # noqa: ARG002 - a name has one image
        """Return the image or index of a tag or digest. No blob is read yet."""
        return stores.read_tree(self, name)

    def resolve(self, name: str = "", platform: Platform | None = None) -> Descriptor:  # noqa: ARG002 - as in `tree`
        """Return the descriptor of a tag or digest, by HEAD if possible. Raises NotFound."""
        return self.transport.run(protocol.head_manifest(self.access, name))

    def find(self, tag: str) -> Descriptor | None:
        """Return what a tag or digest stands for; None if it is not known to exist."""
        return self.transport.run(protocol.find_manifest(self.access, tag))

    def exists(self, descriptor: Descriptor, tag: str = "") -> bool:
        """Return whether a manifest is there, or, with `tag`, whether that stands for it.

        Few registries keep a manifest without what it refers to.
        """
        stored = self.find(tag or str(descriptor.digest))
        return stored is not None and stored.digest == descriptor.digest

    def fetch_manifest(self, name: str) -> Manifest | Index:
        """Read the manifest or index of a tag or digest."""
        from brolga.spec.index import parse_manifest

        stored = self.transport.run(protocol.get_manifest(self.access, name))
        try:
            return parse_manifest(stored.raw, stored.media_type, stored.digest.algorithm)
        except InvalidManifest as error:
            named = f"{self.repository}{'@' if ':' in name else ':'}{name}"
            raise InvalidManifest(
                f"{named} is not a valid manifest: {error}",
                hint="it was pushed like this: push it again, or ask its owner to",
            ) from error

    def fetch_blob(self, blob: Descriptor | Digest) -> BlobStream:
        """Open a blob. Its bytes are verified while they are read."""
        report = stores.report_read(self.progress, blob)
        if isinstance(blob, Digest):
            blocks = self._reader.read(blob, None, report=report)
        elif blob.data is not None:
            return images.InMemoryBlob(blob.data, blob.media_type).open()
        else:
            blocks = self._reader.read(blob.digest, blob.size, report=report)
        return images.BlockStream(report.read(blocks))

    def fetch_rest(self, blob: Descriptor | Digest, prefix: Prefix) -> BlobStream:
        """Open the bytes of a blob after a prefix. They are verified together with it."""
        digest, size = (blob, None) if isinstance(blob, Digest) else (blob.digest, blob.size)
        report = stores.report_read(self.progress, blob)
        blocks = self._reader.read(digest, size, prefix, report)
        return images.BlockStream(report.read(blocks, prefix.size))

    def read_range(self, blob: Descriptor, start: int, stop: int) -> BlobStream:
        """Open the bytes of a blob from `start` to `stop`. They are not verified."""
        return images.BlockStream(self._reader.read_range(blob.digest, start, stop))

    @cached_property
    def _reader(self) -> BlobReader:
        from brolga.stores.blob_reader import BlobReader

        return BlobReader(self.transport, lambda: self.access, self.read_budget())

    def resolve_blob(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a blob, without its media type. Raises NotFound."""
        from brolga.spec.descriptor import Descriptor
        from brolga.spec.mediatypes import OCTET_STREAM

        size = self.transport.run(protocol.get_blob_size(self.access, digest))
        return Descriptor(OCTET_STREAM, digest, size)

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Return what refers to a manifest, by the referrers API or the tag that replaces it."""
        return self.transport.run(protocol.list_referrers(self.access, digest, artifact_type))

    # --- Writing

    def push(self, blob: Blob) -> Descriptor:
        """Upload or mount a blob unless the registry has it; return its descriptor.

        A stream is read once, and its digest exists from then on. If the connection fails, the
        missing bytes are sent again from the buffer (`keep`), or from the source, opened again.
        A stream is opened first, so that nothing is sent if that fails.
        """
        with stores.report_push(self.progress, blob) as report:
            return self._push(blob, report)

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        """Push a manifest under tags or its digest, and list it as a referrer of its subject.

        A registry names by sha256 what is pushed under a tag, so a manifest with another digest is
        pushed under that first, as one with several tags is. Raises ProtocolViolation if the
        registry does not keep it.
        """
        digest = manifest.digest
        tags = [name for name in names if name != str(digest)]
        with algorithm_hint_on_error(digest.algorithm):
            is_processed = self._put_manifest(manifest, tags)
        if manifest.subject is not None and not is_processed:
            subject, referrer = manifest.subject.digest, manifest.as_referrer
            self.transport.run(protocol.add_referrer(self.access, subject, referrer))

    def tag(self, name: str, *tags: str) -> Descriptor:
        """Push the manifest of a tag or digest under other tags; return its descriptor."""
        manifest = self.fetch_manifest(name)
        self.push_manifest(manifest, *tags)
        return manifest.descriptor

    def delete(self, name: str) -> None:
        """Delete a manifest by digest, or a tag if the registry supports that.

        A manifest is also removed from its subject's referrers tag, in a registry without the API.
        """
        is_digest = ":" in name
        subject = self.fetch_manifest(name).subject if is_digest else None
        self.transport.run(protocol.delete_manifest(self.access, name))
        if subject is not None:
            digest = Digest.parse(name)
            self.transport.run(protocol.remove_referrer(self.access, subject.digest, digest))

    def delete_blob(self, digest: Digest) -> None:
        """Delete a blob. Raises NotFound, RegistryError."""
        self.transport.run(protocol.delete_blob(self.access, digest))

    # --- Inside

    def _push(self, blob: Blob, report: BlobReport) -> Descriptor:
        try:
            descriptor = blob.descriptor
        except NotComputed:
            return self._upload(blob, report)
        if isinstance(blob, images.InMemoryBlob):
            access, strategy = report.watch(self.access), self.upload_strategy
            flow = protocol.upload_bytes(access, blob.data, descriptor, strategy=strategy)
            return self._run_upload(flow, descriptor.digest.algorithm)
        home, session = self._mount(blob, descriptor)
        if home is not None:
            report.mount(home)
        elif session is None and self.transport.run(protocol.has_blob(self.access, descriptor)):
            report.skip()
        else:
            return self._upload(blob, report, session, descriptor)
        return descriptor

    def _put_manifest(self, manifest: Manifest | Index, tags: Sequence[str]) -> bool:
        """Push a manifest under its tags, or its digest; return whether its subject was noted."""
        run, access, digest = self.transport.run, self.access, manifest.digest
        document = manifest.raw, manifest.media_type
        is_processed = False
        if digest.algorithm != CANONICAL or len(tags) != 1:
            result = run(protocol.put_with_tags(access, digest, tags, *document))
            is_processed, tags = result.subject_processed, result.tags_left
            if digest.algorithm != CANONICAL:
                is_kept = self.find(str(digest)) is not None
                self._check_kept("manifest", digest, is_kept=is_kept)
        for tag in tags:
            result = run(protocol.put_manifest(access, tag, *document))
            is_processed |= result.subject_processed
        return is_processed

    def _upload(
        self,
        blob: Blob,
        report: BlobReport,
        session: UploadSession | None = None,
        known: Descriptor | None = None,
    ) -> Descriptor:
        """Upload a blob, into `session` if it is given. `known` is its descriptor, if known."""
        from brolga.spec.blob import digest_algorithm
        from brolga.stores.upload_source import open_source, reader_again
        from brolga.stream.replay import ReplayableBody

        algorithm = digest_algorithm(blob)
        with self._cancel_on_error(session):
            stream = open_source(blob, self.pushed_blobs)
        with stream:
            again = reader_again(blob, stream)
            with self._cancel_on_error(session):
                kept = self.keep(is_reopenable=again is not None)
            with (
                closing(kept) as keep,
                self._journal(blob, session, is_reopenable=again is not None) as journal,
            ):
                blocks = journal.watch(stream.blocks()) if journal else stream.blocks()
                if session is not None and journal is not None and journal.past.session:
                    self.transport.run(protocol.cancel(self.access, session))
                    session = None
                flow = protocol.upload_stream(
                    report.watch(self.access),
                    ReplayableBody(blocks, keep, again, report.count),
                    lambda: blob.descriptor,
                    descriptor=known,
                    session=session,
                    strategy=self.upload_strategy,
                    retry=self.retry,
                    algorithm=algorithm,
                    journal=journal,
                )
                descriptor = self._run_upload(flow, algorithm)
        if not isinstance(blob, images.StoredBlob):
            self.pushed_blobs[self.repository.registry, descriptor.digest] = self.repository
        return descriptor

    @contextmanager
    def _journal(
        self, blob: Blob, session: UploadSession | None, *, is_reopenable: bool
    ) -> Iterator[FileJournal | None]:
        """Open the journal of a blob's upload, if it has one."""
        journal = None
        if self.open_journal is not None:
            with self._cancel_on_error(session):
                journal = self.open_journal(self.repository, blob, is_reopenable=is_reopenable)
        if journal is None:
            yield None
            return
        with closing(journal):
            yield journal

    def _run_upload(self, flow: Flow[Descriptor], algorithm: str) -> Descriptor:
        """Upload a blob; return its descriptor. Raises ProtocolViolation if it is not kept."""
        with algorithm_hint_on_error(algorithm):
            descriptor = self.transport.run(flow)
        if algorithm != CANONICAL:
            is_kept = self.transport.run(protocol.has_blob(self.access, descriptor))
            self._check_kept("blob", descriptor.digest, is_kept=is_kept)
        return descriptor

    def _check_kept(self, what: str, digest: Digest, *, is_kept: bool) -> None:
        if not is_kept:
            raise ProtocolViolation(
                f"{self.repository.registry} took the {what} {digest}, and does not keep it under "
                "this digest",
                hint=algorithm_hint(digest.algorithm),
            )

    def _mount(
        self, blob: Blob, descriptor: Descriptor
    ) -> tuple[Repository | None, UploadSession | None]:
        """Mount a blob from another repository of this registry, if it is known to be in one.

        Return that repository if it is done, and the session that the registry opened instead.
        """
        here = self.repository
        home = (
            blob.mount_source
            if isinstance(blob, images.StoredBlob)
            else self.pushed_blobs.get((here.registry, descriptor.digest))
        )
        if not self.mounts or home is None or home == here or home.registry != here.registry:
            return None, None
        access = self.access.registry.access(here, "pull,push", home)
        flow = protocol.try_mount(access, descriptor.digest, home)
        is_mounted, session = self.transport.run(flow)
        return (home if is_mounted else None), session

    @contextmanager
    def _cancel_on_error(self, session: UploadSession | None) -> Iterator[None]:
        """Cancel an open session if the upload cannot begin."""
        try:
            yield
        except BaseException:
            if session is not None:
                self.transport.run(protocol.cancel(self.access, session))
            raise
