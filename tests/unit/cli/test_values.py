"""cli.values: lists and pairs, as crane's flags read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from brolga.cli import values
from brolga.cli.verbs import Verb
from brolga.descriptor import Platform

if TYPE_CHECKING:
    from collections.abc import Callable


def given(callback: Callable[..., object], *texts: str) -> object:
    """Return what a verb gets of a flag that came with each of these."""

    @click.command(cls=Verb)
    @click.option("--flag", multiple=True, callback=callback)
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
    with pytest.raises(click.BadParameter, match="is no list: write an item with quotes"):
        given(values.items, text)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], {}),
        (["a=b"], {"a": "b"}),
        (["a=b,c=d", "e="], {"a": "b", "c": "d", "e": ""}),
        (["a=b,c"], {"a": "b,c"}),
        (['"a=b=c"'], {"a": "b=c"}),
        (["a=1", "a=2"], {"a": "2"}),
    ],
)
def test_pairs_are_read_as_crane_reads_them(texts: list[str], expected: dict[str, str]) -> None:
    """Commas part pairs only where a value has several `=`."""
    assert given(values.pairs, *texts) == expected


@pytest.mark.parametrize("text", ["a", "=b", "a=b,c=d,e", ""])
def test_a_pair_needs_a_key_and_an_equals_sign(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(click.BadParameter, match="is not KEY=VALUE"):
        given(values.pairs, text or "=")


def test_a_variable_is_one_whatever_it_holds() -> None:
    """`PATH=/a,/b`, `OPTS=a=b,c=d`."""
    assert given(values.variables, "PATH=/a,/b", "OPTS=a=b,c=d") == {
        "PATH": "/a,/b",
        "OPTS": "a=b,c=d",
    }
    with pytest.raises(click.BadParameter, match="'PATH' is not KEY=VALUE"):
        given(values.variables, "PATH")


def test_platforms_are_a_list_too() -> None:
    """`--platform linux/amd64,linux/arm64/v8 --platform windows`."""
    assert given(values.platforms, "linux/amd64,linux/arm64/v8", "windows") == [
        Platform("linux", "amd64"),
        Platform("linux", "arm64", "v8"),
        Platform("windows", ""),
    ]
    with pytest.raises(click.BadParameter, match="platform 'a b'"):
        given(values.platforms, "linux,a b")
