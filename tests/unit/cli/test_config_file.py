"""cli.config_file: upload styles, and the config file that sets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from brolga.cli.config_file import choose_upload_style, read_upload_styles
from brolga.cli.params import UploadStyle, parse_style
from brolga.protocol import UploadStrategy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga

GOOD = """
# How registries of ours are pushed to.
[registry."registry.example:5000"]
upload-style = "chunked:16MiB"

[registry."ghcr.io"]
upload-style = "streamed"

[registry.localhost]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the name of the config file."""
    monkeypatch.delenv("BROLGA_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "brolga").mkdir()
    return tmp_path / "brolga" / "config.toml"


def test_read_upload_styles_returns_style_of_each_registry(config: Path) -> None:
    """By its name, with the port if it has one."""
    config.write_text(GOOD)
    styles = {
        "registry.example:5000": UploadStyle("chunked:16MiB", "chunked:16777216"),
        "ghcr.io": UploadStyle("streamed", "streamed"),
    }
    assert read_upload_styles() == (str(config), styles)
    wishes = {"registry.example:5000": "chunked:16777216", "ghcr.io": "streamed"}
    assert choose_upload_style(None, "ghcr.io") == (
        wishes,
        f'upload-style = "streamed" in {config}',
    )
    assert choose_upload_style(None, "r.example") == (wishes, "")


def test_read_upload_styles_names_docker_hub_as_references_do(config: Path) -> None:
    """`docker.io`, whatever its API's host is called."""
    config.write_text('[registry."docker.io"]\nupload-style = "auto"\n')
    assert read_upload_styles()[1] == {"docker.io": UploadStyle("auto", "auto")}


def test_read_upload_styles_returns_nothing_without_file(config: Path) -> None:
    """The directory may be missing too."""
    assert read_upload_styles() == (str(config), {})
    config.parent.rmdir()
    config.parent.touch()
    assert read_upload_styles() == (str(config), {})


@pytest.mark.parametrize("home", ["", "relative/path"])
def test_read_upload_styles_uses_home_without_xdg_config_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    """XDG Base Directory: `~/.config`; a path that is relative is invalid, and ignored."""
    monkeypatch.delenv("BROLGA_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", home)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_upload_styles()[0] == str(tmp_path / ".config" / "brolga" / "config.toml")


def test_read_upload_styles_reads_file_of_brolga_config(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`BROLGA_CONFIG`; that file must exist."""
    config.write_text("broken")
    other = tmp_path / "other.toml"
    monkeypatch.setenv("BROLGA_CONFIG", str(other))
    with pytest.raises(click.UsageError, match=r"other\.toml cannot be read: No such file"):
        read_upload_styles()
    other.write_text(GOOD)
    assert read_upload_styles()[0] == str(other)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"upload-style", "is not valid TOML: Expected '='"),
        (b"\xff", "is not valid TOML: 'utf-8' codec can't decode"),
        (b"[registries]", "unknown section 'registries': use [registry]"),
        (b'upload-style = "auto"', "unknown section 'upload-style': use [registry]"),
        (b"registry = 1", "registry is not a table"),
        (b'[registry]\n"r.example" = "auto"', "[registry.'r.example'] is not a table"),
        (
            b'[registry.r]\nupload-style = "auto"',
            "[registry.'r'] must be HOST or HOST:PORT in quotes",
        ),
        (
            b'[registry.r.example]\nupload-style = "auto"',
            "[registry.'r'] must be HOST or HOST:PORT in quotes",
        ),
        (
            b'[registry."https://r.example"]',
            "[registry.'https://r.example'] must be HOST or HOST:PORT in quotes",
        ),
        (
            b'[registry."r.example"]\nstyle = "auto"',
            "[registry.'r.example'] has unknown key 'style': use upload-style",
        ),
        (
            b'[registry."r.example"]\nupload-style = "chunked:1MB"',
            "[registry.'r.example'] upload-style: invalid size '1MB'",
        ),
        (
            b'[registry."r.example"]\nupload-style = 5',
            "[registry.'r.example'] upload-style: '5' is not an upload style",
        ),
    ],
)
def test_read_upload_styles_names_place_of_error(config: Path, text: bytes, why: str) -> None:
    """A misspelt setting would otherwise be ignored silently."""
    config.write_bytes(text)
    with pytest.raises(click.UsageError) as caught:
        read_upload_styles()
    assert str(caught.value).startswith(f"{config}")
    assert why in str(caught.value)


def test_read_upload_styles_rejects_unreadable_file(config: Path) -> None:
    """A file that exists is not ignored."""
    config.mkdir()
    with pytest.raises(click.UsageError, match="cannot be read: Is a directory"):
        read_upload_styles()


def test_push_rejects_invalid_config_file(brolga: Brolga, config: Path, tmp_path: Path) -> None:
    """Exit code 2, before anything is sent; verbs that only read do not read the file."""
    config.write_text('[registry."r.example"]\nupload-stile = "auto"\n')
    source = tmp_path / "source"
    source.touch()
    outcome = brolga("layer", "push", "127.0.0.1:1/x", str(source))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"brolga: {config}: [registry.'r.example'] has unknown key 'upload-stile': "
        "use upload-style; see brolga layer push --help\n"
    )
    assert brolga("ls", "127.0.0.1:1/x").code == 5


def test_choose_upload_style_prefers_flag_to_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file does not matter if it is not read."""
    monkeypatch.setenv("BROLGA_CONFIG", "/no/where")
    style = UploadStyle("chunked:1M", "chunked:1048576")
    expected = ("chunked:1048576", "--upload-style chunked:1M")
    assert choose_upload_style(style, "r.example") == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("auto", "auto"),
        ("streamed", "streamed"),
        ("put", "put"),
        ("chunked", "chunked"),
        ("chunked:16MiB", "chunked:16777216"),
        ("chunked:1", "chunked:1"),
    ],
)
def test_parse_style_returns_value_for_client(text: str, value: str) -> None:
    """Sizes are in bytes there."""
    assert parse_style(text) == UploadStyle(text, value)
    UploadStrategy().override(value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is not an upload style: auto, streamed, put, chunked"),
        ("Auto", "'Auto' is not an upload style"),
        ("streamed:1", "'streamed:1' is not an upload style"),
        ("chunked:", "invalid size ''"),
        ("chunked:x", "invalid size 'x'"),
        ("chunked:0", "invalid upload style 'chunked:0'"),
    ],
)
def test_parse_style_rejects_invalid_style(text: str, why: str) -> None:
    """The error lists the styles."""
    with pytest.raises(ValueError, match=why):
        parse_style(text)
