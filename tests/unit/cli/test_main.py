"""cli.main: verbs, help, and how the process ends."""

from __future__ import annotations

import importlib
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.processes import PATIENCE_S

from brolga import __version__
from brolga.cli import main as cli

if TYPE_CHECKING:
    from tests.command import Brolga


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_is_only_output(brolga: Brolga, arguments: list[str]) -> None:
    """The result goes to stdout, and nothing else does."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_each_verb_with_its_line(brolga: Brolga, flag: str) -> None:
    """What there is, and what the exit codes mean."""
    outcome = brolga(flag)
    assert (outcome.code, outcome.err) == (0, "")
    for verb, entry in cli._VERBS.items():
        names = ", ".join((verb, *entry.aliases))
        assert re.search(f"^  {names} +{re.escape(entry.line)}$", outcome.out, re.MULTILINE)
    for meaning in ("0 done", "2 usage", "7 the source failed"):
        assert meaning in " ".join(outcome.out.split())


@pytest.mark.parametrize("verb", sorted(cli._VERBS))
def test_help_of_verb_has_line_of_list(brolga: Brolga, verb: str) -> None:
    """The list of verbs is written without importing them, so it could differ."""
    outcome = brolga(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: brolga {verb} ")
    assert cli._VERBS[verb].line in outcome.out


@pytest.mark.parametrize("group", ["auth", "index", "layer", "layout", "registry"])
def test_help_of_group_does_not_cut_sentences(brolga: Brolga, group: str) -> None:
    """Click cuts them with `...` if the line is full."""
    _, listed = brolga(group, "--help").out.split("Commands:\n")
    assert "..." not in listed
    assert listed.endswith(".\n")


@pytest.mark.parametrize("verb", sorted(set(cli._FOREIGN.values())))
def test_foreign_names_lead_to_existing_verbs(brolga: Brolga, verb: str) -> None:
    """The suggestions for docker's and skopeo's names."""
    assert brolga(*verb.split(), "--help").code == 0


def test_verb_runs_under_alias(brolga: Brolga, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help lists it beside the name."""
    entry = cli._VERBS["version"]._replace(aliases=("ver",))
    monkeypatch.setitem(cli._VERBS, "version", entry)
    assert brolga("ver").out == f"{__version__}\n"
    listed = brolga("--help").out
    assert re.search("^  version, ver +Print the version.$", listed, re.MULTILINE)
    assert re.search(
        "^  layer +Stream layers into a registry, and out of it.$", listed, re.MULTILINE
    )


def test_list_commands_returns_sorted_verbs() -> None:
    """Shell completion asks for the names."""
    with cli.command.make_context("brolga", ["version"]) as context:
        assert cli.command.list_commands(context) == sorted(cli._VERBS)


@pytest.mark.parametrize(
    ("arguments", "section"),
    [([], "Layers"), (["layer"], "Commands"), (["registry"], "Commands")],
)
def test_main_prints_help_on_stderr_without_verb(
    brolga: Brolga, arguments: list[str], section: str
) -> None:
    """Exit code 2; stdout is only for results."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(" ".join(["Usage: brolga", *arguments]))
    assert f"\n{section}:\n" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope"], "brolga: No such command 'nope'; see brolga --help\n"),
        (["lyer"], "brolga: No such command 'lyer'. Did you mean 'layer'? see brolga --help\n"),
        (["-v", "x", "y"], "brolga: No such command 'x'; see brolga --help\n"),
        (
            ["logout", "r.example"],
            "brolga: No such command 'logout'. Did you mean 'auth logout'? see brolga --help\n",
        ),
        (["layer", "login"], "brolga: No such command 'login'; see brolga layer --help\n"),
        (
            ["layer", "puhs"],
            "brolga: No such command 'puhs'. Did you mean 'push'? see brolga layer --help\n",
        ),
        (["layer", "nope"], "brolga: No such command 'nope'; see brolga layer --help\n"),
        (["--nope"], "brolga: No such option '--nope'; see brolga --help\n"),
        (
            ["layer", "push"],
            "brolga: Missing argument 'REPO[:TAG]'; see brolga layer push --help\n",
        ),
    ],
)
def test_main_prints_one_line_for_invalid_command_line(
    brolga: Brolga, arguments: list[str], line: str
) -> None:
    """What is wrong, and the help to read; exit code 2."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", line)


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "brolga: interrupted\n"),
        (signal.SIGTERM, 143, "brolga: stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, "brolga: stopped by SIGHUP\n"),
    ],
)
def test_main_cleans_up_after_signal(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, line: str
) -> None:
    """The exit code is the one that shells use for the signal."""
    cleaned = []

    def interrupted(_context: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(cli.command, "invoke", interrupted)
    outcome = brolga("version")
    assert (outcome.code, outcome.out, outcome.err) == (code, "", line)
    assert cleaned == [True]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_main_raises_for_signal_after_import(
    brolga: Brolga,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    """Within an import, callbacks would lose the exception, and others wrap it."""
    body = f"import signal\nsignal.raise_signal({number:d})\nis_complete = True\n"
    (tmp_path / "interrupted_module.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli.command, "invoke", lambda _context: import_and_wait())
    try:
        assert brolga("version").code == code
        assert sys.modules["interrupted_module"].is_complete
    finally:
        sys.modules.pop("interrupted_module", None)


def import_and_wait() -> None:
    """Import the module that a signal interrupts; wait for the exception."""
    importlib.import_module("interrupted_module")
    threading.Event().wait(PATIENCE_S)


def test_main_leaves_ignored_signal_ignored(brolga: Brolga) -> None:
    """`nohup brolga …` survives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert brolga("version").code == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_main_prints_traceback_only_with_vv(brolga: Brolga, tmp_path: object) -> None:
    """Errors are one line; `-vv` prints the traceback before it."""
    arguments = ["layer", "push", "127.0.0.1:1/x", f"{tmp_path}/missing"]
    quiet, verbose = brolga(*arguments), brolga("-v", *arguments)
    assert quiet == verbose
    assert quiet.err.count("\n") == 1
    loud = brolga("-vv", *arguments)
    assert loud == brolga(*arguments, "-vv") == brolga("-v", "layer", "-v", *arguments[1:])
    assert loud.code == quiet.code
    assert loud.err.startswith("Traceback (most recent call last):\n")
    assert loud.err.endswith(quiet.err)
