"""The images of these tests, and the credential helper, with skopeo and umoci."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.real.foreign import (
    PLAIN,
    Access,
    copy,
    make_image,
    push,
    skopeo,
    tree,
    unpack,
    write_auths,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.conftest import CredentialHelper
    from tests.real.foreign import DockerRegistry, Image

pytestmark = pytest.mark.real


class TestImages:
    """Images made by hand, pushed and read by foreign programs."""

    def test_make_image_for_one_platform(
        self, plain_registry: DockerRegistry, image: Image, tmp_path: Path
    ) -> None:
        """It has three layers, and umoci unpacks its files; one is removed again."""
        place = f"{plain_registry.address}/made/one:v1"
        assert push(image, place) == image.digest
        inspected = json.loads(skopeo("inspect", *PLAIN.flags(), f"docker://{place}"))
        assert (inspected["Digest"], len(inspected["Layers"])) == (image.digest, 3)
        copy(f"docker://{place}", f"oci:{tmp_path / 'back'}:v1", "--preserve-digests")
        files = tree(unpack(tmp_path / "back", "v1", tmp_path / "bundle"))
        assert list(files) == sorted(
            [
                *("bin", "bin/script", "empty", "etc", "etc/link", "etc/replaced", "platform"),
                *("random", "\u00fcml\u00e4ut"),
            ]
        )
        assert files["etc/link"][:2] == ("lrwxrwxrwx", "replaced")
        assert files["bin/script"].mode == "-rwxr-xr-x"
        assert (tmp_path / "bundle/rootfs/etc/replaced").read_text() == "replaced by this\n"

    def test_make_image_for_several_platforms(
        self, plain_registry: DockerRegistry, tmp_path: Path
    ) -> None:
        """An index of two images that share two layers; all of it is copied."""
        image = make_image(tmp_path / "image", platforms=("linux/amd64", "linux/arm64"))
        place = f"{plain_registry.address}/made/two:v1"
        assert push(image, place) == image.digest
        raw = json.loads(skopeo("inspect", "--raw", *PLAIN.flags(), f"docker://{place}"))
        assert raw["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert [entry["platform"]["architecture"] for entry in raw["manifests"]] == [
            "amd64",
            "arm64",
        ]
        flags = ["--override-arch=arm64", "inspect", *PLAIN.flags()]
        inspected = json.loads(skopeo(*flags, f"docker://{place}"))
        assert inspected["Architecture"] == "arm64"
        # An index, two manifests, two configurations, two layers of both and one of each.
        assert len(list((image.directory / "blobs/sha256").iterdir())) == 9

    @pytest.mark.parametrize(
        ("platforms", "expected"),
        [
            (("linux/amd64",), "application/vnd.docker.distribution.manifest.v2+json"),
            (
                ("linux/amd64", "linux/arm64"),
                "application/vnd.docker.distribution.manifest.list.v2+json",
            ),
        ],
    )
    def test_push_as_docker_schema_2(
        self,
        plain_registry: DockerRegistry,
        tmp_path: Path,
        platforms: tuple[str, ...],
        expected: str,
    ) -> None:
        """`--format=v2s2` writes Docker manifests, with digests of their own."""
        image = make_image(tmp_path / "image", platforms)
        place = f"{plain_registry.address}/made/docker-{len(platforms)}:v1"
        digest = push(image, place, "--format=v2s2")
        assert digest != image.digest
        raw = json.loads(skopeo("inspect", "--raw", *PLAIN.flags(), f"docker://{place}"))
        assert raw["mediaType"] == expected

    def test_tree_finds_each_difference(self, tmp_path: Path) -> None:
        """Names, types, modes, contents and link targets count; times if asked for."""
        one, two = tmp_path / "one", tmp_path / "two"
        for directory in (one, two):
            (directory / "sub").mkdir(parents=True)
            (directory / "sub/file").write_text("text")
            (directory / "link").symlink_to("sub/file")
            os.utime(directory / "sub/file", (0, 0))
        os.utime(two / "sub/file", (9, 9))
        for directory in (one, two):
            os.utime(directory / "sub", (0, 0))
            os.utime(directory / "link", (0, 0), follow_symlinks=False)
        assert tree(one) == tree(two)
        assert tree(one, mtimes=True) != tree(two, mtimes=True)
        (two / "sub/file").chmod(0o600)
        assert tree(one) != tree(two)
        (two / "sub/file").chmod((one / "sub/file").stat().st_mode)
        (two / "sub/file").write_text("taxt")
        assert tree(one) != tree(two)
        (two / "sub/file").write_text("text")
        (two / "link").unlink()
        (two / "link").symlink_to("sub")
        assert tree(one) != tree(two)

    @pytest.mark.parametrize(
        ("form", "right", "wrong"),
        [
            ("tls_registry", "trust", None),
            ("mutual_tls_registry", "client_trust", "trust"),
            ("basic_registry", "basic_access", "trust"),
        ],
    )
    def test_skopeo_reaches_every_form_of_registry(
        self,
        request: pytest.FixtureRequest,
        image: Image,
        form: str,
        right: str,
        wrong: str | None,
    ) -> None:
        """Certificates by a directory, credentials by a file; without them it does not."""
        target = f"{request.getfixturevalue(form).address}/reached:v1"
        with pytest.raises(AssertionError, match=r"certificate|unauthorized|authentication"):
            push(image, target, access=request.getfixturevalue(wrong) if wrong else Access())
        assert push(image, target, access=request.getfixturevalue(right)) == image.digest


@pytest.fixture
def basic_access(basic_registry: DockerRegistry, trust: Access, tmp_path: Path) -> Access:
    """Give skopeo what `basic_registry` asks for."""
    passwords = {basic_registry.address: ("someone", "secret")}
    auths = write_auths(tmp_path / "auths", passwords=passwords)
    return Access(certificates=trust.certificates, authfile=auths)


class TestCredentialHelper:
    """The credential helper, by its protocol and as skopeo uses it."""

    def test_credential_helper_speaks_the_protocol(
        self, credential_helper: CredentialHelper
    ) -> None:
        """get, store, erase and list, as docker-credential-helpers has them."""

        def run(action: str, payload: str = "") -> tuple[int, str]:
            done = subprocess.run(
                ["docker-credential-brolgatest", action],
                input=payload,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stderr == ""
            return done.returncode, done.stdout

        entry = {"ServerURL": "localhost:5000", "Username": "me", "Secret": "s"}
        assert run("get", "localhost:5000") == (1, "credentials not found in native keychain\n")
        assert run("store", json.dumps(entry)) == (0, "")
        assert json.loads(run("get", "localhost:5000\n")[1]) == entry
        assert json.loads(run("list")[1]) == {"localhost:5000": "me"}
        assert run("erase", "localhost:5000") == (0, "")
        assert credential_helper.known() == {}
        assert credential_helper.calls() == [
            "get localhost:5000",
            "store localhost:5000",
            "get localhost:5000",
            "list",
            "erase localhost:5000",
        ]

    def test_skopeo_asks_the_credential_helper(
        self,
        credential_helper: CredentialHelper,
        basic_registry: DockerRegistry,
        trust: Access,
        image: Image,
        tmp_path: Path,
    ) -> None:
        """`credHelpers` in the config names it for one registry."""
        address = basic_registry.address
        credential_helper.add(address, "someone", "secret")
        auths = write_auths(tmp_path / "auths", helpers={address: credential_helper.name})
        access = Access(certificates=trust.certificates, authfile=auths)
        push(image, f"{address}/helped:v1", access=access)
        assert set(credential_helper.calls()) == {f"get {address}"}
