"""docs/places.md: each cell of its table is what the verb does."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.tars import tar

from brolga.cli import main
from brolga.client import Client
from brolga.descriptor import DEFAULT_PLATFORM, Platform
from brolga.images import Image, ImageIndex
from brolga.layer import StreamLayer
from brolga.server.running import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCUMENT = Path(__file__).parents[2] / "docs" / "places.md"
KINDS = ("registry", "oci", "oci-archive", "docker-archive", "pipe")
ROW = re.compile(r"^\| ([a-z][^|]*) \| ([^|]*) \| ((?:(?:yes|no: \w+) ?\|? ?)+)\|$", re.MULTILINE)
REASON = re.compile(r"^- (\w+): ", re.MULTILINE)

# Each row's command. IMAGE, INDEX: where one is. NEW: where one goes. HOME, PATH: without a name.
# SPARE: a new name in a layout. A name in lower case in front of it is a file of the test.
COMMANDS = {
    "append | -b BASE": "append -b IMAGE -f layer.tar -t SPARE",
    "append | -t REF": "append --spool -f layer.tar -t NEW",
    "attach | SUBJECT": "attach IMAGE layer.tar --artifact-type a/b",
    "blob | REPO@DIGEST": "blob BLOB",
    "catalog | REGISTRY": "catalog REGISTRY",
    "config | REF": "config IMAGE",
    "copy | SRC": "copy IMAGE SPARE",
    "copy | DST": "copy oci:made:image NEW",
    "copy --all-tags | SRC": "copy --all-tags HOME oci:spare",
    "copy --all-tags | DST": "copy --all-tags oci:one NEWHOME",
    "copy --referrers | SRC": "copy --referrers IMAGE SPARE",
    "copy --referrers | DST": "copy --referrers oci:made:image NEW",
    "delete | REF": "delete IMAGE",
    "digest | REF": "digest IMAGE",
    "explain | REPO": "explain HOME",
    "export | REF": "export IMAGE",
    "flatten | REF": "flatten IMAGE -t SPARE",
    "flatten | -t REF": "flatten --spool oci:made:image -t NEW",
    "flatten, in its place | REF": "flatten IMAGE",
    "index append | -m REF": "index append -m IMAGE -t SPARE",
    "index append | -t REF": "index append -m oci:made:image -t NEW",
    "index filter | REF": "index filter INDEX --platform linux -t SPARE",
    "index list | REF": "index list INDEX",
    "layer push | REPO": "layer push HOME layer.tar",
    "layout gc | DIR": "layout gc HOME",
    "ls | REPO": "ls HOME",
    "manifest | REF": "manifest IMAGE",
    "mutate | REF": "mutate IMAGE -l a=b -t SPARE",
    "mutate | -t REF": "mutate oci:made:image -l a=b -t NEW",
    "mutate, in its place | REF": "mutate IMAGE -l a=b",
    "pull | REF": "pull IMAGE spare.tar",
    "pull | PATH": "pull oci:made:image NEWPATH",
    "push | PATH": "push PATH SPARE",
    "push | REF": "push oci:made:image NEW",
    "rebase | REF": "rebase IMAGE --old_base oci:made:base --new_base oci:made:other -t SPARE",
    "rebase | -t REF": "rebase oci:made:image --old_base oci:made:base --new_base oci:made:other "
    "-t NEW",
    "referrers | REF": "referrers IMAGE",
    "tag | REF": "tag IMAGE another",
    "validate | --remote REF": "validate --remote IMAGE",
    "validate | --tarball PATH": "validate --tarball PATH",
}
WORDS = re.compile(r"\b(IMAGE|INDEX|NEW|HOME|NEWHOME|PATH|NEWPATH|SPARE|BLOB|REGISTRY)\b")


class Cell(NamedTuple):
    """A verb and its argument, the kind of a place, and what the table says of them."""

    row: str
    kind: str
    says: str


def cells() -> list[Cell]:
    """Return the cells of the table."""
    return [
        Cell(f"{row[1].strip()} | {row[2].strip()}", kind, says.strip())
        for row in ROW.finditer(DOCUMENT.read_text())
        for kind, says in zip(KINDS, row[3].strip().strip("|").split("|"), strict=True)
    ]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run one registry for all."""
    with running(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    """Make layouts and archives, of which each test has a copy."""
    root = tmp_path_factory.mktemp("made")
    (root / "layer.tar").write_bytes(tar("layer"))
    with Client() as client:
        base = Image.empty().append(StreamLayer([tar("base")]))
        client.push(f"oci:{root}/made:base", base)
        client.push(f"oci:{root}/made:other", Image.empty().append(StreamLayer([tar("o")])))
        image = client.image(f"oci:{root}/made:base").append(StreamLayer([tar("a")]))
        client.push(f"oci:{root}/made:image", image)
        arm = Image.empty(Platform("linux", "arm64")).append(StreamLayer([tar("arm")]))
        client.push(f"oci:{root}/made:arm", arm)
        index = ImageIndex.empty().append(image, DEFAULT_PLATFORM).append(arm)
        client.push(f"oci:{root}/made:index", index)
        for name in ("image", "index"):
            client.copy(f"oci:{root}/made:{name}", f"oci-archive:{root}/{name}.oci.tar:{name}")
        client.copy(f"oci:{root}/made:image", f"docker-archive:{root}/image.docker.tar:a:image")
        client.copy(f"oci:{root}/made:image", f"oci:{root}/one:image")
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a directory with a copy of what was made."""
    directory = tmp_path / "here"
    shutil.copytree(made, directory)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def words(here: Path, address: str, request: pytest.FixtureRequest) -> Callable[[str, str], str]:
    """Return what a word of a command is for a kind of place."""
    repository = f"{address}/{abs(hash(request.node.nodeid)):x}"
    with Client() as client:
        digest = client.image("oci:made:image").manifest.layers[0].digest

    def word(name: str, kind: str) -> str:
        if name in {"IMAGE", "INDEX", "HOME", "BLOB"} and kind == "registry":
            what = "index" if name == "INDEX" else "image"
            with Client() as client:
                client.copy(f"oci:made:{what}", f"{repository}:{what}")
        table = {
            "IMAGE": (
                f"{repository}:image",
                "oci:made:image",
                "oci-archive:image.oci.tar:image",
                "docker-archive:image.docker.tar:a:image",
                "docker-archive:-",
            ),
            "INDEX": (
                f"{repository}:index",
                "oci:made:index",
                "oci-archive:index.oci.tar:index",
                "docker-archive:image.docker.tar",
                "oci-archive:-",
            ),
            "HOME": (
                repository,
                "oci:made",
                "oci-archive:image.oci.tar",
                "docker-archive:image.docker.tar",
                "oci-archive:-",
            ),
            "PATH": (repository, "one", "image.oci.tar", "image.docker.tar", "-"),
            "NEW": (
                f"{repository}/new:v1",
                "oci:new:v1",
                "oci-archive:new.tar:v1",
                "docker-archive:new.tar:new:v1",
                "oci-archive:-",
            ),
            "NEWPATH": (
                f"{repository}/new:v1",
                "oci:new:v1",
                "oci-archive:new.tar",
                "new.tar",
                "-",
            ),
            "NEWHOME": (
                f"{repository}/new",
                "oci:new",
                "oci-archive:new.tar",
                "docker-archive:new.tar",
                "oci-archive:-",
            ),
            "SPARE": ("oci:spare:v1",) * 5,
            "BLOB": (
                f"{repository}@{digest}",
                f"oci:made@{digest}",
                f"oci-archive:image.oci.tar@{digest}",
                f"docker-archive:image.docker.tar@{digest}",
                f"oci-archive:-@{digest}",
            ),
            "REGISTRY": (address, "oci:made", "oci-archive:x", "docker-archive:x", "oci-archive:-"),
        }
        return table[name][KINDS.index(kind)]

    return word


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Callable[[list[str], bytes], tuple[object, str]]]:
    """Run the command in this process with bytes on stdin; return its code and what it says."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def run(arguments: list[str], data: bytes) -> tuple[object, str]:
        Path("stdin").write_bytes(data)
        with Path("stdin").open("rb") as file:
            monkeypatch.setattr(sys, "argv", ["brolga", *arguments])
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            code: object = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
        return code, capfdbinary.readouterr().err.decode()

    yield run
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_each_row_has_its_command_and_each_reason_its_line() -> None:
    """The table, this test and the list below the table belong together."""
    assert [*dict.fromkeys(cell.row for cell in cells())] == list(COMMANDS)
    given = {cell.says.removeprefix("no: ") for cell in cells() if cell.says != "yes"}
    assert given == set(REASON.findall(DOCUMENT.read_text()))


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: f"{cell.row}-{cell.kind}")
def test_a_cell_says_what_happens(
    cell: Cell,
    here: Path,
    words: Callable[[str, str], str],
    run: Callable[[list[str], bytes], tuple[object, str]],
) -> None:
    """`yes`: it is done. `no`: it is an error of usage (2), or of what is there (1, 3, 6)."""
    command = WORDS.sub(lambda match: words(match[0], cell.kind), COMMANDS[cell.row])
    archive = "index.oci.tar" if "INDEX" in COMMANDS[cell.row] else "image.docker.tar"
    data = (here / archive).read_bytes()
    code, said = run(shlex.split(command), data)
    if cell.says == "yes":
        assert (code, said) == (0, "")
    else:
        assert code in {1, 2, 3, 6}, said
        assert said.startswith("brolga: ")
        assert "unexpected" not in said
