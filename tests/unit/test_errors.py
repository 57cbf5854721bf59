"""errors.py: the tree that its header draws is the tree that exists."""

import inspect
import pickle

from brolga import errors


def test_all_is_sorted_and_complete() -> None:
    """Every public class of the module is exported, once, in order."""
    defined = [name for name, item in vars(errors).items() if inspect.isclass(item)]
    assert errors.__all__ == [*sorted(defined), "excerpt"]


def test_every_error_is_drawn_in_the_header() -> None:
    """A reader finds the whole tree in the module's header."""
    assert errors.__doc__ is not None
    for name in errors.__all__[:-1]:
        assert name in errors.__doc__


def test_everything_is_a_brolga_error() -> None:
    """One except clause catches all that brolga raises on purpose."""
    for name in errors.__all__[:-1]:
        assert issubclass(getattr(errors, name), errors.BrolgaError)


def test_every_error_survives_pickling() -> None:
    """An error of a worker process reaches whoever waits for it, whole."""
    extras = {"method", "url", "status", "reason", "sent", "acknowledged", "kept", "expected"}
    extras |= {"actual"}
    for name in errors.__all__[:-1]:
        kind = getattr(errors, name)
        wanted = {key: key for key in extras & set(inspect.signature(kind.__init__).parameters)}
        error = kind("what happened", **wanted)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert type(again) is kind
        assert str(again) == "what happened"
        assert vars(again) == vars(error)
