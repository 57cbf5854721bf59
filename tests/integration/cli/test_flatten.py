"""brolga flatten."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli_images import push_image, read
from tests.tars import REG, entry, link, listed, names, symlink, tar

from brolga.client import Client
from brolga.images import Artifact, Image, ImageIndex
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.spec.platform import Platform
from brolga.spec.reference import Reference
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
USAGE = "see brolga flatten --help\n"


def image(platform: Platform = AMD64) -> Image:
    """Return an image of two layers, the upper one hides a file of the lower."""
    lower = tar(entry("etc/"), entry("etc/old"), entry("etc/kept", str(platform).encode()))
    upper = tar("etc/.wh.old", entry("new", b"new"))
    layers = [StreamLayer([data]) for data in (lower, upper)]
    return Image.empty(platform).append(*layers).with_config(Cmd=["run"])


@pytest.fixture
def app(registry: EmbeddedRegistry) -> str:
    """Push the image."""
    name = f"{registry.address}/app:v1"
    push_image(name, image())
    return name


def test_flatten_merges_layers_in_place(brolga: Brolga, app: str) -> None:
    """Crane flatten: in the place of REF, its config as it was, and a layer of what all show."""
    before = read(app)
    outcome = brolga("flatten", "--json", app)
    after = read(app)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {
        "ref": f"{app.removesuffix(':v1')}@{after.digest}",
        "digest": str(after.digest),
        "mediaType": OCI_MANIFEST,
        "size": after.manifest.size,
    }
    assert (len(before.layers), len(after.layers)) == (2, 1)
    assert after.config.config["Cmd"] == ("run",)
    assert [one.created_by for one in after.config.history] == ["brolga flatten"]
    with Client() as client:
        (layer,) = client.image(app).layers
        with layer.open() as stream:
            assert names(gzip.decompress(b"".join(stream.blocks()))) == [
                "new",
                "etc",
                "etc/kept",
            ]


def test_flatten_with_tag_keeps_image(brolga: Brolga, app: str, registry: EmbeddedRegistry) -> None:
    """`-t REF`, in another repository too; the same image gives the same digest."""
    before = read(app).digest
    other = f"{registry.address}/other:flat"
    first = brolga("flatten", app, "-t", other)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(f"{registry.address}/other@")
    assert read(app).digest == before
    assert brolga("flatten", app, "-t", other).out == first.out


def test_flatten_of_digest_writes_no_tag(brolga: Brolga, app: str) -> None:
    """Crane: "strip that and push to the mutated image by digest instead"."""
    repository = app.removesuffix(":v1")
    before = read(app).digest
    outcome = brolga("flatten", f"{repository}@{before}")
    assert outcome.code == 0
    assert read(app).digest == before
    assert len(read(outcome.out.strip()).layers) == 1


def multi(name: str) -> ImageIndex:
    """Push an index of two images, an index, an attestation as buildkit makes it, an artifact."""
    repository = Reference.parse(name).repository
    artifact = Artifact.of("application/vnd.example")
    attestation = image(Platform("unknown", "unknown"))
    inner = image(Platform("linux", "arm", "v7"))
    with Client() as client:
        for child in (image(), inner, attestation, artifact):
            client.push(repository, child)
        images = ImageIndex.empty()
        for child in (image(), image(ARM64)):
            client.push(repository, child)
            images = images.append(child)
        nested = ImageIndex.empty().append(inner)
        images = images.append(nested).append(attestation).append(artifact)
        client.push(name, images.with_annotations({"a": "b"}))
        return client.index(name)


def test_flatten_flattens_each_image_of_index(
    brolga: Brolga, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other entries are left out, as stderr says; platforms and annotations stay."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    name = f"{registry.address}/multi:1"
    before = multi(name)
    outcome = brolga("flatten", name, "-t", f"{registry.address}/flat:1")
    assert outcome.code == 0
    left_out = [one.digest for one in before.index.manifests[-2:]]
    assert outcome.err == "".join(
        f"left out {digest}: it is not an image of files\n" for digest in left_out
    )
    with Client() as client:
        after = client.index(f"{registry.address}/flat:1")
        one, two, nested = after.children
        assert isinstance(nested, ImageIndex)
        (inner,) = nested.children
        images = [child for child in (one, two, inner) if isinstance(child, Image)]
        assert [len(image.layers) for image in images] == [1, 1, 1]
    assert after.index.annotations == {"a": "b"}
    assert after.index.media_type == OCI_INDEX
    assert [child.platform for child in after.index.manifests] == [AMD64, ARM64, None]


def test_flatten_flattens_shared_image_once(
    brolga: Brolga, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indexes of one index many times over, one below the other, do not multiply the work."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    name = f"{registry.address}/multi:1"
    with Client() as client:
        tree: Image | ImageIndex = image()
        for _ in range(12):
            client.push(Reference.parse(name).repository, tree)
            tree = ImageIndex.empty().append(tree).append(tree).append(tree)
        client.push(name, tree)
    flattened: list[Image] = []
    flatten = Image.flatten

    def counted(image: Image, *args: str, **options: Any) -> Image:
        flattened.append(image)
        return flatten(image, *args, **options)

    monkeypatch.setattr(Image, "flatten", counted)
    assert brolga("flatten", name, "-t", f"{registry.address}/flat:1").code == 0
    assert len(flattened) == 1


def test_flatten_rejects_indexes_nested_too_deep(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """As when they are pushed: 16 levels."""
    name = f"{registry.address}/deep:1"
    with Client() as client:
        tree: Image | ImageIndex = image()
        for _ in range(19):
            client.push(name, tree)
            tree = ImageIndex.empty().append(tree)
    outcome = brolga("flatten", name, "-t", f"{registry.address}/flat:1")
    assert outcome.code != 0
    assert "indexes are nested deeper than 16 levels" in outcome.err


LINKED = (
    tar(entry("usr/"), entry("usr/lib/"), entry("usr/lib/libc.so"), symlink("lib", "usr/lib")),
    tar(entry("lib/new.so")),
)


def test_flatten_names_entry_on_which_readers_differ(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """Exit code 0, and a line on stderr; with --strict an error, and nothing is pushed."""
    name = f"{registry.address}/linked:1"
    push_image(name, Image.empty().append(*(StreamLayer([data]) for data in LINKED)))
    outcome = brolga("flatten", "--strict", name)
    assert (outcome.code, outcome.out) == (1, "")
    assert "'lib' is a symbolic link to 'usr/lib', and layer 2 has 'lib/new.so'" in outcome.err
    assert len(read(name).layers) == 2
    outcome = brolga("flatten", name)
    assert outcome.code == 0
    assert outcome.err.startswith(f"warning: {name}: layer 1 of 2, sha256:")
    assert "'lib' is a symbolic link to 'usr/lib', and layer 2 has 'lib/new.so'" in outcome.err
    assert outcome.err.count("\n") == 1


def test_flatten_flattens_image_for_platform(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--platform` with a name of its own: the index's would stand for one image alone."""
    name = f"{registry.address}/multi:1"
    multi(name)
    outcome = brolga("flatten", name, "--platform", "linux/arm64")
    assert (outcome.code, outcome.out) == (2, "")
    assert "name the result with --tag" in outcome.err
    assert brolga("flatten", name, "--platform", "linux/arm64", "-t", f"{name}-arm").code == 0
    assert read(f"{name}-arm").platform == ARM64


def test_flatten_names_layer_that_is_not_a_tar(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 6, the number of the layer, and nothing was pushed."""
    name = f"{registry.address}/app"
    digest = push_image(name, Image.empty().append(StreamLayer([b"no tar at all"])))
    outcome = brolga("flatten", name)
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err.count("\n") == 1
    assert "layer 1 of 1" in outcome.err
    assert str(read(name).digest) == digest


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Missing argument 'REF'"),
        (["127.0.0.1:1/x", "-t", "127.0.0.1:1/Nope"], ""),
        (["127.0.0.1:1/x", "--username", "me"], "--username needs --password-stdin"),
    ],
)
def test_flatten_rejects_invalid_arguments(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("flatten", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_flatten_needs_spool_for_link_to_replaced_file(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """The error names --spool, which is that of the upload as well."""
    name = f"{registry.address}/linked:1"
    layers = tar(entry("a", b"1"), link("b", "a")), tar(".wh.a")
    push_image(name, Image.empty().append(*(StreamLayer([data]) for data in layers)))
    outcome = brolga("flatten", name)
    assert (outcome.code, "--spool" in outcome.err) == (1, True)
    assert brolga("flatten", "--spool", name).code == 0
    with Client() as client:
        (layer,) = client.image(name).layers
        with layer.open() as stream:
            assert listed(gzip.decompress(stream.read())) == {"b": (REG, b"1")}
