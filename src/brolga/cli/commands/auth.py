"""`brolga auth`: logins, and what they give access to.

Knows flags, terminals, and credential helpers' words. Must not know how credentials are kept, or
how a registry checks them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verbs
from brolga.cli.client_factory import (
    Connection,
    given_credentials,
    open_client,
    password_from_stdin,
)
from brolga.cli.options import registry_flags, way_flags
from brolga.cli.output import result, say
from brolga.cli.params import items
from brolga.errors import CredentialsError, Denied, InvalidReference, Unauthorized

if TYPE_CHECKING:
    from brolga.protocol import Credentials

__all__ = ["command"]

_NOT_FOUND: Final = 3  # exit code
_MAX_NAME: Final = 4096  # bytes of a registry's name on stdin
_TOKEN_USER: Final = "<token>"  # noqa: S105 - says that the secret is an identity token
_HELPER: Final = "docker-credential-"

_LOGIN = """\b
Examples:
  brolga auth login registry.example -u me
  pass show registry | brolga auth login registry.example -u me --password-stdin
"""
_HEADER = """\b
Examples:
  curl -H "$(brolga auth token -H registry.example/app)" https://registry.example/v2/app/tags/list
"""


@click.group("auth", cls=Verbs)
def command() -> None:
    """Log in to registries, and show credentials and tokens."""


@command.command(epilog=_LOGIN)
@click.argument("registry")
@click.option("-u", "--username", required=True, metavar="NAME", help="Who logs in.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from the first line of stdin; default: ask for it in the terminal.",
)
@way_flags
def login(*, registry: str, username: str, password_stdin: bool, connection: Connection) -> None:
    """Check a name and a password with REGISTRY, and store them where docker does.

    That is the credential helper which docker's config.json names, else that file. What the
    registry refuses is not stored. Prints nothing; where they are stored is said on stderr.
    """
    from brolga.auth import save

    host = _host(registry)
    if not username or ":" in username:  # RFC 7617, section 2
        raise click.UsageError("--username: a name cannot have a colon")
    password = password_from_stdin() if password_stdin else _asked(username, host)
    credentials = given_credentials(username, password, "the login")
    try:
        with open_client(connection) as client:
            checked = client.registries.check_login(host, credentials)
    except (Unauthorized, Denied) as error:
        error.add_note(f"check the name and the password; nothing was stored for {host}")
        raise
    if not checked:
        say(f"warning: {host} lets everybody in: the password was not checked")
    where = save(host, credentials)
    say(f"logged in to {host}: the credentials are in {where}")
    if not where.startswith(_HELPER):
        say(
            f"warning: {where} keeps the password unencrypted; "
            'a credential helper would not: name one there as "credsStore"'
        )


def _asked(username: str, host: str) -> str:
    """Ask for the password in the terminal, without echo. Raises UsageError where there is none."""
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

    It is no error where there are none. Prints nothing; what was done is said on stderr.
    """
    from brolga.auth import erase

    host = _host(registry)
    where = erase(host)
    if where is None:
        say(f"there were no credentials for {host}")
    else:
        say(f"logged out of {host}: its credentials were in {where}")


@command.command()
@click.argument("registry", metavar="[REGISTRY]", required=False)
def get(*, registry: str | None) -> None:
    """Print the credentials of REGISTRY, or of the registry that stdin names.

    They are those that the other verbs would use, as a credential helper prints them: a JSON object
    with ServerURL, Username and Secret. It is a secret that is printed. Where there are none, it
    says so on stdout as helpers do, and the exit code is 3.
    """
    from brolga.auth import default_keychain
    from brolga.spec.reference import Repository

    name = _server() if registry is None else registry
    found = default_keychain().find(Repository(_host(name), "any"))
    if found is None:
        result("credentials not found in native keychain")  # what docker waits for
        raise click.exceptions.Exit(_NOT_FOUND)
    result("", {"ServerURL": name, **_pair(found)}, as_json=True)


def _server() -> str:
    """Return the registry that stdin names. Raises UsageError where nothing does."""
    if sys.stdin is None or sys.stdin.closed or os.isatty(sys.stdin.fileno()):
        raise click.UsageError("name a registry, or write its name to stdin")
    return sys.stdin.buffer.read(_MAX_NAME).decode("utf-8", "replace").strip()


def _pair(found: Credentials) -> dict[str, str]:
    """Return name and secret in a helper's words (docker/docker-credential-helpers)."""
    if found.identity_token:
        return {"Username": _TOKEN_USER, "Secret": found.identity_token}
    if found.registry_token:
        raise CredentialsError(
            f"{found.origin} has a bearer token, which is no name and secret; "
            "`brolga auth token -H` prints it"
        )
    return {"Username": found.username, "Secret": found.password}


@command.command(epilog=_HEADER)
@click.argument("repo")
@click.option("--push", is_flag=True, help="A token that may push too.")
@click.option(
    "-m",
    "--mount",
    "mounts",
    multiple=True,
    callback=items,
    metavar="REPO",
    help="Another repository to pull from; may come several times.",
)
@click.option("-H", "--header", is_flag=True, help="Print the Authorization header instead.")
@registry_flags
def token(
    *, repo: str, push: bool, mounts: list[str] | None, header: bool, connection: Connection
) -> None:
    """Print a token for REPO, as a JSON object with `token`.

    With -H the whole header, which a registry that knows no tokens has too: its Basic credentials.
    It is a secret that is printed.
    """
    from brolga.spec.reference import Repository

    repository = Repository.parse(repo)
    others = [Repository.parse(other) for other in mounts or ()]
    with open_client(connection) as client:
        said = client.registries.authorization(repository, "pull,push" if push else "pull", *others)
    scheme, _, secret = said.partition(" ")
    if not said:
        raise click.ClickException(f"{repository.registry} asks for no credentials: no token")
    if not header and scheme != "Bearer":
        raise click.ClickException(
            f"{repository.registry} uses no tokens, only name and password; -H prints its header"
        )
    result(f"Authorization: {said}", {"token": secret}, as_json=not header)


def _host(name: str) -> str:
    """Return a registry's canonical name; docker's key for Docker Hub is one. Raises UsageError."""
    from brolga.auth.entries import registry_from_key
    from brolga.spec.reference import Repository

    try:
        return Repository(registry_from_key(name), "any").registry
    except InvalidReference as error:
        raise click.UsageError(f"{error}; write registry.example or localhost:5000") from error
