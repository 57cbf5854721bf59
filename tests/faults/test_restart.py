"""A registry that is killed (SIGKILL) and started again on the same port and directory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.conftest import NAME, Raw
from tests.faults.counterparts import as_hosted, row_of
from tests.faults.pushing import AT_ONCE, DATA, EARLY, MIDDLE
from tests.images import digest_of

from brolga.client import Client, UploadOptions
from brolga.errors import StreamNotReplayable, TransportError
from brolga.protocol import Retry
from brolga.stream.layer import StreamLayer
from brolga.testing.faults import Answer, FaultPlan, Kill
from brolga.testing.injector import Injector
from brolga.testing.process import RegistryProcess, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.testing.plugin import BrolgaRegistry


def test_session_survives_restart(tmp_path: Path) -> None:
    """The bytes stored before the kill are kept, and the session continues."""
    with RegistryProcess(tmp_path) as process:
        raw = Raw(process.address)
        location = raw.start()
        assert raw.patch(location, DATA[:1000]).range == "0-999"
        process.restart()
        assert raw.stored_range(location) == "0-999"
        assert raw.patch(location, DATA[1000:]).status == 202
        assert raw.finish(location, DATA).status == 201
        process.restart()
        assert raw("GET", f"blobs/{digest_of(DATA)}").body == DATA


def test_connections_are_refused_after_kill(tmp_path: Path) -> None:
    """Killed, it refuses connections; the port is kept for it."""
    with RegistryProcess(tmp_path) as process:
        process.kill()
        process.kill()
        with (
            Client(retry=Retry(attempts=1)) as client,
            pytest.raises(TransportError) as caught,
        ):
            client.tags(f"{process.address}/{NAME}")
        assert caught.value.reason == "connect"
        process.start()
        process.start()
        assert Raw(process.address)("GET", "/v2/").status == 200


def test_push_survives_restart(tmp_path: Path) -> None:
    """An upload, killed in the middle, ends with the right blob."""
    with RegistryProcess(tmp_path) as process:

        def pieces() -> Iterator[bytes]:
            yield DATA[: len(DATA) // 2]
            process.restart()
            yield DATA[len(DATA) // 2 :]

        layer = StreamLayer(pieces(), compression="none", tar=False)
        with Client(retry=AT_ONCE) as client:
            descriptor = client.push_layer(f"{process.address}/{NAME}", layer)
        assert str(descriptor.digest) == digest_of(DATA)
        assert Raw(process.address)("GET", f"blobs/{digest_of(DATA)}").body == DATA


def test_start_error_has_stderr(tmp_path: Path) -> None:
    """The error is the command's stderr, and no process is left."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot serve"):
        RegistryProcess(tmp_path / "file").__enter__()
    with pytest.raises(StartError, match="did not start"):
        RegistryProcess(tmp_path, ["--help"]).__enter__()


def test_registry_process_passes_arguments(tmp_path: Path) -> None:
    """The command's flags are the process's."""
    with RegistryProcess(tmp_path, ["--read-only"]) as process:
        assert Raw(process.address)("POST", "blobs/uploads/").status == 405


# --- Killed by a fault

# It is some time until the registry is there again.
PATIENT = Retry(attempts=200, initial_delay_s=0.05, max_delay_s=0.2)
KILLS: dict[str, Kill] = {
    "before storing": Kill(at=MIDDLE, stored=0),
    "during storing": Kill(at=MIDDLE, stored=EARLY),
    "after storing": Kill(at=MIDDLE),
    "before the answer": Kill(at=None),
    "after the commit": Kill(on="PUT upload", at=None),
    "before the commit": Kill(on="PUT upload", at=0, stored=0),
}
SOURCES: dict[str, dict[str, Any]] = {
    "file": {"window": 0},
    "window": {},
    "spool": {"window": 0, "spool": True},
}
# Some keep a session that was cut, some do not, and one does not let it be cancelled. Each kill
# meets two of them, and each of them each source.
KINDS = ("distribution-3", "distribution-2.8", "zot", "jfrog")
CASES = list(zip(itertools.product(KINDS, SOURCES), itertools.cycle(KILLS), strict=False))


@pytest.mark.parametrize(("kind_and_source", "when"), CASES)
def test_push_survives_kill(tmp_path: Path, kind_and_source: tuple[str, str], when: str) -> None:
    """The blob is right, wherever the process is killed and whatever holds the bytes."""
    kind, source = kind_and_source
    (tmp_path / "file").write_bytes(DATA)
    plan = FaultPlan(KILLS[when])
    source_file: Any = tmp_path / "file" if source == "file" else iter([DATA])
    layer = StreamLayer(source_file, compression="none", tar=False)
    with (
        as_hosted(kind),
        RegistryProcess(tmp_path / "registry", plan=plan, profile=kind) as process,
        Client(retry=PATIENT, uploads=UploadOptions(**SOURCES[source])) as client,
    ):
        descriptor = client.push_layer(f"{process.address}/{NAME}", layer)
        assert str(descriptor.digest) == digest_of(DATA)
        assert process.fired == plan.faults
        assert process.pending == ()
        assert Raw(process.address)("GET", f"blobs/{digest_of(DATA)}").body == DATA
        left = list((tmp_path / "registry" / NAME / ".uploads").glob("*"))
        # A session that cannot be asked about is cancelled at once, while the registry is down.
        assert left == [] or not row_of(kind).strategy.resumes


def test_push_fails_if_bytes_are_lost_with_the_process(tmp_path: Path) -> None:
    """A pipe that gave more than the window holds, into a session that a cut ends."""
    plan = FaultPlan(Kill(at=MIDDLE))
    layer = StreamLayer(iter([DATA]), compression="none", tar=False)
    with (
        RegistryProcess(tmp_path, plan=plan, profile="zot") as process,
        Client(retry=PATIENT, uploads=UploadOptions(window=0)) as client,
        pytest.raises(StreamNotReplayable),
    ):
        client.push_layer(f"{process.address}/{NAME}", layer)
    assert list((tmp_path / NAME / ".uploads").glob("*")) == []
    assert list((tmp_path / NAME / "blobs").glob("*/*")) == []


def test_kill_without_comes_back(tmp_path: Path) -> None:
    """The test restarts the process; a fault that fired does not fire again."""
    plan = FaultPlan(Kill(on="GET api", comes_back=False), Answer(on="GET api", nth=2, status=503))
    with RegistryProcess(tmp_path, plan=plan) as process:
        raw = Raw(process.address)
        assert raw("GET", "/v2/").status == 0
        process.kill()  # it is on its way
        assert process.fired == plan.faults[:1]
        with pytest.raises(ConnectionRefusedError):
            raw.connect()
        process.start()
        assert [raw("GET", "/v2/").status for _ in range(2)] == [503, 200]
        assert process.fired == plan.faults


def test_injector_rejects_kill(brolga_registry: BrolgaRegistry) -> None:
    """A registry in a thread would take the tests with it."""
    with pytest.raises(ValueError, match="RegistryProcess"):
        brolga_registry.use(faults=FaultPlan(Kill()))
    with pytest.raises(ValueError, match="RegistryProcess"):
        Injector(FaultPlan(Kill()))


def test_registry_process_rejects_unknown_profile(tmp_path: Path) -> None:
    """It is refused before anything is started."""
    with pytest.raises(ValueError, match="no profile"):
        RegistryProcess(tmp_path, profile="docker")
