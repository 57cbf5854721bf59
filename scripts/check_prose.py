"""Check that docstrings, comments and messages in src read like docs.python.org.

A file says "if" for conditions, so "where" is not more frequent than "if"; a module docstring has
at most 5 lines of prose; phrases that puzzle a reader are listed below, with what to write instead.
"""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PHRASES = {
    r"\b[Tt]ells? whether\b": "return whether",
    r"(?<!there )\b(is|are|was|were) none\b": "is not a valid X",
    r"(?<!there )\b(is|are|was|were) no (?!longer|more\b)[a-z]": "is not a X",
    r"\b[Nn]obody\b|\b[Ss]omebody\b|\b[Ww]hoever\b": "name the caller, the client or the user",
    r"\bwho (reads?|asks?|wants?|may|can|has|have|is|are|writes?|comes?)\b": "name the noun",
    r"\bMust not know\b": "import-linter says it",
    r"\bgone on with\b": "resumed, continued",
    r"\bwhat is (no|not)\b": "name the noun",
}
MAX_DOCSTRING_LINES = 5


def read_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment and string of a file."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT or (
                token.type == tokenize.STRING and " " in token.string
            ):
                yield token.start[0], token.string


def check(path: Path) -> Iterator[str]:
    """Yield what is wrong with a file, one line each."""
    texts = list(read_texts(path))
    for line, text in texts:
        for pattern, advice in PHRASES.items():
            for match in re.finditer(pattern, text.replace("\n", " ")):
                yield f"{path}:{line}: {match.group()!r}: {advice}"
    prose = " ".join(text for _, text in texts)
    where, condition = (len(re.findall(rf"\b{word}\b", prose)) for word in ("where", "if"))
    if where > max(1, condition):
        yield f"{path}:1: 'where' {where} times, 'if' {condition} times: say 'if' for a condition"
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    drawing = ("    ", "├", "│", "└")
    lines = [line for line in docstring.splitlines() if line and not line.startswith(drawing)]
    if len(lines) > MAX_DOCSTRING_LINES:
        yield f"{path}:1: the module docstring has {len(lines)} lines, not {MAX_DOCSTRING_LINES}"


def main() -> int:
    """Check the files and folders that the arguments name; print what is wrong."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) or [path])]
    problems = [problem for file in files for problem in check(file)]
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
