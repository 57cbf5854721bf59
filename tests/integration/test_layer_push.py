"""`brolga layer push` as a process, into the embedded registry or a scripted one."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.formats import DECOMPRESS
from tests.images import digest_of
from tests.processes import (
    BROLGA,
    PATIENCE_S,
    UNTAGGED_WARNING,
    feed,
    finish,
    start_brolga,
    wait_until,
)
from tests.raw_server import Peer, serve_script
from tests.registries import ScriptedRegistry, fetch_blob, refuse_patch

import brolga

if TYPE_CHECKING:
    from tests.registries import EmbeddedRegistry

MIB = 1 << 20
DATA = {
    "nothing": b"",
    "one byte": b"x",
    "5 MB of random bytes": random.Random(1).randbytes(5_000_000),
}


@pytest.mark.parametrize("compression", DECOMPRESS)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_layer_push_stores_the_bytes_of_stdin(
    registry: EmbeddedRegistry, compression: str, data: bytes
) -> None:
    """`… | brolga layer push --json REPO` prints one object, whose blob has these bytes."""
    repository = f"{registry.address}/x"
    command = ["layer", "push", "--json", "--compression", compression, repository]
    done = subprocess.run([*BROLGA, *command], input=data, capture_output=True, check=True)
    assert done.stderr == UNTAGGED_WARNING.encode()
    result = json.loads(done.stdout)
    blob = fetch_blob(registry.address, "x", result["digest"])
    assert result["ref"] == f"{repository}@{digest_of(blob)}"
    assert result["size"] == len(blob)
    assert result["diffId"] == digest_of(data)
    assert result["uncompressedSize"] == len(data)
    assert DECOMPRESS[compression](blob) == data


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "brolga: interrupted\n"),
        (signal.SIGTERM, 143, "brolga: stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, "brolga: stopped by SIGHUP\n"),
    ],
)
def test_layer_push_cancels_the_session_on_a_signal(
    registry: EmbeddedRegistry, number: signal.Signals, code: int, line: str
) -> None:
    """The source is silent meanwhile: no session, no blob, and the signal's exit code."""
    with start_brolga("layer", "push", f"{registry.address}/x") as process:
        feed(process, random.Random(2).randbytes(8 * MIB))
        wait_until(lambda: any(upload.stat().st_size for upload in registry.uploads("x")))
        process.send_signal(number)
        assert finish(process) == (code, "", line)
    assert registry.uploads("x") == []
    assert registry.blobs("x") == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc/self/task here")
def test_layer_push_ends_on_sigint_before_the_first_byte(registry: EmbeddedRegistry) -> None:
    """A user need not wait for a source that is silent."""
    with start_brolga("layer", "push", f"{registry.address}/x") as process:
        # No PATCH is opened before there are bytes for it: the thread that reads the source
        # is started once the POST has its answer.
        wait_until(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 1)
        assert registry.uploads("x") != []
        process.send_signal(signal.SIGINT)
        assert finish(process)[0] == 130
    assert registry.uploads("x") == []


def test_layer_push_ends_at_second_signal_while_delete_hangs() -> None:
    """The session cannot be cancelled if the registry does not answer."""
    patching, deleting, finished = threading.Event(), threading.Event(), threading.Event()

    def watch(peer: Peer, head: list[str]) -> bool:
        if head[0].startswith("PATCH"):
            patching.set()
        elif head[0].startswith("DELETE"):
            deleting.set()
            return finished.wait(PATIENCE_S)
        return False

    with serve_script(ScriptedRegistry(watch)) as address:
        with start_brolga("layer", "push", f"{address}/x") as process:
            feed(process, random.Random(4).randbytes(4 * MIB))
            assert patching.wait(PATIENCE_S)
            process.send_signal(signal.SIGINT)
            assert deleting.wait(PATIENCE_S)
            process.send_signal(signal.SIGINT)
            ended = finish(process)
        finished.set()
    assert ended == (130, "", "brolga: interrupted\n")


def test_layer_push_fails_if_the_registry_dies_in_mid_upload(tmp_path: Path) -> None:
    """Exit code 5; the error has how many bytes went out, and what to do."""
    uploads = tmp_path / "x" / ".uploads"
    with start_brolga("registry", "serve", "--port", "0", str(tmp_path)) as registry:
        assert registry.stdout is not None
        address = registry.stdout.readline().decode().strip()
        push = ["layer", "push", "--retries", "0", f"{address}/x"]
        with start_brolga(*push) as process:
            feed(process, random.Random(3).randbytes(8 * MIB))
            wait_until(lambda: any(upload.stat().st_size for upload in uploads.glob("*")))
            registry.kill()
            code, out, err = finish(process)
    assert (code, out) == (5, "")
    assert err.startswith("brolga: registry: the upload was cut after ")
    assert err.endswith("; nothing was committed; push again, or allow more --retries\n")
    assert err.count("\n") == 1


def test_layer_push_sees_401_while_source_is_idle() -> None:
    """Exit code 4 at once, not only when the source goes on."""
    heads: list[str] = []
    refuse = refuse_patch(401, b"", 'WWW-Authenticate: Basic realm="x"')

    def record(peer: Peer, head: list[str]) -> bool:
        heads.append(head[0].rpartition(" ")[0])
        return refuse(peer, head)

    registry = ScriptedRegistry(record, location="/upload/1?_state=a%2Fb")
    with serve_script(registry) as address:  # noqa: SIM117 - the process ends before the server
        with start_brolga("layer", "push", "--retries", "0", f"{address}/x") as process:
            feed(process, random.Random(5).randbytes(2 * MIB))
            code, out, err = finish(process)
    assert (code, out) == (4, "")
    assert "with 401" in err
    assert heads == [
        "GET /v2/",
        "POST /v2/x/blobs/uploads/",
        "PATCH /upload/1?_state=a%2Fb",
        "DELETE /upload/1?_state=a%2Fb",
    ]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc/self/mem here")
def test_layer_push_exits_with_7_if_the_source_cannot_be_read(registry: EmbeddedRegistry) -> None:
    """A file that opens and then fails, as on a bad disk: nothing is committed."""
    arguments = ["layer", "push", f"{registry.address}/x", "/proc/self/mem"]
    done = subprocess.run([*BROLGA, *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"")
    assert done.stderr == (
        b"brolga: source: the source cannot be read: [Errno 5] Input/output error\n"
    )
    assert registry.blobs("x") == []
    assert registry.uploads("x") == []


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not on PATH")
def test_layer_push_stores_a_tar_from_a_shell_pipe(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    """`tar -c … | brolga layer push --json REPO`, as the README has it."""
    script = 'tar -C "$1" -c . | tee "$2" | "$3" -m brolga layer push --json "$4"'
    package = Path(brolga.__file__).parent
    copy = tmp_path / "copy.tar"
    repository = f"{registry.address}/x"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(package), str(copy), sys.executable, repository],
        capture_output=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert gzip.decompress(fetch_blob(registry.address, "x", result["digest"])) == copy.read_bytes()
