"""digest.py: properties of every digest and every text."""

import string
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brolga.errors import DigestMismatch, InvalidDigest
from brolga.spec.digest import MAX_DIGEST_LENGTH, Digest, hasher

# A rule of bytes does not depend on how busy the machine is.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LOWER_HEX = "0123456789abcdef"
COMPUTABLE = st.sampled_from(["sha256", "sha512"])

components = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)


@st.composite
def algorithms(draw: st.DrawFn) -> str:
    """Draw an algorithm of the grammar: components with a separator between each two."""
    parts = [draw(components)]
    for part in draw(st.lists(components, max_size=3)):
        parts += [draw(st.sampled_from("+._-")), part]
    return "".join(parts)


@st.composite
def digests(draw: st.DrawFn) -> tuple[str, str]:
    """Draw both parts of a digest, registered or not."""
    lengths = {"sha256": 64, "sha512": 128, "blake3": 64}
    algorithm = draw(st.sampled_from(sorted(lengths)) | algorithms())
    if length := lengths.get(algorithm):
        return algorithm, draw(st.text(LOWER_HEX, min_size=length, max_size=length))
    alphabet = string.ascii_letters + string.digits + "=_-"
    return algorithm, draw(st.text(alphabet, min_size=1, max_size=150))


@st.composite
def near_digests(draw: st.DrawFn) -> str:
    """Draw a digest with one place changed, doubled or lost: text at the grammar's edge."""
    text = ":".join(draw(digests()))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 2)))
    return text[:start] + draw(st.text(max_size=2)) + text[end:]


@st.composite
def cut_bytes(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw bytes whole, and the same bytes in pieces, some of them empty."""
    data = draw(st.binary(max_size=4096))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return data, [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


@untimed
@given(digests())
def test_valid_digest_round_trips(parts: tuple[str, str]) -> None:
    """'digest ::= algorithm ":" encoded' (descriptor.md, Digests), there and back."""
    digest = Digest(*parts)
    assert str(digest) == ":".join(parts)
    assert Digest.parse(str(digest)) == digest
    assert hash(Digest.parse(str(digest))) == hash(digest)


@untimed
@given(st.text() | near_digests())
def test_any_text_round_trips_or_raises_invalid_digest(text: str) -> None:
    """No text raises another error, and no two texts make one digest."""
    try:
        digest = Digest.parse(text)
    except InvalidDigest as error:
        assert len(str(error)) < 300  # noqa: PT017 - the other outcome is as good
    else:
        assert str(digest) == text
        assert len(text) <= MAX_DIGEST_LENGTH
        assert set(text) <= set(string.ascii_letters + string.digits + "+._-=:")
        assert ".." not in text


@untimed
@given(st.text(), st.text())
def test_any_parts_make_valid_digest_or_raise_invalid_digest(algorithm: str, encoded: str) -> None:
    """An invalid digest cannot exist: every value also parses."""
    try:
        digest = Digest(algorithm, encoded)
    except InvalidDigest:
        return
    assert Digest.parse(str(digest)) == digest


@untimed
@given(COMPUTABLE, cut_bytes())
def test_hashing_in_pieces_equals_hashing_whole(
    algorithm: str, cut: tuple[bytes, list[bytes]]
) -> None:
    """A digest depends only on the bytes, never on how they are cut."""
    data, pieces = cut
    state = hasher(algorithm)
    for piece in pieces:
        state.update(piece)
    assert Digest.from_hasher(state) == Digest.of(data, algorithm)


@untimed
@given(COMPUTABLE, cut_bytes(), st.binary(max_size=64))
def test_verify_accepts_only_bytes_of_digest(
    algorithm: str, cut: tuple[bytes, list[bytes]], other: bytes
) -> None:
    """'verified = ID(C) == D' (descriptor.md, Digest calculations)."""
    data, pieces = cut
    verifier = Digest.of(data, algorithm).verifier()
    for piece in pieces:
        verifier.update(piece)
    verifier.verify()
    if other:
        verifier.update(other)
        with pytest.raises(DigestMismatch):
            verifier.verify()
