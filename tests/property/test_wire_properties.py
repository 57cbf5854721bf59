"""wire/: what holds for every registry, honest, broken or hostile."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from tests.wire.scripted import (
    ACCEPTED,
    BASIC,
    BEARER,
    BLOB,
    HOME,
    POST,
    QUERY,
    REPOSITORY,
    UPLOADS,
    USER,
    Answer,
    access,
    drive,
)

from brolga.errors import BrolgaError, ProtocolViolation, TransportFailed
from brolga.wire import Call, Reply, enter, upload_stream
from brolga.wire.access import _parse_challenges
from brolga.wire.replies import expect, location
from brolga.wire.urls import check, origin, redacted, resolve, with_digest

if TYPE_CHECKING:
    from brolga.descriptor import Descriptor
    from brolga.wire import Flow

T = TypeVar("T")

# A rule of conversations does not depend on how busy the machine is.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(untimed, max_examples=500)

BODY = (b"bl", b"ob")
ALL_STATUSES = [*range(200, 209), 301, 303, 307, 308, *range(400, 432), *range(500, 512)]
REASONS = ["connect", "tls", "certificate", "timeout", "cut"]
TOKENS = [
    b'{"token": "t1"}',
    b'{"access_token": "t2"}',
    b'{"token": "a\\nb"}',
    b"{}",
    b"<html>",
    b"[" * 5000,
]
LOCATIONS = [
    f"{UPLOADS}two?_state=z",
    "/elsewhere/three?x=%2F",
    "four",
    "https://storage.example/five?sig=s",
    "http://registry.example/six",
    "https://u:p@registry.example/seven",
    "https://127.0.0.1/eight",
    "http://[::1",
    "https://h:99999/",
    "",
]

# What RFC 3986, section 3.4 allows in a query, and more that registries send all the same.
queries = st.text(string.ascii_letters + string.digits + "%&=+?/:;,.@!$'()*_-~[]|\\^\"<>{}`")
paths = st.sampled_from(
    ["/u", "u", "", "/a/b", "//other.example/u", f"{HOME}/u", "https://o.example"]
)
# Every character that a header can bring (latin-1), and some that it cannot.
header_texts = st.text(st.characters(max_codepoint=0x2FFF), max_size=200)
url_like = st.one_of(
    header_texts,
    st.builds(
        "{}{}{}".format,
        st.sampled_from(
            ["http://", "https://", "//", "/", "https:", "HTTPS://h", "https://[", "?"]
        ),
        st.text("h1.:@[]%/\\?#&=; \t\u00e9\u212a\u2100", max_size=12),
        st.sampled_from(["", ":0", ":99999", "]", "/x?y", "@h", "#f"]),
    ),
)


@st.composite
def headers(draw: st.DrawFn) -> dict[str, str]:
    """Draw headers: those that matter, with the best and the worst values."""
    values = {
        "location": st.sampled_from(LOCATIONS) | url_like,
        "www-authenticate": st.sampled_from([*BEARER.values(), *BASIC.values()]) | header_texts,
        "docker-content-digest": st.sampled_from([str(BLOB.digest), "sha256:" + "0" * 64, "x"]),
        "content-length": st.sampled_from(["4", "5", "", "x"]),
        "retry-after": st.sampled_from(["5", "Wed, 21 Oct 2026 07:28:00 GMT"]) | header_texts,
        "date": st.just("Wed, 21 Oct 2026 07:28:00 GMT") | header_texts,
        "x-request-id": header_texts,
        "range": header_texts,
    }
    return draw(st.fixed_dictionaries({}, optional=values))


replies = st.builds(
    Reply,
    # Successes and the way in are drawn more often, so that conversations get far.
    st.sampled_from([200, 201, 202, 202, 204, 401, 401, 502]) | st.sampled_from(ALL_STATUSES),
    headers(),
    st.sampled_from(TOKENS) | st.binary(max_size=100),
    st.integers(0, 4),
)
failures = st.builds(
    TransportFailed,
    st.just("no answer"),
    reason=st.sampled_from(REASONS),
    sent=st.integers(0, 4),
)
good_locations = st.sampled_from(LOCATIONS[:4])


@st.composite
def answers(draw: st.DrawFn, call: Call) -> Answer:
    """Draw an answer to a call: more often than not the one that leads on."""
    drawn = draw(st.sampled_from(["good", "good", "good", "any", "any", "renew", "fail"]))
    if drawn == "fail":
        return draw(failures)
    if drawn == "renew":
        return Reply(401, BEARER)
    if drawn == "any":
        reply = draw(replies)
        if call.body is BODY:
            return Reply(reply.status, reply.headers, reply.body, reply.sent, draw(st.booleans()))
        return reply
    target = {"location": draw(good_locations)}
    return {
        "POST": Reply(202, target),
        "PATCH": Reply(202, target, sent=4, whole=draw(st.booleans())),
        "PUT": Reply(201),
        "HEAD": Reply(200, {"content-length": "4"}),
        "DELETE": Reply(204),
        "GET": Reply(200, body=TOKENS[0]),
    }[call.method]


class Registry:
    """A registry that answers as Hypothesis likes, and remembers the conversation."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.talk: list[tuple[Call, Answer]] = []

    def __call__(self, call: Call) -> Answer:
        assert len(self.talk) < 20, "a conversation without an end"
        answer = self.data.draw(answers(call))
        self.talk.append((call, answer))
        return answer

    def replies(self, method: str) -> list[Reply]:
        """Return the answers to the calls of one method; failures are none."""
        talk = self.talk
        return [said for call, said in talk if call.method == method and isinstance(said, Reply)]

    def methods(self) -> list[str]:
        """Return the methods of all calls, in order."""
        return [call.method for call, _ in self.talk]


def opened(registry: Registry) -> bool:
    """Tell whether a POST gave a session that can be named."""
    for reply in registry.replies("POST"):
        try:
            expect(POST, reply, 202)
            location(POST, reply)
        except BrolgaError:
            continue
        return True
    return False


def proved(registry: Registry) -> bool:
    """Tell whether the conversation shows that the registry has the blob."""
    put, head = registry.replies("PUT"), registry.replies("HEAD")
    return any(reply.status in {201, 204} for reply in put) or any(
        reply.status == 200 and reply.headers.get("content-length", "") in {"", "4"}
        for reply in head
    )


def outcome(flow: Flow[T], registry: Registry) -> T | BrolgaError:
    """Run a flow against a registry; return its result, or its typed error. Others come out."""
    try:
        return drive(flow, registry)
    except BrolgaError as error:
        event(type(error).__name__)
        return error


def upload(registry: Registry) -> Descriptor | BrolgaError:
    """Upload BODY."""
    return outcome(upload_stream(access(USER), BODY, lambda: BLOB), registry)


@thorough
@given(st.data())
def test_an_upload_ends_in_a_proved_success_or_a_typed_error(data: st.DataObject) -> None:
    """A failure is survived or reported, never hidden, and an abandoned session is cancelled."""
    registry = Registry(data)
    result = upload(registry)
    if isinstance(result, BrolgaError):
        assert ("DELETE" in registry.methods()) is opened(registry)
    else:
        assert result is BLOB
        assert all(reply.whole for reply in registry.replies("PATCH"))
        assert proved(registry)
        assert "DELETE" not in registry.methods()


@thorough
@given(st.data())
def test_no_put_follows_a_stream_that_was_not_whole(data: st.DataObject) -> None:
    """Nothing half-read can be committed, and a stream is never sent twice."""
    registry = Registry(data)
    upload(registry)
    assert [call.body is BODY for call, _ in registry.talk].count(True) <= 1
    assert registry.methods().count("PATCH") <= 1
    for call, answer in registry.talk:
        whole = isinstance(answer, Reply) and answer.whole and 200 <= answer.status < 300
        if call.method == "PATCH" and not whole:
            assert "PUT" not in registry.methods()


@thorough
@given(st.data())
def test_credentials_go_home_and_to_the_realm_alone(data: st.DataObject) -> None:
    """No Authorization to another origin (CVE-2026-50151), no URL that leaves TLS."""
    registry = Registry(data)
    result = upload(registry)
    for call, _ in registry.talk:
        assert call.url.isascii()
        assert call.url.isprintable()
        assert call.url.lower().startswith("https://")
        authorization = call.headers.get("Authorization", "")
        assert authorization.isprintable()
        if authorization and call.method != "GET":
            assert origin(call.url) == origin(HOME)
    if isinstance(result, BrolgaError):
        assert str(result).isprintable()
        assert USER.password not in str(result)
        assert "sig=" not in str(result)


@thorough
@given(st.data())
def test_entering_ends_in_access_or_a_typed_error(data: st.DataObject) -> None:
    """Any server at all may be behind a registry's name."""
    registry = Registry(data)
    result = outcome(enter(REPOSITORY, USER, schemes=("https", "http")), registry)
    assert len(registry.talk) <= 3
    if isinstance(result, BrolgaError):
        assert str(result).isprintable()
    else:
        assert result.base in {HOME, "http://registry.example"}


@untimed
@given(paths, queries)
@example("/u", "")
@example("", "a")
@example("u", "x=http://[::1&y=//../;?")
def test_a_query_is_kept_byte_for_byte(path: str, query: str) -> None:
    """The location MAY contain critical query parameters and SHOULD match exactly."""
    url = location(POST, Reply(202, {"location": f"{path}?{query}"}))
    assert url.partition("?")[2] == query
    assert with_digest(url, BLOB.digest) == f"{url}&{QUERY}"


@untimed
@given(st.sampled_from([UPLOADS, f"{HOME}/u", HOME]))
def test_a_digest_begins_a_query_where_there_is_none(url: str) -> None:
    """`<blob-push-location>?digest=<digest>` (Endpoints, end-6)."""
    assert with_digest(url, BLOB.digest) == f"{url}?{QUERY}"


@thorough
@given(url_like)
@example("https://\u212a.example/")
@example("https://h\uff0fevil.example/")
def test_no_url_raises_anything_but_a_violation(url: str) -> None:
    """What is let through is plain: every parser reads the same host from it."""
    assert redacted(url).isprintable()
    try:
        good = check(resolve(UPLOADS, url), "Location", seen_from=UPLOADS)
    except ProtocolViolation as error:
        shown = str(error)
    else:
        shown = good
        assert origin(good)[0] == "https"
        host = re.fullmatch(r"(?i)https://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d*)?([/?].*)?", good)
        assert host
        assert host[1].strip("[]").lower() == origin(good)[1]
    assert shown.isprintable()


@thorough
@given(st.sampled_from([400, 401, 403, 404, 413, 429, 500, 503]), headers(), st.binary())
def test_any_error_body_and_header_make_a_typed_error(
    status: int, said: dict[str, str], body: bytes
) -> None:
    """A 4XX response MAY return a body in any format (Error Codes)."""
    reply = Reply(status, said, body)
    calls = iter([ACCEPTED, reply, Reply(204)])
    flow = upload_stream(access(), BODY, lambda: BLOB)
    with pytest.raises(BrolgaError) as caught:
        # A DELETE may be followed by what a second challenge asks for: that is refused as well.
        drive(flow, lambda _call: next(calls, Reply(404)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


@thorough
@given(header_texts | st.text('Bb=", \\a', max_size=60))
def test_any_challenge_can_be_read(header: str) -> None:
    """A header of any text gives challenges with lower-case names, or none."""
    for scheme, params in _parse_challenges(header).items():
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in params)
