"""What the verbs share that read and write places on this machine.

Knows stdin and stdout as archives, bare paths, and how a place is printed. Must not know
registries, nor how a place is read.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from brolga.cli.output import result
from brolga.cli.source import check_stdin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brolga.cli.client_factory import Connection
    from brolga.cli.upload_options import Sending
    from brolga.spec.digest import Digest
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef, LocalRef

__all__ = [
    "archive_of",
    "as_path",
    "beside",
    "check_file",
    "check_source",
    "check_stdout",
    "check_target",
    "found",
    "told",
]

_PREFIXES = ("oci:", "oci-archive:", "docker-archive:")


def as_path(text: str) -> LocalRef | None:
    """Return the place that has one of the prefixes; None of a path without. Raises as parsing."""
    from brolga.stores.location import LocalRef, parse_image_ref

    place = parse_image_ref(text) if text.startswith(_PREFIXES) else None
    return place if isinstance(place, LocalRef) else None


def archive_of(file: str, name: ImageRef) -> LocalRef:
    """Return the docker archive that --output writes, in which an image has the name of a registry.

    Raises UsageError for the name of an image on this machine.
    """
    from brolga.stores.location import LocalRef

    if isinstance(name, LocalRef):
        raise click.UsageError(f"--output: {name} is not the name of an image in a registry")
    return LocalRef("docker-archive", file, f"{name.repository}:{name.tag}" if name.tag else "")


def beside(file: str | None, sending: Sending) -> Sending:
    """Return how uploads go out, with a spool beside the file that --output writes.

    A tar has a layer's size in front of it, and that of a stream shows only at its end. Where a
    file on this disk is wanted, what waits for that needs no word of its own.
    """
    if file in {None, "-"} or sending.spool is not False:
        return sending
    return replace(sending, spool=os.path.dirname(str(file)) or ".")  # noqa: PTH120 - a str


def found(path: str) -> LocalRef:
    """Return what is to be pushed: a directory is a layout, all else an archive of its own form."""
    from brolga.stores.location import LocalRef

    is_directory = os.path.isdir(path)  # noqa: PTH112 - Path's raises where a parent is closed to us
    return as_path(path) or LocalRef("oci" if is_directory else "archive", path)


def check_source(place: ImageRef | Repository, connection: Connection) -> None:
    """Raise UsageError or SourceError where stdin is wanted, and cannot be an archive."""
    from brolga.stores.location import is_pipe

    if is_pipe(place):
        check_stdin(connection)


def check_target(place: ImageRef | Repository, *, as_json: bool = False) -> None:
    """Raise UsageError where an archive is wanted, and cannot be written there."""
    from brolga.stores.location import LocalRef, is_archive

    if not (isinstance(place, LocalRef) and is_archive(place)):
        return
    if not place.is_pipe:
        check_file(place.path)
        return
    if as_json:
        raise click.UsageError("--json: stdout is for the archive, and nothing else")
    if sys.stdout is None:
        raise click.UsageError("stdout is closed")
    check_stdout("archive")


def check_stdout(what: str) -> None:
    """Raise UsageError where stdout is a terminal, which `what` is not for."""
    if sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(
            f"stdout is a terminal: pipe the {what} into a program, or name a file"
        )


def check_file(path: str) -> None:
    """Raise UsageError where there can be no file of this name."""
    if os.path.isdir(path):  # noqa: PTH112 - Path's raises where a parent is closed to us
        raise click.UsageError(f"{path} is a directory, not a file")
    directory = os.path.dirname(path)  # noqa: PTH120 - as above
    if directory and not os.path.isdir(directory):  # noqa: PTH112 - as above
        raise click.UsageError(f"{path}: there is no directory {directory}")


def told(
    place: ImageRef,
    *,
    done: str,
    as_json: bool,
    more: Mapping[str, object] | None = None,
    digest: Digest | None = None,
) -> None:
    """Print the name by digest of what was written; nothing where it went to stdout.

    `done` says what was done where it cannot be printed; `more` is what else its JSON object has.
    `digest` is the manifest's, which an archive of docker's does not keep.
    """
    from brolga.stores.location import is_pipe

    if is_pipe(place):
        return
    known = place.digest or digest
    fields = {"ref": str(place), "digest": str(known) if known else None, **(more or {})}
    result(str(place), fields, as_json=as_json, done=f"it was {done} anyway: {place}")
