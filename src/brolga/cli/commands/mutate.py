"""`brolga mutate`: change labels, environment, command and more of an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from brolga.cli import options
from brolga.cli.click_ext import MAY_BE_EMPTY, verb
from brolga.cli.client_factory import open_client
from brolga.cli.local_paths import archive_ref, check_target, spool_beside
from brolga.cli.mutation import check_clock, expected_digest, get_tree, push_and_print, result_ref
from brolga.cli.params import Parsed, parse_image_platform, parse_pairs, split_items, split_names
from brolga.cli.source import refuse_compressed, stream_layer
from brolga.images import ImageIndex, Tree
from brolga.spec.reference import Repository
from brolga.spec.value import Value, as_dict
from brolga.stores.location import ImageRef, parse_image_ref

if TYPE_CHECKING:
    from brolga.spec.blob import Layer
    from brolga.spec.config import ImageConfig
    from brolga.spec.platform import Platform


class _Changes(Value):
    """Changes of a config: None leaves a field, an empty value removes it."""

    labels: dict[str, str]
    env: dict[str, str]
    entrypoint: list[str] | None
    cmd: list[str] | None
    user: str | None
    workdir: str | None
    exposed_ports: list[str] | None
    set_platform: Platform | None

    @property
    def is_empty(self) -> bool:
        return all(value in (None, {}) for value in as_dict(self).values())

    def apply(self, config: ImageConfig) -> ImageConfig:
        """Return the config with the changes."""
        changes: dict[str, Any] = {}
        if self.labels:
            changes["Labels"] = {**(config.config.get("Labels") or {}), **self.labels}
        if self.env:
            changes["Env"] = _environment(config, self.env)
        if self.entrypoint is not None:
            # As docker does: the old command has arguments for the old entrypoint.
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


def _environment(config: ImageConfig, changes: dict[str, str]) -> list[str]:
    """Return the variables: existing ones in their order, then new ones."""
    new = dict(changes)
    variables = []
    for variable in config.config.get("Env") or ():
        name = variable.partition("=")[0]
        variables.append(f"{name}={new.pop(name)}" if name in new else variable)
    # On Windows, names are not case-sensitive; docker writes them in upper case.
    is_upper = config.platform.os == "windows"
    return variables + [f"{name.upper() if is_upper else name}={new[name]}" for name in new]


_list_option = partial(click.option, multiple=True, callback=split_items, type=MAY_BE_EMPTY)


@verb(
    "mutate",
    "brolga mutate -l version=1.2 -e DEBUG=1 registry.example/app:v1",
    "brolga mutate --entrypoint /bin/app,--serve -t localhost:5000/app:v2 localhost:5000/app:v1",
)
@click.argument("ref")
@click.option(
    "-l",
    "--label",
    "labels",
    multiple=True,
    callback=parse_pairs,
    metavar="KEY=VALUE",
    help="A label to set; repeatable, as are the flags down to --append.",
)
@options.annotation(
    help="An annotation to set in the manifest; the only change that an index takes."
)
@click.option(
    "-e",
    "--env",
    multiple=True,
    callback=parse_pairs,
    metavar="NAME=VALUE",
    help="An environment variable to set.",
)
@_list_option(
    "--entrypoint",
    metavar="ARG,ARG",
    help="The new entrypoint; removes the command, as docker does.",
)
@_list_option("--cmd", metavar="ARG,ARG", help="The new command.")
@_list_option("--exposed-ports", metavar="PORT,PORT", help="The new exposed ports, such as 80/tcp.")
@click.option(
    "--append",
    multiple=True,
    callback=split_names,
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
    type=Parsed(parse_image_platform),
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
@options.tag
@options.platform
@options.upload
@options.json_output
@options.connection_without_u
def command(  # noqa: PLR0913 - the flags of the verb
    *,
    ref: str,
    annotations: dict[str, str],
    append: list[str],
    repo: str | None,
    output: str | None,
    tag: str | None,
    platform: Platform | None,
    upload_opts: options.UploadFlags,
    as_json: bool,
    connection: options.ConnectionOptions,
    **config: Any,  # noqa: ANN401 - the fields of _Changes
) -> None:
    """Change labels, environment, command and more of an image.

    If REF is an index, --platform chooses the image, or -a changes the index itself. An empty value
    removes what the image has: --entrypoint "". Without --tag, --repo and --output, the result
    replaces REF.

    Prints REPO@DIGEST. With --json: ref, digest, mediaType, size (bytes).
    """
    if tag is not None and repo is not None:
        raise click.UsageError("--repo pushes by digest: give --repo or --tag, not both")
    if output is not None and repo is not None:
        raise click.UsageError("give --repo or --output, not both")
    check_clock()
    source = parse_image_ref(ref)
    if output is not None:
        target: ImageRef | Repository = archive_ref(
            output, source if tag is None else parse_image_ref(tag)
        )
    else:
        target = result_ref(source, tag) if repo is None else Repository.parse(repo)
    check_target(target, as_json=as_json)
    changes = _Changes(**config)
    layers = _layers(append, connection)
    upload_opts = spool_beside(output, upload_opts)
    with open_client(connection, target=target, upload_opts=upload_opts) as client:
        tree = get_tree(client, source, platform, in_place=target == source)
        mutated = _mutate(tree, changes, annotations, layers, source)
        expected = expected_digest(target, source, tree)
        push_and_print(client, target, mutated, as_json=as_json, expected=expected)


def _layers(sources: Sequence[str], connection: options.ConnectionOptions) -> list[Layer]:
    if sources.count("-") > 1:
        raise click.UsageError("--append -: stdin can be only one SOURCE")
    layer_opts = options.LayerOptions(compression="gzip")
    layers: list[Layer] = []
    for name in sources:
        layers.append(
            stream_layer(name, layer_opts, connection, "brolga mutate --append - …", tar=True)
        )
        refuse_compressed(name)
    return layers


def _mutate(
    tree: Tree,
    changes: _Changes,
    annotations: dict[str, str],
    layers: Sequence[Layer],
    source: ImageRef,
) -> Tree:
    """Return the tree with all changes. Raises UsageError if an index cannot have them."""
    if isinstance(tree, ImageIndex):
        if layers or not changes.is_empty:
            raise click.UsageError(
                f"{source} is an index: choose one of its images with --platform; "
                "an index itself takes only --annotation"
            )
        return tree.with_annotations(annotations)
    # Without changes, the config is not read: an artifact has none.
    image = tree if changes.is_empty else tree.mutate_config(changes.apply)
    if layers:
        image = image.append(*layers, created_by="brolga mutate")
    return image.with_annotations(annotations)
