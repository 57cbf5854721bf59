"""One pass from a source to compressed blocks, with their digests."""
