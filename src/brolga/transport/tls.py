"""TLS settings for each host: trusted authorities and client certificates.

Hosts share one SSLContext, unless they have a `certs.d` directory (docker, containers/image). Each
is made when it is first used, as reading the system's authorities takes longer than a request. The
user's client certificate is sent, like a password, only to hosts that the user named, not to those
that a registry redirects to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn

from brolga.transport.forks import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike
    from pathlib import Path
    from ssl import SSLContext

# docker, rootless or not (docker, "Verify repository client with certificates"), and podman, skopeo
# and buildah (containers-certs.d(5)). The first one with a directory for the host counts.
CERTS_DIRS: Final = (
    "~/.config/containers/certs.d",
    "~/.config/docker/certs.d",
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
)


class TLSConfig:
    """The TLS settings of a transport. Threads may share an instance.

    `client_cert` and `client_key` are PEM files; the key may be in the certificate's. Directories
    of `certs_dirs` that do not exist now are ignored.

    Raises OSError for files that are not valid PEM files, ValueError for a key without a
    certificate.
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
        self._authorities = [] if ca_cert is None else [ca_cert]
        self._pair = None if client_cert is None else (client_cert, client_key)
        # os.path, not pathlib, which raises without a home or the permission to look.
        paths = (os.path.expanduser(path) for path in certs_dirs)  # noqa: PTH111 - see above
        self._directories = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - see above
        self._lock = ForkSafeLock()
        self._contexts: dict[tuple[str | None, bool], SSLContext] = {}
        if self._authorities or self._pair:
            # Report invalid files now, although they may be needed much later.
            import ssl

            self._load_given(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pair=True)

    def context(self, authority: str, *, is_redirect: bool) -> SSLContext:
        """Return the context for `HOST` or `HOST:PORT`; `is_redirect` if a registry named it.

        Raises OSError if a file in the host's directory is invalid.
        """
        directory = self._directory(authority)
        key = directory, is_redirect and self._pair is not None
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make_context(*key)
            return self._contexts[key]

    def _directory(self, authority: str) -> str | None:
        if not authority.strip(".") or "/" in authority or "\0" in authority:
            return None  # not the name of a directory
        paths = (f"{directory}/{authority}" for directory in self._directories)
        return next((path for path in paths if os.path.isdir(path)), None)  # noqa: PTH112 - see above

    def _make_context(self, directory: str | None, without_client_cert: bool) -> SSLContext:  # noqa: FBT001 - half of a key
        import ssl  # for https only
        from pathlib import Path

        context = ssl.create_default_context()
        files = sorted(Path(directory).iterdir()) if directory else []
        sends_user_cert = self._pair is not None and not without_client_cert
        self._load_given(context, pair=sends_user_cert)
        for path in files:
            if path.suffix == ".crt":
                _load_authorities(context, path)
        if not sends_user_cert:
            for pair in _find_pairs(files):
                _load_pair(context, *pair)
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _load_given(self, context: SSLContext, *, pair: bool) -> None:
        for path in self._authorities:
            _load_authorities(context, path)
        if pair and self._pair is not None:
            _load_pair(context, *self._pair)


def _find_pairs(paths: list[Path]) -> Iterator[tuple[Path, Path]]:
    # The first by name last: OpenSSL uses the last one of a kind.
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


def _load_authorities(context: SSLContext, path: str | PathLike[str]) -> None:
    import ssl

    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise OSError(f"{path} holds no certificate in PEM form: {error}") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _load_pair(
    context: SSLContext, certificate: str | PathLike[str], key: str | PathLike[str] | None
) -> None:
    import ssl

    both = f"{certificate} and {key}" if key else f"{certificate}"
    for path in (certificate, key) if key else (certificate,):
        open(path, "rb").close()  # noqa: PTH123 - OpenSSL does not say which one cannot be read
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OSError(f"{both}: no certificate with its key in PEM form: {error}") from error


def _no_password() -> NoReturn:
    """Keep OpenSSL from asking for the password on the terminal."""
    raise OSError("the key of the client certificate is encrypted; give it without a password")
