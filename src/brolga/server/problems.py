"""What the registry refuses, as a status and the spec's error code.

Knows the error body of the distribution-spec (Error Codes) and which error is which code. Must
not know how the errors come about.

One table turns an exception's class into an answer; a handler raises and never builds one.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from brolga.disk.directory import UnsafePath
from brolga.errors import DigestMismatch, InvalidDigest, InvalidReference
from brolga.server.index import BrokenIndex
from brolga.server.layout import LayoutBusy, RepositoryUnknown
from brolga.server.manifest_store import ManifestUnknown, ReferencesUnknown, SizeMismatch
from brolga.server.receiving import BodyStalled, BodyTooLong
from brolga.server.session import TooManyUploads, UploadBusy, UploadUnknown
from brolga.server.storage import BlobIsManifest, BlobUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request
    from starlette.types import ExceptionHandler

__all__ = ["HANDLERS", "Refusal", "answer"]

_log = logging.getLogger("brolga.server")

_TABLE: Mapping[type, tuple[int, str]] = {
    RepositoryUnknown: (404, "NAME_UNKNOWN"),
    BlobUnknown: (404, "BLOB_UNKNOWN"),
    ManifestUnknown: (404, "MANIFEST_UNKNOWN"),
    UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
    TooManyUploads: (429, "TOOMANYREQUESTS"),
    UploadBusy: (409, "BLOB_UPLOAD_INVALID"),
    BlobIsManifest: (405, "UNSUPPORTED"),
    BodyTooLong: (413, "SIZE_INVALID"),
    BodyStalled: (408, "BLOB_UPLOAD_INVALID"),
    SizeMismatch: (400, "SIZE_INVALID"),
    InvalidReference: (400, "NAME_INVALID"),
    InvalidDigest: (400, "DIGEST_INVALID"),
    DigestMismatch: (400, "DIGEST_INVALID"),
}

# How many of the things that a manifest lacks are named.
_NAMED = 100

# distribution-spec, Error Codes; UNKNOWN is not there, and stands for a fault of the registry.
_MESSAGES: Mapping[str, str] = {
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "DENIED": "requested access to the resource is denied",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "MANIFEST_BLOB_UNKNOWN": "manifest references a manifest or blob unknown to registry",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNKNOWN": "manifest unknown to registry",
    "NAME_INVALID": "invalid repository name",
    "NAME_UNKNOWN": "repository name not known to registry",
    "SIZE_INVALID": "provided length did not match content length",
    "TOOMANYREQUESTS": "too many requests",
    "UNAUTHORIZED": "authentication required",
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "the operation is unsupported",
}

# No space, no quota, no larger file.
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


# A disk that is read-only, or a file of another user.
_NOT_ALLOWED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Refusal(Exception):
    """An answer that is an error: a status, a code of the spec, the reason, and headers."""

    def __init__(
        self, status: int, code: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.headers = headers


def answer(
    status: int, code: str, detail: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> Response:
    """Build the body of an error (distribution-spec, Error Codes)."""
    return _answer(status, code, [detail], headers)


def _answer(
    status: int,
    code: str,
    details: Iterable[Mapping[str, str]],
    headers: Mapping[str, str] | None = None,
) -> Response:
    # A fault may have any code.
    message = _MESSAGES.get(code, _MESSAGES["UNKNOWN"])
    problems = [{"code": code, "message": message, "detail": dict(detail)} for detail in details]
    return JSONResponse({"errors": problems}, status_code=status, headers=headers)


def _refused(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101 - starlette looks handlers up by class
    return answer(refusal.status, refusal.code, {"reason": str(refusal)}, refusal.headers)


def _known(_request: Request, error: Exception) -> Response:
    """Answer with the code of an error's class."""
    status, code = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    detail = {"reason": str(error)}
    if isinstance(error, DigestMismatch):
        # "The error MAY include a detail structure with the key "digest", including the invalid
        # digest string" (the same codes in Docker's specification)
        detail |= {"digest": error.expected, "actual": error.actual}
    return answer(status, code, detail)


def _incomplete(_request: Request, error: Exception) -> Response:
    """Name what a manifest refers to and the repository lacks.

    "it MUST result in one or more `MANIFEST_BLOB_UNKNOWN` errors" (distribution-spec, Push); the
    status of a manifest that cannot be pushed for what is not there is 404 (Endpoints, end-7a).
    """
    assert isinstance(error, ReferencesUnknown)  # noqa: S101 - starlette looks handlers up by class
    details = [{"digest": str(need.digest)} for need in error.missing[:_NAMED]]
    return _answer(404, "MANIFEST_BLOB_UNKNOWN", details)


def _gone(_request: Request, _error: Exception) -> Response:
    """Answer a client that has hung up: nobody reads it."""
    return Response(status_code=400)


def _disk(request: Request, error: Exception) -> Response:
    """Say that the disk is full or cannot be written; any other error of it is one of ours."""
    # Something else is in the place of a file or a directory.
    if isinstance(error, UnsafePath | NotADirectoryError | IsADirectoryError):
        return _broken(request, error)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        _log.error("%s", error)
        return answer(507, "UNKNOWN", {"reason": "the registry's disk is full"})
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        if request.method in {"GET", "HEAD"}:
            return _broken(request, error)
        # Every push fails alike: the log has it once.
        told = request.app.state.told
        if error.errno not in told:
            told.add(error.errno)
            _log.error("the registry cannot write: %s", error)
        return answer(405, "UNSUPPORTED", {"reason": "the registry's disk cannot be written"})
    raise error


def _broken(_request: Request, error: Exception) -> Response:
    """Say that a repository cannot be read; which file it is concerns the log alone."""
    _log.error("%s", error)
    reason = "a file of this repository is broken; the registry's log says which one it is"
    return answer(500, "UNKNOWN", {"reason": reason})


def _held(_request: Request, error: Exception) -> Response:
    """Ask to come back: another program holds what must be changed."""
    _log.error("%s", error)
    return answer(503, "UNKNOWN", {"reason": str(error)}, {"Retry-After": "10"})


def _bug(_request: Request, _error: Exception) -> Response:
    """Answer what nobody foresaw; the server logs the traceback."""
    return answer(500, "UNKNOWN", {"reason": "the registry failed; its log says why"})


HANDLERS: Mapping[Any, ExceptionHandler] = {
    Refusal: _refused,
    ReferencesUnknown: _incomplete,
    **dict.fromkeys(_TABLE, _known),
    ClientDisconnect: _gone,
    BrokenIndex: _broken,
    LayoutBusy: _held,
    OSError: _disk,
    Exception: _bug,
}
