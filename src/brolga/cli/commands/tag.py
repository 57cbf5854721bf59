"""`brolga tag`: give an image or index other tags."""

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.output import print_result
from brolga.stores.location import parse_image_ref, with_digest


@verb(
    "tag",
    "brolga tag localhost:5000/team/app:1 latest",
    "brolga tag localhost:5000/team/app:1.2.3 1.2 1 latest",
)
@click.argument("ref")
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@options.json_output
@options.connection
def command(
    *, ref: str, tags: tuple[str, ...], as_json: bool, connection: options.ConnectionOptions
) -> None:
    """Give an image or index other tags.

    TAG is only a tag, in the same repository. A tag that already exists is moved. A registry that
    supports it sets several tags by one request.

    Prints REPO@DIGEST. With --json: ref, tag (the first one), tags, digest.
    """
    source = parse_image_ref(ref)
    with open_client(connection) as client:
        tagged = client.tag(source, *tags)
    assert tagged.digest is not None  # noqa: S101 - a manifest was tagged
    full = str(with_digest(source, tagged.digest))
    fields = {"ref": full, "tag": tags[0], "tags": list(tags), "digest": str(tagged.digest)}
    print_result(full, fields, as_json=as_json, done=f"it was tagged anyway: {tagged}")
