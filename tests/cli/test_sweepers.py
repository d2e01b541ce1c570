"""The number that a training returns to a sweeper of Hydra, and sweepers that aren't there."""

import json

import pytest

from metarl.cli import sweepers
from metarl.cli.sweepers import check, score
from metarl.errors import UserError


def write(file, name, values):
    file.write_text("".join(json.dumps({"iteration": i, name: v}) + "\n" for i, v in values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("return_after", 18.5), ("return", 18.5), ("accuracy", 18.5), ("mse_after", -18.5)],
)
def test_without_evaluations_it_is_the_mean_of_the_last_tenth(tmp_path, name, expected):
    write(tmp_path / "metrics.jsonl", name, enumerate(range(20)))
    assert score(tmp_path) == expected


def test_of_few_rows_the_last_one_counts(tmp_path):
    write(tmp_path / "metrics.jsonl", "return_after", [(0, 1.0), (1, 3.0)])
    assert score(tmp_path) == 3.0


def test_with_evaluations_it_is_that_of_the_best_checkpoint(tmp_path):
    write(tmp_path / "metrics.jsonl", "return_after", [(0, 100.0)])
    write(tmp_path / "evaluations.jsonl", "score", [(9, -3.0), (19, -1.0), (29, -2.0)])
    assert score(tmp_path) == -1.0


def test_a_run_without_a_number_has_none(tmp_path):
    assert score(tmp_path) is None
    write(tmp_path / "metrics.jsonl", "loss", [(0, 1.0)])
    assert score(tmp_path) is None
    write(tmp_path / "metrics.jsonl", "return_after", [(0, float("nan"))])
    assert score(tmp_path) is None


def test_a_sweeper_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sweepers, "is_installed", lambda package: False)
    with pytest.raises(UserError, match=r"sweeper=ax isn't installed: pip install hydra-ax-swe"):
        check("ax", multirun=True)
    monkeypatch.setattr(sweepers, "is_installed", lambda package: True)
    check("ax", multirun=True)
    with pytest.raises(UserError, match="sweeper=ax: sweepers choose the runs of a sweep; say -m"):
        check("ax", multirun=False)


@pytest.mark.parametrize(("name", "multirun"), [("basic", False), ("somebodys", True)])
def test_hydras_own_and_somebodys_sweeper_are_left_to_hydra(name, multirun):
    check(name, multirun=multirun)
