"""Every command of the README and of docs/ is one that the commands take."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarl.cli import configs
from metarl.cli.overrides import check_overrides

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"(?:scripts/(\w+)\.py|\bmetarl-(\w+))\s+(.*)")


def lines(text: str) -> Iterator[str]:
    """A page's lines of shell, whole, and what stands in backquotes."""
    for block in BLOCK.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"`([^`]+)`", BLOCK.sub("", text)):
        yield span.replace("\n", " ")


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands and their words; a place to be filled in, <run folder>, stands as `x`. Those
    that need configs of the user's own, and Hydra's own words, are left out."""
    for line in lines(text):
        if found := COMMAND.search(re.sub(r"<[^>]*>", "x", line)):
            command = found[1] or found[2]
            words = shlex.split(re.split(r" [|>&]|; ", found[3])[0], comments=True)
            is_ours = (ROOT / "configs" / f"{command}.yaml").exists()
            if is_ours and "--config-dir" not in words and "…" not in found[3]:
                yield command, words


def documented() -> list[tuple[str, tuple[str, ...]]]:
    return sorted(
        {
            (command, tuple(words))
            for page in PAGES
            for command, words in commands(page.read_text(encoding="utf-8"))
        }
    )


@pytest.mark.parametrize(("command", "words"), documented())
def test_a_documented_command_is_taken(command: str, words: tuple[str, ...]) -> None:
    plain = [word for word in words if not word.startswith(("-", "hydra", "+hydra"))]
    plain = [word for word in plain if "interval(" not in word]  # is for sweepers of others
    if command == "benchmark" and "=" not in plain[0]:
        plain[0] = f"what={plain[0]}"
    known = [word for word in plain if not word.startswith(("env=x", "algo=x"))]
    check_overrides(command, known, [configs.CONFIGS], sweep="-m" in words, required=False)


def test_commands_are_found() -> None:
    text = "Say\n\n```bash\npython scripts/train.py env=bandit \\\n  seed=1  # why\n```\nor `metarl-zoo output=<a folder>`."
    assert list(commands(text)) == [
        ("train", ["env=bandit", "seed=1"]),
        ("zoo", ["output=x"]),
    ]
