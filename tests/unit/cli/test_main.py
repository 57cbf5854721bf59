"""cli: verbs, help, and how the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import pytest

from brolga import __version__, cli

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Brolga


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
    assert "  layer     Stream layers into a registry.\n" in outcome.out
    assert "  registry  Run a registry on this machine.\n" in outcome.out
    assert "  version   Print the version.\n" in outcome.out
    for meaning in ("0 done", "2 usage", "7 the source failed"):
        assert meaning in " ".join(outcome.out.split())


@pytest.mark.parametrize("verb", sorted(cli._VERBS))
def test_each_verb_helps_with_the_line_that_the_list_has(brolga: Brolga, verb: str) -> None:
    """The list of verbs is written without loading them; it must not lie."""
    outcome = brolga(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: brolga {verb} ")
    assert cli._VERBS[verb] in outcome.out


def test_the_verbs_are_listed_for_whoever_completes_them() -> None:
    """Click asks for their names alone."""
    with cli.command.make_context("brolga", ["version"]) as context:
        assert cli.command.list_commands(context) == ["layer", "registry", "version"]


def test_no_verb_is_loaded_to_list_them() -> None:
    """`brolga --help` must not wait for what a verb needs."""
    code = (
        "import sys; sys.argv = ['brolga', '--help']\n"
        "from brolga.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'brolga.cli.layer', 'brolga.client', 'httpcore2', 'uvicorn', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("arguments", [[], ["layer"], ["registry"]])
def test_without_a_verb_the_help_is_on_stderr(brolga: Brolga, arguments: list[str]) -> None:
    """Exit code 2 is usage; stdout carries results alone."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(" ".join(["Usage: brolga", *arguments]))
    assert "\nCommands:\n" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nope"], "brolga: No such command 'nope'; see brolga --help\n"),
        (["layer", "nope"], "brolga: No such command 'nope'; see brolga layer --help\n"),
        (["--nope"], "brolga: No such option '--nope'; see brolga --help\n"),
        (["layer", "push"], "brolga: Missing argument 'REPO'; see brolga layer push --help\n"),
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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_behind_stdout_is_one_line() -> None:
    """A result that could not be written is an error of this side."""
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = python_m_brolga("version", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "brolga: local: [Errno 28] No space left on device\n"


def test_closed_streams_are_no_error() -> None:
    """A daemon may have none of the three."""
    command = f"{sys.executable} -m brolga version <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


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
    assert loud.code == quiet.code
    assert loud.err.startswith("Traceback (most recent call last):\n")
    assert loud.err.endswith(quiet.err)
