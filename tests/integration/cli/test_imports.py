"""Which modules a verb loads: each takes a tenth of a millisecond or more of every start."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import push_image
from tests.tars import tar

from brolga.images import Image
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registries import EmbeddedRegistry

# Modules of ours, without `brolga.`; those of `transport` belong together.
COMMAND = "_lazy _version cli cli.click_ext cli.commands cli.main cli.output errors"
REGISTRY = (
    "auth auth.config_file auth.entries auth.keychain "
    "cli.client_factory cli.local_paths cli.options cli.params "
    "client client.client client.opener client.reading client.registries images "
    "protocol protocol.api_check protocol.auth protocol.auth_tokens protocol.http "
    "protocol.redirects protocol.responses protocol.retry protocol.urls "
    "spec spec.digest spec.mediatypes spec.reference spec.value "
    "stores stores.algorithm_hints stores.location stores.names stores.registry "
    "stream stream.worker transport"
)
HEAD = "protocol.manifests spec.descriptor spec.json"
MANIFEST = f"{HEAD} spec.index spec.manifest spec.platform"
UPLOAD = (
    "cli.config_file cli.source images.blobs images.described protocol.blobs "
    "protocol.upload protocol.upload.body protocol.upload.flow protocol.upload.journal "
    "protocol.upload.known_registries protocol.upload.machine protocol.upload.recovery "
    "protocol.upload.session protocol.upload.suspension "
    "spec.blob spec.descriptor spec.json stores.progress stores.upload_source stream.compression "
    "stream.iterables stream.layer stream.pipeline stream.replay stream.sources tar "
    "tar.completeness tar.reader"
)
EXTRACT = (
    "extract extract.attributes extract.content extract.directories extract.layer extract.layers "
    "extract.limits extract.names extract.openat2 extract.options extract.report "
    "extract.selection extract.state extract.tree images.blobs images.image images.index "
    "images.layer_notes images.layer_streams images.paths images.whiteout_names protocol.blobs "
    "spec.blob spec.config stores.blob_reader stores.progress stores.read_budget stores.store "
    "stream.compression stream.decompression stream.read_ahead tar tar.entries tar.reader"
)
LAYOUT = (
    "disk disk.directory disk.files disk.layout disk.partial images.blobs images.image "
    "images.index protocol.blobs spec.blob spec.config stores.blob_reader stores.fetching "
    "stores.layout stores.layout.files stores.layout.gc stores.layout.index stores.layout.layout "
    "stores.layout.reading stores.layout.writing stores.progress stores.push stores.read_budget "
    "stores.store"
)
EXPORT = (
    "images.blobs images.flatten images.hard_links images.hidden_files images.image images.index "
    "images.layer_notes images.layer_streams images.paths images.whiteout_names images.whiteouts "
    "protocol.blobs spec.blob spec.config stores.blob_reader stores.parts stores.progress "
    "stores.read_budget stores.store stream.compression stream.decompression stream.iterables "
    "stream.layer stream.pipeline stream.read_ahead stream.sources tar tar.completeness "
    "tar.entries tar.reader tar.writer"
)
# What takes long to load, and few verbs need.
HEAVY = (
    "anyio argparse asyncio backports bz2 concurrent csv ctypes decimal email hashlib "
    "importlib.metadata isal json logging lzma multiprocessing pathlib queue random secrets shutil "
    "sqlite3 ssl starlette subprocess tempfile tomllib typing_extensions unittest uvicorn zlib "
    "zlib_ng zoneinfo"
)
NETWORK = "dataclasses h11 ipaddress socket urllib.parse"

# The arguments, the modules of ours, and the heavy ones that are needed.
VERBS = {
    "version": (["version"], f"{COMMAND} cli.commands.version", ""),
    "digest": (
        ["digest", "{}/app:v1"],
        f"{COMMAND} {REGISTRY} {HEAD} cli.commands.digest",
        NETWORK,
    ),
    "ls": (
        ["ls", "{}/app"],
        f"{COMMAND} {REGISTRY} cli.commands.ls protocol.listing",
        f"{NETWORK} json",
    ),
    "manifest": (
        ["manifest", "{}/app:v1"],
        f"{COMMAND} {REGISTRY} {MANIFEST} cli.commands.manifest",
        f"{NETWORK} hashlib json",
    ),
    "export": (
        ["export", "{}/files"],
        f"{COMMAND} {REGISTRY} {MANIFEST} {EXPORT} cli.commands.export",
        # One arena of malloc for all threads, and what decompresses.
        f"{NETWORK} ctypes hashlib isal json queue zlib zlib_ng",
    ),
    "extract": (
        ["extract", "{}/files", "{directory}/root"],
        f"{COMMAND} {REGISTRY} {MANIFEST} {EXTRACT} cli.commands.extract",
        # openat2(2), the record of the extraction, and what decompresses.
        f"{NETWORK} ctypes hashlib isal json pathlib queue zlib zlib_ng",
    ),
    "pull": (
        ["pull", "{}/app:v1", "{directory}/layout/"],
        f"{COMMAND} {REGISTRY} {MANIFEST} {LAYOUT} cli.commands.pull",
        f"{NETWORK} ctypes hashlib json pathlib queue",
    ),
    "layer push": (
        ["layer", "push", "{}/empty"],
        f"{COMMAND} {REGISTRY} {UPLOAD} cli.commands.layer",
        # One arena of malloc for all threads, and what compresses.
        f"{NETWORK} ctypes hashlib isal queue zlib zlib_ng",
    ),
}

# As the entry point runs the command, and then writes what is loaded.
_RUN = """
import atexit, sys
path = sys.argv.pop(1)
atexit.register(lambda: open(path, "w").write("\\n".join(sys.modules)))
from brolga.cli.main import main
main()
"""


def _loaded(path: Path, code: str, *arguments: str) -> set[str]:
    """Return what is loaded at the end of a Python program, which gets the path as its first."""
    # Without the measurement of coverage, which loads much itself.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code, str(path), *arguments]
    subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return set(path.read_text().split())


@pytest.fixture
def _files(registry: EmbeddedRegistry) -> None:
    """Push an image whose layer is a tar."""
    image = Image.empty().append(StreamLayer([tar("a", "d/b")]))
    push_image(f"{registry.address}/files", image)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("verb", VERBS)
def test_verb_loads_nothing_that_it_does_not_need(
    verb: str, app: str, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    assert app.startswith(registry.address)
    arguments, own, heavy = VERBS[verb]
    arguments = [argument.format(registry.address, directory=tmp_path) for argument in arguments]
    loaded = _loaded(tmp_path / "modules", _RUN, *arguments)
    allowed = {"brolga", *(f"brolga.{name}" for name in own.split())}
    ours = {name for name in loaded if name.partition(".")[0] == "brolga"}
    assert {name for name in ours - allowed if not name.startswith("brolga.transport.")} == set()
    assert loaded & set(f"{HEAVY} {NETWORK}".split()) - set(heavy.split()) == set()


def test_import_of_brolga_loads_two_modules_of_ours(tmp_path: Path) -> None:
    """The command's and the library's users pay for what they use."""
    code = "import sys, brolga; open(sys.argv[1], 'w').write('\\n'.join(sys.modules))"
    loaded = _loaded(tmp_path / "modules", code)
    ours = {name for name in loaded if name.partition(".")[0] == "brolga"}
    assert ours == {"brolga", "brolga._lazy", "brolga._version"}
    assert loaded & {"typing", "re", "importlib.metadata", "dataclasses"} == set()
