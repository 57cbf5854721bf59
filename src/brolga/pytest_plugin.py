"""The pytest fixture `brolga_registry`: a registry for a test, which fails as the test says.

Knows pytest, and the embedded registry's faults and profiles. Must not know the client.

Strategy: one server for a session, started when the first test asks for it; each test gets a
directory, a plan and counts of its own. pytest loads this module at every start, so it imports
nothing of the server before a test needs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.server.faults import Fault, FaultPlan
    from brolga.server.injection import Injector, Seen
    from brolga.server.profiles import Profile

__all__ = ["BrolgaRegistry", "brolga_registry", "pytest_configure"]

_MARKER: Final = "brolga_registry"
_CHOICES: Final = frozenset({"profile", "faults"})


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(profile=None, faults=None): "
        "the kind of registry that the fixture plays, and its FaultPlan",
    )


class BrolgaRegistry:
    """A running registry, empty at the start of a test.

    `address` is `127.0.0.1:PORT`, `directory` where it stores: an image layout for each repository.
    """

    def __init__(self, address: str, directory: Path, injector: Injector) -> None:
        self.address = address
        self.directory = directory
        self._injector = injector

    def repository(self, name: str) -> str:
        """Return `ADDRESS/NAME`, and make the repository where the profile wants it made."""
        self._injector.create(name)
        return f"{self.address}/{name}"

    def use(self, *, profile: Profile | str | None = None, faults: FaultPlan | None = None) -> None:
        """Play another registry, with other faults, and begin to count anew; what is stored stays.

        Raises ValueError for a profile that is none.
        """
        self._injector.use(faults, profile)

    def clear(
        self, *, profile: Profile | str | None = None, faults: FaultPlan | None = None
    ) -> None:
        """Empty it and play another registry: a new test within one, as where tests are drawn.

        Raises ValueError for a profile that is not known.
        """
        self._injector.use(faults, profile)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._injector.move(self.directory)

    @property
    def plan(self) -> FaultPlan:
        """The faults in force."""
        return self._injector.plan

    @property
    def profile(self) -> Profile | None:
        """The profile in force; None is the embedded registry's own behaviour."""
        return self._injector.profile

    @property
    def requests(self) -> tuple[Seen, ...]:
        """The requests that came, in their order."""
        return self._injector.requests

    @property
    def struck(self) -> tuple[Fault, ...]:
        """The faults that struck, in order, each as often as it did."""
        return self._injector.struck

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not struck: a test that plans faults asserts that there are none."""
        return self._injector.pending

    def blobs(self, name: str) -> dict[str, bytes]:
        """Return what was committed to a repository, by digest."""
        found = (self.directory / name / "blobs").glob("*/*")
        return {f"{blob.parent.name}:{blob.name}": blob.read_bytes() for blob in found}

    def uploads(self, name: str) -> dict[str, bytes]:
        """Return what the open sessions of a repository have, by their ids."""
        found = (self.directory / name / ".uploads").glob("*")
        return {session.name: session.read_bytes() for session in found}


@pytest.fixture(scope="session")
def _brolga_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Injector]]:
    """Run one server for all tests; stops at the end of the session."""
    try:
        from brolga.server.injection import Injector
        from brolga.server.options import Options
        from brolga.server.running import running
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("brolga"):
            raise
        raise pytest.UsageError(
            f"{_MARKER} needs {error.name}: pip install 'brolga[server]'"
        ) from error
    injector = Injector()
    options = Options(injector=injector)
    with running(tmp_path_factory.mktemp("brolga-registry"), options) as address:
        yield address, injector


@pytest.fixture
def brolga_registry(
    request: pytest.FixtureRequest, _brolga_server: tuple[str, Injector], tmp_path: Path
) -> Iterator[BrolgaRegistry]:
    """Give a registry that is empty, and plays and fails as the marker or parameter says."""
    address, injector = _brolga_server
    choices = _choices(request)
    directory = tmp_path / "brolga-registry"
    try:
        injector.use(choices.get("faults"), choices.get("profile"))
    except ValueError as error:
        raise pytest.UsageError(f"{_MARKER}: {error}") from error
    injector.move(directory)
    yield BrolgaRegistry(address, directory, injector)
    # What is stalled is let go of, and nothing of this test is seen in the next.
    injector.use()


def _choices(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Return what the marker says, and the parameter, which wins. Raises UsageError."""
    marker = request.node.get_closest_marker(_MARKER)
    chosen: dict[str, Any] = {}
    if marker is not None:
        if marker.args:
            raise pytest.UsageError(f"{_MARKER} takes profile= and faults= by their names")
        chosen |= marker.kwargs
    given = getattr(request, "param", None)
    if isinstance(given, Mapping):
        chosen |= given
    elif given is not None:
        named = isinstance(given, str) or type(given).__name__ == "Profile"
        chosen["profile" if named else "faults"] = given
    unknown = sorted(set(chosen) - _CHOICES)
    if unknown:
        raise pytest.UsageError(f"{_MARKER} knows no {', '.join(unknown)}: profile= and faults=")
    return chosen
