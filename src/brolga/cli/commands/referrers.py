"""`brolga referrers`: list what refers to an image or index."""

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.output import print_lines, print_result
from brolga.spec.mediatypes import OCI_INDEX


@verb("referrers")
@click.argument("ref")
@click.option("--artifact-type", metavar="TYPE", help="List only those of this type.")
@options.json_output
@options.connection
def command(
    *, ref: str, artifact_type: str | None, as_json: bool, connection: options.ConnectionOptions
) -> None:
    """List what refers to an image or index.

    These are signatures, SBOMs and attestations: digest and artifact type, one per line, from the
    referrers API or the fallback tag. With --json: as an index.
    """
    with open_client(connection) as client:
        descriptors = client.referrers(ref, artifact_type or "")
    if as_json:
        entries = [descriptor.to_dict() for descriptor in descriptors]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        print_result("", index, as_json=True)
    else:
        print_lines(f"{each.digest} {each.artifact_type}".rstrip() for each in descriptors)
