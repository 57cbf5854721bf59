"""`brolga ls`: list the tags of a repository."""

import re
from typing import Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import check_source
from brolga.cli.output import print_lines, print_result
from brolga.stores.location import parse_repository_ref

# The fallback tags of the referrers API (distribution-spec, Referrers Tag Schema), and cosign's.
_DIGEST_TAG: Final = "sha(256|384|512)-"


@verb("ls")
@click.argument("repo")
@click.option("--full-ref", is_flag=True, help="Print REPO:TAG.")
@click.option(
    "-O", "--omit-digest-tags", is_flag=True, help="Leave out tags made from digests: sha256-…"
)
@options.json_output
@options.connection
def command(
    *,
    repo: str,
    full_ref: bool,
    omit_digest_tags: bool,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """List the tags of a repository.

    One per line, in the registry's order, each page as soon as it comes. With --json: repository,
    tags.
    """
    repository = parse_repository_ref(repo)
    check_source(repository, connection)
    with open_client(connection) as client:
        tags = client.iter_tags(repository)
        if omit_digest_tags:
            tags = (tag for tag in tags if not re.match(_DIGEST_TAG, tag))
        if as_json:
            print_result("", {"repository": str(repository), "tags": list(tags)}, as_json=True)
        else:
            print_lines(f"{repository}:{tag}" if full_ref else tag for tag in tags)
