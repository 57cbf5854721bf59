"""cli.click_ext: -v before and after a verb, and empty values."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from brolga.cli import main as cli
from brolga.cli.click_ext import verbosity

if TYPE_CHECKING:
    import click
    from tests.command import Brolga


@pytest.fixture
def logging_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `brolga version` log what a transport would."""

    def log(context: click.Context) -> None:
        assert verbosity(context) == 0  # of the command itself; the verb is not parsed yet
        invoke(context)
        logging.getLogger("brolga.transport").debug("GET %s\n\x1b[2J", "https://r.example/v2/")

    invoke = cli.command.invoke
    monkeypatch.setattr(cli.command, "invoke", log)


@pytest.mark.usefixtures("logging_verb")
@pytest.mark.parametrize("flags", [["-v"], ["--verbose"], ["-vv"], ["-v", "-v"]])
def test_verbose_after_verb_prints_log(brolga: Brolga, flags: list[str]) -> None:
    """One line for each record, on stderr, without control characters."""
    outcome = brolga("version", *flags)
    assert outcome.code == 0
    assert outcome.err == "brolga.transport: GET https://r.example/v2/ [2J\n"


@pytest.mark.usefixtures("logging_verb")
def test_verbose_log_ends_with_command(brolga: Brolga) -> None:
    """The next run in the same process is silent again."""
    log = logging.getLogger("brolga")
    before = (log.level, list(log.handlers))
    brolga("version", "-v")
    assert (log.level, log.handlers) == before
    assert brolga("version").err == ""


@pytest.mark.parametrize("arguments", [["version"], ["layer"], ["layer", "push"]])
def test_help_lists_verbose_for_every_verb(brolga: Brolga, arguments: list[str]) -> None:
    """Verbs and groups of verbs."""
    assert "  -v, --verbose " in brolga(*arguments, "--help").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["mutate", ""],
        ["mutate", "127.0.0.1:1/x", "--tag="],
        ["mutate", "127.0.0.1:1/x", "--append", ""],
        ["mutate", "127.0.0.1:1/x", "--repo", ""],
        ["rebase", "127.0.0.1:1/x", "--old_base", ""],
        ["rebase", "127.0.0.1:1/x", "--new_base", ""],
        ["index", "append", "-m", "", "-t", "127.0.0.1:1/x"],
        ["index", "append", "", "-m", "127.0.0.1:1/x"],
        ["layer", "push", "127.0.0.1:1/x", ""],
        ["attach", "127.0.0.1:1/x", "", "--artifact-type", "a/b"],
        ["export", "127.0.0.1:1/x", ""],
        ["push", "x", ""],
        ["push", "x", "127.0.0.1:1/x", "--image-refs", ""],
        ["digest", "--tarball", ""],
        ["validate", "--remote", ""],
        ["auth", "get", ""],
        ["referrers", "127.0.0.1:1/x", "--artifact-type="],
    ],
)
def test_verb_rejects_empty_value(brolga: Brolga, arguments: list[str]) -> None:
    """`"$UNSET"` is not the same as nothing: exit code 2, and nothing was done."""
    outcome = brolga(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert ": it is empty: is a shell variable unset? see brolga " in outcome.err
