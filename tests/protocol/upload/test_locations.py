"""upload/flow.py: where a session is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.protocol.driver import (
    ACCEPTED,
    FIRST,
    HOME,
    POST,
    QUERY,
    SECOND,
    UPLOADS,
    USER,
    delete,
    make_access,
    patch,
    play,
    put,
    upload_known,
)
from tests.protocol.upload.conversation import BODY, CREATED, finalize

from brolga.errors import (
    ProtocolViolation,
)
from brolga.protocol import (
    Request,
    Response,
    Timeout,
)


@pytest.mark.parametrize(
    ("location", "session", "closing"),
    [
        ("/v2/team/app/blobs/uploads/u1", f"{UPLOADS}u1", f"{UPLOADS}u1?"),
        ("u1?x=1", f"{UPLOADS}u1?x=1", f"{UPLOADS}u1?x=1&"),
        (f"{HOME}/blobs/upload/u1", f"{HOME}/blobs/upload/u1", f"{HOME}/blobs/upload/u1?"),
        ("/a/b?n=%2F&e=&e=+%20#part", f"{HOME}/a/b?n=%2F&e=&e=+%20", None),
        ("?_state=q==", f"{UPLOADS}?_state=q==", None),
        ("//other.example/u1", "https://other.example/u1", "https://other.example/u1?"),
        ("/a;b;?x=;", f"{HOME}/a;b;?x=;", None),
        ("/a?", f"{HOME}/a?", None),
        (f"{HOME}/a;?#", f"{HOME}/a;?", None),
        ("/a?x=../..//y", f"{HOME}/a?x=../..//y", None),
    ],
)
def test_upload_stream_resolves_location_and_keeps_its_query(
    location: str, session: str, closing: str | None
) -> None:
    """The location MAY be absolute or relative and MAY contain critical query parameters."""
    closing = f"{session}&" if closing is None else closing
    closed = Request("PUT", closing + QUERY, body=b"", timeout=Timeout.LONG)
    named_by = "registry.example" if "other.example" in session else ""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, Response(202, {"location": location})),
        (replace(patch(BODY, session), redirected_from=named_by), Response(202)),
        (replace(closed, redirected_from=named_by), CREATED),
    )


def test_upload_stream_replaces_the_query_by_a_location_of_a_query() -> None:
    """The reference's query is the target's, not joined to the base's (RFC 3986, section 5.2.2)."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), Response(202, {"location": "?_state=b"})),
        (put(SECOND), CREATED),
    )


@pytest.mark.parametrize("headers", [{}, {"location": ""}, {"location": "#part"}])
def test_upload_stream_raises_if_post_has_no_location(headers: dict[str, str]) -> None:
    """The POST's answer MUST include the Location header (POST then PUT)."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, Response(202, headers)),
        error=ProtocolViolation,
        match="without a Location",
    )


@pytest.mark.parametrize(
    "location",
    [
        "http://registry.example/u?secret",
        "https://someone:secret@registry.example/u",
        "//someone:secret@registry.example/u",
        "https:///u?secret",
        "ftp://registry.example/u?secret",
        "data:text/plain,x?secret",
        "https://registry.example:99999/u?secret",
        "https:u?secret",
        "//[::1?secret",
        "http://[::1?secret",
        "//[zz]/u?secret",
        "/u u?secret",
        "/u\tu?secret",
        "/u?secret=\xe4",
        "https://127.0.0.1/u?secret",
        "https://a.example/u?secret, https://b.example/u",
    ],
)
def test_upload_stream_raises_for_an_unsafe_location(location: str) -> None:
    """A Location may lead out of TLS, inside (CVE-2026-48978), or be no URL at all."""
    error = play(
        upload_known(make_access(USER), BODY, finalize),
        (POST, Response(202, {"location": location})),
        error=ProtocolViolation,
        match="the registry's Location",
    )
    assert "secret" not in str(error)


def test_upload_stream_cancels_at_the_old_url_if_the_new_location_is_bad() -> None:
    """The location to cancel is that of the preceding POST or PATCH (Cancel a blob upload)."""
    play(
        upload_known(make_access(), BODY, finalize),
        (POST, ACCEPTED),
        (patch(BODY), Response(202, {"location": "http://[::1"})),
        (delete(FIRST), Response(204)),
        error=ProtocolViolation,
    )
