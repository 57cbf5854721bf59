"""Two plain readers of layers, as the words of image-spec and as overlayfs have it.

A tree is a dict: it maps a path to its type, its content or target, and its mode. Both readers
extract a layer entry by entry, like a regular tar (layer.md, Applying Changesets): the parents of a
path may be symbolic links, and a path never leads out of the tree. They raise NotTold if a reader
fails, or if readers differ within one layer.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["IMPLIED", "NoTarget", "NotTold", "Tree", "extract_over", "stack", "without_traces"]

Node = tuple[bytes, str, int]
Tree = dict[str, Node]

LINK, SYMLINK, DIRECTORY = tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE
OPAQUE = ".wh..wh..opq"
IMPLIED: Node = (DIRECTORY, "", -1)  # a directory without an entry of its own
MARKED: Node = (DIRECTORY, "", -2)  # a directory that contains only a whiteout
MADE: Node = (DIRECTORY, "", 0o755)  # a directory that a reader makes in place of another entry


class NotTold(Exception):
    """The layers cannot be extracted, or not in one way."""


def extract_over(tars: Sequence[bytes]) -> Tree:
    """Extract each layer over those below it, as umoci and vfs do.

    A whiteout removes what the layer itself has not written.
    """
    tree: Tree = {}
    for data in tars:
        written: set[str] = set()
        made: set[str] = set()
        for name, entry in members(data):
            path, node = resolve(tree, name), entry
            if is_mark(path):
                for other in marked(tree, path):
                    if other in made - written:  # the whiteout comes first, wherever it stands
                        tree[other] = IMPLIED
                    elif other not in written:
                        del tree[other]
                continue
            if node[0] == LINK:
                remove_file(tree, path)
                node = linked(tree, path, node[1])
            make_parents(tree, path)
            put(tree, path, node)
            written.add(path)
            made.update(parents(path))
    return tree


def stack(tars: Sequence[bytes]) -> Tree:
    """Extract each layer into a tree of its own; then put one over the other, as overlayfs does."""
    tree: Tree = {}
    for data in tars:
        tree = put_over(tree, extract_alone(data))
    return tree


class NoTarget(NotTold):
    """The target of a hard link is not there."""


@dataclass
class Alone:
    """A layer in a tree of its own; `marks` are its whiteouts, as paths."""

    tree: Tree = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)


def extract_alone(data: bytes) -> Alone:
    own, targets = Alone(), set[str]()
    for name, entry in members(data):
        path, node = resolve(own.tree, name), entry
        if is_mark(path):
            own.marks.append(path)
            for parent in reversed(parents(path)):
                if own.tree.setdefault(parent, MARKED)[0] != DIRECTORY:
                    break
            continue
        if path in targets:
            raise NotTold
        make_parents(own.tree, path)
        there = own.tree.get(path)
        if there not in {None, MARKED} and (there[0] == DIRECTORY) != (node[0] == DIRECTORY):
            raise NotTold
        if node[0] == LINK:
            remove_file(own.tree, path)
            node = (LINK, resolve(own.tree, node[1]), 0)
            targets.add(node[1])
            seen = own.tree.get(node[1], IMPLIED)
            node = seen if seen[0] == SYMLINK else node
        put(own.tree, path, node)
    return own


def put_over(tree: Tree, own: Alone) -> Tree:
    tree = dict(tree)
    for mark in own.marks:
        for other in marked(tree, mark):
            del tree[other]
    links: list[tuple[str, str]] = []
    for path, node in sorted(own.tree.items()):
        if node[0] == LINK:
            links.append((path, node[1]))
        put(tree, path, node)
    while links:
        ready = [link for link in links if tree.get(link[1], IMPLIED)[0] not in {LINK, DIRECTORY}]
        if not ready:
            raise NotTold
        for path, target in ready:
            tree[path] = tree[target]
        links = [link for link in links if link not in ready]
    return tree


def members(data: bytes) -> list[tuple[str, Node]]:
    """Return the entries of a tar, by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(info.name, (info.type, _content(archive, info), info.mode)) for info in archive]


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    file = archive.extractfile(info) if info.isreg() else None
    return file.read().decode() if file else info.linkname


def resolve(tree: Tree, name: str) -> str:
    """Resolve the symbolic links among the parents of a path; keep parts that do not exist."""
    *folders, last = [part for part in name.split("/") if part not in {"", "."}] or [""]
    todo, done, followed = folders[::-1], list[str](), 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
        elif part not in {"", "."}:
            kind, target, _ = tree.get("/".join([*done, part]), IMPLIED)
            if kind == SYMLINK:
                followed += 1
                if followed > 40:
                    raise NotTold
                done = [] if target.startswith("/") else done
                todo += target.split("/")[::-1]
            else:
                done.append(part)
    return "/".join([*done, last])


def parents(path: str) -> list[str]:
    """Return the directories that a path is in, the nearest first, without the root."""
    return [path[:at] for at in range(len(path) - 1, 0, -1) if path[at] == "/"]


def make_parents(tree: Tree, path: str) -> None:
    for parent in parents(path):
        there = tree.get(parent, IMPLIED)
        if there[0] != DIRECTORY:
            raise NotTold
        tree[parent] = IMPLIED if there == MARKED else there


def put(tree: Tree, path: str, node: Node) -> None:
    """Replace what is at a path by a node; two directories are merged."""
    there = tree.get(path)
    if there is not None and node in {IMPLIED, MARKED}:
        if there[0] == DIRECTORY:
            return
        node = MADE
    if there is None or not there[0] == node[0] == DIRECTORY:
        for other in below(tree, path):
            del tree[other]
    tree[path] = node


def remove_file(tree: Tree, path: str) -> None:
    """Remove what a hard link replaces, before its target is looked up."""
    if tree.get(path, IMPLIED)[0] != DIRECTORY:
        del tree[path]


def below(tree: Tree, path: str) -> list[str]:
    return [other for other in tree if other == path or other.startswith(f"{path}/")]


def linked(tree: Tree, path: str, name: str) -> Node:
    """Return the node of the target of a hard link."""
    try:
        target = resolve(tree, name)
    except NotTold as error:
        raise NoTarget from error
    node = tree.get(target, IMPLIED)
    if node[0] == DIRECTORY or f"{target}/".startswith(f"{path}/"):
        raise NoTarget
    return node


def is_mark(path: str) -> bool:
    return path.rpartition("/")[2].startswith(".wh.")


def marked(tree: Tree, mark: str) -> list[str]:
    """Return the paths of a tree that a whiteout hides."""
    folder, slash, last = mark.rpartition("/")
    if last == OPAQUE:
        return [other for other in tree if other.startswith(folder + slash)]
    return below(tree, folder + slash + last.removeprefix(".wh."))


def without_traces(tree: Tree) -> Tree:
    """Leave out empty directories that have no entry of their own."""
    made = {IMPLIED, MARKED}
    kept = {path for path, node in tree.items() if node not in made}
    kept.update(parent for path in list(kept) for parent in parents(path))
    return {
        path: IMPLIED if node == MARKED else node for path, node in tree.items() if path in kept
    }
