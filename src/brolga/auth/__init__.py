"""Credentials from the environment, from docker's and podman's files and from helpers.

No error shows a secret, in its text or its context. Code that starts processes or locks files is
imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga._lazy import lazy_names

if TYPE_CHECKING:
    from brolga.auth.keychain import Chain, ConfigFiles, Environment, Keychain, default_keychain
    from brolga.auth.login import erase, save
else:
    __getattr__ = lazy_names(
        __name__,
        {
            "brolga.auth.keychain": "Chain ConfigFiles Environment Keychain default_keychain",
            "brolga.auth.login": "erase save",
        },
    )

__all__ = [
    "Chain",
    "ConfigFiles",
    "Environment",
    "Keychain",
    "default_keychain",
    "erase",
    "save",
]
