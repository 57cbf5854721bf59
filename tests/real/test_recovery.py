"""Recovery of uploads to Debian's docker-registry 2.8 that is killed, cut off or stalled.

A fault strikes at a byte of the stream, in the thread that uploads it or in the proxy: never at a
time.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
from itertools import islice, repeat
from typing import TYPE_CHECKING

import pytest
from tests.processes import BROLGA
from tests.real.cutting import Fault

from brolga import (
    Client,
    SourceError,
    StreamLayer,
    StreamNotReplayable,
    TransportError,
    TransportOptions,
    UploadInterrupted,
    UploadOptions,
)
from brolga.protocol import Retry
from brolga.stream.layer import LayerStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry

    from brolga.stream.sources import Source

pytestmark = pytest.mark.real

MB = 1_000_000
LARGE = 150 * MB  # far beyond the window of 32 MiB
QUICK = Retry(attempts=6, initial_delay_s=0.05, max_delay_s=0.2)
NOISE = random.Random(1).randbytes(1 << 20)


def blocks(size: int) -> Iterator[bytes]:
    """Give `size` bytes, of which no two MiB are equal."""
    for number in range(-(-size // len(NOISE))):
        block = b"%012d" % number + NOISE[12:]
        yield block[: size - number * len(NOISE)]


def write_blocks(path: Path, size: int) -> Path:
    """Write the bytes of `blocks` to a file."""
    with path.open("wb") as file:
        file.writelines(blocks(size))
    return path


def hexdigest_of(size: int) -> str:
    """Return the digest of `blocks`."""
    hashed = hashlib.sha256()
    for block in blocks(size):
        hashed.update(block)
    return hashed.hexdigest()


def is_stored(registry: DockerRegistry, repository: str, size: int) -> bool:
    """Return whether the registry has the blob, byte for byte."""
    v2 = registry.storage / "docker/registry/v2"
    digest = hexdigest_of(size)
    with (v2 / f"blobs/sha256/{digest[:2]}/{digest}/data").open("rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest() == digest
    link = v2 / f"repositories/{repository}/_layers/sha256/{digest}/link"
    return right and link.exists()


def sessions(registry: DockerRegistry, repository: str) -> list[Path]:
    """Return what is left of upload sessions.

    2.8 forgets a session that was cut, and deletes its data after a week.
    """
    place = registry.storage / f"docker/registry/v2/repositories/{repository}/_uploads"
    return list(place.glob("*/data"))


def committed(registry: DockerRegistry, repository: str) -> list[Path]:
    """Return the blobs that a repository has."""
    place = registry.storage / f"docker/registry/v2/repositories/{repository}/_layers"
    return list(place.glob("*/*/link"))


@pytest.fixture
def strike(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Call a function when the upload has read so many bytes of a stream."""
    real = LayerStream.blocks

    def strike_at(size: int, happen: Callable[[], None]) -> None:
        def struck(stream: LayerStream) -> Iterator[bytes | memoryview]:
            count = 0
            for block in real(stream):
                yield block
                if count < size <= count + len(block):
                    happen()
                count += len(block)

        monkeypatch.setattr(LayerStream, "blocks", struck)

    return strike_at


@pytest.fixture
def roomy(own_registry: DockerRegistry) -> Iterator[DockerRegistry]:
    """Give a registry of the test's own, and its disk space back at once."""
    yield own_registry
    own_registry.kill()
    shutil.rmtree(own_registry.storage)


def restart(registry: DockerRegistry) -> None:
    """Kill a registry with SIGKILL, and start it again on the same storage."""
    registry.kill()
    registry.start()


# --- Killed


def test_push_of_a_large_file_survives_sigkill_of_registry(
    roomy: DockerRegistry,
    tmp_path: Path,
    strike: Callable[[int, Callable[[], None]], None],
) -> None:
    """The file is read a second time: far more than any window holds goes out again."""
    path = write_blocks(tmp_path / "data", LARGE)
    strike(100 * MB, lambda: restart(roomy))
    with Client(retry=QUICK) as client:
        client.push_layer(f"{roomy.address}/x", StreamLayer(path, "none"))
    path.unlink()
    assert is_stored(roomy, "x", LARGE)


def test_push_of_stdin_with_spool_survives_sigkill_of_registry(
    roomy: DockerRegistry,
) -> None:
    """`--spool`: a pipe gives its bytes once, and all of them are kept on disk."""
    command = [*BROLGA, "layer", "push", "--compression", "none"]
    command += ["--spool", "--retries", "6", "--json", f"{roomy.address}/x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, block in enumerate(blocks(LARGE)):
            if number == 100:  # most of them went out: pipe and read-ahead hold a few
                restart(roomy)
            process.stdin.write(block)
        process.stdin.close()
        stdout = process.stdout.read()
    assert process.returncode == 0
    assert json.loads(stdout)["digest"] == f"sha256:{hexdigest_of(LARGE)}"
    assert is_stored(roomy, "x", LARGE)


def test_push_within_the_window_survives_sigkill_of_registry(
    roomy: DockerRegistry, strike: Callable[[int, Callable[[], None]], None]
) -> None:
    """The window holds all bytes, and they go out again."""
    strike(20 * MB, lambda: restart(roomy))
    with Client(retry=QUICK) as client:
        client.push_layer(f"{roomy.address}/x", StreamLayer(blocks(30 * MB), "none"))
    assert is_stored(roomy, "x", 30 * MB)


def test_push_beyond_the_window_fails_after_sigkill_of_registry(
    roomy: DockerRegistry, strike: Callable[[int, Callable[[], None]], None]
) -> None:
    """The bytes are gone: the error says how many, and nothing is committed."""
    strike(40 * MB, lambda: restart(roomy))
    layer = StreamLayer(blocks(50 * MB), "none")
    with Client(retry=QUICK) as client, pytest.raises(StreamNotReplayable) as caught:
        client.push_layer(f"{roomy.address}/x", layer)
    assert caught.value.sent >= 40 * MB
    assert caught.value.kept <= 32 << 20
    assert not committed(roomy, "x")


def test_push_survives_sigkill_of_registry_before_the_closing_put(
    roomy: DockerRegistry, strike: Callable[[int, Callable[[], None]], None]
) -> None:
    """All bytes went out, and it is not known if they were taken: asked, or sent again."""
    strike(20 * MB, lambda: restart(roomy))
    with Client(retry=QUICK, uploads=UploadOptions(spool=True)) as client:
        client.push_layer(f"{roomy.address}/x", StreamLayer(blocks(20 * MB), "none"))
    assert is_stored(roomy, "x", 20 * MB)


def test_push_fails_if_the_registry_stays_down(
    roomy: DockerRegistry,
    tmp_path: Path,
    strike: Callable[[int, Callable[[], None]], None],
) -> None:
    """The attempts are bounded, and nothing is committed."""
    strike(10 * MB, roomy.kill)
    layer = StreamLayer(write_blocks(tmp_path / "data", 20 * MB), "none")
    retry = Retry(attempts=2, initial_delay_s=0)
    with (
        Client(retry=retry) as client,
        pytest.raises((TransportError, UploadInterrupted)),
    ):
        client.push_layer(f"{roomy.address}/x", layer)
    assert not committed(roomy, "x")


# --- A source that is not what it was


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_push_fails_if_the_file_changes_between_passes(
    roomy: DockerRegistry,
    tmp_path: Path,
    strike: Callable[[int, Callable[[], None]], None],
    compression: str,
) -> None:
    """The second pass must come to the same hash: else SourceError, and nothing is committed."""
    path = write_blocks(tmp_path / "data", 20 * MB)

    def change() -> None:
        with path.open("r+b") as file:
            file.seek(3 * MB)
            file.write(b"another")
        restart(roomy)

    strike(10 * MB, change)
    with (
        Client(retry=QUICK, uploads=UploadOptions(window=0)) as client,
        pytest.raises(SourceError, match="changed"),
    ):
        client.push_layer(f"{roomy.address}/x", StreamLayer(path, compression))
    assert not committed(roomy, "x")
    assert len(sessions(roomy, "x")) == 1  # the one that was cut, not the second


# --- Cut off

SIZE = 24 * MB  # within the window


def _file(tmp_path: Path) -> Source:
    return write_blocks(tmp_path / "data", SIZE)


def _iterable(_tmp_path: Path) -> Source:
    return blocks(SIZE)


@pytest.mark.parametrize(
    ("source", "options"),
    [(_file, {"window": 0}), (_iterable, {}), (_iterable, {"window": 0, "spool": True})],
    ids=["file", "window", "spool"],
)
@pytest.mark.parametrize("seed", range(4))
def test_push_survives_connections_cut_at_any_byte(  # noqa: PLR0917 - fixtures
    plain_registry: DockerRegistry,
    front: Proxy,
    tmp_path: Path,
    source: Callable[[Path], Source],
    options: dict[str, int | bool],
    seed: int,
) -> None:
    """Cut or reset at any byte of the request, twice in one upload."""
    chance = random.Random(seed)
    front.arm(
        *(
            Fault(
                act=chance.choice(("cut", "reset")),
                direction="up",
                after=b"PATCH ",
                offset=chance.randrange(SIZE),
            )
            for _ in range(2)
        )
    )
    repository = f"recovery-{source.__name__}-{len(options)}-{seed}".replace("_", "")
    with Client(retry=QUICK, uploads=UploadOptions(**options)) as client:  # type: ignore[arg-type] # window and spool
        client.push_layer(f"{front.address}/{repository}", StreamLayer(source(tmp_path), "none"))
    assert front.struck >= 1
    assert is_stored(plain_registry, repository, SIZE)


@pytest.mark.parametrize("status", [201, 202])
@pytest.mark.parametrize("act", ["cut", "reset"])
def test_push_survives_a_lost_response(
    plain_registry: DockerRegistry, front: Proxy, act: str, status: int
) -> None:
    """That of the POST: a second session. That of the PUT: the blob is asked for, and is there."""
    front.arm(Fault(act=act, direction="down", after=b"HTTP/1.1 %d" % status))  # type: ignore[arg-type] # one of its words
    repository = f"recovery-answer-{act}-{status}"
    with Client(retry=QUICK) as client:
        layer = StreamLayer(islice(repeat(NOISE), 3), "none")
        pushed = client.push_layer(f"{front.address}/{repository}", layer)
    assert front.struck == 1
    assert len(committed(plain_registry, repository)) == 1
    methods = [seen.method for seen in front.requests()]
    assert methods.count("PUT") == 1
    assert methods.count("PATCH") == 1
    assert methods.count("HEAD") == (status == 201)
    assert pushed.size == 3 << 20


def test_push_leaves_a_connection_that_stalls(
    plain_registry: DockerRegistry, front: Proxy, tmp_path: Path
) -> None:
    """`timeout_s` bounds each write: the bytes go out on another connection."""
    front.arm(Fault(act="stall", direction="up", after=b"PATCH ", offset=5 * MB))
    with Client(retry=QUICK, transport=TransportOptions(timeout_s=1)) as client:
        client.push_layer(f"{front.address}/recovery-stall", StreamLayer(_file(tmp_path), "none"))
    front.release()
    assert len(committed(plain_registry, "recovery-stall")) == 1


def test_push_survives_refused_connections(plain_registry: DockerRegistry, front: Proxy) -> None:
    """A restart behind a load balancer: refused, then there again."""
    tries = iter((front.refuse, front.accept))
    front.arm(Fault(act="reset", direction="up", after=b"PATCH ", offset=5 * MB))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        next(tries, lambda: None)()

    with Client(retry=QUICK) as client:
        client._transport._pause = pause
        layer = StreamLayer(blocks(SIZE), "none")
        client.push_layer(f"{front.address}/recovery-refused", layer)
    assert len(pauses) >= 2
    assert is_stored(plain_registry, "recovery-refused", SIZE)
