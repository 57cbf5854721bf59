"""descriptor.py: what a descriptor takes, refuses and prints."""

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest

from brolga.errors import InvalidManifest
from brolga.spec.config import History
from brolga.spec.descriptor import DEFAULT_PLATFORM, Descriptor, Platform
from brolga.spec.digest import Digest
from brolga.spec.json import Members, path, read_text
from brolga.spec.mediatypes import (
    OCI_EMPTY,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    check_media_type,
)

DIGEST = Digest.parse("sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270")


def test_a_descriptor_prints_the_properties_by_their_json_names() -> None:
    """The example of descriptor.md: 'mediaType', 'digest', 'size', and nothing that is empty."""
    assert Descriptor(OCI_MANIFEST, DIGEST, 7682).to_dict() == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "size": 7682,
        "digest": "sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270",
    }


def test_the_properties_are_ready_for_json() -> None:
    """Annotations are a 'string-string map'; 'the value MAY be an empty string'."""
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 0, {"com.example.key": "", "b": "é"})
    read = json.loads(json.dumps(descriptor.to_dict()))
    assert read["annotations"] == {"com.example.key": "", "b": "é"}
    assert list(read) == ["mediaType", "digest", "size", "annotations"]


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**63 - 1])
def test_a_size_of_int64_from_zero_is_taken(size: int) -> None:
    """'size: int64. The size, in bytes, of the raw content' (descriptor.md, Properties)."""
    assert Descriptor(OCI_LAYER_GZIP, DIGEST, size).size == size


@pytest.mark.parametrize("size", [-1, 2**63, 10**1000, True, False, 1.0, "1", None])
def test_another_size_is_refused(size: object) -> None:
    """A size below zero, above int64 or not whole is no size; nor is a truth value."""
    with pytest.raises(ValueError, match="not a whole number of bytes") as caught:
        Descriptor(OCI_LAYER_GZIP, DIGEST, cast("int", size))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "media_type",
    [
        "a/b",
        "text/plain",
        "application/x-tar",
        "A0!#$&-^_.+/0!#$&-^_.+",
        f"{'a' * 127}/{'b' * 127}",
    ],
)
def test_a_media_type_of_rfc_6838_is_taken(media_type: str) -> None:
    """'restricted-name = restricted-name-first *126restricted-name-chars' (RFC 6838, 4.2)."""
    assert Descriptor(media_type, DIGEST, 1).media_type == media_type


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text",
        "text/",
        "/plain",
        "a/b/c",
        "text/plain\n",
        "text/plain; charset=utf-8",
        " text/plain",
        "text/pl ain",
        "text/pl%ain",
        "te\u0301xt/plain",
        "\u0661/a",
        "+a/b",
        "a/.b",
        f"{'a' * 128}/b",
        f"a/{'b' * 128}",
        "a/" + "b" * 1_000_000,
    ],
)
def test_another_media_type_is_refused(media_type: str) -> None:
    """'Values MUST comply with RFC 6838' (descriptor.md, Properties); parameters are no part."""
    with pytest.raises(ValueError, match="is not type/subtype as of RFC 6838") as caught:
        Descriptor(media_type, DIGEST, 1)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("annotations", [{"a": 1}, {1: "a"}, {"a": None}, {"a": ["x" * 9999]}])
def test_annotations_that_are_not_strings_are_refused(annotations: dict[Any, Any]) -> None:
    """'both the key and value MUST be strings' (annotations.md, Rules)."""
    with pytest.raises(ValueError, match=r"annotation .* is not a string") as caught:
        Descriptor(OCI_MANIFEST, DIGEST, 1, annotations)
    assert len(str(caught.value)) < 200


def test_annotations_cannot_be_changed_afterwards() -> None:
    """A descriptor keeps a copy, and lends it for reading only."""
    given = {"a": "1"}
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 1, given)
    given["a"] = "2"
    assert descriptor.annotations == {"a": "1"}
    with pytest.raises(TypeError):
        descriptor.annotations["a"] = "2"  # type: ignore[index]  # that it is read-only is the rule
    with pytest.raises(AttributeError):
        descriptor.size = 2  # type: ignore[misc]  # that it is frozen is the rule


def test_a_descriptor_is_a_value() -> None:
    """Equal descriptors are equal and hash alike; annotations are part of what is equal."""
    plain = Descriptor(OCI_MANIFEST, DIGEST, 1)
    noted = Descriptor(OCI_MANIFEST, DIGEST, 1, {"a": "1"})
    assert plain == Descriptor(OCI_MANIFEST, DIGEST, 1, {})
    assert plain != noted
    assert len({plain, noted, dataclasses.replace(noted), dataclasses.replace(noted, size=2)}) == 3


def test_a_descriptor_can_be_copied_and_sent_to_another_process() -> None:
    """A distributed run hands descriptors between processes."""
    descriptor = Descriptor(OCI_MANIFEST, DIGEST, 1, {"a": "1"})
    assert pickle.loads(pickle.dumps(descriptor)) == descriptor  # noqa: S301 - made in this line
    assert copy.deepcopy(descriptor) == descriptor


# From JSON and back ------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "mediaType": OCI_EMPTY,
    "digest": str(Digest.of(b"{}")),
    "size": 2,
    "urls": ["https://example.com/a"],
    "annotations": {"com.example.key": "value"},
    "data": "e30=",
    "platform": {
        "architecture": "amd64",
        "os": "windows",
        "os.version": "10.0.20348.1",
        "os.features": ["win32k"],
        "variant": "v2",
        "features": ["sse4"],
    },
    "artifactType": "application/vnd.example.sbom",
    "com.example.unknown": {"deep": [{"a": None}]},
}


def test_every_property_is_read_and_written_again() -> None:
    """The names of descriptor.md, and of image-index.md for the platform; unknown ones stay."""
    descriptor = Descriptor.from_dict(FULL)
    assert descriptor.data == b"{}"
    assert descriptor.urls == ("https://example.com/a",)
    assert descriptor.artifact_type == "application/vnd.example.sbom"
    assert descriptor.platform == Platform(
        "windows", "amd64", "v2", "10.0.20348.1", ("win32k",), extra={"features": ["sse4"]}
    )
    assert descriptor.extra == {"com.example.unknown": {"deep": ({"a": None},)}}
    written = descriptor.to_dict()
    assert written == FULL
    assert list(written) == list(FULL)
    assert json.loads(json.dumps(written)) == FULL


def test_what_is_null_or_empty_is_absent() -> None:
    """Go leaves it out when it writes, and takes it as absent when it reads."""
    bare = {name: FULL[name] for name in ("mediaType", "digest", "size")}
    empty = {"urls": [], "annotations": {}, "data": "", "artifactType": ""}
    null = dict.fromkeys([*empty, "platform"])
    assert Descriptor.from_dict({**bare, **empty}) == Descriptor.from_dict({**bare, **null})
    assert Descriptor.from_dict({**bare, **empty}).to_dict() == bare
    assert Descriptor(OCI_EMPTY, Digest.of(b""), 0, data=b"").data is None


def test_a_full_descriptor_is_a_value_too() -> None:
    """Hash, equality, copies, other processes and `replace` keep every property."""
    descriptor = Descriptor.from_dict(FULL)
    again = pickle.loads(pickle.dumps(descriptor))  # noqa: S301 - made in this line
    assert again == copy.deepcopy(descriptor) == dataclasses.replace(descriptor) == descriptor
    assert hash(again) == hash(descriptor)
    assert again.to_dict() == FULL
    assert dataclasses.replace(descriptor, annotations={}).extra == descriptor.extra
    assert descriptor != dataclasses.replace(descriptor, extra={})


def test_what_is_unknown_cannot_be_changed_either() -> None:
    """A view is frozen at every depth, and what is written is a copy."""
    descriptor = Descriptor.from_dict(FULL)
    deep = cast("Any", descriptor.extra["com.example.unknown"])
    with pytest.raises(TypeError):
        deep["deep"] = 1
    with pytest.raises(AttributeError):
        deep["deep"].append(1)
    cast("Any", descriptor.to_dict())["com.example.unknown"]["deep"].clear()
    assert descriptor.to_dict() == FULL


def test_extra_is_not_another_way_to_a_property() -> None:
    """One property has one value."""
    with pytest.raises(ValueError, match="extra holds 'size', which is a property of its own"):
        Descriptor(OCI_MANIFEST, DIGEST, 1, extra={"size": 2, "x": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "e30"}, r"^\$\.data: Incorrect padding"),
        ({"data": "e3\n0="}, r"^\$\.data: "),
        ({"data": "é"}, r"^\$\.data: "),
        ({"data": 1}, r"^\$\.data: must be a string, not a number"),
        ({"data": "e319"}, r"^\$\.data: the embedded data has 3 bytes where size is 2"),
        ({"data": "W10="}, r"^\$\.data: the embedded data is not what sha256:"),
        ({"digest": f"blake3:{'0' * 64}"}, r"^\$\.data: digest algorithm 'blake3' cannot be comp"),
        ({"artifactType": "a"}, r"^\$\.artifactType: media type 'a' is not type/subtype"),
        ({"platform": {"OS": "linux"}}, r"^\$\.platform\.OS: other clients read it as 'os'"),
        ({"MediaType": "a/b"}, r"^\$\.MediaType: other clients read it as 'mediaType'"),
    ],
)
def test_a_wrong_object_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    """'decoded data MUST be identical to the referenced content' (descriptor.md, data)."""
    with pytest.raises(InvalidManifest, match=message):
        Descriptor.from_dict({**FULL, **changes})


def test_the_place_begins_with_where_the_object_is() -> None:
    """`where` is the place of the whole object."""
    with pytest.raises(InvalidManifest, match=r"^\$\.layers\[3\]\.size: is missing"):
        Descriptor.from_dict({**FULL, "size": None}, "$.layers[3]")
    with pytest.raises(InvalidManifest, match=r"^\$: must be an object, not no JSON"):
        Descriptor.from_dict(b"{}")


def test_data_and_artifact_type_are_checked_however_a_descriptor_is_made() -> None:
    """'SHOULD be verified against the digest and size fields' (descriptor.md, data)."""
    with pytest.raises(ValueError, match="the embedded data has 3 bytes where size is 2"):
        Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2, data=b"{ }")
    with pytest.raises(ValueError, match="the embedded data is not what"):
        Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2, data=b"[]")
    with pytest.raises(ValueError, match="is not type/subtype"):
        Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2, artifact_type="a b")
    check_media_type(Descriptor(OCI_EMPTY, DIGEST, 2, artifact_type="a/b").artifact_type)


# Platforms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", DEFAULT_PLATFORM),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("linux/amd64:10.0.1", Platform("linux", "amd64", os_version="10.0.1")),
        ("linux/arm/v7:5.4", Platform("linux", "arm", "v7", "5.4")),
        ("windows", Platform("windows", "")),
        ("windows:10.0", Platform("windows", "", os_version="10.0")),
    ],
)
def test_a_platform_is_read_and_printed_as_crane_does(text: str, platform: Platform) -> None:
    """os/architecture/variant:os.version, all but the first optional."""
    assert Platform.parse(text) == platform
    assert str(platform) == text


@pytest.mark.parametrize(
    "text",
    ["", "/amd64", "linux/", "linux//v8", "linux/arm64/v8/x", "linux:1:2", "linux/a b", "lin\nux"],
)
def test_another_platform_is_refused(text: str) -> None:
    """The error says what is wanted."""
    with pytest.raises(ValueError, match=r"is not OS\[/ARCHITECTURE\[/VARIANT\]\]\[:OS.VERSION\]"):
        Platform.parse(text)


OFFERED = Platform("windows", "amd64", "v2", "10.0.1", ("win32k", "more"))


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (OFFERED, True),
        (Platform("", ""), True),
        (Platform("windows", ""), True),
        (Platform("windows", "amd64", os_features=("more",)), True),
        (Platform("linux", "amd64"), False),
        (Platform("windows", "arm64"), False),
        (Platform("windows", "amd64", "v3"), False),
        (Platform("windows", "amd64", os_version="10.0.2"), False),
        (Platform("windows", "amd64", os_features=("other", "more")), False),
    ],
)
def test_what_is_not_wanted_matches_all(wanted: Platform, answer: bool) -> None:
    """'any missing values in the spec are not compared' (GGCR, Platform.Satisfies)."""
    assert OFFERED.matches(wanted) is answer


def test_what_is_not_offered_matches_only_what_is_not_wanted() -> None:
    """'Satisfies is different from Equals': it looks one way."""
    assert not Platform("linux", "arm64").matches(Platform("linux", "arm64", "v9"))
    assert Platform("linux", "arm64", "v9").matches(Platform("linux", "arm64"))


def test_a_platform_is_a_value() -> None:
    """It is copied, sent to another process, and cannot be changed."""
    given = {"features": ["a"]}
    platform = Platform("linux", "amd64", extra=given)
    given["features"].append("b")
    assert platform.extra == {"features": ("a",)}
    assert pickle.loads(pickle.dumps(platform)) == platform  # noqa: S301 - made in this line
    assert hash(platform) == hash(Platform("linux", "amd64", extra={"features": ["a"]}))
    assert DEFAULT_PLATFORM.to_dict() == {"architecture": "amd64", "os": "linux"}


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Descriptor(OCI_LAYER, Digest.of(b""), 0, {"name": f"v{n}"}),
        lambda n: Descriptor(OCI_LAYER, Digest.of(b""), 0, extra={"x": [{"n": n}]}),
        lambda n: Descriptor(
            OCI_LAYER, Digest.of(b""), 0, platform=Platform("a", "b", extra={"n": n})
        ),
        lambda n: Descriptor(OCI_LAYER, Digest.of(b""), 0, urls=(f"https://h.example/{n}",)),
        lambda n: History(extra={"n": n}),
    ],
    ids=["annotations", "extra", "platform", "urls", "history"],
)
def test_hash_differs_if_any_field_differs(make: Callable[[int], object]) -> None:
    """A set of many values that differ in one field alone compares few of them."""
    assert len({hash(make(n)) for n in range(100)}) > 90
    assert hash(make(1)) == hash(make(1))


# Places ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ("size", "$.size"),
        (0, "$[0]"),
        ("os.version", "$['os.version']"),
        ("", "$['']"),
        ("a\nb", r"$['a\nb']"),
        ("2", "$['2']"),
    ],
)
def test_a_place_is_written_as_a_json_path(step: str | int, place: str) -> None:
    """'$.store.book[0].title' (RFC 9535, section 1.5)."""
    assert path("$", step) == place


def test_a_place_is_bounded() -> None:
    """It comes from anyone, and an error is one line."""
    where = "$"
    for _ in range(50):
        where = path(where, "x" * 100)
    assert len(where) == 240
    assert where.endswith("...")


def test_members_are_read_by_name() -> None:
    """A null is absent; what is needed must be there."""
    members = Members({"a": "x", "b": None, "c": ["y"]}, "$")
    assert members.need("a", read_text) == "x"
    assert members.get("b", read_text, "z") == "z"
    assert members.each("c", read_text) == ("y",)
    assert members.each("b", read_text) == ()
    assert members.unknown({"a", "b"}) == {"c": ["y"]}
