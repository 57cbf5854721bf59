"""`brolga auth`: log in and out; print credentials and tokens."""

import os
import sys
from typing import Final

import click

from brolga.auth import default_keychain, erase, save
from brolga.auth.entries import registry_from_key
from brolga.cli import options
from brolga.cli.click_ext import VerbGroup, examples
from brolga.cli.client_factory import (
    make_credentials,
    open_client,
    read_password,
)
from brolga.cli.output import eprint, print_result
from brolga.cli.params import split_items
from brolga.errors import CredentialsError, Denied, InvalidReference, Unauthorized
from brolga.protocol import Credentials
from brolga.spec.reference import Repository

_NOT_FOUND: Final = 3  # exit code
_MAX_NAME: Final = 4096  # bytes of a registry's name on stdin
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the name that goes with an identity token
_HELPER: Final = "docker-credential-"


@click.group("auth", cls=VerbGroup)
def command() -> None:
    """Log in to registries, and show credentials and tokens."""


@command.command(
    epilog=examples(
        "brolga auth login registry.example -u me",
        "pass show registry | brolga auth login registry.example -u me --password-stdin",
    )
)
@click.argument("registry")
@click.option("-u", "--username", required=True, metavar="NAME", help="Who logs in.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from the first line of stdin; default: ask for it in the terminal.",
)
@options.transport
def login(
    *, registry: str, username: str, password_stdin: bool, connection: options.ConnectionOptions
) -> None:
    """Check a name and a password with REGISTRY, and store them where docker does.

    They are stored in the credential helper that docker's config.json names, else in that file. If
    the registry refuses them, they are not stored. Prints nothing; stderr says where they are.
    """
    host = _host(registry)
    if not username or ":" in username:  # RFC 7617, section 2
        raise click.UsageError("--username: a name cannot have a colon")
    password = read_password() if password_stdin else _ask_password(username, host)
    credentials = make_credentials(username, password, "the login")
    try:
        with open_client(connection) as client:
            checked = client.registries.check_login(host, credentials)
    except (Unauthorized, Denied) as error:
        error.add_note(f"check the name and the password; nothing was stored for {host}")
        raise
    if not checked:
        eprint(f"warning: {host} lets everybody in: the password was not checked")
    origin = save(host, credentials)
    eprint(f"logged in to {host}: the credentials are in {origin}")
    if not origin.startswith(_HELPER):
        eprint(
            f"warning: {origin} keeps the password unencrypted; "
            'a credential helper would not: name one there as "credsStore"'
        )


def _ask_password(username: str, host: str) -> str:
    """Ask for the password in the terminal, without echo. Raises UsageError without a terminal."""
    import getpass

    if sys.stdin is None or sys.stdin.closed or not os.isatty(sys.stdin.fileno()):
        raise click.UsageError(
            "no terminal to ask for the password: pipe it in, with --password-stdin"
        )
    password = getpass.getpass(f"Password of {username} at {host}: ")
    if not password:
        raise click.UsageError("the password is empty")
    return password


@command.command()
@click.argument("registry")
def logout(*, registry: str) -> None:
    """Forget the credentials of REGISTRY, in docker's config.json and in its helper.

    It is not an error if nothing is stored. Prints nothing; stderr says what was done.
    """
    host = _host(registry)
    origin = erase(host)
    if origin is None:
        eprint(f"no credentials were stored for {host}")
    else:
        eprint(f"logged out of {host}: its credentials were in {origin}")


@command.command()
@click.argument("registry", metavar="[REGISTRY]", required=False)
def get(*, registry: str | None) -> None:
    """Print the credentials of REGISTRY, or of the registry that stdin names.

    They are the credentials that the other verbs use, in the format of a credential helper: a JSON
    object with ServerURL, Username and Secret. The output is secret. Without credentials,
    stdout says so, as helpers do, and the exit code is 3.
    """
    if registry is None:
        if sys.stdin is None or sys.stdin.closed or os.isatty(sys.stdin.fileno()):
            raise click.UsageError("name a registry, or write its name to stdin")
        registry = sys.stdin.buffer.read(_MAX_NAME).decode("utf-8", "replace").strip()
    credentials = default_keychain().find(Repository(_host(registry), "any"))
    if credentials is None:
        print_result("credentials not found in native keychain")  # docker looks for this text
        raise click.exceptions.Exit(_NOT_FOUND)
    print_result("", {"ServerURL": registry, **_helper_fields(credentials)}, as_json=True)


def _helper_fields(credentials: Credentials) -> dict[str, str]:
    """Return name and secret as a helper does (docker/docker-credential-helpers)."""
    if credentials.identity_token:
        return {"Username": _TOKEN_USER, "Secret": credentials.identity_token}
    if credentials.registry_token:
        raise CredentialsError(
            f"{credentials.source} has a bearer token, which is not a name and secret",
            hint="`brolga auth token -H` prints it",
        )
    return {"Username": credentials.username, "Secret": credentials.password}


@command.command(
    epilog=examples(
        'curl -H "$(brolga auth token -H registry.example/app)" https://registry.example/v2/app/tags/list'
    )
)
@click.argument("repo")
@click.option("--push", is_flag=True, help="A token that may push too.")
@click.option(
    "-m",
    "--mount",
    "mounts",
    multiple=True,
    callback=split_items,
    metavar="REPO",
    help="Another repository to pull from; repeatable.",
)
@click.option("-H", "--header", is_flag=True, help="Print the Authorization header instead.")
@options.connection
def token(
    *,
    repo: str,
    push: bool,
    mounts: list[str] | None,
    header: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Print a token for REPO, as a JSON object with `token`.

    With -H, print the whole header, which also works if a registry has no tokens: it contains the
    Basic credentials. The output is secret.
    """
    repository = Repository.parse(repo)
    others = [Repository.parse(other) for other in mounts or ()]
    with open_client(connection) as client:
        authorization = client.registries.authorization(
            repository, "pull,push" if push else "pull", *others
        )
    scheme, _, secret = authorization.partition(" ")
    if not authorization:
        raise click.ClickException(f"{repository.registry} asks for no credentials: no token")
    if not header and scheme != "Bearer":
        raise click.ClickException(
            f"{repository.registry} uses no tokens, only name and password; -H prints its header"
        )
    print_result(f"Authorization: {authorization}", {"token": secret}, as_json=not header)


def _host(name: str) -> str:
    """Return a registry's canonical name; docker's key for Docker Hub is valid too."""
    try:
        return Repository(registry_from_key(name), "any").registry
    except InvalidReference as error:
        raise click.UsageError(f"{error}; write registry.example or localhost:5000") from error
