"""The upload of bytes that are at hand: a config, an empty blob.

Knows that they can be sent as often as it takes, and in one request. Must not know what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from brolga.errors import BrolgaError
from brolga.protocol.profiles import UploadStrategy
from brolga.protocol.retry import is_transient
from brolga.protocol.session import post_blob
from brolga.protocol.upload import upload_stream

if TYPE_CHECKING:
    from brolga.protocol.access import Access
    from brolga.protocol.http import Flow
    from brolga.protocol.session import UploadSession
    from brolga.spec.descriptor import Descriptor

__all__ = ["upload_bytes"]


def upload_bytes(
    access: Access,
    data: bytes,
    descriptor: Descriptor,
    *,
    session: UploadSession | None = None,
    style: UploadStrategy | None = None,
) -> Flow[Descriptor]:
    """Upload bytes: POST, then one PUT with all of them (distribution-spec, end-4a, end-6).

    Where `style` says so, tiny ones go with the POST (end-4b). Raises what `upload_stream` does.
    """
    # All of them are here: what fails is begun anew.
    style = replace(style or UploadStrategy(), chunk=0, monolithic_max=len(data), resumes=False)
    if session is None and len(data) <= style.single_post_max:
        try:
            session = yield from post_blob(access, data, descriptor.digest)
        except BrolgaError as error:
            if not is_transient(error):
                raise
        else:
            if session is None:
                return descriptor
    body = _AtHand(data)
    return (
        yield from upload_stream(
            access, body, lambda: descriptor, known=descriptor, session=session, style=style
        )
    )


@dataclass
class _AtHand:
    """A body of bytes that are at hand."""

    data: bytes
    bytes_read: int = 0
    replayable_from: int = 0
    ended: bool = False

    def retain_from(self, start: int | None) -> None:
        """Keep all of them anyway."""

    def blocks(self, start: int) -> tuple[bytes, ...]:
        self.bytes_read, self.ended = len(self.data), True
        return (self.data[start:],)
