"""`brolga tag`: another tag for what a name stands for.

Knows flags, and how a result is printed. Must not know how a registry is asked.
"""

from __future__ import annotations

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import json_flag, registry_flags
from brolga.cli.output import result

__all__ = ["command"]

# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  brolga tag localhost:5000/team/app:1 latest
"""


@click.command("tag", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref")
@click.argument("tag")
@json_flag
@registry_flags
def command(*, ref: str, tag: str, as_json: bool, connection: Connection) -> None:
    """Give an image or index another tag.

    TAG is only a tag, in the same repository. A tag that already exists is moved.

    Prints REPO@DIGEST. With --json: ref, tag, digest.
    """
    from brolga.stores.location import parse_image_ref, with_digest

    place = parse_image_ref(ref)
    with open_client(connection) as client:
        tagged = client.tag(place, tag)
    assert tagged.digest is not None  # noqa: S101 - a manifest was tagged
    full = str(with_digest(place, tagged.digest))
    fields = {"ref": full, "tag": tag, "digest": str(tagged.digest)}
    result(full, fields, as_json=as_json, done=f"it was tagged anyway: {tagged}")
