"""The pytest fixture `brolga_registry`: a registry for a test, with the faults of the test.

One server serves a session, started when the first test needs it; each test gets its own directory,
plan and counts. pytest loads this module at every start, so it imports the server lazily.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from brolga.testing.faults import Fault, FaultPlan
    from brolga.testing.injector import Injector
    from brolga.testing.registries import Profile
    from brolga.testing.run import RecordedRequest


_MARKER: Final = "brolga_registry"
_CHOICES: Final = frozenset({"profile", "faults"})


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(profile=None, faults=None): "
        "the registry that the fixture emulates, and its FaultPlan",
    )


class BrolgaRegistry:
    """A running registry, empty at the start of a test.

    `address` is `127.0.0.1:PORT`; `directory` has an image layout for each repository.
    """

    def __init__(self, address: str, directory: Path, injector: Injector) -> None:
        self.address = address
        self.directory = directory
        self._injector = injector

    def repository(self, name: str) -> str:
        """Return `ADDRESS/NAME`; create the repository if the profile requires it."""
        self._injector.create(name)
        return f"{self.address}/{name}"

    def use(self, *, profile: Profile | str | None = None, faults: FaultPlan | None = None) -> None:
        """Replace the profile and the faults, and restart the counts; the contents stay."""
        self._injector.use(faults, profile)

    def clear(
        self, *, profile: Profile | str | None = None, faults: FaultPlan | None = None
    ) -> None:
        """Do as `use`, and delete the contents: for a test that draws many cases."""
        self.use(profile=profile, faults=faults)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._injector.use_directory(self.directory)

    @property
    def plan(self) -> FaultPlan:
        """The faults in force."""
        return self._injector.plan

    @property
    def profile(self) -> Profile | None:
        """The profile in force; None is the embedded registry's own behaviour."""
        return self._injector.profile

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests, in the order of their arrival."""
        return self._injector.requests

    @property
    def fired(self) -> tuple[Fault, ...]:
        """The faults that fired, in order, each as often as it did."""
        return self._injector.fired

    @property
    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not fired: a test with faults asserts that it is empty."""
        return self._injector.pending

    def blobs(self, name: str) -> dict[str, bytes]:
        """Return the blobs of a repository, by digest."""
        from brolga.disk.layout import LayoutDirectory

        paths = [path for path, _ in LayoutDirectory(self.directory / name).scan_blobs()]
        return {f"{path.parent.name}:{path.name}": path.read_bytes() for path in paths}

    def uploads(self, name: str) -> dict[str, bytes]:
        """Return the bytes of the open sessions of a repository, by their ids."""
        from brolga.disk.layout import LayoutDirectory

        paths = [path for path, _ in LayoutDirectory(self.directory / name).scan_uploads()]
        return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def _brolga_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Injector]]:
    """Run one server until the end of the session."""
    try:
        from brolga.registry.server import running
        from brolga.testing.injector import Injector
        from brolga.testing.middleware import fault_middleware
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "brolga":
            raise
        message = f"{_MARKER} needs {package}: pip install 'brolga[server]'"
        raise pytest.UsageError(message) from error
    injector = Injector()
    directory = tmp_path_factory.mktemp("brolga-registry")
    with running(directory, middleware=fault_middleware(injector)) as address:
        yield address, injector


@pytest.fixture
def brolga_registry(
    request: pytest.FixtureRequest, _brolga_server: tuple[str, Injector], tmp_path: Path
) -> Iterator[BrolgaRegistry]:
    """Provide an empty registry with the profile and the faults of the marker or parameter."""
    address, injector = _brolga_server
    choices = _choices(request)
    directory = tmp_path / "brolga-registry"
    try:
        injector.use(choices.get("faults"), choices.get("profile"))
    except ValueError as error:
        raise pytest.UsageError(f"{_MARKER}: {error}") from error
    injector.use_directory(directory)
    yield BrolgaRegistry(address, directory, injector)
    # Release stalled requests, and keep the counts of this test out of the next one.
    injector.use()


def _choices(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Return the arguments of the marker and the parameter, which wins. Raises UsageError."""
    marker = request.node.get_closest_marker(_MARKER)
    choices: dict[str, Any] = {}
    if marker is not None:
        if marker.args:
            raise pytest.UsageError(f"{_MARKER} takes profile= and faults= by their names")
        choices |= marker.kwargs
    parameter = getattr(request, "param", None)
    if isinstance(parameter, Mapping):
        choices |= parameter
    elif parameter is not None:
        is_profile = isinstance(parameter, str) or type(parameter).__name__ == "Profile"
        choices["profile" if is_profile else "faults"] = parameter
    unknown = sorted(set(choices) - _CHOICES)
    if unknown:
        raise pytest.UsageError(f"{_MARKER} knows no {', '.join(unknown)}: profile= and faults=")
    return choices
