"""Push and read images for the tests of verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.client import Client
from brolga.images import Image, ImageIndex
from brolga.spec.platform import DEFAULT_PLATFORM
from brolga.spec.reference import Reference
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from brolga.spec.platform import Platform


def stream(text: str) -> StreamLayer:
    """Return a layer whose bytes are a text."""
    return StreamLayer([text.encode()])


def push_image(name: str, image: Image | ImageIndex) -> str:
    """Push an image or index; return its digest."""
    with Client() as client:
        return str(client.push(name, image).digest)


def push(name: str, *texts: str, platform: Platform = DEFAULT_PLATFORM) -> str:
    """Push an image with a layer for each text; return its digest."""
    layers = [stream(text) for text in texts]
    return push_image(name, Image.empty(platform).append(*layers, created_by="the test"))


def index(name: str, *platforms: Platform) -> str:
    """Push an index with an image for each platform; return its digest."""
    images = ImageIndex.empty()
    with Client() as client:
        for platform in platforms:
            image = Image.empty(platform).append(stream(str(platform)))
            client.push(Reference.parse(name).repository, image)  # from now on it has a digest
            images = images.append(image)
    return push_image(name, images)


def read(name: str) -> Image:
    """Return the image under a name, its config read."""
    with Client() as client:
        image = client.image(name)
        image.load_config()  # while there is a connection
        return image
