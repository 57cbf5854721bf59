"""brolga copy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.cli_images import index, push, push_image, read
from tests.raw_server import Peer, serve_script

from brolga.client import Client
from brolga.images import Image
from brolga.spec.platform import Platform

if TYPE_CHECKING:
    from tests.command import Brolga
    from tests.registries import EmbeddedRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NOWHERE = "127.0.0.1:1/x"


def head(name: str) -> str:
    """Return the digest that a name has."""
    with Client() as client:
        return str(client.head(name).digest)


@pytest.mark.parametrize("verb", ["copy", "cp"])
def test_copy_keeps_digest(brolga: Brolga, registry: EmbeddedRegistry, verb: str) -> None:
    """`REPO@DIGEST`, under another tag of another repository."""
    source, target = f"{registry.address}/a:v1", f"{registry.address}/b/c:v2"
    digest = push(source, "layer")
    outcome = brolga(verb, source, target)
    assert outcome.code == 0
    assert (outcome.out, outcome.err) == (f"{registry.address}/b/c@{digest}\n", "")
    assert head(target) == digest


def test_copy_prints_json(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """ref, digest."""
    source, target = f"{registry.address}/a:v1", f"{registry.address}/b"
    digest = push(source, "layer")
    outcome = brolga("copy", "--json", source, target)
    assert json.loads(outcome.out) == {"ref": f"{target}@{digest}", "digest": digest}


def test_copy_copies_index_or_image_for_platform(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """Crane: "If platform is explicitly set, don't copy the whole index"."""
    source, whole, one = (f"{registry.address}/{name}" for name in ("a", "whole", "one"))
    digest = index(source, AMD64, ARM64)
    assert brolga("copy", source, whole).code == 0
    assert head(whole) == digest
    assert brolga("copy", "--platform", "linux/arm64", source, one).code == 0
    assert read(one).platform == ARM64
    assert brolga("copy", "--platform", "all", source, one).code == 0
    assert head(one) == digest


def test_copy_no_clobber_refuses_existing_tag(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--no-clobber`: exit code 1, and what is there."""
    source, target = f"{registry.address}/a", f"{registry.address}/b:v1"
    push(source, "layer")
    there = push(target, "another layer")
    outcome = brolga("copy", "-n", source, target)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"brolga: {target} already exists, as {there}: nothing was copied (--no-clobber)\n"
    )
    assert head(target) == there
    assert brolga("copy", "-n", source, f"{registry.address}/b:v2").code == 0


def test_copy_no_clobber_allows_digest(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """The target of a digest cannot change."""
    source = f"{registry.address}/a"
    digest = push(source, "layer")
    target = f"{registry.address}/b@{digest}"
    for _ in range(2):
        assert brolga("copy", "-n", source, target).out == f"{target}\n"


def test_copy_rejects_other_digest_as_target(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Nothing is pushed under a wrong digest."""
    source, wrong = f"{registry.address}/a", f"sha256:{64 * 'a'}"
    push(source, "layer")
    outcome = brolga("copy", source, f"{registry.address}/b@{wrong}")
    assert (outcome.code, outcome.out) == (2, "")
    assert registry.blobs("b") == []


def test_copy_all_tags_copies_every_tag(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--all-tags`: a line for each."""
    source, target = f"{registry.address}/a", f"{registry.address}/b"
    digests = {tag: push(f"{source}:{tag}", tag) for tag in ("v1", "v2")}
    outcome = brolga("copy", "--all-tags", source, target)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "".join(f"{target}:{tag}@{digests[tag]}\n" for tag in digests)
    assert {tag: head(f"{target}:{tag}") for tag in digests} == digests


def test_copy_all_tags_no_clobber_keeps_existing_tags(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """`--all-tags --no-clobber`: the others are copied, and stderr lists the kept tags."""
    source, target = f"{registry.address}/a", f"{registry.address}/b"
    digests = {tag: push(f"{source}:{tag}", tag) for tag in ("v1", "v2")}
    there = push(f"{target}:v1", "another layer")
    outcome = brolga("copy", "-a", "-n", "--json", source, target)
    assert (outcome.code, outcome.err) == (0, f"kept {target}:v1: it was there already\n")
    assert json.loads(outcome.out) == {
        "repository": target,
        "tags": {"v2": digests["v2"]},
        "kept": ["v1"],
    }
    assert head(f"{target}:v1") == there
    elsewhere = f"{registry.address}/new"
    assert brolga("copy", "-a", "-n", source, elsewhere).out.count("\n") == 2


def test_copy_referrers_copies_them(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """`--referrers`: signatures and SBOMs of the image, found in the new place."""
    source, target = f"{registry.address}/a", f"{registry.address}/b"
    digest = push(source, "layer")
    with Client() as client:
        signature = Image.empty().with_subject(client.head(source))
    signed = push_image(f"{source}:signature", signature)
    assert brolga("copy", "--referrers", source, target).code == 0
    with Client() as client:
        (referrer,) = client.referrers(f"{target}@{digest}")
    assert str(referrer.digest) == signed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([NOWHERE], "Missing argument 'DST'"),
        (["-a", f"{NOWHERE}:v1", NOWHERE], "a repository is wanted here, without tag"),
        (["-a", NOWHERE, f"{NOWHERE}:v1"], "a repository is wanted here, without tag"),
        ([NOWHERE, f"{NOWHERE}:a:b"], "tag 'a:b' is not"),
        (["--jobs", "0", NOWHERE, NOWHERE], "Invalid value for '-j' / '--jobs'"),
        (["--platform", "a b", NOWHERE, NOWHERE], "Invalid value for '--platform'"),
    ],
)
def test_copy_rejects_invalid_arguments(brolga: Brolga, arguments: list[str], line: str) -> None:
    """Exit code 2, before any request."""
    outcome = brolga("copy", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"brolga: {line}")


def test_copy_reports_missing_source(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Exit code 3."""
    outcome = brolga("copy", f"{registry.address}/a", f"{registry.address}/b")
    assert (outcome.code, outcome.out) == (3, "")


def test_copy_no_clobber_accepts_403_as_missing(brolga: Brolga, registry: EmbeddedRegistry) -> None:
    """Crane: a 403 to --no-clobber's question counts as "not there"; the copy itself may fail."""
    source = f"{registry.address}/a"
    push(source, "layer")
    asked: list[str] = []

    def script(peer: Peer) -> None:
        while request := peer.head():
            is_ping = request[0].startswith("GET /v2/ ")
            asked.extend([] if is_ping else request[:1])
            peer.answer(200 if is_ping else 403)

    with serve_script(script) as address:
        for flags in ([], ["-a"]):
            outcome = brolga("copy", "-n", *flags, source, f"{address}/b")
            assert outcome.code == 4
        # The question of --no-clobber, and that of the push.
        heads = [line for line in asked if line.startswith("HEAD ")]
        assert heads[:2] == 2 * ["HEAD /v2/b/manifests/latest HTTP/1.1"]


def test_copy_of_several_platforms_pushes_an_index_of_them(
    brolga: Brolga, registry: EmbeddedRegistry
) -> None:
    """As `index filter` makes it. One image is copied as it is."""
    source, some, same = (f"{registry.address}/{name}" for name in ("a", "some", "same"))
    digest = index(source, AMD64, ARM64, Platform("linux", "s390x"))
    flags = ["--platform", "linux/amd64", "--platform", "linux/arm64"]
    assert brolga("copy", *flags, source, some).code == 0
    assert brolga("index", "filter", source, *flags, "-t", same).code == 0
    assert head(some) == head(same) != digest
    assert brolga("copy", "--all-platforms", source, same).code == 0
    assert head(same) == digest
    one = push(f"{registry.address}/one", "layer")
    assert brolga("copy", *flags, f"{registry.address}/one", some).code == 0
    assert head(some) == one


def test_copy_of_all_tags_takes_one_platform(brolga: Brolga) -> None:
    flags = ["--platform", "linux/amd64", "--platform", "linux/arm64"]
    outcome = brolga("copy", "--all-tags", *flags, "127.0.0.1:1/a", "127.0.0.1:1/b")
    assert outcome.code == 2
    assert outcome.err.startswith("brolga: --all-tags: give one --platform")
