"""cli.sending: sizes and upload styles, as a user writes them."""

from __future__ import annotations

import pytest

from brolga import protocol as wire
from brolga.cli.upload_options import (
    Sending,
    SizeType,
    Style,
    StyleType,
    parse_size,
    parse_style,
    shown_size,
    wish_of,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("1000", 1000),
        ("4K", 4096),
        ("4KiB", 4096),
        ("5M", 5 << 20),
        ("32MiB", 32 << 20),
        ("2G", 2 << 30),
        ("2GiB", 2 << 30),
    ],
)
def test_a_size_is_bytes_or_powers_of_two(text: str, size: int) -> None:
    """K, M and G as dd and GNU's programs have them."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "-1",
        "1.5M",
        "1 M",
        "1MB",
        "1m",
        "1T",
        "1B",
        "1iB",
        "0x1",
        "\u0661",
        19 * "9",
        "1\n",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """MB may be either of two sizes: it is none here."""
    with pytest.raises(ValueError, match="is no size: bytes, or a number with K, M or G behind it"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1000, "1000 bytes"),
        (1024, "1 KiB"),
        (32 << 20, "32 MiB"),
        (1 << 30, "1 GiB"),
        ((1 << 30) + 1024, "1048577 KiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_that_is_exact(size: int, text: str) -> None:
    """So that it can be compared."""
    assert shown_size(size) == text


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("auto", "auto"),
        ("streamed", "streamed"),
        ("put", "put"),
        ("chunked", "chunked"),
        ("chunked:16MiB", "chunked:16777216"),
        ("chunked:1", "chunked:1"),
    ],
)
def test_a_style_is_what_a_client_takes(text: str, wish: str) -> None:
    """Sizes are in bytes there."""
    assert parse_style(text) == Style(text, wish)
    wire.UploadStrategy().override(wish)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is not an upload style: auto, streamed, put, chunked"),
        ("Auto", "'Auto' is not an upload style"),
        ("streamed:1", "'streamed:1' is not an upload style"),
        ("chunked:", "'' is no size"),
        ("chunked:x", "'x' is no size"),
        ("chunked:0", "'chunked:0' has chunks of no bytes"),
    ],
)
def test_what_is_no_style_is_refused(text: str, why: str) -> None:
    """It says what there is."""
    with pytest.raises(ValueError, match=why):
        parse_style(text)


def test_a_default_of_the_program_s_own_passes() -> None:
    """Click converts what is converted already."""
    assert SizeType().convert(5, None, None) == 5
    style = Style("auto", "auto")
    assert StyleType().convert(style, None, None) is style


def test_the_flag_wins_over_the_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is broken does not matter where it is not asked."""
    monkeypatch.setenv("BROLGA_CONFIG", "/no/where")
    sending = Sending(
        window=0, spool=False, upload_style=parse_style("chunked:1M"), retries=0, retry_time=9.0
    )
    assert wish_of(sending, "r.example") == ("chunked:1048576", "--upload-style chunked:1M")
