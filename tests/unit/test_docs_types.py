"""The documents' Python examples under a type checker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    path.relative_to(ROOT).as_posix(): blocks
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if (blocks := PYTHON.findall(path.read_text()))
}


def check_types(directory: Path, programs: dict[str, str]) -> str:
    """Return what mypy --strict prints about programs, each a module of its own."""
    files = []
    for name, program in programs.items():
        file = directory / re.sub(r"\W", "_", name).lower()
        files.append(file.with_suffix(".py"))
        files[-1].write_text(f"from __future__ import annotations\n{program}")
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "examples")]
    report, errors, _ = api.run(["--strict", "--config-file=", *cache, *map(str, files)])
    assert errors == ""
    return report.replace(f"{directory}/", "")


def test_each_documented_example_passes_mypy_strict(tmp_path: Path) -> None:
    """The blocks of a document are one program. Its users check their own with the same types."""
    programs = {name: "\n".join(blocks) for name, blocks in EXAMPLES.items()}
    assert len(programs) > 5
    assert check_types(tmp_path, programs).startswith("Success")


@pytest.mark.parametrize("name", ["StreamLayr", "errors.NotFond"])
def test_a_name_that_does_not_exist_is_an_error_of_mypy(tmp_path: Path, name: str) -> None:
    """Names are loaded when they are used, which must not make every name an object."""
    program = f"import brolga\nimport brolga.errors\n\nprint(brolga.{name})\n"
    report = check_types(tmp_path, {"wrong": program})
    assert "has no attribute" in report
