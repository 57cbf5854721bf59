"""Errors as HTTP responses: a status and an error code of the distribution-spec (Error Codes).

One table maps the class of an exception to its response; handlers raise and never build one.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from brolga.disk.directory import UnsafePath
from brolga.errors import BrolgaError, DigestMismatch, InvalidDigest, InvalidReference
from brolga.registry.storage.layout import BrokenIndex, LayoutBusy, RepositoryUnknown
from brolga.registry.storage.manifest_store import ManifestUnknown, ReferencesUnknown, SizeMismatch
from brolga.registry.storage.repository import BlobIsManifest, BlobUnknown
from brolga.registry.storage.uploads import TooManyUploads, UploadBusy, UploadUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ExceptionHandler


_log = logging.getLogger("brolga.registry")


class BodyTooLong(BrolgaError):
    """A body has more bytes than are accepted."""


class BodyStalled(BrolgaError):
    """A body arrives too slowly, or not at all."""


class RequestError(Exception):
    """An error response: a status, a code of the spec, the reason, and headers."""

    def __init__(
        self, status: int, code: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.headers = headers


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
    # The push of a manifest "MUST result in one or more `MANIFEST_BLOB_UNKNOWN` errors" then; its
    # status is 404 (distribution-spec, Endpoints, end-7a).
    ReferencesUnknown: (404, "MANIFEST_BLOB_UNKNOWN"),
    InvalidReference: (400, "NAME_INVALID"),
    InvalidDigest: (400, "DIGEST_INVALID"),
    DigestMismatch: (400, "DIGEST_INVALID"),
}

_MAX_MISSING: Final = 100  # how many of a manifest's missing references are named

# distribution-spec, Error Codes; UNKNOWN is not there, and means an error of the registry itself.
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

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def error_response(
    status: int, code: str, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error with a code of the distribution-spec (Error Codes), and its reason."""
    return _response(status, code, [{"reason": reason}], headers)


def _response(
    status: int,
    code: str,
    details: Iterable[Mapping[str, str]],
    headers: Mapping[str, str] | None = None,
) -> Response:
    # A test's middleware may use any code.
    message = _MESSAGES.get(code, _MESSAGES["UNKNOWN"])
    errors = [{"code": code, "message": message, "detail": dict(detail)} for detail in details]
    return JSONResponse({"errors": errors}, status_code=status, headers=headers)


def _request_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - starlette looks handlers up by class
    return error_response(error.status, error.code, str(error), error.headers)


def _known_error(_request: Request, error: Exception) -> Response:
    """Return the response in the table for an error's class."""
    status, code = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    details = [{"reason": str(error)}]
    if isinstance(error, DigestMismatch):
        # "The error MAY include a detail structure with the key "digest", including the invalid
        # digest string" (the same codes in Docker's specification)
        details[0] |= {"digest": error.expected, "actual": error.actual}
    elif isinstance(error, ReferencesUnknown):
        details = [{"digest": str(missing.digest)} for missing in error.missing[:_MAX_MISSING]]
    return _response(status, code, details)


def _os_error(request: Request, error: Exception) -> Response:
    """Answer if the disk is full or not writable; raise any other error of the system."""
    # Something else is in the place of a file or a directory.
    if isinstance(error, UnsafePath | NotADirectoryError | IsADirectoryError):
        return _broken(request, error)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        _log.error("%s", error)
        return error_response(507, "UNKNOWN", "the registry's disk is full")
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        if request.method in {"GET", "HEAD"}:
            return _broken(request, error)
        # Every push fails alike: log it once.
        logged = request.app.state.logged_errnos
        if error.errno not in logged:
            logged.add(error.errno)
            _log.error("the registry cannot write: %s", error)
        return error_response(405, "UNSUPPORTED", "the registry's disk cannot be written")
    raise error


def _broken(_request: Request, error: Exception) -> Response:
    """Answer that a repository cannot be read; only the log names the file."""
    _log.error("%s", error)
    reason = "a file of this repository is broken; the registry's log says which one it is"
    return error_response(500, "UNKNOWN", reason)


def _busy(_request: Request, error: Exception) -> Response:
    """Ask the client to retry later: another program holds the repository's lock."""
    _log.error("%s", error)
    return error_response(503, "UNKNOWN", str(error), {"Retry-After": "10"})


def _bug(_request: Request, _error: Exception) -> Response:
    """Answer any other exception; the server logs its traceback."""
    return error_response(500, "UNKNOWN", "the registry failed; its log says why")


HANDLERS: Mapping[Any, ExceptionHandler] = {
    RequestError: _request_error,
    **dict.fromkeys(_TABLE, _known_error),
    ClientDisconnect: lambda _request, _error: Response(status_code=400),  # it will not read it
    BrokenIndex: _broken,
    LayoutBusy: _busy,
    OSError: _os_error,
    Exception: _bug,
}
