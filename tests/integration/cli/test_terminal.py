"""No verb prints text of a registry that controls a terminal."""

from __future__ import annotations

import io
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.images import digest_of
from tests.verbs import verbs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command import Brolga

# An escape sequence, a bell, C1, bidirectional marks, a false line, DEL, a zero-width space.
EVIL: Final = "\x1b]0;owned\x07\x9b31m\u202e\u2066\r\nFALSE\x08\x00\x7f\u200b"
# What a header can hold.
EVIL_HEADER: Final = "".join(letter for letter in EVIL if letter not in "\r\n\0")
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"


def encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


CONFIG_DATA: Final = encoded(
    {
        "architecture": f"amd64{EVIL}",
        "os": f"linux{EVIL}",
        "config": {"Labels": {f"a{EVIL}": EVIL}, "Env": [EVIL]},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [{"created_by": EVIL, "empty_layer": True}],
    }
)
IMAGE: Final = encoded(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": CONFIG,
            "digest": digest_of(CONFIG_DATA),
            "size": len(CONFIG_DATA),
        },
        "layers": [],
        "annotations": {f"k{EVIL}": EVIL, "org.opencontainers.image.base.name": EVIL},
    }
)
CHILD: Final = {
    "mediaType": MANIFEST,
    "digest": digest_of(IMAGE),
    "size": len(IMAGE),
    "platform": {"os": f"linux{EVIL}", "architecture": f"x{EVIL}", "os.version": EVIL},
    "annotations": {"org.opencontainers.image.ref.name": EVIL, f"z{EVIL}": EVIL},
    "artifactType": f"a/b{EVIL}",
}
LIST: Final = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [CHILD]})
ERROR: Final = encoded({"errors": [{"code": EVIL, "message": EVIL, "detail": {EVIL: EVIL}}]})


@dataclass(frozen=True)
class Answer:
    """What the registry answers to a request: `headers` come beside a Warning."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def document(data: bytes, media_type: str) -> Answer:
    return Answer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)})


def serve(method: str, path: str) -> Answer:
    """Answer as a registry that has one index of one image does, with hostile texts."""
    answers = {
        "tags/list": document(encoded({"name": EVIL, "tags": [EVIL]}), "application/json"),
        "_catalog": document(encoded({"repositories": [EVIL]}), "application/json"),
        "/referrers/": document(LIST, INDEX),
        digest_of(IMAGE): document(IMAGE, MANIFEST),
        digest_of(CONFIG_DATA): document(CONFIG_DATA, "application/octet-stream"),
        "manifests/image": document(IMAGE, MANIFEST),
        "manifests/": document(LIST, INDEX),
    }
    if method not in {"GET", "HEAD"}:
        return Answer(400, ERROR)
    if path == "/v2/":
        return Answer(200, b"{}")
    return next((answer for part, answer in answers.items() if part in path), Answer(404, ERROR))


# A registry's second sentence: what it says to everything but the ping.
REFUSALS: Final = {
    "error": Answer(403, ERROR),
    "plain": Answer(400, EVIL.encode(), {"Content-Type": "text/plain"}),
    "redirect": Answer(307, b"", {"Location": f"http://x/{EVIL_HEADER}"}),
    "challenge": Answer(
        401,
        b"",
        {"WWW-Authenticate": f'Bearer realm="http://{EVIL_HEADER}/x",error="{EVIL_HEADER}"'},
    ),
    "page": Answer(200, b"x", {"Content-Type": f"text/html{EVIL_HEADER}"}),
    "digest": Answer(
        200,
        b"{}",
        {"Content-Type": f"a/b{EVIL_HEADER}", "Docker-Content-Digest": f"sha256:{EVIL_HEADER}"},
    ),
}


@contextmanager
def hostile_registry(refusal: Answer | None = None) -> Iterator[str]:
    """Run a registry whose every text is hostile."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.close_connection = True
            response = serve(self.command, self.path)
            answer = response if refusal is None or self.path == "/v2/" else refusal
            self.send_response_only(answer.status, EVIL_HEADER.encode("utf-8").decode("latin-1"))
            warning = f'299 - "{EVIL_HEADER}"'
            headers = {"Warning": warning, "X-Request-Id": EVIL_HEADER, **answer.headers}
            for name, value in headers.items():
                self.send_header(name, value.encode("utf-8").decode("latin-1"))
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# Each verb, with arguments that have it ask the registry REG; OUT is a path to write to.
VERBS: Final = {
    "append": "-b REG/a:image -f EMPTY -t REG/a:new",
    "attach": "REG/a:image --artifact-type a/b",
    "auth get": "REG",
    "auth login": "REG -u me --password-stdin",
    "auth logout": "REG",
    "auth token": "REG/a",
    "blob": "REG/a@CONFIG",
    "catalog": "REG",
    "config": "REG/a:image",
    "copy": "REG/a:image oci:OUT",
    "delete": "REG/a:image",
    "digest": "REG/a:x",
    "explain": "REG/a",
    "export": "REG/a:image OUT",
    "extract": "REG/a:image OUT",
    "flatten": "REG/a:image",
    "index append": "REG/a:x -m REG/a:image -t REG/a:new",
    "index filter": "REG/a:x --platform linux/amd64",
    "index list": "REG/a:x",
    "layer pull": "REG/a:image -o OUT",
    "layer push": "REG/a EMPTY",
    "layout gc": "OUT",
    "ls": "REG/a",
    "manifest": "REG/a:x",
    "mutate": "REG/a:image -l a=b",
    "pull": "REG/a:x OUT",
    "push": "LAYOUT REG/a:new",
    "rebase": "REG/a:image --old-base REG/a:image --new-base REG/a:x",
    "referrers": "REG/a@IMAGE",
    "tag": "REG/a:x new",
    "validate": "--remote REG/a:x",
}
# They ask no registry, or print documents unchanged if stdout is not a terminal.
ELSEWHERE: Final = {"registry serve", "version"}
DOCUMENTS: Final = {"blob", "config", "manifest"}


def test_commands_cover_every_verb() -> None:
    """A new verb needs a row here."""
    assert set(verbs()) - ELSEWHERE <= set(VERBS)


@pytest.mark.parametrize("refusal", [None, *REFUSALS])
@pytest.mark.parametrize("verb", VERBS)
def test_verb_prints_no_control_or_format_character(
    brolga: Brolga, tmp_path: Path, verb: str, refusal: str | None
) -> None:
    """In results, errors, warnings and logs."""
    if verb not in set(verbs()):
        pytest.skip(f"there is no verb {verb}")
    (tmp_path / "empty").write_bytes(b"")
    with hostile_registry(REFUSALS.get(refusal or "")) as address:
        words = {
            "REG": address,
            "EMPTY": str(tmp_path / "empty"),
            "OUT": str(tmp_path / "out"),
            "LAYOUT": str(tmp_path / "none"),
            "CONFIG": digest_of(CONFIG_DATA),
            "IMAGE": digest_of(IMAGE),
        }
        arguments = VERBS[verb]
        for word, text in words.items():
            arguments = arguments.replace(word, text)
        stdin = io.TextIOWrapper(io.BytesIO(b"password\n"))
        outcome = brolga("-vv", *verb.split(), *arguments.split(), stdin=stdin)
    assert outcome.code in {0, 1, 2, 3, 4, 5, 6}
    assert "unexpected" not in outcome.err
    for text in (outcome.err, "" if verb in DOCUMENTS else outcome.out):
        lines = text.split("\n")
        assert [line for line in lines if not line.isprintable() or line.startswith("FALSE")] == []
