"""Manifests: pushed and pulled by tag or by digest, byte for byte.

Knows the distribution-spec's "Pulling manifests" and "Pushing manifests". Must not know what a
manifest means: that it is a JSON object of one media type is all that is looked at so far.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from brolga.descriptor import Descriptor
from brolga.digest import Digest
from brolga.errors import InvalidReference
from brolga.server import blobs, names
from brolga.server.problems import Refusal
from brolga.server.storage import ManifestUnknown

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["LIMIT", "pull", "push"]

# "Client and registry implementations SHOULD expect to be able to support manifest pushes of
# at least 4 megabytes" (distribution-spec, Pushing manifests)
LIMIT = 4 << 20


async def pull(request: Request) -> Response:
    """Send a manifest, or the headers alone for HEAD."""
    repo = names.repo(request)
    try:
        digest, tag = names.digest_or_tag(request)
    except InvalidReference as error:
        # What is no tag is no manifest's either: clients expect 404 here.
        repo.require()
        raise ManifestUnknown(str(error)) from error
    if digest is not None:
        descriptor, blob = await asyncio.to_thread(repo.manifest_by_digest, digest)
    else:
        descriptor, blob = await asyncio.to_thread(repo.manifest_by_tag, str(tag))
    return blobs.send(request, blob, descriptor.media_type)


async def push(request: Request) -> Response:
    """Store a manifest, and let its tag name it.

    "The registry MUST store the manifest in the exact byte representation provided by the
    client" (distribution-spec, Pushing manifests).
    """
    repo = names.repo(request)
    try:
        digest, tag = names.digest_or_tag(request)
    except InvalidReference as error:
        raise _invalid(str(error)) from error
    body = await _body(request)
    descriptor = _describe(body, _media_type(request, _parse(body)), digest)
    await asyncio.to_thread(repo.put_manifest, body, descriptor, tag)
    headers = {
        "Location": f"/v2/{repo.name}/manifests/{descriptor.digest}",
        "Docker-Content-Digest": str(descriptor.digest),
    }
    return Response(status_code=201, headers=headers)


def _invalid(message: str, status: int = 400) -> Refusal:
    return Refusal(status, "MANIFEST_INVALID", message)


async def _body(request: Request) -> bytes:
    """Read a body of bounded size.

    "A registry that enforces this limit SHOULD respond to a request to push a manifest over
    this limit with a response code `413 Payload Too Large`" (distribution-spec, Pushing manifests).
    """
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > LIMIT:
                raise _invalid(f"a manifest has at most {LIMIT} bytes", 413)
    return bytes(body)


def _parse(body: bytes) -> dict[str, Any]:
    """Read a JSON object in which no key comes twice: readers would differ on what it says."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("not a JSON object")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key comes twice")
    return document


def _media_type(request: Request, document: dict[str, Any]) -> str:
    """Return the one media type that header and manifest agree on.

    "If a manifest includes a `mediaType` field, clients MUST set the `Content-Type` header to
    the value specified by the `mediaType` field" (distribution-spec, Pushing manifests).
    """
    # "The registry SHOULD ignore parameters on the `Content-Type` header" (ibid.)
    sent = request.headers.get("content-type", "").partition(";")[0].strip()
    said = document.get("mediaType", sent)
    if not isinstance(said, str) or not said:
        raise _invalid("neither a Content-Type nor a mediaType that is a string")
    if sent and sent != said:
        raise _invalid(f"the Content-Type is {sent!r} and the mediaType {said!r}")
    return said


def _describe(body: bytes, media_type: str, wanted: Digest | None) -> Descriptor:
    """Return the descriptor of a manifest; where the URL has a digest, it must be this one's."""
    digest = Digest.of(body, wanted.algorithm if wanted else "sha256")
    if wanted is not None and wanted != digest:
        raise Refusal(400, "DIGEST_INVALID", f"the manifest is {digest}, not {wanted}")
    try:
        return Descriptor(media_type, digest, len(body))
    except ValueError as error:
        raise _invalid(str(error)) from error
