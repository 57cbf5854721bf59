"""testing.sessions: the paths and Locations of upload sessions."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from brolga.testing.sessions import (
    OWN_PATH,
    convert_location,
    parse_session_path,
    to_own_path,
)

ELSEWHERE = "/at/{name}/s/{upload}"


@pytest.mark.parametrize(
    ("path", "template", "own"),
    [
        ("/v2/a/b/blobs/uploads/1", OWN_PATH, "/v2/a/b/blobs/uploads/1"),
        ("/elsewhere/v2/a/b/blobs/uploads/1", OWN_PATH, "/v2/a/b/blobs/uploads/1"),
        ("/at/a/b/s/1", ELSEWHERE, "/v2/a/b/blobs/uploads/1"),
        ("/elsewhere/at/a/b/s/1", ELSEWHERE, "/v2/a/b/blobs/uploads/1"),
        ("/at/a/b/s/1/2", ELSEWHERE, "/at/a/b/s/1/2"),
        ("/v2/", ELSEWHERE, "/v2/"),
    ],
)
def test_to_own_path(path: str, template: str, own: str) -> None:
    """A profile's path, and a fault's, is the registry's own; any other stays as it is."""
    assert to_own_path(path, template) == own


def test_parse_session_path() -> None:
    """A name has slashes; a session's id has none."""
    assert parse_session_path("/v2/a/b/blobs/uploads/1") == ("a/b", "1")
    assert parse_session_path("/v2/a/b/blobs/uploads/") is None
    assert parse_session_path("/v2/a.b/blobs/uploadsX1") is None


@pytest.mark.parametrize("request_path", ["/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/1"])
@pytest.mark.parametrize("target", ["/v2/a/blobs/uploads/1?x=%2F~", "/at/a/s/1"])
@pytest.mark.parametrize("form", ["absolute", "path", "relative"])
def test_convert_location_forms_resolve_alike(form: str, target: str, request_path: str) -> None:
    """RFC 3986, section 5: a reference is resolved against the URL of the request."""
    origin = "http://127.0.0.1:5000"
    for location in (target, origin + target):
        converted = convert_location(location, form, origin, request_path)  # type: ignore[arg-type] # a literal each
        assert urljoin(origin + request_path, converted) == origin + target
        assert converted.startswith("http") is (form == "absolute")
        assert converted.startswith("/") is (form == "path")


def test_convert_location_elsewhere_is_idempotent() -> None:
    """Converted twice, a location is the same."""
    once = convert_location("/v2/a?b", "elsewhere", "", "/")
    assert once == convert_location(once, "elsewhere", "", "/") == "/elsewhere/v2/a?b"


@pytest.mark.parametrize("first", ["absolute", "path", "relative"])
@pytest.mark.parametrize("second", ["absolute", "path", "relative"])
def test_convert_location_repeatedly(first: str, second: str) -> None:
    """The form of a profile, then that of a fault: both lead to the same URL."""
    origin, request_path, target = (
        "http://127.0.0.1:5000",
        "/v2/a/blobs/uploads/",
        "/at/a/s/1?x=%2F",
    )
    once = convert_location(target, first, origin, request_path)  # type: ignore[arg-type] # a literal each
    twice = convert_location(once, second, origin, request_path)  # type: ignore[arg-type] # a literal each
    assert urljoin(origin + request_path, twice) == origin + target
