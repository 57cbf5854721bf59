"""json.py: strict decoding, encoding, JSON paths and members."""

import json
import sys

import pytest

from brolga.errors import InvalidManifest
from brolga.spec.config import History
from brolga.spec.json import (
    MAX_SIZE,
    Members,
    decode,
    encode,
    join_path,
    read_string,
    reuse_originals,
)


@pytest.mark.parametrize(
    ("raw", "place", "why"),
    [
        (b"", "$", "not JSON"),
        (b"{", "$", r"not JSON: .* \(line 1, column 2\)"),
        (b'{"a":1,}', "$", "not JSON"),
        (b"{} {}", "$", "not JSON: Extra data"),
        (b"\xef\xbb\xbf{}", "$", "not JSON: Unexpected UTF-8 BOM"),
        ('{"a":1}'.encode("utf-16"), "$", "not UTF-8 at byte 0"),
        (b'{"a":"\xff"}', "$", "not UTF-8 at byte 6"),
        (b"[]", "$", "not a JSON object"),
        (b"null", "$", "not a JSON object"),
        (b'"text"', "$", "not a JSON object"),
        (b'{"a":{"b":1,"c":2,"b":3}}', r"$.a.b", "appears twice"),
        (b'{"a":1,"\\u0061":2}', r"$.a", "appears twice"),
        (b'{"l":[0,{"size":1,"size":1}]}', r"$.l[1].size", "appears twice"),
        (b'[{"a":1,"a":2}]', r"$[0].a", "appears twice"),
        (b'{"a":NaN}', "$.a", "a number that JSON does not have"),
        (b'{"a":[Infinity]}', "$.a[0]", "a number that JSON does not have"),
        (b'{"a":-Infinity}', "$.a", "a number that JSON does not have"),
        (b'{"a":1e999}', "$.a", "out of range"),
        (b'{"a.b":"\\ud800"}', "$['a.b']", "half of a surrogate pair"),
        (b'{"\\udfff":1}', "$['\\udfff']", "half of a surrogate pair"),
        (b'{"a":' + b"9" * 5000 + b"}", "$", "too many digits"),
    ],
)
def test_decode_rejects_json_that_readers_read_differently(
    raw: bytes, place: str, why: str
) -> None:
    """'The names within an object SHOULD be unique' (RFC 8259, section 4); no BOM (8.1)."""
    with pytest.raises(InvalidManifest, match=why) as caught:
        decode(raw)
    assert str(caught.value).startswith(f"{place}: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("depth", [65, 500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_decode_rejects_deep_nesting(depth: int, opening: str, closing: str) -> None:
    """'An implementation may set limits on the maximum depth of nesting' (RFC 8259, section 9)."""
    raw = b'{"b":' + (opening * depth + "1" + closing * depth).encode() + b"}"
    with pytest.raises(InvalidManifest, match="nested deeper than 64 levels") as caught:
        decode(raw)
    assert len(str(caught.value)) < 400


def test_decode_accepts_nesting_up_to_limit() -> None:
    """The bound is far above what the spec's documents need."""
    raw = b'{"a":' * 64 + b"1" + b"}" * 64
    assert encode(decode(raw)) == raw


def test_decode_converts_recursion_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own limit gives the same error."""

    def overflow(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(json, "loads", overflow)
    with pytest.raises(InvalidManifest, match="nested deeper"):
        decode(b"{}")


def test_decode_rejects_more_bytes_than_limit() -> None:
    """'support manifest pushes of at least 4 megabytes' (distribution-spec, Pushing manifests)."""
    raw = b'{"a":"' + b"x" * (MAX_SIZE - 8) + b'"}'
    assert len(raw) == MAX_SIZE
    assert decode(raw)["a"]
    with pytest.raises(InvalidManifest, match=f"{MAX_SIZE + 1} bytes, but at most {MAX_SIZE}"):
        decode(raw + b" ")
    with pytest.raises(InvalidManifest, match=r"^\$: 3 bytes, but at most 2"):
        decode(b"{ }", limit=2)


def test_decode_finds_duplicate_among_many_names_in_linear_time() -> None:
    """A hostile document of 4 MiB costs no more than its length."""
    names = ",".join(f'"{i}":1' for i in range(300_000))
    with pytest.raises(InvalidManifest, match=r"^\$\['299999'\]: appears twice"):
        decode(f'{{{names},"299999":1}}'.encode())


def test_encode_is_compact_and_keeps_order() -> None:
    """What docker and GGCR write: no whitespace, the members in their order, UTF-8."""
    assert encode({"b": 1, "a": ["é", None, 1.5]}) == '{"b":1,"a":["é",null,1.5]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", "\ud800"])
def test_encode_rejects_values_that_json_does_not_have(value: object) -> None:
    """'Numeric values that cannot be represented in the grammar are not permitted' (section 6)."""
    with pytest.raises(InvalidManifest, match=r"^\$: cannot be written as JSON"):
        encode({"a": value})


def test_encode_rejects_recursive_document() -> None:
    """It does not raise another error."""
    document: dict[str, object] = {}
    document["a"] = document
    with pytest.raises(InvalidManifest, match="cannot be written"):
        encode(document)


def test_reuse_originals_keeps_json_of_read_values() -> None:
    """Values that stay keep null and the order of members; a new value has its own."""
    originals = [{"comment": "b", "created_by": "a", "author": None}, {"x": 1}]
    read = [History.from_dict(original) for original in originals]
    new = History(created_by="new")
    assert [list(item) for item in reuse_originals([read[1], new, read[0]], read, originals)] == [  # type: ignore[call-overload]
        ["x"],
        ["created_by"],
        ["comment", "created_by", "author"],
    ]
    assert reuse_originals([new], (), None) == [{"created_by": "new"}]


def test_reuse_originals_compares_few_values() -> None:
    """The cost is linear: not every value is compared with every other."""
    compared = 0

    class Value:
        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return isinstance(other, Value) and self.number == other.number

        def to_dict(self) -> dict[str, object]:
            return {"number": self.number}

    read = tuple(map(Value, range(100)))
    originals = [{"read": number} for number in range(100)]
    written = reuse_originals([*read, Value(1), Value(100)], read, originals)
    assert written == [*originals, {"read": 1}, {"number": 100}]
    assert compared < 4 * len(read)


def test_python_limits_digits_of_numbers() -> None:
    """Python refuses to read the number of 5000 digits above."""
    assert 0 < sys.get_int_max_str_digits() < 5000


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ("size", "$.size"),
        (0, "$[0]"),
        ("os.version", "$['os.version']"),
        ("", "$['']"),
        ("a\nb", r"$['a\nb']"),
        ("2", "$['2']"),
    ],
)
def test_join_path_uses_rfc_9535(step: str | int, place: str) -> None:
    """'$.store.book[0].title' (RFC 9535, section 1.5)."""
    assert join_path("$", step) == place


def test_join_path_has_bounded_length() -> None:
    """It contains untrusted names, and an error is one line."""
    where = "$"
    for _ in range(50):
        where = join_path(where, "x" * 100)
    assert len(where) == 240
    assert where.endswith("...")


def test_members_read_null_as_absent() -> None:
    """A null is absent, and a required member must be present."""
    members = Members({"a": "x", "b": None, "c": ["y"]}, "$")
    assert members.need("a", read_string) == "x"
    assert members.get("b", read_string, "z") == "z"
    assert members.each("c", read_string) == ("y",)
    assert members.each("b", read_string) == ()
    assert members.unknown({"a", "b"}) == {"c": ["y"]}
