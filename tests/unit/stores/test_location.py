"""stores.location: the names of places, in registries and on this machine."""

from __future__ import annotations

import pytest

from brolga.errors import InvalidReference
from brolga.spec.digest import Digest
from brolga.spec.reference import Reference, Repository
from brolga.stores import location
from brolga.stores.location import (
    ImageRef,
    LocalRef,
    parse_image_ref,
    parse_repository_ref,
    with_digest,
)

HEX = "0" * 64


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("oci:dir", LocalRef("oci", "dir")),
        ("oci:dir:v1", LocalRef("oci", "dir", "v1")),
        ("oci:/a/b.c:registry.example/app:1", LocalRef("oci", "/a/b.c", "registry.example/app:1")),
        ("oci:dir:@0", LocalRef("oci", "dir", "@0")),
        ("oci:a@b:v1", LocalRef("oci", "a@b", "v1")),
        (f"oci:dir@sha256:{HEX}", LocalRef("oci", "dir", f"sha256:{HEX}")),
        (f"oci:dir:sha256:{HEX}", LocalRef("oci", "dir", f"sha256:{HEX}")),
        ("oci-archive:a.tar", LocalRef("oci-archive", "a.tar")),
        ("oci-archive:-", LocalRef("oci-archive", "-")),
        ("oci-archive:a.tar:_x", LocalRef("oci-archive", "a.tar", "_x")),
        ("docker-archive:a.tar", LocalRef("docker-archive", "a.tar")),
        ("docker-archive:-:app:1", LocalRef("docker-archive", "-", "app:1")),
        (
            "docker-archive:a:localhost:5000/x:1",
            LocalRef("docker-archive", "a", "localhost:5000/x:1"),
        ),
        ("docker-archive:a.tar:@3", LocalRef("docker-archive", "a.tar", "@3")),
        ("registry.example/app:1", Reference.parse("registry.example/app:1")),
        ("oci/app:1", Reference.parse("docker.io/oci/app:1")),
        ("oci", Reference.parse("docker.io/library/oci:latest")),
    ],
)
def test_parse_image_ref_reads_the_grammar_of_skopeo(text: str, place: object) -> None:
    """containers-transports(5): the path ends at the first colon; the rest is the reference."""
    assert parse_image_ref(text) == place


def test_parse_image_ref_prefers_a_prefix_to_a_repository() -> None:
    """`oci:latest` is a directory; the repository has a name of its own."""
    assert parse_image_ref("oci:latest") == LocalRef("oci", "latest")
    assert parse_image_ref("docker.io/library/oci:latest") == Reference.parse(
        "docker.io/library/oci"
    )


@pytest.mark.parametrize(
    "text",
    ["oci:d", "oci:d:v1", f"oci:d@sha256:{HEX}", "oci-archive:-:@0", "docker-archive:a:b:1"],
)
def test_str_parses_back_to_an_equal_place(text: str) -> None:
    """`str` of a place is what `parse_image_ref` reads."""
    assert str(parse_image_ref(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("oci:", "oci: has no DIR behind it"),
        ("docker-archive::x", "docker-archive: has no FILE behind it"),
        ("oci:dir:", "'oci:dir:' ends with a colon: a name is wanted behind it"),
        ("oci:-:v1", "oci: names a directory, which cannot be a pipe"),
        ("oci:dir:a b", "name 'a b' is not 1 to 255 letters"),
        ("oci:dir:../x", "name '../x' is not"),
        ("oci:dir:a/../x", "name 'a/../x' is not"),
        ("oci:dir:-x", "name '-x' is not"),
        (f"oci:dir:v1@sha256:{HEX}", "is a tag and a digest"),
        ("oci-archive:f:v1@sha512:x", "'v1@sha512:x' is a tag and a digest"),
        ("oci:dir:@x", "name '@x' is not"),
        ("oci:dir@sha256:0", "digest encoded part '0' is not the 64"),
        ("oci:a\0b", r"path 'a\\x00b' has a null character in it"),
        ("docker-archive:a:B", "path .* has upper-case letters"),
        (f"docker-archive:a:b@sha256:{HEX}", "docker-archive: keeps no digests"),
    ],
)
def test_parse_image_ref_rejects_invalid_places(text: str, why: str) -> None:
    """One line that names the part."""
    with pytest.raises(InvalidReference, match=why):
        parse_image_ref(text)


def test_local_ref_has_digest_or_tag() -> None:
    """A digest or a number names what is there; a tag is also what is written."""
    digest = Digest("sha256", HEX)
    assert (LocalRef("oci", "d", "v1").digest, LocalRef("oci", "d", "v1").tag) == (None, "v1")
    assert (LocalRef("oci", "d", str(digest)).digest, LocalRef("oci", "d", str(digest)).tag) == (
        digest,
        "",
    )
    assert LocalRef("oci", "d", "@1").tag == ""
    assert LocalRef("oci", "d", "sha256:1").tag == "sha256:1"
    assert LocalRef("oci-archive", "-").is_pipe
    assert not LocalRef("oci", "d").is_pipe
    assert LocalRef("oci", "d", "v1").with_digest(digest) == LocalRef("oci", "d", str(digest))
    assert LocalRef("docker-archive", "d", "a:1").with_digest(digest) == LocalRef(
        "docker-archive", "d", "a:1"
    )
    assert str(LocalRef("archive", "a:b.tar")) == "a:b.tar"


def test_with_digest_names_a_manifest_beside_another() -> None:
    """What verbs print: a name that stays."""
    digest = Digest("sha256", HEX)
    assert str(with_digest(parse_image_ref("oci:d:v1"), digest)) == f"oci:d@{digest}"
    found = with_digest(parse_image_ref("localhost:5000/a:v1"), digest)
    assert str(found) == f"localhost:5000/a@{digest}"


def test_parse_repository_ref_rejects_one_image() -> None:
    """`brolga ls` wants all of them."""
    assert parse_repository_ref("oci:dir") == LocalRef("oci", "dir")
    assert parse_repository_ref("localhost:5000/app") == Repository("localhost:5000", "app")
    assert parse_repository_ref("oci") == Repository("docker.io", "library/oci")
    with pytest.raises(InvalidReference, match="'oci:dir:v1' is one image: all are wanted"):
        parse_repository_ref("oci:dir:v1")


PLACES: dict[str, ImageRef | Repository] = {
    "tag": parse_image_ref("localhost:5000/a:v1"),
    "repository": Repository("localhost:5000", "a"),
    "layout": parse_image_ref("oci:d:v1"),
    "archive": parse_image_ref("docker-archive:a.tar:localhost:5000/a:v1"),
    "pipe": parse_image_ref("oci-archive:-"),
}


@pytest.mark.parametrize(
    ("name", "home", "registry", "archive", "pipe", "layers"),
    [
        ("tag", "localhost:5000/a", "localhost:5000", False, False, False),
        ("repository", "localhost:5000/a", "localhost:5000", False, False, False),
        ("layout", "oci:d", "", False, False, False),
        ("archive", "docker-archive:a.tar", "", True, False, True),
        ("pipe", "oci-archive:-", "", True, True, False),
    ],
)
def test_predicates_of_each_kind_of_place(  # noqa: PLR0917 - a row of the table
    name: str, home: str, registry: str, archive: bool, pipe: bool, layers: bool
) -> None:
    """Every kind of place, by its name alone: nothing is opened."""
    place = PLACES[name]
    assert str(location.home_of(place)) == home
    assert location.registry_of(place) == registry
    assert (location.is_archive(place), location.is_pipe(place)) == (archive, pipe)
    assert location.keeps_layers(place) == layers


@pytest.mark.parametrize(
    ("source", "target", "keeps"),
    [
        ("repository", "layout", True),
        ("repository", "repository", True),
        ("layout", "layout", True),
        ("layout", "repository", False),
        ("archive", "layout", False),
    ],
)
def test_keeps_names_between_layouts_and_from_a_registry(
    source: str, target: str, keeps: bool
) -> None:
    """Of an archive's name, and of a layout's in a registry, the tag counts."""
    homes = (location.home_of(PLACES[one]) for one in (source, target))
    assert location.keeps_names(*homes) == keeps


def test_tag_to_write_refuses_a_number() -> None:
    """A digest or no name at all is written without a tag."""
    assert [location.tag_to_write(PLACES[one]) for one in ("tag", "repository", "pipe")] == [
        "v1",
        "",
        "",
    ]
    with pytest.raises(InvalidReference, match="a number names what is there already"):
        location.tag_to_write(parse_image_ref("oci:d:@0"))


def test_pin_keeps_the_tag_in_a_registry_only() -> None:
    """A layout knows an image by one of them."""
    digest = Digest("sha256", HEX)
    place = location.with_name(Repository("localhost:5000", "a"), "v2")
    assert str(location.pin(place, digest)) == f"localhost:5000/a:v2@{digest}"
    layout = location.with_name(LocalRef("oci", "d"), "v2")
    assert str(location.pin(layout, digest)) == f"oci:d@{digest}"
    home = Repository("localhost:5000", "a")
    assert str(location.with_digest(home, digest)) == f"localhost:5000/a@{digest}"


def test_parse_returns_a_parsed_place_unchanged() -> None:
    """A caller may have a name as a text or as a value."""
    place = parse_image_ref("oci:d")
    assert parse_image_ref(place) is place
    assert parse_repository_ref(Repository("localhost:5000", "a")) == Repository(
        "localhost:5000", "a"
    )
