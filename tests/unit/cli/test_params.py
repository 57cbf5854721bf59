"""cli.values: lists and pairs, as crane's flags read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from brolga.cli import params as values
from brolga.cli.click_ext import MAY_BE_EMPTY, Verb
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable


def given(callback: Callable[..., object], *texts: str) -> object:
    """Return what a verb gets of a flag that came with each of these."""

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
def test_lists_have_commas(texts: list[str], expected: list[str] | None) -> None:
    """`--entrypoint /bin/sh,-c`; quotes keep a comma; no flag is not an empty list."""
    assert given(values.items, *texts) == expected


@pytest.mark.parametrize("text", ['"a', "a\nb"])
def test_a_list_that_is_none_is_usage(text: str) -> None:
    """What the quotes are for is said."""
    with pytest.raises(click.BadParameter, match="is not a list: write an item that has"):
        given(values.items, text)


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
def test_a_pair_is_one_whatever_it_holds(texts: list[str], expected: dict[str, str]) -> None:
    """Commas and quotes are part of the value, in every verb."""
    assert given(values.pairs, *texts) == expected


@pytest.mark.parametrize("text", ["a", "=b", "="])
def test_a_pair_needs_a_key_and_an_equals_sign(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(click.BadParameter, match="is not KEY=VALUE"):
        given(values.pairs, text)


def test_names_are_a_list_without_empty_ones() -> None:
    """`-m a,b -m c`."""
    assert given(values.names, "a,b", "c") == ["a", "b", "c"]
    with pytest.raises(click.BadParameter, match="'a,,b' has an empty item"):
        given(values.names, "a,,b")


def test_platforms_are_a_list_too() -> None:
    """`--platform linux/amd64,linux/arm64/v8 --platform windows`."""
    assert given(values.platforms, "linux/amd64,linux/arm64/v8", "windows") == [
        Platform("linux", "amd64"),
        Platform("linux", "arm64", "v8"),
        Platform("windows", ""),
    ]
    with pytest.raises(click.BadParameter, match="platform 'a b'"):
        given(values.platforms, "linux,a b")
