"""What a URL may name: the only gate from the network to the store.

Knows a request's path and query. Must not know the grammars: the value types check themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.errors import InvalidDigest, InvalidReference
from brolga.spec.digest import Digest, hasher
from brolga.spec.reference import Reference, Repository

if TYPE_CHECKING:
    from starlette.requests import Request

    from brolga.server.storage import Repo, Store

__all__ = [
    "digest_or_tag",
    "digest_parameter",
    "is_name",
    "is_tag",
    "mount_source",
    "parse_digest",
    "repo",
    "store",
    "tag_parameters",
]

# Any name will do: the registry does not look at the one by which it was called.
_HERE = "localhost"


def store(request: Request) -> Store:
    """Return what the registry stores in."""
    kept: Store = request.app.state.store
    return kept


def repo(request: Request) -> Repo:
    """Return the repository that the path names. Raises InvalidReference."""
    return store(request).repo(Repository(_HERE, request.path_params["name"]))


def mount_source(request: Request) -> Repo | None:
    """Return the repository that `?from=` names; None without one, or if nothing is named so."""
    try:
        return store(request).repo(Repository(_HERE, request.query_params["from"]))
    except (KeyError, InvalidReference):
        return None


def parse_digest(text: str) -> Digest:
    """Read a digest of an algorithm that is stored here.

    Raises InvalidDigest (image-spec descriptor.md, Digests).
    """
    digest = Digest.parse(text)
    hasher(digest.algorithm)
    return digest


def digest_parameter(request: Request, name: str = "digest") -> Digest:
    """Return `?digest=`, or one of another name. Raises InvalidDigest, where there is none too."""
    text = request.query_params.get(name)
    if text is None:
        raise InvalidDigest(f"?{name}= is missing: the digest of the whole blob")
    return parse_digest(text)


def tag_parameters(request: Request) -> list[str]:
    """Return each `?tag=`, once (distribution-spec, Pushing Manifests). Raises InvalidReference."""
    tags = list(dict.fromkeys(request.query_params.getlist("tag")))
    for tag in tags:
        Reference(Repository(_HERE, "x"), tag)
    return tags


def digest_or_tag(request: Request) -> tuple[Digest | None, str | None]:
    """Return the path's reference as the one or the other.

    "`<reference>` MUST be either (a) the digest of the manifest or (b) a tag" (distribution-spec,
    Pulling manifests). Raises InvalidDigest, InvalidReference.
    """
    text = request.path_params["reference"]
    # No tag has a colon, and every digest has one.
    if ":" in text:
        return parse_digest(text), None
    return None, Reference(Repository(_HERE, request.path_params["name"]), text).tag


def is_name(text: str) -> bool:
    """Whether a text is in the grammar of repositories (distribution-spec, Pulling manifests)."""
    try:
        Repository(_HERE, text)
    except InvalidReference:
        return False
    return True


def is_tag(text: str) -> bool:
    """Whether a text is in the grammar of tags (distribution-spec, Pulling manifests)."""
    try:
        Reference(Repository(_HERE, "x"), text)
    except InvalidReference:
        return False
    return True
