"""cli.changing: whose credentials go where."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from tests.scripted import Peer, scripted

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Brolga

ELSEWHERE = "127.0.0.1:1/x:new"
VERBS = {
    "mutate": ["mutate", "SOURCE"],
    "rebase": ["rebase", "SOURCE"],
    "flatten": ["flatten", "SOURCE"],
    "index filter": ["index", "filter", "SOURCE", "--platform", "linux"],
    "index append": ["index", "append", "SOURCE", "-m", "SOURCE"],
}


@pytest.mark.parametrize("tag", [None, ELSEWHERE])
@pytest.mark.parametrize("verb", VERBS)
def test_the_username_is_for_the_registry_of_the_result(
    brolga: Brolga, verb: str, tag: str | None
) -> None:
    """No password goes to a registry that it is not for: what is read may be in another one."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            seen.extend(peer.header("authorization", head))
            peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')

    end, start = os.pipe()
    os.write(start, b"secret\n")
    os.close(start)
    with scripted(script) as address, os.fdopen(end) as stdin:
        arguments = [word.replace("SOURCE", f"{address}/app") for word in VERBS[verb]]
        flags = ["--username", "me", "--password-stdin", *(["--tag", tag] if tag else [])]
        outcome = brolga(*arguments, *flags, stdin=stdin)
    assert outcome.code == 4
    mine = "Basic " + b64encode(b"me:secret").decode()
    assert set(seen) == (set() if tag else {mine})
    assert "secret" not in outcome.out + outcome.err
