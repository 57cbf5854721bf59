"""cli.params: sizes, lists and pairs, as a user writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from brolga.cli import params
from brolga.cli.click_ext import MAY_BE_EMPTY, Verb
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable


def parse(callback: Callable[..., object], *texts: str) -> object:
    """Return the value of a repeated flag."""

    @click.command(cls=Verb)
    @click.option("--flag", multiple=True, type=MAY_BE_EMPTY, callback=callback)
    def verb(*, flag: object) -> object:
        return flag

    arguments = [part for text in texts for part in ("--flag", text)]
    return verb.main(arguments, standalone_mode=False)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["a"], ["a"]),
        (["a,b", "c"], ["a", "b", "c"]),
        (['"a,b",c'], ["a,b", "c"]),
        (['"a\nb"'], ["a\nb"]),
        ([""], []),
    ],
)
def test_split_items_splits_at_commas(texts: list[str], expected: list[str] | None) -> None:
    """`--entrypoint /bin/sh,-c`; quotes keep a comma; no flag is not an empty list."""
    assert parse(params.split_items, *texts) == expected


@pytest.mark.parametrize("text", ['"a', "a\nb"])
def test_split_items_rejects_unbalanced_quotes(text: str) -> None:
    """The error explains the quotes."""
    with pytest.raises(click.BadParameter, match="is not a list: write an item that has"):
        parse(params.split_items, text)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], {}),
        (["a=b", "e="], {"a": "b", "e": ""}),
        (["PATH=/a,/b", "OPTS=a=b,c=d"], {"PATH": "/a,/b", "OPTS": "a=b,c=d"}),
        (['a="b"'], {"a": '"b"'}),
        (["a=1", "a=2"], {"a": "2"}),
    ],
)
def test_parse_pairs_keeps_commas_and_quotes(texts: list[str], expected: dict[str, str]) -> None:
    """Commas and quotes are part of the value, in every verb."""
    assert parse(params.parse_pairs, *texts) == expected


@pytest.mark.parametrize("text", ["a", "=b", "="])
def test_parse_pairs_rejects_missing_key_or_equals_sign(text: str) -> None:
    """There is no default."""
    with pytest.raises(click.BadParameter, match="is not KEY=VALUE"):
        parse(params.parse_pairs, text)


def test_split_names_rejects_empty_item() -> None:
    """`-m a,b -m c`."""
    assert parse(params.split_names, "a,b", "c") == ["a", "b", "c"]
    with pytest.raises(click.BadParameter, match="'a,,b' has an empty item"):
        parse(params.split_names, "a,,b")


def test_parse_platforms_parses_lists() -> None:
    """`--platform linux/amd64,linux/arm64/v8 --platform windows`."""
    assert parse(params.parse_platforms, "linux/amd64,linux/arm64/v8", "windows") == [
        Platform("linux", "amd64"),
        Platform("linux", "arm64", "v8"),
        Platform("windows", ""),
    ]
    with pytest.raises(click.BadParameter, match="platform 'a b'"):
        parse(params.parse_platforms, "linux,a b")


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
    assert params.parse_size(text) == size


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
        params.parse_size(text)


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
    assert params.format_size(size) == text


def test_parsed_keeps_value_that_is_not_text() -> None:
    """Click converts default values too."""
    assert params.Parsed(params.parse_size).convert(5, None, None) == 5
