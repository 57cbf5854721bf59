"""`brolga catalog`: list the repositories of a registry."""

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.output import print_lines, print_result


@verb("catalog")
@click.argument("registry")
@click.option("--full-ref", is_flag=True, help="Print REGISTRY/REPO.")
@options.json_output
@options.connection
def command(
    *, registry: str, full_ref: bool, as_json: bool, connection: options.ConnectionOptions
) -> None:
    """List the repositories of a registry.

    One per line, each page as soon as it comes, from docker's catalog API, which some registries
    lack. REGISTRY is HOST or HOST:PORT. With --json: registry, repositories.
    """
    with open_client(connection) as client:
        names = client.registries.catalog(registry)
        if as_json:
            print_result("", {"registry": registry, "repositories": list(names)}, as_json=True)
        else:
            print_lines(f"{registry}/{name}" if full_ref else name for name in names)
