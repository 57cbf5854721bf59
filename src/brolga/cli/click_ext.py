"""Extensions of click: `-v` for each verb, errors for empty values, suggestions for wrong names.

An empty text is an error unless its option allows it: the shell makes one of an unset variable, and
without its base an image would be pushed with no base at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from brolga.cli.output import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# The type of an option or argument whose empty value has a meaning.
MAY_BE_EMPTY: Final = click.UNPROCESSED

_VERBOSITY: Final = "brolga.verbosity"
# Options with an optional value, which must follow a `=`.
_OPTIONAL_VALUE: Final = frozenset({"--spool"})


def examples(*lines: str) -> str:
    """Return an epilog of examples; the backspace keeps click from joining the lines."""
    return "\b\n" + "\n".join(("Examples:", *(f"  {line}" for line in lines)))


def verbosity(context: click.Context) -> int:
    """Return how many times -v was given, before the verb and after it."""
    count: int = context.meta.get(_VERBOSITY, 0)
    return count


def _count(context: click.Context, _param: click.Parameter, count: int) -> None:
    before = verbosity(context)
    context.meta[_VERBOSITY] = before + count
    if count and not before:
        context.find_root().with_resource(log_to_stderr())


_verbose: Final = click.Option(
    ["-v", "--verbose"],
    count=True,
    expose_value=False,
    is_eager=True,  # so that it counts even if another flag is wrong
    callback=_count,
    help="Log each request; -vv: also show an error's traceback.",
)


class _NonEmptyText(click.types.StringParamType):
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text: str = super().convert(value, param, ctx)
        if not text:
            self.fail("it is empty: is a shell variable unset?", param, ctx)
        return text


class Verb(click.Command):
    """A command with -v, whose texts must not be empty."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's signature
        super().__init__(*args, **kwargs)
        for param in self.params:
            if param.type is click.STRING:
                param.type = _NonEmptyText()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, -v and --help."""
        *own, help_option = super().get_params(ctx)
        return [*own, _verbose, help_option]

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002 - click's signature
        """Return the first sentence of the help, not cut: a list of verbs wraps it."""
        return super().get_short_help_str(len(self.help or ""))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; in `--spool REPO`, REPO is not the value of the flag."""
        bare = _OPTIONAL_VALUE & {name for param in self.params for name in param.opts}
        return super().parse_args(ctx, [f"{arg}=" if arg in bare else arg for arg in args])


class VerbGroup(Verb, click.Group):
    """A group of verbs."""

    command_class = Verb
    # Names of verbs in other programs, and the verb here.
    foreign: Mapping[str, str] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name. Raises UsageError with similar names."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            known = self.foreign.get(name)
            close = [known] if known else get_close_matches(name, self.list_commands(ctx), 2)
            hint = f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise click.UsageError(f"No such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def verb(name: str, *lines: str) -> Callable[[Callable[..., object]], click.Command]:
    """Return the decorator of a verb; `lines` are the examples in its help."""
    return click.command(name, cls=Verb, epilog=examples(*lines) if lines else None)
