"""Links and FIFOs planted in the registry's directory are not followed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.unit.registry.conftest import Registry

from brolga.disk.directory import Directory
from brolga.disk.layout import DATABASE
from brolga.spec.digest import Digest
from brolga.spec.mediatypes import OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"secret"
DIGEST = Digest.of(SECRET)
BODY = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "config": {
    "mediaType": "application/vnd.oci.empty.v1+json", "digest": str(DIGEST), "size": 6,
}}).encode()  # fmt: skip
MANIFEST = Digest.of(BODY)
HEADERS = {"content-type": OCI_MANIFEST}
UPLOAD = "0" * 32

# What the directory of a/b is made of, from the outside in.
PATHS = [
    "a",
    "a/b",
    "a/b/oci-layout",
    "a/b/index.json",
    "a/b/blobs",
    "a/b/blobs/sha256",
    f"a/b/blobs/sha256/{DIGEST.encoded}",
    f"a/b/blobs/sha256/{MANIFEST.encoded}",
    "a/b/.uploads",
    f"a/b/.uploads/{UPLOAD}",
    f"a/b/{DATABASE}",
]
REQUESTS: list[tuple[str, str, bytes]] = [
    ("GET", f"/v2/a/b/blobs/{DIGEST}", b""),
    ("HEAD", f"/v2/a/b/blobs/{DIGEST}", b""),
    ("DELETE", f"/v2/a/b/blobs/{DIGEST}", b""),
    ("GET", "/v2/a/b/manifests/v1", b""),
    ("GET", f"/v2/a/b/manifests/{MANIFEST}", b""),
    ("PUT", "/v2/a/b/manifests/v2", BODY),
    ("GET", "/v2/a/b/tags/list", b""),
    ("GET", "/v2/_catalog", b""),
    ("GET", f"/v2/a/b/referrers/{DIGEST}", b""),
    ("POST", "/v2/a/b/blobs/uploads/", b""),
    ("POST", f"/v2/a/b/blobs/uploads/?digest={Digest.of(b'new')}", b"new"),
    ("POST", f"/v2/x/blobs/uploads/?mount={DIGEST}&from=a/b", b""),
    ("PATCH", f"/v2/a/b/blobs/uploads/{UPLOAD}", b"new"),
    ("PUT", f"/v2/a/b/blobs/uploads/{UPLOAD}?digest={DIGEST}", b""),
    ("DELETE", f"/v2/a/b/blobs/uploads/{UPLOAD}", b""),
    ("DELETE", "/v2/a/b/manifests/v1", b""),
    ("DELETE", f"/v2/a/b/manifests/{MANIFEST}", b""),
]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Return a registry with an image and a session."""
    registry = Registry(tmp_path / "registry")
    registry.push(SECRET)
    assert registry("PUT", "/v2/a/b/manifests/v1", BODY, HEADERS).status == 201
    assert registry("GET", "/v2/a/b/manifests/v1").status == 200
    (registry.root / "a/b/.uploads" / UPLOAD).write_bytes(SECRET)
    return registry


def content(path: Path) -> dict[str, bytes | None]:
    """Return what is below a path, or in it."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def ask_all(registry: Registry) -> None:
    """Send every request; none may fail with an unexpected error."""
    for method, target, body in REQUESTS:
        answer = registry(method, target, body, HEADERS if body == BODY else {})
        assert answer.status < 500 or b"is broken" in answer.body or method == "HEAD", target


@pytest.mark.parametrize("place", PATHS)
def test_links_are_not_followed(registry: Registry, tmp_path: Path, place: str) -> None:
    """Not to be read, written, deleted or expired, whichever component of a path it is."""
    outside = tmp_path / "outside"
    planted = registry.root / place
    planted.rename(outside)
    planted.symlink_to(outside)
    before, times = content(outside), outside.stat().st_mtime_ns
    for path in (planted, *outside.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    for method, target, body in REQUESTS:
        answer = registry(method, target, body, HEADERS if body == BODY else {})
        assert answer.status < 500 or method == "HEAD" or b"is broken" in answer.body, target
        # What is behind the link is not part of any answer.
        assert SECRET not in answer.body or not place.endswith((DIGEST.encoded, "blobs", "sha256"))
        assert content(outside) == before, target
    registry.app.state.store.expire(0)
    assert content(outside) == before
    assert times


@pytest.mark.parametrize("place", [path for path in PATHS if path.count("/") > 1])
def test_fifo_does_not_block_the_registry(registry: Registry, place: str) -> None:
    """Opening a FIFO without a writer or a reader would wait for ever."""
    planted = registry.root / place
    shutil.rmtree(planted) if planted.is_dir() else planted.unlink()
    os.mkfifo(planted)
    ask_all(registry)
    registry.app.state.store.expire(0)


def test_hard_linked_session_is_not_written(registry: Registry, tmp_path: Path) -> None:
    """A hard link to a foreign file in the place of a session: PATCH would append to the file."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    session = registry.root / "a/b/.uploads" / UPLOAD
    session.unlink()
    session.hardlink_to(mine)
    answer = registry("PATCH", f"/v2/a/b/blobs/uploads/{UPLOAD}", b"new")
    assert answer.status == 500
    assert mine.read_bytes() == b"mine"


def test_catalog_skips_links(registry: Registry, tmp_path: Path) -> None:
    """A repository is a directory below the registry's own."""
    (registry.root / "linked").symlink_to(registry.root / "a")
    (registry.root / "elsewhere").symlink_to(tmp_path)
    assert json.loads(registry("GET", "/v2/_catalog").body) == {"repositories": ["a/b"]}


# A disk that is read-only -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_unwritable_disk_is_logged_once(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """Every push fails alike; the log has one line, and no traceback. What is there is served."""

    def refuse(*_: object, **_more: object) -> list[Path]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Directory, "make", refuse)
    for _ in range(3):
        answer = registry("POST", "/v2/a/b/blobs/uploads/")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
        assert "cannot be written" in answer.reason
        answer = registry("PUT", "/v2/a/b/manifests/v2", BODY, HEADERS)
        assert answer.status == 405
        assert registry("GET", "/v2/a/b/manifests/v1").body == BODY
    records = [record for record in caplog.records if "cannot write" in record.message]
    assert len(records) == 1
    assert "Traceback" not in caplog.text


def test_expire_on_read_only_disk_is_logged_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The round ends at the first session: the others would fail alike."""
    paths: list[Path] = []

    def refuse(_self: Directory, path: Path, _flags: int) -> int:
        paths.append(path)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for number in range(5):
        (registry.root / "a/b/.uploads" / f"{number:032x}").touch()
    monkeypatch.setattr(Directory, "open", refuse)
    for _ in range(3):
        registry.app.state.store.expire(-10)
    assert len(paths) == 3
    assert caplog.text.count("do not expire") == 1


def test_unreadable_file_is_500(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another user's blob is told of without a traceback."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "blob")

    monkeypatch.setattr(Directory, "open", refuse)
    answer = registry("GET", f"/v2/a/b/blobs/{DIGEST}")
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert "Permission denied" in caplog.text
    assert "Traceback" not in caplog.text


# What stays of requests that stored nothing -------------------------------------------------------

NOTHING: dict[str, Callable[[Registry], int]] = {
    "a session that is cancelled": lambda registry: (
        registry("DELETE", registry.start("new/name")).status
    ),
    "a wrong digest": lambda registry: (
        registry("PUT", f"{registry.start('new/name')}?digest={DIGEST}", b"other").status
    ),
    "a wrong digest in one POST": lambda registry: (
        registry("POST", f"/v2/new/name/blobs/uploads/?digest={DIGEST}", b"other").status
    ),
    "a mount of a missing blob": lambda registry: (
        registry(
            "DELETE",
            registry("POST", f"/v2/new/name/blobs/uploads/?mount={MANIFEST}&from=x").headers[
                "location"
            ],
        ).status
    ),
    "an algorithm that is not known": lambda registry: (
        registry("POST", "/v2/new/name/blobs/uploads/?digest-algorithm=md5").status
    ),
    "a manifest without its blobs": lambda registry: (
        registry("PUT", "/v2/new/name/manifests/v1", BODY, HEADERS).status
    ),
    "an invalid manifest": lambda registry: (
        registry("PUT", "/v2/new/name/manifests/v1", b"{", HEADERS).status
    ),
    "a tag that is deleted": lambda registry: (
        registry("DELETE", "/v2/new/name/manifests/v1").status
    ),
    "questions": lambda registry: registry("GET", "/v2/new/name/tags/list").status,
}


@pytest.mark.parametrize("request_", NOTHING.values(), ids=NOTHING)
def test_request_that_stores_nothing_leaves_no_directory(
    registry: Registry, request_: Callable[[Registry], int]
) -> None:
    """Clients that make up names fill no disk."""
    before = sorted(registry.root.iterdir())
    status = request_(registry)
    assert status == 204 or 400 <= status < 500
    assert sorted(registry.root.iterdir()) == before


def test_expired_session_leaves_no_directory(registry: Registry) -> None:
    """An unfinished session is deleted, with the directories that were made for it."""
    registry.start("new/name/deep")
    registry.start("a/b/below")
    registry.app.state.store.expire(-10)
    assert [path.name for path in registry.root.iterdir()] == ["a"]
    assert not (registry.root / "a/b/below").exists()
    assert registry("GET", "/v2/a/b/manifests/v1").status == 200


def test_number_of_sessions_is_bounded(registry: Registry) -> None:
    """Each session is a file: over the limit a new one is rejected, and the others continue."""
    sessions = registry.app.state.store._shared.sessions
    registry.app.state.store.expire(3600)
    assert sessions.count == 1
    sessions._limit = 4
    opened = [registry.start(f"name{number}") for number in range(3)]
    answer = registry("POST", "/v2/other/blobs/uploads/")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert not (registry.root / "other").exists()
    assert registry("PATCH", opened[0], b"abc").status == 202
    assert registry("DELETE", opened[0]).status == 204
    opened.append(registry.start("other"))
    digest = Digest.of(b"abc")
    assert registry("PUT", f"{opened[1]}?digest={digest}", b"abc").status == 201
    assert registry("PUT", f"{opened[2]}?digest={digest}", b"abd").status == 400
    assert sessions.count == 2
    wrong = registry("POST", f"/v2/other/blobs/uploads/?digest={digest}", b"abd")
    assert (wrong.status, sessions.count) == (400, 2)
    shutil.rmtree(registry.root / "other")
    registry.app.state.store.expire(3600)
    assert sessions.count == 1
