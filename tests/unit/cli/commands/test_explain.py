"""cli.explain: how a repository would be pushed to, and why."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, refusing_port, serve_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Authority
    from tests.unit.cli.conftest import Brolga

CHALLENGE = 'WWW-Authenticate: Basic realm="x"'


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the config file, which is not there yet."""
    file = tmp_path / "config.toml"
    monkeypatch.delenv("BROLGA_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return file


def asked(peer: Peer) -> None:
    """Be a registry that has the referrers API, and answers nothing but questions."""
    while head := peer.head():
        assert head[0].startswith("GET ")
        peer.answer(200, b"{}")


def told(text: str) -> dict[str, str]:
    """Take the lines apart."""
    return dict(line.split("  ", 1) for line in map(_squeezed, text.splitlines()))


def _squeezed(line: str) -> str:
    name, _, value = line.partition("  ")
    return f"{name}  {value.strip()}"


def test_a_line_for_each_thing(brolga: Brolga) -> None:
    """Address, TLS, credentials, how the bytes go out and why, mounting, referrers."""
    with serve_script(asked) as address:
        outcome = brolga("explain", f"{address}/team/app")
    assert (outcome.code, outcome.err) == (0, "")
    rows = told(outcome.out)
    assert rows.pop("profile").startswith("distribution: ")
    assert rows == {
        "repository": f"{address}/team/app",
        "address": f"http://{address}",
        "TLS": "none: plain http",
        "asks for": "nothing",
        "credentials": "none: anonymous",
        "uploads": "one streamed PATCH (auto)",
        "known blobs": "one PUT, up to 64 MiB",
        "after a 413": "chunks of 32 MiB",
        "after a cut": "the session is asked how far it came; else a new session, from the first "
        "byte",
        "for that it keeps": "the last 32 MiB, in memory",
        "mount": "tried between repositories of the registry; if it is refused, uploaded",
        "referrers": "api",
    }


@pytest.mark.parametrize(("style", "told"), [("streamed", "the same"), ("put", "one PUT")])
def test_how_blobs_go_whose_digest_is_known(brolga: Brolga, style: str, told: str) -> None:
    """Without a bound, where there is none."""
    with serve_script(asked) as address:
        outcome = brolga("explain", "--upload-style", style, f"{address}/x")
    assert f"known blobs        {told}\n" in outcome.out


def test_without_a_window_nothing_is_kept(brolga: Brolga) -> None:
    """And that is said so."""
    with serve_script(asked) as address:
        outcome = brolga("explain", "--window", "0", f"{address}/x")
    assert "for that it keeps  nothing\n" in outcome.out


def test_json_is_one_object(brolga: Brolga) -> None:
    """Names as the other verbs have them; sizes in bytes."""
    with serve_script(asked) as address:
        flags = ["--json", "--upload-style", "chunked:5M", "--window", "1M"]
        outcome = brolga("explain", *flags, f"{address}/x")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found["repository"] == f"{address}/x"
    assert (found["tls"], found["verified"]) == (False, False)
    assert (found["chunk"], found["smaller"], found["lastInPut"]) == (
        5 << 20,
        (5 << 20) // 2,
        False,
    )
    assert (found["chosenBy"], found["window"]) == ("--upload-style chunked:5M", 1 << 20)
    assert found["spool"] is False
    assert {"url", "authentication", "credentials", "profile", "why", "resumes", "mount"} < set(
        found
    )


@pytest.mark.parametrize(
    ("flags", "row", "value"),
    [
        (["--upload-style", "auto"], "uploads", "one streamed PATCH (--upload-style auto)"),
        (["--upload-style=chunked"], "uploads", "chunks of 32 MiB (--upload-style chunked)"),
        (["--window", "100"], "for that it keeps", "the last 100 bytes, in memory"),
        (
            ["--spool"],
            "for that it keeps",
            "all of it, in a file without a name where temporary files are",
        ),
        (["--spool=/"], "for that it keeps", "all of it, in a file without a name in /"),
    ],
)
def test_it_is_told_for_the_flags_that_are_given(
    brolga: Brolga, flags: list[str], row: str, value: str
) -> None:
    """What a push with the same flags would do."""
    with serve_script(asked) as address:
        outcome = brolga("explain", *flags, f"{address}/x")
    assert told(outcome.out)[row] == value


def test_the_config_file_is_named_where_it_decides(
    brolga: Brolga, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For this registry; what it says of others does not matter here."""
    monkeypatch.setenv("BROLGA_CONFIG", str(config))
    with serve_script(asked) as address:
        config.write_text(f'[registry."{address}"]\nupload-style = "chunked:8MiB"\n')
        mine = brolga("explain", f"{address}/x")
        config.write_text('[registry."r.example"]\nupload-style = "chunked:8MiB"\n')
        others = brolga("explain", f"{address}/x")
    uploads = f'chunks of 8 MiB (upload-style = "chunked:8MiB" in {config})'
    assert told(mine.out)["uploads"] == uploads
    assert told(others.out)["uploads"] == "one streamed PATCH (auto)"


@pytest.mark.parametrize(
    ("shows", "rows"),
    [
        (
            "Server: zot",
            {"profile": "zot", "after a cut": "a new session, from the first byte"},
        ),
        ("X-Artifactory-Id: 1", {"profile": "jfrog", "after a 413": "given up"}),
    ],
)
def test_what_is_known_of_its_kind_is_told(
    brolga: Brolga, shows: str, rows: dict[str, str]
) -> None:
    """By what it shows of itself, with the reason."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(200, b"{}", shows)

    with serve_script(script) as address:
        found = told(brolga("explain", f"{address}/x").out)
    for name, value in rows.items():
        assert found[name].startswith(value)


def test_where_credentials_come_from_is_told_and_never_what_they_are(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret on stdout or stderr, nor the name that goes with it."""
    monkeypatch.setenv("BROLGA_USERNAME", "someone")
    monkeypatch.setenv("BROLGA_PASSWORD", "s3cret")

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.answer(200 if peer.header("authorization", head) else 401, b"{}", CHALLENGE)

    with serve_script(script) as address:
        plain = brolga("explain", f"{address}/x")
        full = brolga("explain", "--json", "-vv", f"{address}/x")
    rows = told(plain.out)
    assert (rows["asks for"], rows["credentials"]) == ("basic", "BROLGA_USERNAME")
    assert rows["referrers"] == "api"
    for text in (plain.out, plain.err, full.out, full.err):
        assert "s3cret" not in text
        assert "someone" not in text
        assert b64encode(b"someone:s3cret").decode() not in text


def test_what_cannot_be_asked_is_told_as_that(brolga: Brolga) -> None:
    """The rest is worth knowing all the same."""

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.answer(200 if head[0].startswith("GET /v2/ ") else 403, b"{}")

    with serve_script(script) as address:
        outcome = brolga("explain", f"{address}/x")
    assert (outcome.code, outcome.err) == (0, "")
    assert told(outcome.out)["referrers"].startswith("not known: ")
    assert "403" in told(outcome.out)["referrers"]


def test_credentials_that_are_missing_are_told(brolga: Brolga) -> None:
    """Exit code 4, as a push would have it."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(401, b"", CHALLENGE)

    with serve_script(script) as address:
        outcome = brolga("explain", f"{address}/x")
    assert (outcome.code, outcome.out) == (4, "")
    assert "with 401; log in with brolga auth login" in outcome.err


def test_tls_is_verified_or_said_not_to_be(brolga: Brolga, authority: Authority) -> None:
    """`--insecure` leaves certificates unverified."""
    with serve_script(asked, tls=authority.server_context()) as address:
        trusted = brolga("explain", f"{address}/x", "--ca-cert", str(authority.ca_cert))
        unverified = brolga("explain", f"{address}/x", "--insecure")
    assert told(trusted.out)["TLS"] == "verified"
    assert told(trusted.out)["address"] == f"https://{address}"
    assert told(unverified.out)["TLS"] == "not verified"


def test_a_registry_that_is_not_there(brolga: Brolga) -> None:
    """Exit code 5, as a push would have it."""
    outcome = brolga("explain", f"127.0.0.1:{refusing_port()}/x")
    assert (outcome.code, outcome.out) == (5, "")
    assert "cannot connect" in outcome.err


@pytest.mark.parametrize("arguments", [[], ["127.0.0.1:1/x:tag"], ["127.0.0.1:1/x", "--spool=/no"]])
def test_what_makes_no_sense_is_usage(brolga: Brolga, arguments: list[str]) -> None:
    """Exit code 2."""
    outcome = brolga("explain", *arguments)
    assert (outcome.code, outcome.out) == (2, "")


def test_it_is_among_the_verbs(brolga: Brolga) -> None:
    """The help lists it, and its own has examples."""
    assert "explain" in brolga("--help").out
    assert "    brolga explain registry.example/team/app\n" in brolga("explain", "--help").out
