"""--progress: what a terminal shows in the end, and what a log has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of, layer_of
from tests.screen import Screen, open_terminal
from tests.tars import tar

from brolga.client import Client
from brolga.images import Image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

DATA = tar("layer")
# Each verb that moves blobs, and how many it moves; its result is a line or goes to a file.
VERBS = {
    "append": ("append -f TAR -t REG/new:v1", 2),
    "blob": ("blob REG/app@LAYER -o OUT", 1),
    "copy": ("copy REG/app:v1 oci:OUT:v1", 2),
    "export": ("export REG/app:v1 OUT", 1),
    "extract": ("extract REG/app:v1 OUT", 1),
    "layer pull": ("layer pull --raw REG/app:v1 -o OUT", 1),
    "layer push": ("layer push REG/new TAR", 1),
    "pull": ("pull REG/app:v1 OUT", 2),
    "push": ("push oci:LAYOUT:v1 REG/new:v1", 2),
}


@pytest.fixture
def words(registry: EmbeddedRegistry, tmp_path: Path) -> dict[str, str]:
    """Push an image into the registry and a layout; return the words of arguments."""
    (tmp_path / "layer.tar").write_bytes(DATA)
    image = Image.empty().append(layer_of("layer"))
    with Client() as client:
        client.push(f"{registry.address}/app:v1", image)
        client.copy(f"{registry.address}/app:v1", f"oci:{tmp_path / 'layout'}:v1")
    return {
        "REG": registry.address,
        "LAYER": str(image.layers[0].descriptor.digest),
        "TAR": str(tmp_path / "layer.tar"),
        "OUT": str(tmp_path / "out"),
        "LAYOUT": str(tmp_path / "layout"),
    }


def arguments(line: str, words: dict[str, str]) -> list[str]:
    return [re.sub("[A-Z]{3,}", lambda word: words[word[0]], each) for each in line.split()]


@pytest.mark.parametrize("verb", VERBS)
def test_terminal_shows_summary_at_the_end(verb: str, words: dict[str, str]) -> None:
    """One line beside the result: what was drawn before is erased."""
    line, count = VERBS[verb]
    command = [sys.executable, "-m", "brolga", *arguments(line, words)]
    screen = Screen(200)
    with open_terminal(200) as (out, number):
        env = {**os.environ, "TERM": "xterm"}
        with subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as process:
            assert process.wait() == 0
        os.set_blocking(number, False)
        screen.write(os.read(number, 1 << 16).decode().replace("\r\n", "\n"))
    summary = next(text for text in screen.text.split("\n") if "blob" in text)
    assert summary.startswith(f"{count} blob")
    assert len(screen.text.split("\n")) <= (3 if verb == "layer push" else 2)


@pytest.mark.parametrize("verb", VERBS)
def test_log_has_summary(brolga: Brolga, verb: str, words: dict[str, str]) -> None:
    """`plain` needs no terminal; the default shows nothing without one."""
    line, count = VERBS[verb]
    outcome = brolga(*arguments(line, words), "--progress", "plain")
    assert outcome.code == 0
    assert f"\n{count} blob" in outcome.err
    assert outcome.err.isascii()
    assert "\x1b" not in outcome.err


def test_blob_shows_progress_beside_pipe(words: dict[str, str]) -> None:
    """Its bytes go to stdout alone."""
    with Client() as client:
        (layer,) = client.image(f"{words['REG']}/app:v1").layers
    command = [
        sys.executable,
        "-m",
        "brolga",
        "blob",
        f"{words['REG']}/app@{layer.descriptor.digest}",
    ]
    for flags, start in (([], b""), (["--progress", "plain"], b"\n1 blob: ")):
        done = subprocess.run([*command, *flags], check=True, capture_output=True)
        assert digest_of(done.stdout) == str(layer.descriptor.digest)
        assert start in done.stderr
        assert bool(start) is bool(done.stderr)


def test_blob_draws_nothing_on_terminal_that_shows_it(words: dict[str, str]) -> None:
    """The bytes would be torn."""
    with Client() as client:
        config = client.image(f"{words['REG']}/app:v1").config_blob.descriptor
    command = [sys.executable, "-m", "brolga", "blob", f"{words['REG']}/app@{config.digest}"]
    with open_terminal() as (out, number):
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
            assert process.wait() == 0
        os.set_blocking(number, False)
        shown = os.read(number, 1 << 16)
    assert shown.startswith(b"{")
    assert b"\x1b" not in shown
