"""registry.storage.graph: the tables of a repository's manifests."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from brolga.disk.layout import REF_NAME
from brolga.registry.storage import graph
from brolga.registry.storage.graph import Graph
from brolga.registry.storage.layout import LayoutBusy
from brolga.registry.storage.manifest import parse_manifest, read_manifest
from brolga.registry.storage.manifest_store import IndexStale, ManifestStore
from brolga.registry.storage.store import Store
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from brolga.registry.storage.manifest import Manifest
    from brolga.registry.storage.repository import Repo

LIMIT = 4 << 20


def manifest(**more: Any) -> tuple[Descriptor, bytes]:
    """Return a manifest without a config that anybody needs, and its bytes."""
    empty = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2).to_dict()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty,
        "layers": [],
        **more,
    }
    body = json.dumps(document).encode()
    return Descriptor(OCI_MANIFEST, Digest.of(body), len(body)), body


def index_of(*children: Descriptor, **more: Any) -> tuple[Descriptor, bytes]:
    """Return an index of manifests, and its bytes."""
    manifests = [child.to_dict() for child in children]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **more}
    body = json.dumps(document).encode()
    return Descriptor(OCI_INDEX, Digest.of(body), len(body)), body


A = manifest()
B = manifest(subject=A[0].to_dict(), annotations={"name": "b"}, artifactType="x/b")
C = manifest(subject=A[0].to_dict(), annotations={"name": "c"})
INNER = index_of(A[0], B[0])
OUTER = index_of(INNER[0], C[0], subject=B[0].to_dict())
ALL = (A, B, C, INNER, OUTER)


class Written:
    """A layout as another program writes it."""

    def __init__(self, root: Path) -> None:
        self.path = root / "a/b"
        (self.path / "blobs/sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.list()

    def add(self, *manifests: tuple[Descriptor, bytes]) -> None:
        """Write blobs."""
        for descriptor, body in manifests:
            (self.path / "blobs/sha256" / descriptor.digest.encoded).write_bytes(body)

    def list(self, *entries: tuple[Descriptor, bytes] | dict[str, Any], tag: str = "") -> None:
        """Write index.json: a line for each, the first with a tag."""
        written = [entry if isinstance(entry, dict) else entry[0].to_dict() for entry in entries]
        if tag:
            written[0]["annotations"] = {REF_NAME: tag}
        text = json.dumps({"schemaVersion": 2, "manifests": written})
        (self.path / "index.json").write_text(text)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


@pytest.fixture
def repo(tmp_path: Path, written: Written) -> Repo:
    return Store(tmp_path).repo(Repository("localhost", "a/b"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note which manifests are parsed."""
    bodies: list[bytes] = []
    real = read_manifest

    def note(media_type: str, body: bytes) -> Manifest | None:
        bodies.append(body)
        return real(media_type, body)

    monkeypatch.setattr(graph, "read_manifest", note)
    return bodies


def referrers(repo: Repo, digest: Digest, **query: Any) -> list[dict[str, Any]]:
    values = {"artifact_type": None, "last": "", "size": LIMIT, **query}
    return [
        json.loads(referrer.descriptor)
        for referrer in repo.manifests.referrers(digest, **values)[0]
    ]


def is_current(repo: Repo) -> bool:
    try:
        ManifestStore(repo.layout, repo.manifests._databases, may_update=False).tags()
    except IndexStale:
        return False
    return True


def names(repo: Repo, digest: Digest = A[0].digest) -> set[str]:
    return {referrer.get("annotations", {}).get("name") for referrer in referrers(repo, digest)}


def test_update_finds_all_reachable_manifests(repo: Repo, written: Written) -> None:
    """An index leads to its manifests, and to those of an index in it."""
    written.add(*ALL)
    written.list(OUTER)
    for descriptor, _ in ALL:
        stored = repo.manifests.by_digest(descriptor.digest)
        stored.file.close()
        assert stored.descriptor == descriptor
    assert not repo.manifests.has(Digest.of(b"other"))
    assert names(repo) == {"b", "c"}
    assert [referrer["digest"] for referrer in referrers(repo, B[0].digest)] == [
        str(OUTER[0].digest)
    ]


def test_referrers_are_sorted_by_digest(repo: Repo, written: Written) -> None:
    """Pages can be told by the last digest: the order does not depend on index.json."""
    written.add(*ALL)
    for entries in ((B, C), (C, B), (OUTER,)):
        written.list(*entries)
        digests = [referrer["digest"] for referrer in referrers(repo, A[0].digest)]
        assert digests == sorted(str(entry[0].digest) for entry in (B, C))
    first, more = repo.manifests.referrers(A[0].digest, None, "", 1)
    assert (len(first), more) == (1, True)
    last = str(first[0].digest)
    assert [referrer["digest"] for referrer in referrers(repo, A[0].digest, last=last)] == digests[
        1:
    ]


def test_referrers_filters_artifact_type(repo: Repo, written: Written) -> None:
    """The type of a manifest without artifactType is its config's (Listing Referrers)."""
    written.add(*ALL)
    written.list(OUTER)
    assert len(referrers(repo, A[0].digest, artifact_type="x/b")) == 1
    empty = "application/vnd.oci.empty.v1+json"
    assert [
        referrer["artifactType"] for referrer in referrers(repo, A[0].digest, artifact_type=empty)
    ] == [empty]
    assert referrers(repo, A[0].digest, artifact_type="none/none") == []


def test_update_reads_no_manifest_twice(repo: Repo, written: Written, read: list[bytes]) -> None:
    """A manifest's bytes never change: what was found out about them stays, on disk."""
    written.add(A, B)
    written.list(A, B)
    assert names(repo) == {"b"}
    assert len(read) == 2
    written.add(C)
    written.list(A, B, C)
    assert names(repo) == {"b", "c"}
    assert read[2:] == [C[1]]
    again = Store(written.path.parent.parent).repo(Repository("localhost", "a/b"))
    assert names(again) == {"b", "c"}
    assert len(read) == 3


def test_update_does_not_read_pushed_manifests(
    repo: Repo, written: Written, read: list[bytes]
) -> None:
    """A push says what is in the manifest."""
    written.add((A[0], b"{}"))
    for descriptor, body in (A, B):
        document = parse_manifest(descriptor.media_type, json.loads(body))
        repo.manifests.put(body, descriptor, ["v1"], document, sparse=True)
    assert names(repo) == {"b"}
    assert read == []


def test_update_reads_manifest_stored_later(repo: Repo, written: Written) -> None:
    """A manifest that could not be read is read again when index.json changes."""
    written.add(A, OUTER, INNER, C)
    (written.path / "blobs/sha256" / B[0].digest.encoded).write_bytes(B[1][:10])
    written.list(OUTER)
    assert names(repo) == {"c"}
    written.add(B)
    written.list(OUTER, A)
    assert names(repo) == {"b", "c"}


def test_update_ignores_bytes_of_another_digest(repo: Repo, written: Written) -> None:
    """A damaged file is not believed."""
    written.add(A, B)
    written.add((B[0], B[1] + b" "))
    written.list(A, B)
    assert names(repo) == set()
    assert repo.manifests.has(B[0].digest)


def test_update_forgets_unreachable_manifests(repo: Repo, written: Written) -> None:
    """The tables are those of one index.json, not of all that were."""
    written.add(*ALL)
    written.list(OUTER, tag="v1")
    assert names(repo) == {"b", "c"}
    written.list(C)
    assert names(repo) == {"c"}
    assert repo.manifests.tags() == []
    assert not repo.manifests.has(B[0].digest)


def test_referrers_skips_deleted_file(repo: Repo, written: Written) -> None:
    """Another program may delete a blob, and leave index.json as it is."""
    written.add(*ALL)
    written.list(OUTER)
    assert names(repo) == {"b", "c"}
    (written.path / "blobs/sha256" / B[0].digest.encoded).unlink()
    assert names(repo) == {"c"}


@pytest.mark.parametrize("settled_ns", [-(1 << 62), graph._SETTLED_NS, 1 << 62])
def test_update_follows_each_change_of_the_index(
    repo: Repo, written: Written, monkeypatch: pytest.MonkeyPatch, settled_ns: int
) -> None:
    """Of the same size, and in the same moment; whether the time of a file is trusted or not."""
    monkeypatch.setattr(graph, "_SETTLED_NS", settled_ns)
    written.add(A)
    for number in range(20):
        written.list(A, tag=f"v{number % 10}")
        if settled_ns < 0:
            # Trusted at once: then the time must tell.
            status = (written.path / "index.json").stat()
            os.utime(written.path / "index.json", ns=(0, status.st_mtime_ns + number))
        assert repo.manifests.tags() == [f"v{number % 10}"]
    (written.path / "index.json").unlink()
    assert repo.manifests.tags() == []


def test_update_compares_text_of_a_recent_index(
    repo: Repo, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text is not entered again, and is trusted once it is old enough."""
    written.add(A)
    written.list(A, tag="v1")
    entered: list[bytes] = []
    real = Graph._insert_entries

    def enter(self: Graph, text: bytes, writer: str) -> None:
        entered.append(text)
        real(self, text, writer)

    monkeypatch.setattr(Graph, "_insert_entries", enter)
    monkeypatch.setattr(graph, "_SETTLED_NS", 1 << 62)
    for _ in range(3):
        assert repo.manifests.tags() == ["v1"]
        assert not is_current(repo)
    monkeypatch.setattr(graph, "_SETTLED_NS", -(1 << 62))
    assert repo.manifests.tags() == ["v1"]
    assert is_current(repo)
    assert len(entered) == 1


def test_update_with_concurrent_writer(
    repo: Repo, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that another writer overtakes begins again, a bounded number of times."""
    written.add(*ALL)
    written.list(B, tag="v1")
    real, left = Graph._read, [1]

    def overtaken(self: Graph, descriptor: Descriptor) -> Manifest | None:
        if left[0]:
            left[0] -= 1
            written.list(C, tag=f"v{left[0]}")
            other = Store(written.path.parent.parent).repo(Repository("localhost", "a/b"))
            other.manifests.tags()
        return real(self, descriptor)

    monkeypatch.setattr(Graph, "_read", overtaken)
    assert repo.manifests.tags() == ["v0"]
    assert names(repo) == {"c"}
    monkeypatch.setattr(Graph, "update", lambda _self: b"never")
    written.list(A)
    with pytest.raises(LayoutBusy, match="a/b"):
        repo.manifests.tags()


def test_tags_returns_pages(repo: Repo, written: Written) -> None:
    """Listing Tags: "in lexical order (i.e. case-insensitive alphanumeric order)"."""
    entries = [{**A[0].to_dict(), "annotations": {REF_NAME: tag}} for tag in "bBaC_"]
    # An invalid tag, two entries of one name, and one without a descriptor.
    entries += [{**A[0].to_dict(), "annotations": {REF_NAME: tag}} for tag in ("no tag", "é", "b")]
    entries += [{"annotations": {REF_NAME: "wrong"}}]
    written.list(*entries)
    expected = ["_", "a", "B", "b", "C", "wrong"]
    assert repo.manifests.tags() == expected
    for number, last in enumerate(expected):
        assert repo.manifests.tags(last, 2) == expected[number + 1 : number + 3]
    assert repo.manifests.tags("A") == expected[1:]
    assert repo.manifests.tags(count=0) == []


def test_by_tag_returns_first_entry(repo: Repo, written: Written) -> None:
    """As for other programs that read the layout."""
    written.add(*ALL)
    first, second, wrong = (
        {**described, "annotations": {REF_NAME: "x"}}
        for described in (B[0].to_dict(), C[0].to_dict(), {"digest": "wrong"})
    )
    written.list(first, second)
    with repo.manifests.by_tag("x").file as file:
        assert file.read() == B[1]
    written.list(wrong, second)
    with pytest.raises(Exception, match="no manifest x"):
        repo.manifests.by_tag("x")


def test_record_stores_sizes_and_times(repo: Repo, written: Written) -> None:
    """A list of images is read from the tables: no manifest is opened."""
    written.add(A)
    os.utime(written.path / "blobs/sha256" / A[0].digest.encoded, (5, 5))
    written.list(A)
    assert repo.manifests.has(A[0].digest)

    def fetch(database: sqlite3.Connection) -> Any:
        return database.execute("SELECT size, content_size, stored_s FROM manifest").fetchone()

    assert repo.manifests._databases.run(repo.layout, fetch) == (A[0].size, 2, 5.0)


def test_update_stores_repeated_manifest_once(repo: Repo, written: Written) -> None:
    """An index of 4 MiB can name one manifest 27,000 times, and does not cost memory for each."""
    many = index_of(*[A[0]] * 5000)
    written.add(A, many)
    written.list(many)
    assert repo.manifests.has(A[0].digest)

    def count(database: sqlite3.Connection) -> Any:
        return database.execute("SELECT COUNT(*) FROM child").fetchone()

    assert repo.manifests._databases.run(repo.layout, count) == (1,)
