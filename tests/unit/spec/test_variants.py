"""variants.py: names of CPUs, and which variant suits best."""

import pytest

from brolga.spec.descriptor import normalize_variant, variant_preference


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
def test_names_of_one_cpu_have_one_form(cpu: tuple[str, str], form: tuple[str, str]) -> None:
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
def test_the_default_variant_is_preferred(architecture: str, variants: list[str]) -> None:
    """'For arm/v7, will also match arm/v6 and arm/v5' (containerd, platforms.Only)."""
    order = sorted(
        variants, key=lambda variant: variant_preference(architecture, variant), reverse=True
    )
    assert order == variants
    assert len({variant_preference(architecture, variant) for variant in variants}) == len(variants)
