"""A driver of flows that opens no socket: it answers from a table, or from a function.

`play` holds a conversation to its script, call by call. `drive` is the loop below it, the same
that a real driver is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import GeneratorType
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

import pytest

from brolga.protocol import (
    Access,
    Credentials,
    RegistrySession,
    Request,
    Response,
    Retry,
    Timeout,
    ping,
    upload_stream,
)
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from brolga.protocol import Flow, ReadFlow, UploadSession

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Answer: TypeAlias = Response | BaseException
Step: TypeAlias = tuple[Request, Answer]

REPOSITORY = Repository.parse("registry.example/team/app")
HOME = "https://registry.example"
PING = Request("GET", f"{HOME}/v2/")
UPLOADS = f"{HOME}/v2/team/app/blobs/uploads/"
# Two sessions: what the POST gave, and what the PATCH gave.
FIRST, SECOND = f"{UPLOADS}one?_state=a", f"{UPLOADS}one?_state=b"
POST = Request("POST", UPLOADS, body=b"")
ACCEPTED = Response(202, {"location": FIRST})

# Calls are made once: how they are repeated has tests of its own.
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
class Known:
    """A body whose blocks are known, and can be given again from `kept_from` on."""

    stream: Iterable[bytes]
    bytes_read: int = 4
    replayable_from: int = 0
    ended: bool = True

    def retain_from(self, start: int | None) -> None:
        """Keep what is kept."""

    def blocks(self, start: int) -> Iterable[bytes]:
        """Give the stream itself, so that calls with it can be compared."""
        return self.stream if start == 0 else [b"".join(self.stream)[start:]]


def uploading(
    way: Access,
    stream: Iterable[bytes],
    seal: Callable[[], Descriptor],
    session: UploadSession | None = None,
) -> Flow[Descriptor]:
    """Upload a stream whose bytes are known."""
    return upload_stream(way, Known(stream), seal, session=session)


def drive(flow: Flow[T], answer: Callable[[Request], Answer]) -> T:
    """Run a flow to its end; an exception that `answer` returns is thrown into it."""
    try:
        request = next(flow)
        while True:
            response = answer(request)
            request = (
                flow.throw(response) if isinstance(response, BaseException) else flow.send(response)
            )
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        flow.close()


@overload
def play(flow: Flow[T], *script: Step) -> T: ...


@overload
def play(flow: Flow[T], *script: Step, error: type[E], match: str | None = None) -> E: ...


def play(
    flow: Flow[T], *script: Step, error: type[E] | None = None, match: str | None = None
) -> T | E:
    """Run a flow that must make exactly the calls of the script, in order.

    Return its result, or the error that it must end with, whose text holds `match`.
    """
    steps = list(script)

    def answer(request: Request) -> Answer:
        assert steps, f"a call beyond the script: {vars(request)}"
        expected, response = steps.pop(0)
        request = joined(request)
        assert request == expected, f"{vars(request)}\nwhere the script has\n{vars(expected)}"
        return response

    if error is None:
        result: T | E = drive(flow, answer)
    else:
        with pytest.raises(error, match=match) as caught:
            drive(flow, answer)
        result = caught.value
    assert not steps, f"calls that were not made: {[vars(request) for request, _ in steps]}"
    return result


def joined(request: Request) -> Request:
    """Return a call whose body can be compared.

    Bytes at hand are in one piece: in how many they go is all the same. An upload's stream is read.
    """
    if isinstance(request.body, tuple):
        return replace(request, body=b"".join(request.body), size=None)
    if isinstance(request.body, GeneratorType):
        return replace(request, body=list(request.body))
    return request


def gathered(flow: ReadFlow) -> Flow[bytes]:
    """Return the flow whose result is the bytes that a reading flow gives on its way."""
    read = b""
    try:
        said = next(flow)
        while True:
            if not isinstance(said, Request):
                read += said
                said = next(flow)
                continue
            try:
                response = yield said
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the flow's
                said = flow.throw(error)
            else:
                said = flow.send(response)
    except StopIteration:
        return read


def access(credentials: Credentials | None = None, retry: Retry = ONCE) -> Access:
    """Return a way into the registry that needs no authorization so far."""
    return RegistrySession(HOME, credentials, retry=retry).access(REPOSITORY, "pull,push")


def later(request: Request, seconds: float) -> Request:
    """Return the call as it is made after a pause."""
    return replace(request, delay_s=seconds)


def entered(
    repository: Repository = REPOSITORY,
    credentials: Credentials | None = None,
    schemes: Sequence[str] = ("https",),
) -> Flow[Access]:
    """Find the way into a registry, and have a token at once where it wants one."""
    registry = yield from ping(repository.api_host, credentials, schemes=schemes, retry=ONCE)
    way = registry.access(repository, "pull,push")
    yield from registry.authorization(way.scope, Timeout.DEFAULT)
    return way


def authorized(request: Request, authorization: str) -> Request:
    """Return the call as it is with an Authorization header."""
    headers = {**request.headers, "Authorization": authorization}
    return replace(request, headers=headers)


def elsewhere(request: Request) -> Request:
    """Return the call as it goes to another host than the user named: the registry's wish."""
    return replace(request, redirected_from="registry.example")


def patch(body: Iterable[bytes], session: str = FIRST) -> Request:
    """Return the one call that carries the stream."""
    return Request(
        "PATCH", session, {"Content-Type": "application/octet-stream"}, body, Timeout.LONG
    )


def put(session: str = SECOND) -> Request:
    """Return the call that closes a session, whose URL has a query."""
    return Request("PUT", f"{session}&{QUERY}", body=b"", timeout=Timeout.LONG)


def delete(session: str) -> Request:
    """Return the call that gives a session up."""
    return Request("DELETE", session, body=b"", timeout=Timeout.SHORT)


def token_call(
    credentials: Credentials | None = None, *, patience: Timeout = Timeout.DEFAULT
) -> Request:
    """Return the call that asks BEARER's realm for a token."""
    headers = {"Authorization": credentials.basic} if credentials else {}
    url = f"{REALM}?{SCOPE}&service=registry.example"
    return Request("GET", url, headers, timeout=patience, redirected_from="registry.example")
