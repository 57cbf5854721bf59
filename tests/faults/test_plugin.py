"""testing.plugin: what a user's tests get, run by a pytest of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a directory in which pytest runs as a user's does: the plugin is found by itself."""
    pytester.makeini(
        "[pytest]\naddopts = -p no:cacheprovider --import-mode=importlib\nstrict = true\n"
        "filterwarnings = error\n"
    )
    return pytester


def outcome(run: pytest.Pytester, source: str) -> pytest.RunResult:
    """Run a file of tests in a process of its own."""
    run.makepyfile(source)
    return run.runpytest_subprocess("-q")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_of_the_documentation(run: pytest.Pytester, number: int) -> None:
    """docs/testing.md: each block of Python is a file of tests that passes."""
    result = outcome(run, EXAMPLES[number])
    assert result.ret == 0, result.stdout.str()
    assert "test_" in EXAMPLES[number]


def test_documentation_has_examples() -> None:
    """An empty list would pass as well."""
    assert len(EXAMPLES) >= 4


def test_fixture_is_empty_for_each_test(run: pytest.Pytester) -> None:
    """One server a session, cleared for each test."""
    result = outcome(
        run,
        """
        import urllib.request

        import pytest
        from brolga.testing.faults import Answer, FaultPlan

        ADDRESSES = set()

        @pytest.mark.parametrize("number", range(3))
        @pytest.mark.brolga_registry(
            profile="ecr", faults=FaultPlan(Answer(on="POST upload", status=500, nth=9))
        )
        def test_it(brolga_registry, number):
            ADDRESSES.add(brolga_registry.address)
            assert len(ADDRESSES) == 1
            assert brolga_registry.requests == ()
            assert brolga_registry.profile.name == "ecr"
            assert brolga_registry.pending == brolga_registry.plan.faults
            assert list(brolga_registry.directory.iterdir()) == []
            name = brolga_registry.repository("a/b")
            url = f"http://{brolga_registry.address}/v2/a/b/blobs/uploads/"
            assert name == f"{brolga_registry.address}/a/b"
            with urllib.request.urlopen(urllib.request.Request(url, b"")) as reply:
                assert reply.status == 202
            assert list(brolga_registry.uploads("a/b").values()) == [b""]
            assert brolga_registry.blobs("a/b") == {}
            assert brolga_registry.fired == ()

        def test_without_a_marker(brolga_registry):
            assert brolga_registry.profile is None
            assert brolga_registry.plan == FaultPlan()
            # The repository of the test before does not exist any more.
            brolga_registry.use(profile="ecr")
            url = f"http://{brolga_registry.address}/v2/a/b/blobs/uploads/"
            with pytest.raises(urllib.error.HTTPError, match="404") as caught:
                urllib.request.urlopen(urllib.request.Request(url, b""))
            caught.value.close()
        """,
    )
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=4)


def test_fixture_accepts_parameters(run: pytest.Pytester) -> None:
    """Indirect: a profile or its name, a plan, or a mapping of both; it wins over the marker."""
    result = outcome(
        run,
        """
        import pytest
        from brolga.testing.faults import Cut, FaultPlan
        from brolga.testing.registries import PROFILES

        PLAN = FaultPlan(Cut())
        GIVEN = ["zot", PROFILES["zot"], PLAN, {"profile": "zot", "faults": PLAN}, None]

        @pytest.mark.brolga_registry(profile="ghcr")
        @pytest.mark.parametrize("brolga_registry", GIVEN, indirect=True)
        def test_it(brolga_registry, request):
            given = request.node.callspec.params["brolga_registry"]
            profile = "ghcr" if given in (PLAN, None) else "zot"
            plan = PLAN if given == PLAN or isinstance(given, dict) else FaultPlan()
            assert brolga_registry.profile.name == profile
            assert brolga_registry.plan == plan
        """,
    )
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=5)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('profile="docker"', "no profile 'docker': there are distribution-3, "),
        ('profil="zot"', "brolga_registry knows no profil: profile= and faults="),
        ('"zot"', "brolga_registry takes profile= and faults= by their names"),
    ],
)
def test_fixture_rejects_invalid_marker(run: pytest.Pytester, marker: str, message: str) -> None:
    """An invalid marker is an error of one line, and the test does not run."""
    result = outcome(
        run,
        f"""
        import pytest

        @pytest.mark.brolga_registry({marker})
        def test_it(brolga_registry):
            raise AssertionError("it ran")
        """,
    )
    result.assert_outcomes(errors=1)
    assert message in result.stdout.str()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("uvicorn", "brolga_registry needs uvicorn: pip install 'brolga[server]'"),
        ("brolga.registry.server", "ModuleNotFoundError"),
    ],
)
def test_fixture_names_missing_extra(run: pytest.Pytester, missing: str, message: str) -> None:
    """One line says how to get what is missing; a module of ours that is missing is a bug."""
    run.makeconftest(f"import sys\nsys.modules[{missing!r}] = None\n")
    result = outcome(run, "def test_it(brolga_registry): pass")
    result.assert_outcomes(errors=1)
    assert message in result.stdout.str()


def test_help_lists_marker_and_fixture(run: pytest.Pytester) -> None:
    """`--markers` and `--fixtures` list what there is."""
    run.makepyfile("")
    assert "brolga_registry(profile=None" in run.runpytest_subprocess("--markers").stdout.str()
    assert "brolga_registry" in run.runpytest_subprocess("--fixtures").stdout.str()


def test_plugin_imports_nothing_at_start() -> None:
    """The plugin is loaded at each start of pytest: it must not slow that, or start anything."""
    code = (
        "import pytest, sys, threading; before = set(sys.modules); import brolga.testing.plugin; "
        "print(*sorted(set(sys.modules) - before)); print(threading.active_count())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    imported, threads = process.stdout.splitlines()
    packages = {"brolga", "brolga._lazy", "brolga._version", "brolga.testing"}
    assert set(imported.split()) <= {*packages, "brolga.testing.plugin"}
    assert threads == "1"


def test_clear_empties_the_registry(run: pytest.Pytester) -> None:
    """`clear` empties the registry within a test; `use` lets what is stored be."""
    result = outcome(
        run,
        """
        import brolga
        from brolga.testing.faults import DropAnswer, FaultPlan

        def test_it(brolga_registry):
            for number in range(2):
                brolga_registry.clear(profile="zot", faults=FaultPlan(DropAnswer()))
                layer = brolga.StreamLayer(iter([b"%d" % number]), tar=False)
                brolga.push_layer(brolga_registry.repository("a/b"), layer)
                assert brolga_registry.pending == ()
                brolga_registry.use(profile="ghcr")
                assert list(brolga_registry.blobs("a/b")) == [str(layer.digest)]
                assert brolga_registry.profile.name == "ghcr"
        """,
    )
    assert result.ret == 0, result.stdout.str()
