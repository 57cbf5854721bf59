"""stream_archive: invalid archives, failing sources and failing stores."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.tars import entry, symlink, tar
from tests.unit.stores.archive.archives import (
    DOCKER_FORMS,
    INDEX,
    LAYER,
    LAYERS,
    MANIFEST,
    Store,
    blob,
    config,
    described,
    docker_old,
    manifest_json,
    oci,
    oci_end,
    oci_index,
    oci_manifest,
    sha,
    stream,
    stream_archive,
)

from brolga.errors import (
    BrolgaError,
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidManifest,
    LayerError,
    NotComputed,
    SourceError,
)
from brolga.images import Image
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.stores.archive.entries import IgnoredEntry
from brolga.stores.push import push

if TYPE_CHECKING:
    from tests.unit.stores.archive.archives import Member


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


def old(**changes: Any) -> list[Member]:
    """Return a docker archive of one layer, some parts of which are replaced."""
    raw = changes.get("config", config(LAYERS[:1]))
    parts = {
        "layer": [entry("x/layer.tar", LAYERS[0])],
        "json": [entry("c.json", raw)],
        "manifest": [manifest_json(("c.json", ["a:v1"], ["x/layer.tar"]))],
    } | changes
    return [*parts["layer"], *parts["json"], *parts["manifest"]]


WRONG: dict[str, tuple[list[Member], type[BrolgaError], str]] = {
    "layer differs from its DiffID": (
        old(layer=[entry("x/layer.tar", LAYERS[1])]),
        DigestMismatch,
        f"sha256:{sha(LAYERS[1])} uncompressed, but sha256:{sha(LAYERS[0])}",
    ),
    "layer differs from its name": (
        [entry(f"{sha(LAYERS[0])}.tar", LAYERS[1])],
        DigestMismatch,
        "uncompressed, but",
    ),
    "blob differs from its name": (
        [entry(f"blobs/sha256/{sha(b'x')}", gzip.compress(b"y"))],
        DigestMismatch,
        "was expected",
    ),
    "document differs from its name": (
        [entry(f"blobs/sha256/{sha(b'x')}", b"{}")],
        DigestMismatch,
        "was expected",
    ),
    "config differs from its name": (
        [entry(f"{sha(b'x')}.json", b"{}")],
        DigestMismatch,
        "was expected",
    ),
    "config is empty": (
        old(
            json=[entry(f"{sha(b'x')}.json", b"")],
            manifest=[manifest_json((f"{sha(b'x')}.json", [], []))],
        ),
        InvalidManifest,
        "not JSON of bounded",
    ),
    "layer is missing": (old(layer=[]), InvalidManifest, "'x/layer.tar', which is not in"),
    "config is missing": (old(json=[]), InvalidManifest, "'c.json', which is not in the archive"),
    "config path leads out": (
        old(manifest=[manifest_json(("../../etc/passwd", [], []))]),
        InvalidManifest,
        "which is not in",
    ),
    "one layer too many": (
        old(manifest=[manifest_json(("c.json", [], ["x/layer.tar"] * 2))]),
        InvalidManifest,
        "has 2 layers of 'c.json', which has 1",
    ),
    "layer is not a tar": (
        old(layer=[entry("x/layer.tar", b"no tar")]),
        InvalidManifest,
        "neither a tar",
    ),
    "layer named by its digest is not a tar": (
        old(
            layer=[blob(b"no tar" * 200)],
            manifest=[manifest_json(("c.json", [], [f"blobs/sha256/{sha(b'no tar' * 200)}"]))],
        ),
        InvalidManifest,
        "neither a tar",
    ),
    "layer is JSON": (
        old(layer=[entry("x/layer.tar", b"{}")]),
        InvalidManifest,
        "neither a tar",
    ),
    "config is a layer": (
        old(manifest=[manifest_json(("x/layer.tar", [], []))]),
        InvalidManifest,
        "bytes, but a document has",
    ),
    "config is invalid": (old(config=b"{}"), InvalidManifest, "rootfs"),
    "manifest.json is not JSON": (
        [entry("manifest.json", b"[")],
        InvalidManifest,
        r"manifest\.json: \$: not JSON",
    ),
    "manifest.json has two arrays": (
        [entry("manifest.json", b'[],"a":[]')],
        InvalidManifest,
        "more than one",
    ),
    "manifest.json has members in other case": (
        [entry("manifest.json", b'[{"config":"x"}]')],
        InvalidManifest,
        "two meanings",
    ),
    "manifest.json is too large": (
        [entry("manifest.json", b"[" + b" " * (4 << 20) + b"]")],
        InvalidManifest,
        "'manifest.json' has 4194306 bytes",
    ),
    "document is too large": (
        old(json=[entry("c.json", b"{" + b" " * (4 << 20) + b"}")]),
        InvalidManifest,
        "not JSON of bounded size",
    ),
    "links form a circle": (
        old(layer=[symlink("x/layer.tar", "../y"), symlink("y", "x/layer.tar")]),
        InvalidManifest,
        "a link that leads to no file",
    ),
    "link leads out": (
        old(layer=[symlink("x/layer.tar", "../../y")]),
        InvalidManifest,
        "not in the archive",
    ),
    "link is absolute": (
        old(layer=[symlink("x/layer.tar", "/etc/passwd")]),
        InvalidManifest,
        "not in the archive",
    ),
    "name leads out": ([entry("a/../../b", b"x")], CorruptBlob, r"leads out of it: 'a/\.\./"),
    "name is absolute": ([entry("/b", b"x")], CorruptBlob, "leads out of it"),
    "two files have one name": (
        [*old()[:2], entry("./c.json", b"{}")],
        CorruptBlob,
        r"two files 'c\.json'",
    ),
    "file and link have one name": (
        [entry("a", b""), symlink("a", "b")],
        CorruptBlob,
        "two files 'a'",
    ),
    "second copy of a blob differs": (
        [blob(b"xyz"), entry(f"blobs/sha256/{sha(b'xyz')}", b"abc")],
        DigestMismatch,
        "was expected",
    ),
    "layer is sparse": (
        old(layer=[entry("x/layer.tar", LAYERS[0], pax_headers=SPARSE)]),
        InvalidManifest,
        "not in the archive",
    ),
    "extended header is too large": (
        [entry("b", pax_headers={"comment": "v" * 1_100_000})],
        CorruptBlob,
        "an extended tar header of",
    ),
    "blob name is not a digest": (
        [blob(b"x"), entry("blobs/sha256/odd", b"y"), *oci_end()],
        ImageNotFound,
        "the archive has no images",
    ),
    "neither form": ([entry("a", b"")], InvalidManifest, "neither manifest.json nor index.json"),
    "no files": ([], InvalidManifest, "neither manifest.json nor index.json"),
    "index names a missing manifest": (
        oci_end(described(MANIFEST, b"x")),
        InvalidManifest,
        "the index names 'blobs/sha256/",
    ),
    "manifest names a missing config": (
        [blob(oci_manifest(b"{}", [])), *oci_end(described(MANIFEST, oci_manifest(b"{}", [])))],
        InvalidManifest,
        "a manifest names 'blobs/sha256/",
    ),
    "inner index names a missing manifest": (
        [
            blob(oci_index(described(MANIFEST, b"x"))),
            *oci_end(described(INDEX, oci_index(described(MANIFEST, b"x")))),
        ],
        InvalidManifest,
        "the index names",
    ),
    "oci-layout has another version": (
        [entry("index.json", oci_index()), entry("oci-layout", b'{"imageLayoutVersion":"2"}')],
        InvalidManifest,
        "version '2'",
    ),
    "manifest is a layer": (
        [blob(LAYERS[0]), *oci_end(described(MANIFEST, LAYERS[0]))],
        InvalidManifest,
        "bytes, but a document has",
    ),
}


def test_repeated_extended_headers_are_refused() -> None:
    """Each may have 1 MiB, and readers differ on two of one type."""
    with_header = tar(entry("a", pax_headers={"k": "v" * 700_000}))
    size = int(with_header[124:135], 8)
    one = with_header[: 512 + size + -size % 512]
    stack = b"".join(one.replace(b"k=", b"%c=" % letter) for letter in b"abcdef")
    with pytest.raises(CorruptBlob, match="two extended headers of the type 'x'"):
        stream_archive([stack, with_header], Store())


@pytest.mark.parametrize("name", WRONG)
def test_invalid_archive_raises_and_sets_no_tag(name: str) -> None:
    """Each mistake has its own typed error, of the side `source`."""
    members, kind, words = WRONG[name]
    store = Store()
    with pytest.raises(kind, match=words) as caught:
        stream(store, *members)
    assert not store.documents
    assert caught.value.side == "source"


def test_blob_of_wrong_size_is_refused() -> None:
    """As a registry does."""
    for data, part in ((b"{}", "config"), (gzip.compress(b""), "layers")):
        manifest = json.loads(oci_manifest(b"{}", [gzip.compress(b"")] if part == "layers" else []))
        wrong = manifest["config"] if part == "config" else manifest["layers"][0]
        wrong["size"] += 1
        raw = json.dumps(manifest).encode()
        with pytest.raises(InvalidManifest, match=rf"has {len(data)} bytes of"):
            stream(
                Store(),
                *map(blob, dict.fromkeys([b"{}", data, raw])),
                *oci_end(described(MANIFEST, raw)),
            )


@pytest.mark.parametrize(("form", "words"), [("docker", "manifest.json"), ("oci", "index.json")])
def test_missing_index_of_given_form_is_refused(form: str, words: str) -> None:
    """The error names the missing file."""
    with pytest.raises(InvalidManifest, match=rf"(?i)not an? {form}.* {words} is missing"):
        stream(Store(), entry("a", b""), form=form)


def test_ignored_entry_is_not_a_blob() -> None:
    """Its methods raise InvalidManifest."""
    passed = IgnoredEntry("blobs/sha256/x", "other")
    with pytest.raises(InvalidManifest, match="is not sha256:"):
        passed.blob(Descriptor("application/x", Digest.of(b"x"), 1))


@pytest.mark.parametrize("name", [*DOCKER_FORMS, "oci"])
def test_truncated_archive_is_refused(name: str) -> None:
    """A tar without its end marker is incomplete, even if it has all files."""
    data = tar(*(oci(packed=True) if name == "oci" else DOCKER_FORMS[name]()))
    end = len(data.rstrip(b"\0"))
    whole = end + -end % 512 + 1024
    for size in [0, 1, 511, 512, 700, *range(1024, whole, 512)]:
        store = Store()
        with pytest.raises(BrolgaError) as caught:
            stream_archive([data[:size]] if size else [], store)
        assert isinstance(caught.value, CorruptBlob), caught.value
        assert not store.documents
    stream_archive([data[:whole]], Store())


@pytest.mark.parametrize(
    "data",
    [b"x" * 2000, gzip.compress(tar("a")), b"\0" * 512 + b"x" * 512],
    ids=["no tar", "gzip", "no header"],
)
def test_source_that_is_not_a_tar_is_refused(data: bytes) -> None:
    """For a compressed archive, the error names the command to use."""
    words = "gzip -dc" if data.startswith(b"\x1f\x8b") else "tar"
    with pytest.raises(CorruptBlob, match=words):
        stream_archive([data], Store())


def test_failing_source_raises_source_error() -> None:
    """No tag is set."""

    def blocks() -> Any:
        yield tar(*docker_old())[:3000]
        raise OSError("gone")

    with pytest.raises(SourceError, match="gone"):
        stream_archive(blocks(), Store())


def test_failing_target_closes_the_source() -> None:
    """The error of the store is raised."""
    closed = []

    def blocks() -> Any:
        try:
            yield tar(*docker_old())
        finally:
            closed.append(True)

    class Full(Store):
        def push(self, blob: Any) -> Any:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        stream_archive(blocks(), Full())
    assert closed


def test_pushed_blobs_cannot_be_read_again() -> None:
    """Their bytes came down a pipe: the tree cannot be pushed to another store."""
    tree = stream_archive([tar(*oci(packed=True))], Store())
    assert isinstance(tree, Image)
    with pytest.raises(LayerError, match="cannot be read again"):
        tree.layers[0].open()
    with pytest.raises(NotComputed):
        _ = tree.layers[0].diff_id  # type: ignore[attr-defined]
    assert tree.layers[0].media_type == f"{LAYER}+gzip"  # type: ignore[attr-defined]
    with pytest.raises(LayerError, match="cannot be read again"):
        push(Store(), tree, "elsewhere")


def test_link_to_another_blob_raises_digest_mismatch() -> None:
    """The content of a blob "MUST match the digest" (image-layout.md, Blobs).

    A layer and a config, each under the name of another, which is a link to it.
    """
    raw, other = config(LAYERS[:1]), config(LAYERS[1:])
    packed = [gzip.compress(bytes(500) + one, 0, mtime=0) for one in (b"a", b"b")]
    manifest = oci_manifest(raw, packed[:1])
    for parts in (
        [blob(packed[1]), symlink(f"blobs/sha256/{sha(packed[0])}", sha(packed[1])), blob(raw)],
        [blob(packed[0]), symlink(f"blobs/sha256/{sha(raw)}", sha(other)), blob(other)],
    ):
        store = Store()
        with pytest.raises(DigestMismatch, match="a file of the archive is") as found:
            stream_archive(
                [tar(*parts, blob(manifest), *oci_end(described(MANIFEST, manifest)))], store
            )
        assert found.value.side == "source"
