"""cli.settings: the config file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from brolga.cli.config_file import upload_styles
from brolga.cli.upload_options import Sending, Style, wish_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Brolga

USUAL = Sending(window=0, spool=False, upload_style=None, retries=0, retry_time=9.0)
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
    """Return where the config file is looked for."""
    monkeypatch.delenv("BROLGA_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "brolga").mkdir()
    return tmp_path / "brolga" / "config.toml"


def test_each_registry_has_its_style(config: Path) -> None:
    """By its name, with the port where it has one."""
    config.write_text(GOOD)
    styles = {
        "registry.example:5000": Style("chunked:16MiB", "chunked:16777216"),
        "ghcr.io": Style("streamed", "streamed"),
    }
    assert upload_styles() == (config, styles)
    wishes = {"registry.example:5000": "chunked:16777216", "ghcr.io": "streamed"}
    assert wish_of(USUAL, "ghcr.io") == (wishes, f'upload-style = "streamed" in {config}')
    assert wish_of(USUAL, "r.example") == (wishes, "")


def test_docker_hub_has_the_name_that_references_have(config: Path) -> None:
    """`docker.io`, whatever its API's host is called."""
    config.write_text('[registry."docker.io"]\nupload-style = "auto"\n')
    assert upload_styles()[1] == {"docker.io": Style("auto", "auto")}


def test_there_need_be_none(config: Path) -> None:
    """Nor its directory."""
    assert upload_styles() == (config, {})
    config.parent.rmdir()
    config.parent.touch()
    assert upload_styles() == (config, {})


@pytest.mark.parametrize("home", ["", "relative/path"])
def test_without_a_home_of_configs_it_is_below_the_user_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    """XDG Base Directory: `~/.config`; a path that is relative is invalid, and ignored."""
    monkeypatch.delenv("BROLGA_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", home)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert upload_styles()[0] == tmp_path / ".config" / "brolga" / "config.toml"


def test_another_file_can_be_named(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`BROLGA_CONFIG`; that one must be there."""
    config.write_text("broken")
    other = tmp_path / "other.toml"
    monkeypatch.setenv("BROLGA_CONFIG", str(other))
    with pytest.raises(click.UsageError, match=r"other\.toml cannot be read: No such file"):
        upload_styles()
    other.write_text(GOOD)
    assert upload_styles()[0] == other


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"upload-style", "is no TOML: Expected '='"),
        (b"\xff", "is no TOML: 'utf-8' codec can't decode"),
        (b"[registries]", "'registries' is not known: [registry] is"),
        (b'upload-style = "auto"', "'upload-style' is not known: [registry] is"),
        (b"registry = 1", "registry is no table"),
        (b'[registry]\n"r.example" = "auto"', "[registry.'r.example'] is no table"),
        (
            b'[registry.r]\nupload-style = "auto"',
            "[registry.'r']: HOST or HOST:PORT in quotes is wanted",
        ),
        (
            b'[registry.r.example]\nupload-style = "auto"',
            "[registry.'r']: HOST or HOST:PORT in quotes is wanted",
        ),
        (
            b'[registry."https://r.example"]',
            "[registry.'https://r.example']: HOST or HOST:PORT in quotes is wanted",
        ),
        (
            b'[registry."r.example"]\nstyle = "auto"',
            "[registry.'r.example'] 'style' is not known: upload-style is",
        ),
        (
            b'[registry."r.example"]\nupload-style = "chunked:1MB"',
            "[registry.'r.example'] upload-style: '1MB' is no size",
        ),
        (
            b'[registry."r.example"]\nupload-style = 5',
            "[registry.'r.example'] upload-style: '5' is not an upload style",
        ),
    ],
)
def test_what_is_wrong_in_it_is_told_with_its_place(config: Path, text: bytes, why: str) -> None:
    """What is misspelt would be passed over for ever."""
    config.write_bytes(text)
    with pytest.raises(click.UsageError) as caught:
        upload_styles()
    assert str(caught.value).startswith(f"{config}")
    assert why in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(config: Path) -> None:
    """It is there, so somebody meant something by it."""
    config.mkdir()
    with pytest.raises(click.UsageError, match="cannot be read: Is a directory"):
        upload_styles()


def test_who_pushes_is_told_of_a_broken_one(brolga: Brolga, config: Path, tmp_path: Path) -> None:
    """Exit code 2, in one line, before anything is sent; who only reads does not need it."""
    config.write_text('[registry."r.example"]\nupload-stile = "auto"\n')
    source = tmp_path / "source"
    source.touch()
    outcome = brolga("layer", "push", "127.0.0.1:1/x", str(source))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"brolga: {config}: [registry.'r.example'] 'upload-stile' is not known: upload-style is; "
        "see brolga layer push --help\n"
    )
    assert brolga("ls", "127.0.0.1:1/x").code == 5
