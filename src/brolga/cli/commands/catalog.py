"""`brolga catalog`: the repositories of a registry.

Knows flags, and how a result is printed. Must not know how a registry is asked.
"""

from __future__ import annotations

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import json_flag, registry_flags
from brolga.cli.output import lines, result

__all__ = ["command"]


@click.command("catalog", cls=Verb)
@click.argument("registry")
@click.option("--full-ref", is_flag=True, help="Print REGISTRY/REPO.")
@json_flag
@registry_flags
def command(*, registry: str, full_ref: bool, as_json: bool, connection: Connection) -> None:
    """List the repositories of a registry.

    One per line, each page as soon as it comes, from docker's catalog API, which not every registry
    has. REGISTRY is HOST or HOST:PORT. With --json: registry, repositories.
    """
    with open_client(connection) as client:
        names = client.registries.catalog(registry)
        if as_json:
            result("", {"registry": registry, "repositories": list(names)}, as_json=True)
        else:
            lines(f"{registry}/{name}" if full_ref else name for name in names)
