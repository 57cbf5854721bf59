"""Run the command in this process, as its entry point does."""

from __future__ import annotations

import io
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from brolga.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Brolga = Callable[..., "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How a run of the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def restore_signal_handlers() -> Iterator[None]:
    """Put back what the command does to signals."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def brolga(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run the command with arguments and, as `stdin`, an open file."""

    def run(*arguments: str, stdin: object = None) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["brolga", *arguments])
        monkeypatch.setattr(sys, "stdin", stdin if stdin is not None else io.StringIO())
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        return Outcome(code, *capsys.readouterr())

    return run


def stdin_of(data: bytes) -> io.TextIOWrapper:
    """Return a stdin with these bytes, whose descriptor is not a terminal."""
    end, start = os.pipe()
    os.write(start, data)
    os.close(start)
    return os.fdopen(end)
