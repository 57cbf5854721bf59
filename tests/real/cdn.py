"""A registry that redirects to a CDN: nginx before it wants a password, nginx beside it has blobs.

What is wrong with the CDN is a `Mode`. All that it was asked for is in its access log.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.raw_server import serve_script
from tests.real.cutting import Fault, proxy
from tests.real.nginx import free_address, run_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.raw_server import Peer
    from tests.real.cutting import Proxy

__all__ = ["FALLBACK_MODES", "MODES", "PASSWORD", "USERNAME", "Cdn", "Fetch", "Mode", "cdn"]

USERNAME, PASSWORD = "someone", "secret"
_ALWAYS = 1 << 30

_CONFIGURATION = """
    log_format front "$request_method $status $http_authorization";
    log_format cdn "$status|$http_range|$body_bytes_sent|$http_authorization$http_cookie|$uri";
    map $http_range $another {{ default ""; "~." "bytes=100-199"; }}
    map $request_method $read {{ default 0; GET 1; HEAD 1; }}
    upstream files {{ server {files}; }}
    upstream sometimes {{ server {files}; server {files2}; server {failing}; }}
    server {{
        listen {front};
        access_log {directory}/front front;
        auth_basic registry;
        auth_basic_user_file {directory}/passwords;
        location / {{
            proxy_pass http://{registry};
            proxy_set_header Host $http_host;
            proxy_set_header Authorization "";
        }}
        location ~ "^/v2/.+/blobs/sha256:([0-9a-f]+)$" {{
            return 307 http://{redirected}/$1?link=$request_id;
        }}
    }}
    server {{
        listen {cdn};
        access_log {directory}/cdn cdn;
        proxy_next_upstream off;
        location / {{
            # A subrequest has no arguments, but it shares variables.
            set $link $arg_link;
            {location}
        }}
        location = /check {{
            internal;
            proxy_pass http://{links}/$link;
        }}
    }}
    server {{
        listen {files};
        listen {files2};
        access_log off;
        location ~ "^/(?<first>..)(?<rest>.+)$" {{
            {file}
            alias {blobs};
        }}
    }}
    server {{
        listen {failing};
        access_log off;
        return 503;
    }}
"""


@dataclass(frozen=True)
class Mode:
    """What a CDN does with requests.

    `location` and `file` are settings of nginx. A link is good for `uses` requests, the first one
    for none if `late`. Faults strike between the CDN and its clients.
    """

    location: str = "proxy_pass http://files;"
    file: str = ""
    uses: int = _ALWAYS
    late: bool = False
    faults: tuple[Fault, ...] = ()


def _cuts(times: int) -> tuple[Fault, ...]:
    return (Fault(act="cut", direction="down", offset=3_000_000, times=times),)


_SIGNED = "auth_request /check; proxy_pass http://files;"
MODES = {
    "ranges": Mode(),
    "503 at times": Mode("proxy_pass http://sometimes;"),
    "links for one request": Mode(_SIGNED, uses=1),
    "links for three requests": Mode(_SIGNED, uses=3),
    "expired link": Mode(_SIGNED, late=True),
    "cut": Mode(faults=_cuts(_ALWAYS)),
    "cut, links for one request": Mode(_SIGNED, uses=1, faults=_cuts(_ALWAYS)),
    "a part that stalls, twice": Mode(
        faults=(
            Fault(act="stall", direction="down", after=b"-Range: bytes 6", offset=99_000, times=2),
        )
    ),
}
"""What nginx is made to do. A client gets the right bytes from each, in parts."""
FALLBACK_MODES = {
    "no ranges": Mode(file="max_ranges 0;"),
    "another part": Mode("proxy_pass http://files; proxy_set_header Range $another;"),
    "cut, no ranges": Mode(file="max_ranges 0;", faults=_cuts(2)),
}
"""The same, but the right bytes come by one request alone."""


@dataclass(frozen=True)
class Fetch:
    """A request that the CDN answered: `credentials` are headers that it must not get."""

    status: int
    range: str
    sent: int
    credentials: str
    path: str

    @classmethod
    def parse(cls, line: str) -> Fetch:
        """Read a line of the access log."""
        status, part, sent, credentials, path = line.split("|")
        return cls(int(status), part.strip("-"), int(sent), credentials.strip("-"), path)


@dataclass(frozen=True)
class Cdn:
    """A running CDN, the address of its registry, and what has faults strike, if anything."""

    address: str
    directory: Path
    faulty: Proxy | None

    def fetches(self) -> list[Fetch]:
        """Return what the CDN was asked for. An entry comes when its response has ended."""
        return [Fetch.parse(line) for line in _lines(self.directory / "cdn")]

    def redirects(self) -> list[str]:
        """Return the Authorization headers of the requests that the registry redirected."""
        lines = (line.split(" ", 2) for line in _lines(self.directory / "front"))
        return [credentials for _, status, credentials in lines if status == "307"]


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


class _Links:
    """Decides whether a link is still good, for nginx's `auth_request`."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._uses: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        """Answer the requests of one connection."""
        while head := peer.head():
            link = head[0].split()[1]
            with self._lock:
                is_first = not self._uses or link == next(iter(self._uses))
                self._uses[link] += 1
                is_good = self._uses[link] <= self._mode.uses
            peer.answer(204 if is_good and not (is_first and self._mode.late) else 403)


@contextmanager
def cdn(directory: Path, registry: str, blobs: str, mode: Mode) -> Iterator[Cdn]:
    """Run a registry's front, which redirects, and a CDN.

    `blobs` is the path of a blob's file, with `$first` for the first two digits of the digest and
    `$rest` for the others. Clients need `USERNAME` and `PASSWORD`.
    """
    names = ("front", "cdn", "files", "files2", "failing")
    places = {name: free_address() for name in names}
    with ExitStack() as stack:
        faulty = stack.enter_context(proxy(places["cdn"])) if mode.faults else None
        if faulty:
            faulty.arm(*mode.faults)
        links = stack.enter_context(serve_script(_Links(mode)))
        text = _CONFIGURATION.format(
            directory=directory,
            registry=registry,
            blobs=blobs,
            location=mode.location,
            file=mode.file,
            redirected=faulty.address if faulty else places["cdn"],
            links=links,
            **places,
        )
        directory.mkdir()
        (directory / "passwords").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
        stack.enter_context(run_nginx(directory, text, places["front"], places["cdn"]))
        yield Cdn(places["front"], directory, faulty)
