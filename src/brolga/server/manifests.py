"""Manifests: pushed, pulled and deleted by tag or by digest, byte for byte.

Knows the distribution-spec's "Pulling manifests", "Pushing Manifests" and "Deleting Manifests".
Must not know what is in a manifest (documents) or how it is kept (manifest_store).
"""

from __future__ import annotations

import asyncio
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

from starlette.responses import Response

from brolga.errors import InvalidReference
from brolga.server import documents, names
from brolga.server.manifest_store import ManifestUnknown
from brolga.server.problems import Refusal
from brolga.server.receiving import BodyTooLong, bounded, pour
from brolga.server.sending import send
from brolga.server.strict import parse
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from brolga.server.documents import Document
    from brolga.server.storage import Repo

__all__ = ["delete", "pull", "push"]

# "SHOULD support pushing at least 10 tags per request" (distribution-spec, Pushing Manifests)
_MOST_TAGS = 64

_IN_MEMORY = 1 << 16  # bytes of a manifest that is on its way; more of it is in a file


async def pull(request: Request) -> Response:
    """Send a manifest, or the headers alone for HEAD."""
    repo = names.repo(request)
    digest, tag = _wanted(request, repo)
    if digest is not None:
        stored = await repo.look(lambda manifests: manifests.by_digest(digest))
    else:
        stored = await repo.look(lambda manifests: manifests.by_tag(str(tag)))
    descriptor = stored.descriptor
    return send(request, descriptor.digest, stored.file, descriptor.media_type)


async def delete(request: Request) -> Response:
    """Delete a tag, or a manifest with its tags."""
    repo = names.repo(request)
    digest, tag = _wanted(request, repo)
    if digest is not None:
        await repo.in_turn(partial(repo.manifests.delete, digest))
    else:
        await repo.in_turn(partial(repo.manifests.untag, str(tag)))
    return Response(status_code=202)


async def push(request: Request) -> Response:
    """Store a manifest, and let its tags name it.

    "The registry MUST store the manifest in the exact byte representation provided by the
    client" (distribution-spec, Pushing Manifests).
    """
    repo = names.repo(request)
    wanted, tags = _references(request)
    content_type = request.headers.get("content-type", "")
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        await _receive(request, file)
        # In a thread: a manifest of megabytes takes a moment, in which others shall be served.
        body, descriptor, document = await asyncio.to_thread(_read, file, content_type, wanted)
    sparse = request.app.state.options.sparse
    await repo.in_turn(partial(repo.manifests.put, body, descriptor, tags, document, sparse=sparse))
    headers = _headers(repo, descriptor, document)
    if wanted is not None and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Response(status_code=201, headers=headers)


def _wanted(request: Request, repo: Repo) -> tuple[Digest | None, str | None]:
    """Return digest or tag. What is no tag is no manifest's either: clients expect 404 here."""
    try:
        return names.digest_or_tag(request)
    except InvalidReference as error:
        repo.require()
        raise ManifestUnknown(str(error)) from error


def _references(request: Request) -> tuple[Digest | None, Sequence[str]]:
    """Return the digest, if the URL has one, and the tags that shall name the manifest."""
    if (count := len(request.query_params.getlist("tag"))) > _MOST_TAGS:
        # "MAY return a `414 Request-URI Too Long` status if too many tags are included in the
        # request" (distribution-spec, Pushing Manifests).
        raise _invalid(f"{count} tags: at most {_MOST_TAGS} are taken at once", 414)
    try:
        digest, tag = names.digest_or_tag(request)
        return digest, names.tag_parameters(request) if tag is None else [tag]
    except InvalidReference as error:
        raise _invalid(str(error)) from error


def _read(
    file: IO[bytes], content_type: str, wanted: Digest | None
) -> tuple[bytes, Descriptor, documents.Document]:
    """Return a manifest, what it is and what it says. Raises Refusal."""
    file.seek(0)
    body = file.read()
    try:
        fields = parse(body)
        media_type = documents.media_type_of(fields, content_type)
        document = documents.understand(media_type, fields)
        return body, _describe(body, media_type, wanted), document
    except ValueError as error:
        raise _invalid(str(error)) from error


def _headers(repo: Repo, descriptor: Descriptor, document: Document) -> dict[str, str]:
    headers = {
        "Location": f"/v2/{repo.name}/manifests/{descriptor.digest}",
        "Docker-Content-Digest": str(descriptor.digest),
    }
    if document.subject is not None:
        # "MUST respond with the response header `OCI-Subject: <subject digest>`" (Pushing
        # Manifests with Subject)
        headers["OCI-Subject"] = str(document.subject)
    return headers


def _invalid(message: str, status: int = 400) -> Refusal:
    return Refusal(status, "MANIFEST_INVALID", message)


async def _receive(request: Request, file: IO[bytes]) -> None:
    """Write a body of bounded size to a file: of many that are held back, none is in memory.

    "A registry that enforces this limit SHOULD respond to a request to push a manifest over
    this limit with a response code `413 Payload Too Large`" (distribution-spec, Pushing Manifests).
    """
    idle_s = request.app.state.options.idle_s
    try:
        await pour(bounded(request.stream(), documents.LIMIT, idle_s), file.write)
    except BodyTooLong as error:
        raise _invalid(f"a manifest has at most {documents.LIMIT} bytes", 413) from error


def _describe(body: bytes, media_type: str, wanted: Digest | None) -> Descriptor:
    """Return the descriptor of a manifest; where the URL has a digest, it must be this one's."""
    digest = Digest.of(body, wanted.algorithm if wanted else "sha256")
    if wanted is not None and wanted != digest:
        raise Refusal(400, "DIGEST_INVALID", f"the manifest is {digest}, not {wanted}")
    return Descriptor(media_type, digest, len(body))
