"""The stand-in for Meta-World's package, where a test needs its worlds."""

import sys
from pathlib import Path

import pytest

from envs.metaworld import PYTHON

STAND_INS = Path(__file__).with_name("stand_ins")


def use_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds of Meta-World run in this Python, on the stand-in."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.setenv(PYTHON, sys.executable)
