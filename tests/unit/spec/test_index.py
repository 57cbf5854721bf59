"""index.py: indexes, and the choice of a child for a platform."""

import json
import pickle
from typing import Any

import pytest
from tests.unit.spec.samples import BUILDX, DOCKER_LIST, OCI, child, digest_of, indented

from brolga.errors import InvalidManifest, PlatformNotFound
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index, select_best
from brolga.spec.mediatypes import DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST
from brolga.spec.platform import Platform

CHILD = Descriptor(OCI_MANIFEST, Digest.of(b"child"), 5, platform=Platform("linux", "riscv64"))


def index(*children: dict[str, Any]) -> Index:
    return Index.parse(indented({**BUILDX, "manifests": children}))


def chosen(index: Index, platform: str) -> str:
    return str(index.select(Platform.parse(platform)).digest)


def test_parse_reads_every_property() -> None:
    """Each property of image-index.md, and of Docker's manifest list."""
    raw = indented(DOCKER_LIST)
    parsed = Index.parse(raw, DOCKER_MANIFEST_LIST)
    assert parsed.digest == Digest.of(raw)
    assert parsed.artifact_type == ""
    platform = parsed.manifests[0].platform
    assert platform is not None
    assert platform.os_features == ("win32k",)
    assert platform.extra == {"features": ("sse4",)}
    assert parsed.platforms == (platform, parsed.manifests[1].platform)


@pytest.mark.parametrize("manifests", [[], None])
def test_parse_accepts_empty_manifests(manifests: object) -> None:
    """'While this property MUST be present, the size of the array MAY be zero'."""
    empty = Index.parse(indented({**BUILDX, "manifests": manifests}))
    assert empty.manifests == ()
    with pytest.raises(PlatformNotFound, match="it has no image at all") as caught:
        empty.select(Platform("linux", "amd64"))
    assert caught.value.available == ()


def test_parse_rejects_missing_manifests() -> None:
    """'This REQUIRED property contains a list of manifests'."""
    with pytest.raises(InvalidManifest, match=r"^\$\.manifests: is missing"):
        Index.parse(b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}')


def test_parse_rejects_image_manifest() -> None:
    """The error names the expected kind."""
    with pytest.raises(InvalidManifest, match="is not the media type of an index"):
        Index.parse(indented(OCI))


def test_parse_error_names_child() -> None:
    """`$.manifests[1].digest`, not the whole document."""
    with pytest.raises(InvalidManifest, match=r"^\$\.manifests\[1\]\.digest: digest encoded part"):
        index(child("a"), child("b") | {"digest": "sha256:../x"})


@pytest.mark.parametrize(
    ("platform", "name"),
    [("linux/amd64", "amd64"), ("linux/arm64", "arm64"), ("linux/arm64/v8", "arm64")],
)
def test_select_ignores_buildx_attestations(platform: str, name: str) -> None:
    """Buildx lists them under the platform unknown/unknown."""
    parsed = Index.parse(indented(BUILDX))
    assert chosen(parsed, platform) == digest_of(name)
    assert [str(offered) for offered in parsed.platforms] == ["linux/amd64", "linux/arm64/v8"]


def test_select_returns_first_match() -> None:
    """'If multiple manifests match ..., the first matching entry SHOULD be used'."""
    parsed = Index.parse(indented(DOCKER_LIST))
    assert chosen(parsed, "windows") == digest_of("windows 2022")
    assert chosen(parsed, "windows/amd64:10.0.17763.1") == digest_of("windows 2019")


@pytest.mark.parametrize(
    ("offered", "wanted", "best"),
    [
        (["linux/amd64", "linux/arm64"], "linux/arm64/v8", 1),
        (["linux/arm64/v8"], "linux/arm64", 0),
        (["linux/amd64"], "linux/amd64/v1", 0),
        (["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], "linux/amd64", 2),
        (["linux/amd64/v3", "linux/amd64/v1"], "linux/amd64", 1),
        (["linux/amd64/v3", "linux/amd64/v2"], "linux/amd64", 1),
        (["linux/arm/v5", "linux/arm/v7"], "linux/arm", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm", 1),
        (["linux/arm/v8", "linux/arm/v6"], "linux/arm", 1),
        (["linux/arm"], "linux/arm/v7", 0),
        (["linux/arm64", "linux/arm64"], "linux/arm64", 0),
        (["linux/arm/v5", "linux/amd64"], "linux", 0),
    ],
)
def test_select_prefers_best_variant(offered: list[str], wanted: str, best: int) -> None:
    """'arm64' is 'arm64/v8', and 'amd64' is 'amd64/v1' (containerd, platforms.Normalize)."""
    children = [
        child(f"{number} {text}", platform=Platform.parse(text).to_dict())
        for number, text in enumerate(offered)
    ]
    assert chosen(index(*children), wanted) == digest_of(f"{best} {offered[best]}")


@pytest.mark.parametrize("wanted", ["linux/amd64/v2", "linux/arm64/v8.1", "linux/arm/v6"])
def test_select_requires_given_variant(wanted: str) -> None:
    """A variant that the caller names is required."""
    texts = ("linux/amd64", "linux/arm64", "linux/arm/v7")
    offered = index(*(child(text, platform=Platform.parse(text).to_dict()) for text in texts))
    with pytest.raises(PlatformNotFound):
        offered.select(Platform.parse(wanted))


def test_select_best_returns_every_best_match() -> None:
    """Two images of one platform are the caller's choice."""
    texts = ("linux/arm64", "linux/arm64/v8", "linux/amd64")
    offered = index(*(child(text, platform=Platform.parse(text).to_dict()) for text in texts))
    offers = zip(offered.manifests, offered.platforms, strict=True)
    matches = select_best(offers, Platform.parse("linux/arm64"))
    assert [str(match.digest) for match in matches] == [digest_of(text) for text in texts[:2]]


@pytest.mark.parametrize(
    ("offered", "wanted", "best"),
    [
        (["linux/arm64"], "linux/arm64/v8", 0),
        (["linux/arm/v7", "linux/arm"], "linux/arm/v6", 1),
        (["linux/arm", "linux/arm/v6"], "linux/arm/v6", 1),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64/v1", 1),
        (["windows/amd64:10.0.2"], "windows/amd64:10.0.1", 0),
        (
            ["windows/amd64:10.0.20348.1", "windows/amd64:10.0.17763.2"],
            "windows/amd64:10.0.17763.1",
            1,
        ),
        (["windows/amd64:10.0.1", "windows/amd64"], "windows/amd64", 1),
        (["linux/amd64"], "linux/amd64:5", 0),
    ],
)
def test_select_nearest_ignores_details_that_index_leaves_out(
    offered: list[str], wanted: str, best: int
) -> None:
    """A config has all details; 'variant' and 'os.version' are OPTIONAL in an index."""
    children = [
        child(text, platform=Platform.parse(text).to_dict()) for text in ("linux/s390x", *offered)
    ]
    nearest = index(*children).select_nearest(Platform.parse(wanted))
    assert str(nearest.digest) == digest_of(offered[best])


@pytest.mark.parametrize("wanted", ["linux/arm64/v8", "windows/arm64"])
def test_select_nearest_rejects_other_variant_or_system(wanted: str) -> None:
    """The error lists the available platforms."""
    parsed = index(child("a", platform={"os": "linux", "architecture": "arm64", "variant": "v9"}))
    with pytest.raises(PlatformNotFound, match="it has 'linux/arm64/v9'"):
        parsed.select_nearest(Platform.parse(wanted))


def test_select_reads_missing_platform_as_linux_amd64() -> None:
    """'If platform is missing from child descriptor, assume it's amd64/linux' (GGCR)."""
    parsed = index(child("plain"), child("arm", platform={"os": "linux", "architecture": "arm"}))
    assert chosen(parsed, "linux/amd64") == digest_of("plain")
    assert parsed.platforms[0] == Platform("linux", "amd64")


def test_select_returns_nested_index() -> None:
    """'implementations SHOULD also support ... nested index' (image-index.md, manifests)."""
    assert chosen(index(child("nested", mediaType=OCI_INDEX)), "linux/amd64") == digest_of("nested")


def test_select_ignores_children_that_are_not_images() -> None:
    """An artifact or an unknown format in an index is not an image to run."""
    parsed = index(
        child("a", mediaType="application/vnd.example+json"),
        child("b", artifactType="application/vnd.example.sbom"),
        child("c", artifactType="application/vnd.oci.image.config.v1+json"),
    )
    assert chosen(parsed, "linux/amd64") == digest_of("c")
    assert len(parsed.manifests) == 3


def test_select_error_lists_available_platforms() -> None:
    """The next command can be typed from it."""
    with pytest.raises(PlatformNotFound) as caught:
        Index.parse(indented(BUILDX)).select(Platform("linux", "s390x"))
    assert str(caught.value) == (
        "no image for platform 'linux/s390x' in this index: it has 'linux/amd64', 'linux/arm64/v8'"
    )
    assert caught.value.available == ("linux/amd64", "linux/arm64/v8")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made in this line
    assert again.available == caught.value.available


def test_select_error_has_bounded_length() -> None:
    """An index is untrusted: its texts are escaped, and only some are listed."""
    many = index(
        *(child(str(i), platform={"os": f"o\n{i}", "architecture": "x"}) for i in range(25))
    )
    with pytest.raises(PlatformNotFound, match="and 5 more") as caught:
        many.select(Platform("linux", "amd64"))
    assert "\n" not in str(caught.value)
    assert len(caught.value.available) == 25


def test_new_writes_members_in_order() -> None:
    """schemaVersion, mediaType, artifactType, manifests, subject, annotations."""
    new = Index.new([CHILD], annotations={"a": "b"}, subject=CHILD, artifact_type="a/b")
    assert list(json.loads(new.raw)) == [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "manifests",
        "subject",
        "annotations",
    ]
    assert new.manifests == (CHILD,)
    assert new.subject == CHILD
    assert new.artifact_type == "a/b"
    bare = Index.new([], media_type=DOCKER_MANIFEST_LIST)
    assert json.loads(bare.raw) == {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST_LIST,
        "manifests": [],
    }


def test_replace_keeps_unknown_members() -> None:
    """Children that stay keep their JSON, the document its other members."""
    document = {**DOCKER_LIST, "x": 1}
    parsed = Index.parse(indented(document))
    longer = parsed.replace(manifests=[CHILD, *parsed.manifests], annotations={"a": "b"})
    read = json.loads(longer.raw)
    assert read["x"] == 1
    assert read["manifests"] == [CHILD.to_dict(), *DOCKER_LIST["manifests"]]
    assert list(read["manifests"][1]) == ["mediaType", "size", "digest", "platform"]
    assert longer.annotations == {"a": "b"}
    assert parsed.replace(manifests=parsed.manifests, subject=None) is parsed
    assert parsed.replace(media_type=OCI_INDEX).media_type == OCI_INDEX


def test_index_can_be_pickled() -> None:
    """It can be sent to another process."""
    parsed = Index.parse(indented(BUILDX))
    assert pickle.loads(pickle.dumps(parsed)) == parsed  # noqa: S301 - made in this line
