"""The commands as a user calls them, in this process."""

import sys
from typing import Any

import pytest


def call(monkeypatch: pytest.MonkeyPatch, command: Any, *words: Any) -> int:
    """The exit code of a command, a module of metarl.cli.commands."""
    monkeypatch.setattr(sys, "argv", [f"{command.__name__}.py", *map(str, words)])
    try:
        command.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
