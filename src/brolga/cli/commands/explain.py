"""`brolga explain`: how a repository would be pushed to, and why.

Knows flags, and how what was found is printed. Must not know how it is found.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from brolga.cli.click_ext import Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.options import Sending, json_flag, registry_flags, upload_flags
from brolga.cli.output import lines, result
from brolga.cli.upload_options import shown_size, wish_of
from brolga.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brolga.client.explain import Explanation

__all__ = ["command"]

_UNBOUNDED: Final = 1 << 40  # bytes: who takes so many at once takes all
# The backspace keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  brolga explain registry.example/team/app
  brolga explain --json --upload-style chunked:16MiB localhost:5000/team/app
"""


@click.command("explain", cls=Verb, epilog=_EXAMPLES)
@click.argument("repo")
@upload_flags
@json_flag
@registry_flags
def command(*, repo: str, sending: Sending, as_json: bool, connection: Connection) -> None:
    """Explain how brolga would push to a repository, and why.

    This is how a push with the same flags would go. The registry is asked, and nothing is changed.
    It says where the credentials come from, but never what they are.

    Prints a line for each thing. With --json: repository, url, tls, verified, authentication,
    credentials, profile, why, chunk (bytes; 0: one stream), smaller (bytes of a chunk after a 413;
    0: none), putMax (bytes: a blob of at most so many goes in one PUT), lastInPut, resumes,
    chosenBy, window (bytes), spool, mount, referrers.
    """
    from brolga.spec.reference import Repository

    repository = Repository.parse(repo)
    _, chosen_by = wish_of(sending, repository.registry)
    with open_client(connection, sending=sending) as client:
        found = client.registries.explain(repository)
    verified = found.tls and not connection.insecure
    if as_json:
        fields = {_camel(name): value for name, value in asdict(found).items()}
        more = {"verified": verified, "chosenBy": chosen_by or "auto"}
        kept = {"window": sending.window, "spool": sending.spool}
        result("", {**fields, **more, **kept}, as_json=True)
        return
    rows = list(_rows(found, sending, chosen_by, verified=verified))
    width = max(len(name) for name, _ in rows)
    lines(f"{name:{width}}  {one_line(text)}" for name, text in rows)


def _camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(map(str.capitalize, more))


def _rows(
    found: Explanation, sending: Sending, chosen_by: str, *, verified: bool
) -> Iterator[tuple[str, str]]:
    """Yield what a reader wants to know, and what it is."""
    yield "repository", found.repository
    yield "address", found.url
    yield "TLS", "verified" if verified else "not verified" if found.tls else "none: plain http"
    yield "asks for", found.authentication
    yield "credentials", found.credentials
    yield "profile", f"{found.profile}: {found.why}"
    yield "uploads", f"{_style(found)} ({chosen_by or 'auto'})"
    yield "known blobs", _whole(found)
    yield "after a 413", f"chunks of {shown_size(found.smaller)}" if found.smaller else "given up"
    again = "a new session, from the first byte"
    asked = f"the session is asked how far it came; else {again}"
    yield "after a cut", asked if found.resumes else again
    yield "for that it keeps", _kept(sending)
    yield "mount", found.mount
    yield "referrers", found.referrers


def _style(found: Explanation) -> str:
    if not found.chunk:
        return "one streamed PATCH"
    last = ", the last one in the PUT" if found.last_in_put else ""
    return f"chunks of {shown_size(found.chunk)}{last}"


def _whole(found: Explanation) -> str:
    """Tell how a blob goes whose digest is known before, as one of another image."""
    if not found.put_max:
        return "the same"
    return (
        "one PUT" if found.put_max > _UNBOUNDED else f"one PUT, up to {shown_size(found.put_max)}"
    )


def _kept(sending: Sending) -> str:
    if sending.spool is False:
        if not sending.window:
            return "nothing"
        return f"the last {shown_size(sending.window)}, in memory"
    where = "where temporary files are" if sending.spool is True else f"in {sending.spool}"
    return f"all of it, in a file without a name {where}"
