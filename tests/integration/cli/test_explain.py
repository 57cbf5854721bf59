"""brolga explain."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from tests.raw_server import Peer, refusing_port, serve_script

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Brolga
    from tests.conftest import Authority

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


def parse_rows(text: str) -> dict[str, str]:
    """Take the lines apart."""
    return dict(line.split("  ", 1) for line in map(_squeezed, text.splitlines()))


def _squeezed(line: str) -> str:
    name, _, value = line.partition("  ")
    return f"{name}  {value.strip()}"


def test_explain_prints_line_for_each_property(brolga: Brolga) -> None:
    """Address, TLS, credentials, how the bytes go out and why, mounting, referrers."""
    with serve_script(asked) as address:
        outcome = brolga("explain", f"{address}/team/app")
    assert (outcome.code, outcome.err) == (0, "")
    rows = parse_rows(outcome.out)
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
        "buffer": "the last 32 MiB, in memory",
        "mount": "tried between repositories of the registry; if it is refused, uploaded",
        "referrers": "api",
    }


@pytest.mark.parametrize(("style", "text"), [("streamed", "the same"), ("put", "one PUT")])
def test_explain_describes_known_blobs(brolga: Brolga, style: str, text: str) -> None:
    """Without a limit if the registry has none."""
    with serve_script(asked) as address:
        outcome = brolga("explain", "--upload-style", style, f"{address}/x")
    assert f"known blobs  {text}\n" in outcome.out


def test_explain_states_that_nothing_is_buffered(brolga: Brolga) -> None:
    """The line says so."""
    with serve_script(asked) as address:
        outcome = brolga("explain", "--window", "0", f"{address}/x")
    assert "buffer       nothing\n" in outcome.out


def test_explain_prints_json(brolga: Brolga) -> None:
    """Names as the other verbs have them; sizes in bytes."""
    with serve_script(asked) as address:
        flags = ["--json", "--upload-style", "chunked:5M", "--window", "1M"]
        outcome = brolga("explain", *flags, f"{address}/x")
    assert (outcome.code, outcome.err) == (0, "")
    result = json.loads(outcome.out)
    assert result["repository"] == f"{address}/x"
    assert (result["tls"], result["verified"]) == (False, False)
    assert (result["chunk"], result["smaller"], result["lastInPut"]) == (
        5 << 20,
        (5 << 20) // 2,
        False,
    )
    assert (result["chosenBy"], result["window"]) == ("--upload-style chunked:5M", 1 << 20)
    assert result["spool"] is False
    assert {"url", "authentication", "credentials", "profile", "why", "resumes", "mount"} < set(
        result
    )


@pytest.mark.parametrize(
    ("flags", "row", "value"),
    [
        (["--upload-style", "auto"], "uploads", "one streamed PATCH (--upload-style auto)"),
        (["--upload-style=chunked"], "uploads", "chunks of 32 MiB (--upload-style chunked)"),
        (["--window", "100"], "buffer", "the last 100 bytes, in memory"),
        (
            ["--spool"],
            "buffer",
            "all of it, in an unnamed file in the directory for temporary files",
        ),
        (["--spool=/"], "buffer", "all of it, in an unnamed file in /"),
    ],
)
def test_explain_describes_given_flags(
    brolga: Brolga, flags: list[str], row: str, value: str
) -> None:
    """What a push with the same flags would do."""
    with serve_script(asked) as address:
        outcome = brolga("explain", *flags, f"{address}/x")
    assert parse_rows(outcome.out)[row] == value


def test_explain_names_config_file_that_chose(
    brolga: Brolga, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only settings for this registry count."""
    monkeypatch.setenv("BROLGA_CONFIG", str(config))
    with serve_script(asked) as address:
        config.write_text(f'[registry."{address}"]\nupload-style = "chunked:8MiB"\n')
        mine = brolga("explain", f"{address}/x")
        config.write_text('[registry."r.example"]\nupload-style = "chunked:8MiB"\n')
        others = brolga("explain", f"{address}/x")
    uploads = f'chunks of 8 MiB (upload-style = "chunked:8MiB" in {config})'
    assert parse_rows(mine.out)["uploads"] == uploads
    assert parse_rows(others.out)["uploads"] == "one streamed PATCH (auto)"


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
def test_explain_names_known_registry(brolga: Brolga, shows: str, rows: dict[str, str]) -> None:
    """The reason is shown."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(200, b"{}", shows)

    with serve_script(script) as address:
        result = parse_rows(brolga("explain", f"{address}/x").out)
    for name, value in rows.items():
        assert result[name].startswith(value)


def test_explain_shows_origin_but_not_credentials(
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
    rows = parse_rows(plain.out)
    assert (rows["asks for"], rows["credentials"]) == ("basic", "BROLGA_USERNAME")
    assert rows["referrers"] == "api"
    for text in (plain.out, plain.err, full.out, full.err):
        assert "s3cret" not in text
        assert "someone" not in text
        assert b64encode(b"someone:s3cret").decode() not in text


def test_explain_reports_unknown_properties(brolga: Brolga) -> None:
    """The rest is printed."""

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.answer(200 if head[0].startswith("GET /v2/ ") else 403, b"{}")

    with serve_script(script) as address:
        outcome = brolga("explain", f"{address}/x")
    assert (outcome.code, outcome.err) == (0, "")
    assert parse_rows(outcome.out)["referrers"].startswith("not known: ")
    assert "403" in parse_rows(outcome.out)["referrers"]


def test_explain_reports_missing_credentials(brolga: Brolga) -> None:
    """Exit code 4, as a push would have it."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(401, b"", CHALLENGE)

    with serve_script(script) as address:
        outcome = brolga("explain", f"{address}/x")
    assert (outcome.code, outcome.out) == (4, "")
    assert "with 401; log in with brolga auth login" in outcome.err


def test_explain_states_whether_tls_is_verified(brolga: Brolga, authority: Authority) -> None:
    """`--insecure` leaves certificates unverified."""
    with serve_script(asked, tls=authority.server_context()) as address:
        trusted = brolga("explain", f"{address}/x", "--ca-cert", str(authority.ca_cert))
        unverified = brolga("explain", f"{address}/x", "--insecure")
    assert parse_rows(trusted.out)["TLS"] == "verified"
    assert parse_rows(trusted.out)["address"] == f"https://{address}"
    assert parse_rows(unverified.out)["TLS"] == "not verified"


def test_explain_reports_unreachable_registry(brolga: Brolga) -> None:
    """Exit code 5, as a push would have it."""
    outcome = brolga("explain", f"127.0.0.1:{refusing_port()}/x")
    assert (outcome.code, outcome.out) == (5, "")
    assert "cannot connect" in outcome.err


@pytest.mark.parametrize("arguments", [[], ["127.0.0.1:1/x:tag"], ["127.0.0.1:1/x", "--spool=/no"]])
def test_explain_rejects_invalid_arguments(brolga: Brolga, arguments: list[str]) -> None:
    """Exit code 2."""
    outcome = brolga("explain", *arguments)
    assert (outcome.code, outcome.out) == (2, "")


def test_explain_is_listed_in_help(brolga: Brolga) -> None:
    """The help lists it, and its own has examples."""
    assert "explain" in brolga("--help").out
    assert "    brolga explain registry.example/team/app\n" in brolga("explain", "--help").out
