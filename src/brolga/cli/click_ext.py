"""What each verb and each group of verbs has: `-v`, and a word for whoever mistypes.

Knows click. Must not know which verbs there are.

Strategy: a text that is empty is an error unless its option says otherwise: it is what the shell
makes of a variable that is not set, and an image without its base would be pushed for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from brolga.cli.output import logged

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAY_BE_EMPTY", "Verb", "Verbs", "verbosity"]

# The type of an option or argument whose empty value has a meaning.
MAY_BE_EMPTY: Final = click.UNPROCESSED

_VERBOSITY: Final = "brolga.verbosity"
# Their value may be left out, so it stands after `=` only: the next argument is another's.
_ALONE: Final = frozenset({"--spool"})


def verbosity(context: click.Context) -> int:
    """Return how many times -v was given, before the verb and after it."""
    count: int = context.meta.get(_VERBOSITY, 0)
    return count


def _count(context: click.Context, _param: click.Parameter, count: int) -> None:
    before = verbosity(context)
    context.meta[_VERBOSITY] = before + count
    if count and not before:
        context.find_root().with_resource(logged())


class _Text(click.types.StringParamType):
    """A text that is not empty."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text: str = super().convert(value, param, ctx)
        if not text:
            self.fail("it is empty: is a shell variable unset?", param, ctx)
        return text


class Verb(click.Command):
    """A command that takes -v, and no empty names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's signature
        super().__init__(*args, **kwargs)
        for param in self.params:
            if param.type is click.STRING:
                param.type = _Text()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, -v and --help."""
        *own, help_option = super().get_params(ctx)
        verbose = click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            is_eager=True,  # so that it counts where another flag is wrong
            callback=_count,
            help="Log each request; -vv: also show an error's traceback.",
        )
        return [*own, verbose, help_option]

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002 - click's signature
        """Return the first sentence of the help, whole: a list of verbs wraps it."""
        return super().get_short_help_str(len(self.help or ""))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, where `--spool REPO` is a flag and a repository."""
        alone = _ALONE & {name for param in self.params for name in param.opts}
        return super().parse_args(ctx, [f"{arg}=" if arg in alone else arg for arg in args])


class Verbs(Verb, click.Group):
    """A group of such commands."""

    command_class = Verb
    # What other programs call a verb that has another name here.
    foreign: Mapping[str, str] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name. Raises UsageError, with names like it."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            known = self.foreign.get(name)
            close = [known] if known else get_close_matches(name, self.list_commands(ctx), 2)
            hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise click.UsageError(f"No such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)
