"""The names of whiteouts (image-spec layer.md, Whiteouts)."""

from __future__ import annotations

from typing import Final

from brolga.errors import LayerError
from brolga.spec.value import Value
from brolga.tar.reader import printable_name as printable

_WHITEOUT: Final = b".wh."
# Other names with this prefix were private files of aufs, which had this format first. They have no
# meaning in layers.
_AUFS: Final = b".wh..wh."
_OPAQUE: Final = b".wh..wh..opq"


class Whiteout(Value):
    """What an entry hides of the layers below: a path, all that is in `directory`, or nothing."""

    directory: bytes
    hidden: bytes | None = None
    is_opaque: bool = False


def parse_whiteout(path: bytes) -> Whiteout | None:
    """Return the whiteout that a path is, or None. Raises LayerError if it is not a valid one."""
    if _WHITEOUT not in path:
        return None
    *parents, name = path.split(b"/")
    directory = b"/".join(parents)
    if any(part.startswith(_AUFS) for part in parents):
        return Whiteout(directory)
    if any(part.startswith(_WHITEOUT) for part in parents):
        raise LayerError(f"{printable(path)} is below a whiteout, which is not a directory")
    if not name.startswith(_WHITEOUT):
        return None
    if name.startswith(_AUFS):
        return Whiteout(directory, is_opaque=name == _OPAQUE)
    hidden = name.removeprefix(_WHITEOUT)
    if hidden in {b"", b".", b".."}:
        raise LayerError(f"the whiteout {printable(path)} names nothing")
    return Whiteout(directory, b"/".join([*parents, hidden]))
