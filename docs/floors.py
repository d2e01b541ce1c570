"""Draws the floors of the suite into docs/architecture.md, from the import statements.

    python docs/floors.py

A part is a room (a folder of metarl/ or envs/, or scripts/) or a file that lies beside the rooms.
It stands one floor above the highest part that it imports.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from metarl.files import write_text  # noqa: E402

PAGE = ROOT / "docs/architecture.md"
DIAGRAM = re.compile(r"(?<=```floors\n).*?(?=```)", re.DOTALL)

Imports = Mapping[str, set[str]]
"""A part -> the other parts that it imports."""


def main() -> None:
    write_text(PAGE, DIAGRAM.sub(lambda _: diagram(imported()), PAGE.read_text("utf-8")))


def diagram(parts: Imports) -> str:
    """Returns the floors, highest first. Behind each part stand those that it imports, without what
    these stand on already.

    Raises: ValueError naming the parts of a circle.
    """
    floors = {part: floor(part, parts) for part in parts}
    width = max(map(len, parts))
    lines = []
    for level in range(max(floors.values()), -1, -1):
        lines.append(f"floor {level}")
        for part in sorted(part for part in parts if floors[part] == level):
            below = f"on {', '.join(nearest(part, parts))}" if parts[part] else ""
            lines.append(f"  {part:{width}}  {below}".rstrip())
    return "\n".join(lines) + "\n"


def floor(part: str, parts: Imports, above: tuple[str, ...] = ()) -> int:
    if part in above:
        raise ValueError(f"a circle of imports: {' -> '.join([*above[above.index(part) :], part])}")
    return max((1 + floor(below, parts, (*above, part)) for below in parts[part]), default=0)


def nearest(part: str, parts: Imports) -> list[str]:
    """Returns the imported parts that no other imported part stands on."""
    return sorted(
        parts[part] - set().union(*(everything_below(below, parts) for below in parts[part]))
    )


def everything_below(part: str, parts: Imports) -> set[str]:
    return parts[part].union(*(everything_below(below, parts) for below in parts[part]))


def imported() -> dict[str, set[str]]:
    """Returns all parts of the suite and what they import, in functions too."""
    files = {
        file: part_of(file)
        for top in ("metarl", "envs", "scripts")
        for file in (ROOT / top).rglob("*.py")
    }
    parts: dict[str, set[str]] = {part: set() for part in files.values()}
    for file, part in files.items():
        parts[part] |= {
            owner
            for name in imports(file.read_text("utf-8"))
            if (owner := owner_of(name, frozenset(parts)))
        } - {part}
    return parts


def part_of(file: Path) -> str:
    """Returns metarl.rl for a file in metarl/rl/data/, metarl.types for metarl/types.py, envs for
    envs/__init__.py."""
    path = file.relative_to(ROOT).with_suffix("").parts
    if path[0] == "scripts" or path[1] == "__init__":
        return path[0]
    return ".".join(path[:2])


@functools.cache
def owner_of(name: str, parts: frozenset[str]) -> str | None:
    """Returns the part that holds the imported name, None where it is another library's."""
    above = name.split(".")
    return next((part for end in (2, 1) if (part := ".".join(above[:end])) in parts), None)


def imports(source: str) -> Iterator[str]:
    """Yields all that a source imports anywhere, in functions too; `from a import b` as a.b.
    Relative ones start with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{name.name}" for name in node.names)


if __name__ == "__main__":
    main()
