"""Runs that go hand in hand, with learners that are nothing but random walks: each as if alone."""

import json

import pytest
import torch
from support.commands import numbers

from metarl.run import checkpoint
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators
from metarl.run.together import train_together
from metarl.run.train import train
from metarl.run.training import Diverged, Outcome, Training
from metarl.types import MetaLearner


class Asker(MetaLearner):
    """Asks for a number twice in an iteration, and adds both and a random one to its parameter."""

    def __init__(self, generators):
        self.seed, self.generator = generators.seed, generators("policy")
        self.x = torch.zeros(1)

    def asking(self):
        return self.iteration()

    def iteration(self):
        first = yield "first"
        second = yield "second"
        self.x += torch.randn(1, generator=self.generator) + first + second
        value = self.x.item()
        return {"env_steps": 10, "return_before": value, "return_after": value + 1}

    def step(self):
        iteration = self.iteration()
        next(iteration)
        try:
            iteration.send(answer("first"))
            iteration.send(answer("second"))
        except StopIteration as end:
            return end.value

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        self.x.copy_(state["x"])


def answer(question):
    return {"first": 1.0, "second": 10.0}[question]


def gather(asked):
    """For all at once: nobody asks for the second number before everybody has the first."""
    assert len(set(asked.values())) == 1
    return {number: answer(question) for number, question in asked.items()}


def training(folder, seed, *, iterations=6):
    folder.mkdir(parents=True, exist_ok=True)
    generators, saved = Generators(seed), folder / "checkpoints"
    resume = checkpoint.load_newest(saved)[1] if saved.exists() else None
    settings = {"iterations": iterations, "run_folder": folder, "resume_from": resume}
    more = {"provenance": {"env": "none"}, "checkpoint_every": 2}
    return {"learner": Asker(generators), "generators": generators, **settings, **more}


def together(folder, seeds=(0, 1, 2), gather=gather, **settings):
    trainings = [Training(**training(folder / f"seed{seed}", seed, **settings)) for seed in seeds]
    return train_together(
        trainings, gather, folder=folder, interval=lambda values: (min(values), max(values))
    )


@pytest.fixture
def alone(tmp_path):
    """The rows of each seed that is trained alone."""
    for seed in range(3):
        train(**training(tmp_path / "alone" / str(seed), seed))
    return [numbers(tmp_path / "alone" / str(seed)) for seed in range(3)]


def test_each_is_as_if_it_were_alone(tmp_path, alone):
    found = together(tmp_path / "all")
    assert [(own.iteration, own.count, own.interrupted) for own in found] == [(6, 60, False)] * 3
    for seed, rows in enumerate(alone):
        assert numbers(tmp_path / "all" / f"seed{seed}") == rows
        saved = checkpoint.list_checkpoints(tmp_path / "all" / f"seed{seed}" / "checkpoints")
        assert [path.stem[-1] for path in saved] == ["2", "4", "6"]


def test_the_folder_above_has_means_and_intervals_of_every_iteration(tmp_path, alone):
    together(tmp_path / "all")
    rows = read_rows(tmp_path / "all" / "metrics.jsonl")
    assert [row["iteration"] for row in rows] == list(range(6))
    for row, *of_seeds in zip(rows, *alone, strict=True):
        values = [own["return_after"] for own in of_seeds]
        assert row["return_after"] == pytest.approx(sum(values) / 3)
        assert (row["return_after_ci_low"], row["return_after_ci_high"]) == (
            min(values),
            max(values),
        )
        assert row["num_seeds"] == 3 and row["env_steps"] == of_seeds[0]["env_steps"]
    assert list((tmp_path / "all").glob("events.out.tfevents*"))


def test_those_behind_catch_up(tmp_path, alone):
    """One was killed before its last checkpoints, and one before it began."""
    folder = tmp_path / "all"
    together(folder)
    expected = numbers(folder)
    for path in checkpoint.list_checkpoints(folder / "seed1" / "checkpoints")[1:]:
        path.unlink()
    for path in (*(folder / "seed2").rglob("*.*"), folder / "seed2" / "checkpoints"):
        path.unlink() if path.is_file() else path.rmdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:3]) + '\n{"iter')
    together(folder)
    assert [numbers(folder / f"seed{seed}") for seed in range(3)] == alone
    assert numbers(folder) == expected


def test_runs_that_are_over_stay_as_they_are(tmp_path):
    together(tmp_path / "all", iterations=2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*.*")}
    assert [own.iteration for own in together(tmp_path / "all", iterations=2)] == [2, 2, 2]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*.*")} == before


def test_one_that_diverges_ends_alone_and_is_left_out_of_the_means(tmp_path, alone, capsys):
    calls = []

    def failing(asked):
        calls.append(dict(asked))
        answers = gather(asked)
        if 1 in asked and len(calls) == 6:  # the second question of the third iteration
            answers[1] = FloatingPointError("the action of world 3 is nan")
        return answers

    folder = tmp_path / "all"
    found = together(folder, gather=failing)
    assert isinstance(found[0], Outcome) and isinstance(found[2], Outcome)
    assert isinstance(found[1], Diverged) and str(found[1]) in capsys.readouterr().err
    message = "training diverged in iteration 2: the action of world 3 is nan; the state before"
    assert message in str(found[1])
    assert numbers(folder / "seed1") == alone[1][:2] and numbers(folder / "seed2") == alone[2]
    assert [row["num_seeds"] for row in numbers(folder)] == [3, 3, 2, 2, 2, 2]
    # The state before it: its random stream too.
    content = checkpoint.load_newest(folder / "seed1" / "checkpoints")[1]
    assert content["iteration"] == 2
    together(folder)
    assert numbers(folder / "seed1") == alone[1]


def test_the_line_of_the_console_has_the_interval(tmp_path, capsys):
    together(tmp_path / "all", iterations=1)
    row = json.loads((tmp_path / "all" / "metrics.jsonl").read_text())
    reach = (row["return_after_ci_high"] - row["return_after_ci_low"]) / 2
    assert f" -> {row['return_after']:.1f} ± {reach:.1f}" in capsys.readouterr().err
