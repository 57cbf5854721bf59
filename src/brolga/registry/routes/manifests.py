"""Pushing, pulling and deleting manifests by tag or digest, byte for byte."""

from __future__ import annotations

import asyncio
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Final

from starlette.responses import Response

from brolga.errors import InvalidReference
from brolga.registry.errors import BodyTooLong, RequestError
from brolga.registry.routes import requests
from brolga.registry.routes.blobs import file_response
from brolga.registry.storage.manifest import Manifest, detect_media_type, parse_manifest
from brolga.registry.storage.manifest_store import ManifestUnknown
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.json import MAX_SIZE, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from brolga.registry.storage.repository import Repo


# "SHOULD support pushing at least 10 tags per request" (distribution-spec, Pushing Manifests)
_MAX_TAGS: Final = 64

_IN_MEMORY: Final = 1 << 16  # a longer body is in a file while it arrives


async def pull(request: Request) -> Response:
    """Send a manifest, or only the headers for HEAD."""
    repo = requests.repo(request)
    digest, tag = _reference(request, repo)
    if digest is not None:
        stored = await repo.query(lambda manifests: manifests.by_digest(digest))
    else:
        stored = await repo.query(lambda manifests: manifests.by_tag(str(tag)))
    descriptor = stored.descriptor
    return file_response(request, descriptor.digest, stored.file, descriptor.media_type)


async def delete(request: Request) -> Response:
    """Delete a tag, or a manifest with its tags."""
    repo = requests.repo(request)
    digest, tag = _reference(request, repo)
    if digest is not None:
        await repo.write(partial(repo.manifests.delete, digest))
    else:
        await repo.write(partial(repo.manifests.untag, str(tag)))
    return Response(status_code=202)


async def push(request: Request) -> Response:
    """Store and tag a manifest.

    "The registry MUST store the manifest in the exact byte representation provided by the
    client" (distribution-spec, Pushing Manifests).
    """
    repo = requests.repo(request)
    digest, tags = _digest_and_tags(request)
    content_type = request.headers.get("content-type", "")
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        await _receive(request, file)
        # In a thread: a manifest of megabytes takes a moment, in which other requests are served.
        body, descriptor, manifest = await asyncio.to_thread(_parse, file, content_type, digest)
    sparse = request.app.state.options.sparse
    await repo.write(partial(repo.manifests.put, body, descriptor, tags, manifest, sparse=sparse))
    location = f"/v2/{repo.name}/manifests/{descriptor.digest}"
    headers = {"Location": location, "Docker-Content-Digest": str(descriptor.digest)}
    if manifest.subject is not None:
        # "MUST respond with the response header `OCI-Subject: <subject digest>`" (Pushing
        # Manifests with Subject)
        headers["OCI-Subject"] = str(manifest.subject)
    if digest is not None and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Response(status_code=201, headers=headers)


def _reference(request: Request, repo: Repo) -> tuple[Digest | None, str | None]:
    """Return digest or tag. Clients expect 404, not 400, for an invalid tag."""
    try:
        return requests.digest_or_tag(request)
    except InvalidReference as error:
        repo.layout.require()
        raise ManifestUnknown(str(error)) from error


def _digest_and_tags(request: Request) -> tuple[Digest | None, Sequence[str]]:
    """Return the digest, if the URL has one, and the tags for the manifest."""
    if (count := len(request.query_params.getlist("tag"))) > _MAX_TAGS:
        # "MAY return a `414 Request-URI Too Long` status if too many tags are included in the
        # request" (distribution-spec, Pushing Manifests).
        raise _invalid(f"{count} tags: at most {_MAX_TAGS} are accepted at once", 414)
    try:
        digest, tag = requests.digest_or_tag(request)
        return digest, requests.tag_parameters(request) if tag is None else [tag]
    except InvalidReference as error:
        raise _invalid(str(error)) from error


async def _receive(request: Request, file: IO[bytes]) -> None:
    """Write a body of bounded size to a file, so that slow requests fill no memory.

    "A registry that enforces this limit SHOULD respond to a request to push a manifest over
    this limit with a response code `413 Payload Too Large`" (distribution-spec, Pushing Manifests).
    """
    idle_s = request.app.state.options.idle_s
    blocks = requests.limit_body(request.stream(), MAX_SIZE, idle_s)
    try:
        await requests.write_body(blocks, file.write)
    except BodyTooLong as error:
        raise _invalid(f"a manifest has at most {MAX_SIZE} bytes", 413) from error


def _parse(
    file: IO[bytes], content_type: str, expected: Digest | None
) -> tuple[bytes, Descriptor, Manifest]:
    """Return a manifest's bytes, descriptor and references. Raises RequestError."""
    file.seek(0)
    body = file.read()
    try:
        fields = decode(body)
        media_type = detect_media_type(fields, content_type)
        manifest = parse_manifest(media_type, fields)
        digest = Digest.of(body, expected.algorithm if expected else "sha256")
        descriptor = Descriptor(media_type, digest, len(body))
    except ValueError as error:
        raise _invalid(str(error)) from error
    if expected is not None and expected != digest:
        raise RequestError(400, "DIGEST_INVALID", f"the manifest is {digest}, not {expected}")
    return body, descriptor, manifest


def _invalid(message: str, status: int = 400) -> RequestError:
    return RequestError(status, "MANIFEST_INVALID", message)
