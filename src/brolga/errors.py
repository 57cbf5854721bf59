"""Every error that brolga raises on purpose.

Knows what can go wrong and how to say it in one line. Must not know HTTP libraries, sockets or
who catches it. Each operation's error says which side failed: the source, the registry, or here.

    BrolgaError
    ├── InvalidReference (ValueError)      a name that is no repository or reference
    ├── InvalidDigest (ValueError)         a string that is no digest
    ├── InvalidManifest (ValueError)       bytes that are no manifest, index or config
    ├── InvalidLayout                      a directory that is no image layout
    ├── NoSuchPlatform                     an index without an image for the platform asked for
    ├── NoSuchImage                        a layout or archive that has no image of that name
    ├── TagMoved                           a tag that another client moved meanwhile
    ├── SourceError                        the source failed, or gave what is not bytes
    ├── CredentialsError                   credentials that cannot be read or stored
    ├── LayerError
    │   ├── NeedsSpool                     what one pass over a pipe cannot tell without a disk
    │   ├── NotComputed                    a digest asked for before the stream's end
    │   └── StreamConsumed                 a stream opened a second time
    ├── RegistryError                      the registry answered with an error
    │   ├── NotFound                       404
    │   ├── Unauthorized                   401
    │   ├── Denied                         403
    │   └── RateLimited                    429
    ├── ProtocolViolation                  the registry answered with what the spec forbids
    ├── TransportFailed                    no answer: refused, cut, timed out, TLS
    ├── UploadInterrupted                  a blob's bytes did not all arrive, or were not confirmed
    ├── StreamNotReplayable                bytes that must go out again are gone
    ├── SpoolFailed                        the file that keeps an upload's bytes
    ├── CorruptBlob                        a blob that cannot be decompressed, or is no archive
    └── DigestMismatch                     two digests that must be equal are not
"""

from __future__ import annotations

from typing import Final

_EXCERPT_LENGTH: Final = 80  # characters

__all__ = [
    "BrolgaError",
    "CorruptBlob",
    "CredentialsError",
    "Denied",
    "DigestMismatch",
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
    "RateLimited",
    "RegistryError",
    "SourceError",
    "SpoolError",
    "SpoolRequired",
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


class BrolgaError(Exception):
    """Base of every error that brolga raises on purpose. Each of them can be pickled.

    `side` is `source`, `registry` or `local` where whoever raised it knew which one failed, and its
    class does not tell.
    """

    side: str = ""

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
    """A name that is not a repository or reference; says which part is wrong and why."""


class InvalidDigest(BrolgaError, ValueError):
    """A string that is not a digest of the image-spec's grammar (descriptor.md, Digests)."""


class InvalidManifest(BrolgaError, ValueError):
    """Bytes that are no manifest, index or image config; says the place, as `$.layers[0].size`."""


class InvalidLayout(BrolgaError):
    """A directory that is no image layout, or not one that can be trusted; says why."""


class ImageNotFound(BrolgaError):
    """A layout or archive that is not there, or has no such image; `available` are its names."""

    def __init__(self, message: str, *, available: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.available = available


class PlatformNotFound(BrolgaError):
    """An index that has no image for the platform asked for; `available` are those that it has."""

    def __init__(self, message: str, *, available: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.available = available


class TagConflict(BrolgaError):
    """A tag that stands for something else than what was read and changed: nothing was written.

    `expected` is the digest that it stood for, `actual` the one that it stands for now, "" where it
    is not there any more.
    """

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class SourceError(BrolgaError):
    """The source of a stream failed, or gave something other than bytes."""


class CredentialsError(BrolgaError):
    """A credential helper or a file of credentials failed, or holds what is none.

    The message names the helper or the file, and holds no secret.
    """


class LayerError(BrolgaError):
    """A layer was asked for what its state does not allow."""


class SpoolRequired(LayerError):
    """Something that one pass over a pipe cannot tell, unless it may wait on a disk; says what."""


class NotComputed(LayerError):
    """A digest, DiffID or size asked for before the stream came to its clean end."""


class StreamConsumed(LayerError):
    """A single-pass stream opened again; its cause is what ended the first pass."""


class RegistryError(BrolgaError):
    """The registry answered a request with an error.

    Attributes: `method`, `url` (without credentials or query), `status`; `code`, `detail` from
    the body's first error (distribution-spec, Error Codes), empty where it sent none, and `codes`
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
    ) -> None:
        super().__init__(message)
        self.method = method
        self.url = url
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class NotFound(RegistryError):
    """404: no such repository, blob or manifest."""


class Unauthorized(RegistryError):
    """401: the registry wants other credentials, or any."""


class Denied(RegistryError):
    """403: the credentials are known and do not suffice."""


class RateLimited(RegistryError):
    """429: too many requests. `retry_after_s` is the registry's wish in seconds, or None."""

    retry_after_s: float | None = None


class ProtocolViolation(BrolgaError):
    """The registry answered with what the distribution-spec forbids, or did not answer HTTP."""


class TransportError(BrolgaError):
    """A request had no answer.

    `reason` is one of `connect`, `tls`, `certificate`, `timeout`, `cut`; `sent` counts the bytes
    of the request's body that had gone out, in whole blocks. `fresh` is False where the connection
    was one of an earlier request: a cut may mean that it had been closed before this one came.
    """

    def __init__(self, message: str, *, reason: str, sent: int = 0, fresh: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.sent = sent
        self.fresh = fresh


class UploadInterrupted(BrolgaError):
    """The bytes of a blob did not all arrive, or the registry did not confirm the blob.

    At least `sent` bytes went out, counted in whole blocks; the registry acknowledged
    `acknowledged` of them with a 2xx.
    """

    def __init__(self, message: str, *, sent: int, acknowledged: int) -> None:
        super().__init__(message)
        self.sent = sent
        self.acknowledged = acknowledged


class StreamNotReplayable(BrolgaError):
    """An upload failed, and the bytes that would have to go out again are gone.

    Its cause is the failure. `sent` bytes had gone out, the registry acknowledged `acknowledged`,
    the last `kept` are still here. A larger window, or a spool, would have kept more.
    """

    def __init__(self, message: str, *, sent: int, acknowledged: int, kept: int) -> None:
        super().__init__(message)
        self.sent = sent
        self.acknowledged = acknowledged
        self.kept = kept


class SpoolError(BrolgaError):
    """A spool could not be made or written, as where its disk is full. Its cause is the OSError."""

    side = "local"


class CorruptBlob(BrolgaError):
    """A blob that is cut short, grows beyond the limits, or is not what it must be.

    It is no valid gzip or zstd, or what it holds is no valid tar.
    """


class DigestMismatch(BrolgaError):
    """Two digests that must be equal are not: the bytes were changed on the way.

    `expected` and `actual` are the digests as strings.
    """

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


def printable(text: str) -> str:
    """Return `text` with a space for each character that a terminal or a reader may obey.

    Those are control and format characters (C0, C1, line ends, bidirectional marks), separators
    and surrogates: whatever `str.isprintable` is false for.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def one_line(text: str, limit: int | None = None) -> str:
    """Return `text` as one printable line, cut to `limit` characters and an ellipsis."""
    line = " ".join(printable(text).split())
    return line if limit is None or len(line) <= limit else f"{line[:limit]}…"


def excerpt(text: str) -> str:
    """Show a wrong part of a name in an error's line.

    Quoted, in ASCII with escapes, and cut to about 100 characters: the text may come from anyone.
    """
    shown = ascii(text[:_EXCERPT_LENGTH])
    if len(text) <= _EXCERPT_LENGTH and len(shown) <= _EXCERPT_LENGTH + 2:
        return shown
    return f"{shown[:_EXCERPT_LENGTH]}... ({len(text)} characters)"
