"""The client for asyncio: each method is that of `Client`, in a thread."""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, cast

from brolga.aio.calls import CallPool, Kind
from brolga.aio.iteration import iterate
from brolga.aio.seekable import AsyncSeekableBlob
from brolga.aio.streams import AsyncBlobStream
from brolga.aio.trees import preload
from brolga.client import Client, TransportOptions, UploadOptions
from brolga.client.registries import Registries
from brolga.transport.aio import AsyncTransport, ThreadTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
    from os import PathLike

    from brolga.auth import Keychain
    from brolga.images import SeekableBlob, Tree
    from brolga.protocol import Credentials, Retry
    from brolga.spec.blob import BlobStream
    from brolga.spec.progress import ProgressEvent
    from brolga.stores.read_budget import ReadOptions
    from brolga.transport import Transport

_S = TypeVar("_S")
_S_co = TypeVar("_S_co", covariant=True)
_T = TypeVar("_T")
_P = ParamSpec("_P")
_TreeT = TypeVar("_TreeT", bound="Tree")

_NAMES_AHEAD: Final = 64


class _Facade(Generic[_S_co]):
    """Methods of a `blocking` object, which `calls` runs in threads."""

    def __init__(self, blocking: _S_co, calls: CallPool) -> None:
        self._blocking = blocking
        self._calls = calls


def _request(
    method: Callable[Concatenate[_S, _P], _T], kind: Kind = Kind.REQUEST
) -> Callable[Concatenate[_Facade[_S], _P], Coroutine[Any, Any, _T]]:
    """Return a coroutine function that calls a method in a thread."""

    @wraps(method)
    async def call(self: _Facade[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._calls.run(kind, partial(method, self._blocking, *args, **kwargs))

    return call


def _push(
    method: Callable[Concatenate[_S, _P], _T],
) -> Callable[Concatenate[_Facade[_S], _P], Coroutine[Any, Any, _T]]:
    """Return a coroutine function for a method that reads the user's sources."""
    return _request(method, Kind.PUSH)


def _read_tree(
    method: Callable[Concatenate[_S, _P], _TreeT],
) -> Callable[Concatenate[_Facade[_S], _P], Coroutine[Any, Any, _TreeT]]:
    """Return a coroutine function for a method that returns a tree, which is then preloaded."""
    read = _request(method)

    @wraps(method)
    async def call(self: _Facade[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> _TreeT:
        tree: _TreeT = await read(self, *args, **kwargs)
        return cast("_TreeT", await preload(self._calls, tree))

    return call


def _iterate(
    method: Callable[Concatenate[_S, _P], Iterator[_T]], ahead: int
) -> Callable[Concatenate[_Facade[_S], _P], AsyncGenerator[_T, None]]:
    """Return an asynchronous generator function for a method that is a generator function."""

    @wraps(method)
    def call(self: _Facade[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> AsyncGenerator[_T, None]:
        def generate() -> Generator[_T, None, None]:
            yield from method(self._blocking, *args, **kwargs)

        return iterate(self._calls, generate, ahead)

    return call


def _stream(
    method: Callable[Concatenate[_S, _P], BlobStream],
) -> Callable[Concatenate[_Facade[_S], _P], AsyncBlobStream]:
    """Return a function that returns the stream of a method, opened by its first read."""

    @wraps(method)
    def call(self: _Facade[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> AsyncBlobStream:
        return AsyncBlobStream(self._calls, partial(method, self._blocking, *args, **kwargs))

    return call


def _file(
    method: Callable[Concatenate[_S, _P], SeekableBlob],
) -> Callable[Concatenate[_Facade[_S], _P], AsyncSeekableBlob]:
    """Return a function that returns the file of a method, opened by its first call."""

    @wraps(method)
    def call(self: _Facade[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> AsyncSeekableBlob:
        return AsyncSeekableBlob(self._calls, partial(method, self._blocking, *args, **kwargs))

    return call


class AsyncRegistries(_Facade[Registries]):
    """The registries of one client: the methods of `Registries`."""

    check_login = _request(Registries.check_login)
    authorization = _request(Registries.authorization)
    explain = _request(Registries.explain)
    catalog = _iterate(Registries.catalog, _NAMES_AHEAD)


class AsyncClient(_Facade[Client]):
    """A client of registries, layouts and archives for asyncio, under `async with`.

    Methods and parameters are those of `Client`. At most `uploads.jobs` pushes, and as many other
    calls, are made at a time; an open stream or iteration is not counted. Each runs in a thread,
    and a task that is cancelled ends its call as Ctrl-C does. `get`, `image` and `index` read the
    configs, and the images of an index, so that their properties do not have to.

    `on_warning` and `progress` are called in the event loop. Functions that a method takes, such as
    `change` of `copy`, and sources that are not asynchronous, run in a thread. Raises RuntimeError
    if no event loop is running.
    """

    def __init__(  # noqa: PLR0913 - each is an independent option
        self,
        *,
        credentials: Keychain | Credentials | None = None,
        transport: TransportOptions | None = None,
        uploads: UploadOptions | None = None,
        reads: ReadOptions | None = None,
        state: str | PathLike[str] | None = None,
        retry: Retry | None = None,
        on_warning: Callable[[str, str], None] = lambda _host, _text: None,
        progress: Callable[[ProgressEvent], object] | None = None,
    ) -> None:
        uploads = uploads or UploadOptions()
        calls = CallPool(uploads.jobs)

        def report(host: str, text: str) -> None:
            calls.loop.call_soon_threadsafe(on_warning, host, text)

        def make_transport(**options: Any) -> Transport:  # noqa: ANN401 - those of `AsyncTransport`
            self._transport = AsyncTransport(**options)
            return ThreadTransport(self._transport, calls.loop)

        client = Client(
            credentials=credentials,
            transport=transport,
            uploads=uploads,
            reads=reads,
            state=state,
            retry=retry,
            on_warning=report,
            progress=progress and (lambda event: calls.loop.call_soon_threadsafe(progress, event)),
            make_transport=make_transport,
        )
        super().__init__(client, calls)
        self.registries = AsyncRegistries(client.registries, calls)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self.close()

    async def close(self) -> None:
        """Stop what is running, wait for its end, and close every connection."""
        try:
            await self._calls.close()
        finally:
            self._transport.close()

    # --- Reading

    get = _read_tree(Client.get)
    image = _read_tree(Client.image)
    index = _read_tree(Client.index)
    manifest = _request(Client.manifest)
    config = _request(Client.config)
    head = _request(Client.head)
    blob = _stream(Client.blob)
    open_blob = _file(Client.open_blob)
    pull_blob = _request(Client.pull_blob)
    pull_stream = _stream(Client.pull_stream)
    extract = _request(Client.extract)
    tags = _request(Client.tags)
    iter_tags = _iterate(Client.iter_tags, _NAMES_AHEAD)
    referrers = _request(Client.referrers)

    # --- Writing

    push_layer = _push(Client.push_layer)
    push = _push(Client.push)
    push_stream = _push(Client.push_stream)
    write_images = _push(Client.write_images)
    copy = _push(Client.copy)
    push_mutated = _push(Client.push_mutated)
    copy_all = _iterate(Client.copy_all, 0)  # nothing is copied before it is requested
    tag = _request(Client.tag)
    delete = _request(Client.delete)
    delete_blob = _request(Client.delete_blob)
