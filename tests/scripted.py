"""The former names of `raw_server`, for tests that still import them from here."""

from tests.raw_server import Peer, refusing_port
from tests.raw_server import serve_script as scripted

__all__ = ["Peer", "refusing_port", "scripted"]
