"""cli.upload_options: sizes and upload styles, as a user writes them."""

from __future__ import annotations

import pytest

from brolga import protocol as wire
from brolga.cli.upload_options import (
    SizeType,
    StyleType,
    UploadStyle,
    format_size,
    parse_size,
    parse_style,
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
def test_parse_size_accepts_bytes_and_binary_units(text: str, size: int) -> None:
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
def test_parse_size_rejects_invalid_size(text: str) -> None:
    """MB is ambiguous, so it is refused."""
    with pytest.raises(
        ValueError, match=r"invalid size .*: use bytes, or a number with suffix K, M or G"
    ):
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
def test_format_size_uses_largest_exact_unit(size: int, text: str) -> None:
    """The text is exact."""
    assert format_size(size) == text


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
def test_parse_style_returns_value_for_client(text: str, wish: str) -> None:
    """Sizes are in bytes there."""
    assert parse_style(text) == UploadStyle(text, wish)
    wire.UploadStrategy().override(wish)


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


def test_param_types_accept_converted_value() -> None:
    """Click converts default values too."""
    assert SizeType().convert(5, None, None) == 5
    style = UploadStyle("auto", "auto")
    assert StyleType().convert(style, None, None) is style
