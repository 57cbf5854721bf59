"""docs/places.md: the command does what each cell of the table says."""

from __future__ import annotations

import functools
import io
import os
import re
import shlex
import shutil
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.tars import tar

from brolga.cli.main import main
from brolga.client import Client
from brolga.errors import ImageNotFound, NotFound
from brolga.images import Image, ImageIndex
from brolga.images.validate import validate
from brolga.registry.server import running
from brolga.spec.digest import Digest
from brolga.spec.platform import DEFAULT_PLATFORM, Platform
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from brolga.images import Tree

DOCUMENT = Path(__file__).parents[2] / "docs" / "places.md"
KINDS = ("registry", "oci", "oci-archive", "docker-archive", "pipe")
ROW = re.compile(r"^\| ([a-z][^|]*) \| ([^|]*) \| ((?:(?:yes|no: \w+) ?\|? ?)+)\|$", re.MULTILINE)
REASON = re.compile(r"^- (\w+): ", re.MULTILINE)

# The command of each row. IMAGE, INDEX: an existing one. NEW: a new place. HOME, PATH: no name.
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
    "extract | REF": "extract IMAGE spare",
    "flatten | REF": "flatten IMAGE -t SPARE",
    "flatten | -t REF": "flatten --spool oci:made:image -t NEW",
    "flatten, in its place | REF": "flatten IMAGE",
    "index append | -m REF": "index append -m IMAGE -t SPARE",
    "index append | -t REF": "index append -m oci:made:image -t NEW",
    "index filter | REF": "index filter INDEX --platform linux -t SPARE",
    "index list | REF": "index list INDEX",
    "layer push | REPO": "layer push HOME layer.tar",
    "layer push | REPO:TAG": "layer push --spool NEW layer.tar",
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


USAGE = 2
# `no` is an error of usage (2), unless the place is not found (3) or is of another type (6).
CODES = {
    ("index append | -t REF", "docker-archive"): 6,
    ("layer push | REPO:TAG", "docker-archive"): 6,
    ("layout gc | DIR", "registry"): 3,
    ("layout gc | DIR", "oci-archive"): 3,
    ("layout gc | DIR", "docker-archive"): 3,
    ("layout gc | DIR", "pipe"): 3,
    ("push | PATH", "registry"): 3,
    ("validate | --tarball PATH", "registry"): 3,
}


# What the command of a row prints on stderr if it succeeds.
WARNINGS = {
    "layer push | REPO": "warning: no manifest names this layer, and a garbage collection of "
    "the registry may delete it; REPO:TAG keeps it\n",
}


class Done(NamedTuple):
    """The output of a command, and the values of its words."""

    out: bytes
    word: Callable[[str], str]
    client: Client

    def place(self, word: str) -> str:
        """Return the place that was written; output of a pipe is saved in a file."""
        place = self.word(word) if word.isupper() else word
        if not place.endswith("-"):
            return place
        Path("piped.tar").write_bytes(self.out)
        return f"{place.partition(':')[0]}:piped.tar"

    def tree(self, word: str) -> Tree:
        """Return the tree that was written, valid and with the printed digest."""
        place = self.place(word)
        tree = self.client.get(place, compress_layers=False)
        assert list(validate(tree)) == []
        if not place.startswith(("docker-archive:", "oci-archive:piped")):
            assert self.out.split()[-1].endswith(str(tree.digest).encode())
        return tree

    def image(self, word: str) -> Image:
        tree = self.tree(word)
        assert isinstance(tree, Image)
        return tree

    def made(self, name: str) -> Image:
        """Return an image that there was before."""
        return self.client.image(f"oci:made:{name}")


def is_copy(word: str) -> Callable[[Done], None]:
    """Compare what was written with the image; Docker's archives keep no manifest."""

    def check(done: Done) -> None:
        image, original = done.image(word), done.made("image")
        assert image.config_blob.descriptor.digest == original.config_blob.descriptor.digest
        names = done.word("IMAGE"), done.place(word), done.word("PATH")
        if not any("docker" in name or name == "-" for name in names):
            assert image.digest == original.digest

    return check


def has_layers(word: str, base: str, count: int) -> Callable[[Done], None]:
    """Expect `count` layers, the lowest of which are those of `base`."""

    def check(done: Done) -> None:
        copied = done.image(word).config.diff_ids
        below = done.made(base).config.diff_ids if base else ()
        assert len(copied) == count
        assert copied[: len(below)] == below

    return check


def has_label(word: str) -> Callable[[Done], None]:
    def check(done: Done) -> None:
        assert b'"a":"b"' in done.image(word).config.raw.replace(b" ", b"")

    return check


def is_index(word: str, count: int) -> Callable[[Done], None]:
    def check(done: Done) -> None:
        tree = done.tree(word)
        assert isinstance(tree, ImageIndex)
        assert len(tree.index.manifests) == count

    return check


def prints(what: Callable[[Done], bytes]) -> Callable[[Done], None]:
    def check(done: Done) -> None:
        assert what(done) in done.out

    return check


def _config(done: Done) -> bytes:
    return done.made("image").config.raw


def _manifest(done: Done) -> bytes:
    """Return the manifest of a place, and of an archive from a pipe that of the file."""
    place = done.word("IMAGE")
    place = "docker-archive:image.docker.tar" if place.endswith("-") else place
    return done.client.manifest(place).raw


def _blob(done: Done) -> None:
    assert str(Digest.of(done.out)) in done.word("BLOB")


def _referrers(done: Done) -> None:
    (copied,) = done.client.referrers(done.word("IMAGE"))
    assert copied.artifact_type == "a/b"


def _all_tags(done: Done) -> None:
    place = f"{done.word('NEWHOME')}:image"
    assert done.client.head(place).digest == done.made("image").digest


def _gone(done: Done) -> None:
    with pytest.raises((NotFound, ImageNotFound)):
        done.client.head(done.word("IMAGE"))


def _tagged(done: Done) -> None:
    home = done.word("IMAGE").removesuffix(":image")
    assert done.client.head(f"{home}:another").digest == done.made("image").digest


def _layer(done: Done) -> None:
    home, digest = done.word("HOME"), done.out.decode().split("@")[-1].strip()
    with done.client.blob(f"{home}@{digest}") as stream:
        assert sum(map(len, stream.blocks()))


def _stream(done: Done) -> None:
    done.tree("NEW")
    with done.client.pull_stream(done.place("NEW")) as stream:
        assert stream.read() == Path("layer.tar").read_bytes()


def _spare_tags(done: Done) -> None:
    copied = done.client.image("oci:spare:image")
    assert copied.config_blob.descriptor.digest == done.made("image").config_blob.descriptor.digest


# What the command of each row leaves if it succeeds.
RESULTS: dict[str, Callable[[Done], None]] = {
    "append | -b BASE": has_layers("SPARE", "image", 3),
    "append | -t REF": has_layers("NEW", "", 1),
    "attach | SUBJECT": _referrers,
    "blob | REPO@DIGEST": _blob,
    "catalog | REGISTRY": prints(lambda _: b"\n"),
    "config | REF": prints(_config),
    "copy | SRC": is_copy("SPARE"),
    "copy | DST": is_copy("NEW"),
    "copy --all-tags | SRC": _spare_tags,
    "copy --all-tags | DST": _all_tags,
    "copy --referrers | SRC": is_copy("SPARE"),
    "copy --referrers | DST": is_copy("NEW"),
    "delete | REF": _gone,
    "digest | REF": prints(lambda done: str(Digest.of(_manifest(done))).encode()),
    "explain | REPO": prints(lambda done: done.word("HOME").partition("/")[0].encode()),
    "export | REF": prints(lambda _: b"ustar"),
    "extract | REF": prints(lambda _: b"sha256:"),
    "flatten | REF": has_layers("SPARE", "", 1),
    "flatten | -t REF": has_layers("NEW", "", 1),
    "flatten, in its place | REF": has_layers("IMAGE", "", 1),
    "index append | -m REF": is_index("SPARE", 1),
    "index append | -t REF": is_index("NEW", 1),
    "index filter | REF": is_index("SPARE", 2),
    "index list | REF": prints(lambda _: b"linux/arm64"),
    "layer push | REPO": _layer,
    "layer push | REPO:TAG": _stream,
    "layout gc | DIR": prints(lambda _: b"deleted 0 blobs"),
    "ls | REPO": prints(lambda _: b"image\n"),
    "manifest | REF": prints(_manifest),
    "mutate | REF": has_label("SPARE"),
    "mutate | -t REF": has_label("NEW"),
    "mutate, in its place | REF": has_label("IMAGE"),
    "pull | REF": lambda done: is_copy("SPARE")(
        done._replace(word=lambda _: "docker-archive:spare.tar")
    ),
    "pull | PATH": is_copy("NEWPATH"),
    "push | PATH": is_copy("SPARE"),
    "push | REF": is_copy("NEW"),
    "rebase | REF": has_layers("SPARE", "other", 2),
    "rebase | -t REF": has_layers("NEW", "other", 2),
    "referrers | REF": lambda _: None,  # the list is empty; `attach` has one
    "tag | REF": _tagged,
    "validate | --remote REF": prints(lambda _: b"PASS: "),
    "validate | --tarball PATH": prints(lambda _: b"PASS: "),
}


class Cell(NamedTuple):
    """A row, a kind of place, and the text of the cell."""

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
    """Enter a directory with a copy of `made`."""
    directory = tmp_path / "here"
    shutil.copytree(made, directory)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def words(here: Path, address: str, request: pytest.FixtureRequest) -> Callable[[str, str], str]:
    """Return the value of a word in a command for a kind of place."""
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
                "docker-archive:new.tar",
                "docker-archive:-",
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


class Outcome(NamedTuple):
    """How a command ended."""

    code: object
    out: bytes
    err: str


@contextmanager
def pipe_with(data: bytes) -> Iterator[int]:
    """Give the read end of a pipe with bytes; not all of them need be read."""
    end, other = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(other, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    yield end
    thread.join()


@contextmanager
def pipe_into(collected: list[bytes]) -> Iterator[int]:
    """Give the write end of a pipe, and collect its bytes."""
    other, end = os.pipe()

    def take() -> None:
        with os.fdopen(other, "rb") as file:
            collected.append(file.read())

    thread = threading.Thread(target=take)
    thread.start()
    yield end
    thread.join()


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[list[str], bytes], Outcome]]:
    """Run the command in this process with pipes for stdin and stdout."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def run(arguments: list[str], data: bytes) -> Outcome:
        collected: list[bytes] = []
        code: object = 0
        with (
            monkeypatch.context() as patched,
            pipe_into(collected) as out,
            pipe_with(data) as source,
        ):
            patched.setattr(sys, "argv", ["brolga", *arguments])
            with (
                io.TextIOWrapper(os.fdopen(source, "rb")) as stdin,
                io.TextIOWrapper(os.fdopen(out, "wb")) as stdout,
            ):
                patched.setattr(sys, "stdin", stdin)
                patched.setattr(sys, "stdout", stdout)
                try:
                    main()
                except SystemExit as end:
                    code = end.code
        return Outcome(code, collected[0], capsys.readouterr().err)

    yield run
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_table_rows_match_the_commands_and_reasons() -> None:
    """The table, this test and the list below the table belong together."""
    assert [*dict.fromkeys(cell.row for cell in cells())] == list(COMMANDS) == list(RESULTS)
    given = {cell.says.removeprefix("no: ") for cell in cells() if cell.says != "yes"}
    assert given == set(REASON.findall(DOCUMENT.read_text()))


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: f"{cell.row}-{cell.kind}")
def test_table_cell_is_what_the_command_does(
    cell: Cell,
    here: Path,
    words: Callable[[str, str], str],
    run: Callable[[list[str], bytes], Outcome],
) -> None:
    """`yes`: the result is there. `no`: the error has the exit code of its reason."""
    template = COMMANDS[cell.row]
    word = functools.cache(lambda word: words(word, cell.kind))
    command = WORDS.sub(lambda match: word(match[0]), template)
    # What comes down the pipe is of the form that its place names.
    archive = "index.oci.tar" if "INDEX" in template else "image.docker.tar"
    archive = "image.oci.tar" if "HOME" in template else archive
    outcome = run(shlex.split(command), (here / archive).read_bytes())
    if cell.says == "yes":
        assert (outcome.code, outcome.err) == (0, WARNINGS.get(cell.row, ""))
        with Client() as client:
            RESULTS[cell.row](Done(outcome.out, word, client))
    else:
        assert outcome.code == CODES.get((cell.row, cell.kind), USAGE), outcome
        assert outcome.err.startswith("brolga: ")
        assert "unexpected" not in outcome.err
