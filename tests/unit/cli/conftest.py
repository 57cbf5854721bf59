"""The fixture that runs the command."""

from tests.command import brolga, restore_signal_handlers  # noqa: F401 - fixtures
