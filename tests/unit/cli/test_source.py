"""cli.source: SOURCE arguments as layers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from typing import TYPE_CHECKING

import click
import pytest
from tests.command import stdin_of
from tests.tars import tar as write_tar

from brolga.cli.options import ConnectionOptions, LayerOptions
from brolga.cli.source import command_layer, refuse_compressed, stream_layer
from brolga.errors import CorruptBlob, SourceError
from brolga.stream.compression import codec_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONNECTION = ConnectionOptions(
    insecure=False, ca_cert=None, client_cert=None, client_key=None, timeout=1.0
)
MAKING = LayerOptions(compression="zstd:7", media_type=None, threads=2)
NONE = LayerOptions(compression="none", media_type=None, threads=None)


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


def test_stream_layer_applies_flags(tmp_path: Path) -> None:
    """The file is not opened yet, so it may be missing."""
    layer = stream_layer(str(tmp_path / "missing"), MAKING, CONNECTION, "x", tar=None)
    assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert (layer._codec.level, layer._threads) == (7, 2)


def test_stream_layer_rejects_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.stdin` is None if it was closed before Python started, else a closed file."""
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stdin in (None, closed):
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(SourceError, match="stdin is closed"):
            stream_layer("-", MAKING, CONNECTION, "x", tar=None)


def test_stream_layer_explains_how_to_stream_directory(tmp_path: Path) -> None:
    """The suggested command line ends with the verb that was called."""
    with pytest.raises(SourceError, match=f"tar -C {tmp_path} -c . | brolga append -f - …"):
        stream_layer(str(tmp_path), MAKING, CONNECTION, "brolga append -f - …", tar=True)


@pytest.mark.parametrize(("tar", "why"), [(None, "cut short"), (True, "cut short"), (False, "")])
def test_stream_layer_rejects_incomplete_tar_unless_allowed(
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


def test_command_layer_reads_stdout_of_command() -> None:
    """The command runs when the layer is opened."""
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


def test_command_layer_rejects_missing_command() -> None:
    """`brolga layer push REPO --`."""
    with pytest.raises(click.UsageError, match="a COMMAND must follow --"):
        command_layer([], NONE, CONNECTION, tar=None)


@pytest.mark.parametrize("compression", ["lzma", "gzip:99"])
def test_stream_layer_rejects_invalid_compression(compression: str) -> None:
    """Before the source is looked at."""
    layer_opts = LayerOptions(compression=compression, media_type=None, threads=None)
    with pytest.raises(click.UsageError):
        stream_layer("/nowhere", layer_opts, CONNECTION, "x", tar=None)


@pytest.mark.parametrize("program", COMPRESSED)
def test_refuse_compressed_names_program_for_file(program: str, tmp_path: Path) -> None:
    """config.md: "A layer DiffID is the digest over the layer's uncompressed tar archive"."""
    file = tmp_path / "a file"
    file.write_bytes(COMPRESSED[program](b"data"))
    with pytest.raises(SourceError, match=f"use the output of `{program} -dc '{file}'`"):
        refuse_compressed(str(file))


@pytest.mark.parametrize("program", COMPRESSED)
def test_refuse_compressed_rejects_stdin(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first bytes of the pipe."""
    with stdin_of(COMPRESSED[program](b"data")) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(
            SourceError, match=f"stdin is already compressed.* output of `{program} -dc`"
        ):
            refuse_compressed("-")


def test_refuse_compressed_keeps_first_bytes_of_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer begins with the first byte."""
    with stdin_of(b"some data") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        refuse_compressed("-")
        with stream_layer("-", NONE, CONNECTION, "x", tar=None).open() as stream:
            assert stream.read() == b"some data"


@pytest.mark.parametrize("data", [b"", b"\x1f", b"ustar"])
def test_refuse_compressed_accepts_uncompressed(data: bytes, tmp_path: Path) -> None:
    """Empty and short files too: they are checked elsewhere."""
    file = tmp_path / "file"
    file.write_bytes(data)
    refuse_compressed(str(file))


def test_refuse_compressed_rejects_missing_file() -> None:
    """Before anything is sent."""
    with pytest.raises(SourceError, match=r"^cannot open the source: .*No such file"):
        refuse_compressed("/nowhere/file")


def test_refuse_compressed_does_not_open_fifo(tmp_path: Path) -> None:
    """Its bytes can be read only once, and opening it waits for a writer."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    refuse_compressed(str(fifo))
