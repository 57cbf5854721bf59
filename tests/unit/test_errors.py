"""errors.py: the tree that its header draws is the tree that exists."""

import inspect
import pickle

from brolga import errors
from brolga.errors import one_line, printable

FUNCTIONS = ["excerpt", "one_line", "printable"]


def test_all_is_sorted_and_complete() -> None:
    """Every public class of the module is exported, once, in order."""
    defined = [
        name
        for name, item in vars(errors).items()
        if inspect.isclass(item) and issubclass(item, Exception)
    ]
    assert errors.__all__ == [*sorted(defined), *FUNCTIONS]


def test_every_error_is_drawn_in_the_header() -> None:
    """A reader finds the whole tree in the module's header."""
    assert errors.__doc__ is not None
    for name in errors.__all__[: -len(FUNCTIONS)]:
        assert name in errors.__doc__


def test_everything_is_a_brolga_error() -> None:
    """One except clause catches all that brolga raises on purpose."""
    for name in errors.__all__[: -len(FUNCTIONS)]:
        assert issubclass(getattr(errors, name), errors.BrolgaError)


def test_every_error_survives_pickling() -> None:
    """An error of a worker process reaches whoever waits for it, whole."""
    extras = {"method", "url", "status", "reason", "sent", "acknowledged", "kept", "expected"}
    extras |= {"actual"}
    for name in errors.__all__[: -len(FUNCTIONS)]:
        kind = getattr(errors, name)
        wanted = {key: key for key in extras & set(inspect.signature(kind.__init__).parameters)}
        error = kind("what happened", **wanted)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert type(again) is kind
        assert str(again) == "what happened"
        assert vars(again) == vars(error)


def test_hint_and_side_are_given_to_the_constructor_and_survive_pickling() -> None:
    """A hint is a note too, so a traceback shows it (PEP 678)."""
    error = errors.DigestMismatch("no", expected="a", actual="b", side="source", hint="try again")
    for copy in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert (copy.side, copy.hint, copy.__notes__) == ("source", "try again", ["try again"])
    assert (errors.SpoolError("no").side, errors.SpoolError("no").hint) == ("local", "")


def test_printable_replaces_what_a_terminal_obeys() -> None:
    """Each control or format character is a space; all else stays, blanks too."""
    assert printable("a  b\u00e9\u65e5") == "a  b\u00e9\u65e5"
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    marks = ["\u200b", "\u200e", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\udcff"]
    for letter in [*controls, *marks]:
        assert printable(f"a{letter}b") == "a b"


def test_one_line_is_printable_and_cut() -> None:
    """A message may hold what a registry or a file's name brought."""
    assert one_line("a\nb\r\n\tc \x1b[2Jd\udcff") == "a b c [2Jd"
    assert one_line("abc", 3) == "abc"
    assert one_line("abcd", 3) == "abc…"
