"""The client of registries, layouts and archives, and functions with a client of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.client.client import Client
    from brolga.client.functions import image, push, push_layer, push_stream
    from brolga.client.registries import TransportOptions, UploadOptions
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.client.client": "Client",
            "brolga.client.functions": "image push push_layer push_stream",
            "brolga.client.registries": "TransportOptions UploadOptions",
        },
    )

__all__ = [
    "Client",
    "TransportOptions",
    "UploadOptions",
    "image",
    "push",
    "push_layer",
    "push_stream",
]
