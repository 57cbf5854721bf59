"""platform.py: parsing, matching, and which variants of a CPU are equal or preferred."""

import pickle

import pytest

from brolga.spec.platform import DEFAULT_PLATFORM, Platform, normalize_variant, variant_preference


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
def test_parse_and_str_use_form_of_crane(text: str, platform: Platform) -> None:
    """os/architecture/variant:os.version, all but the first optional."""
    assert Platform.parse(text) == platform
    assert str(platform) == text


@pytest.mark.parametrize(
    "text",
    ["", "/amd64", "linux/", "linux//v8", "linux/arm64/v8/x", "linux:1:2", "linux/a b", "lin\nux"],
)
def test_parse_rejects_other_text(text: str) -> None:
    """The error names the expected form."""
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
def test_matches_ignores_empty_fields(wanted: Platform, answer: bool) -> None:
    """'any missing values in the spec are not compared' (GGCR, Platform.Satisfies)."""
    assert OFFERED.matches(wanted) is answer


def test_matches_is_not_symmetric() -> None:
    """'Satisfies is different from Equals' (GGCR): a missing field matches only an empty one."""
    assert not Platform("linux", "arm64").matches(Platform("linux", "arm64", "v9"))
    assert Platform("linux", "arm64", "v9").matches(Platform("linux", "arm64"))


def test_platform_is_value() -> None:
    """It can be copied and pickled, and is immutable."""
    given = {"features": ["a"]}
    platform = Platform("linux", "amd64", extra=given)
    given["features"].append("b")
    assert platform.extra == {"features": ("a",)}
    assert pickle.loads(pickle.dumps(platform)) == platform  # noqa: S301 - made in this line
    assert hash(platform) == hash(Platform("linux", "amd64", extra={"features": ["a"]}))
    assert DEFAULT_PLATFORM.to_dict() == {"architecture": "amd64", "os": "linux"}


@pytest.mark.parametrize(
    ("cpu", "form"),
    [
        (("amd64", "v1"), ("amd64", "")),
        (("amd64", "v2"), ("amd64", "v2")),
        (("x86_64", ""), ("amd64", "")),
        (("x86-64", "V1"), ("amd64", "")),
        (("i386", "v1"), ("386", "")),
        (("arm64", "v8"), ("arm64", "")),
        (("arm64", "8"), ("arm64", "")),
        (("arm64", "v8.0"), ("arm64", "")),
        (("arm64", "v8.1"), ("arm64", "v8.1")),
        (("arm64", "9"), ("arm64", "v9")),
        (("AARCH64", ""), ("arm64", "")),
        (("arm", ""), ("arm", "v7")),
        (("arm", "6"), ("arm", "v6")),
        (("armhf", ""), ("arm", "v7")),
        (("armel", ""), ("arm", "v6")),
        (("ppc64le", "power8"), ("ppc64le", "power8")),
        (("", ""), ("", "")),
    ],
)
def test_normalize_variant_maps_names_of_one_cpu_to_one(
    cpu: tuple[str, str], form: tuple[str, str]
) -> None:
    """The table of normalizeArch (github.com/containerd/platforms, database.go)."""
    assert normalize_variant(*cpu) == form
    assert normalize_variant(*form) == form


@pytest.mark.parametrize(
    ("architecture", "variants"),
    [
        ("arm", ["v7", "v6", "v5", "v8", "odd"]),
        ("amd64", ["", "v2", "v3", "v4", "odd"]),
        ("arm64", ["v8", "v8.1", "v8.2", "v9", "odd"]),
        ("ppc64le", ["", "power9"]),
    ],
)
def test_variant_preference_is_highest_for_default(architecture: str, variants: list[str]) -> None:
    """'For arm/v7, will also match arm/v6 and arm/v5' (containerd, platforms.Only)."""
    order = sorted(
        variants, key=lambda variant: variant_preference(architecture, variant), reverse=True
    )
    assert order == variants
    assert len({variant_preference(architecture, variant) for variant in variants}) == len(variants)
