"""The commands as a user calls them, in this process."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from metarl.run.rows import read_rows
from metarl.run.timing import without_timing

SMALL_BANDIT: dict[str, Any] = {
    "iterations": 1,
    "device": "cpu",
    "env": {"horizon": 4, "num_arms": 3},
    "algo": {"meta_batch_size": 2, "num_minibatches": 1},
    "model": {"memory": {"hidden_size": 32}, "head_sizes": []},
    "evaluation": {"num_tasks": 2, "video": False},
}
"""A training of rl2_ppo on bandit that takes a second, for metarl.train."""


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


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: Any, *words: Any
) -> str:
    """What a command says that can't be done: it ends with exit code 2, and without a traceback."""
    assert call(monkeypatch, module, *words) == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown, shown
    return shown


def instead(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words, of which the others replace those of the same key, and with a group (`model=mlp`)
    all that was said of it."""
    keys = {word.split("=")[0] for word in others}
    kept = [w for w in words if keys.isdisjoint((w.split("=")[0], w.split("=")[0].split(".")[0]))]
    return [*kept, *others]


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, without what the machine decides."""
    return [without_timing(row) for row in read_rows(folder / "metrics.jsonl")]
