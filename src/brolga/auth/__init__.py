"""Credentials from the environment, from docker's and podman's files and from helpers.

No error shows a secret, in its text or its context. Code that starts processes or locks files is
imported when it is used.
"""

from brolga.auth.keychain import Chain, ConfigFiles, Environment, Keychain, default_keychain
from brolga.auth.login import erase, save

__all__ = [
    "Chain",
    "ConfigFiles",
    "Environment",
    "Keychain",
    "default_keychain",
    "erase",
    "save",
]
