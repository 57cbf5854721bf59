"""distribution-spec, section Content Discovery: each MUST by its sentence."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.images import digest_of
from tests.integration.registry.conftest import CONFIG, IMAGE, INDEX, Client, describe

from brolga.registry.routes import listings
from brolga.registry.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.registries import Reply

SBOM = "application/vnd.example.sbom"


def follow(client: Client, reply: Reply) -> Iterator[Reply]:
    """Yield an answer and those to which its Link leads."""
    yield reply
    while link := reply.headers["Link"]:
        match = re.fullmatch('<(/[^>]*)>; rel="next"', link)
        assert match is not None
        reply = client("GET", match[1])
        assert reply.status == 200
        yield reply


# --- Listing Tags


def tags(reply: Reply) -> list[str]:
    """Return the tags of an answer."""
    assert reply.status == 200
    return list(reply.json["tags"])


@pytest.fixture
def tagged(client: Client) -> Client:
    """Return a client for a repository with tags."""
    body = json.dumps(client.image()).encode()
    query = "&".join(f"tag={tag}" for tag in ("v2", "V10", "a", "B", "_", "v10"))
    assert client.put(f"{digest_of(body)}?{query}", body).status == 201
    return client


def test_tags(tagged: Client) -> None:
    """Upon success, the response MUST be a json body [of name and tags].

    If the list is not empty, the tags MUST be in lexical (i.e. case-insensitive alphanumeric
    order).
    """
    reply = tagged("GET", "tags/list")
    expected = ["_", "a", "B", "V10", "v10", "v2"]
    assert reply.json == {"name": tagged.name, "tags": expected}


def test_tags_of_unknown_repository(client: Client) -> None:
    """Assuming a repository is found, this request MUST return a `200 OK` response code.

    The list of tags MAY be empty if there are no tags on the repository.
    """
    assert client("GET", "tags/list").codes == ["NAME_UNKNOWN"]
    client.push(b"x")
    assert tags(client("GET", "tags/list")) == []


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_tags_in_pages(tagged: Client, n: int) -> None:
    """The response MUST include `<int>` results [or a Link]; rel="next" as of RFC 5988."""
    pages = [tags(reply) for reply in follow(tagged, tagged("GET", f"tags/list?n={n}"))]
    assert [tag for page in pages for tag in page] == ["_", "a", "B", "V10", "v10", "v2"]
    assert {len(page) for page in pages[:-1]} == {n}


def test_tags_with_n_and_last(tagged: Client) -> None:
    """`<tagname>` will not be included in the results, but up to `<int>` tags after it.

    When `n` is zero, this endpoint MUST return an empty list, and MUST NOT include a `Link`. When
    using the `last` query parameter, the `n` parameter is OPTIONAL.
    """
    assert tags(tagged("GET", "tags/list?n=2&last=a")) == ["B", "V10"]
    assert tags(tagged("GET", "tags/list?last=V10")) == ["v10", "v2"]
    assert tags(tagged("GET", "tags/list?n=6")) == ["_", "a", "B", "V10", "v10", "v2"]
    assert tagged("GET", "tags/list?n=6").headers["Link"] is None
    reply = tagged("GET", "tags/list?n=0")
    assert (tags(reply), reply.headers["Link"]) == ([], None)
    assert tagged("GET", "tags/list?n=x").status == 400


# --- The catalog


def test_catalog(tmp_path: Path) -> None:
    """Docker's specification, Listing Repositories: in lexical order, in pages as of `n`, `last`.

    A repository is listed when it holds something: an open session is nothing yet.
    """
    with running(tmp_path) as address:
        client = Client(address, "x")
        assert client("GET", "/v2/_catalog").json == {"repositories": []}
        for name in ("b", "a/b", "a", "c/d"):
            client.of(name).push(b"x")
        client.of("begun").start()
        (tmp_path / "NO/blobs").mkdir(parents=True)
        (tmp_path / "NO/oci-layout").touch()
        pages = list(follow(client, client("GET", "/v2/_catalog?n=3")))
        assert [page.json["repositories"] for page in pages] == [["a", "a/b", "b"], ["c/d"]]
        assert client("GET", "/v2/_catalog?n=0").json == {"repositories": []}


# --- Listing Referrers


@pytest.fixture
def subject(client: Client) -> dict[str, Any]:
    """Push an image; return its descriptor."""
    body = json.dumps(client.image()).encode()
    assert client.put("v1", body).status == 201
    return describe(body, IMAGE)


def refer(client: Client, document: dict[str, Any], kind: str = IMAGE) -> dict[str, Any]:
    """Push a manifest by its digest; return its descriptor."""
    body = json.dumps(document).encode()
    assert client.put(digest_of(body), body, kind).status == 201
    return describe(body, kind)


def referrers(client: Client, digest: str, query: str = "") -> list[dict[str, Any]]:
    """Return what the referrers API lists, with all its pages."""
    descriptors: list[dict[str, Any]] = []
    for reply in follow(client, client("GET", f"referrers/{digest}{query}")):
        assert reply.status == 200
        assert reply.headers["Content-Type"] == INDEX
        assert reply.json["schemaVersion"] == 2
        assert reply.json["mediaType"] == INDEX
        descriptors += reply.json["manifests"]
    return descriptors


def ordered(descriptors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Order descriptors as they are listed."""
    return sorted(descriptors, key=lambda descriptor: str(descriptor["digest"]))


def test_referrers(client: Client, subject: dict[str, Any]) -> None:
    """The descriptors MUST include an `artifactType` [of] the image manifest or index, if present.

    If empty or missing in the image manifest, it MUST be set to the config descriptor `mediaType`
    value. If empty or missing in an index, the `artifactType` MUST be omitted. The descriptors
    MUST include annotations from the image manifest or index.
    """
    notes = {"org.example.note": "n"}
    typed = refer(client, client.image(subject=subject, artifactType=SBOM, annotations=notes))
    untyped = refer(client, client.image(subject=subject))
    empty = refer(client, client.image(subject=subject, artifactType=""))
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject}
    bare = refer(client, index, INDEX)
    typed_index = refer(client, {**index, "artifactType": SBOM, "annotations": notes}, INDEX)
    assert referrers(client, subject["digest"]) == ordered(
        [
            {**typed, "artifactType": SBOM, "annotations": notes},
            {**untyped, "artifactType": CONFIG},
            {**empty, "artifactType": CONFIG},
            bare,
            {**typed_index, "artifactType": SBOM, "annotations": notes},
        ]
    )


def test_referrers_with_filter(client: Client, subject: dict[str, Any]) -> None:
    """If filtering is requested and applied, the response MUST include `OCI-Filters-Applied`."""
    match = refer(client, client.image(subject=subject, artifactType=SBOM + "+json"))
    refer(client, client.image(subject=subject))
    target = f"referrers/{subject['digest']}"
    reply = client("GET", f"{target}?artifactType={SBOM}%2Bjson")
    assert reply.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in reply.json["manifests"]] == [match["digest"]]
    assert client("GET", f"{target}?artifactType=application/x").json["manifests"] == []
    assert client("GET", target).headers["OCI-Filters-Applied"] is None


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "sha512:" + "0" * 128, "any+one:x"])
def test_referrers_of_unknown_digest_are_empty(client: Client, digest: str) -> None:
    """If a query results in no matching referrers, an empty manifest list MUST be returned.

    The registry MUST NOT return a `404 Not Found` to a referrers API requests.
    """
    assert referrers(client, digest) == []
    client.push(b"x")
    assert referrers(client, digest) == []


@pytest.mark.parametrize("digest", ["x", "sha256:abc", "v1"])
def test_referrers_of_invalid_digest_is_rejected(client: Client, digest: str) -> None:
    """If the request is invalid, such as a `<digest>` [...], a `400` MUST be returned."""
    reply = client("GET", f"referrers/{digest}")
    assert (reply.status, reply.codes) == (400, ["DIGEST_INVALID"])


def test_referrers_before_their_subject(client: Client) -> None:
    """[...] allowing clients to push a manifest and referrers to that manifest in either order."""
    body = json.dumps(client.image(annotations={"later": "1"})).encode()
    referrer = refer(client, client.image(subject=describe(body, IMAGE)))
    assert client.put("v1", body).status == 201
    assert referrers(client, digest_of(body)) == [{**referrer, "artifactType": CONFIG}]


def test_referrers_without_deleted_one(client: Client, subject: dict[str, Any]) -> None:
    """A deleted manifest is not a referrer."""
    referrer = refer(client, client.image(subject=subject))
    assert len(referrers(client, subject["digest"])) == 1
    assert client("DELETE", f"manifests/{referrer['digest']}").status == 202
    assert referrers(client, subject["digest"]) == []


def test_referrers_with_tag(client: Client, subject: dict[str, Any]) -> None:
    """A referrer is listed once, with as many tags as it has, and stays when they move."""
    digest = client.pushed("sbom", subject=subject)
    client.pushed("sbom-2", subject=subject)
    assert [entry["digest"] for entry in referrers(client, subject["digest"])] == [digest]
    client.pushed("sbom")
    client.pushed("sbom-2")
    assert [entry["digest"] for entry in referrers(client, subject["digest"])] == [digest]


@pytest.mark.parametrize("query", ["", f"?artifactType={SBOM}%2Bx"])
def test_referrers_in_pages(
    client: Client, subject: dict[str, Any], query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `Link` header MUST be included when the descriptor list cannot be returned in one manifest.

    Each response is an image index with different descriptors.
    """
    monkeypatch.setattr(listings, "_PAGE_SIZE", 700)
    pushed = [
        refer(client, client.image(subject=subject, artifactType=f"{SBOM}+x", annotations={"n": n}))
        for n in ("1", "2", "3", "4", "x" * 1000)
    ]
    target = f"referrers/{subject['digest']}{query}"
    pages = list(follow(client, client("GET", target)))
    assert len(pages) > 2
    digests = [entry["digest"] for page in pages for entry in page.json["manifests"]]
    assert digests == sorted(entry["digest"] for entry in pushed)


# --- A layout that others wrote


def write(layout: Path, document: bytes, kind: str) -> dict[str, Any]:
    """Write a blob as any program may; return its descriptor."""
    descriptor = describe(document, kind)
    path = layout / "blobs" / descriptor["digest"].replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document)
    return descriptor


def test_lists_of_foreign_layout(tmp_path: Path) -> None:
    """Registries MUST include preexisting image manifests that are listed in an image index.

    [That is, one] tagged with the referrers tag schema, [if they] have a valid `subject` field.
    And a manifest that only an index refers to can be pulled: index.json lists roots alone.
    """
    layout = tmp_path / "theirs"
    config = write(layout, b"{}", CONFIG)
    image = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []}
    platform = write(layout, json.dumps(image).encode(), IMAGE)
    absent = describe(b"of another platform", IMAGE)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [platform, absent]}
    referrer = write(layout, json.dumps({**image, "subject": platform}).encode(), IMAGE)
    schema = {**index, "manifests": [referrer]}
    no_json = write(layout, b"no json", IMAGE)
    # An index that lists itself by way of another cannot be; one that is listed twice can.
    roots = [
        write(layout, json.dumps(index).encode(), INDEX),
        write(layout, json.dumps(schema).encode(), INDEX),
        write(layout, json.dumps({**schema, "annotations": {}}).encode(), INDEX),
        no_json,
    ]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": roots}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    with running(tmp_path) as address:
        client = Client(address, "theirs")
        assert referrers(client, platform["digest"]) == [{**referrer, "artifactType": CONFIG}]
        reply = client("GET", f"manifests/{platform['digest']}")
        assert (reply.status, reply.headers["Content-Type"]) == (200, IMAGE)
        for gone in (absent, config):
            assert client("GET", f"manifests/{gone['digest']}").status == 404
        # The tag moves on; what it named is still there.
        assert client.put("v1", {**image, "annotations": {"n": "2"}}).status == 201
        assert len(referrers(client, platform["digest"])) == 1
        # Its bytes go, and so it is listed no more.
        assert client("DELETE", f"manifests/{referrer['digest']}").status == 202
        assert referrers(client, platform["digest"]) == []
        assert client("DELETE", f"manifests/{referrer['digest']}").status == 404
        (layout / "blobs" / platform["digest"].replace(":", "/")).unlink()
        assert client("GET", f"manifests/{platform['digest']}").status == 404


def test_lists_after_restart(tmp_path: Path) -> None:
    """Nothing of it is in memory alone."""
    with running(tmp_path) as address:
        client = Client(address, "a")
        digest = client.pushed("v1")
        image = client.image(subject={"mediaType": IMAGE, "digest": digest, "size": 1})
        referrer = refer(client, image)
    with running(tmp_path) as address:
        again = Client(address, "a")
        assert [entry["digest"] for entry in referrers(again, digest)] == [referrer["digest"]]
        assert tags(again("GET", "tags/list")) == ["v1"]
