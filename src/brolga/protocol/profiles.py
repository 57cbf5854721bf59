"""How the registries differ in taking an upload, as a table.

Knows which registry wants what, by its host and by what it shows of itself, each with the public
issue that says so. Must not know how an upload is done.

Strategy: every registry that is known takes a blob as one streamed PATCH, so a row says what may be
saved (a PUT of all, where length and digest are known before), and what is to be done when that
fails: in which chunks to go on after a 413, whether a session that was cut is worth asking. The
first row that fits counts; the last one fits all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROFILES", "KnownRegistry", "UploadStrategy", "profile_of"]

_MIB: Final = 1 << 20
_ANY: Final = 1 << 62  # bytes: no blob has more
# In one PUT go blobs whose loss costs little: on many registries nothing of a PUT that was cut can
# be gone on from.
_PUT_MAX: Final = 64 * _MIB


@dataclass(frozen=True)
class UploadStrategy:
    """How the bytes of a blob go out: one streamed PATCH where `chunk` is 0, else PATCHes of it.

    `chunk` is in bytes; `smaller` is what a first 413 leads to, 0 where the registry takes no
    chunks; `smallest` is what no 413 goes below. With `last_in_put` the last chunk goes with the
    PUT. `resumes` tells whether a session that failed is worth asking how far it came, and `splits`
    whether a stream that is silent may end its PATCH and go on in another one.

    A blob whose digest is known goes in one PUT where it has at most `put_max` bytes, and, where
    its bytes are at hand, in the POST where it has at most `post_max`.
    """

    chunk: int = 0
    smaller: int = 32 * _MIB
    final_chunk_in_put: bool = False
    resumes: bool = True
    smallest: int = _MIB
    monolithic_max: int = 0
    single_post_max: int = -1
    splits: bool = True

    @property
    def can_shrink(self) -> bool:
        """Whether there are smaller requests to try."""
        return self.chunk > self.smallest if self.chunk else self.smaller > 0

    def chunked(self) -> UploadStrategy:
        """Return the style in smaller requests: chunks, and of half the size each further time."""
        wanted = self.chunk // 2 if self.chunk else self.smaller
        return replace(self, chunk=max(wanted, self.smallest), monolithic_max=0)

    def in_one_patch(self) -> UploadStrategy:
        """Return the style whose streams go out in one PATCH, however silent they are."""
        return replace(self, splits=False)

    def override(self, wish: str) -> UploadStrategy:
        """Return the style as a user wants it; what they do not say stays.

        `auto` is this one, `streamed` one PATCH for all, `put` one PUT where length and digest are
        known before, `chunked` chunks of the size that suits, `chunked:N` of N bytes.

        Raises ValueError.
        """
        kind, _, size = wish.partition(":")
        if wish == "auto":
            return self
        if wish == "streamed":
            return replace(self, chunk=0, monolithic_max=0, splits=False)
        if wish == "put":
            return replace(self, chunk=0, monolithic_max=_ANY)
        if wish == "chunked":
            # Who wants chunks gets them, from a registry too that is known to take none.
            return replace(self, chunk=self.smaller or UploadStrategy.smaller, monolithic_max=0)
        if kind == "chunked" and size.isascii() and size.isdecimal() and int(size):
            return replace(self, chunk=int(size), monolithic_max=0)
        raise ValueError(f"{wish!r} is not an upload style: auto, streamed, put or chunked[:BYTES]")

    def cap_chunk(self, size: int) -> UploadStrategy:
        """Return the style with the chunks after a 413 in at most `size` bytes, 8 MiB at least."""
        return replace(self, smaller=min(self.smaller, max(size, 8 * _MIB)))

    def at_least(self, size: int) -> UploadStrategy:
        """Return the style with chunks of `size` bytes or more."""
        smallest = max(size, self.smallest)
        return replace(self, smallest=smallest, chunk=self.chunk and max(size, self.chunk))


@dataclass(frozen=True)
class KnownRegistry:
    """What is known of one kind of registry.

    `hosts` is a pattern of host names, `shows` a header of its API check and what is in it. `style`
    is how a blob goes out; `why` says what is known, with its public issue.
    """

    name: str
    style: UploadStrategy
    hosts: str = ""
    shows: tuple[str, str] = ("", "")
    why: str = ""

    def fits(self, host: str, headers: Mapping[str, str]) -> bool:
        """Tell whether a registry is of this kind."""
        name, text = self.shows
        return bool(
            (self.hosts and re.fullmatch(self.hosts, host))
            or (name in headers and text in headers[name].lower())
        )


PROFILES: Final = (
    KnownRegistry(
        "ecr",
        UploadStrategy(smaller=16 * _MIB, smallest=5 * _MIB, final_chunk_in_put=True, splits=False),
        hosts=r".*\.dkr\.ecr(-fips)?\..*\.amazonaws\.com(\.cn)?|public\.ecr\.aws",
        shows=("www-authenticate", "ecr.amazonaws.com"),
        why="chunks of 5 to 20 MiB, the last one in the PUT; Range stands still "
        "(aws/containers-roadmap#2831)",
    ),
    KnownRegistry(
        "ghcr",
        UploadStrategy(smaller=4 * _MIB, monolithic_max=_PUT_MAX),
        hosts=r"ghcr\.io",
        shows=("www-authenticate", "https://ghcr.io/"),
        why="chunks of at most 4 MiB (oras-project/rust-oci-client#35)",
    ),
    KnownRegistry(
        "gar",
        UploadStrategy(smaller=0, resumes=False, monolithic_max=_ANY, splits=False),
        hosts=r".*-docker\.pkg\.dev|(.*\.)?gcr\.io",
        shows=("www-authenticate", "docker.pkg.dev/"),
        why="no chunks: one PUT where the length is known, else one streamed PATCH "
        "(dotnet/sdk-container-builds#287, google/go-containerregistry#379)",
    ),
    KnownRegistry(
        "acr",
        UploadStrategy(smaller=4 * _MIB, resumes=False),
        hosts=r".*\.azurecr\.(io|us|cn)",
        shows=("www-authenticate", ".azurecr."),
        why="an upload that was cut cannot be resumed (Azure/azure-sdk-for-js#25448, "
        "Azure/azure-sdk-for-python#29738)",
    ),
    KnownRegistry(
        "jfrog",
        UploadStrategy(smaller=0, resumes=False, splits=False),
        hosts=r".*\.jfrog\.io",
        shows=("x-artifactory-id", ""),
        why="one PATCH for each blob: a PUT with bytes was refused, and another PATCH may reach "
        "another node (containerd/containerd#3533)",
    ),
    KnownRegistry(
        "quay",
        UploadStrategy(monolithic_max=_PUT_MAX),
        hosts=r"quay\.io",
        shows=("www-authenticate", "https://quay.io/"),
        why="a failed PUT cancels the session (quay/quay, endpoints/v2/blob.py)",
    ),
    KnownRegistry(
        "zot",
        UploadStrategy(resumes=False, monolithic_max=_PUT_MAX, single_post_max=_MIB // 16),
        shows=("server", "zot"),
        why="a PATCH that was cut deletes the session (project-zot/zot#231)",
    ),
    KnownRegistry(
        "brolga",
        UploadStrategy(monolithic_max=_PUT_MAX, single_post_max=_MIB // 16),
        shows=("server", "brolga"),
        why="the embedded registry: the whole of the specification",
    ),
    KnownRegistry(
        "harbor",
        UploadStrategy(monolithic_max=_PUT_MAX),
        shows=("www-authenticate", 'service="harbor-registry"'),
        why="distribution behind proxies, which lose the answer to a large blob's PUT "
        "(goharbor/harbor#19573)",
    ),
    KnownRegistry(
        "gitlab",
        UploadStrategy(monolithic_max=_PUT_MAX),
        shows=("www-authenticate", 'service="container_registry"'),
        why="distribution whose tokens live for five minutes (moby/moby#33558)",
    ),
    KnownRegistry(
        "docker hub",
        UploadStrategy(monolithic_max=_PUT_MAX),
        hosts=r"(.*\.)?docker\.io",
        why="distribution; blobs are mounted between its own repositories only "
        "(google/go-containerregistry#1741)",
    ),
    KnownRegistry(
        "distribution",
        UploadStrategy(monolithic_max=_PUT_MAX),
        hosts=".*",
        why="one streamed PATCH (distribution/distribution#930), or one PUT where the length is "
        "known; a session that was cut is asked how far it came",
    ),
)


def profile_of(host: str, headers: Mapping[str, str]) -> KnownRegistry:
    """Return the profile of a registry: by its host's name, and the headers of its API check."""
    return next(profile for profile in PROFILES if profile.fits(host, headers))
