"""eval_every, best.pt and loggers through the commands, as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import call
from support.few_shot import write_picture
from support.walker import rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import metarl
from metarl.cli import checkpoints, configs, fewshot_build, held_out
from metarl.cli.commands import evaluate, fewshot, train, zoo
from metarl.errors import UserError
from metarl.fewshot.digits import digits
from metarl.fewshot.sinusoid import Sinusoid
from metarl.report.held_out import measures_row, returns_row
from metarl.run import checkpoint
from metarl.run.seeding import Generators
from metarl.run.timing import TIMING
from metarl.struct import map_tensors

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("env=point_navigation_2d", "env.horizon=10", "device=cpu", "evaluation.video=false"),
    *("evaluation.num_tasks=2", "evaluation.num_updates=0", "eval_tasks=3", "checkpoint_every=4"),
]
MAML = [
    *(*TINY, "algo.num_epochs=1", "algo.meta_batch_size=2", "algo.episodes_per_task=2"),
    *("algo.num_inner_steps=1", "model.hidden_sizes=[4]"),
]
RL2 = [
    *(*TINY, "algo=rl2_ppo", "algo.meta_batch_size=2", "algo.episodes_per_trial=2"),
    *("algo.num_minibatches=1", "algo.num_epochs=1"),
]
PEARL = [
    *(*TINY, "env.horizon=3", "env.num_train_tasks=4", "algo=pearl", "algo.meta_batch_size=2"),
    *("algo.initial_steps=6", "algo.prior_steps=6", "algo.rl_steps=3", "algo.batch_tasks=2"),
    *("algo.updates_per_iteration=2", "algo.batch_size=4", "algo.context_size=4"),
    *("algo.replay_capacity=40", "model.encoder_sizes=[4]", "model.hidden_sizes=[4]"),
]
SHOTS = [
    *("dataset=sinusoid", "learner=maml", "backbone.sizes=[4]", "device=cpu", "log_every=2"),
    *("adaptation.meta_batch_size=2", "evaluation.num_tasks=3", "evaluation.pictures=false"),
    *("checkpoint_every=4", "eval_tasks=4"),
]


def state(folder):
    """All that follows from the seed: the learner, and the random streams."""
    found = checkpoint.load_newest(folder / "checkpoints")[1]
    return str(map_tensors(torch.Tensor.tolist, (found["learner"], found["generators"])))


def test_it_is_said_where_classes_that_choose_judge_too(tmp_path, monkeypatch, capsys):
    for dataset, said in (("digits", True), ("sinusoid", False)):
        words = [*SHOTS, f"dataset={dataset}", "iterations=2", "eval_every=2"]
        assert not call(monkeypatch, fewshot, *words, f"run_dir={tmp_path / dataset}")
        shown = "digits's test classes choose the best checkpoint and judge it at the end, too"
        assert (shown in capsys.readouterr().err) == said


def test_classes_that_are_set_aside_choose_and_their_setting_is_named(
    tmp_path, monkeypatch, capsys
):
    for k in range(6):
        for i in range(4):
            write_picture(tmp_path / "own" / f"class{k}" / f"{i}.png", 30 * k + i)
    words = [*SHOTS, "dataset=folder", f"dataset.root={tmp_path / 'own'}", "backbone=mlp_digits"]
    words += ["dataset.image_size=2", "ways=2", "queries=2", "iterations=2", "eval_every=2"]
    words.remove("backbone.sizes=[4]")
    asked, told = "dataset.validation_share=0.2", "choose the best checkpoint and judge it"
    for run, more in (("without", []), ("with", [asked])):
        assert not call(monkeypatch, fewshot, *words, *more, f"run_dir={tmp_path / run}")
        shown = capsys.readouterr().err
        assert ((told in shown), (asked in shown)) == (not more, not more)


@pytest.mark.parametrize(
    ("command", "words"),
    [(train, MAML), (train, RL2), (train, PEARL), (fewshot, SHOTS)],
    ids=["maml_ppo", "rl2_ppo", "pearl", "few-shot"],
)
def test_evaluations_change_no_number_of_the_training(tmp_path, monkeypatch, command, words):
    both = tmp_path / "with", tmp_path / "without"
    for folder, more in zip(both, (["eval_every=2"], []), strict=True):
        assert call(monkeypatch, command, *words, *more, "iterations=4", f"run_dir={folder}") == 0
    assert rows(both[0], "metrics") == rows(both[1], "metrics") != []
    assert state(both[0]) == state(both[1])
    reports = [json.loads((folder / "evaluation.json").read_text()) for folder in both]
    for report in reports:
        del report["command"]
        report.pop("overrides", None)
    assert reports[0] == reports[1]
    found = rows(both[0], "evaluations")
    assert [row["iteration"] for row in found] == [2, 4]
    assert found[0]["score"] != found[1]["score"]


@pytest.mark.parametrize(("words", "num_at_end"), [([], 40), (["evaluation.num_tasks=60"], 60)])
def test_tasks_that_choose_the_best_state_are_not_those_that_judge_it(
    tmp_path, monkeypatch, words, num_at_end
):
    """Nor are they those that an evaluation takes which isn't told how many: the first 40."""
    seen = {}

    def measured(adapter, env, streams, *, num_tasks, skip, **_):
        seen["tasks"] = env.prior.test_tasks(skip + num_tasks).goal[skip:]
        seen["at the end"] = env.prior.test_tasks(num_at_end).goal
        return {"score": 0.0, "return_iqm_1": 0.0}

    monkeypatch.setattr(held_out, "measured_returns", measured)
    words = [*MAML, "iterations=1", "eval_every=1", f"run_dir={tmp_path / 'run'}", *words]
    assert call(monkeypatch, train, *words) == 0
    assert len(seen["tasks"]) == 3 and len(seen["at the end"]) == num_at_end
    assert not (seen["tasks"][:, None] == seen["at the end"][None]).all(-1).any()


def test_a_short_list_of_tasks_is_told_and_not_gone_over_twice(tmp_path, monkeypatch, capsys):
    words = [*MAML, "env=point_navigation_2d_sparse_pearl", "iterations=1", "eval_every=1"]
    words += ["evaluation.num_tasks=20", f"run_dir={tmp_path / 'run'}"]
    assert call(monkeypatch, train, *words) == 0
    said = "point_navigation_2d_sparse_pearl has 20 held-out tasks; some that choose the best checkpoint"
    assert said in capsys.readouterr().err
    words = [*words[:-2], "evaluation.num_tasks=21", f"run_dir={tmp_path / 'other'}"]
    assert call(monkeypatch, train, *words) == 2
    assert "num_tasks 21: expected at most 20" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_tasks_of_an_environment_that_has_few_choose_and_judge_and_that_is_told(
    tmp_path, monkeypatch, capsys
):
    """Forwards and backwards, in turn."""
    folder = tmp_path / "run"
    words = [*MAML, "env=half_cheetah_dir", "env.horizon=3", "iterations=1", "eval_every=1"]
    assert call(monkeypatch, train, *words, "sim.num_threads=1", f"run_dir={folder}") == 0
    assert "half_cheetah_dir has 2 held-out tasks; some that choose" in capsys.readouterr().err
    asked = ("num_updates=0", "num_tasks=2", "device=cpu", f"output={tmp_path / 'found.json'}")
    assert call(monkeypatch, evaluate, f"checkpoint={folder}/best", *asked) == 0
    assert "of these tasks have chosen this state" in capsys.readouterr().out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Never written to."""
    folder = tmp_path_factory.mktemp("held_out") / "run"
    with pytest.MonkeyPatch.context() as patch:
        words = ("iterations=3", "eval_every=1", "algo.outer_lr=0.1", f"run_dir={folder}")
        assert call(patch, train, *MAML, *words) == 0
    return folder


def test_every_command_takes_the_best_state(finished, tmp_path, monkeypatch):
    scores = [row["score"] for row in rows(finished, "evaluations")]
    iteration = scores.index(max(scores)) + 1
    file = tmp_path / "best.json"
    sizes = ("num_tasks=2", "num_updates=0", "device=cpu", f"output={file}")
    assert call(monkeypatch, evaluate, f"checkpoint={finished}/best", *sizes) == 0
    report = json.loads(file.read_text())
    assert report["iteration"] == iteration
    assert report["checkpoint"] == str(finished / "checkpoints" / "best.pt")
    found = metarl.load(finished / "best").evaluate(num_tasks=1, num_updates=0)
    assert found.report["iteration"] == iteration
    assert zoo.packed(zoo.finished(f"{finished}/best"), half=False)["iteration"] == iteration
    assert checkpoints.load(f"{finished}/checkpoints/best").content["iteration"] == iteration


def test_tasks_that_have_chosen_the_state_that_they_judge_are_told(
    finished, tmp_path, monkeypatch, capsys
):
    """The 3 behind the first 40."""
    words = ("num_updates=0", "device=cpu", f"output={tmp_path / 'found.json'}")
    for num_tasks, name, told in ((42, "best", True), (40, "best", False), (42, "", False)):
        asked = (f"checkpoint={finished}/{name}", f"num_tasks={num_tasks}", *words)
        assert call(monkeypatch, evaluate, *asked) == 0
        assert ("2 of these tasks have chosen this state" in capsys.readouterr().out) == told


def test_states_are_compared_as_they_are_evaluated_at_the_end(tmp_path, monkeypatch):
    seen = []

    def measured(adapter, *args, acting, **_):
        seen.append((adapter, acting))
        return {"score": 0.0, "return_iqm_1": 0.0}

    monkeypatch.setattr(held_out, "measured_returns", measured)
    asked = ("evaluation.deterministic=true", "evaluation.inner_lr_decay=0.25")
    for name, words in (("as trained", ()), ("otherwise", asked)):
        words = ("algo.inner_rule=sgd", "algo.inner_lr_decay=0.5", *words, "eval_every=1")
        words = (*words, "iterations=1", f"run_dir={tmp_path / name}")
        assert call(monkeypatch, train, *MAML, *words) == 0
    (trained, sampled), (other, mode) = seen
    assert (sampled, mode) == ("sampled", "mode_beside")
    rates = [adapter._inner_update.rule.decay for adapter in (trained, other)]
    assert rates == [0.5, 0.25]


def test_the_mean_that_is_asked_for_chooses_the_best_state(tmp_path, monkeypatch):
    """The mean falls from one evaluation to the next while the IQM rises. By the mean the first
    state is the best, by the IQM the last one."""
    found = iter(range(4))

    def measured(*args, scored_by, num_updates, **how):
        number = next(found)
        row = returns_row(
            {
                "returns": [
                    {"mean": 10 - number, "iqm": number, "update": k, "ci_low": 0.0, "ci_high": 0.0}
                    for k in range(num_updates + 1)
                ]
            },
            num_updates,
            scored_by,
        )
        return {name: float(value) for name, value in row.items()}

    monkeypatch.setattr(held_out, "measured_returns", measured)
    folder = tmp_path / "run"
    best = lambda: checkpoint.load(folder / "checkpoints" / "best.pt")
    asked = ("iterations=2", "eval_every=1", "eval_by=mean", f"run_dir={folder}")
    assert call(monkeypatch, train, *MAML, *asked) == 0
    assert [row["score"] for row in rows(folder, "evaluations")] == [10.0, 9.0]
    assert best()["iteration"] == 1
    # The best checkpoint so far has a mean of 10 and an IQM of 0: 2 is more than that.
    assert call(monkeypatch, train, f"resume={folder}", "iterations=3", "eval_by=iqm") == 0
    assert best()["iteration"] == 3
    # Now the best has a mean of 8 and an IQM of 2: 7 is less than that.
    assert call(monkeypatch, train, f"resume={folder}", "iterations=4", "eval_by=mean") == 0
    assert best()["iteration"] == 3 and best()["held_out"]["score"] == 2.0


def test_a_best_state_that_is_not_there_is_said(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert call(monkeypatch, train, *MAML, "iterations=1", f"run_dir={folder}") == 0
    for command, word in ((evaluate, "checkpoint"), (train, "resume")):
        assert call(monkeypatch, command, f"{word}={folder}/best") == 2
        expected = (
            f"error: no best checkpoint at {folder}/checkpoints/best.pt: expected a run with "
            "eval_every, after its first evaluation"
        )
        assert expected in capsys.readouterr().err
    with pytest.raises(UserError, match=r"no best checkpoint at .*best\.pt"):
        metarl.load(folder / "best")


def curves(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.rpartition("/")[2] not in TIMING
    }


def test_killed_in_the_middle_it_resumes_to_the_same_files(tmp_path, monkeypatch):
    """By kill -9, in a process of its own; and goes on from the best checkpoint as from any other."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = [*MAML, "env.horizon=5", "iterations=16", "eval_every=3", "loggers=[csv,tensorboard]"]
    assert call(monkeypatch, train, *words, f"run_dir={whole}") == 0
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "train.py", *words, f"run_dir={killed}"],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 300
    while len(rows(killed, "metrics")) < 8:
        assert process.poll() is None and time.monotonic() < deadline, "it ended or hung"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(rows(killed, "metrics")) < 16
    assert call(monkeypatch, train, f"resume={killed}") == 0
    for name in ("metrics", "evaluations"):
        assert rows(killed, name) == rows(whole, name)
    for place in (".", "by_env_steps"):
        assert curves(killed / place) == curves(whole / place)
    best = [checkpoint.load(folder / "checkpoints/best.pt") for folder in (killed, whole)]
    assert str(best[0]["learner"]) == str(best[1]["learner"])
    assert call(monkeypatch, train, f"resume={killed}/best") == 0
    assert rows(killed, "metrics") == rows(whole, "metrics")


def test_loggers_are_chosen_from_a_list(tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, train, "loggers=[tensorbord]") == 2
    assert "tensorboard, csv, wandb or mlflow" in capsys.readouterr().err
    monkeypatch.setattr("metarl.run.loggers.opening.find_spec", lambda _: None)
    folder = tmp_path / "run"
    assert call(monkeypatch, train, *MAML, "loggers=[csv,wandb]", f"run_dir={folder}") == 2
    expected = (
        "error: loggers: wandb isn't installed; expected it (pip install 'metarl[wandb]'), or "
        "loggers without wandb\n"
    )
    assert capsys.readouterr().err.endswith(expected)
    assert not folder.exists()


def test_several_seeds_are_logged_each_and_together(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    words = ("iterations=2", "num_seeds=2", "eval_every=1", "loggers=[csv]", f"run_dir={folder}")
    assert call(monkeypatch, train, *MAML, *words) == 0
    for place in (folder, folder / "seed0", folder / "seed1"):
        assert {path.name for path in place.glob("*.csv")} == {"metrics.csv", "evaluations.csv"}
        assert len((place / "evaluations.csv").read_text().splitlines()) == 3
    of_each = [rows(folder / f"seed{seed}", "evaluations")[0]["score"] for seed in (0, 1)]
    assert rows(folder, "evaluations")[0]["score"] == pytest.approx(sum(of_each) / 2)
    assert (folder / "seed1" / "checkpoints" / "best.pt").exists()


def test_rows_are_flat_numbers_with_the_ends_of_their_intervals():
    found = {"mean": 1.0, "iqm": 2.0, "ci_low": 1.5, "ci_high": 2.5}
    solved = {"success_rate": 0.5, "success_ci_low": 0.4, "success_ci_high": 0.6}
    report = {"returns": [{"update": 0, **found}, {"update": 1, **found, "iqm": 3.0, **solved}]}
    row = returns_row(report, scored=3, scored_by="iqm")
    assert row["score"] == row["return_iqm_1"] == 3.0
    assert (row["return_iqm_0_ci_low"], row["success_rate_1_ci_high"]) == (1.5, 0.6)
    assert returns_row(report, scored=0, scored_by="iqm")["score"] == 2.0
    assert returns_row(report, scored=3, scored_by="mean") == row | {"score": 1.0}
    of_errors = {"measure": "mse", "updates": [{"update": 0, "mean": 4.0, "half_width": 1.0}]}
    expected = {"score": -4.0, "mse_0": 4.0, "mse_0_ci_low": 3.0, "mse_0_ci_high": 5.0}
    assert measures_row(of_errors, less_is_better=True) == expected
    of_errors["updates"][0] |= {"mean": None, "diverged": 2}
    with pytest.raises(FloatingPointError, match="mse_0 isn't finite for 2 tasks"):
        measures_row(of_errors, less_is_better=True)


@pytest.mark.parametrize(
    ("dataset", "split", "score"), [("sinusoid", "validation", -0.4), ("digits", "test", 0.4)]
)
def test_few_shot_states_are_compared_on_tasks_of_their_own(monkeypatch, dataset, split, score):
    seen = []

    def evaluated(adapter, source, size, *, split, tasks, num_tasks, **_):
        seen.append((split, num_tasks, torch.rand(3, generator=tasks()).tolist()))
        rows = [{"update": 0, "mean": 9.0, "half_width": 0.1}]
        return {
            "measure": "measure",
            "updates": [*rows, {"update": 1, "mean": 0.4, "half_width": 0.1}],
        }

    monkeypatch.setattr(held_out, "evaluate", evaluated)
    words = [*SHOTS, f"dataset={dataset}", "eval_every=2"]
    config = OmegaConf.create(configs.composed("fewshot", words, [configs.CONFIGS])[0])
    source, cpu = {"digits": digits, "sinusoid": Sinusoid}[dataset](), torch.device("cpu")
    asked = held_out.measures(config, source, cpu)
    learner = fewshot_build.learner(config, source, Generators(1), cpu)
    assert [asked.measure(learner)["score"] for _ in range(2)] == [score] * 2
    at_end = Generators(config.evaluation.seed)("evaluation")
    assert seen[0] == seen[1] and seen[0][:2] == (split, 4)
    assert seen[0][2] != torch.rand(3, generator=at_end).tolist()
