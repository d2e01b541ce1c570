"""The command estimators, on a world so small that it takes a second."""

from pathlib import Path

import pytest
from support.commands import call

from metarl.cli.commands import estimators
from metarl.rl.meta_gradient_estimators import ESTIMATORS as LAB


def test_the_table_has_a_row_for_each_estimator_and_lies_in_the_folder_beside_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(
            monkeypatch,
            estimators,
            "num_states=2",
            "horizon=2",
            "num_estimates=16",
            f"output={tmp_path}/lab",
        )
        == 0
    )
    told = capsys.readouterr()
    shown = told.out
    assert "2 states, 2 actions, 2 steps, seed 5" in shown and "of rate 1, and 16" in shown
    assert told.err.startswith("1/18 sampled updates, K = 1, first_order\n")
    rows = [line.split(" | ") for line in shown.splitlines() if line.startswith("| ")][1:]
    expected = {
        (of, str(k), f"`{name}`") for of, names in LAB.items() for k in (1, 2) for name in names
    }
    assert {(of.removeprefix("| "), k, name) for of, k, name, *_ in rows} == expected
    assert (tmp_path / "lab/estimators.md").read_text() == shown
    assert (tmp_path / "lab/estimators.png").read_bytes().startswith(b"\x89PNG")


def test_steps_that_leave_no_gradient_are_a_line_and_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("num_states=2", "horizon=2", "num_estimates=16", "inner_lr=1e9")
    assert call(monkeypatch, estimators, *words) == 2
    told = capsys.readouterr()
    assert (
        "inner_lr=1000000000.0: " in told.err
        and "expected a smaller" in told.err
        and told.out == ""
    )
