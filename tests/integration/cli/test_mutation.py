"""cli.mutation: credentials of source and result, and tags that move meanwhile."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push, push_image
from tests.command import stdin_of
from tests.raw_server import Peer, serve_script

from brolga.client import Client
from brolga.images import Image
from brolga.spec.platform import Platform
from brolga.spec.reference import Reference

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

    from brolga.images import Tree
    from brolga.spec.reference import Repository
    from brolga.stores.location import ImageRef

MINE = "Basic " + b64encode(b"me:secret").decode()
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
def test_username_is_sent_only_to_registry_of_result(
    brolga: Brolga, verb: str, tag: str | None
) -> None:
    """The source may be in another registry, which must not get the password."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            seen.extend(peer.header("authorization", head))
            peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')

    with serve_script(script) as address, stdin_of(b"secret\n") as stdin:
        arguments = [word.replace("SOURCE", f"{address}/app") for word in VERBS[verb]]
        flags = ["--username", "me", "--password-stdin", *(["--tag", tag] if tag else [])]
        outcome = brolga(*arguments, *flags, stdin=stdin)
    assert outcome.code == 4
    assert set(seen) == (set() if tag else {MINE})
    assert "secret" not in outcome.out + outcome.err


@pytest.mark.parametrize("named", ["", "SOURCE", "127.0.0.1:1"])
@pytest.mark.parametrize("tag", [None, ELSEWHERE])
@pytest.mark.parametrize("verb", [*VERBS, "append", "copy"])
def test_environment_credentials_are_sent_only_to_their_registry(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, *, verb: str, tag: str | None, named: str
) -> None:
    """BROLGA_REGISTRY names their registry; by default it is that of the result."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            seen.extend(peer.header("authorization", head))
            peer.answer(401, b"", 'WWW-Authenticate: Basic realm="x"')

    monkeypatch.setenv("BROLGA_USERNAME", "me")
    monkeypatch.setenv("BROLGA_PASSWORD", "secret")
    with serve_script(script) as address:
        monkeypatch.setenv("BROLGA_REGISTRY", named.replace("SOURCE", address))
        result = tag or f"{address}/app"
        words = {
            **{name: [*words, "--tag", result] for name, words in VERBS.items()},
            "append": ["append", "-b", "SOURCE", "-f", os.devnull, "-t", result],
            "copy": ["copy", "SOURCE", result],
        }[verb]
        brolga(*(word.replace("SOURCE", f"{address}/app") for word in words))
    mine = named == "SOURCE" or (not named and not tag)
    assert set(seen) == ({MINE} if mine else set())


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have another client move a tag just before a result is pushed to it; return its digests."""
    real, digests = Client.push, list[str]()

    def push(self: Client, where: ImageRef | Repository, tree: Tree, **how: Any) -> ImageRef:
        if not digests and (isinstance(where, Reference) or "v1" in str(where)):
            other = Image.empty(Platform("plan9", "mips"))
            digests.append("")
            digests[:] = [str(real(self, where, other).digest)]
        return real(self, where, tree, **how)

    monkeypatch.setattr(Client, "push", push)
    return digests


@pytest.mark.parametrize("home", ["registry", "layout"])
@pytest.mark.parametrize("verb", [*VERBS, "mutate an index", "append"])
def test_verb_does_not_overwrite_tag_that_moved(
    brolga: Brolga,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    *,
    verb: str,
    home: str,
) -> None:
    """If two clients change one tag, the second one fails, and no change is lost."""
    registry = request.getfixturevalue("registry")
    name = f"{registry.address}/app:v1" if home == "registry" else f"oci:{tmp_path / 'app'}:v1"
    platform = Platform("linux", "amd64")
    if "index" in verb:
        index(f"{registry.address}/any:v1", platform, Platform("linux", "arm64"))
    else:
        push(f"{registry.address}/any:v1", *2 * ["\0" * 1024])  # empty tars
    with Client() as client:
        before = client.copy(f"{registry.address}/any:v1", name).digest
    (tmp_path / "more.tar").write_bytes(bytes(1024))
    words = {
        **VERBS,
        "mutate": ["mutate", "SOURCE", "-l", "a=b"],
        "rebase": ["rebase", "SOURCE", "--old_base", "SOURCE", "--new_base", "SOURCE"],
        "index append": ["index", "append", "SOURCE", "-m", f"{registry.address}/any:v1"],
        "mutate an index": ["mutate", "SOURCE", "-a", "a=b"],
        "append": ["append", "-b", "SOURCE", "-t", "SOURCE", "-f", str(tmp_path / "more.tar")],
    }[verb]
    digests = request.getfixturevalue("moves")
    arguments = [word.replace("SOURCE", name) for word in words]
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.endswith(
        f"the tag v1 moved from {before} to {digests[0]} meanwhile, and was left so; "
        "run it again: it then changes what the tag stands for now\n"
    )
    with Client() as client:
        assert str(client.head(name).digest) == digests[0]


@pytest.mark.parametrize("tag", ["v2", "new"])
def test_mutate_overwrites_tag_of_another_name(
    brolga: Brolga, registry: EmbeddedRegistry, moves: list[str], tag: str
) -> None:
    """A result with another name overwrites that tag, whether it exists or not."""
    name = f"{registry.address}/app:v1"
    push(name, "a")
    push_image(f"{registry.address}/app:v2", Image.empty())
    moves.clear()
    outcome = brolga("mutate", name, "-l", "a=b", "-t", f"{registry.address}/app:{tag}")
    assert (outcome.code, outcome.err) == (0, "")
    assert moves
