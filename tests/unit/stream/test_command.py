"""stream/command.py: arguments, and the terminal of this process."""

from __future__ import annotations

import os
import pty

import pytest

from brolga.stream.command import Command, _has_terminal
from brolga.stream.layer import StreamLayer


def test_command_rejects_string_and_empty_list() -> None:
    """One string would be taken apart by letters."""
    with pytest.raises(TypeError, match="a list of the program and its arguments"):
        Command("tar -c app")
    with pytest.raises(ValueError, match="a program to run"):
        Command([])


def test_repr_of_command_omits_arguments() -> None:
    """They may hold secrets: `pg_dump postgres://me:secret@host/db`."""
    command = Command(["pg_dump", "postgres://me:secret@host/db"])
    assert repr(command) == "<Command pg_dump>"
    assert "secret" not in repr(StreamLayer(command))


def test_has_terminal_checks_foreground_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the background of one, its signals are not for us."""
    master, slave = pty.openpty()

    def opens(*_: object) -> int:
        return os.dup(slave)

    monkeypatch.setattr(os, "open", opens)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
    assert _has_terminal()
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    assert not _has_terminal()

    def none(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "open", none)
    assert not _has_terminal()
    os.close(master)
    os.close(slave)
