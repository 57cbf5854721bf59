"""Every error that brolga raises on purpose, as one tree.

BrolgaError
├── InvalidReference (ValueError)      a name that is not a valid repository or reference
├── InvalidDigest (ValueError)         a string that is not a valid digest
├── InvalidManifest (ValueError)       bytes that are not a valid manifest, index or config
├── InvalidLayout                      a directory that is not a valid image layout
├── PlatformNotFound                   an index without an image for the platform
├── ImageNotFound                      a layout or archive without an image of that name
├── TagConflict                        a tag that another client moved in the meantime
├── SourceError                        the source failed, or returned something but bytes
├── CredentialsError                   credentials that cannot be read or stored
├── LayerError
│   ├── SpoolRequired                  one pass over a pipe needs a spool on disk
│   ├── NotComputed                    a digest read before the end of the stream
│   └── StreamConsumed                 a stream opened a second time
├── RegistryError                      the registry answered with an error
│   ├── NotFound                       404
│   ├── Unauthorized                   401
│   ├── Denied                         403
│   └── RateLimited                    429
├── ProtocolViolation                  the registry answered with what the spec forbids
│   └── RangeNotSupported              not with the part of a blob that was asked for
├── TransportError                     no answer: refused, cut, timed out, TLS
├── UploadInterrupted                  a blob did not arrive whole, or was not confirmed
├── StreamNotReplayable                bytes that must be sent again are gone
├── SpoolError                         the file that buffers an upload failed
├── ExtractionError                    a directory that an image cannot be extracted to
├── StateError                         the directory with the journals of uploads cannot be used
├── CorruptBlob                        a blob that cannot be decompressed, or is not an archive
└── DigestMismatch                     two digests that must be equal differ
"""

from __future__ import annotations

from typing import Final, TypedDict, Unpack

_EXCERPT_LENGTH: Final = 80  # characters

__all__ = [
    "BrolgaError",
    "CorruptBlob",
    "CredentialsError",
    "Denied",
    "DigestMismatch",
    "ExtractionError",
    "ImageNotFound",
    "InvalidDigest",
    "InvalidLayout",
    "InvalidManifest",
    "InvalidReference",
    "LayerError",
    "NotComputed",
    "NotFound",
    "PlatformNotFound",
    "ProtocolViolation",
    "RangeNotSupported",
    "RateLimited",
    "RegistryError",
    "SourceError",
    "SpoolError",
    "SpoolRequired",
    "StateError",
    "StreamConsumed",
    "StreamNotReplayable",
    "TagConflict",
    "TransportError",
    "Unauthorized",
    "UploadInterrupted",
    "excerpt",
    "one_line",
    "printable",
]


class _Context(TypedDict, total=False):
    side: str
    hint: str


class BrolgaError(Exception):
    """Base of every error that brolga raises on purpose. All of them can be pickled.

    `side` says which part failed, if the class does not: `source`, `registry` or `local`.
    `hint` says what to do next; it is also a note of the exception (PEP 678).
    """

    side: str = ""
    hint: str = ""

    def __init__(self, *args: object, side: str = "", hint: str = "") -> None:
        super().__init__(*args)
        if side:
            self.side = side
        if hint:
            self.hint = hint
            self.add_note(hint)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild the error from its message and attributes: it may come from another process."""
        return _rebuilt, (type(self), self.args, self.__dict__.copy())


def _rebuilt(
    kind: type[BrolgaError], args: tuple[object, ...], state: dict[str, object]
) -> BrolgaError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidReference(BrolgaError, ValueError):
    """A name that is not a valid repository or reference. The message names the wrong part."""


class InvalidDigest(BrolgaError, ValueError):
    """A string that is not a valid digest (image-spec, descriptor.md, Digests)."""


class InvalidManifest(BrolgaError, ValueError):
    """Bytes that are not a valid manifest, index or config; names the place, as `$.layers[0]`."""


class InvalidLayout(BrolgaError):
    """A directory that is not a valid image layout, or cannot be trusted."""


class ImageNotFound(BrolgaError):
    """A missing layout or archive, or one without that image; `available` lists its names."""

    def __init__(
        self,
        message: str,
        *,
        available: tuple[str, ...] = (),
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.available = available


class PlatformNotFound(BrolgaError):
    """An index without an image for the platform; `available` lists the platforms it has."""

    def __init__(
        self,
        message: str,
        *,
        available: tuple[str, ...] = (),
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.available = available


class TagConflict(BrolgaError):
    """A tag that another client moved since it was read. Nothing was written.

    `expected` is the digest that the tag pointed to, `actual` the present one, "" if it is gone.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: str,
        actual: str,
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.expected = expected
        self.actual = actual


class SourceError(BrolgaError):
    """The source of a stream failed, or gave something other than bytes."""


class CredentialsError(BrolgaError):
    """A credential helper or file failed, or its content is not valid credentials.

    The message names the helper or the file, and contains no secret.
    """


class LayerError(BrolgaError):
    """An operation that the state of the layer does not allow."""


class SpoolRequired(LayerError):
    """An operation that one pass over a pipe allows only with a spool on disk."""


class NotComputed(LayerError):
    """A digest, DiffID or size read before the stream reached its clean end."""


class StreamConsumed(LayerError):
    """A single-pass stream opened again. The cause is what ended the first pass."""


class RegistryError(BrolgaError):
    """The registry answered a request with an error.

    Attributes: `method`, `url` (without credentials or query), `status`; `code`, `detail` from
    the body's first error (distribution-spec, Error Codes), empty if it sent none, and `codes`
    of the first three; `request_id` as the registry's header gave it, or empty.
    """

    codes: tuple[str, ...] = ()

    def __init__(  # noqa: PLR0913 - the parts of one HTTP error
        self,
        message: str,
        *,
        method: str,
        url: str,
        status: int,
        code: str = "",
        detail: str = "",
        request_id: str = "",
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.method = method
        self.url = url
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class NotFound(RegistryError):
    """404: no such repository, blob or manifest."""


class Unauthorized(RegistryError):
    """401: the registry requires credentials, or other ones."""


class Denied(RegistryError):
    """403: the credentials are valid but do not allow this."""


class RateLimited(RegistryError):
    """429: too many requests. `retry_after_s` is the Retry-After header in seconds, or None."""

    retry_after_s: float | None = None


class ProtocolViolation(BrolgaError):
    """The registry answered with what the distribution-spec forbids, or did not answer HTTP."""


class RangeNotSupported(ProtocolViolation):
    """The registry, or where it redirected to, does not give the part of a blob asked for."""


class TransportError(BrolgaError):
    """A request got no answer.

    `reason` is one of `connect`, `tls`, `certificate`, `timeout`, `cut`; `sent` counts the bytes
    of the request's body that were sent, in whole blocks. `is_new_connection` is False if the
    connection had served an earlier request: a cut may mean that it was closed before.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        sent: int = 0,
        is_new_connection: bool = True,
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.reason = reason
        self.sent = sent
        self.is_new_connection = is_new_connection


class UploadInterrupted(BrolgaError):
    """A blob did not arrive whole, or the registry did not confirm it.

    At least `sent` bytes were sent, in whole blocks; the registry acknowledged
    `acknowledged` of them with a 2xx.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: int,
        acknowledged: int,
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.sent = sent
        self.acknowledged = acknowledged


class StreamNotReplayable(BrolgaError):
    """An upload failed, and the bytes that must be sent again are gone.

    The cause is the failure. `sent` bytes were sent, the registry acknowledged `acknowledged`,
    and the last `kept` are still buffered. A larger window or a spool keeps more.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: int,
        acknowledged: int,
        kept: int,
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.sent = sent
        self.acknowledged = acknowledged
        self.kept = kept


class SpoolError(BrolgaError):
    """A spool file cannot be created or written. The cause is the OSError."""

    side = "local"


class ExtractionError(BrolgaError):
    """A directory that an image cannot be extracted to, or a file that cannot be created there."""

    side = "local"


class StateError(BrolgaError):
    """The directory with the journals of uploads cannot be used. The cause is the OSError."""

    side = "local"


class CorruptBlob(BrolgaError):
    """A blob that is truncated, exceeds the limits, or is not valid gzip, zstd or tar."""


class DigestMismatch(BrolgaError):
    """Two digests that must be equal differ: the bytes changed on the way.

    `expected` and `actual` are the digests as strings.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: object,
        actual: object = "",
        **context: Unpack[_Context],
    ) -> None:
        super().__init__(message, **context)
        self.expected = str(expected)
        self.actual = str(actual)


def printable(text: str) -> str:
    """Return `text` with a space for each character that is not printable (`str.isprintable`).

    Control characters, line ends, bidirectional marks and surrogates can steer a terminal.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def one_line(text: str, limit: int | None = None) -> str:
    """Return `text` as one printable line, cut to `limit` characters and an ellipsis."""
    line = " ".join(printable(text).split())
    return line if limit is None or len(line) <= limit else f"{line[:limit]}…"


def excerpt(text: str) -> str:
    """Quote untrusted text for an error message: in ASCII, cut to about 100 characters."""
    shown = ascii(text[:_EXCERPT_LENGTH])
    if len(text) <= _EXCERPT_LENGTH and len(shown) <= _EXCERPT_LENGTH + 2:
        return shown
    return f"{shown[:_EXCERPT_LENGTH]}... ({len(text)} characters)"
