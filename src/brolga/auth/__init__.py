"""Where credentials come from, and where they are kept.

Knows the environment, docker's and podman's files, and credential helpers. Must not know how a
registry asks for credentials: that is `protocol.auth`.

    keychains  who is asked for credentials, in which order
    files      docker's config.json and podman's auth.json, as they are read
    sound      what credentials may consist of
    keys       the names of registries in them
    programs   credential helpers: docker-credential-NAME
    storing    what a login writes and a logout takes away

A secret is in no error: neither in its text nor in its context. What starts processes or locks
files is imported when it is used.
"""

from brolga.auth.keychain import (
    Chain,
    ConfigFiles,
    Environment,
    Keychain,
    credentials_from_environment,
    default_keychain,
)
from brolga.auth.login import erase, save

__all__ = [
    "Chain",
    "ConfigFiles",
    "Environment",
    "Keychain",
    "credentials_from_environment",
    "default_keychain",
    "erase",
    "save",
]
