"""manifest/document.py: which bytes are a document, and how one is written."""

import json
import sys

import pytest

from brolga.errors import InvalidManifest
from brolga.spec.config import History
from brolga.spec.json import MAX_SIZE, decode, encode, reuse_originals


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
def test_what_readers_could_take_differently_is_refused(raw: bytes, place: str, why: str) -> None:
    """'The names within an object SHOULD be unique' (RFC 8259, section 4); no BOM (8.1)."""
    with pytest.raises(InvalidManifest, match=why) as caught:
        decode(raw)
    assert str(caught.value).startswith(f"{place}: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("depth", [65, 500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_endless_nesting_is_refused(depth: int, opening: str, closing: str) -> None:
    """'An implementation may set limits on the maximum depth of nesting' (RFC 8259, section 9)."""
    raw = b'{"b":' + (opening * depth + "1" + closing * depth).encode() + b"}"
    with pytest.raises(InvalidManifest, match="nested deeper than 64 levels") as caught:
        decode(raw)
    assert len(str(caught.value)) < 400


def test_a_document_may_nest_as_deep_as_the_limit() -> None:
    """The bound is far above what the spec's documents need."""
    raw = b'{"a":' * 64 + b"1" + b"}" * 64
    assert encode(decode(raw)) == raw


def test_a_reader_deep_in_the_stack_gets_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own limit is no other exception."""

    def overflow(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(json, "loads", overflow)
    with pytest.raises(InvalidManifest, match="nested deeper"):
        decode(b"{}")


def test_more_than_four_mebibytes_are_refused() -> None:
    """'support manifest pushes of at least 4 megabytes' (distribution-spec, Pushing manifests)."""
    raw = b'{"a":"' + b"x" * (MAX_SIZE - 8) + b'"}'
    assert len(raw) == MAX_SIZE
    assert decode(raw)["a"]
    with pytest.raises(InvalidManifest, match=f"{MAX_SIZE + 1} bytes, where at most {MAX_SIZE}"):
        decode(raw + b" ")
    with pytest.raises(InvalidManifest, match=r"^\$: 3 bytes, where at most 2"):
        decode(b"{ }", limit=2)


def test_many_names_of_which_one_comes_twice_are_found_at_once() -> None:
    """A hostile document of 4 MiB costs no more than its length."""
    names = ",".join(f'"{i}":1' for i in range(300_000))
    with pytest.raises(InvalidManifest, match=r"^\$\['299999'\]: appears twice"):
        decode(f'{{{names},"299999":1}}'.encode())


def test_writing_is_compact_and_keeps_the_order() -> None:
    """What docker and GGCR write: no whitespace, the members in their order, UTF-8."""
    assert encode({"b": 1, "a": ["é", None, 1.5]}) == '{"b":1,"a":["é",null,1.5]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", "\ud800"])
def test_what_is_no_json_is_not_written(value: object) -> None:
    """'Numeric values that cannot be represented in the grammar are not permitted' (section 6)."""
    with pytest.raises(InvalidManifest, match=r"^\$: cannot be written as JSON"):
        encode({"a": value})


def test_a_document_that_holds_itself_is_not_written() -> None:
    """Nothing that a caller hands in ends in another error."""
    document: dict[str, object] = {}
    document["a"] = document
    with pytest.raises(InvalidManifest, match="cannot be written"):
        encode(document)


def test_what_was_read_is_written_as_it_was() -> None:
    """The order of members, and null, are kept where a value stays; a new one has its own."""
    originals = [{"comment": "b", "created_by": "a", "author": None}, {"x": 1}]
    read = [History.from_dict(original) for original in originals]
    new = History(created_by="new")
    assert [list(item) for item in reuse_originals([read[1], new, read[0]], read, originals)] == [  # type: ignore[call-overload]
        ["x"],
        ["created_by"],
        ["comment", "created_by", "author"],
    ]
    assert reuse_originals([new], (), None) == [{"created_by": "new"}]


def test_as_read_compares_few_values() -> None:
    """The cost grows with the number of values: none is held against all others."""
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


def test_the_limits_of_python_are_those_of_the_test() -> None:
    """The number of 5000 digits above is one that Python refuses to read."""
    assert 0 < sys.get_int_max_str_digits() < 5000
