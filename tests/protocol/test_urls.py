"""protocol.urls: which URLs of a registry are safe, and what is shown of a URL."""

import pytest

from brolga.errors import ProtocolViolation
from brolga.protocol.urls import check_url, hostname, origin, redact

REGISTRY = "https://registry.example/v2/team/app/blobs/uploads/"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "ftp://h/",
        "javascript:alert(1)",
        "https:/h",
        "https:///path",
        "https://:443/",
        "https://someone@h/",
        "https://someone:secret@h/?secret",
        "https://@h/",
        "https://h:port/",
        "https://h:99999/",
        "https://h:100000/",
        "https://h:0/",
        "https://h:-1/",
        "https://[::1",
        "https://[zz]/",
        "https://[::1]x/",
        "https://[fe80::1%25eth0]/",
        "https://h%2eexample/",
        "https://h\\@evil.example/",
        "https://h\\.evil.example/",
        "https://h#@evil.example/",
        "https://h/a b",
        "https://h/a\tb",
        "https://h/\r\nHost: evil.example",
        "https://h/\x00",
        "https://h/\u00e4",
        "https://\u212a.example/",
        " https://h/",
    ],
)
def test_check_url_rejects_invalid_url(url: str) -> None:
    """Two parsers must not read two hosts (RFC 3986, section 3.2), and urllib raises ValueError."""
    with pytest.raises(ProtocolViolation, match="Location is not a valid http") as caught:
        check_url(url, "Location", named_by=REGISTRY)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_check_url_rejects_downgrade() -> None:
    """A Location on plain http would expose the blob, and let anyone change it."""
    with pytest.raises(ProtocolViolation, match=r"falls back to plain http: http://h/u$"):
        check_url("http://h/u?secret", "Location", named_by=REGISTRY)
    with pytest.raises(ProtocolViolation, match="falls back"):
        check_url("HTTP://h/u", "Location", named_by=REGISTRY)


def test_check_url_accepts_upgrade() -> None:
    """TLS loses nothing; the credentials are not sent, as it is another origin."""
    url = "https://registry.example/u"
    assert check_url(url, "Location", named_by="http://registry.example/") == url
    assert origin(url) != origin("http://registry.example/")


# Hosts that serve a machine's own secrets to any local client.
LINK_LOCAL = ["169.254.169.254", "[fe80::1]", "[::ffff:a9fe:a9fe]"]
# IPv4 addresses to a resolver, by another spelling; each could be any of them.
ODD = [
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "0xa9fea9fe",
    "2852039166",
    "169.254.43518",
]
INSIDE = [
    "localhost",
    "LOCALHOST.",
    "registry.localhost",
    "127.0.0.1",
    "0.0.0.0",  # noqa: S104 - not bound, named
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "[::]",
    "[::1]",
    "[fd00::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:100.64.0.1]",
]


@pytest.mark.parametrize("host", [*INSIDE, *LINK_LOCAL, *ODD])
@pytest.mark.parametrize("registry", [REGISTRY, "https://8.8.8.8/", "https://[2600::1]/"])
def test_check_url_rejects_private_host_of_public_registry(host: str, registry: str) -> None:
    """A Location or realm at a loopback, link-local or private address (CVE-2026-48978)."""
    with pytest.raises(ProtocolViolation, match="private network"):
        check_url(f"https://{host}:5000/u", "Location", named_by=registry)


@pytest.mark.parametrize("host", INSIDE)
@pytest.mark.parametrize("registry", ["http://localhost:5000/", "http://10.0.0.1/"])
def test_check_url_accepts_private_host_of_private_registry(host: str, registry: str) -> None:
    """The user who named a registry there meant to reach it."""
    url = f"http://{host}/u"
    assert check_url(url, "Location", named_by=registry) == url


@pytest.mark.parametrize("host", [*LINK_LOCAL, *ODD])
@pytest.mark.parametrize(
    "registry", ["http://localhost:5000/", "http://10.0.0.1/", "http://127.2/", "http://[fd00::1]/"]
)
def test_check_url_rejects_link_local_host(host: str, registry: str) -> None:
    """169.254.169.254, in any spelling, serves a cloud machine's keys (CVE-2020-15157)."""
    with pytest.raises(ProtocolViolation, match="private network"):
        check_url(f"http://{host}/u", "Location", named_by=registry)


@pytest.mark.parametrize("host", [*INSIDE, *LINK_LOCAL])
@pytest.mark.parametrize("registry", ["http://169.254.1.1:5000/", "http://[fe80::2]/"])
def test_check_url_accepts_link_local_host_of_link_local_registry(host: str, registry: str) -> None:
    """The user who named a registry at such an address meant to reach it."""
    url = f"http://{host}/u"
    assert check_url(url, "Location", named_by=registry) == url


@pytest.mark.parametrize("host", [*INSIDE, *LINK_LOCAL, *ODD])
def test_check_url_accepts_registrys_own_host(host: str) -> None:
    """The user named that host, however it is written."""
    url = f"http://{host}:5001/u"
    assert check_url(url, "Location", named_by=f"http://{host}:5000/v2/") == url


@pytest.mark.parametrize(
    "host", ["storage.example", "8.8.8.8", "[2600::1]", "[::ffff:8.8.8.8]", "x_y-z.example", "1a"]
)
def test_check_url_accepts_other_public_host(host: str) -> None:
    """The location does not need to be provided by the registry itself (POST then PUT)."""
    url = f"https://{host}:8443/u?x"
    assert check_url(url, "Location", named_by=REGISTRY) == url


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("https://h/a?b", "https://h:443/c", True),
        ("https://h:/", "https://h/", True),
        ("HTTPS://H/", "https://h/", True),
        ("http://h:80/", "http://h/", True),
        ("http://h:443/", "https://h/", False),
        ("https://h:0/", "https://h/", False),
        ("https://h.example/", "https://h/", False),
        ("https://h./", "https://h/", False),
    ],
)
def test_origin_is_scheme_host_and_port(first: str, second: str, same: bool) -> None:
    """Two URIs are same-origin if scheme, host and port are equal (RFC 6454, section 5)."""
    assert (origin(first) == origin(second)) is same


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a?secret", "https://h/a"),
        ("https://h/a#secret", "https://h/a"),
        ("https://h?a=/@b", "https://h"),
        ("https://me:secret@h/a", "https://h/a"),
        ("//me:secret@h", "//h"),
        ("me:secret@h", "h"),
        ("https://a@secret@h/", "https://h/"),
        ("https://h/\x1b[31m\n\u202e", "https://h/?[31m??"),
        ("http://[::1", "http://[::1"),
        ("x" * 1000, "x" * 300 + "..."),
        ("", ""),
    ],
)
def test_redact_removes_secrets_and_control_characters(url: str, shown: str) -> None:
    """A signed URL's query, a user and a password are secrets (RFC 3986, section 7.5)."""
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Registry.Example:5000/v2/", "registry.example"),
        ("https://h", "h"),
        ("http://[::1]:5000/", "::1"),
    ],
)
def test_hostname_has_no_port(url: str, host: str) -> None:
    """A host is case-insensitive, without the port (RFC 3986, section 3.2.2)."""
    assert hostname(url) == host
