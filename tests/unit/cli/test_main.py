"""cli: verbs, help, and how the process ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from brolga import __version__, cli

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Brolga


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def python_m_brolga(argument: str, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "brolga", argument],
        text=True,
        check=False,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_printed_alone(brolga: Brolga, arguments: list[str]) -> None:
    """The result goes to stdout, and nothing else does."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{__version__}\n", "")


def test_python_m_brolga_is_the_command() -> None:
    """`python -m brolga` and `brolga` are one."""
    done = python_m_brolga("version", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


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
def test_each_verb_helps_with_the_line_that_the_list_has(brolga: Brolga, verb: str) -> None:
    """The list of verbs is written without loading them; it must not lie."""
    outcome = brolga(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: brolga {verb} ")
    assert cli._VERBS[verb].line in outcome.out


@pytest.mark.parametrize("group", ["auth", "index", "layer", "layout", "registry"])
def test_a_group_lists_its_verbs_with_whole_sentences(brolga: Brolga, group: str) -> None:
    """Click cuts them with `...` where the line is full."""
    _, listed = brolga(group, "--help").out.split("Commands:\n")
    assert "..." not in listed
    assert listed.endswith(".\n")


@pytest.mark.parametrize("verb", sorted(set(cli._FOREIGN.values())))
def test_what_is_meant_by_a_foreign_name_is_a_verb(brolga: Brolga, verb: str) -> None:
    """The advice for docker's and skopeo's names must not lie either."""
    assert brolga(*verb.split(), "--help").code == 0


def test_a_verb_may_have_other_names(brolga: Brolga, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed beside it, and do what it does."""
    entry = cli._VERBS["version"]._replace(aliases=("ver",))
    monkeypatch.setitem(cli._VERBS, "version", entry)
    assert brolga("ver").out == f"{__version__}\n"
    listed = brolga("--help").out
    assert re.search("^  version, ver +Print the version.$", listed, re.MULTILINE)
    assert re.search(
        "^  layer +Stream layers into a registry, and out of it.$", listed, re.MULTILINE
    )


def test_the_verbs_are_listed_for_whoever_completes_them() -> None:
    """Click asks for their names alone."""
    with cli.command.make_context("brolga", ["version"]) as context:
        assert cli.command.list_commands(context) == sorted(cli._VERBS)


def test_no_verb_is_loaded_to_list_them() -> None:
    """`brolga --help` must not wait for what a verb needs."""
    code = (
        "import sys; sys.argv = ['brolga', '--help']\n"
        "from brolga.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'brolga.cli.commands.layer', 'brolga.client', 'httpcore2', 'uvicorn', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "section"),
    [([], "Layers"), (["layer"], "Commands"), (["registry"], "Commands")],
)
def test_without_a_verb_the_help_is_on_stderr(
    brolga: Brolga, arguments: list[str], section: str
) -> None:
    """Exit code 2 is usage; stdout carries results alone."""
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
def test_a_wrong_command_line_is_one_line(brolga: Brolga, arguments: list[str], line: str) -> None:
    """What is wrong, and where to read how it is right; exit code 2."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", line)


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    """`brolga … | head -0`: quiet, and not a success."""
    end, start = os.pipe()
    os.close(end)
    try:
        done = python_m_brolga("version", stdout=start)
    finally:
        os.close(start)
    assert (done.returncode, done.stderr) == (1, "")


@needs_full
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    """A result that could not be written is an error of this side."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = python_m_brolga("version", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "brolga: local: stdout cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", ["version", "--version"])
def test_a_result_without_a_stdout_is_an_error(arguments: str) -> None:
    """Whoever closed stdout did not get what was asked for."""
    command = f"exec {sys.executable} -m brolga {arguments} >&-"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "brolga: local: stdout cannot be written: it is closed\n"


@pytest.mark.parametrize("stderr", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("version", 0), ("nope", 2), ("-vv nope", 2), ("layer push -vv 127.0.0.1:1/x /nowhere", 7)],
)
def test_a_stderr_that_takes_nothing_leaves_the_exit_code(
    stderr: str, arguments: str, code: int
) -> None:
    """A line that is lost must not change what the code tells; Python itself would make it 120."""
    command = f"exec {sys.executable} -m brolga {arguments} <&- {stderr}"
    done = subprocess.run(["sh", "-c", command], check=False, stdout=subprocess.PIPE)
    assert done.returncode == code


@needs_full
def test_a_help_that_cannot_be_written_is_one_line() -> None:
    """And Python does not fail a second time at its end."""
    command = f"exec {sys.executable} -m brolga --help >/dev/full"
    done = subprocess.run(["sh", "-c", command], check=False, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "brolga: local: [Errno 28] No space left on device\n",
    )


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "brolga: interrupted\n"),
        (signal.SIGTERM, 143, "brolga: stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, "brolga: stopped by SIGHUP\n"),
    ],
)
def test_a_signal_ends_the_process_as_an_exception_does(
    brolga: Brolga, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, line: str
) -> None:
    """What was begun is cleaned up, and the code is what a shell gives to such an end."""
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


def test_a_signal_that_is_ignored_stays_ignored(brolga: Brolga) -> None:
    """`nohup brolga …` outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert brolga("version").code == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_traceback_is_shown_only_when_asked(brolga: Brolga, tmp_path: object) -> None:
    """Errors are one line; `-vv` shows where they came from, and the line."""
    arguments = ["layer", "push", "127.0.0.1:1/x", f"{tmp_path}/missing"]
    quiet, verbose = brolga(*arguments), brolga("-v", *arguments)
    assert quiet == verbose
    assert quiet.err.count("\n") == 1
    loud = brolga("-vv", *arguments)
    assert loud == brolga(*arguments, "-vv") == brolga("-v", "layer", "-v", *arguments[1:])
    assert loud.code == quiet.code
    assert loud.err.startswith("Traceback (most recent call last):\n")
    assert loud.err.endswith(quiet.err)
