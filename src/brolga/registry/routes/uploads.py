"""Pushing blobs: upload sessions (distribution-spec, Pushing blobs).

The offset of a session is the size of its file. A chunk with Content-Range must begin there; a
request without one (a single streamed PATCH) appends.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from brolga.registry.errors import BodyTooLong, RequestError
from brolga.registry.routes import requests
from brolga.registry.storage.uploads import DEFAULT_ALGORITHM, UploadBusy, open_writer
from brolga.spec.digest import Digest, hasher

if TYPE_CHECKING:
    from starlette.requests import Request

    from brolga.registry.options import Options
    from brolga.registry.storage.repository import Repo
    from brolga.registry.storage.uploads import Upload, UploadWriter


# "It MUST match the following regular expression" (distribution-spec, Pushing a blob in chunks)
_CONTENT_RANGE: Final = re.compile("([0-9]{1,18})-([0-9]{1,18})")


async def start(request: Request) -> Response:
    """Open a session, mount a blob, or store a whole blob if the query has its digest.

    distribution-spec, POST then PUT; Single POST; Mounting a blob from another repository.
    """
    repo = requests.repo(request)
    if "mount" in request.query_params and await _mount(request, repo):
        return _created(repo, requests.digest_parameter(request, "mount"))
    if "digest" in request.query_params:
        digest = requests.digest_parameter(request)
        upload = repo.start_upload()
        async with open_writer(upload) as writer:
            try:
                await _complete(request, repo, upload, writer)
            except BaseException:
                repo.discard(writer)  # the client does not know the session
                raise
        return _created(repo, digest)
    # "When pushing a blob with a digest algorithm other than `sha256`, the post request SHOULD
    # include the `digest-algorithm` parameter". Without it the bytes are hashed again at the end.
    algorithm = request.query_params.get("digest-algorithm", DEFAULT_ALGORITHM)
    hasher(algorithm)
    upload = repo.start_upload()
    if algorithm != DEFAULT_ALGORITHM:
        with upload.writer() as writer:
            writer.use_algorithm(algorithm)
    response = _accepted(repo, upload, 0, 202)
    options: Options = request.app.state.options
    if options.max_chunk is not None:
        # Proposed, not merged (opencontainers/distribution-spec#485).
        response.headers["OCI-Chunk-Max-Length"] = str(options.max_chunk)
    return response


async def _mount(request: Request, repo: Repo) -> bool:
    """Mount a blob; return whether it is in the repository now.

    "if a registry [...] is unable to mount the requested blob, it SHOULD return a `202`". This
    holds without `from` too: searching all repositories is more than a client may ask for.
    """
    digest = requests.digest_parameter(request, "mount")
    source = requests.mount_source(request)
    if source is None or not await asyncio.to_thread(repo.mount, digest, source):
        return False
    await repo.create()
    return True


async def append(request: Request) -> Response:
    """Store the next bytes (distribution-spec, Pushing a blob in chunks)."""
    repo, upload = _session(request)
    async with open_writer(upload) as writer:
        await _receive(request, repo, upload, writer)
        return _accepted(repo, upload, writer.size, 202)


async def finish(request: Request) -> Response:
    """Store the last bytes, if any, and commit the blob if its digest is right."""
    repo, upload = _session(request)
    digest = requests.digest_parameter(request)
    async with open_writer(upload) as writer:
        await _complete(request, repo, upload, writer)
    return _created(repo, digest)


async def status(request: Request) -> Response:
    """Send the offset, after a short wait for a request that is writing."""
    repo, upload = _session(request)
    try:
        async with open_writer(upload) as writer:
            size = writer.size
    except UploadBusy:
        size = upload.size()
    return _accepted(repo, upload, size, 204)


async def cancel(request: Request) -> Response:
    """Delete a session and its bytes."""
    repo, upload = _session(request)
    async with open_writer(upload) as writer:
        repo.discard(writer)
    return Response(status_code=204)


async def _complete(request: Request, repo: Repo, upload: Upload, writer: UploadWriter) -> None:
    """Store the last bytes and commit the blob. Raises DigestMismatch; nothing is stored then."""
    digest = requests.digest_parameter(request)
    writer.use_algorithm(digest.algorithm)
    await _receive(request, repo, upload, writer)
    await asyncio.to_thread(repo.commit, writer, digest)
    await repo.create()


async def _receive(request: Request, repo: Repo, upload: Upload, writer: UploadWriter) -> None:
    """Append a request's body. Raises RequestError if it is not the chunk of its header."""
    start = writer.size
    length = _chunk_length(request, repo, upload, start)
    options: Options = request.app.state.options
    limit = _limit(options, start)
    # The server has checked that the header is a number.
    if limit is not None and int(request.headers.get("content-length", "0")) > limit:
        raise BodyTooLong(f"no more than {limit} bytes are accepted")
    blocks = requests.limit_body(request.stream(), limit, options.idle_s)
    try:
        await requests.write_body(blocks, writer.write)
    except BodyTooLong:
        writer.truncate(start)
        raise
    received = writer.size - start
    if length is not None and received != length:
        writer.truncate(start)
        message = f"Content-Range has {length} bytes, and {received} arrived"
        raise RequestError(400, "SIZE_INVALID", message)


def _limit(options: Options, start: int) -> int | None:
    """Return how many bytes a request may add to a session of `start` bytes; None for any."""
    left = None if options.max_upload is None else max(options.max_upload - start, 0)
    return min((limit for limit in (left, options.max_chunk) if limit is not None), default=None)


def _chunk_length(request: Request, repo: Repo, upload: Upload, offset: int) -> int | None:
    """Return the length that Content-Range gives, or None without one.

    "If a chunk is uploaded out of order, the registry MUST respond with a `416 Requested Range
    Not Satisfiable` code" (distribution-spec, Pushing a blob in chunks).
    """
    text = request.headers.get("content-range")
    # A range cannot be empty: some clients send the last chunk's range with an empty PUT.
    if text is None or request.headers.get("content-length") == "0":
        return None
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) != offset or int(match[2]) < offset:
        message = f"Content-Range must be {offset}-<last byte>: {offset} bytes have arrived"
        headers = _session_headers(repo, upload, offset)
        raise RequestError(416, "BLOB_UPLOAD_INVALID", message, headers)
    length = int(match[2]) - offset + 1
    if request.headers.get("content-length", str(length)) != str(length):
        raise RequestError(400, "SIZE_INVALID", "Content-Range and Content-Length do not agree")
    return length


def _session(request: Request) -> tuple[Repo, Upload]:
    repo = requests.repo(request)
    return repo, repo.upload(request.path_params["upload"])


def _session_headers(repo: Repo, upload: Upload, size: int) -> dict[str, str]:
    """Return the headers with a session's URL and offset."""
    return {
        "Location": f"/v2/{repo.name}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(size - 1, 0)}",  # 0-0 means none or one byte, as elsewhere
        "Docker-Upload-UUID": upload.id,
    }


def _accepted(repo: Repo, upload: Upload, size: int, status_code: int) -> Response:
    return Response(status_code=status_code, headers=_session_headers(repo, upload, size))


def _created(repo: Repo, digest: Digest) -> Response:
    location = f"/v2/{repo.name}/blobs/{digest}"
    headers = {"Location": location, "Docker-Content-Digest": str(digest)}
    return Response(status_code=201, headers=headers)
