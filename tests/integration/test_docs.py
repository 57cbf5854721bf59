"""Commands in the documents print what the documents show.

A fenced block marked `console` has commands behind `$ `, with their output below. `localhost:5000`
is the registry, empty at first. In output, `…` is any text within a line, and a line of `…` alone
any lines. `sha256:9f2c…` is any digest, the same one wherever a document has these letters. The
blocks of a document run in order, in a directory that has `app/`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.verbs import verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.registries import EmbeddedRegistry

ROOT = Path(__file__).parents[2]
REGISTRY = "localhost:5000"
FENCED = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
DIGEST = re.compile("sha256:([0-9a-f]+)…")
DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if FENCED.search(path.read_text())
]
PATIENCE_S = 60
A, B = f"sha256:{64 * 'a'}", f"sha256:{64 * 'b'}"


@dataclass(frozen=True)
class Example:
    """A command, the number of its line in the document, and the lines that it prints."""

    line: int
    command: str
    shown: list[str]


def examples(text: str) -> Iterator[Example]:
    """Give a document's examples; raise ValueError if a block does not begin with a command."""
    for block in FENCED.finditer(text):
        first = text.count("\n", 0, block.start()) + 2
        lines = iter(enumerate(block[1].splitlines(), first))
        example: Example | None = None
        for number, line in lines:
            if line.startswith("$ "):
                command = line.removeprefix("$ ")
                while command.endswith("\\"):
                    command += "\n" + next(lines)[1]
                if example:
                    yield example
                example = Example(number, command, [])
            elif example:
                example.shown.append(line)
            else:
                raise ValueError(f"line {number}: a command behind `$ ` is wanted")
        if example:
            yield example


def looks_like(shown: list[str], printed: str, known: dict[str, str]) -> bool:
    """Return whether output has the shape that the document shows.

    `known` maps letters to digests; new ones are added.
    """
    seen: set[str] = set()

    def digest(letters: str) -> str:
        if letters in known:
            return re.escape(known[letters])
        if letters in seen:
            return f"(?P=d{letters})"
        seen.add(letters)
        return f"(?P<d{letters}>sha256:[0-9a-f]{{64}})"

    def pattern(line: str) -> str:
        if line == "…":
            return r"(?:.*\n)*"
        # Every second part is a digest's letters.
        parts = enumerate(DIGEST.split(line))
        return (
            "".join(
                digest(part) if odd % 2 else ".*".join(map(re.escape, part.split("…")))
                for odd, part in parts
            )
            + r"\n"
        )

    match = re.fullmatch("".join(map(pattern, shown)), printed)
    if match:
        known |= {letters: match[f"d{letters}"] for letters in seen}
    return match is not None


@pytest.fixture
def shell(
    tmp_path: Path, registry: EmbeddedRegistry
) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a command in a shell, with stdout and stderr in one, as a terminal shows them."""
    programs, home = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    (home / "app").mkdir(parents=True)
    (home / "app" / "hello.txt").write_text("hello\n")
    program = programs / "brolga"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m brolga "$@"\n')
    program.chmod(0o755)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command.replace(REGISTRY, registry.address)],
            check=False,
            cwd=home,
            env=os.environ
            | {
                "PATH": f"{programs}:{os.environ['PATH']}",
                # No credentials of the user are found, and none are left.
                "HOME": str(home),
                "DOCKER_CONFIG": str(home / ".docker"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )

    return run


def check(
    text: str, shell: Callable[[str], subprocess.CompletedProcess[str]], address: str
) -> None:
    """Run a document's examples; fail with the line of the first that prints something else."""
    known: dict[str, str] = {}
    for example in examples(text):
        done = shell(DIGEST.sub(lambda match: known[match[1]], example.command))
        printed = done.stdout.replace(address, REGISTRY)
        fails = any(line.startswith("brolga: ") for line in example.shown)
        if not looks_like(example.shown, printed, known) or fails is (done.returncode == 0):
            pytest.fail(
                f"line {example.line}: $ {example.command}\n"
                f"printed, with exit code {done.returncode}:\n{printed}"
            )


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_console_examples_print_what_the_document_shows(
    document: str,
    shell: Callable[[str], subprocess.CompletedProcess[str]],
    registry: EmbeddedRegistry,
) -> None:
    """A reader can copy a command, and gets the output below it."""
    check((ROOT / document).read_text(), shell, registry.address)


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")
@pytest.mark.parametrize("document", ["docs/images.md", "docs/pull.md"])
def test_python_examples_print_their_comments(
    document: str,
    shell: Callable[[str], subprocess.CompletedProcess[str]],
    registry: EmbeddedRegistry,
) -> None:
    """The blocks marked `python` are one program; `print(…)  # …` shows what it prints."""
    code = "".join(PYTHON.findall((ROOT / document).read_text()))
    done = shell(f"{shlex.quote(sys.executable)} -W error - <<'.'\n{code}.\n")
    printed = done.stdout.replace(registry.address, REGISTRY)
    assert done.returncode == 0, printed
    assert looks_like(PRINTED.findall(code), printed, {}), printed


# It runs until it is ended: test_server.py and demo.py do that.
RUNS_ON = "registry serve"


@pytest.mark.parametrize("verb", [*verbs()])
def test_cli_document_shows_each_verb(verb: str) -> None:
    """A verb is in a heading, with the others of its group, and in an example that runs."""
    text = (ROOT / "docs/cli.md").read_text()
    group, _, name = verb.partition(" ")
    headings = [line for line in text.splitlines() if re.match(f"## .*brolga {group}\\b", line)]
    assert any(re.search(rf"\b{name}\b", line) for line in headings), verb
    if verb != RUNS_ON:
        commands = [example.command for example in examples(text)]
        assert any(f"brolga {verb}" in each for each in commands), verb


def test_documents_include_readme_and_cli() -> None:
    """A mistake in the fence would let all of them pass."""
    assert {"README.md", "docs/cli.md"} <= set(DOCUMENTS)


def test_examples_finds_commands_and_their_lines() -> None:
    """Several in a block, commands over two lines, and blocks of another kind."""
    text = (
        "# Title\n\n```sh\n$ not this\n```\n\n"
        "```console\n$ one \\\n  more\n$ two\na\n\nb\n```\n"
        "```console\n$ three\n```\n```console\n```\n"
    )
    assert list(examples(text)) == [
        Example(8, "one \\\n  more", []),
        Example(10, "two", ["a", "", "b"]),
        Example(16, "three", []),
    ]
    with pytest.raises(ValueError, match="line 2: a command"):
        list(examples("```console\nbrolga version\n```\n"))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ([], "", True),
        ([], "x\n", False),
        (["a"], "a\n", True),
        (["a"], "a\nb\n", False),
        (["a", "b"], "a\n", False),
        (["a.c"], "abc\n", False),
        (["x@sha256:9f…"], f"x@{A}\n", True),
        (["x@sha256:9f…"], f"y@{A}\n", False),
        (["x@sha256:9f…"], "x@sha256:9fee\n", False),
        (["sha256:9f… sha256:9f…"], f"{A} {A}\n", True),
        (["sha256:9f…", "sha256:9f…"], f"{A}\n{B}\n", False),
        (["sha256:9f… sha256:51…"], f"{A} {B}\n", True),
        (["sha256:00…"], f"{A}\n", True),
        (["sha256:00…"], f"{B}\n", False),
        (["size …, end"], "size 12, end\n", True),
        (["size …"], "size\nb\n", False),
        (["a", "…", "d"], "a\nb\nc\nd\n", True),
        (["a", "…", "d"], "a\nd\n", True),
        (["…"], "", True),
    ],
)
def test_looks_like_compares_text_with_ellipses(shown: list[str], printed: str, same: bool) -> None:
    """`…` is any text within a line; alone, any lines; a short digest is one digest."""
    assert looks_like(shown, printed, {"00": A}) is same


def test_check_expands_a_short_digest_in_a_command(
    shell: Callable[[str], subprocess.CompletedProcess[str]], registry: EmbeddedRegistry
) -> None:
    """A document shows a digest short; the command gets all of it."""
    block = f"$ echo {A}\nsha256:9f…\n$ echo x@sha256:9f…\nx@{A}"
    check(f"```console\n{block}\n```\n", shell, registry.address)


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ("$ echo a\nb", "line 2"),
        (
            "$ echo a\na\n$ echo 'brolga: no'\nbrolga: no",
            "line 4",
        ),  # shown as an error, but the exit code is 0
        ("$ echo a; false\na", "line 2"),  # fails, but is not shown as an error
    ],
)
def test_check_fails_if_an_example_prints_something_else(
    block: str,
    line: str,
    shell: Callable[[str], subprocess.CompletedProcess[str]],
    registry: EmbeddedRegistry,
) -> None:
    """The failure names the line in the document."""
    with pytest.raises(pytest.fail.Exception, match=f"^{line}: "):
        check(f"```console\n{block}\n```\n", shell, registry.address)
