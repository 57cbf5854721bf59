"""The upload of bytes that are at hand: a config, an empty blob.

Knows that they can be sent as often as it takes, and in one request. Must not know what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from brolga.errors import BrolgaError
from brolga.wire.profiles import UploadStrategy
from brolga.wire.retry import passes
from brolga.wire.session import post_blob
from brolga.wire.upload import upload_stream

if TYPE_CHECKING:
    from brolga.descriptor import Descriptor
    from brolga.wire.access import Access
    from brolga.wire.http import Flow
    from brolga.wire.session import Session

__all__ = ["upload_bytes"]


def upload_bytes(
    access: Access,
    data: bytes,
    descriptor: Descriptor,
    *,
    session: Session | None = None,
    strategy: UploadStrategy | None = None,
) -> Flow[Descriptor]:
    """Upload bytes: POST, then one PUT with all of them (distribution-spec, end-4a, end-6).

    Where `style` says so, tiny ones go with the POST (end-4b). Raises what `upload_stream` does.
    """
    # All of them are here: what fails is begun anew.
    strategy = replace(
        strategy or UploadStrategy(), chunk_size=0, monolithic_max=len(data), resumes=False
    )
    if session is None and len(data) <= strategy.single_post_max:
        try:
            session = yield from post_blob(access, data, descriptor.digest)
        except BrolgaError as error:
            if not passes(error):
                raise
        else:
            if session is None:
                return descriptor
    body = _AtHand(data)
    return (
        yield from upload_stream(
            access,
            body,
            lambda: descriptor,
            descriptor=descriptor,
            session=session,
            strategy=strategy,
        )
    )


@dataclass
class _AtHand:
    """A body of bytes that are at hand."""

    data: bytes
    produced: int = 0
    kept_from: int = 0
    ended: bool = False

    def hold(self, start: int | None) -> None:
        """Keep all of them anyway."""

    def blocks(self, start: int) -> tuple[bytes, ...]:
        self.produced, self.ended = len(self.data), True
        return (self.data[start:],)
