"""How a repository would be pushed to, and why: what `brolga explain` tells.

Knows which questions can be asked of a registry without changing anything. Must not know how an
upload is done.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from brolga.errors import BrolgaError
from brolga.protocol import Request, identify_registry
from brolga.spec.digest import Digest

if TYPE_CHECKING:
    from brolga.protocol import Access, Credentials, Flow, RegistrySession, UploadStrategy
    from brolga.spec.reference import Repository
    from brolga.transport import Transport

__all__ = ["Explanation", "explained"]

# Asked for referrers: no manifest has it.
_NOBODY = Digest.of(b"brolga")


@dataclass(frozen=True)
class Explanation:
    """How a repository would be pushed to. No field holds a secret.

    `authentication` is what the registry asks for, `credentials` where those come from that it
    would get. `profile` names what is known of its kind, `why` with the public issue. `chunk` is in
    bytes, 0 for one streamed PATCH; `smaller` the size after a 413, 0 where there is none. A blob
    of at most `put_max` bytes whose digest is known goes in one PUT. `resumes` tells whether a
    session that was cut is asked how far it came. `referrers` is `api`, `tag`, or why that is not
    known.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for json."""
        return asdict(self)


def explained(
    transport: Transport,
    registry: RegistrySession,
    repository: Repository,
    credentials: Credentials | None,
    style: UploadStrategy,
) -> Explanation:
    """Ask a registry what it does with referrers, and put together what is known of it."""
    profile = identify_registry(registry.host, registry.ping_headers)
    return Explanation(
        repository=str(repository),
        url=registry.base,
        tls=registry.base.startswith("https:"),
        authentication=registry.auth_scheme,
        credentials=(credentials.origin or "given") if credentials else "none: anonymous",
        profile=profile.name,
        why=profile.evidence,
        chunk=style.chunk_size,
        smaller=style.with_smaller_chunks().chunk_size if style.can_shrink else 0,
        put_max=style.monolithic_max,
        last_in_put=style.final_chunk_in_put,
        resumes=style.resumes,
        mount="tried between repositories of the registry; where it is refused, uploaded",
        referrers=transport.run(_referrers(registry.access(repository))),
    )


def _referrers(access: Access) -> Flow[str]:
    """Tell whether the registry has the referrers API (distribution-spec, end-12a)."""
    try:
        response = yield from access.send(Request("GET", access.url(f"referrers/{_NOBODY}")))
    except BrolgaError as error:
        return f"not known: {error}"
    if response.status == 200:  # noqa: PLR2004 - HTTP's own
        return "api"
    return "tag" if response.status == 404 else f"not known: the answer is {response.status}"  # noqa: PLR2004 - the same
