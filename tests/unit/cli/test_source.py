"""cli.source: what the user names as the bytes of a layer."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from typing import TYPE_CHECKING

import click
import pytest
from tests.tars import tar as write_tar

from brolga.cli.client_factory import Connection
from brolga.cli.options import Making
from brolga.cli.source import command_layer, refuse_compressed, stream_layer
from brolga.errors import CorruptBlob, SourceError
from brolga.stream.compression import codec_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONNECTION = Connection(
    insecure=False, ca_cert=None, client_cert=None, client_key=None, timeout=1.0
)
MAKING = Making(compression="zstd:7", media_type=None, threads=2, progress="none")
NONE = Making(compression="none", media_type=None, threads=None, progress="none")


def zstd(data: bytes) -> bytes:
    """Compress to one frame."""
    encode = codec_for("zstd").encode
    assert encode is not None
    return encode(data, b"")


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def test_the_layer_is_made_as_the_flags_say(tmp_path: Path) -> None:
    """Nothing is opened yet: the file need not be there."""
    layer = stream_layer(str(tmp_path / "missing"), MAKING, CONNECTION, "x", tar=None)
    assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert (layer._codec.level, layer._threads) == (7, 2)


def test_a_closed_stdin_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has none where it was closed at the start, and a closed one where it was later."""
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stdin in (None, closed):
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(SourceError, match="stdin is closed"):
            stream_layer("-", MAKING, CONNECTION, "x", tar=None)


def test_a_directory_says_how_it_becomes_a_stream(tmp_path: Path) -> None:
    """The line to copy ends with the verb that was called."""
    with pytest.raises(SourceError, match=f"tar -C {tmp_path} -c . | brolga append -f - …"):
        stream_layer(str(tmp_path), MAKING, CONNECTION, "brolga append -f - …", tar=True)


@pytest.mark.parametrize(("tar", "why"), [(None, "cut short"), (True, "cut short"), (False, "")])
def test_a_tar_that_is_cut_short_is_refused_unless_it_is_wanted_so(
    tmp_path: Path, tar: bool | None, why: str
) -> None:
    """`--tar`, `--no-tar`, or neither, as a `StreamLayer` has it."""
    file = tmp_path / "cut.tar"
    file.write_bytes(write_tar("a")[:512])
    layer = stream_layer(str(file), NONE, CONNECTION, "x", tar=tar)
    with layer.open() as stream:
        if why:
            with pytest.raises(CorruptBlob, match=why):
                stream.read()
        else:
            assert stream.read() == file.read_bytes()


def test_a_command_s_stdout_becomes_a_layer() -> None:
    """Made as the flags say; it runs when the layer is opened."""
    layer = command_layer(["printf", "some data"], NONE, CONNECTION, tar=None)
    assert layer.media_type == "application/vnd.oci.image.layer.v1.tar"
    with layer.open() as stream:
        assert stream.read() == b"some data"
    insisted = command_layer(["printf", "some data"], NONE, CONNECTION, tar=True)
    with (
        insisted.open() as stream,
        pytest.raises(CorruptBlob, match="the source is a tar cut short"),
    ):
        stream.read()


def test_no_command_is_usage() -> None:
    """`brolga layer push REPO --`."""
    with pytest.raises(click.UsageError, match="a COMMAND must follow --"):
        command_layer([], NONE, CONNECTION, tar=None)


@pytest.mark.parametrize("compression", ["lzma", "gzip:99"])
def test_a_compression_that_is_none_is_usage(compression: str) -> None:
    """Before the source is looked at."""
    making = Making(compression=compression, media_type=None, threads=None, progress="none")
    with pytest.raises(click.UsageError):
        stream_layer("/nowhere", making, CONNECTION, "x", tar=None)


@pytest.mark.parametrize("program", COMPRESSED)
def test_a_compressed_file_is_refused_with_the_program_that_undoes_it(
    program: str, tmp_path: Path
) -> None:
    """config.md: "A layer DiffID is the digest over the layer's uncompressed tar archive"."""
    file = tmp_path / "a file"
    file.write_bytes(COMPRESSED[program](b"data"))
    with pytest.raises(SourceError, match=f"use the output of `{program} -dc '{file}'`"):
        refuse_compressed(str(file))


@pytest.mark.parametrize("program", COMPRESSED)
def test_a_compressed_stdin_is_refused(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first bytes of the pipe tell."""
    end, start = os.pipe()
    os.write(start, COMPRESSED[program](b"data"))
    os.close(start)
    with os.fdopen(end) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(
            SourceError, match=f"stdin is already compressed.* output of `{program} -dc`"
        ):
            refuse_compressed("-")


def test_what_was_looked_at_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer begins with the first byte."""
    end, start = os.pipe()
    os.write(start, b"some data")
    os.close(start)
    with os.fdopen(end) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        refuse_compressed("-")
        with stream_layer("-", NONE, CONNECTION, "x", tar=None).open() as stream:
            assert stream.read() == b"some data"


@pytest.mark.parametrize("data", [b"", b"\x1f", b"ustar"])
def test_what_is_not_compressed_passes(data: bytes, tmp_path: Path) -> None:
    """Empty and short files among them: what they are worth is not judged here."""
    file = tmp_path / "file"
    file.write_bytes(data)
    refuse_compressed(str(file))


def test_a_file_that_is_not_there_is_told_at_once() -> None:
    """Before anything is sent."""
    with pytest.raises(SourceError, match=r"^cannot open the source: .*No such file"):
        refuse_compressed("/nowhere/file")


def test_a_fifo_is_not_looked_at(tmp_path: Path) -> None:
    """Its bytes can be read only once, and opening it waits for who writes."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    refuse_compressed(str(fifo))
