"""`brolga ls`: the tags of a repository.

Knows flags, and how a result is printed. Must not know how a registry is asked.
"""

from __future__ import annotations

import re
from typing import Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import check_source
from brolga.cli.options import json_flag, registry_flags
from brolga.cli.output import lines, result

__all__ = ["command"]

# What stands in for the referrers API (distribution-spec, Referrers Tag Schema), and cosign's.
_DIGEST_TAG: Final = re.compile("sha(256|384|512)-")


@click.command("ls", cls=Verb)
@click.argument("repo")
@click.option("--full-ref", is_flag=True, help="Print REPO:TAG.")
@click.option(
    "-O", "--omit-digest-tags", is_flag=True, help="Leave out tags made from digests: sha256-…"
)
@json_flag
@registry_flags
def command(
    *, repo: str, full_ref: bool, omit_digest_tags: bool, as_json: bool, connection: Connection
) -> None:
    """List the tags of a repository.

    One per line, in the registry's order, each page as soon as it comes. With --json: repository,
    tags.
    """
    from brolga.stores.location import parse_repository_ref

    home = parse_repository_ref(repo)
    check_source(home, connection)
    with open_client(connection) as client:
        tags = client.iter_tags(home)
        if omit_digest_tags:
            tags = (tag for tag in tags if not _DIGEST_TAG.match(tag))
        if as_json:
            result("", {"repository": str(home), "tags": list(tags)}, as_json=True)
        else:
            lines(f"{home}:{tag}" if full_ref else tag for tag in tags)
