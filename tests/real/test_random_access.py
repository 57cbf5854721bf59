"""Blobs of Debian's docker-registry that are read at any position, directly and through nginx."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from contextlib import ExitStack
from itertools import starmap
from typing import TYPE_CHECKING

import pytest
from tests.real.nginx import nginx
from tests.tars import entry, tar

from brolga import Client, RangeNotSupported, StreamLayer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.foreign import DockerRegistry

pytestmark = pytest.mark.real

MIB = 1 << 20
MEMBERS = {f"{number}": random.Random(number).randbytes(2 * MIB) for number in range(8)}
# nginx asks for the whole blob.
NO_RANGES = """
location ~ /blobs/ {
    proxy_pass http://registry;
    proxy_set_header Host $http_host;
    proxy_set_header Range "";
}
"""


@pytest.fixture(params=["direct", "nginx"])
def address(
    request: pytest.FixtureRequest, plain_registry: DockerRegistry, tmp_path: Path
) -> Iterator[str]:
    """Give the address of the registry, or of nginx in front of it."""
    with ExitStack() as stack:
        address = plain_registry.address
        if request.param == "nginx":
            address = stack.enter_context(nginx(tmp_path / "nginx", address)).address
        yield address


def packed_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("verify", [False, True], ids=["not verified", "verified"])
def test_members_of_a_zip_and_a_tar_are_read(address: str, verify: bool) -> None:
    """By the readers of the standard library."""
    with Client() as client:
        name = f"{address}/random/zip:v1"
        client.push_stream(name, StreamLayer([packed_zip()], "none"))
        blob = client.image(name).layers[0].descriptor
        with (
            client.open_blob(name, blob, verify=verify) as file,
            zipfile.ZipFile(file) as members,
        ):
            for member in ("6", "1"):
                assert members.read(member) == MEMBERS[member]
        name = f"{address}/random/tar:v1"
        client.push_stream(name, StreamLayer([tar(*starmap(entry, MEMBERS.items()))], "none"))
        digest = client.image(name).layers[0].descriptor.digest
        with (
            client.open_blob(f"{address}/random/tar@{digest}", verify=verify) as file,
            tarfile.open(fileobj=io.BufferedReader(file)) as archive,
        ):
            found = archive.extractfile("5")
            assert found is not None
            assert found.read() == MEMBERS["5"]


def test_proxy_that_ignores_ranges_is_an_error_for_random_access_alone(
    plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """The blob is read in order all the same."""
    data = MEMBERS["1"]
    with (
        nginx(tmp_path / "nginx", plain_registry.address, NO_RANGES) as proxy,
        Client() as client,
    ):
        name = f"{proxy.address}/random/ignored:v1"
        layer = StreamLayer([data], "none")
        client.push_stream(name, layer)
        with client.open_blob(name, layer.descriptor) as file:
            file.seek(MIB + 5)
            with pytest.raises(RangeNotSupported, match=proxy.address):
                file.read(1)
        with client.blob(name, layer.descriptor) as stream:
            assert stream.read() == data
