"""How the known registries differ in uploads, as a table.

Every one of them takes a blob as one streamed PATCH. A row says how to save requests (a PUT of all,
if length and digest are known before), and what to do after a failure: the size of chunks after a
413, and whether a session can be resumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from brolga.spec.value import Value, replace

_MIB: Final = 1 << 20
_ANY_SIZE: Final = 1 << 62  # bytes: no blob has more


class UploadStrategy(Value):
    """How a blob is uploaded. Sizes are in bytes.

    chunk_size           of each PATCH; 0 means one streamed PATCH
    fallback_chunk_size  of each PATCH after a first 413; 0 if the registry takes no chunks
    min_chunk_size       that no 413 goes below
    final_chunk_in_put   whether the last chunk goes with the PUT
    resumes              whether to ask a failed session for its offset
    splits               whether a silent stream may go on in another PATCH
    monolithic_max       size up to which a blob of known digest goes in one PUT
    single_post_max      size up to which a blob in memory goes with the POST
    """

    chunk_size: int = 0
    fallback_chunk_size: int = 32 * _MIB
    final_chunk_in_put: bool = False
    resumes: bool = True
    min_chunk_size: int = _MIB
    monolithic_max: int = 0
    single_post_max: int = -1
    splits: bool = True

    @property
    def can_shrink(self) -> bool:
        """Whether there are smaller requests to try."""
        if self.chunk_size:
            return self.chunk_size > self.min_chunk_size
        return self.fallback_chunk_size > 0

    def with_smaller_chunks(self) -> UploadStrategy:
        """Return the strategy in chunks, of half the size if it has chunks already."""
        size = self.chunk_size // 2 if self.chunk_size else self.fallback_chunk_size
        return replace(self, chunk_size=max(size, self.min_chunk_size), monolithic_max=0)

    def with_one_patch(self) -> UploadStrategy:
        """Return the strategy with one PATCH for a stream, however silent it is."""
        return replace(self, splits=False)

    def with_chunk_limits(self, smallest: int, largest: int) -> UploadStrategy:
        """Return the strategy with no smaller and no larger requests; 0 sets none.

        If there is a largest size, a stream goes in chunks. The last one may be smaller.
        """
        chunk_size = self.chunk_size and max(smallest, self.chunk_size)
        min_chunk_size, monolithic_max = max(smallest, self.min_chunk_size), self.monolithic_max
        if largest:
            default = self.fallback_chunk_size or UploadStrategy.fallback_chunk_size
            chunk_size = min(largest, chunk_size or default)
            min_chunk_size = min(largest, min_chunk_size)
            monolithic_max = min(largest, monolithic_max)
        return replace(
            self,
            chunk_size=chunk_size,
            min_chunk_size=min_chunk_size,
            monolithic_max=monolithic_max,
        )

    def cap_chunk(self, size: int) -> UploadStrategy:
        """Return the strategy with chunks after a 413 of at most `size` bytes, or 8 MiB if less."""
        return replace(self, fallback_chunk_size=min(self.fallback_chunk_size, max(size, 8 * _MIB)))

    def override(self, wish: str) -> UploadStrategy:
        """Return the strategy as a user wants it. Raises ValueError.

        `auto` is this one, `streamed` one PATCH for all, `put` one PUT if length and digest are
        known before, `chunked` chunks of a size that suits the registry, `chunked:N` of N bytes.
        """
        kind, _, size = wish.partition(":")
        if wish == "auto":
            return self
        if wish == "streamed":
            return replace(self, chunk_size=0, monolithic_max=0, splits=False)
        if wish == "put":
            return replace(self, chunk_size=0, monolithic_max=_ANY_SIZE)
        if wish == "chunked":  # also from a registry that is known to take none: the user decides
            chunk_size = self.fallback_chunk_size or UploadStrategy.fallback_chunk_size
            return replace(self, chunk_size=chunk_size, monolithic_max=0)
        if kind == "chunked" and size.isascii() and size.isdecimal() and int(size):
            return replace(self, chunk_size=int(size), monolithic_max=0)
        raise ValueError(f"{wish!r} is not an upload style: auto, streamed, put or chunked[:BYTES]")


class KnownRegistry(Value):
    """A kind of registry, known by its host's name or by a header of its API check.

    `hosts` is a regular expression. `header` is a name, and a text in its value. `evidence` says
    what is known, with the public issue.
    """

    name: str
    strategy: UploadStrategy
    hosts: str = ""
    header: tuple[str, str] = ("", "")
    evidence: str = ""

    def matches(self, host: str, headers: Mapping[str, str]) -> bool:
        """Return whether a registry is of this kind."""
        name, text = self.header
        return bool(
            (self.hosts and re.fullmatch(self.hosts, host))
            or (name in headers and text in headers[name].lower())
        )


# Many registries keep nothing of a PUT that was cut, so larger blobs go by PATCH.
_ONE_PUT: Final = UploadStrategy(monolithic_max=64 * _MIB)

# The first row that matches counts; the last one matches all.
KNOWN_REGISTRIES: Final = (
    KnownRegistry(
        "ecr",
        UploadStrategy(
            fallback_chunk_size=16 * _MIB,
            min_chunk_size=5 * _MIB,
            final_chunk_in_put=True,
            splits=False,
        ),
        hosts=r".*\.dkr\.ecr(-fips)?\..*\.amazonaws\.com(\.cn)?|public\.ecr\.aws",
        header=("www-authenticate", "ecr.amazonaws.com"),
        evidence="chunks of 5 to 20 MiB, the last one in the PUT; Range stands still "
        "(aws/containers-roadmap#2831)",
    ),
    KnownRegistry(
        "ghcr",
        UploadStrategy(fallback_chunk_size=4 * _MIB, monolithic_max=64 * _MIB),
        hosts=r"ghcr\.io",
        header=("www-authenticate", "https://ghcr.io/"),
        evidence="chunks of at most 4 MiB (oras-project/rust-oci-client#35)",
    ),
    KnownRegistry(
        "gar",
        UploadStrategy(
            fallback_chunk_size=0, resumes=False, monolithic_max=_ANY_SIZE, splits=False
        ),
        hosts=r".*-docker\.pkg\.dev|(.*\.)?gcr\.io",
        header=("www-authenticate", "docker.pkg.dev/"),
        evidence="no chunks: one PUT if the length is known, else one streamed PATCH "
        "(dotnet/sdk-container-builds#287, google/go-containerregistry#379)",
    ),
    KnownRegistry(
        "acr",
        UploadStrategy(fallback_chunk_size=4 * _MIB, resumes=False),
        hosts=r".*\.azurecr\.(io|us|cn)",
        header=("www-authenticate", ".azurecr."),
        evidence="an upload that was cut cannot be resumed (Azure/azure-sdk-for-js#25448, "
        "Azure/azure-sdk-for-python#29738)",
    ),
    KnownRegistry(
        "jfrog",
        UploadStrategy(fallback_chunk_size=0, resumes=False, splits=False),
        hosts=r".*\.jfrog\.io",
        header=("x-artifactory-id", ""),
        evidence="one PATCH for each blob: a PUT with bytes was refused, and another PATCH may "
        "reach another node (containerd/containerd#3533)",
    ),
    KnownRegistry(
        "quay",
        _ONE_PUT,
        hosts=r"quay\.io",
        header=("www-authenticate", "https://quay.io/"),
        evidence="a failed PUT cancels the session (quay/quay, endpoints/v2/blob.py)",
    ),
    KnownRegistry(
        "zot",
        UploadStrategy(resumes=False, monolithic_max=64 * _MIB, single_post_max=_MIB // 16),
        header=("server", "zot"),
        evidence="a PATCH that was cut deletes the session (project-zot/zot#231)",
    ),
    KnownRegistry(
        "brolga",
        UploadStrategy(monolithic_max=64 * _MIB, single_post_max=_MIB // 16),
        header=("server", "brolga"),
        evidence="the embedded registry: the whole of the specification",
    ),
    KnownRegistry(
        "harbor",
        _ONE_PUT,
        header=("www-authenticate", 'service="harbor-registry"'),
        evidence="distribution behind proxies, which lose the answer to a large blob's PUT "
        "(goharbor/harbor#19573)",
    ),
    KnownRegistry(
        "gitlab",
        _ONE_PUT,
        header=("www-authenticate", 'service="container_registry"'),
        evidence="distribution whose tokens live for five minutes (moby/moby#33558)",
    ),
    KnownRegistry(
        "docker hub",
        _ONE_PUT,
        hosts=r"(.*\.)?docker\.io",
        evidence="distribution; blobs are mounted between its own repositories only "
        "(google/go-containerregistry#1741)",
    ),
    KnownRegistry(
        "distribution",
        _ONE_PUT,
        hosts=".*",
        evidence="one streamed PATCH (distribution/distribution#930), or one PUT if the length "
        "is known; a session that was cut is asked how far it came",
    ),
)


def identify_registry(host: str, headers: Mapping[str, str]) -> KnownRegistry:
    """Return the row of a registry, by its host's name and the headers of its API check."""
    return next(registry for registry in KNOWN_REGISTRIES if registry.matches(host, headers))
