"""Docstrings can be read by themselves: their first sentence doesn't begin in the middle of one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    file.relative_to(ROOT).as_posix()
    for top in ("metarl", "envs", "scripts", "docs")
    for file in (ROOT / top).rglob("*.py")
)

HANGING = {
    *("of", "for", "with", "without", "as", "from", "at", "by", "in", "on", "over", "along"),
    *("between", "under", "below", "before", "after", "within", "behind", "beyond", "until"),
    *("that", "those", "these", "its", "their", "whose", "same", "likewise", "else", "and", "or"),
}
"""Who begins with one of these words leaves it to the line above to say of what he speaks."""


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and text of all docstrings, those of attributes too."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = getattr(statement, "value", None)
            is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
            if isinstance(statement, ast.Expr) and is_text:
                yield statement.lineno, value.value


def hanging(source: str) -> list[str]:
    """Returns line and first words of the docstrings that don't say of what they speak."""
    return [
        f"line {line}: {' '.join(text.split()[:6])}"
        for line, text in docstrings(source)
        if text.split() and text.split()[0].lower() in HANGING
    ]


def test_docstrings_can_be_read_by_themselves() -> None:
    found = {file: lines for file in FILES if (lines := hanging((ROOT / file).read_text()))}
    assert found == {}, "begin with what it is, or what it does"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""Of an iteration."""', ["line 1: Of an iteration."]),
        ('class A:\n    x: int\n    """With as many worlds."""', ["line 3: With as many worlds."]),
        ('def f():\n    """Tasks of an iteration."""', []),
        ('def f():\n    """[W] of a step."""\n    x = "of"', []),
    ],
)
def test_hanging_docstrings_are_found(source: str, found: list[str]) -> None:
    assert hanging(source) == found
