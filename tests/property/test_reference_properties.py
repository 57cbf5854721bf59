"""reference.py: properties of every name and every text."""

import string
from ipaddress import IPv6Address

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brolga.errors import InvalidReference
from brolga.spec.digest import Digest
from brolga.spec.reference import Reference, Repository

# A rule of bytes does not depend on how busy the machine is.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ALPHANUMERIC = string.ascii_lowercase + string.digits
TAG_FIRST = string.ascii_letters + string.digits + "_"
EDGES = st.text("aA0._-/:@[]% \n\u0661\u00e9", max_size=40)

words = st.text(ALPHANUMERIC, min_size=1, max_size=8)
labels = st.from_regex("[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
separators = st.sampled_from([".", "_", "__", "-", "--", "-----"])
digests = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
tags = st.builds(str.__add__, st.sampled_from(TAG_FIRST), st.text(TAG_FIRST + ".-", max_size=127))


@st.composite
def components(draw: st.DrawFn) -> str:
    r"""Draw '[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*'."""
    parts = [draw(words)]
    for word in draw(st.lists(words, max_size=2)):
        parts += [draw(separators), word]
    return "".join(parts)


paths = st.lists(components(), min_size=1, max_size=4).map("/".join)
hosts = st.one_of(
    st.sampled_from(["localhost", "docker.io", "index.docker.io", "[::1]", "127.0.0.1"]),
    st.lists(labels, min_size=2, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6)
    .filter(lambda address: isinstance(address, IPv6Address) and address.ipv4_mapped is None)
    .map(lambda address: f"[{address}]"),
)
ports = st.integers(1, 65535).map(lambda port: f":{port}")
registries = st.builds(str.__add__, hosts, st.just("") | ports) | st.builds(
    str.__add__, labels, ports
)
repositories = st.builds(Repository, registries, paths)
references = st.one_of(
    st.builds(Reference, repositories),
    st.builds(Reference, repositories, tags),
    st.builds(Reference, repositories, st.none(), digests),
    st.builds(Reference, repositories, tags, digests),
)


@st.composite
def near_references(draw: st.DrawFn) -> str:
    """Draw a reference with one place changed, doubled or lost: text at the grammar's edge."""
    text = str(draw(references))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 2)))
    return text[:start] + draw(EDGES) + text[end:]


@untimed
@given(repositories)
def test_repository_round_trips(repository: Repository) -> None:
    """`str` is canonical: it parses to an equal value, which prints alike."""
    parsed = Repository.parse(str(repository))
    assert parsed == repository
    assert hash(parsed) == hash(repository)
    assert str(parsed) == str(repository)


@untimed
@given(references)
def test_reference_round_trips(reference: Reference) -> None:
    """`str` is canonical: it parses to an equal value, which prints alike."""
    parsed = Reference.parse(str(reference))
    assert parsed == reference
    assert hash(parsed) == hash(reference)
    assert str(parsed) == str(reference)


@untimed
@given(registries, paths)
def test_name_is_split_at_first_slash(registry: str, path: str) -> None:
    """A registry is never read as a path, nor a path as a registry."""
    assert Repository.parse(f"{registry}/{path}") == Repository(registry, path)


@untimed
@given(paths.filter(lambda path: "." not in path.split("/")[0]), tags)
def test_short_name_is_on_docker_hub(path: str, tag: str) -> None:
    """'None of the above: it's not a domain, so use the default' (normalize.go)."""
    reference = Reference.parse(f"{path}:{tag}")
    if path.startswith("localhost/"):
        return
    assert reference.repository == Repository("docker.io", path)
    assert reference.tag == tag


@untimed
@given(st.text() | EDGES | near_references())
def test_any_text_round_trips_as_reference_or_raises(text: str) -> None:
    """No text raises another error; an accepted one is safe in a URL and in a path."""
    try:
        reference = Reference.parse(text)
    except InvalidReference as error:
        assert len(str(error)) < 300  # noqa: PT017 - the other outcome is as good
    else:
        assert Reference.parse(str(reference)) == reference
        assert set(str(reference)) <= set(string.ascii_letters + string.digits + "._-/:@[]+=")
        assert ".." not in str(reference.repository)
        assert "/" not in (reference.tag or "")


@untimed
@given(st.text() | EDGES | near_references())
def test_any_text_round_trips_as_repository_or_raises(text: str) -> None:
    """A repository is a reference without tag and digest."""
    try:
        repository = Repository.parse(text)
    except InvalidReference:
        return
    assert Repository.parse(str(repository)) == repository
    assert Reference.parse(text) == Reference(repository)


@untimed
@given(st.text() | EDGES | registries, st.text() | EDGES | paths)
def test_any_parts_make_valid_repository_or_raise(registry: str, path: str) -> None:
    """An invalid repository cannot exist: every value also parses."""
    try:
        repository = Repository(registry, path)
    except InvalidReference:
        return
    assert Repository.parse(str(repository)) == repository


@untimed
@given(st.text() | EDGES | tags)
def test_any_tag_is_accepted_or_raises(tag: str) -> None:
    """An invalid tag cannot exist: every value also parses."""
    try:
        reference = Reference(Repository("localhost:5000", "x"), tag)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference


@untimed
@given(st.lists(references, max_size=6))
def test_references_have_total_order(drawn: list[Reference]) -> None:
    """Sorting twice, from either end, gives the same."""
    backwards = drawn[::-1]
    assert sorted(drawn) == sorted(backwards)
