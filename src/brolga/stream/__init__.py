"""One pass from a source to compressed blocks, with their digests."""

from typing import Final

DEFAULT_WINDOW: Final = 32 << 20  # bytes of an upload that are kept, to send them again
