"""reference.py: Docker's rules for names, and which names are rejected."""

import dataclasses
import pickle

import pytest

from brolga.errors import BrolgaError, InvalidDigest, InvalidReference
from brolga.spec.digest import Digest
from brolga.spec.reference import DEFAULT_REGISTRY, DEFAULT_TAG, Reference, Repository

HEX = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
DIGEST = Digest("sha256", HEX)

# (what is written, the registry, the path)
REPOSITORIES = [
    # "ubuntu" -> "docker.io/library/ubuntu" (distribution/reference, normalize.go)
    ("python", "docker.io", "library/python"),
    ("library/python", "docker.io", "library/python"),
    ("someone/app", "docker.io", "someone/app"),
    ("a/b/c/d", "docker.io", "a/b/c/d"),
    ("docker.io/python", "docker.io", "library/python"),
    ("docker.io/someone/app", "docker.io", "someone/app"),
    ("index.docker.io/python", "docker.io", "library/python"),
    ("Index.Docker.IO/someone/app", "docker.io", "someone/app"),
    ("registry-1.docker.io/library/python", "registry-1.docker.io", "library/python"),
    ("docker.io:443/python", "docker.io:443", "python"),
    # One word is a path, whatever it looks like.
    ("localhost", "docker.io", "library/localhost"),
    ("ghcr.io", "docker.io", "library/ghcr.io"),
    # "localhost is a reserved namespace and always considered a domain"
    ("localhost/x", "localhost", "x"),
    ("LOCALHOST/x", "localhost", "x"),
    ("localhost:5000/x", "localhost:5000", "x"),
    ("localhost:65535/x/y", "localhost:65535", "x/y"),
    ("localhos/x", "docker.io", "localhos/x"),
    # Likely a domain or an IP address: it contains "." or ":".
    ("ghcr.io/owner/app", "ghcr.io", "owner/app"),
    ("GHCR.io/owner/app", "ghcr.io", "owner/app"),
    ("host:1/x", "host:1", "x"),
    ("HOST:5000/x", "host:5000", "x"),
    ("127.0.0.1/x", "127.0.0.1", "x"),
    ("127.0.0.1:5000/x", "127.0.0.1:5000", "x"),
    ("xn--bcher-kva.example/x", "xn--bcher-kva.example", "x"),
    ("a-b--c.d/x", "a-b--c.d", "x"),
    (f"{'a' * 63}.example/x", f"{'a' * 63}.example", "x"),
    # "Uppercase namespaces are not allowed, so if the first element is not lowercase, we assume
    # it to be a domain-name"; in lower case it would not be one.
    ("Host/x", "Host", "x"),
    # IPv6 in brackets, in the one spelling of RFC 5952.
    ("[::1]/x", "[::1]", "x"),
    ("[::1]:5000/x", "[::1]:5000", "x"),
    ("[0:0:0:0:0:0:0:1]:5000/x", "[::1]:5000", "x"),
    ("[2001:DB8::00Ff]/x/y", "[2001:db8::ff]", "x/y"),
    # The separators of the path grammar.
    ("a_c__d-e---f/0", "docker.io", "a_c__d-e---f/0"),
    ("h.io/a.b/c_d/e__f/g-h", "h.io", "a.b/c_d/e__f/g-h"),
    # Only the whole name can be an image ID.
    (f"docker.io/{HEX}", "docker.io", f"library/{HEX}"),
    (f"{HEX}/x", "docker.io", f"{HEX}/x"),
    (f"{HEX}0", "docker.io", f"library/{HEX}0"),
]

# (what is written, what its error says)
BAD_NAMES = [
    ("", "the name is empty"),
    # White space, control characters, other alphabets: anywhere.
    (" python", "character 1 of the name is white space: ' '"),
    ("python ", "character 7 of the name is white space: ' '"),
    ("python\n", r"character 7 of the name is white space: '\n'"),
    ("\tpython", r"character 1 of the name is white space: '\t'"),
    ("ghcr.io/a\r\nb", r"character 10 of the name is white space: '\r'"),
    ("pyth\x00on", r"character 5 of the name is a control character: '\x00'"),
    ("py\x7fthon", r"character 3 of the name is a control character: '\x7f'"),
    ("pyth\u00f6n", r"character 5 of the name is not ASCII: '\xf6'"),
    ("p\u0443thon", r"character 2 of the name is not ASCII: '\u0443'"),
    ("python\u0661", r"character 7 of the name is not ASCII: '\u0661'"),
    ("localhost:500\u0660/x", r"character 14 of the name is not ASCII: '\u0660'"),
    ("a\u202eb", r"character 2 of the name is not ASCII: '\u202e'"),
    ("a\u2028", r"character 2 of the name is white space: '\u2028'"),
    ("a\ud800", r"character 2 of the name is not ASCII: '\ud800'"),
    # A scheme in front.
    ("https://ghcr.io/owner/app", "drop 'https://' in front of the registry"),
    ("http://localhost:5000/x", "drop 'http://' in front of the registry"),
    ("docker://python", "drop 'docker://' in front of the registry"),
    ("HTTPS://x/y", "drop 'HTTPS://' in front of the registry"),
    ("://x/y", "registry ':' is not a host name"),
    # Image IDs.
    (HEX, "is an image ID, not a name"),
    # Registries.
    ("-host.io/x", "registry '-host.io' is not a host name"),
    ("host-.io/x", "registry 'host-.io' is not a host name"),
    ("host..io/x", "registry 'host..io' is not a host name"),
    (".host/x", "registry '.host' is not a host name"),
    ("host.io./x", "registry 'host.io.' is not a host name"),
    ("under_score.io/x", "registry 'under_score.io' is not a host name"),
    ("./x", "registry '.' is not a host name"),
    ("../x", "registry '..' is not a host name"),
    ("../../etc/passwd", "registry '..' is not a host name"),
    ("%2e%2e.io/x", "registry '%2e%2e.io' is not a host name"),
    ("::1/x", "registry '::1' is not a host name"),
    ("::1:5000/x", "registry '::1:5000' is not a host name"),
    ("[::1/x", "registry '[::1' is not a host name"),
    ("::1]/x", "registry '::1]' is not a host name"),
    ("[]/x", "registry '[]' is not a host name"),
    ("[::1]x/y", "registry '[::1]x' is not a host name"),
    ("[fe80::1%eth0]/x", "registry '[fe80::1%eth0]' is not a host name"),
    ("[::ffff:127.0.0.1]/x", "registry '[::ffff:127.0.0.1]' is not a host name"),
    ("[::ffff:7f00:1]/x", "registry '[::ffff:7f00:1]' is an IPv4 address: write 127.0.0.1"),
    ("[:::]/x", "registry '[:::]' is not an IPv6 address"),
    ("[1:2]/x", "registry '[1:2]' is not an IPv6 address"),
    ("[12345::]/x", "registry '[12345::]' is not an IPv6 address"),
    (f"{'a' * 64}.io/x", "more than 63 characters between two dots"),
    ("user:word@host/x", "digest 'host/x' has no ':'"),
    # Ports.
    ("localhost:/x", "registry port '' is not a number of 1 to 65535"),
    ("localhost:0/x", "registry port '0' is not a number of 1 to 65535"),
    ("localhost:65536/x", "registry port '65536' is not a number of 1 to 65535"),
    ("localhost:080/x", "registry port '080' is not a number of 1 to 65535"),
    (f"localhost:{'9' * 200}/x", "is not a number of 1 to 65535"),
    ("[::1]:0/x", "registry port '0' is not a number of 1 to 65535"),
    ("localhost:http/x", "registry 'localhost:http' is not a host name"),
    ("localhost:-1/x", "registry 'localhost:-1' is not a host name"),
    ("localhost:5000:5000/x", "registry 'localhost:5000:5000' is not a host name"),
    # Paths.
    ("ghcr.io/", "path '' is empty"),
    ("localhost:5000/", "path '' is empty"),
    ("[::1]", "path '' is empty"),
    ("python/", "path 'python/' ends with a slash"),
    ("ghcr.io/a/", "path 'a/' ends with a slash"),
    ("/", "path '/' ends with a slash"),
    ("/python", "path '/python' has an empty component"),
    ("ghcr.io//a", "path '/a' has an empty component"),
    ("ghcr.io/a//b", "path 'a//b' has an empty component"),
    ("Python", "path 'Python' has upper-case letters: write 'python'"),
    ("ghcr.io/Owner/App", "path 'Owner/App' has upper-case letters: write 'owner/app'"),
    ("ghcr.io/a/../b", "path 'a/../b' has a component that is not"),
    ("ghcr.io/..", "path '..' has a component that is not"),
    ("ghcr.io/.", "path '.' has a component that is not"),
    ("ghcr.io/a..b", "path 'a..b' has a component that is not"),
    ("ghcr.io/a%2fb", "path 'a%2fb' has a component that is not"),
    ("ghcr.io/a%2Fb", "path 'a%2Fb' has a component that is not"),
    ("ghcr.io/a\\b", r"path 'a\\b' has a component that is not"),
    ("ghcr.io/a?b", "path 'a?b' has a component that is not"),
    ("ghcr.io/a#b", "path 'a#b' has a component that is not"),
    ("ghcr.io/a___b", "path 'a___b' has a component that is not"),
    ("ghcr.io/a._b", "path 'a._b' has a component that is not"),
    ("ghcr.io/_a", "path '_a' has a component that is not"),
    ("ghcr.io/a-", "path 'a-' has a component that is not"),
    ("ghcr.io/a:b/c", "path 'a:b/c' has a component that is not"),
    ("-", "path '-' has a component that is not"),
]

BAD_REFERENCES = [
    # Tags.
    ("python:", "tag '' is not 1 to 128"),
    ("python:.a", "tag '.a' is not 1 to 128"),
    ("python:-a", "tag '-a' is not 1 to 128"),
    ("python:a+b", "tag 'a+b' is not 1 to 128"),
    ("python:a:b", "tag 'a:b' is not 1 to 128"),
    ("python:..", "tag '..' is not 1 to 128"),
    ("python:%2e", "tag '%2e' is not 1 to 128"),
    (f"python:{'a' * 129}", "tag 'aaa"),
    ("localhost:5000/x:", "tag '' is not 1 to 128"),
    # Digests.
    ("python@", "digest '' has no ':'"),
    ("python@sha256", "digest 'sha256' has no ':'"),
    ("python@sha256:abc", "not the 64 lower-case hexadecimal digits of sha256"),
    (f"python@sha256:{HEX.upper()}", "not the 64 lower-case hexadecimal digits of sha256"),
    (f"python@{DIGEST}@{DIGEST}", "not the 64 lower-case hexadecimal digits of sha256"),
    (f"python@{DIGEST}:tag", "not the 64 lower-case hexadecimal digits of sha256"),
    ("python@SHA256:abc", "digest algorithm 'SHA256' is not"),
    (f"python:@{DIGEST}", "tag '' is not 1 to 128"),
    (f"@{DIGEST}", "path '' is empty"),
    (":tag", "path '' is empty"),
]


@pytest.mark.parametrize(("text", "registry", "path"), REPOSITORIES)
def test_repository_parse_follows_docker(text: str, registry: str, path: str) -> None:
    """The first component is a registry if it has '.', ':' or upper case, or is localhost."""
    repository = Repository.parse(text)
    assert (repository.registry, repository.path) == (registry, path)
    assert str(repository) == f"{registry}/{path}"
    assert Repository.parse(str(repository)) == repository
    assert Repository(registry, path) == repository


@pytest.mark.parametrize(("text", "registry", "path"), REPOSITORIES)
def test_reference_parse_splits_name_tag_and_digest(text: str, registry: str, path: str) -> None:
    """'name[:tag][@digest]' (distribution/reference, reference.go), at every name."""
    for tag, digest in ((None, None), ("v1.0", None), (None, DIGEST), ("v1.0", DIGEST)):
        # A lone 'localhost:v1.0' is a name and a tag, as with Docker.
        written = text + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        reference = Reference.parse(written)
        wanted_tag = DEFAULT_TAG if tag is None and digest is None else tag
        assert reference.repository == Repository(registry, path)
        assert (reference.tag, reference.digest) == (wanted_tag, digest)
        assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(("text", "message"), BAD_NAMES)
def test_parse_error_names_wrong_part_of_name(text: str, message: str) -> None:
    """InvalidReference 'says which part is wrong and why', for repository and reference alike."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert message in str(caught.value)
    if "@" not in text:
        with pytest.raises(InvalidReference) as caught:
            Repository.parse(text)
        assert message in str(caught.value) or "without tag or digest" in str(caught.value)


@pytest.mark.parametrize(("text", "message"), BAD_REFERENCES)
def test_parse_error_names_wrong_tag_or_digest(text: str, message: str) -> None:
    """'<reference> as a tag MUST match [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}' (distribution-spec)."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["python:3", f"python@{DIGEST}", f"h.io/x:1@{DIGEST}", "localhost:5000", "x:", "x@"]
)
def test_repository_parse_rejects_tag_or_digest(text: str) -> None:
    """A tag is not dropped silently."""
    match = "repository is wanted here, without tag or digest"
    with pytest.raises(InvalidReference, match=match) as caught:
        Repository.parse(text)
    assert caught.value.hint == "a repository is written like registry.example/team/app"


@pytest.mark.parametrize("tag", ["latest", "_", "0", "3.14-slim_a", "A" * 128])
def test_reference_accepts_tag_of_grammar(tag: str) -> None:
    """A tag has 'at most 128 characters in length' (distribution-spec, Pulling manifests)."""
    assert Reference.parse(f"localhost:5000/x:{tag}").tag == tag


def test_parse_distinguishes_port_from_tag() -> None:
    """The tag comes after the last slash, the port before the first."""
    reference = Reference.parse("localhost:5000/x")
    assert (reference.repository.registry, reference.tag) == ("localhost:5000", "latest")
    assert reference.tag_is_default


def test_parse_reads_word_and_number_as_name_and_tag() -> None:
    """'to prevent them from being handled as hostname:port' (normalize.go, familiar names)."""
    assert str(Reference.parse("localhost:5000")) == "docker.io/library/localhost:5000"


def test_tag_is_default_only_without_written_tag() -> None:
    """Without tag and digest the tag is latest, and `tag_is_default` is true."""
    unwritten, written = Reference.parse("python"), Reference.parse("python:latest")
    assert unwritten.tag == written.tag == "latest"
    assert unwritten.tag_is_default
    assert not written.tag_is_default
    assert unwritten == written
    assert hash(unwritten) == hash(written)
    assert Reference(unwritten.repository).tag_is_default
    assert not Reference.parse(f"python@{DIGEST}").tag_is_default


def test_reference_keeps_tag_beside_digest() -> None:
    """'name:tag@digest': the digest decides what is fetched, the tag is kept for display."""
    both = Reference.parse(f"python:3@{DIGEST}")
    assert str(both) == f"docker.io/library/python:3@{DIGEST}"
    assert both.identifier == str(DIGEST)
    assert Reference.parse("python:3").identifier == "3"
    assert Reference.parse(f"python@{DIGEST}").identifier == str(DIGEST)
    assert Reference.parse("python").identifier == "latest"


@pytest.mark.parametrize(
    ("registry", "path"),
    [
        ("foo", "bar"),
        ("", "bar"),
        ("h.io\n", "bar"),
        ("h.io", "bar\n"),
        ("h.io", "b\u00e4r"),
        ("h.i\u00f6", "bar"),
        ("localhost:\u0661", "bar"),
        ("h.io", ""),
        ("h.io", "a:b"),
        ("h.io", f"a@{DIGEST}"),
        ("h.io/a", "b"),
        ("user:word@h.io", "b"),
    ],
)
def test_repository_checks_itself_without_parser(registry: str, path: str) -> None:
    """A value made without the parser is checked as well."""
    with pytest.raises(InvalidReference):
        Repository(registry, path)


@pytest.mark.parametrize("tag", ["", "a\n", "\u0661", "a/b", "a" * 129])
def test_reference_checks_tag_without_parser(tag: str) -> None:
    """A value made without the parser is checked as well."""
    with pytest.raises(InvalidReference, match=r"^tag ") as caught:
        Reference(Repository("h.io", "x"), tag)
    assert not caught.value.hint


def test_repository_rejects_registry_that_reads_as_path() -> None:
    """Its name would not parse back: 'foo/bar' is a repository of Docker Hub."""
    with pytest.raises(InvalidReference, match=r"it would be read as a path of docker\.io"):
        Repository("foo", "bar")


def test_repository_is_canonical_without_parser() -> None:
    """Equal names are equal values, however they were made."""
    assert Repository("index.docker.io", "python") == Repository.parse("python")
    assert Repository("Quay.IO", "a") == Repository.parse("quay.io/a")


def test_repository_rejects_more_than_255_characters() -> None:
    """'the concatenation of the registry hostname (and optional port), /, and <name>'."""
    assert len(str(Repository.parse("h.io/" + "a" * 250))) == 255
    assert len(str(Repository.parse("a" * (255 - len("docker.io/library/"))))) == 255
    # It is the canonical name that counts.
    assert Repository.parse("index.docker.io/x/" + "a" * 243).registry == DEFAULT_REGISTRY
    for text in ("h.io/" + "a" * 251, "a" * 240, "a" * 640, "a." * 127 + "io/x"):
        with pytest.raises(InvalidReference, match=r"repository name of \d+ characters"):
            Repository.parse(text)
    for registry, path in (("a" * 10**6, "x"), ("h.io", "a" * 10**6)):
        with pytest.raises(InvalidReference, match="repository name of 1000000 characters"):
            Repository(registry, path)


def test_reference_parse_accepts_longest_parts() -> None:
    """The bounds of the parts do not exclude each other."""
    name = "h.io/" + "a" * 250
    text = f"{name}:{'t' * 128}@x:{'0' * 253}"
    assert str(Reference.parse(text)) == text
    with pytest.raises(InvalidReference, match="name of 641 characters"):
        Reference.parse(text + "0")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**7,
        "a-" * 10**6,
        "a/" * 10**6,
        "h.io/" + "-" * 10**6 + "!",
        "a." * 10**6 + "/",
        "[" + ":" * 10**6,
        ":" * 10**6,
        "@" * 10**6,
        "x://" * 10**6,
    ],
)
def test_parse_rejects_huge_name_by_length(text: str) -> None:
    """The length is checked before any expression is matched."""
    for parse in (Reference.parse, Repository.parse):
        with pytest.raises(InvalidReference, match=f"name of {len(text)} characters"):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        ("a-" * 319) + "!",
        "a" + "-" * 600 + "!",
        "a__" * 200 + "!",
        "a/" * 300 + "!",
        "h.io/" + "a-a_" * 62,
        ("a-" * 120) + ".io/x",
        ("a." * 126) + "_/x",
    ],
)
def test_parse_does_not_backtrack(text: str) -> None:
    """Within the bound, no separator can be matched in two ways."""
    with pytest.raises(InvalidReference):
        Reference.parse(text)


@pytest.mark.parametrize(("text", "_message"), BAD_NAMES + BAD_REFERENCES)
def test_error_is_short_line_of_ascii(text: str, _message: str) -> None:
    """An error repeats at most about 100 characters of its input."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "user:hunter2@ghcr.io/owner/app",
        "user:hunter2@ghcr.io:443/owner/app",
        "https://user:hunter2@ghcr.io/owner/app",
        "user:hunter2@https://ghcr.io/owner/app",
        "user:hunt$er2@ghcr.io/owner/app",
    ],
)
def test_error_does_not_contain_pasted_password(text: str) -> None:
    """Errors go to logs: only the wrong part is shown, which is not the password."""
    for parse in (Reference.parse, Repository.parse):
        with pytest.raises(InvalidReference) as caught:
            parse(text)
        assert "hunt" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "host", "api_host"),
    [
        ("python", "docker.io", "registry-1.docker.io"),
        ("index.docker.io/a/b", "docker.io", "registry-1.docker.io"),
        ("docker.io:443/a/b", "docker.io", "docker.io:443"),
        ("ghcr.io/a", "ghcr.io", "ghcr.io"),
        ("localhost:5000/a", "localhost", "localhost:5000"),
        ("[::1]/a", "[::1]", "[::1]"),
        ("[::1]:5000/a", "[::1]", "[::1]:5000"),
        ("Host/a", "Host", "Host"),
    ],
)
def test_api_host_of_docker_hub_differs(name: str, host: str, api_host: str) -> None:
    """'actual domain of Docker Hub's registry is registry-1.docker.io' (normalize.go)."""
    repository = Repository.parse(name)
    assert (repository.host, repository.api_host) == (host, api_host)


@pytest.mark.parametrize(
    "registry",
    [
        "localhost",
        "LocalHost",
        "localhost:5000",
        "a.localhost",
        "a.b.localhost:1",
        "127.0.0.1",
        "127.0.0.1:5000",
        "127.255.255.254",
        "[::1]",
        "[::1]:5000",
        "[0:0::1]",
    ],
)
def test_is_loopback_is_true_for_this_machine(registry: str) -> None:
    """Below localhost (RFC 6761, 6.3), 127.0.0.0/8 (RFC 1122), ::1 (RFC 4291, 2.5.3)."""
    assert Repository(registry, "x").is_loopback


@pytest.mark.parametrize(
    "registry",
    [
        "docker.io",
        "localhost.example.com",
        "notlocalhost:5000",
        "127.0.0.1.example.com",
        "127.0.0.256",
        "127.1",
        "127.0.0.01",
        "0177.0.0.1",
        "128.0.0.1",
        "0.0.0.0:5000",
        "10.0.0.1",
        "2130706433:80",
        "[::]",
        "[::2]",
        "[fe80::1]",
    ],
)
def test_is_loopback_is_false_for_other_spellings(registry: str) -> None:
    """Plain http is for loopback only, so a doubtful spelling does not count."""
    assert not Repository(registry, "x").is_loopback


def test_repositories_sort_by_registry_and_path() -> None:
    """Sorted by registry, then path."""
    names = ["python", "ghcr.io/b", "ghcr.io/a", "[::1]/x"]
    assert [str(name) for name in sorted(map(Repository.parse, names))] == [
        "[::1]/x",
        "docker.io/library/python",
        "ghcr.io/a",
        "ghcr.io/b",
    ]
    assert len({Repository.parse("python"), Repository.parse("docker.io/library/python")}) == 1


def test_references_sort_by_repository_tag_and_digest() -> None:
    """None sorts before any tag or digest."""
    names = [f"a/b:2@{DIGEST}", "a/b:2", f"a/b@{DIGEST}", "a/a:9"]
    ordered = sorted(map(Reference.parse, names))
    assert [str(name) for name in ordered] == [f"docker.io/{name}" for name in reversed(names)]
    assert ordered[0] < ordered[1] <= ordered[1]
    assert ordered[1] > ordered[0]
    assert len({*ordered, *map(Reference.parse, names)}) == 4


def test_reference_cannot_be_compared_with_other_types() -> None:
    """Such a comparison is a programming error."""
    with pytest.raises(TypeError):
        assert Reference.parse("python") < "python"


def test_names_are_immutable_and_can_be_pickled() -> None:
    """Threads and processes share them."""
    reference = Reference.parse(f"python:3@{DIGEST}")
    assert pickle.loads(pickle.dumps(reference)) == reference  # noqa: S301 - made in this line
    assert dataclasses.replace(reference, tag="4").tag == "4"
    with pytest.raises(AttributeError):
        reference.tag = "5"  # type: ignore[misc]  # that it is frozen is the rule
    with pytest.raises(AttributeError):
        reference.repository.path = "x"  # type: ignore[misc]  # the same


def test_parse_error_has_digest_error_as_cause() -> None:
    """The InvalidDigest is the cause of the InvalidReference."""
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("python@sha256:abc")
    assert isinstance(caught.value.__cause__, InvalidDigest)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, BrolgaError)
