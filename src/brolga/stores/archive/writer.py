"""An archive that is written in one pass, to a pipe or a file, as a store.

Blobs are written as they come; index.json or manifest.json, which list the images, are the last. If
writing fails, the archive has neither, and no end of a tar, so no reader takes it for complete.
oci-layout, and the manifests that are known, are the first: a reader of a pipe needs them early.
"""

from __future__ import annotations

import errno
import sys
import threading
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from brolga.disk.files import atomic_file
from brolga.disk.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_JSON, REF_NAME
from brolga.errors import InvalidManifest, LayerError, NotComputed, SourceError
from brolga.images import InMemoryBlob
from brolga.images.blobs import verified_blocks
from brolga.spec import mediatypes
from brolga.spec.index import Index
from brolga.spec.manifest import Manifest
from brolga.spec.reference import Reference
from brolga.spec.value import replace
from brolga.stores.archive.contents import blob_path
from brolga.stores.archive.docker import MANIFEST, ManifestItem, encode_manifest_json
from brolga.stores.progress import report_push
from brolga.stream.sources import enlarge_pipe
from brolga.stream.spool import open_spool
from brolga.tar.writer import ARCHIVE_END, encode_file_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike
    from typing import Self

    from brolga.spec.blob import Blob, Block
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.stores.progress import BlobReport, ProgressReporter
    from brolga.stream.spool import SpoolChoice


_BLOCK: Final = 512  # bytes
_CONFIGS: Final = frozenset({mediatypes.DOCKER_CONFIG, mediatypes.OCI_CONFIG})
_INDEXES: Final = frozenset({mediatypes.OCI_INDEX, mediatypes.DOCKER_MANIFEST_LIST})
# Every reader looks into a layer for its compression; the name is for those who look at it.
_SUFFIXES: Final = {
    mediatypes.OCI_LAYER: ".tar",
    mediatypes.DOCKER_LAYER: ".tar",
    mediatypes.OCI_LAYER_ZSTD: ".tar.zst",
}


class Writer:
    """An archive in the form `docker` or `oci`, written to a file object, as a `store.WriteStore`.

    `name` is the name of the images in it: in a docker archive a reference with a tag, in an OCI
    archive any text. If it is "", `push_manifest` names each. Threads may share a writer, but an
    image gives the same bytes only if its blobs come in one order: see `is_serial`.

    Use it in a `with` statement: its end writes the documents and the end of the tar, unless there
    was an error. `out` is not closed; `where` is its name in an OSError. A layer whose size is
    unknown before it was read needs a `spool`: a directory, or True for the system's. What happens
    to the blobs is reported to `progress`.
    """

    is_serial: Final = True

    def __init__(  # noqa: PLR0913 - what it writes, and how
        self,
        out: BinaryIO,
        form: str,
        name: str = "",
        *,
        spool: SpoolChoice = False,
        where: str = "",
        progress: ProgressReporter | None = None,
    ) -> None:
        self.progress = progress
        if form not in {"docker", "oci"}:
            raise ValueError(f"an archive is written in the form docker or oci, not {form!r}")
        self._out = out
        self._form = form
        self._name = _docker_tag(name) if form == "docker" else name
        self._spool = spool
        self._where = where or str(getattr(out, "name", ""))
        self._lock = threading.Lock()
        self._paths: dict[Digest, str] = {}
        self._roots: dict[Digest, Manifest | Index] = {}
        self._names: dict[str, Digest] = {}
        self._children: set[Digest] = set()
        self._has_failed = False

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Write the end of the archive, unless there was an error."""
        if error is not None:
            return
        self._check_whole()
        if not self._roots:
            raise LayerError("the archive is broken: no image was put into it")
        path, content = self._list_images()
        self._write_file(path, len(content), [content])
        self._write(ARCHIVE_END)
        with self._named():
            self._out.flush()

    def push(self, blob: Blob) -> Descriptor:
        """Write a blob if it is not there yet; return its descriptor."""
        with report_push(self.progress, blob) as report:
            try:
                descriptor = blob.descriptor
            except NotComputed:
                return self._spooled(blob, report)
            with self._lock:
                if descriptor.digest in self._paths:
                    report.skip()
                else:
                    with blob.open() as stream:
                        blocks = report.count(verified_blocks(blob, stream))
                        self._write_blob(descriptor, blocks)
            return descriptor

    def announce(self, manifests: Iterable[Manifest | Index]) -> None:
        """Write manifests before the blobs: a reader of a pipe can buffer them then."""
        if self._form == "oci":
            for manifest in manifests:
                self.push(InMemoryBlob(manifest.raw, manifest.media_type, manifest.algorithm))

    def exists(self, descriptor: Descriptor, tag: str = "") -> bool:
        """Return whether a manifest was pushed."""
        self._check_form(descriptor.media_type)
        return descriptor.digest in self._roots and not tag

    def find(self, tag: str) -> Descriptor | None:
        """Return None: a new archive has no tag that another process could move."""

    def push_manifest(self, manifest: Manifest | Index, *names: str) -> None:
        """Take a manifest, which is listed at the end. A name stands for its last manifest."""
        self._check_form(manifest.media_type)
        if isinstance(manifest, Index):
            self._children.update(child.digest for child in manifest.manifests)
        else:
            self._check_parts(manifest)
        digest = manifest.digest
        self._roots.setdefault(digest, manifest)
        for name in () if self._name else names:
            if name != str(digest):
                self._names[_docker_tag(name) if self._form == "docker" else name] = digest
        if self._form == "oci":
            self.push(InMemoryBlob(manifest.raw, manifest.media_type, manifest.algorithm))

    def _check_form(self, media_type: str) -> None:
        if self._form == "docker" and media_type in _INDEXES:
            raise _local(
                "an index has no place in a docker archive: choose one image by --platform, or "
                "write an OCI archive"
            )

    def _check_parts(self, manifest: Manifest) -> None:
        """Raise InvalidManifest if a manifest refers to a blob that was not written."""
        is_docker = self._form == "docker"
        if is_docker and manifest.config.media_type not in _CONFIGS:
            raise _local("an artifact has no place in a docker archive: write an OCI one")
        for part in (manifest.config, *manifest.layers):
            may_miss = part.media_type in mediatypes.NONDISTRIBUTABLE and not is_docker
            if part.digest not in self._paths and not may_miss:
                raise _local(f"the manifest names {part.digest}, which was not written")

    def _spooled(self, blob: Blob, report: BlobReport) -> Descriptor:
        """Write a blob to a file first, which gives its size."""
        spool = open_spool(self._spool)
        if spool is None:
            raise LayerError(
                "a tar needs a layer's size before its bytes, and the size of a stream is known "
                "only at its end: --spool keeps it on disk until then, or write to oci:DIR"
            )
        with closing(spool):
            with blob.open() as stream:
                for block in report.count(stream):
                    spool.add(block)
            descriptor = blob.descriptor
            with self._lock:
                self._write_blob(descriptor, spool.read(0))
        return descriptor

    def _write_blob(self, descriptor: Descriptor, blocks: Iterable[Block]) -> None:
        digest = descriptor.digest
        if digest in self._paths:
            return
        if self._form == "oci" and not self._paths:
            self._write_file(LAYOUT_FILE, len(LAYOUT_JSON), [LAYOUT_JSON])
        path = blob_path(digest)
        if self._form == "docker":
            suffix = _SUFFIXES.get(descriptor.media_type, ".tar.gz")
            is_config = descriptor.media_type in _CONFIGS
            path = str(digest) if is_config else f"{digest.encoded}{suffix}"
        self._write_file(path, descriptor.size, blocks)
        self._paths[digest] = path

    def _check_whole(self) -> None:
        """Raise LayerError if a file could not be written to its end."""
        if self._has_failed:
            raise LayerError("the archive is broken: a part of it could not be written")

    def _write_file(self, path: str, size: int, blocks: Iterable[Block]) -> None:
        """Write a file whose blocks must come to `size` bytes. Raises SourceError, LayerError."""
        self._check_whole()
        self._has_failed = True  # until it is whole
        self._write(encode_file_header(path.encode(), size))
        left = size
        for block in blocks:
            left -= len(block)
            if left < 0:
                raise SourceError(f"{path} is longer than the {size} bytes that it should have")
            self._write(block)
        if left:
            raise SourceError(f"{path} ended {left} bytes before the {size} that it should have")
        self._write(bytes(-size % _BLOCK))
        self._has_failed = False

    def _write(self, block: Block) -> None:
        view = memoryview(block)
        with self._named():
            while view:
                view = view[self._out.write(view) or 0 :]  # a raw file may take a part

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Add the archive's name to an OSError. Raises LayerError if the reader has gone."""
        try:
            yield
        except BrokenPipeError as error:
            raise LayerError(
                f"the archive is incomplete: the reader of {self._where or 'it'} stopped early"
            ) from error
        except OSError as error:
            if not self._where or error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, self._where) from error

    def _list_images(self) -> tuple[str, bytes]:
        """Return the path and the bytes of the file that lists the images."""
        items: list[ManifestItem] = []
        entries: list[Descriptor] = []
        for digest, root in self._roots.items():
            names = [name for name, target in self._names.items() if name and target == digest]
            if not names and digest in self._children:
                continue
            names = names or list(filter(None, [self._name]))
            if self._form == "docker" and isinstance(root, Manifest):
                layers = tuple(self._paths[layer.digest] for layer in root.layers)
                items.append(ManifestItem(self._paths[root.config.digest], tuple(names), layers))
            else:
                for name in names or [""]:
                    annotations = {REF_NAME: name} if name else {}
                    entries.append(replace(root.descriptor, annotations=annotations))
        if self._form == "docker":
            return MANIFEST, encode_manifest_json(items)
        return INDEX_FILE, Index.new(entries).raw


@contextmanager
def open_writer(
    path: str | PathLike[str],
    form: str,
    name: str = "",
    *,
    spool: SpoolChoice = False,
    progress: ProgressReporter | None = None,
) -> Iterator[Writer]:
    """Open an archive for writing: a file, replaced as by `atomic_file`, or stdout for `-`."""
    opened = partial(Writer, form=form, name=name, spool=spool, progress=progress)
    if path == "-":
        if sys.stdout is None or sys.stdout.closed:
            raise OSError(errno.EBADF, "cannot write the archive", "stdout")
        enlarge_pipe(sys.stdout.buffer)
        with opened(sys.stdout.buffer, where="stdout") as writer:
            yield writer
        return
    place = Path(path)
    opened = partial(opened, where=str(place))
    if place.exists() and not place.is_file():  # a named pipe, a device
        with place.open("wb", buffering=0) as raw, opened(cast("BinaryIO", raw)) as writer:
            enlarge_pipe(raw)
            yield writer
        return
    with atomic_file(place) as out, opened(out) as writer:
        yield writer


def _local(text: str) -> InvalidManifest:
    return InvalidManifest(text, side="local")


def _docker_tag(name: str) -> str:
    """Return a name as REGISTRY/PATH:TAG, "" if it has no tag. Raises InvalidReference."""
    if not name:
        return ""
    reference = Reference.parse(name)
    return f"{reference.repository}:{reference.tag}" if reference.tag else ""
