"""protocol: what holds for every registry, honest, broken or hostile."""

from __future__ import annotations

import json
import re
import string
from dataclasses import replace
from inspect import GEN_CLOSED, getgeneratorstate
from types import GeneratorType
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from tests.protocol.driver import (
    ACCEPTED,
    BASIC,
    BEARER,
    BLOB,
    HOME,
    ONCE,
    POST,
    QUERY,
    REALM,
    REPOSITORY,
    UPLOADS,
    USER,
    Answer,
    collect_bytes,
    collect_names,
    drive,
    make_access,
    open_access,
    upload_known,
)

from brolga.errors import BrolgaError, ProtocolViolation, SourceError, TransportError
from brolga.protocol import (
    Access,
    BodyError,
    Credentials,
    RegistrySession,
    Request,
    Response,
    Retry,
    Timeout,
    add_referrer,
    delete_blob,
    delete_manifest,
    get_manifest,
    has_blob,
    head_manifest,
    list_referrers,
    list_repositories,
    list_tags,
    listing,
    mount_blob,
    put_manifest,
    read_blob,
    read_range,
    referrers,
    remove_referrer,
    upload_bytes,
)
from brolga.protocol.auth_tokens import parse_challenges, parse_token
from brolga.protocol.manifests import FetchedManifest
from brolga.protocol.responses import location, raise_for_status
from brolga.protocol.urls import check_url, hostname, origin, redact, resolve, with_digest
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST
from brolga.spec.reference import Repository
from brolga.stores.blob_reader import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from brolga.protocol import Flow

T = TypeVar("T")

# A rule of conversations does not depend on how busy the machine is.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(untimed, max_examples=500)

BODY = [b"bl", b"ob"]
CREDENTIALS = [
    None,
    USER,
    Credentials("someone", identity_token="refresh-me"),  # noqa: S106 - a made-up one
    Credentials(registry_token="as-it-is"),  # noqa: S106 - a made-up one
]
SECRETS = [USER.password, "open+sesame", "refresh-me", "as-it-is"]
RETRIES = [ONCE, Retry(attempts=2)]
RAW = Index.new(()).raw
INDEX = Digest.of(RAW)
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
        "content-length": st.sampled_from(["4", "5", "", "x", "9" * 30]),
        "content-type": st.sampled_from([OCI_INDEX, OCI_MANIFEST, "text/html", "x"]) | header_texts,
        "content-range": st.sampled_from(["bytes 1-3/4", "bytes 2-3/4"]) | header_texts,
        "link": st.builds('<{}>; rel="next"'.format, st.sampled_from(LOCATIONS) | url_like)
        | header_texts,
        "retry-after": st.sampled_from(["5", "Wed, 21 Oct 2026 07:28:00 GMT"]) | header_texts,
        "date": st.just("Wed, 21 Oct 2026 07:28:00 GMT") | header_texts,
        "x-request-id": header_texts,
        "range": header_texts,
    }
    return draw(st.fixed_dictionaries({}, optional=values))


responses = st.builds(
    Response,
    # Successes and challenges are drawn more often, so that conversations get far.
    st.sampled_from([200, 201, 202, 202, 204, 401, 401, 502]) | st.sampled_from(ALL_STATUSES),
    headers(),
    st.sampled_from(TOKENS) | st.binary(max_size=100),
    st.integers(0, 4),
)
failures = st.builds(
    TransportError,
    st.just("no answer"),
    reason=st.sampled_from(REASONS),
    sent=st.integers(0, 4),
)
good_locations = st.sampled_from(LOCATIONS[:4])


@st.composite
def bodies(draw: st.DrawFn) -> Generator[bytes, None, None]:
    """Draw the body of a streamed call: the blob, a part of it, more of it, or a cut."""
    blocks = draw(st.lists(st.sampled_from([b"b", b"bl", b"ob", b"blob", b""]), max_size=4))
    failing = draw(st.booleans())

    def body() -> Generator[bytes, None, None]:
        yield from blocks
        if failing:
            raise TransportError("no more", reason="cut")

    return body()


def whole(data: bytes) -> Generator[bytes, None, None]:
    """Return a body that comes to its end."""
    yield data


def is_streamed(request: Request, response: Response) -> bool:
    """Return whether the driver streams the body of a response."""
    return request.stream_response and response.status in {200, 206}


def good(request: Request, target: str) -> Response:
    """Return the answer that leads on."""
    if not isinstance(request.body, bytes | None):
        return Response(202, {"location": target}, sent=4)
    if request.url.startswith(REALM):
        return Response(200, body=TOKENS[0])
    if request.method == "GET":
        listed = json.dumps({"tags": ["a"], "repositories": ["a"]}).encode()
        wanted = request.headers.get("Range", "bytes=0-").removeprefix("bytes=")
        start, _, last = wanted.partition("-")
        if request.stream_response and start != "0":
            headers = {"content-range": f"bytes {start}-{last or 3}/4"}
            part = b"blob"[int(start) : int(last or 3) + 1]
            return Response(206, headers, body_stream=whole(part))
        if request.stream_response:
            return Response(200, body_stream=whole(b"blob"))
        is_list = "tags/list" in request.url or "_catalog" in request.url
        return Response(200, {"content-type": OCI_INDEX}, listed if is_list else RAW)
    return {
        "POST": Response(202, {"location": target}),
        "PATCH": Response(202, {"location": target}, sent=len(request.body or b"")),
        "PUT": Response(201),
        "HEAD": Response(200, {"content-length": "4", "content-type": OCI_INDEX}),
        "DELETE": Response(204 if request.timeout is Timeout.SHORT else 202),
    }[request.method]


@st.composite
def answers(draw: st.DrawFn, request: Request) -> Answer:
    """Draw an answer to a request: more often than not the one that leads on."""
    kinds = ["good", "good", "good", "any", "any", "renew", "fail", "busy", "away"]
    drawn = draw(st.sampled_from(kinds))
    is_stream = not isinstance(request.body, bytes | None)
    response = good(request, draw(good_locations))
    if drawn == "fail" and (is_stream or request.method == "PATCH") and draw(st.booleans()):
        return BodyError(SourceError("the source failed"), draw(st.none() | st.just(response)))
    if drawn == "fail":
        return draw(failures)
    if drawn == "renew":
        return Response(401, BEARER)
    if drawn == "busy":
        return Response(503, {"retry-after": draw(st.sampled_from(["0", "9", "99", "999999999"]))})
    if drawn == "away":
        return Response(307, {"location": draw(st.sampled_from(LOCATIONS))})
    if drawn == "any":
        response = draw(responses)
        if is_streamed(request, response):
            response = replace(response, body_stream=draw(bodies()))
    return replace(response, complete=draw(st.booleans())) if is_stream else response


class Registry:
    """A registry that answers as Hypothesis likes, and remembers the conversation."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.talk: list[tuple[Request, Answer]] = []

    def __call__(self, request: Request) -> Answer:
        answer = self.data.draw(answers(request))
        self.talk.append((request, answer))
        return answer

    def replies(self, method: str) -> list[Response]:
        """Return the responses to the requests of one method."""
        talk = self.talk
        return [
            answer
            for request, answer in talk
            if request.method == method and isinstance(answer, Response)
        ]

    def methods(self) -> list[str]:
        """Return the methods of all calls, in order."""
        return [request.method for request, _ in self.talk]


def opened(registry: Registry) -> bool:
    """Return whether a POST gave a session with a valid Location."""
    for request, response in registry.talk:
        if (request.method, request.body) != ("POST", b"") or not isinstance(response, Response):
            continue
        try:
            raise_for_status(request, response, 202)
            location(request, response)
        except BrolgaError:
            continue
        return True
    return False


def gave_up(registry: Registry) -> bool:
    """Return whether a session was cancelled, or a token was requested to do so."""
    return any(request.timeout is Timeout.SHORT for request, _ in registry.talk)


def proved(registry: Registry) -> bool:
    """Return whether the conversation shows that the registry has the blob."""
    put, head = registry.replies("PUT"), registry.replies("HEAD")
    return any(response.status in {201, 204} for response in put) or any(
        response.status == 200
        and (
            response.headers.get("content-length") == "4"
            or response.headers.get("docker-content-digest") == str(BLOB.digest)
        )
        for response in head
    )


def outcome(flow: Flow[T], registry: Callable[[Request], Answer]) -> T | BrolgaError:
    """Run a flow against a registry; return its result, or its typed error. Others come out."""
    try:
        return drive(flow, registry)
    except BrolgaError as error:
        return error


def upload(registry: Registry) -> Descriptor | BrolgaError:
    """Upload BODY, in one session."""
    access = make_access(registry.data.draw(st.sampled_from(CREDENTIALS)), ONCE)
    return outcome(upload_known(access, BODY, lambda: BLOB), registry)


@thorough
@given(st.data())
def test_upload_ends_in_proved_success_or_typed_error(data: st.DataObject) -> None:
    """A failure is survived or reported, never hidden, and an abandoned session is cancelled."""
    registry = Registry(data)
    result = upload(registry)
    if isinstance(result, BrolgaError):
        assert gave_up(registry) is opened(registry)
    else:
        assert result is BLOB
        assert all(response.complete for response in registry.replies("PATCH"))
        assert proved(registry)
        # After a HEAD, a session may be left of a PUT that failed.
        assert not gave_up(registry) or "HEAD" in registry.methods()


@thorough
@given(st.data())
def test_upload_sends_no_put_after_incomplete_stream(data: st.DataObject) -> None:
    """Nothing half-read can be committed, and only a redirected stream is sent again."""
    registry = Registry(data)
    upload(registry)
    answers = [answer for request, answer in registry.talk if request.method == "PATCH"]
    for answer in answers[:-1]:
        assert isinstance(answer, Response)
        assert answer.status in {307, 308}
    for answer in answers[-1:]:
        whole = isinstance(answer, Response) and answer.complete and 200 <= answer.status < 300
        assert whole or "PUT" not in registry.methods()


# --- Every flow, every registry

SOURCE = Repository.parse("registry.example/team/base")
SMALL = Descriptor(OCI_MANIFEST, INDEX, len(RAW), artifact_type="text/plain")


def read_verified(access: Access, size: int | None = None) -> Flow[bytes]:
    """Read a blob as `stores.blob_reader` does."""
    data = yield from collect_bytes(read_blob(access, BLOB.digest, size))
    return b"".join(verify((block for block in [data]), BLOB.digest, size, HOME))


FLOWS: dict[str, Callable[[Access], Flow[object]]] = {
    "upload a stream": lambda access: upload_known(access, BODY, lambda: BLOB),
    "upload bytes": lambda access: upload_bytes(access, b"blob", BLOB),
    "mount": lambda access: mount_blob(access, BLOB.digest, SOURCE),
    "has": lambda access: has_blob(access, BLOB),
    "delete a blob": lambda access: delete_blob(access, BLOB.digest),
    "read": lambda access: read_verified(access, BLOB.size),
    "read without a size": read_verified,
    "part": lambda access: collect_bytes(read_range(access, BLOB.digest, 1, 3)),
    "get by tag": lambda access: get_manifest(access, "v1"),
    "get by digest": lambda access: get_manifest(access, str(INDEX)),
    "head by tag": lambda access: head_manifest(access, "v1"),
    "head by digest": lambda access: head_manifest(access, str(INDEX)),
    "put": lambda access: put_manifest(access, "v1", RAW, OCI_INDEX),
    "delete a manifest": lambda access: delete_manifest(access, "v1"),
    "tags": lambda access: collect_names(list_tags(access)),
    "repositories": lambda access: collect_names(
        list_repositories(access.registry.catalog_access())
    ),
    "referrers": lambda access: list_referrers(access, BLOB.digest, "text/plain"),
    "attach": lambda access: add_referrer(access, BLOB.digest, SMALL),
    "detach": lambda access: remove_referrer(access, BLOB.digest, INDEX),
}
PAGES = 3
# What one `send` may come to: two attempts of six hops; each hop is a call, a token (two attempts
# of each form) and the same again after a 401.
ONE_SEND = 2 * 6 * 2 * (1 + 4)
MOST_CALLS = 12 * ONE_SEND  # a blob of four bytes that comes one by one, each with a cut


@pytest.fixture(scope="module", autouse=True)
def short_lists() -> Iterator[None]:
    """Bound lists as they are bounded, sooner."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (listing, referrers):
            patched.setattr(module, "_MAX_PAGES", PAGES)
        yield


def is_of(url: str, realm: str) -> bool:
    """Return whether a URL has the origin of a realm, which a hostile registry may have named."""
    if url.startswith(realm):
        return True
    try:
        return origin(url) == origin(realm)
    except ValueError:
        return False


def check_calls(talk: list[tuple[Request, Answer]]) -> None:
    """Hold every call of a conversation to what holds for all of them."""
    realms: list[str] = []
    for request, answer in talk:
        at_home = origin(request.url) == origin(HOME)
        assert request.url.isascii()
        assert request.url.isprintable()
        assert request.url.lower().startswith("https://")
        assert 0 <= request.delay_s <= 90
        away = hostname(request.url) != "registry.example"
        assert bool(request.redirected_from) is away
        # A token server may redirect within its own scheme, host and port.
        at_realm = any(is_of(request.url, realm) for realm in realms)
        authorization = request.headers.get("Authorization", "")
        assert authorization.isprintable()
        shown = f"{request.url} {request.body if isinstance(request.body, bytes) else b''!r}"
        if authorization:
            assert at_home or (at_realm and authorization.startswith("Basic "))
        if any(secret in shown for secret in SECRETS):
            assert at_realm
            assert request.method == "POST"
        if at_home and isinstance(answer, Response) and answer.status == 401:
            challenges = parse_challenges(answer.headers.get("www-authenticate", ""))
            realm = challenges.get("bearer", {}).get("realm", "").partition("#")[0]
            realms += [realm] if realm else []


@settings(untimed, max_examples=1500)
@given(st.sampled_from(sorted(FLOWS)), st.data())
def test_every_flow_ends_in_result_or_typed_error(name: str, data: st.DataObject) -> None:
    """For any responses: no other exception, no endless flow, no secret elsewhere.

    No Authorization to another origin (CVE-2026-50151), no URL that leaves TLS.
    """
    registry = Registry(data)
    times = st.floats(0, 200)
    session = RegistrySession(
        HOME,
        data.draw(st.sampled_from(CREDENTIALS)),
        retry=data.draw(st.sampled_from(RETRIES)),
        clock=lambda: data.draw(times),
    )
    result = outcome(FLOWS[name](session.access(REPOSITORY, "pull,push", SOURCE)), registry)
    event(f"{name}: {type(result).__name__}")
    assert len(registry.talk) <= MOST_CALLS
    check_calls(registry.talk)
    for _, answer in registry.talk:
        if isinstance(answer, Response) and isinstance(answer.body_stream, GeneratorType):
            assert getgeneratorstate(answer.body_stream) == GEN_CLOSED
    if isinstance(result, BrolgaError):
        assert str(result).isprintable()
        assert not any(secret in str(result) for secret in [*SECRETS, "sig="])
    elif name.startswith("upload"):
        assert proved(registry)
    elif name.startswith("read"):
        assert result == b"blob"
    elif name == "part":
        assert isinstance(result, bytes)
        assert len(result) == len(b"lo")
    elif isinstance(result, FetchedManifest):
        assert Digest.of(result.raw, result.digest.algorithm) == result.digest
        assert name == "get by tag" or result.digest == INDEX
    elif name == "head by digest":
        assert isinstance(result, Descriptor)
        assert result.digest == INDEX


TO_ANOTHER = {"location": "/elsewhere"}
SAME = [
    TransportError("no answer", reason="cut"),
    TransportError("no answer", reason="tls"),
    Response(200),
    Response(200, TO_ANOTHER, RAW),
    Response(200, {"link": '</x>; rel="next"'}, b'{"tags": [], "repositories": []}'),
    Response(200, {"link": '</x>; rel="next"'}, RAW),
    Response(201, TO_ANOTHER, TOKENS[0]),
    Response(202, TO_ANOTHER, sent=4),
    Response(204),
    Response(206, {"content-range": "bytes 1-3/4"}),
    Response(307, TO_ANOTHER),
    Response(307, {"location": "https://elsewhere.example/"}),
    Response(400),
    Response(401),
    Response(401, BASIC),
    Response(401, BEARER),
    Response(404),
    Response(429, {"retry-after": "1"}),
    Response(500),
    Response(503),
]


@pytest.mark.parametrize("token", [None, Response(200, body=TOKENS[0])], ids=["same", "token"])
@pytest.mark.parametrize("answer", SAME, ids=lambda answer: f"{SAME.index(answer)}")
@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_ends_if_responses_are_the_same(
    name: str, answer: Answer, token: Response | None
) -> None:
    """Redirects, pages, tokens and attempts are each bounded, and so is their product."""
    for credentials in CREDENTIALS:
        talk: list[tuple[Request, Answer]] = []

        def reply(request: Request, talk: list[tuple[Request, Answer]] = talk) -> Answer:
            response = token if token is not None and request.url.startswith(REALM) else answer
            if isinstance(response, Response) and is_streamed(request, response):
                response = replace(response, body_stream=whole(response.body))
            talk.append((request, response))
            return response

        result = outcome(FLOWS[name](make_access(credentials, Retry(attempts=2))), reply)
        assert not isinstance(result, BrolgaError) or str(result).isprintable()
        assert len(talk) <= 5 * ONE_SEND
        check_calls(talk)


@thorough
@given(st.data())
def test_ping_ends_in_session_or_typed_error(data: st.DataObject) -> None:
    """Any server may be behind a registry's name."""
    registry = Registry(data)
    result = outcome(open_access(REPOSITORY, USER, schemes=("https", "http")), registry)
    assert len(registry.talk) <= 2 + 6  # both schemes; a token, and five redirects
    if isinstance(result, BrolgaError):
        assert str(result).isprintable()
    else:
        assert result.registry.base in {HOME, "http://registry.example"}


@untimed
@given(paths, queries)
@example("/u", "")
@example("", "a")
@example("u", "x=http://[::1&y=//../;?")
def test_location_keeps_query_byte_for_byte(path: str, query: str) -> None:
    """The location MAY contain critical query parameters and SHOULD match exactly."""
    url = location(POST, Response(202, {"location": f"{path}?{query}"}))
    assert url.partition("?")[2] == query
    assert with_digest(url, BLOB.digest) == f"{url}&{QUERY}"


@untimed
@given(st.sampled_from([UPLOADS, f"{HOME}/u", HOME]))
def test_with_digest_starts_query_if_missing(url: str) -> None:
    """`<blob-push-location>?digest=<digest>` (Endpoints, end-6)."""
    assert with_digest(url, BLOB.digest) == f"{url}?{QUERY}"


@thorough
@given(url_like)
@example("https://\u212a.example/")
@example("https://h\uff0fevil.example/")
def test_check_url_raises_only_protocol_violation(url: str) -> None:
    """An accepted URL is plain: every parser reads the same host."""
    assert redact(url).isprintable()
    try:
        good = check_url(resolve(UPLOADS, url), "Location", named_by=UPLOADS)
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
def test_every_error_response_raises_typed_error(
    status: int, response_headers: dict[str, str], body: bytes
) -> None:
    """A 4XX response MAY return a body in any format (Error Codes)."""
    response = Response(status, response_headers, body)
    requests = iter([ACCEPTED, response, Response(204)])
    flow = upload_known(make_access(), BODY, lambda: BLOB)
    with pytest.raises(BrolgaError) as caught:
        # A DELETE may be followed by a token request, which is refused as well.
        drive(flow, lambda _call: next(requests, Response(404)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


@thorough
@given(header_texts | st.text('Bb=", \\a', max_size=60))
def test_parse_challenges_accepts_any_text(header: str) -> None:
    """A header of any text gives challenges with lower-case names, or none."""
    for scheme, params in parse_challenges(header).items():
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in params)


@thorough
@given(
    st.binary()
    | st.sampled_from(TOKENS)
    | st.from_regex(rb'\{"token": "t", "expires_in": [-0-9e.]+\}')
)
def test_parse_token_accepts_any_bytes(body: bytes) -> None:
    """A token that fits into a header, with a bounded lifetime; or an error."""
    try:
        token = parse_token(body)
    except ProtocolViolation:
        return
    assert re.fullmatch(r"[!-~]+", token.text)
    assert 0 < token.lifetime_s <= 86400


@thorough
@given(
    st.builds(
        Retry,
        st.integers(1, 5000),
        st.just(0.0) | st.floats(0.001, 100),
        st.floats(0, 1000),
        st.floats(0, 1).map(lambda number: lambda: number),
    ),
    st.integers(1, 5000),
    st.none() | st.floats(0, 4000),
)
def test_delay_is_between_bounds(retry: Retry, attempt: int, asked_s: float | None) -> None:
    """Jitter is half the delay to either side; Retry-After is never cut short."""
    delay = retry.delay_s(attempt, asked_s)
    is_too_long = asked_s is not None and asked_s > retry.max_delay_s
    assert (delay is None) is (attempt >= retry.attempts or is_too_long)
    if delay is not None:
        usual = min(retry.initial_delay_s * 3.0 ** min(attempt - 1, 50), retry.max_delay_s)
        assert max(asked_s or 0, usual / 2) <= delay <= max(asked_s or 0, usual * 1.5)


@thorough
@given(header_texts | st.text("<>;, \t\"'=relnxtpv/?#", max_size=60), st.binary(max_size=40))
def test_list_tags_accepts_any_link_and_page(link: str, body: bytes) -> None:
    """Printable names and a page of the same host; or a violation."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        if len(requests) > 1:
            return Response(200, body=b'{"tags": null}')
        return Response(200, {"link": link}, body or b'{"tags": ["a"]}')

    result = outcome(collect_names(list_tags(make_access())), answer)
    names = [str(result)] if isinstance(result, BrolgaError) else result
    assert "".join(names).isprintable()
    assert all(origin(request.url) == origin(HOME) for request in requests)
