from __future__ import annotations

import json
import math

import pytest

from brolga.registry.storage.strict_json import MAX_DEPTH, parse


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":1,"a":1}', "a key comes twice"),
        (b'{"a":{"b":1,"\\u0062":1}}', "a key comes twice"),
        (b'{"a":NaN}', "NaN is not a number"),
        (b'{"a":[Infinity]}', "Infinity is not a number"),
        (b'{"a":-Infinity}', "-Infinity is not a number"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair"),
        (b'{"\\udc00":1}', "half of a surrogate pair"),
        (b'{"a":[{"b":"\\udc00\\ud800"}]}', "half of a surrogate pair"),
        (b'{"a":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
    ],
)
def test_what_readers_would_read_differently(body: bytes, why: str) -> None:
    """RFC 8259, section 4: an object whose names are all unique is interoperable; and the like."""
    with pytest.raises(ValueError, match=why):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a" : 1}\n',
        b'{"a":"\\ud83d\\ude00"}',
        '{"a":"\U0001f600"}'.encode(),
        b'{"a":1.5e10,"b":-0}',
        b'{"a":{"a":{"a":1}}}',
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"a":' * 64 + b"1" + b"}" * 64,
    ],
)
def test_what_every_reader_takes(body: bytes) -> None:
    """The limits are those of the spec's documents, and far from them."""
    assert parse(body) == json.loads(body)


def test_a_number_keeps_its_value() -> None:
    """RFC 8259, section 6: good interoperability is that of binary64."""
    assert parse(b'{"a":1.7976931348623157e308}') == {"a": math.nextafter(math.inf, 0)}
