"""Whom TLS trusts, and which client certificate it shows, host by host.

Knows PEM files and the `certs.d` directories of docker and containers/image. Must not know
connections.

Strategy: one SSLContext for most hosts, and one for each host that has a directory of its own, each
made when it is first used: to read the system's authorities takes longer than a request does. A
directory's authorities are trusted beside the system's. A client certificate that the user gave
goes to hosts that the user named, as a password would: to a host that a registry named, only what
the directory under that very name holds.
"""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from brolga.transport.forks import after_fork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

__all__ = ["CERTS_DIRS", "TLSConfig"]

# docker, rootless or not (docker, "Verify repository client with certificates"), and podman, skopeo
# and buildah (containers-certs.d(5)). The first that has a host counts.
CERTS_DIRS: Final = (
    "~/.config/containers/certs.d",
    "~/.config/docker/certs.d",
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
)


class TLSConfig:
    """The TLS settings of a client. Threads may share one.

    `client_cert` and `client_key` are PEM files; the key may be in the certificate's. Of
    `certs_dirs` those count that are there now.

    Raises OSError for files that cannot be read as what they should be, ValueError for a key
    without a certificate.
    """

    def __init__(
        self,
        *,
        insecure: bool,
        ca_cert: str | PathLike[str] | None,
        client_cert: str | PathLike[str] | None,
        client_key: str | PathLike[str] | None,
        certs_dirs: Iterable[str | PathLike[str]],
    ) -> None:
        if client_key is not None and client_cert is None:
            raise ValueError("a client key without its certificate: client_cert is missing")
        self._insecure = insecure
        self._authorities = [] if ca_cert is None else [Path(ca_cert)]
        self._pair = (
            None
            if client_cert is None
            else (Path(client_cert), None if client_key is None else Path(client_key))
        )
        # os.path, not pathlib: where nobody is at home, or may not look, there is no directory.
        paths = (os.path.expanduser(path) for path in certs_dirs)  # noqa: PTH111 - see above
        self._directories = [Path(path) for path in paths if os.path.isdir(path)]  # noqa: PTH112 - see above
        self.renew()
        after_fork(self)
        self._contexts: dict[tuple[Path | None, bool], ssl.SSLContext] = {}
        if self._authorities or self._pair:
            # Wrong files are told now, although they may be needed much later.
            self._load_given(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pair=True)

    def renew(self) -> None:
        """Make a new lock: a child process has the old one as it stood."""
        self._lock = threading.Lock()

    def context(self, authority: str, *, is_redirect: bool) -> ssl.SSLContext:
        """Return the settings for `HOST` or `HOST:PORT`; `is_named` where a registry named it.

        Raises OSError where the host's directory holds what it should not.
        """
        directory = self._directory(authority)
        key = directory, is_redirect and self._pair is not None
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make_context(*key)
            return self._contexts[key]

    def _directory(self, authority: str) -> Path | None:
        if not authority.strip(".") or "/" in authority or "\0" in authority:
            return None  # no name of a directory
        paths = (directory / authority for directory in self._directories)
        return next((path for path in paths if os.path.isdir(path)), None)  # noqa: PTH112 - see above

    def _make_context(self, directory: Path | None, without_ours: bool) -> ssl.SSLContext:  # noqa: FBT001 - half of a key
        context = ssl.create_default_context()
        own = sorted(directory.iterdir()) if directory else []
        is_ours = self._pair is not None and not without_ours
        self._load_given(context, pair=is_ours)
        for path in own:
            if path.suffix == ".crt":
                _load_authorities(context, path)
        if not is_ours:
            for pair in _find_pairs(own):
                _load_pair(context, *pair)
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _load_given(self, context: ssl.SSLContext, *, pair: bool) -> None:
        """Load the files that the user gave, and of these the client certificate if `pair`."""
        for path in self._authorities:
            _load_authorities(context, path)
        if pair and self._pair is not None:
            _load_pair(context, *self._pair)


def _find_pairs(paths: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Return the client certificates of a directory with their keys.

    OpenSSL shows the last of a kind that it was given: the first by name comes last. Raises
    OSError for one half of a pair.
    """
    for path in reversed(paths):
        certificate, key = path.with_suffix(".cert"), path.with_suffix(".key")
        if path.suffix == ".cert":
            if key not in paths:
                raise OSError(
                    f"{certificate} has no key: {key} is missing (an authority's certificate is "
                    "named *.crt)"
                )
            yield certificate, key
        elif path.suffix == ".key" and certificate not in paths:
            raise OSError(f"{key} has no certificate: {certificate} is missing")


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise OSError(f"{path} holds no certificate in PEM form: {error}") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    both = f"{certificate} and {key}" if key else f"{certificate}"
    for path in filter(None, (certificate, key)):
        path.open("rb").close()  # OpenSSL would not say which of them cannot be read
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OSError(f"{both}: no certificate with its key in PEM form: {error}") from error


def _no_password() -> NoReturn:
    """Keep OpenSSL from asking the terminal."""
    raise OSError("the key of the client certificate is encrypted; give it without a password")
