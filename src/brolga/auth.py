"""Where credentials come from.

Knows the environment. Must not know how a registry asks for credentials: that is `wire.access`.
"""

from __future__ import annotations

import os

from brolga.wire import Credentials

__all__ = ["credentials_from_environment"]


def credentials_from_environment() -> Credentials | None:
    """Return BROLGA_USERNAME and BROLGA_PASSWORD as credentials, or None where one is not set."""
    username, password = os.environ.get("BROLGA_USERNAME"), os.environ.get("BROLGA_PASSWORD")
    return Credentials(username, password) if username and password else None
