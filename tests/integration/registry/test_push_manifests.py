"""distribution-spec, Pushing Manifests: each MUST by its sentence."""

from __future__ import annotations

import json
import re
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

import pytest
from tests.images import digest_of
from tests.integration.registry.conftest import CONFIG, IMAGE, INDEX, LAYER, Client, describe

from brolga.registry.options import Options
from brolga.registry.routes import manifests
from brolga.registry.server import running

if TYPE_CHECKING:
    from pathlib import Path


ABC = digest_of(b"abcdef")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_manifest(client: Client, algorithm: str) -> None:
    """The registry MUST store the manifest in the exact byte representation of the client.

    Upon a successful upload, the registry MUST return response code `201 Created`, and MUST have
    Location, "a pullable manifest URL". `Docker-Content-Digest` MUST be equal to the client
    provided digest.
    """
    body = json.dumps(client.image(), indent=3).encode() + b"\n \n"
    digest = digest_of(body, algorithm)
    response = client.put(digest, body)
    assert response.status == 201
    assert response.headers["Docker-Content-Digest"] == digest
    assert client("GET", response.location).body == body


def test_push_manifest_with_tag_parameters(client: Client) -> None:
    """It MUST include an `OCI-Tag` response header [...] for each accepted tag."""
    body = json.dumps(client.image()).encode()
    digest = digest_of(body)
    tags = [f"v{n}" for n in range(12)]
    query = "&".join(f"tag={tag}" for tag in [*tags, "v0"])
    response = client.put(f"{digest}?{query}", body)
    assert response.status == 201
    assert response.headers["OCI-Tag"].split(", ") == tags
    for tag in tags:
        assert client("HEAD", f"manifests/{tag}").headers["Docker-Content-Digest"] == digest
    assert client.put(f"{digest}?tag=.x", body).codes == ["MANIFEST_INVALID"]
    assert client.put("v1", body).headers["OCI-Tag"] is None


def test_too_many_tag_parameters_is_414(client: Client) -> None:
    """It MAY return a `414 Request-URI Too Long` status if too many tags are included.

    Nothing is stored then.
    """
    body = json.dumps(client.image()).encode()
    query = "&".join(f"tag=v{n}" for n in range(65))
    response = client.put(f"{digest_of(body)}?{query}", body)
    assert (response.status, response.codes) == (414, ["MANIFEST_INVALID"])
    assert client("GET", "tags/list").json["tags"] == []
    assert client.put(f"{digest_of(body)}?{query.rpartition('&')[0]}", body).status == 201
    assert len(client("GET", "tags/list").json["tags"]) == 64


def test_sparse_accepts_missing_references(tmp_path: Path) -> None:
    """A registry MAY accept [what] references manifests or blobs that do not exist, where it may.

    What is there must still be what the manifest says.
    """
    with running(tmp_path, Options(sparse=True)) as address:
        client = Client(address, "a")
        assert client.put("image", {**client.image(), "layers": [MISSING]}).status == 201
        index = {"schemaVersion": 2, "manifests": [describe(b"missing", IMAGE)]}
        assert client.put("index", index, INDEX).status == 201
        wrong = {**client.image(), "layers": [{**describe(b"layer", LAYER), "size": 7}]}
        assert client.put("wrong", wrong).codes == ["SIZE_INVALID"]
        assert client("GET", "tags/list").json["tags"] == ["image", "index"]


def test_push_manifest_by_wrong_digest_is_rejected(client: Client) -> None:
    """`<tag-or-digest>` MUST be either a) a digest or b) a tag: a digest is the manifest's."""
    assert client.put(ABC, client.image()).codes == ["DIGEST_INVALID"]
    assert client.put("a:b", client.image()).codes == ["DIGEST_INVALID"]
    assert client.put(".x", client.image()).codes == ["MANIFEST_INVALID"]


def test_other_content_type_is_rejected(client: Client) -> None:
    """If a manifest includes `mediaType`, clients MUST set the `Content-Type` header to it.

    The registry SHOULD ignore parameters on the `Content-Type` header.
    """
    assert client.put("v1", client.image(), INDEX).codes == ["MANIFEST_INVALID"]
    assert client.put("v1", client.image(), f"{IMAGE}; charset=utf-8").status == 201
    assert client("GET", "manifests/v1").headers["Content-Type"] == IMAGE


def test_push_largest_manifest(client: Client) -> None:
    """Registries SHOULD expect to support manifest pushes of at least 4 megabytes; over it 413."""
    body = json.dumps(client.image()).encode()
    assert client.put("v1", body.ljust(4 << 20)).status == 201
    response = client.put("v1", body.ljust((4 << 20) + 1))
    assert (response.status, response.codes) == (413, ["MANIFEST_INVALID"])


MISSING = describe(b"missing", LAYER)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"layers": [MISSING]}, IMAGE),
        ({"config": MISSING}, IMAGE),
        ({"mediaType": INDEX, "manifests": [describe(b"missing", IMAGE)]}, INDEX),
    ],
)
def test_missing_references_are_rejected(client: Client, change: dict[str, Any], kind: str) -> None:
    """A registry MAY reject a manifest with descriptors [...] that reference [what] does not exist.

    When a manifest is rejected for this reason, it MUST result in one or more
    `MANIFEST_BLOB_UNKNOWN` errors.
    """
    document = {"schemaVersion": 2} if kind == INDEX else client.image()
    response = client.put("v1", {**document, **change}, kind)
    assert (response.status, response.codes) == (404, ["MANIFEST_BLOB_UNKNOWN"])
    assert response.json["errors"][0]["detail"]["digest"] == MISSING["digest"]
    assert client("GET", "manifests/v1").status == 404


def test_error_names_each_missing_blob(client: Client) -> None:
    """One or more errors: one for each blob, up to a hundred."""
    layers = [describe(str(n).encode(), LAYER) for n in range(150)]
    response = client.put("v1", {**client.image(), "layers": layers})
    assert response.codes == ["MANIFEST_BLOB_UNKNOWN"] * 100


def test_blobs_of_another_repository_are_missing(client: Client) -> None:
    """A blob of another repository is missing in this one."""
    document = client.image()
    response = client.of("tests/without").put("v1", document)
    assert response.codes == ["MANIFEST_BLOB_UNKNOWN"] * 2


@pytest.mark.parametrize(
    "layer",
    [
        {**MISSING, "urls": ["https://example.com/x"]},
        {**MISSING, "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
        {**MISSING, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
    ],
)
def test_nondistributable_layers_may_be_missing(client: Client, layer: dict[str, Any]) -> None:
    """layer.md: non-distributable layers SHOULD NOT be uploaded."""
    assert client.put("v1", {**client.image(), "layers": [layer]}).status == 201


def test_push_image_without_layers(client: Client) -> None:
    """However, the list of blobs MAY be empty."""
    assert client.put("v1", {**client.image(), "layers": []}).status == 201


def test_wrong_size_is_rejected(client: Client) -> None:
    """descriptor.md: if the length of the content does not match, it SHOULD NOT be trusted."""
    layer = {**describe(b"layer", LAYER), "size": 4}
    response = client.put("v1", {**client.image(), "layers": [layer]})
    assert (response.status, response.codes) == (400, ["SIZE_INVALID"])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"config": None}, IMAGE),
        ({"config": 1}, IMAGE),
        ({"config": {}}, IMAGE),
        ({"config": {**describe(b"{}", CONFIG), "digest": 1}}, IMAGE),
        ({"config": {**describe(b"{}", CONFIG), "digest": "sha256:x"}}, IMAGE),
        ({"config": {**describe(b"{}", CONFIG), "size": "2"}}, IMAGE),
        ({"config": {**describe(b"{}", CONFIG), "size": -2}}, IMAGE),
        ({"config": {**describe(b"{}", CONFIG), "mediaType": "x"}}, IMAGE),
        ({"layers": None}, IMAGE),
        ({"layers": {}}, IMAGE),
        ({"layers": [1]}, IMAGE),
        ({"manifests": None, "mediaType": INDEX}, INDEX),
        ({"subject": 1}, IMAGE),
        ({"subject": {}}, IMAGE),
        ({"artifactType": 1}, IMAGE),
        ({"annotations": []}, IMAGE),
        ({"annotations": {"a": 1}}, IMAGE),
    ],
)
def test_invalid_manifest_is_rejected(client: Client, change: dict[str, Any], kind: str) -> None:
    """manifest.md: the properties that are REQUIRED, and the types of all."""
    response = client.put("v1", {**client.image(), **change}, kind)
    assert (response.status, response.codes) == (400, ["MANIFEST_INVALID"])
    assert client("GET", "manifests/v1").status == 404


def test_push_docker_manifests(client: Client) -> None:
    """Docker's manifests are of the same shape, and are held to it."""
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    image = {**client.image(), "mediaType": docker}
    assert client.put("v1", image, docker).status == 201
    response = client.put("v2", {**image, "layers": [MISSING]}, docker)
    assert response.codes == ["MANIFEST_BLOB_UNKNOWN"]


def test_push_index(client: Client) -> None:
    """An index is pushed after its manifests; an index of indexes too."""
    image = client.pushed("v1")
    size = int(client("HEAD", "manifests/v1").headers["Content-Length"])
    entry = {"mediaType": IMAGE, "digest": image, "size": size}
    inner = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    assert client.put("inner", inner, INDEX).status == 201
    outer = {**inner, "manifests": [describe(json.dumps(inner).encode(), INDEX)]}
    assert client.put("outer", outer, INDEX).status == 201


def test_push_manifest_of_any_media_type(client: Client) -> None:
    """A manifest of a type that is not known here is stored as it is."""
    kind = "application/vnd.example.thing+json"
    body = b'{"config":1,"subject":2}'
    assert client.put("v1", body, kind).status == 201
    response = client("GET", "manifests/v1")
    assert (response.body, response.headers["Content-Type"]) == (body, kind)


def test_push_manifest_with_subject(client: Client) -> None:
    """It MUST respond with the response header `OCI-Subject: <subject digest>`.

    A registry MUST initially accept an otherwise valid manifest with a `subject` field that
    references a manifest that does not exist in the repository.
    """
    subject = describe(b"not there", IMAGE)
    for document, kind in (
        (client.image(subject=subject), IMAGE),
        ({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject}, INDEX),
    ):
        response = client.put("v1", document, kind)
        assert response.status == 201
        assert response.headers["OCI-Subject"] == subject["digest"]
    assert client.put("v2", client.image()).headers["OCI-Subject"] is None


def test_error_body_has_code_message_and_detail(client: Client) -> None:
    """If the response body is in JSON format, it MUST have the following format.

    The `code` field MUST be a unique identifier, containing only uppercase alphabetic characters
    and underscores.
    """
    response = client("GET", f"blobs/{ABC}")
    assert list(response.json) == ["errors"]
    [error] = response.json["errors"]
    assert set(error) == {"code", "message", "detail"}
    assert re.fullmatch("[A-Z_]+", error["code"])


def test_large_manifest_is_buffered_in_a_file(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that are held back before their last byte, none is in memory."""
    files: list[SpooledTemporaryFile[bytes]] = []

    def make(*arguments: Any) -> SpooledTemporaryFile[bytes]:
        files.append(SpooledTemporaryFile(*arguments))  # noqa: SIM115 - the handler closes it
        return files[-1]

    written: list[bool] = []
    read = manifests._parse

    def read_file(file: Any, *arguments: Any) -> Any:
        written.append(file._rolled)
        return read(file, *arguments)

    monkeypatch.setattr(manifests, "SpooledTemporaryFile", make)
    monkeypatch.setattr(manifests, "_parse", read_file)
    for size, is_in_file in ((10, False), (1 << 20, True)):
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "x": "x" * size}
        assert client.put("large", document, INDEX).status == 201
        assert written.pop() == is_in_file
    assert all(file.closed for file in files)
