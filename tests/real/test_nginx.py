"""Uploads through nginx, to Debian's docker-registry 2.8: what it bounds, refuses and repeats."""

from __future__ import annotations

import os
import random
import threading
from contextlib import contextmanager
from itertools import islice, repeat
from typing import TYPE_CHECKING

import pytest
from tests.real.cutting import Fault
from tests.real.nginx import nginx

from brolga import Client, StreamLayer, UploadOptions
from brolga.protocol import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from tests.real.cutting import Proxy
    from tests.real.foreign import DockerRegistry
    from tests.real.nginx import Nginx

pytestmark = pytest.mark.real

BLOCK = random.Random(1).randbytes(1 << 20)
REST = random.Random(2).randbytes(100_000)
QUICK = Retry(attempts=6, initial_delay_s=0.05, max_delay_s=0.2)
BUFFERED = {"buffered": "", "not buffered": "proxy_request_buffering off;"}


@contextmanager
def silent(proxy: Nginx, answer: tuple[str, int]) -> Iterator[BinaryIO]:
    """Give a pipe that gets a block, and the rest only when the proxy has given an answer."""
    read, write = os.pipe()
    over = threading.Event()

    def run() -> None:
        with os.fdopen(write, "wb", buffering=0) as file:
            file.write(BLOCK)
            while answer not in proxy.answers() and not over.wait(0.02):
                pass
            file.write(REST)

    thread = threading.Thread(target=run)
    with os.fdopen(read, "rb") as source:
        thread.start()
        try:
            yield source
        finally:
            over.set()
            source.read()
            thread.join()


def push(proxy: Nginx, repository: str, source: BinaryIO, compression: str = "none") -> None:
    """Push what comes, and read it back."""
    layer = StreamLayer(source, compression, tar=False)
    with Client(retry=QUICK) as client:
        pushed = client.push_layer(f"{proxy.address}/{repository}", layer)
        assert layer.uncompressed_size == len(BLOCK) + len(REST)
        with client.blob(f"{proxy.address}/{repository}@{pushed.digest}") as stream:
            assert sum(map(len, stream.blocks())) == pushed.size


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("buffered", BUFFERED)
def test_upload_survives_408_after_a_silent_source(
    plain_registry: DockerRegistry, tmp_path: Path, buffered: str, compression: str
) -> None:
    """The client_body_timeout of nginx is 1 s: the lost bytes go again, with the next ones."""
    settings = f"client_body_timeout 1s; {BUFFERED[buffered]}"
    with nginx(tmp_path / "nginx", plain_registry.address, settings) as proxy:
        with silent(proxy, ("PATCH", 408)) as source:
            push(proxy, f"nginx-silence-{compression}", source, compression)
        assert ("PATCH", 202) in proxy.answers()


@pytest.mark.parametrize("buffered", BUFFERED)
def test_upload_ends_a_silent_patch_before_nginx_does(
    plain_registry: DockerRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    buffered: str,
) -> None:
    """The next PATCH goes on in the same session."""
    monkeypatch.setattr("brolga.protocol.upload.body._IDLE_S", 0.2)
    with nginx(tmp_path / "nginx", plain_registry.address, BUFFERED[buffered]) as proxy:
        with silent(proxy, ("PATCH", 202)) as source:
            push(proxy, "nginx-ended", source)
        answers = proxy.answers()
    assert [answer for answer in answers if answer[0] == "PATCH"] == [("PATCH", 202)] * 2
    assert answers.count(("POST", 202)) == 1


def test_upload_sends_chunks_after_411_of_a_proxy(
    plain_registry: DockerRegistry, tmp_path: Path
) -> None:
    """411 Length Required, and a page of HTML: the bytes go in chunks of known length."""
    settings = "if ($http_transfer_encoding) { return 411; }"
    with nginx(tmp_path / "nginx", plain_registry.address, settings) as proxy, Client() as client:
        layer = StreamLayer(islice(repeat(BLOCK), 3), "none", tar=False)
        pushed = client.push_layer(f"{proxy.address}/nginx-411", layer)
        assert pushed.size == 3 << 20
        assert [a for a in proxy.answers() if a[0] == "PATCH"] == [("PATCH", 411), ("PATCH", 202)]


def test_upload_survives_a_closing_put_that_nginx_sends_twice(
    plain_registry: DockerRegistry, front: Proxy, tmp_path: Path
) -> None:
    """Its answer is lost on the way to nginx, which asks another server: 404.

    The blob is there, and no byte is here any more that could go again.
    """
    front.arm(Fault(act="cut", direction="down", after=b"HTTP/1.1 201"))
    with (
        nginx(tmp_path / "nginx", front.address, second=plain_registry.address) as proxy,
        Client(retry=QUICK, uploads=UploadOptions(window=0)) as client,
    ):
        layer = StreamLayer(islice(repeat(BLOCK), 3), "none", tar=False)
        pushed = client.push_layer(f"{proxy.address}/nginx-twice", layer)
        answers = proxy.answers()
    assert pushed.size == 3 << 20
    assert front.struck == 1
    assert ("PUT", 404) in answers
    assert answers.count(("POST", 202)) == 1
