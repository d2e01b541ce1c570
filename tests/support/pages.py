"""The code that stands in a page of documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def code_blocks(page: str, language: str = "python") -> list[str]:
    """The fenced blocks of `language` in `page`, a path from the repository's root, in their order."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
