"""The commands as a user calls them, in this process."""

import sys
from typing import Any

import pytest


def call(monkeypatch: pytest.MonkeyPatch, module: Any, *words: Any) -> int:
    """The exit code of a command, a module of metarl.cli.commands."""
    return command(module.main, monkeypatch, *words, program=f"{module.__name__}.py")


def command(
    main: Any, monkeypatch: pytest.MonkeyPatch, *words: Any, program: str = "metarl"
) -> int:
    """The exit code of a command's `main`, called as `program` with these words."""
    monkeypatch.setattr(sys, "argv", [program, *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
