"""Layouts and archives on this machine: arguments, checks before the work, and output."""

import os
import sys
from collections.abc import Mapping

import click

from brolga.cli.options import ConnectionOptions, UploadFlags
from brolga.cli.output import print_result
from brolga.errors import SourceError
from brolga.spec.digest import Digest
from brolga.spec.reference import Repository
from brolga.spec.value import replace
from brolga.stores.location import ImageRef, LocalRef, is_archive, is_pipe, parse_image_ref

_PREFIXES = ("oci:", "oci-archive:", "docker-archive:")


def parse_local_ref(text: str) -> LocalRef | None:
    """Return the place if the text has one of the prefixes, else None. Raises InvalidReference."""
    place = parse_image_ref(text) if text.startswith(_PREFIXES) else None
    return place if isinstance(place, LocalRef) else None


def archive_ref(file: str, name: ImageRef) -> LocalRef:
    """Return the docker archive that --output writes, with the name of the image in it.

    Raises UsageError if the name is not of a registry.
    """
    if isinstance(name, LocalRef):
        raise click.UsageError(f"--output: {name} is not the name of an image in a registry")
    return LocalRef("docker-archive", file, f"{name.repository}:{name.tag}" if name.tag else "")


def spool_beside(file: str | None, upload_opts: UploadFlags) -> UploadFlags:
    """Return the flags, with a spool beside the file that --output writes.

    A tar needs a layer's size before its bytes, and a stream's size is known only at its end. The
    file is on this disk anyway, so the spool needs no flag.
    """
    if file in {None, "-"} or upload_opts.spool is not False:
        return upload_opts
    return replace(upload_opts, spool=os.path.dirname(str(file)) or ".")  # noqa: PTH120 - a str


def parse_source_path(path: str) -> LocalRef:
    """Return the source of a push: a directory is a layout, anything else an archive."""
    is_directory = os.path.isdir(path)  # noqa: PTH112 - Path's raises if a parent is closed to us
    return parse_local_ref(path) or LocalRef("oci" if is_directory else "archive", path)


def check_source(place: ImageRef | Repository, connection: ConnectionOptions) -> None:
    """Raise UsageError or SourceError if the source is stdin, and stdin is not usable."""
    if is_pipe(place):
        check_stdin(connection)


def check_stdin(connection: ConnectionOptions) -> None:
    """Raise UsageError or SourceError if stdin cannot be a source."""
    if connection.password_stdin:
        raise click.UsageError("--password-stdin and - both want stdin: name a file")
    if sys.stdin is None or sys.stdin.closed:
        raise SourceError("stdin is closed")
    if os.isatty(sys.stdin.fileno()):
        raise click.UsageError("stdin is a terminal: pipe the bytes in, or name a file")


def check_target(place: ImageRef | Repository, *, as_json: bool = False) -> None:
    """Raise UsageError if the target is an archive that cannot be written."""
    if not (isinstance(place, LocalRef) and is_archive(place)):
        return
    if not place.is_pipe:
        check_output(place.path, "archive")
        return
    if as_json:
        raise click.UsageError("--json: stdout is for the archive, and nothing else")
    if sys.stdout is None:
        raise click.UsageError("stdout is closed")
    check_output("-", "archive")


def check_output(path: str, what: str) -> None:
    """Raise UsageError if `what` cannot be written to a file, or to stdout for `-`."""
    if path == "-":
        if sys.stdout is not None and sys.stdout.isatty():
            raise click.UsageError(
                f"stdout is a terminal: pipe the {what} into a program, or name a file"
            )
        return
    if os.path.isdir(path):  # noqa: PTH112 - Path's raises if a parent is closed to us
        raise click.UsageError(f"{path} is a directory, not a file")
    directory = os.path.dirname(path)  # noqa: PTH120 - as above
    if directory and not os.path.isdir(directory):  # noqa: PTH112 - as above
        raise click.UsageError(f"{path}: directory {directory} does not exist")


def print_ref(
    place: ImageRef,
    *,
    done: str,
    as_json: bool,
    more: Mapping[str, object] | None = None,
    digest: Digest | None = None,
) -> None:
    """Print the name by digest of an image that was written, unless it went to stdout.

    `done` is the participle for the error if printing fails; `more` is added to the JSON object.
    `digest` is the manifest's, which a docker archive does not keep.
    """
    if is_pipe(place):
        return
    digest = place.digest or digest
    fields = {"ref": str(place), "digest": str(digest) if digest else None, **(more or {})}
    print_result(str(place), fields, as_json=as_json, done=f"it was {done} anyway: {place}")
