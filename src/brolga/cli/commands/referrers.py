"""`brolga referrers`: what refers to an image or index.

Knows flags, and how a result is printed. Must not know how a registry is asked.
"""

from __future__ import annotations

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import json_flag, registry_flags
from brolga.cli.output import lines, result

__all__ = ["command"]


@click.command("referrers", cls=Verb)
@click.argument("ref")
@click.option("--artifact-type", metavar="TYPE", help="List only those of this type.")
@json_flag
@registry_flags
def command(*, ref: str, artifact_type: str | None, as_json: bool, connection: Connection) -> None:
    """List what refers to an image or index.

    These are signatures, SBOMs and attestations: digest and artifact type, one per line, from the
    referrers API or the fallback tag. With --json: as an index.
    """
    from brolga.spec.mediatypes import OCI_INDEX

    with open_client(connection) as client:
        found = client.referrers(ref, artifact_type or "")
    if as_json:
        entries = [one.to_dict() for one in found]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        result("", index, as_json=True)
    else:
        lines(f"{one.digest} {one.artifact_type}".rstrip() for one in found)
