"""digest.py: the grammar of digests, and hashing against them."""

import hashlib
import pickle

import pytest

from brolga.errors import BrolgaError, DigestMismatch, InvalidDigest, excerpt
from brolga.spec.digest import MAX_DIGEST_LENGTH, Digest, Verifier, hasher

# FIPS 180-4's examples for the empty message and for "abc".
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABC_SHA512 = (
    "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)

GOOD = [
    f"sha256:{ABC_SHA256}",
    f"sha512:{ABC_SHA512}",
    f"blake3:{ABC_SHA256}",
    # The examples of the spec's own table.
    "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
    "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
    "a:b",
    "a.b_c-d+e0:=_-Z9",
]

BAD_ALGORITHM = [
    "",
    "SHA256",
    "sha 256",
    "+sha256",
    "sha256+",
    "sha256++b64u",
    "..",
    ".",
    "a/b",
    "%2e",
    "sha256\n",
    "sha25\u0666",
    "\u0131",
    "sha\x00",
]

BAD_ENCODED = ["", "a b", "a/b", "..", "a.b", "a:b", "%2f", "abc\n", "\n", "a\x00", "\u0661", "é"]


@pytest.mark.parametrize("text", GOOD)
def test_parse_and_str_round_trip_for_valid_digest(text: str) -> None:
    """'A digest string MUST match the following grammar' (descriptor.md, Digests)."""
    digest = Digest.parse(text)
    assert str(digest) == text
    assert (digest.algorithm, digest.encoded) == tuple(text.split(":"))
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize("algorithm", BAD_ALGORITHM)
def test_parse_rejects_algorithm_outside_grammar(algorithm: str) -> None:
    """'algorithm ::= algorithm-component (algorithm-separator algorithm-component)*'."""
    for encoded in ("abc", ABC_SHA256):
        with pytest.raises(InvalidDigest, match=r"^digest algorithm"):
            Digest.parse(f"{algorithm}:{encoded}")
        with pytest.raises(InvalidDigest, match=r"^digest algorithm"):
            Digest(algorithm, encoded)


@pytest.mark.parametrize("encoded", BAD_ENCODED)
def test_parse_rejects_encoded_part_outside_grammar(encoded: str) -> None:
    """'encoded ::= [a-zA-Z0-9=_-]+': no character with a meaning in a path or URL."""
    for algorithm in ("other", "sha256", "sha512", "blake3"):
        with pytest.raises(InvalidDigest, match=r"^digest encoded part"):
            Digest.parse(f"{algorithm}:{encoded}")
        with pytest.raises(InvalidDigest, match=r"^digest encoded part"):
            Digest(algorithm, encoded)


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
@pytest.mark.parametrize(
    "encoded",
    [
        ABC_SHA256[:-1],
        ABC_SHA256 + "0",
        ABC_SHA256.upper(),
        ABC_SHA256[:-1] + "g",
        ABC_SHA256[:-1] + "\n",
        ABC_SHA256 + "\n",
        ABC_SHA256[:-1] + "\u0661",
    ],
)
def test_parse_rejects_sha256_other_than_64_lower_case_hex_digits(
    algorithm: str, encoded: str
) -> None:
    """'When the algorithm identifier is sha256, the encoded portion MUST match /[a-f0-9]{64}/'."""
    with pytest.raises(InvalidDigest, match=f"not the 64 lower-case .* of {algorithm}"):
        Digest(algorithm, encoded)


@pytest.mark.parametrize("encoded", [ABC_SHA256, ABC_SHA512.upper(), ABC_SHA512 + "0"])
def test_parse_rejects_sha512_other_than_128_lower_case_hex_digits(encoded: str) -> None:
    """'When the algorithm identifier is sha512, the encoded portion MUST match /[a-f0-9]{128}/'."""
    with pytest.raises(InvalidDigest, match="not the 128 lower-case hexadecimal digits of sha512"):
        Digest("sha512", encoded)


@pytest.mark.parametrize("text", ["", "sha256", ABC_SHA256, "sha256/abc"])
def test_parse_rejects_text_without_colon(text: str) -> None:
    """'digest ::= algorithm ":" encoded'."""
    with pytest.raises(InvalidDigest, match="has no ':' after an algorithm"):
        Digest.parse(text)


def test_digest_rejects_more_than_255_characters() -> None:
    """The grammar has no bound; this is the longest file name."""
    longest = Digest.parse("a:" + "b" * (MAX_DIGEST_LENGTH - 2))
    assert len(str(longest)) == MAX_DIGEST_LENGTH
    for text in (f"{longest}b", "a" * 255 + ":", "+".join("a" * 1_000_000) + ":b"):
        with pytest.raises(InvalidDigest, match=f"digest of {len(text)} characters: at most 255"):
            Digest.parse(text)


@pytest.mark.parametrize("text", ["x" * 1_000_000, ":" + "x" * 200, "sha256:" + "é" * 200])
def test_error_message_has_bounded_length(text: str) -> None:
    """Untrusted text is cut to about 100 characters, in ASCII."""
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse(text)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 200


def test_excerpt_quotes_escapes_and_cuts() -> None:
    """The wrong part is readable, and cannot forge a line of a log."""
    assert excerpt("a b") == "'a b'"
    assert excerpt("a\n\u202e") == "'a\\n\\u202e'"
    assert excerpt("x" * 80) == repr("x" * 80)
    assert excerpt("x" * 81) == f"'{'x' * 79}... (81 characters)"
    escapes = r"\U0001f426" * 9
    assert excerpt("\U0001f426" * 9) == f"'{escapes[:79]}... (9 characters)"


def test_invalid_digest_is_value_error_and_brolga_error() -> None:
    """Callers can catch it with or without knowledge of brolga."""
    for kind in (ValueError, BrolgaError):
        with pytest.raises(kind):
            Digest.parse("nothing")


def test_digest_is_value() -> None:
    """Equal digests have equal hashes, sort by algorithm and can be pickled."""
    first, second = Digest("sha256", EMPTY_SHA256), Digest("sha512", ABC_SHA512)
    assert {first, Digest.parse(str(first))} == {first}
    assert sorted([second, first]) == [first, second]
    assert pickle.loads(pickle.dumps(first)) == first  # noqa: S301 - made in this line
    with pytest.raises(AttributeError):
        first.encoded = ABC_SHA256  # type: ignore[misc]  # that it is frozen is the rule


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_of_returns_published_digest(data: bytes) -> None:
    """'D == ID(C) == <alg>: + Encode(H(C))' (descriptor.md, Digest calculations)."""
    assert str(Digest.of(data)) == f"sha256:{ABC_SHA256}"
    assert str(Digest.of(data, "sha512")) == f"sha512:{ABC_SHA512}"


def test_of_empty_bytes_returns_digest_of_empty_message() -> None:
    """A layer without bytes still has its digest."""
    assert Digest.of(b"").encoded == EMPTY_SHA256


def test_from_hasher_covers_bytes_so_far() -> None:
    """The digest covers all bytes that the hasher was given so far, and no more."""
    state = hasher()
    assert Digest.from_hasher(state).encoded == EMPTY_SHA256
    for block in (b"a", bytearray(b"b"), memoryview(b"c")):
        state.update(block)
    assert Digest.from_hasher(state) == Digest("sha256", ABC_SHA256)


@pytest.mark.parametrize("algorithm", ["md5", "blake3", "sha256+b64u", "", "x" * 1000])
def test_hasher_rejects_algorithm_that_cannot_be_computed(algorithm: str) -> None:
    """'Implementations MAY implement' all but sha256: the others can be held, not computed."""
    for attempt in (hasher, lambda name: Digest.of(b"", name)):
        with pytest.raises(InvalidDigest, match="cannot be computed here: sha256 and sha512 can"):
            attempt(algorithm)


def test_from_hasher_rejects_unregistered_hash() -> None:
    """A digest never has an algorithm that readers need not know."""
    with pytest.raises(InvalidDigest, match="'sha3_256' cannot be computed here"):
        Digest.from_hasher(hashlib.sha3_256(b"abc"))


def test_verifier_rejects_unknown_algorithm() -> None:
    """Bytes that cannot be verified never pass as verified."""
    with pytest.raises(InvalidDigest, match="'blake3' cannot be computed here"):
        Digest("blake3", ABC_SHA256).verifier()


@pytest.mark.parametrize(
    ("text", "answer"),
    [(f"sha512:{ABC_SHA512}", True), (f"sha256:{EMPTY_SHA256}", True), ("app:v1", False)],
)
def test_is_computable_depends_on_algorithm(text: str, answer: bool) -> None:
    """'Implementations MAY implement additional algorithms': others can be held, and no more."""
    assert Digest.parse(text).is_computable is answer


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_verify_accepts_right_bytes(algorithm: str) -> None:
    """'the byte content SHOULD be verified against the digest string' (descriptor.md)."""
    verifier = Digest.of(b"abc", algorithm).verifier()
    for block in (b"ab", bytearray(b""), memoryview(b"c")):
        verifier.update(block)
    verifier.verify()


@pytest.mark.parametrize("data", [b"", b"ab", b"abd", b"abcc"])
def test_verify_raises_mismatch_with_both_digests(data: bytes) -> None:
    """DigestMismatch carries the expected and the actual digest as strings."""
    verifier = Digest.of(b"abc").verifier()
    assert isinstance(verifier, Verifier)
    verifier.update(data)
    with pytest.raises(DigestMismatch) as caught:
        verifier.verify()
    assert caught.value.expected == str(Digest.of(b"abc"))
    assert caught.value.actual == str(Digest.of(data))
    assert caught.value.expected in str(caught.value)
    assert caught.value.actual in str(caught.value)
