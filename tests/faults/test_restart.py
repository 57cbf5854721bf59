"""A registry that is killed (SIGKILL) and started again on the same port and directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.conftest import NAME, Raw, digest_of
from tests.faults.test_client import AT_ONCE, DATA

from brolga.client import Client
from brolga.errors import TransportFailed
from brolga.layer import StreamLayer
from brolga.server.process import NotStarted, RegistryProcess
from brolga.wire import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_a_session_outlives_the_process(tmp_path: Path) -> None:
    """What was stored before the kill is there after it, and the session goes on."""
    with RegistryProcess(tmp_path) as process:
        raw = Raw(process.address)
        location = raw.start()
        assert raw.patch(location, DATA[:1000]).range == "0-999"
        process.restart()
        assert raw.said(location) == "0-999"
        assert raw.patch(location, DATA[1000:]).status == 202
        assert raw.finish(location, DATA).status == 201
        process.restart()
        assert raw("GET", f"blobs/{digest_of(DATA)}").body == DATA


def test_nobody_is_there_between(tmp_path: Path) -> None:
    """Killed, it refuses connections; the port is kept for it."""
    with RegistryProcess(tmp_path) as process:
        process.kill()
        process.kill()
        with (
            Client(retry=Retry(attempts=1)) as client,
            pytest.raises(TransportFailed) as caught,
        ):
            client.tags(f"{process.address}/{NAME}")
        assert caught.value.reason == "connect"
        process.start()
        process.start()
        assert Raw(process.address)("GET", "/v2/").status == 200


def test_an_upload_outlives_the_process(tmp_path: Path) -> None:
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


def test_what_keeps_it_from_starting(tmp_path: Path) -> None:
    """The error is what the command said, and nothing is left running."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotStarted, match="cannot serve"):
        RegistryProcess(tmp_path / "file").__enter__()
    with pytest.raises(NotStarted, match="did not start"):
        RegistryProcess(tmp_path, ["--help"]).__enter__()


def test_further_arguments(tmp_path: Path) -> None:
    """The command's flags are the process's."""
    with RegistryProcess(tmp_path, ["--read-only"]) as process:
        assert Raw(process.address)("POST", "blobs/uploads/").status == 405
