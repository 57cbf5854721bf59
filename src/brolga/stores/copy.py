"""Copying images from any store to any other: one, or all with their tags and referrers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from brolga.errors import ImageNotFound, InvalidManifest, InvalidReference, excerpt
from brolga.images import Image, ImageIndex
from brolga.images.index import is_blob
from brolga.spec.reference import Reference, Repository
from brolga.spec.value import Value
from brolga.stores.names import digest_of
from brolga.stores.push import push
from brolga.stores.store import ChecksTags, OnePassStore

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Container,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from brolga.images import Tree
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.digest import Digest
    from brolga.spec.platform import Platform
    from brolga.stores.store import ReadStore, Store, WriteStore


_MAX_DEPTH: Final = 16  # referrers of referrers


class Copier(Value):
    """Copies images from a source to a target, which is opened when a tree was read.

    `open_target` is called with the repositories that blobs may be mounted from. With `platform`,
    only that image of an index is copied; with `listing`, what refers to an image as well. `jobs`
    and `verify_existing` are as in `push`.
    """

    source: ReadStore | OnePassStore
    open_target: Callable[
        [Collection[Repository | None]], AbstractContextManager[WriteStore, bool | None]
    ]
    jobs: int
    platform: Platform | None = None
    listing: Store | None = None
    verify_existing: bool = False

    def copy(self, name: str, tags: Sequence[str], prepare: Callable[[Tree], Tree]) -> Descriptor:
        """Copy what `prepare` returns for the image or index of a name; return its descriptor."""
        if isinstance(self.source, OnePassStore):
            with self.open_target(()) as target:
                tree = prepare(self._read(self.source.stream_into(target), name))
                return self._push(target, tree, *tags)
        tree = prepare(self._read(self.source, name))
        with self.open_target(tree.mount_sources) as target:
            return self._push(target, tree, *tags)

    def copy_all(
        self, exclude: Container[str] = (), *, keep_names: bool
    ) -> Iterator[tuple[str, Descriptor | None]]:
        """Copy each image with a tag; yield it and the descriptor, None for those in `exclude`."""
        if isinstance(self.source, OnePassStore):
            with self.open_target(()) as target:
                images = self.source.stream_into(target)
                tags = match_tags(images, self.platform, keep_names=keep_names)
                yield from self._copy_tags(images, target, tags, exclude)
        elif tags := match_tags(self.source, self.platform, keep_names=keep_names):
            with self.open_target([self.source.mount_source]) as target:
                yield from self._copy_tags(self.source, target, tags, exclude)

    def _copy_tags(
        self,
        images: ReadStore,
        target: WriteStore,
        tags: Mapping[str, str],
        exclude: Container[str],
    ) -> Iterator[tuple[str, Descriptor | None]]:
        for tag, name in tags.items():
            is_wanted = tag not in exclude
            yield tag, self._push(target, self._read(images, name), tag) if is_wanted else None

    def _read(self, images: ReadStore, name: str) -> Tree:
        tree = images.tree(name, self.platform)
        if self.platform is not None and isinstance(tree, ImageIndex):
            return tree.image(self.platform)
        return tree

    def _push(self, target: WriteStore, tree: Tree, *tags: str) -> Descriptor:
        push_tree = partial(push, target, jobs=self.jobs, verify_existing=self.verify_existing)
        descriptor = push_tree(tree, *tags)
        if self.listing is not None:
            for referrer in read_referrers(self.listing, tree):
                push_tree(referrer)
        return descriptor


def match_tags(store: ReadStore, platform: Platform | None, *, keep_names: bool) -> dict[str, str]:
    """Return for each tag that a copy of all images makes, the name that has it in `store`.

    `platform` chooses one of several images of one name. If `keep_names`, each name is a tag.
    """
    if isinstance(store, ChecksTags):
        store.check_tags(unique=platform is None)
    names = store.tags()
    if keep_names:
        return {name: name for name in names}
    return tags_of(names, lambda name: store.tree(name, platform))


def tags_of(names: Iterable[str], tree: Callable[[str], Tree]) -> dict[str, str]:
    """Return for each tag the name that has it; `tree` reads the image of a name.

    Of a name like `example.com/app:v1` the tag counts. An image that is named by its file or digest
    has none. Raises InvalidReference for two images with one tag, ImageNotFound for no tag.
    """
    names = list(names)
    name_by_tag: dict[str, str] = {}
    for name in names:
        tag = _tag(name)
        if not tag:
            continue
        other = name_by_tag.setdefault(tag, name)
        if other != name and _identity(tree(other)) != _identity(tree(name)):
            raise InvalidReference(
                f"{excerpt(other)} and {excerpt(name)} are two images, and both would get the "
                f"tag {tag}",
                hint="copy them one by one",
            )
    if names and not name_by_tag:
        raise ImageNotFound("none of the images has a tag: copy each by its number, as SRC:@0")
    return name_by_tag


def _tag(name: str) -> str:
    """Return the tag of a name, "" if it has none. Raises InvalidReference."""
    if digest_of(name):
        return ""
    if not {"/", ":", "@"} & set(name):
        return "" if name.endswith(".json") else name
    reference = Reference.parse(name)
    return "" if reference.tag_is_default else reference.tag or ""


def _identity(tree: Tree) -> Digest:
    """Return what two names of one image have in common: in Docker's form that is the config."""
    return tree.config_blob.descriptor.digest if isinstance(tree, Image) else tree.digest


def read_referrers(source: Store, tree: Tree) -> Iterator[Tree]:
    """Yield what refers to a tree, to its children, and to its referrers; each once.

    The list of referrers is the registry's word alone. It may name a manifest as its own referrer,
    or ever more of them: then InvalidManifest is raised.
    """
    todo: list[tuple[Tree, int]] = [(tree, 0)]
    seen = {tree.digest}
    while todo:
        subject, depth = todo.pop()
        if depth > _MAX_DEPTH:
            raise InvalidManifest(
                f"{subject.digest} refers to others, or is below others, {depth} deep: "
                "no more is read"
            )
        for descriptor in source.referrers(subject.digest):
            if descriptor.digest not in seen:
                seen.add(descriptor.digest)
                referrer = source.tree(str(descriptor.digest))
                yield referrer
                todo.append((referrer, depth + 1))
        if isinstance(subject, ImageIndex):
            below = {child.digest: child for child in subject.index.manifests if not is_blob(child)}
            new = [child for digest, child in below.items() if digest not in seen]
            seen.update(below)
            todo += ((subject.child(child), depth + 1) for child in new)
