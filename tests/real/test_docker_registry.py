"""Pushes to docker-registry, read by foreign programs."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from tests.images import digest_of
from tests.processes import BROLGA, UNTAGGED_WARNING
from tests.real.foreign import (
    copy,
    docker_registry,
    htpasswd,
    require,
    skopeo,
    tls,
    tree,
    unpack,
)
from tests.real.tokens import Asked, TokenKey, token_server
from tests.registries import request

from brolga.client import Client, TransportOptions
from brolga.errors import TransportError, Unauthorized
from brolga.protocol import Credentials
from brolga.spec.blob import LayerState
from brolga.spec.mediatypes import OCI_CONFIG, OCI_MANIFEST
from brolga.stream.layer import StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Authority
    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

MIB = 1 << 20
DATA = {
    "nothing": b"",
    "one byte": b"x",
    "random bytes": random.Random(1).randbytes(3_000_001),
}
# The program that undoes each compression.
READERS = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dc"], "none": ["cat"]}


@pytest.fixture
def registry(plain_registry: DockerRegistry) -> str:
    """Give the address of the docker-registry that needs no credentials."""
    return plain_registry.address


def run_brolga(
    data: bytes, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with bytes on stdin."""
    return subprocess.run(
        [*BROLGA, *arguments],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


def save_blob(address: str, repository: str, digest: object, target: Path) -> Path:
    """Read a blob back into a file, without brolga."""
    with (
        urlopen(f"http://{address}/v2/{repository}/blobs/{digest}") as response,
        target.open("wb") as file,
    ):
        shutil.copyfileobj(response, file, MIB)
    return target


def sha256sum(path: Path) -> str:
    """Compute a digest with the program sha256sum."""
    done = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    return f"sha256:{done.stdout.split()[0].removeprefix(chr(92))}"


def decompressed(path: Path, compression: str) -> Path:
    """Undo a compression with the program that is known for it."""
    target = path.with_suffix(".plain")
    with path.open("rb") as source, target.open("wb") as plain:
        subprocess.run(READERS[compression], stdin=source, stdout=plain, check=True)
    return target


def check(
    address: str, repository: str, result: dict[str, object], compression: str, place: Path
) -> Path:
    """Hold a push's result against the blob, by the programs of others; return its plain bytes."""
    blob = save_blob(address, repository, result["digest"], place / "blob")
    assert sha256sum(blob) == result["digest"]
    assert blob.stat().st_size == result["size"]
    if compression == "gzip":
        with blob.open("rb") as source:
            subprocess.run(["gzip", "-t"], stdin=source, check=True)
    plain = decompressed(blob, compression)
    assert sha256sum(plain) == result["diffId"]
    assert plain.stat().st_size == result["uncompressedSize"]
    return plain


def figures(layer: StreamLayer) -> dict[str, object]:
    """Return what `--json` prints, of a layer that was pushed by the library."""
    return {
        "digest": str(layer.digest),
        "diffId": str(layer.diff_id),
        "size": layer.size,
        "uncompressedSize": layer.uncompressed_size,
    }


@pytest.mark.parametrize("compression", READERS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
class TestPush:
    """Each compression and size, by library and by command."""

    def test_push_layer_result_agrees_with_other_programs(
        self, registry: str, tmp_path: Path, compression: str, data: bytes
    ) -> None:
        """Digest, DiffID and size are those of sha256sum and the decompressing program."""
        require(READERS[compression][0])
        layer = StreamLayer([data], compression)
        with Client() as client:
            client.push_layer(f"{registry}/library/{compression}", layer)
        plain = check(registry, f"library/{compression}", figures(layer), compression, tmp_path)
        assert plain.read_bytes() == data

    def test_layer_push_result_agrees_with_other_programs(
        self, registry: str, tmp_path: Path, compression: str, data: bytes
    ) -> None:
        """The same from stdin."""
        require(READERS[compression][0])
        flags = ["--json", "--compression", compression]
        done = run_brolga(data, "layer", "push", *flags, f"{registry}/command")
        assert (done.returncode, done.stderr) == (0, UNTAGGED_WARNING.encode())
        plain = check(registry, "command", json.loads(done.stdout), compression, tmp_path)
        assert plain.read_bytes() == data


def files_of(directory: Path, size: int) -> Iterator[Path]:
    """Yield the regular files below a directory, up to `size` bytes in all."""
    for parent, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(parent, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                size -= status.st_size
                if size < 0:
                    return
                yield path


def test_layer_push_streams_a_100_mb_tree(registry: str, tmp_path: Path) -> None:
    """More than any buffer holds, of real files, through a pipe."""
    require("tar")
    names = tmp_path / "names"
    names.write_bytes(
        b"".join(os.fsencode(path) + b"\0" for path in files_of(Path("/usr/lib"), 100 * MIB))
    )
    script = 'tar -P -c --null -T "$1" | "$2" -m brolga layer push --json "$3"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", names, sys.executable, f"{registry}/tree"],
        capture_output=True,
        check=True,
    )
    assert done.stderr == UNTAGGED_WARNING.encode()
    result = json.loads(done.stdout)
    plain = check(registry, "tree", result, "gzip", tmp_path)
    # tar reads the same files once more, and compares.
    subprocess.run(["tar", "-P", "--compare", "-f", plain], check=True, capture_output=True)


def test_layer_push_streams_python_s_tree_from_a_shell_pipe(registry: str, tmp_path: Path) -> None:
    """`tar -c … | brolga layer push --json REPO`: the blob is exactly the bytes sent."""
    require("tar")
    if not list(Path("/usr/lib").glob("python3*")):
        pytest.skip("there is no /usr/lib/python3* here")
    sent = tmp_path / "sent.tar"
    script = (
        'tar -c /usr/lib/python3* 2>/dev/null | tee "$1" | "$2" -m brolga layer push --json "$3"'
    )
    done = subprocess.run(
        ["sh", "-c", script, "sh", sent, sys.executable, f"{registry}/stream"],
        capture_output=True,
        check=True,
    )
    result = json.loads(done.stdout)
    plain = check(registry, "stream", result, "gzip", tmp_path)
    assert sha256sum(plain) == sha256sum(sent)


class TestBasic:
    """A registry behind htpasswd."""

    @pytest.fixture
    def locked(self, tmp_path: Path) -> Iterator[str]:
        """Run one that knows `someone` with `secret`."""
        auth = htpasswd(tmp_path, someone="secret")
        with docker_registry(tmp_path / "locked", auth=auth) as running:
            yield running.address

    @staticmethod
    def stored(tmp_path: Path) -> list[Path]:
        """Return the files that the registry has: uploads, and blobs."""
        return [path for path in (tmp_path / "locked/storage").rglob("*") if path.is_file()]

    def test_push_with_basic_credentials(self, locked: str, tmp_path: Path) -> None:
        """From the environment for the command, as an argument for the library."""
        done = run_brolga(
            b"data",
            *("layer", "push", f"{locked}/x"),
            BROLGA_USERNAME="someone",
            BROLGA_PASSWORD="secret",  # noqa: S106 - of this test's registry
        )
        assert (done.returncode, done.stderr) == (0, UNTAGGED_WARNING.encode())
        with Client(credentials=Credentials("someone", "secret")) as client:
            client.push_layer(f"{locked}/x", StreamLayer([b"more"]))
        assert self.stored(tmp_path)

    @pytest.mark.parametrize("password", ["wrong", ""])
    def test_layer_push_without_valid_credentials_sends_nothing(
        self, locked: str, tmp_path: Path, password: str
    ) -> None:
        """Exit code 4 and what to do; not a byte of the body, not even a session."""
        done = run_brolga(
            b"data",
            *("layer", "push", f"{locked}/x"),
            BROLGA_USERNAME="someone",
            BROLGA_PASSWORD=password,
        )
        assert (done.returncode, done.stdout) == (4, b"")
        assert done.stderr.startswith(b"brolga: registry: ")
        assert b"UNAUTHORIZED" in done.stderr
        assert b"; log in with brolga auth login" in done.stderr
        assert b"BROLGA_USERNAME" in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert self.stored(tmp_path) == []

    def test_push_layer_with_wrong_credentials_raises_unauthorized(
        self, locked: str, tmp_path: Path
    ) -> None:
        """The source is not read on."""
        layer = StreamLayer([b"data"])
        with (
            Client(credentials=Credentials("someone", "wrong")) as client,
            pytest.raises(Unauthorized),
        ):
            client.push_layer(f"{locked}/x", layer)
        assert layer.state is LayerState.FAILED
        assert self.stored(tmp_path) == []


class TestToken:
    """A registry that trusts a token server of the tests'."""

    def test_push_with_an_anonymous_token(self, tmp_path: Path, token_key: TokenKey) -> None:
        """The challenge's realm is asked for pull and push; the registry verifies the token."""
        with token_server(token_key, public=("repository:*:pull,push",)) as server:
            with docker_registry(tmp_path / "registry", auth=server.section()) as running:
                address = running.address
                layer = StreamLayer([DATA["random bytes"]])
                with Client() as client:
                    descriptor = client.push_layer(f"{address}/team/app", layer)
                # The token server refuses whom it does not know.
                with (
                    Client(credentials=Credentials("a", "b")) as client,
                    pytest.raises(
                        Unauthorized, match=r"GET http://127\.0\.0\.1:\d+/token with 401"
                    ),
                ):
                    client.push_layer(f"{address}/team/app", StreamLayer([b"data"]))
            scopes = ("repository:team/app:pull,push",)
            assert server.asked == [
                Asked("GET", "anonymous", "", scopes, scopes, 200),
                Asked("GET", "basic", "a", scopes, (), 401),
            ]
        stored = tmp_path / "registry/storage/docker/registry/v2/blobs/sha256"
        encoded = descriptor.digest.encoded
        assert sha256sum(stored / encoded[:2] / encoded / "data") == str(descriptor.digest)


class TestTls:
    """A registry with a certificate that no system trusts."""

    @pytest.fixture
    def secure(self, tmp_path: Path, authority: Authority) -> Iterator[str]:
        """Run one."""
        with docker_registry(tmp_path / "secure", http=tls(authority)) as running:
            yield running.address

    def test_layer_push_over_tls_needs_a_trusted_authority(
        self, secure: str, authority: Authority
    ) -> None:
        """`--ca-cert`; without, exit code 5 that names the certificate; `--insecure`."""
        refused = run_brolga(b"", "layer", "push", f"{secure}/x")
        assert (refused.returncode, refused.stdout) == (5, b"")
        assert b"the certificate is not trusted" in refused.stderr
        assert refused.stderr.endswith(b"trust its authority with --ca-cert, or use --insecure\n")
        for flags in (["--ca-cert", str(authority.ca_cert)], ["--insecure"]):
            done = run_brolga(DATA["random bytes"], "layer", "push", *flags, f"{secure}/x")
            assert (done.returncode, done.stderr) == (0, UNTAGGED_WARNING.encode())

    def test_push_layer_over_tls_needs_a_trusted_authority(
        self, secure: str, authority: Authority
    ) -> None:
        """`ca_cert` and `insecure` of a client."""
        with Client() as client, pytest.raises(TransportError) as caught:
            client.push_layer(f"{secure}/x", StreamLayer([b"data"]))
        assert caught.value.reason == "certificate"
        for client in (
            Client(transport=TransportOptions(ca_cert=authority.ca_cert)),
            Client(transport=TransportOptions(insecure=True)),
        ):
            with client:
                client.push_layer(f"{secure}/x", StreamLayer([DATA["random bytes"]]))


def push_image(address: str, repository: str, layer: StreamLayer) -> None:
    """Make an image of one pushed layer, with another client, and call it `v1`."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id)]},
            "history": [{"created_by": "tests"}],
        }
    ).encode()
    digest = digest_of(config)
    session = urlsplit(request(address, "POST", f"/v2/{repository}/blobs/uploads/").location)
    put = request(address, "PUT", f"{session.path}?{session.query}&digest={digest}", config)
    assert put.status == 201
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": len(config)},
        "layers": [layer.descriptor.to_dict()],
    }
    body, headers = json.dumps(manifest).encode(), {"Content-Type": OCI_MANIFEST}
    put = request(address, "PUT", f"/v2/{repository}/manifests/v1", body, headers)
    assert put.status == 201


def make_tree(directory: Path) -> None:
    """Write files of many kinds: empty, large, deep, executable, linked, oddly named."""
    (directory / "deep/er/and/deeper").mkdir(parents=True)
    (directory / "empty").touch()
    (directory / "empty directory").mkdir()
    (directory / "random").write_bytes(DATA["random bytes"])
    (directory / "deep/er/and/deeper/text").write_text("text\n" * 100_000)
    (directory / "deep/\u00fcml\u00e4ut").write_text("name")
    (directory / ("long" * 60)).write_text("name")
    script = directory / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (directory / "link").symlink_to("deep/er")
    os.link(directory / "random", directory / "hard link")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_skopeo_and_umoci_read_an_image_of_a_pushed_layer(
    registry: str, tmp_path: Path, compression: str
) -> None:
    """Inspected, copied with every digest checked, unpacked: the files are the source's."""
    require("tar", "skopeo", "umoci")
    files = tmp_path / "tree"
    make_tree(files)
    with subprocess.Popen(["tar", "-C", files, "-c", "."], stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        layer = StreamLayer(tar.stdout, compression)
        with Client() as client:
            client.push_layer(f"{registry}/image/{compression}", layer)
    push_image(registry, f"image/{compression}", layer)

    source = f"docker://{registry}/image/{compression}:v1"
    inspected = skopeo("inspect", "--tls-verify=false", source)
    assert json.loads(inspected)["Layers"] == [str(layer.digest)]
    layout = tmp_path / "layout"
    copy(source, f"oci:{layout}:v1", "--preserve-digests")
    assert sha256sum(layout / "blobs/sha256" / layer.digest.encoded) == str(layer.digest)
    if compression == "zstd" and not _umoci_reads_zstd():
        pytest.skip("skopeo read the zstd layer; this umoci knows no zstd")
    assert tree(unpack(layout, "v1", tmp_path / "bundle")) == tree(files)


def _umoci_reads_zstd() -> bool:
    done = subprocess.run(["umoci", "--version"], capture_output=True, text=True, check=True)
    version = done.stdout.split()[-1].partition("~")[0].partition("+")[0]
    return tuple(map(int, version.split(".")[:2])) >= (0, 5)
