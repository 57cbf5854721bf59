"""transport/answer.py: what a reply is made of."""

from __future__ import annotations

from itertools import repeat

import pytest
from tests.raw_server import Peer, serve_script
from tests.unit.transport.calls import BLOCK, one

from brolga.protocol import Request
from brolga.transport import Transport
from brolga.transport import answer as answer_module
from brolga.transport.answer import Warnings


class TestAnswer:
    """What a reply is made of."""

    def test_duplicate_headers_are_joined_in_order(self, client: Transport) -> None:
        """Field lines of one name are one list (RFC 9110, section 5.3)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(401, b"", "WWW-Authenticate: Basic", "www-authenticate: Bearer x=y")

        with serve_script(script) as address:
            response = client.run(one(Request("GET", f"http://{address}/")))
        assert response.headers["www-authenticate"] == "Basic, Bearer x=y"

    def test_the_body_is_capped_and_the_rest_not_read(self, client: Transport) -> None:
        """No memory is taken by a size that the other side claims."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 500 Endless\r\n\r\n")
            for _ in repeat(None):
                peer.send(BLOCK)

        with serve_script(script) as address:
            response = client.run(one(Request("GET", f"http://{address}/")))
        assert len(response.body) == 4 << 20

    def test_an_answer_that_drips_holds_nobody_up(self) -> None:
        """Each piece may come in time, and the end never: what came counts."""
        body = answer_module.capped(repeat(b"x"), 0.001)
        assert 0 < len(body) < 4 << 20

    def test_the_head_of_an_answer_has_no_body(self, client: Transport) -> None:
        """The Content-Length of a HEAD is the blob's (RFC 9110, section 9.3.2)."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

        with serve_script(script) as address:
            response = client.run(one(Request("HEAD", f"http://{address}/")))
        assert (response.headers["content-length"], response.body) == ("12345", b"")


class TestWarnings:
    """`Warning: 299 - "text"` (distribution-spec, Warnings; RFC 7234, section 5.5)."""

    @pytest.mark.parametrize(
        ("header", "texts"),
        [
            ("", []),
            ('299 - "go away"', ["go away"]),
            ('299 - "one", 299 - "two", 299 registry.example "three"', ["one", "two", "three"]),
            ('299 - "a, \\"b\\" and 299 - c"', ['a, "b" and 299 - c']),
            ('299 - "text" "Tue, 24 Nov 2026 00:00:00 GMT"', ["text"]),
            ('110 - "Response is Stale", 299 - "old"', ["old"]),
            ('1299 - "no"', []),
            ("299 - unquoted", []),
            ('299 - "no end', []),
            ('299 - "a\x1b[31mred\tb"', ["a [31mred b"]),
            ('299 - "gr\u00c3\u00bc\u00c3\u009fe"', ["gr\u00fc\u00dfe"]),
            (f'299 - "{"x" * 400}"', ["x" * 300 + "\u2026"]),
            (f'299 - "{"x" * 9000}"', []),
        ],
    )
    def test_the_texts_of_299_are_told(self, header: str, texts: list[str]) -> None:
        """Each as one short printable line; other codes are for caches."""
        told: list[tuple[str, str]] = []
        Warnings(lambda host, text: told.append((host, text))).hear("registry.example", header)
        assert told == [("registry.example", text) for text in texts]

    def test_each_text_of_a_host_is_told_once(self, client: Transport) -> None:
        """A registry repeats it with each answer."""
        told: list[tuple[str, str]] = []

        def script(peer: Peer) -> None:
            while peer.head():
                peer.answer(200, b"", 'Warning: 299 - "a"', 'warning: 299 - "b"')

        with (
            serve_script(script) as address,
            Transport(on_warning=lambda host, text: told.append((host, text))) as warned,
        ):
            for _ in range(2):
                warned.run(one(Request("GET", f"http://{address}/")))
        assert told == [(address, "a"), (address, "b")]

    def test_nobody_need_listen(self, client: Transport) -> None:
        """A warning is no error."""

        def script(peer: Peer) -> None:
            peer.head()
            peer.answer(200, b"", 'Warning: 299 - "a"')

        with serve_script(script) as address:
            assert client.run(one(Request("GET", f"http://{address}/"))).status == 200

    def test_there_is_an_end_of_them(self) -> None:
        """No memory is filled, and no terminal, with what a registry makes up."""
        told: list[str] = []
        warnings = Warnings(lambda _host, text: told.append(text))
        for number in range(1000):
            warnings.hear("registry.example", f'299 - "{number}"')
        assert len(told) == 100
