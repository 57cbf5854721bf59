"""Which manifests a repository has beyond its index.json, and which of them are about which.

Knows how manifests refer to one another. Must not know HTTP, or how the index is changed.

A manifest may be reached by way of an index alone: other programs list no more than the root
of an image of several platforms, and clients of registries without the referrers API keep
referrers in an index with a tag. So the graph is walked from index.json down, from the files as
they are: nothing about it is stored, and it is right after a restart and after other programs.

A graph is good for one text of index.json. The next one is grown from it: a manifest's bytes
never change, so none is read twice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from brolga.descriptor import Descriptor
    from brolga.server.documents import Document

__all__ = ["Graph", "GraphCache"]

# Repositories whose graph is remembered.
_REMEMBERED = 64


class Node(NamedTuple):
    """What of a manifest counts here: its subject, and the manifests of an index."""

    subject: str | None
    children: tuple[Descriptor, ...]


class Graph:
    """The manifests that can be reached, and the referrers of each digest."""

    def __init__(self) -> None:
        self._known: dict[str, Descriptor] = {}
        self.nodes: dict[str, Node] = {}
        self._referrers: dict[str, list[Descriptor]] = defaultdict(list)

    @classmethod
    def grow(
        cls,
        roots: Iterable[Descriptor],
        read: Callable[[Descriptor], Document | None],
        before: Graph | None,
    ) -> Graph:
        """Walk from the roots; `read` is asked for what was not in the graph before."""
        graph = cls()
        nodes: Mapping[str, Node] = before.nodes if before else {}
        waiting = list(roots)
        while waiting:
            descriptor = waiting.pop()
            digest = str(descriptor.digest)
            if digest in graph._known:
                continue
            graph._known[digest] = descriptor
            node = nodes.get(digest) or _node(read(descriptor))
            if node is None:
                continue
            graph.nodes[digest] = node
            waiting.extend(node.children)
            if node.subject is not None:
                graph._referrers[node.subject].append(descriptor)
        return graph

    def find(self, digest: str) -> Descriptor | None:
        """Return a manifest that can be reached."""
        return self._known.get(digest)

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return the manifests whose subject has this digest, ordered by their own."""
        found = self._referrers.get(digest, ())
        return sorted(found, key=lambda descriptor: str(descriptor.digest))


def _node(document: Document | None) -> Node | None:
    if document is None:
        return None
    subject = str(document.subject) if document.subject else None
    return Node(subject, document.manifests)


class GraphCache:
    """The graphs of repositories, the least recently used forgotten first."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._graphs: OrderedDict[Path, tuple[bytes, Graph]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, fingerprint: bytes, grow: Callable[[Graph | None], Graph]) -> Graph:
        """Return the graph of an index.json; `grow` makes it from the one before."""
        with self._lock:
            known, graph = self._graphs.get(path, (b"", None))
        if graph is None or known != fingerprint:
            graph = grow(graph)
        with self._lock:
            self._graphs[path] = fingerprint, graph
            self._graphs.move_to_end(path)
            if len(self._graphs) > self._limit:
                self._graphs.popitem(last=False)
        return graph
