"""How the registries differ in taking an upload, as a table.

Knows which registry wants what, by its host and by what it shows of itself, each with the public
issue that says so. Must not know how an upload is done.

Strategy: every registry that is known takes a blob as one streamed PATCH, so a row says what is to
be done when that fails: in which chunks to go on after a 413, whether a session that was cut is
worth asking. The first row that fits counts; the last one fits all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROFILES", "Profile", "Style", "profile_of"]

_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Style:
    """How the bytes of a blob go out: one streamed PATCH where `chunk` is 0, else PATCHes of it.

    `chunk` is in bytes; `smaller` is what a first 413 leads to, 0 where the registry takes no
    chunks; `smallest` is what no 413 goes below. With `last_in_put` the last chunk goes with the
    PUT. `resumes` tells whether a session that failed is worth asking how far it came.

    A blob whose digest is known goes in one PUT where it has at most `put_max` bytes, and, where
    its bytes are at hand, in the POST where it has at most `post_max`.
    """

    chunk: int = 0
    smaller: int = 32 * _MIB
    last_in_put: bool = False
    resumes: bool = True
    smallest: int = _MIB
    put_max: int = 0
    post_max: int = -1

    @property
    def can_shrink(self) -> bool:
        """Whether there are smaller requests to try."""
        return self.chunk > self.smallest if self.chunk else self.smaller > 0

    def chunked(self) -> Style:
        """Return the style in smaller requests: chunks, and of half the size each further time."""
        wanted = self.chunk // 2 if self.chunk else self.smaller
        return replace(self, chunk=max(wanted, self.smallest), put_max=0)

    def at_least(self, size: int) -> Style:
        """Return the style with chunks of `size` bytes or more."""
        smallest = max(size, self.smallest)
        return replace(self, smallest=smallest, chunk=self.chunk and max(size, self.chunk))


@dataclass(frozen=True)
class Profile:
    """What is known of one kind of registry.

    `hosts` is a pattern of host names, `shows` a header of its API check and what is in it. `style`
    is how a blob goes out; `why` says what is known, with its public issue.
    """

    name: str
    style: Style
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
    Profile(
        "ecr",
        Style(smaller=16 * _MIB, smallest=5 * _MIB, last_in_put=True),
        hosts=r".*\.dkr\.ecr(-fips)?\..*\.amazonaws\.com(\.cn)?|public\.ecr\.aws",
        why="chunks of 5 to 20 MiB, the last one in the PUT; Range stands still "
        "(aws/containers-roadmap#2831)",
    ),
    Profile(
        "ghcr",
        Style(smaller=4 * _MIB),
        hosts=r"ghcr\.io",
        why="chunks of at most 4 MiB (oras-project/rust-oci-client#35)",
    ),
    Profile(
        "gar",
        Style(smaller=0, resumes=False),
        hosts=r".*-docker\.pkg\.dev|(.*\.)?gcr\.io",
        why="no chunks with Content-Range (google/go-containerregistry#379)",
    ),
    Profile(
        "acr",
        Style(smaller=4 * _MIB, resumes=False),
        hosts=r".*\.azurecr\.(io|us|cn)",
        why="an upload that was cut cannot be resumed (Azure/azure-sdk-for-js#25448)",
    ),
    Profile(
        "jfrog",
        Style(smaller=0, resumes=False),
        hosts=r".*\.jfrog\.io",
        shows=("x-artifactory-id", ""),
        why="one PATCH for each blob: another may reach another node",
    ),
    Profile(
        "quay",
        Style(),
        hosts=r"quay\.io",
        why="a failed PUT cancels the session",
    ),
    Profile(
        "zot",
        Style(resumes=False),
        shows=("server", "zot"),
        why="a PATCH that was cut deletes the session",
    ),
    Profile(
        "distribution",
        Style(),
        hosts=".*",
        why="one streamed PATCH; a session that was cut is asked how far it came",
    ),
)


def profile_of(host: str, headers: Mapping[str, str]) -> Profile:
    """Return the profile of a registry: by its host's name, and the headers of its API check."""
    return next(profile for profile in PROFILES if profile.fits(host, headers))
