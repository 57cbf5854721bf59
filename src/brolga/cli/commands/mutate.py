"""`brolga mutate`: labels, environment, command and more of an image in a registry.

Knows flags and what they mean for an image's config. Must not know manifests, or how an image is
pushed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from brolga.cli.click_ext import MAY_BE_EMPTY, Verb
from brolga.cli.client_factory import Connection, open_client
from brolga.cli.local_paths import archive_of, beside, check_target
from brolga.cli.mutation import check_clock, place, pushed, replaced, tag_flag, tree_of
from brolga.cli.options import (
    Making,
    Sending,
    json_flag,
    platform_flag,
    registry_flags_but_u,
    upload_flags,
)
from brolga.cli.params import WholePlatformType, items, names, pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brolga.images import Tree
    from brolga.spec.blob import Layer
    from brolga.spec.config import ImageConfig
    from brolga.spec.platform import Platform
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  brolga mutate -l version=1.2 -e DEBUG=1 registry.example/app:v1
  brolga mutate --entrypoint /bin/app,--serve -t localhost:5000/app:v2 localhost:5000/app:v1
"""


@dataclass(frozen=True)
class _Changes:
    """What the flags change in a config; None leaves it, an empty value takes it away."""

    labels: dict[str, str]
    env: dict[str, str]
    entrypoint: list[str] | None
    cmd: list[str] | None
    user: str | None
    workdir: str | None
    exposed_ports: list[str] | None
    set_platform: Platform | None

    @property
    def is_none(self) -> bool:
        return not any(getattr(self, field.name) not in (None, {}) for field in fields(self))

    def apply(self, config: ImageConfig) -> ImageConfig:
        """Return the config with the changes; it is called when the config is wanted."""
        changes: dict[str, Any] = {}
        if self.labels:
            changes["Labels"] = {**(config.config.get("Labels") or {}), **self.labels}
        if self.env:
            changes["Env"] = _environment(config, self.env)
        if self.entrypoint is not None:
            # As docker does: the old command is arguments for the old entrypoint.
            changes |= {"Entrypoint": self.entrypoint or None, "Cmd": None}
        if self.cmd is not None:
            changes["Cmd"] = self.cmd or None
        if self.user is not None:
            changes["User"] = self.user or None
        if self.workdir is not None:
            changes["WorkingDir"] = self.workdir or None
        if self.exposed_ports is not None:
            changes["ExposedPorts"] = {port: {} for port in self.exposed_ports} or None
        return config.replace(config=changes, platform=self.set_platform)


def _environment(config: ImageConfig, wanted: dict[str, str]) -> list[str]:
    """Return the variables: those that stay keep their order, new ones follow."""
    left = dict(wanted)
    kept = []
    for variable in config.config.get("Env") or ():
        name = variable.partition("=")[0]
        kept.append(f"{name}={left.pop(name)}" if name in left else variable)
    # Windows does not know names in two spellings; docker writes them in capitals.
    capitals = config.platform.os == "windows"
    return kept + [f"{name.upper() if capitals else name}={left[name]}" for name in left]


@click.command("mutate", cls=Verb, epilog=_EXAMPLES)
@click.argument("ref")
@click.option(
    "-l",
    "--label",
    "labels",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="A label to set; repeatable, as are the flags down to --append.",
)
@click.option(
    "-a",
    "--annotation",
    "annotations",
    multiple=True,
    callback=pairs,
    metavar="KEY=VALUE",
    help="An annotation to set in the manifest; the only change that an index takes.",
)
@click.option(
    "-e",
    "--env",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="An environment variable to set.",
)
@click.option(
    "--entrypoint",
    multiple=True,
    callback=items,
    metavar="ARG,ARG",
    type=MAY_BE_EMPTY,
    help="The new entrypoint; removes the command, as docker does.",
)
@click.option(
    "--cmd",
    multiple=True,
    callback=items,
    metavar="ARG,ARG",
    type=MAY_BE_EMPTY,
    help="The new command.",
)
@click.option(
    "--exposed-ports",
    multiple=True,
    callback=items,
    metavar="PORT,PORT",
    type=MAY_BE_EMPTY,
    help="The new exposed ports, such as 80/tcp.",
)
@click.option(
    "--append",
    multiple=True,
    callback=names,
    metavar="SOURCE",
    help="A tar file, or - for stdin, to add as a layer, compressed with gzip.",
)
@click.option(
    "-u",
    "--user",
    metavar="NAME",
    type=MAY_BE_EMPTY,
    help="The user to run as; --username is the registry's user.",
)
@click.option(
    "-w", "--workdir", metavar="DIR", type=MAY_BE_EMPTY, help="The new working directory."
)
@click.option(
    "--set-platform",
    type=WholePlatformType(),
    metavar="OS/ARCH[/VARIANT]",
    help="The new platform.",
)
@click.option("--repo", metavar="REPO", help="Push to this repository, by digest only.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the result to a docker archive instead, under its name; - for stdout.",
)
@tag_flag
@platform_flag
@upload_flags
@json_flag
@registry_flags_but_u
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    annotations: dict[str, str],
    append: list[str],
    repo: str | None,
    output: str | None,
    tag: str | None,
    platform: Platform | None,
    sending: Sending,
    as_json: bool,
    connection: Connection,
    **config: Any,  # noqa: ANN401 - the fields of _Changes
) -> None:
    """Change labels, environment, command and more of an image.

    If REF is an index, --platform chooses the image, or -a changes the index itself. An empty value
    removes what the image has: --entrypoint "". Without --tag, --repo and --output, the result
    replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    from brolga.stores.location import parse_image_ref, registry_of

    if tag is not None and repo is not None:
        raise click.UsageError("--repo pushes by digest: give --repo or --tag, not both")
    if output is not None and repo is not None:
        raise click.UsageError("give --repo or --output, not both")
    check_clock()
    source = parse_image_ref(ref)
    where = _where(source, tag, repo, output)
    check_target(where, as_json=as_json)
    changes = _Changes(**config)
    layers = _layers(append, connection)
    registry, sending = registry_of(where), beside(output, sending)
    with open_client(connection, registry=registry, sending=sending) as client:
        tree = tree_of(client, source, platform, in_place=where == source)
        changed = _changed(tree, changes, annotations, layers, source)
        expected = replaced(where, source, tree)
        pushed(client, where, changed, as_json=as_json, expected=expected)


def _where(
    source: ImageRef, tag: str | None, repo: str | None, output: str | None
) -> ImageRef | Repository:
    from brolga.spec.reference import Repository
    from brolga.stores.location import parse_image_ref

    if output is not None:
        return archive_of(output, source if tag is None else parse_image_ref(tag))
    return place(source, tag) if repo is None else Repository.parse(repo)


def _layers(sources: Sequence[str], connection: Connection) -> list[Layer]:
    from brolga.cli.source import refuse_compressed, stream_layer

    if sources.count("-") > 1:
        raise click.UsageError("--append -: stdin can be only one SOURCE")
    making = Making(compression="gzip", media_type=None, threads=None, progress="none")
    layers: list[Layer] = []
    for name in sources:
        layers.append(
            stream_layer(name, making, connection, "brolga mutate --append - …", tar=True)
        )
        refuse_compressed(name)
    return layers


def _changed(
    tree: Tree,
    changes: _Changes,
    annotations: dict[str, str],
    layers: Sequence[Layer],
    source: ImageRef,
) -> Tree:
    """Return the tree with all changes. Raises UsageError for those that an index cannot take."""
    from brolga.images import ImageIndex

    if isinstance(tree, ImageIndex):
        if layers or not changes.is_none:
            raise click.UsageError(
                f"{source} is an index: choose one of its images with --platform; "
                "an index itself takes only --annotation"
            )
        return tree.with_annotations(annotations)
    image = (
        tree if changes.is_none else tree.mutate_config(changes.apply)
    )  # an artifact has no config
    if layers:
        image = image.append(*layers, created_by="brolga mutate")
    return image.with_annotations(annotations)
