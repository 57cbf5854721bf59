"""stores.copy: the tags that the images of a place get elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from brolga.errors import ImageNotFound, InvalidReference
from brolga.images import Image, ImageIndex
from brolga.spec.digest import Digest
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.stores.copy import tags_of

if TYPE_CHECKING:
    from brolga.images import Tree

ONE, OTHER = Image.empty(DEFAULT_PLATFORM), Image.empty(Platform("linux", "arm64"))
INDEX = ImageIndex.empty().append(ONE)
TREES: dict[str, Tree] = {
    "v1": ONE,
    "app:v1": ONE,
    "a.com/app:v1": ONE,
    "b.com/app:v1": OTHER,
    "b.com/app:v2": OTHER,
    "a.com:5000/app": ONE,
    "c.com/app:v1": INDEX,
    str(Digest.of(b"")): ONE,
    f"sha256:{Digest.of(b'').encoded}.json": ONE,
    f"{Digest.of(b'').encoded}.json": ONE,
    "blobs/sha256/x": ONE,
}


@pytest.mark.parametrize(
    ("names", "tags"),
    [
        ([], {}),
        (["v1"], {"v1": "v1"}),
        (["app:v1"], {"v1": "app:v1"}),  # in the grammar of digests, too
        (["a.com/app:v1", "b.com/app:v2"], {"v1": "a.com/app:v1", "v2": "b.com/app:v2"}),
        (["v1", "a.com/app:v1"], {"v1": "v1"}),
        (["v1", str(Digest.of(b"")), "a.com:5000/app", "blobs/sha256/x"], {"v1": "v1"}),
        (["v1", f"{Digest.of(b'').encoded}.json"], {"v1": "v1"}),
    ],
)
def test_tags_of_takes_the_tag_of_a_name(names: list[str], tags: dict[str, str]) -> None:
    """One image may have a tag many times over; what has a file's name or a digest has none."""
    assert tags_of(names, TREES.__getitem__) == tags


@pytest.mark.parametrize("other", ["b.com/app:v1", "c.com/app:v1"])
def test_tags_of_rejects_two_images_with_one_tag(other: str) -> None:
    """The error has both names."""
    with pytest.raises(InvalidReference, match=f"'a.com/app:v1' and '{other}' .* tag v1") as found:
        tags_of(["a.com/app:v1", other], TREES.__getitem__)
    assert found.value.__notes__ == ["copy them one by one"]


def test_tags_of_raises_if_no_image_has_a_tag() -> None:
    """Else a copy of nothing would look like success."""
    with pytest.raises(ImageNotFound, match="none of the images has a tag"):
        tags_of([str(Digest.of(b""))], TREES.__getitem__)


def test_tags_of_rejects_an_invalid_name() -> None:
    """An OCI archive may name an image by any text."""
    with pytest.raises(InvalidReference):
        tags_of(["a b:/c"], TREES.__getitem__)
