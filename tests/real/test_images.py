"""Images of the command in a foreign registry, read by foreign programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.images import assert_valid, blob_names, digest_of
from tests.real.foreign import (
    Access,
    copy,
    make_image,
    push,
    require,
    skopeo,
    tree,
    unpack,
    write_auths,
)

from brolga.client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Authority
    from tests.real.foreign import DockerRegistry, Image
    from tests.real.tokens import TokenServer

pytestmark = pytest.mark.real


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Write a file tree that adds to the image's, and replaces a file of it."""
    root = tmp_path / "tree"
    (root / "app/deep").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "app/hello.txt").write_text("hello\n")
    (root / "app/deep/large").write_bytes(os.urandom(2_500_000))
    (root / "app/link").symlink_to("hello.txt")
    (root / "etc/replaced").write_text("by the application\n")
    (root / "app/hello.txt").chmod(0o640)
    return root


@pytest.fixture
def access(tmp_path: Path, trust: Access, token_registry: DockerRegistry) -> Access:
    """Let skopeo in as `someone`, by docker's file; brolga reads the same one."""
    file = tmp_path / "docker" / "config.json"
    file.parent.mkdir()
    write_auths(file, passwords={token_registry.address: ("someone", "secret")})
    return Access(certificates=trust.certificates, authfile=file)


def sh(command: str, access: Access, cwd: Path) -> str:
    """Run a shell's command as a user with docker's file; return what it prints."""
    assert access.authfile
    done = subprocess.run(
        ["sh", "-c", command.replace("brolga ", f"{sys.executable} -m brolga ", 1)],
        cwd=cwd,
        env=os.environ | {"DOCKER_CONFIG": str(access.authfile.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def check(name: str) -> None:
    """Assert that all of an image in a registry is valid, as `brolga validate --remote` does."""
    with Client() as client:
        assert_valid(client.image(name))


def test_umoci_unpacks_the_result_of_append(  # noqa: PLR0917 - fixtures
    token_registry: DockerRegistry,
    tokens: TokenServer,
    access: Access,
    authority: Authority,
    image: Image,
    app: Path,
    tmp_path: Path,
) -> None:
    """`tar -c app | brolga append -b BASE -f - -t REF`, over TLS with tokens for both names."""
    require("umoci", "tar")
    base, name = (f"{token_registry.address}/team/{part}" for part in ("base:v1", "app:v1"))
    push(image, base, access=access)
    tokens.asked.clear()
    flags = f"--ca-cert {authority.ca_cert} --set-base-image-annotations"
    pipe = f"tar -C {app} -c . | brolga append -b {base} -f - -t {name} {flags}"
    printed = sh(pipe, access, tmp_path)
    raw = skopeo("inspect", "--raw", *access.flags(), f"docker://{name}")
    digest = digest_of(raw.encode())
    assert printed == f"{token_registry.address}/team/app@{digest}\n"
    granted = {scope for asked in tokens.asked for scope in asked.granted}
    assert {"repository:team/app:pull,push", "repository:team/base:pull"} <= granted
    assert json.loads(raw)["annotations"] == {
        "org.opencontainers.image.base.digest": image.digest,
        "org.opencontainers.image.base.name": base,
    }

    layout = tmp_path / "layout"
    for source, tag in ((base, "base"), (name, "app")):
        copy(f"docker://{source}", f"oci:{layout}:{tag}", source_access=access)
    below = tree(unpack(layout, "base", tmp_path / "base"))
    above = tree(app)
    assert "etc/replaced" in below.keys() & above.keys()
    assert tree(unpack(layout, "app", tmp_path / "app")) == below | above


def test_copy_of_an_index_can_be_read_by_skopeo(
    token_registry: DockerRegistry,
    plain_registry: DockerRegistry,
    access: Access,
    authority: Authority,
    tmp_path: Path,
) -> None:
    """All platforms; the digest stays."""
    images = make_image(tmp_path / "layout", ("linux/amd64", "linux/arm64"))
    source, target = f"{token_registry.address}/team/app:v1", f"{plain_registry.address}/mirror:v1"
    push(images, source, access=access)
    printed = sh(f"brolga copy {source} {target} --ca-cert {authority.ca_cert}", access, tmp_path)
    assert printed == f"{plain_registry.address}/mirror@{images.digest}\n"
    copy(f"docker://{target}", f"oci:{tmp_path / 'back'}:v1", "--preserve-digests")
    assert blob_names(tmp_path / "back") == blob_names(images.directory)


def test_umoci_unpacks_the_same_files_after_flatten_export_and_rebase(
    plain_registry: DockerRegistry, image: Image, app: Path, access: Access, tmp_path: Path
) -> None:
    """`flatten`, `export` and `rebase`: umoci and tar unpack what they unpack of the layers."""
    require("umoci", "tar")
    place = plain_registry.address
    base, name = f"{place}/made/base:v1", f"{place}/made/app:v1"
    push(image, base)
    pipe = f"tar -C {app} -c . | brolga append -b {base} -f - -t {name}"
    sh(f"{pipe} --set-base-image-annotations", access, tmp_path)
    sh(f"brolga flatten {name} -t {place}/made/flat:v1", access, tmp_path)
    other = make_image(tmp_path / "other", size=1000)
    push(other, f"{place}/made/base:v2")
    flags = f"--new_base {place}/made/base:v2 -t {place}/made/app:v2"
    sh(f"brolga rebase {name} {flags}", access, tmp_path)

    layout = tmp_path / "layout"
    for source, tag in (("app:v1", "app"), ("flat:v1", "flat"), ("app:v2", "new")):
        copy(f"docker://{place}/made/{source}", f"oci:{layout}:{tag}")
    files = {tag: tree(unpack(layout, tag, tmp_path / tag)) for tag in ("app", "flat", "new")}
    assert files["flat"] == files["app"]
    new_base = tree(unpack(other.directory, other.tag, tmp_path / "base"))
    assert files["new"] == new_base | tree(app)
    (tmp_path / "exported").mkdir()
    sh(f"brolga export {name} | tar -C exported -x", access, tmp_path)
    assert tree(tmp_path / "exported") == files["app"]
    for tag in ("flat:v1", "app:v2", "base:v2"):
        check(f"{place}/made/{tag}")


def test_skopeo_reads_an_index_of_append_and_filter(
    plain_registry: DockerRegistry, access: Access, tmp_path: Path
) -> None:
    """It reads the platforms, and copies all of it."""
    name = f"{plain_registry.address}/indexed"
    for platform in ("linux/amd64", "linux/arm64"):
        tag = platform.rpartition("/")[2]
        push(make_image(tmp_path / tag, (platform,), size=1000), f"{name}:{tag}")
    printed = sh(
        f"brolga index append -m {name}:amd64,{name}:arm64 -t {name}:all", access, tmp_path
    )
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}:all")
    digest = digest_of(raw.encode())
    assert printed == f"{name}@{digest}\n"
    platforms = [entry["platform"] for entry in json.loads(raw)["manifests"]]
    assert [platform["architecture"] for platform in platforms] == ["amd64", "arm64"]
    copy(f"docker://{name}:all", f"oci:{tmp_path / 'back'}:all", "--preserve-digests")
    sh(f"brolga index filter {name}:all --platform linux/arm64 -t {name}:one", access, tmp_path)
    flags = [
        "--tls-verify=false",
        "--override-arch=arm64",
        "--no-tags",
        "--format={{.Architecture}}",
    ]
    assert skopeo("inspect", *flags, f"docker://{name}:one") == "arm64\n"


def test_skopeo_reads_a_mutated_config(
    plain_registry: DockerRegistry, image: Image, access: Access, tmp_path: Path
) -> None:
    """Labels, environment and command; the layers are the same blobs."""
    name = f"{plain_registry.address}/mutated"
    push(image, f"{name}:v1")
    flags = "-l version=2 -e MODE=fast --entrypoint /bin/script --cmd run,fast -u daemon"
    sh(f"brolga mutate {name}:v1 -t {name}:v2 {flags}", access, tmp_path)
    plain = "--tls-verify=false"
    config = json.loads(skopeo("inspect", "--config", plain, f"docker://{name}:v2"))["config"]
    assert config == {
        "Labels": {"version": "2"},
        "Env": ["MODE=fast"],
        "Entrypoint": ["/bin/script"],
        "Cmd": ["run", "fast"],
        "User": "daemon",
    }
    layers = [
        json.loads(skopeo("inspect", "--raw", plain, f"docker://{name}:{tag}"))["layers"]
        for tag in ("v1", "v2")
    ]
    assert layers[0] == layers[1]


def test_append_to_docker_and_oci_bases_can_be_unpacked(
    plain_registry: DockerRegistry, image: Image, app: Path, access: Access, tmp_path: Path
) -> None:
    """An OCI image on a Docker base, and zstd on one: skopeo copies, umoci unpacks, valid."""
    require("umoci", "tar")
    place = f"{plain_registry.address}/families"
    push(image, f"{place}/oci:v1")
    push(image, f"{place}/docker:v1", "--format=v2s2")
    for base, tag, flags in (
        ("oci", "oci", ""),
        ("docker", "docker", ""),
        ("docker", "zstd", "--compression zstd"),
    ):
        append = f"brolga append -f - -b {place}/{base}:v1 -t {place}/app:{tag} {flags}"
        pipe = f"tar -C {app} -c . | {append} --set-base-image-annotations"
        sh(pipe, access, tmp_path)
    for tag, base in (("oci", "docker"), ("docker", "oci")):
        target = f"--new_base {place}/{base}:v1 -t {place}/app:{tag}-on-{base}"
        sh(f"brolga rebase {place}/app:{tag} {target}", access, tmp_path)

    layout = tmp_path / "layout"
    wanted = tree(unpack(image.directory, image.tag, tmp_path / "base")) | tree(app)
    for tag, family in (
        ("docker", "docker.distribution"),
        ("zstd", "oci.image"),
        ("oci-on-docker", "oci.image"),
        ("docker-on-oci", "docker.distribution"),
    ):
        name = f"{place}/app:{tag}"
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        assert json.loads(raw)["mediaType"].startswith(f"application/vnd.{family}.manifest.")
        copy(f"docker://{name}", f"oci:{layout}:{tag}")
        if tag == "zstd":  # umoci 0.4 does not read it
            sh(f"brolga flatten {name} -t oci:{layout}:{tag}", access, tmp_path)
        assert tree(unpack(layout, tag, tmp_path / f"bundle-{tag}")) == wanted
        check(name)


def test_append_to_a_base_without_layers_can_be_unpacked(
    plain_registry: DockerRegistry, app: Path, access: Access, tmp_path: Path
) -> None:
    """`FROM scratch` and a label alone make such a base."""
    require("umoci", "tar")
    place, empty = f"{plain_registry.address}/scratch", tmp_path / "empty"
    subprocess.run(["umoci", "init", "--layout", empty], check=True)
    subprocess.run(["umoci", "new", "--image", f"{empty}:v1"], check=True)
    copy(f"oci:{empty}:v1", f"docker://{place}:base")
    sh(f"tar -C {app} -c . | brolga append -b {place}:base -f - -t {place}:v1", access, tmp_path)
    copy(f"docker://{place}:v1", f"oci:{tmp_path / 'layout'}:v1")
    assert tree(unpack(tmp_path / "layout", "v1", tmp_path / "bundle")) == tree(app)
    check(f"{place}:v1")


# --- What another client, or the registry, did meanwhile


@pytest.mark.parametrize("part", ["config", "layer"])
@pytest.mark.parametrize(("tag", "flags"), [("v2", ""), ("v1", "--recheck")])
def test_push_restores_a_blob_that_the_repository_lost(  # noqa: PLR0917 - fixtures
    plain_registry: DockerRegistry,
    image: Image,
    access: Access,
    tmp_path: Path,
    part: str,
    tag: str,
    flags: str,
) -> None:
    """The registry refuses the manifest, or each blob is asked for with --recheck."""
    name = f"{plain_registry.address}/lost/{part}/{tag}"
    with Client() as client:
        client.copy(image.place, f"{name}:v1")
        manifest = client.image(f"{name}:v1").manifest
        lost = manifest.config if part == "config" else manifest.layers[0]
        client.delete_blob(f"{name}@{lost.digest}")
    sh(f"brolga push {image.place} {name}:{tag} {flags}", access, tmp_path)
    check(f"{name}:{tag}")


def test_copy_with_referrers_lists_a_referrer_again(
    plain_registry: DockerRegistry, image: Image, access: Access, tmp_path: Path
) -> None:
    """A copy that dies between the manifest and the tag is finished by the next one."""
    source, target = (f"{plain_registry.address}/listed/{name}" for name in ("from", "to"))
    push(image, f"{source}:v1")
    sh(f"brolga attach --artifact-type text/plain -a a=b {source}:v1", access, tmp_path)
    copied = f"brolga copy --referrers {source}:v1 {target}:v1"
    sh(copied, access, tmp_path)
    with Client() as client:
        referrers = client.referrers(f"{target}:v1")
        (tag,) = (tag for tag in client.tags(target) if tag != "v1")
        client.delete(f"{target}@{client.head(f'{target}:{tag}').digest}")
        assert client.referrers(f"{target}:v1") == ()
        sh(copied, access, tmp_path)
        assert client.referrers(f"{target}:v1") == referrers != ()
