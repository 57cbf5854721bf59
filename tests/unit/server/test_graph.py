from __future__ import annotations

from pathlib import Path

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.server.documents import Document
from brolga.server.graph import Graph, GraphCache


def described(name: str, media_type: str = OCI_MANIFEST) -> Descriptor:
    """Return the descriptor of something that has a name here."""
    return Descriptor(media_type, Digest.of(name.encode()), len(name))


A, B, C = (described(name) for name in "abc")
OUTER = described("outer", OCI_INDEX)
INNER = described("inner", OCI_INDEX)
DOCUMENTS = {
    A.digest: Document(),
    B.digest: Document(subject=A.digest),
    C.digest: Document(subject=A.digest),
    INNER.digest: Document(manifests=(A, B, OUTER)),
    OUTER.digest: Document(manifests=(INNER, C), subject=B.digest),
}


class Shelf:
    """Manifests, and how often each was read."""

    def __init__(self) -> None:
        self.read: list[Descriptor] = []
        self.documents = dict(DOCUMENTS)

    def __call__(self, descriptor: Descriptor) -> Document | None:
        self.read.append(descriptor)
        return self.documents.get(descriptor.digest)


def test_all_that_can_be_reached() -> None:
    """An index leads to its manifests, and a circle of indexes, made by no one, to an end."""
    graph = Graph.grow([OUTER], Shelf(), None)
    for descriptor in (A, B, C, INNER, OUTER):
        assert graph.find(str(descriptor.digest)) == descriptor
    assert graph.find(str(Digest.of(b"other"))) is None


def test_referrers_are_in_the_order_of_their_digests() -> None:
    """Pages can be told by the last digest: the order does not depend on the walk."""
    expected = sorted([B, C], key=lambda descriptor: str(descriptor.digest))
    for roots in ([B, C], [C, B], [OUTER]):
        graph = Graph.grow(roots, Shelf(), None)
        assert graph.referrers(str(A.digest)) == expected
        assert graph.referrers(str(C.digest)) == []


def test_what_was_read_is_not_read_again() -> None:
    """A manifest's bytes never change; what could not be read is tried again."""
    shelf = Shelf()
    del shelf.documents[B.digest]
    before = Graph.grow([OUTER], shelf, None)
    shelf.read.clear()
    shelf.documents[B.digest] = DOCUMENTS[B.digest]
    graph = Graph.grow([OUTER], shelf, before)
    assert shelf.read == [B]
    assert len(graph.referrers(str(A.digest))) == 2


def test_what_is_reached_no_more_is_forgotten() -> None:
    """A graph is that of one index.json, not of all that were."""
    before = Graph.grow([B, C], Shelf(), None)
    graph = Graph.grow([C], Shelf(), before)
    assert graph.referrers(str(A.digest)) == [C]
    assert graph.find(str(B.digest)) is None


def test_the_cache() -> None:
    """A graph is grown once for each text, from the one before; the oldest are forgotten."""
    cache = GraphCache(limit=2)
    grown: list[Graph | None] = []

    def grow(before: Graph | None) -> Graph:
        grown.append(before)
        return Graph()

    first = cache.get(Path("x"), b"1", grow)
    assert cache.get(Path("x"), b"1", grow) is first
    second = cache.get(Path("x"), b"2", grow)
    assert second is not first
    cache.get(Path("y"), b"1", grow)
    assert cache.get(Path("x"), b"2", grow) is second
    cache.get(Path("z"), b"1", grow)
    assert cache.get(Path("x"), b"2", grow) is second
    assert grown == [None, first, None, None]
    cache.get(Path("y"), b"1", grow)
    assert grown[-1] is None
    assert len(grown) == 5
