"""upload/session.py: mounts, and sessions that are open already."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.driver import (
    BEARER,
    BLOB,
    FIRST,
    HOME,
    SCOPE,
    UPLOADS,
    make_access,
    patch,
    play,
    put,
    token_request,
    upload_known,
    with_authorization,
)
from tests.protocol.upload.conversation import BODY, CREATED, NEXT, TOKEN, finalize, put_whole

from brolga.errors import (
    BrolgaError,
    Denied,
    NotFound,
    ProtocolViolation,
    RegistryError,
    Unauthorized,
)
from brolga.protocol import (
    Request,
    Response,
    UploadSession,
    mount_blob,
    upload_bytes,
)
from brolga.spec.reference import Repository


def test_upload_sends_no_post_in_an_open_session() -> None:
    """A mount that was refused has opened one (Mounting a blob from another repository)."""
    session = UploadSession(FIRST)
    flow = upload_known(make_access(), BODY, finalize, session)
    assert play(flow, (patch(BODY), NEXT), (put(), CREATED)) is BLOB
    flow = upload_bytes(make_access(), b"blob", BLOB, session=session)
    assert play(flow, (put_whole(), CREATED)) is BLOB


SOURCE = Repository.parse("registry.example/team/base")
MOUNT = Request(
    "POST", f"{UPLOADS}?mount=sha256%3A{BLOB.digest.encoded}&from=team%2Fbase", body=b""
)


@pytest.mark.parametrize(
    "headers", [{}, {"location": "/v2/team/app/blobs/x"}, {"location": "http://["}]
)
def test_mount_blob_returns_none_after_201(headers: dict[str, str]) -> None:
    """201 Created if the mount succeeds (end-11): nothing is left to send."""
    assert (
        play(mount_blob(make_access(), BLOB.digest, SOURCE), (MOUNT, Response(201, headers)))
        is None
    )


@pytest.mark.parametrize("location", [FIRST, FIRST.removeprefix(HOME), "one?_state=a"])
def test_mount_blob_returns_a_session_after_202(location: str) -> None:
    """202 Accepted as for an upload, if the registry cannot mount the blob (end-11)."""
    flow = mount_blob(make_access(), BLOB.digest, SOURCE)
    assert play(flow, (MOUNT, Response(202, {"location": location}))) == UploadSession(FIRST)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (Response(202), ProtocolViolation),
        (Response(202, {"location": "http://registry.example/u"}), ProtocolViolation),
        (Response(202, {"location": "https://127.0.0.1/u"}), ProtocolViolation),
        (Response(200), ProtocolViolation),
        (Response(204), ProtocolViolation),
        (Response(302, {"location": FIRST}), ProtocolViolation),
        (Response(401), Unauthorized),
        (Response(403), Denied),
        (Response(404), NotFound),
        (Response(405), RegistryError),
    ],
)
def test_mount_blob_raises_the_refusal(response: Response, kind: type[BrolgaError]) -> None:
    """Some registries answer 404 if the source does not exist: the caller uploads the blob then."""
    play(mount_blob(make_access(), BLOB.digest, SOURCE), (MOUNT, response), error=kind)


def test_mount_blob_gets_a_token_for_both_repositories() -> None:
    """A 401 to a mount is answered by a token that can read the source as well."""
    way = make_access().registry.access(
        Repository.parse("registry.example/team/app"), "pull,push", SOURCE
    )
    wide = token_request()
    scopes = f"{SCOPE}&scope=repository%3Ateam%2Fbase%3Apull"
    play(
        mount_blob(way, BLOB.digest, SOURCE),
        (MOUNT, Response(401, BEARER)),
        (replace(wide, url=wide.url.replace(SCOPE, scopes)), TOKEN),
        (with_authorization(MOUNT, "Bearer t1"), Response(201)),
    )
