"""Drive flows without sockets: `play` from a script of requests and answers, `drive` by a function.

Also the requests, responses and values that the tests of the protocol share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import pytest

from brolga.protocol import (
    Access,
    BlobHead,
    Credentials,
    RegistrySession,
    Request,
    Response,
    Retry,
    Timeout,
    ping,
    upload_stream,
)
from brolga.protocol.http import BlockingCall, ReadBlock
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from brolga.protocol import Flow, ListFlow, ReadFlow, UploadSession
    from brolga.protocol.http import Step as FlowStep
    from brolga.spec.blob import Block

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Answer: TypeAlias = Response | BaseException
Step: TypeAlias = tuple[Request, Answer]

REPOSITORY = Repository.parse("registry.example/team/app")
HOME = "https://registry.example"
PING = Request("GET", f"{HOME}/v2/")
UPLOADS = f"{HOME}/v2/team/app/blobs/uploads/"
# The URLs of a session after the POST and after the PATCH.
FIRST, SECOND = f"{UPLOADS}one?_state=a", f"{UPLOADS}one?_state=b"
POST = Request("POST", UPLOADS, body=b"")
ACCEPTED = Response(202, {"location": FIRST})

# No request is repeated: test_retry.py tests that.
ONCE = Retry(attempts=1)

BLOB = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b"blob"), 4)
QUERY = f"digest=sha256%3A{BLOB.digest.encoded}"
HEAD = Request("HEAD", f"{HOME}/v2/team/app/blobs/{BLOB.digest}")

USER = Credentials("someone", "open sesame")
REALM = "https://auth.example/token"
BEARER = {"www-authenticate": f'Bearer realm="{REALM}",service="registry.example"'}
BASIC = {"www-authenticate": 'Basic realm="a registry"'}
SCOPE = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush"


@dataclass(frozen=True)
class KnownBody:
    """A body whose blocks are known, and can be sent again from `replayable_from` on."""

    stream: Iterable[bytes]
    bytes_read: int = 4
    replayable_from: int = 0
    ended: bool = True

    def retain_from(self, start: int | None) -> None:
        """Do nothing: all bytes are kept."""

    def blocks(self, start: int) -> Iterable[bytes]:
        """Return the stream itself, so that requests with it can be compared."""
        return self.stream if start == 0 else [b"".join(self.stream)[start:]]


def upload_known(
    access: Access,
    stream: Iterable[bytes],
    seal: Callable[[], Descriptor],
    session: UploadSession | None = None,
) -> Flow[Descriptor]:
    """Upload a stream whose bytes are known."""
    return upload_stream(access, KnownBody(stream), seal, session=session)


def drive(flow: Flow[T], answer: Callable[[Request], Answer]) -> T:
    """Run a flow to its end; an exception that `answer` returns is thrown into it."""
    try:
        request = advance(flow)
        while True:
            request = advance(flow, answer(request))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()


def advance(
    flow: Generator[FlowStep | T, Any, object], answer: Answer | None = None
) -> Request | T:
    """Answer a flow, and make the calls it yields; return the request or value it yields next."""
    step = resume(flow, answer)
    while isinstance(step, BlockingCall | ReadBlock):
        step = resume(flow, make_call(step))
    return step


def resume(flow: Generator[T, Any, object], result: object = None) -> T:
    """Send the result of a step into a flow, or throw it if it is an error."""
    return flow.throw(result) if isinstance(result, BaseException) else flow.send(result)


def make_call(step: BlockingCall | ReadBlock) -> object:
    """Make the call that a flow yields; return its result, or the error that it raises."""
    try:
        return step.function() if isinstance(step, BlockingCall) else next(step.stream, None)
    except BaseException as error:  # noqa: BLE001 - thrown into the flow
        return error


@overload
def play(flow: Flow[T], *script: Step) -> T: ...


@overload
def play(flow: Flow[T], *script: Step, error: type[E], match: str | None = None) -> E: ...


def play(
    flow: Flow[T], *script: Step, error: type[E] | None = None, match: str | None = None
) -> T | E:
    """Run a flow that must send exactly the requests of the script, in order.

    Return its result, or the error that it must end with, whose text holds `match`.
    """
    steps = list(script)

    def answer(request: Request) -> Answer:
        assert steps, f"a request beyond the script: {vars(request)}"
        expected, response = steps.pop(0)
        request = with_joined_body(request)
        assert request == expected, f"{vars(request)}\nbut the script has\n{vars(expected)}"
        return response

    if error is None:
        result: T | E = drive(flow, answer)
    else:
        with pytest.raises(error, match=match) as caught:
            drive(flow, answer)
        result = caught.value
    assert not steps, f"requests that were not sent: {[vars(request) for request, _ in steps]}"
    return result


def with_joined_body(request: Request) -> Request:
    """Return a request whose body can be compared: pieces are joined, a stream is read."""
    if isinstance(request.body, tuple):
        return replace(request, body=b"".join(request.body), size=None)
    if isinstance(request.body, GeneratorType):
        return replace(request, body=list(request.body))
    return request


def collect(flow: Generator[FlowStep | T, Any, None]) -> Flow[list[T]]:
    """Return the flow whose result is what a flow yields besides its requests."""
    values: list[T] = []
    try:
        step = next(flow)
        while True:
            if not isinstance(step, Request | BlockingCall | ReadBlock):
                values.append(step)
                step = next(flow)
                continue
            try:
                response = yield step
            except BaseException as error:  # noqa: BLE001 - the inner flow handles it
                step = flow.throw(error)
            else:
                step = flow.send(response)
    except StopIteration:
        return values


def collect_bytes(flow: ReadFlow) -> Flow[bytes]:
    """Return the flow whose result is all the bytes that a flow yields."""
    items: Flow[list[BlobHead | Block]] = collect(flow)
    return b"".join(item for item in (yield from items) if not isinstance(item, BlobHead))


def collect_names(flow: ListFlow) -> Flow[list[str]]:
    """Return the flow whose result is the names of all pages that a flow yields."""
    return [name for page in (yield from collect(flow)) for name in page]


def make_access(credentials: Credentials | None = None, retry: Retry = ONCE) -> Access:
    """Return an access to a registry that has not required authorization so far."""
    return RegistrySession(HOME, credentials, retry=retry).access(REPOSITORY, "pull,push")


def with_delay(request: Request, seconds: float) -> Request:
    """Return the request with a delay."""
    return replace(request, delay_s=seconds)


def open_access(
    repository: Repository = REPOSITORY,
    credentials: Credentials | None = None,
    schemes: Sequence[str] = ("https",),
) -> Flow[Access]:
    """Ping a registry, and get a token at once if it requires one."""
    registry = yield from ping(repository.api_host, credentials, schemes=schemes, retry=ONCE)
    access = registry.access(repository, "pull,push")
    yield from registry.authorize(access.scope, Timeout.DEFAULT)
    return access


def with_authorization(request: Request, authorization: str) -> Request:
    """Return the request with an Authorization header."""
    headers = {**request.headers, "Authorization": authorization}
    return replace(request, headers=headers)


def from_redirect(request: Request) -> Request:
    """Return the request as it is sent to another host than the user named."""
    return replace(request, redirected_from="registry.example")


def patch(body: Iterable[bytes], session: str = FIRST) -> Request:
    """Return the request that carries the stream."""
    return Request(
        "PATCH", session, {"Content-Type": "application/octet-stream"}, body, Timeout.LONG
    )


def put(session: str = SECOND) -> Request:
    """Return the request that closes a session, whose URL has a query."""
    return Request("PUT", f"{session}&{QUERY}", body=b"", timeout=Timeout.LONG)


def delete(session: str) -> Request:
    """Return the request that cancels a session."""
    return Request("DELETE", session, body=b"", timeout=Timeout.SHORT)


def token_request(
    credentials: Credentials | None = None, *, timeout: Timeout = Timeout.DEFAULT
) -> Request:
    """Return the request to BEARER's realm for a token."""
    headers = {"Authorization": credentials.basic} if credentials else {}
    url = f"{REALM}?{SCOPE}&service=registry.example"
    return Request("GET", url, headers, timeout=timeout, redirected_from="registry.example")
