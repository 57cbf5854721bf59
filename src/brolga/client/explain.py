"""How a repository would be pushed to, and why: what `brolga explain` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.errors import BrolgaError
from brolga.protocol import Request, identify_registry
from brolga.spec.digest import Digest
from brolga.spec.value import Value

if TYPE_CHECKING:
    from brolga.protocol import Access, Credentials, Flow, RegistrySession, UploadStrategy
    from brolga.spec.reference import Repository
    from brolga.transport import Transport


# No manifest has this digest; its referrers are requested.
_UNUSED_DIGEST = Digest.of(b"brolga")


class Explanation(Value):
    """How a repository would be pushed to. No field holds a secret.

    `authentication` is what the registry requires, `credentials` the origin of those it would get.
    `profile` names its row of the known registries, `why` gives its source. `chunk` is in bytes, 0
    for one streamed PATCH; `smaller` is the size after a 413, 0 if there is none. A blob of at most
    `put_max` bytes with a known digest is sent in one PUT. `resumes` says whether an interrupted
    session is asked for its offset. `referrers` is `api`, `tag`, or why that is not known.
    """

    repository: str
    url: str
    tls: bool
    authentication: str
    credentials: str
    profile: str
    why: str
    chunk: int
    smaller: int
    put_max: int
    last_in_put: bool
    resumes: bool
    mount: str
    referrers: str


def explain_push(
    transport: Transport,
    registry: RegistrySession,
    repository: Repository,
    credentials: Credentials | None,
    style: UploadStrategy,
) -> Explanation:
    """Ask a registry whether it has the referrers API; return all that is known of it."""
    profile = identify_registry(registry.host, registry.ping_headers)
    return Explanation(
        repository=str(repository),
        url=registry.base,
        tls=registry.base.startswith("https:"),
        authentication=registry.auth_scheme,
        credentials=(credentials.source or "given") if credentials else "none: anonymous",
        profile=profile.name,
        why=profile.evidence,
        chunk=style.chunk_size,
        smaller=style.with_smaller_chunks().chunk_size if style.can_shrink else 0,
        put_max=style.monolithic_max,
        last_in_put=style.final_chunk_in_put,
        resumes=style.resumes,
        mount="tried between repositories of the registry; if it is refused, uploaded",
        referrers=transport.run(_referrers(registry.access(repository))),
    )


def _referrers(access: Access) -> Flow[str]:
    """Return how the registry keeps referrers (distribution-spec, end-12a)."""
    try:
        response = yield from access.send(Request("GET", access.url(f"referrers/{_UNUSED_DIGEST}")))
    except BrolgaError as error:
        return f"not known: {error}"
    if response.status == 200:  # noqa: PLR2004 - HTTP's own
        return "api"
    return "tag" if response.status == 404 else f"not known: the answer is {response.status}"  # noqa: PLR2004 - the same
