"""Client.open_blob and Client.blob: blobs of a registry, a layout and an archive."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.images import digest_of
from tests.raw_server import Peer, serve_script
from tests.tars import entry, tar

from brolga import Client, Image, InMemoryBlob, StoredBlob, StreamLayer, uncompressed
from brolga.errors import (
    CorruptBlob,
    DigestMismatch,
    ImageNotFound,
    InvalidManifest,
    InvalidReference,
    NotFound,
    ProtocolViolation,
    RangeNotSupported,
)
from brolga.images import Artifact
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCTET_STREAM
from brolga.stores.archive import Archive
from brolga.testing.faults import CutAnswer, FaultPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brolga.testing.plugin import BrolgaRegistry

MIB = 1 << 20
DATA = b"".join(b"%07d\n" % number for number in range(MIB // 2))  # 4 MiB


def push(client: Client, home: str, data: bytes) -> str:
    """Push an artifact of one blob; return the blob's name."""
    blob = InMemoryBlob(data, OCTET_STREAM)
    client.push(f"{home}:v1", Artifact.of("application/x", blob))
    return f"{home}@{blob.descriptor.digest}"


def ranges(registry: BrolgaRegistry) -> list[tuple[int, int]]:
    """Return the first and last byte of each part that was requested, and check that only parts."""
    found = []
    for request in registry.requests:
        if request.kind == "GET blob":
            unit, _, text = request.headers.get("range", "").partition("=")
            assert unit == "bytes"
            first, _, last = text.partition("-")
            found.append((int(first), int(last)))
    return found


@pytest.fixture(params=["registry", "layout", "archive"])
def blob_of(
    request: pytest.FixtureRequest, brolga_registry: BrolgaRegistry, tmp_path: Path
) -> Callable[[Client, bytes], StoredBlob]:
    """Return a function that pushes bytes to a place, and returns the blob that is read there."""
    place = {
        "registry": f"{brolga_registry.address}/x:v1",
        "layout": f"oci:{tmp_path}/layout:v1",
        "archive": f"oci-archive:{tmp_path}/archive:v1",
    }[request.param]

    def push_and_open(client: Client, data: bytes) -> StoredBlob:
        client.push(place, Artifact.of("application/x", InMemoryBlob(data, OCTET_STREAM)))
        (blob,) = client.image(place).layers
        assert isinstance(blob, StoredBlob)
        return blob

    return push_and_open


# --- In each place


def test_blob_of_each_place_is_a_file(blob_of: Callable[[Client, bytes], StoredBlob]) -> None:
    """The layers of an image are read as `open_blob` reads them."""
    with Client() as client, blob_of(client, DATA).open_seekable() as file:
        assert file.seek(-8, 2) == len(DATA) - 8
        assert file.read() == DATA[-8:]
        assert file.seek(MIB + 1) == MIB + 1
        assert file.read(2 * MIB) == DATA[MIB + 1 : 3 * MIB + 1]
        assert file.read() == DATA[3 * MIB + 1 :]
        file.seek(0)
        assert file.read() == DATA


def test_verified_blob_of_each_place(blob_of: Callable[[Client, bytes], StoredBlob]) -> None:
    """All of it is read once."""
    with Client() as client, blob_of(client, DATA).open_seekable(verify=True) as file:
        file.seek(MIB)
        assert file.read(8) == DATA[MIB : MIB + 8]


def test_uncompressed_layers_of_each_place(brolga_registry: BrolgaRegistry, tmp_path: Path) -> None:
    """Decompressed ahead, and verified; whatever their compression."""
    data = tar(entry("a", DATA))
    layers = (StreamLayer([data], name, tar=False) for name in ("gzip", "zstd", "none"))
    source = f"{brolga_registry.address}/x:v1"
    targets = [f"{kind}:{tmp_path}/{kind}:v1" for kind in ("oci", "oci-archive", "docker-archive")]
    with Client() as client:
        client.push(source, Image.empty().append(*layers))
        for target in targets:
            client.copy(source, target)
        for place in (source, *targets):
            image = client.image(place)
            assert len(image.layers) == 3
            for layer in image.layers:
                with uncompressed(layer) as stream:
                    assert stream.read() == data


# --- Requests


def test_member_of_a_tar_takes_few_requests(brolga_registry: BrolgaRegistry) -> None:
    """One of 1 MiB in a tar of 64 MiB: the headers in front of it, and its bytes."""
    data = tar(*(entry(f"{number}", bytes(16 * MIB)) for number in range(4)), entry("a", DATA))
    with Client() as client:
        name = push(client, f"{brolga_registry.address}/x", data)
        brolga_registry.use()
        with (
            client.open_blob(name) as blob,
            tarfile.open(fileobj=io.BufferedReader(blob)) as archive,
        ):
            member = archive.extractfile("a")
            assert member is not None
            assert member.read() == DATA
    requested = ranges(brolga_registry)
    assert len(requested) <= 8
    assert sum(last + 1 - first for first, last in requested) <= 16 * MIB


def test_member_of_a_zip_takes_few_requests(brolga_registry: BrolgaRegistry) -> None:
    """`zipfile` reads the directory at the end first."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("zeros", bytes(16 * MIB))
        archive.writestr("a", DATA)
        archive.writestr("more zeros", bytes(16 * MIB))
    with Client() as client:
        name = push(client, f"{brolga_registry.address}/x", out.getvalue())
        brolga_registry.use()
        with client.open_blob(name) as blob, zipfile.ZipFile(blob) as archive:
            assert archive.namelist() == ["zeros", "a", "more zeros"]
            assert archive.read("a") == DATA
    assert len(ranges(brolga_registry)) <= 5


def test_header_of_safetensors_takes_one_request(brolga_registry: BrolgaRegistry) -> None:
    """Eight bytes of length, then JSON that says where each tensor is."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [MIB, MIB + 4]}})
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(MIB) + b"data" + bytes(MIB)
    blob = InMemoryBlob(data, OCTET_STREAM)
    with Client() as client:
        push(client, f"{brolga_registry.address}/x", data)
        brolga_registry.use()
        with client.open_blob(f"{brolga_registry.address}/x", blob.descriptor) as file:
            size = int.from_bytes(file.read(8), "little")
            start, end = json.loads(file.read(size) or b"")["w"]["data_offsets"]
            assert len(ranges(brolga_registry)) == 1
            file.seek(8 + size + start)
            assert file.read(end - start) == b"data"
    assert len(ranges(brolga_registry)) == 2
    assert not [each for each in brolga_registry.requests if each.kind == "HEAD blob"]


def test_blob_of_a_descriptor_is_that_of_its_digest(
    brolga_registry: BrolgaRegistry, tmp_path: Path
) -> None:
    """A place says in which repository or layout."""
    with Client() as client:
        for home in (f"{brolga_registry.address}/x", f"oci:{tmp_path}/layout"):
            name = push(client, home, DATA)
            descriptor = client.image(f"{home}:v1").layers[0].descriptor
            for stream in (
                client.blob(name),
                client.blob(f"{home}:v1", descriptor),
                client.blob(home, descriptor),
            ):
                with stream:
                    assert b"".join(stream) == DATA


# --- Failures


def test_cut_response_goes_on_at_the_byte(brolga_registry: BrolgaRegistry) -> None:
    """As each read of a blob."""
    with Client() as client:
        name = push(client, f"{brolga_registry.address}/x", DATA)
        brolga_registry.use(faults=FaultPlan(CutAnswer(at=100_000)))
        with client.open_blob(name) as file:
            file.seek(MIB)
            assert file.read(MIB) == DATA[MIB : 2 * MIB]
    assert brolga_registry.pending == ()
    (first, last), (again, end) = ranges(brolga_registry)
    assert (first, last) == (MIB, 2 * MIB - 1)
    assert first < again <= first + 100_000
    assert end == last


def test_blob_that_is_not_there(brolga_registry: BrolgaRegistry, tmp_path: Path) -> None:
    """The error is that of `blob`; a name without a digest is no blob's."""
    missing = "sha256:" + 64 * "0"
    with Client() as client:
        push(client, f"oci:{tmp_path}/layout", b"")
        with pytest.raises(NotFound):
            client.open_blob(f"{brolga_registry.address}/x@{missing}")
        with pytest.raises(ImageNotFound, match="there is no blob"):
            client.open_blob(f"oci:{tmp_path}/layout@{missing}")
        for place in (f"{brolga_registry.address}/x:v1", f"oci:{tmp_path}/layout:v1"):
            with pytest.raises(InvalidReference, match="named by its digest"):
                client.open_blob(place)
        descriptor = InMemoryBlob(b"other", OCTET_STREAM).descriptor
        for place, error in (
            (f"{brolga_registry.address}/x", NotFound),
            (f"oci:{tmp_path}/layout", CorruptBlob),
        ):
            with client.open_blob(place, descriptor) as file, pytest.raises(error):
                file.read(1)


def test_file_of_a_layout_with_another_size_is_corrupt(tmp_path: Path) -> None:
    """The bytes of a shorter or longer file are those of another blob."""
    with Client() as client:
        name = push(client, f"oci:{tmp_path}/x", DATA)
        descriptor = InMemoryBlob(DATA, OCTET_STREAM).descriptor
        (path,) = (tmp_path / "x/blobs/sha256").glob(descriptor.digest.encoded)
        path.write_bytes(DATA + b"more")
        with client.open_blob(name, descriptor) as file, pytest.raises(CorruptBlob, match="more"):
            file.read(1)
        path.write_bytes(b"x" + DATA[1:])
        with pytest.raises(DigestMismatch):
            client.open_blob(name, descriptor, verify=True)


def test_range_of_an_archive_that_lacks_the_blob_is_invalid(tmp_path: Path) -> None:
    """`Archive` as a store that reads ranges."""
    with Client() as client:
        client.push(f"oci-archive:{tmp_path}/a:v1", Artifact.of("application/x"))
    with Archive(tmp_path / "a") as archive:
        digest = Digest.of(b"{}")
        descriptor = archive.resolve_blob(digest)
        assert descriptor.size == 2
        with archive.read_range(descriptor, 1, 2) as stream:
            assert stream.read() == b"}"
        with pytest.raises(InvalidManifest, match="no file of the digest"):
            archive.resolve_blob(Digest.of(b"other"))


@pytest.mark.parametrize("head", [(), ("Content-Length: 0",)], ids=["no length", "zero"])
def test_size_is_requested_by_get_if_head_lacks_it(head: tuple[str, ...]) -> None:
    """Some registries answer HEAD as if the blob were empty."""

    def script(peer: Peer) -> None:
        while lines := peer.head():
            method, path, _ = lines[0].split()
            if method == "HEAD":
                peer.send("\r\n".join(["HTTP/1.1 200 OK", *head, "", ""]).encode())
            elif "/blobs/" not in path:
                peer.answer(200)
            elif part := peer.header("range", lines):
                first, last = map(int, part[0].removeprefix("bytes=").split("-"))
                data = DATA[first : last + 1]
                peer.answer(206, data, f"Content-Range: bytes {first}-{last}/{len(DATA)}")
            else:
                peer.answer(200, DATA)

    with (
        serve_script(script) as address,
        Client() as client,
        client.open_blob(f"{address}/x@{digest_of(DATA)}") as file,
    ):
        file.seek(-3, 2)
        assert file.read() == DATA[-3:]


def test_registry_that_does_not_say_the_size_is_a_protocol_violation() -> None:
    """A descriptor says it."""

    def script(peer: Peer) -> None:
        while lines := peer.head():
            if lines[0].startswith("HEAD"):
                peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            elif "/blobs/" in lines[0]:
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            else:
                peer.answer(200)

    with (
        serve_script(script) as address,
        Client() as client,
        pytest.raises(ProtocolViolation, match="does not say the size"),
    ):
        client.open_blob(f"{address}/x@{digest_of(DATA)}")


def test_registry_that_ignores_range_is_named_in_the_error() -> None:
    """Reading from the start for each read would cost all of the blob each time."""

    def script(peer: Peer) -> None:
        while lines := peer.head():
            peer.answer(200, DATA if "/blobs/" in lines[0] else b"")

    blob = InMemoryBlob(DATA, OCTET_STREAM)
    with serve_script(script) as address, Client() as client:
        with client.open_blob(f"{address}/x", blob.descriptor) as file:
            file.seek(2 * MIB)
            with pytest.raises(RangeNotSupported, match=address):
                file.read(1)
        with client.blob(f"{address}/x", blob.descriptor) as stream:
            assert b"".join(stream) == DATA


def test_signed_url_is_requested_again_for_each_range() -> None:
    """The URL that a redirect led to may have expired meanwhile: each of these works once."""
    given: list[str] = []

    def script(peer: Peer) -> None:
        while lines := peer.head():
            path = lines[0].split()[1]
            if "/blobs/" in path:
                given.append(f"/signed?{len(given)}")
                peer.answer(307, b"", f"Location: {given[-1]}")
            elif path == "/v2/":
                peer.answer(200)
            elif path != given[-1]:
                peer.answer(403)
            else:
                first, last = map(
                    int, peer.header("range", lines)[0].removeprefix("bytes=").split("-")
                )
                data = DATA[first : last + 1]
                peer.answer(206, data, f"Content-Range: bytes {first}-{last}/{len(DATA)}")

    blob = InMemoryBlob(DATA, OCTET_STREAM)
    with (
        serve_script(script) as address,
        Client() as client,
        client.open_blob(f"{address}/x", blob.descriptor) as file,
    ):
        for position in (3 * MIB, 0, 2 * MIB):
            file.seek(position)
            assert file.read(8) == DATA[position : position + 8]
    assert len(given) == 3
