"""`brolga explain`: explain how brolga would push to a repository."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from brolga.cli import options
from brolga.cli.click_ext import verb
from brolga.cli.client_factory import open_client
from brolga.cli.config_file import choose_upload_style
from brolga.cli.output import print_lines, print_result
from brolga.cli.params import format_size
from brolga.errors import one_line
from brolga.spec.reference import Repository
from brolga.spec.value import as_dict

if TYPE_CHECKING:
    from brolga.client.explain import Explanation

_UNBOUNDED: Final = 1 << 40  # bytes; a registry that accepts so many accepts any number


@verb(
    "explain",
    "brolga explain registry.example/team/app",
    "brolga explain --json --upload-style chunked:16MiB localhost:5000/team/app",
)
@click.argument("repo")
@options.upload
@options.json_output
@options.connection
def command(
    *,
    repo: str,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
) -> None:
    """Explain how brolga would push to a repository, and why.

    This describes a push with the same flags. The registry is asked, and nothing is changed. The
    origin of the credentials is shown, the credentials are not.

    Prints a line for each property. With --json: repository, url, tls, verified, authentication,
    credentials, profile, why, chunk (bytes; 0: one stream), smaller (bytes of a chunk after a 413;
    0: none), putMax (bytes: a blob of at most this size goes in one PUT), lastInPut, resumes,
    chosenBy, window (bytes), spool, mount, referrers.
    """
    repository = Repository.parse(repo)
    _, chosen_by = choose_upload_style(upload_opts.upload_style, repository.registry)
    with open_client(connection, upload_opts=upload_opts) as client:
        explanation = client.registries.explain(repository)
    verified = explanation.tls and not connection.insecure
    if as_json:
        fields = {_camel(name): value for name, value in as_dict(explanation).items()}
        more = {"verified": verified, "chosenBy": chosen_by or "auto"}
        kept = {"window": upload_opts.window, "spool": upload_opts.spool}
        print_result("", {**fields, **more, **kept}, as_json=True)
        return
    rows = list(_rows(explanation, upload_opts, chosen_by, verified=verified))
    width = max(len(name) for name, _ in rows)
    print_lines(f"{name:{width}}  {one_line(text)}" for name, text in rows)


def _camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(map(str.capitalize, more))


def _rows(
    explanation: Explanation, upload_opts: options.UploadFlags, chosen_by: str, *, verified: bool
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each line."""
    yield "repository", explanation.repository
    yield "address", explanation.url
    tls = "verified" if verified else "not verified"
    yield "TLS", tls if explanation.tls else "none: plain http"
    yield "asks for", explanation.authentication
    yield "credentials", explanation.credentials
    yield "profile", f"{explanation.profile}: {explanation.why}"
    yield "uploads", f"{_format_style(explanation)} ({chosen_by or 'auto'})"
    yield "known blobs", _format_known_blobs(explanation.put_max)
    smaller = explanation.smaller
    yield "after a 413", f"chunks of {format_size(smaller)}" if smaller else "given up"
    restart = "a new session, from the first byte"
    resume = f"the session is asked how far it came; else {restart}"
    yield "after a cut", resume if explanation.resumes else restart
    yield "buffer", _format_buffer(upload_opts)
    yield "mount", explanation.mount
    yield "referrers", explanation.referrers


def _format_style(explanation: Explanation) -> str:
    if not explanation.chunk:
        return "one streamed PATCH"
    last = ", the last one in the PUT" if explanation.last_in_put else ""
    return f"chunks of {format_size(explanation.chunk)}{last}"


def _format_known_blobs(put_max: int) -> str:
    """Describe the upload of a blob whose digest is known, such as a copied one."""
    if not put_max:
        return "the same"
    return "one PUT" if put_max > _UNBOUNDED else f"one PUT, up to {format_size(put_max)}"


def _format_buffer(upload_opts: options.UploadFlags) -> str:
    """Describe the buffer of an upload, from which it is sent again."""
    window, spool = upload_opts.window, upload_opts.spool
    if spool is False:
        return f"the last {format_size(window)}, in memory" if window else "nothing"
    directory = "the directory for temporary files" if spool is True else spool
    return f"all of it, in an unnamed file in {directory}"
