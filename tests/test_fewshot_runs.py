"""Whole few-shot runs through the command, as a user starts them: what they leave behind, how they
go on, what they refuse."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import command

from metarl.cli import configs, fewshot_build, fewshot_report
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import fewshot as fewshot_command
from metarl.cli.commands import train as train_command
from metarl.fewshot.algorithms.meta_lstm import MetaLstm
from metarl.fewshot.digits import digits
from metarl.fewshot.evaluate import predictions
from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import TaskSize
from metarl.run.seeding import Generators
from metarl.run.timing import without_timing

TINY = [
    *(
        "dataset=digits",
        "ways=3",
        "backbone.sizes=[8]",
        "adaptation.meta_batch_size=2",
        "checkpoint_every=2",
    ),
    *("evaluation.num_tasks=20", "evaluation.pictures=false", "device=cpu"),
]


def fewshot(monkeypatch, *arguments) -> int:
    return command(fewshot_command.main, monkeypatch, *arguments)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_metrics_evaluation_and_pictures(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    sizes = [word for word in TINY if "pictures" not in word]
    assert fewshot(monkeypatch, *sizes, "iterations=3", f"run_dir={folder}") == 0
    pictures = {"tasks.png", "learning_curve.png"}
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "evaluation.json", *pictures} <= {
        path.name for path in folder.iterdir()
    }
    assert [row["tasks"] for row in rows(folder)] == [2, 4, 6] and "accuracy" in rows(folder)[0]
    report = json.loads((folder / "evaluation.json").read_text())
    assert [row["update"] for row in report["updates"]] == [0, 1, 2, 3]
    assert (
        report["dataset"] == "digits"
        and report["transductive"]
        and report["spec_hash"]
        and report["commit"]
    )
    assert [row["update"] for row in report["references"]["random initialisation"]] == [0, 1, 2, 3]
    shown = capsys.readouterr()
    assert "3-way 1-shot, 20 test tasks (transductive)" in shown.out and "accuracy 0." in shown.err


def test_curves_are_drawn_of_the_sinusoid(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    sizes = ("iterations=1", "backbone.sizes=[4]", "evaluation.num_tasks=5", "learner=fomaml")
    assert fewshot(monkeypatch, "dataset=sinusoid", *sizes, f"run_dir={folder}") == 0
    assert (folder / "curves.png").stat().st_size > 10_000 and "mse" in rows(folder)[0]


@pytest.mark.parametrize("experiment", ["sinusoid_meta_lstm", "omniglot_5w1s_meta_lstm"])
def test_a_learned_optimizer_is_trained_on_as_many_examples_as_it_is_judged_on(experiment):
    composed, _ = configs.composed("fewshot", [f"experiment={experiment}"], [configs.CONFIGS])
    assert composed["evaluation"]["shots"] in (None, composed["shots"])
    assert composed["learner"]["num_inner_steps"] == composed["learner"]["num_test_steps"]


def test_resumed_it_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert fewshot(monkeypatch, *TINY, "iterations=4", f"run_dir={whole}") == 0
    assert fewshot(monkeypatch, *TINY, "iterations=2", f"run_dir={stopped}") == 0
    assert fewshot(monkeypatch, f"resume={stopped}", "iterations=4") == 0
    assert OmegaConf.load(stopped / "config.yaml").iterations == 4
    assert [without_timing(row) for row in rows(whole)] == [
        without_timing(row) for row in rows(stopped)
    ]
    assert all(row["tasks_per_second"] > 0 for row in rows(stopped))
    both = [
        json.loads((folder / "evaluation.json").read_text())["updates"]
        for folder in (whole, stopped)
    ]
    assert both[0] == both[1]


def test_another_number_of_ways_can_be_asked_of_a_trained_metric(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert fewshot(monkeypatch, *TINY, "learner=protonet", "iterations=2", f"run_dir={folder}") == 0
    trained = json.loads((folder / "evaluation.json").read_text())
    assert fewshot(monkeypatch, f"resume={folder}", "evaluation.ways=5") == 0
    wider = json.loads((folder / "evaluation.json").read_text())
    assert (trained["ways"], wider["ways"], wider["learner"]) == (3, 5, "protonet")
    assert [report["updates"][0]["mean"] for report in (trained, wider)] == pytest.approx(
        [1 / 3, 1 / 5]
    )


@pytest.mark.parametrize("learner", ["pretrain", "nearest_embedding", "nearest_neighbour"])
def test_what_learns_no_tasks_answers_for_any_number_of_ways(tmp_path, monkeypatch, learner):
    words = (f"learner={learner}", "iterations=1", f"run_dir={tmp_path}", "evaluation.ways=5")
    small = [word for word in TINY if not word.startswith("adaptation")]
    assert fewshot(monkeypatch, *small, *words) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert (report["ways"], report["learner"]) == (5, learner)
    # More than by chance, as five classes of digits by their nearest neighbour.
    assert report["updates"][-1]["mean"] > (0.4 if learner == "nearest_neighbour" else 0.2)


def test_a_reader_of_sequences_says_how_well_it_knows_a_class_again(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    small = ("learner=lstm", "learner.instances=4", "learner.memory.hidden_size=8")
    assert fewshot(monkeypatch, *TINY, *small, "iterations=1", f"run_dir={folder}") == 0
    instances = json.loads((folder / "evaluation.json").read_text())["instances"]
    assert [(row["instance"], row["num_tasks"]) for row in instances] == [
        (k, 20) for k in (1, 2, 3, 4)
    ]
    assert "4. time" in capsys.readouterr().out


def test_settings_that_a_learner_does_not_follow_are_told(tmp_path, monkeypatch, capsys):
    for number, (learner, own) in enumerate(
        (("protonet", ()), ("maml", ("learner.inner_lr=0.2",)))
    ):
        words = (f"learner={learner}", *own, "adaptation.inner_lr=0.1", "iterations=1")
        assert fewshot(monkeypatch, *TINY, *words, f"run_dir={tmp_path / str(number)}") == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "changes nothing" in line]
        rate = (
            f"adaptation.inner_lr=0.1 changes nothing: learner={learner} doesn't take it from there"
        )
        assert said[-1].startswith(rate)
        assert len(said) == (2 if learner == "protonet" else 1)  # maml takes its meta_batch_size.


def test_rows_hold_means_over_the_iterations_between(tmp_path, monkeypatch):
    each, means = tmp_path / "each", tmp_path / "means"
    assert fewshot(monkeypatch, *TINY, "iterations=4", f"run_dir={each}") == 0
    assert fewshot(monkeypatch, *TINY, "iterations=4", "log_every=2", f"run_dir={means}") == 0
    losses = [row["loss"] for row in rows(each)]
    assert [row["loss"] for row in rows(means)] == pytest.approx(
        [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    )
    assert [(row["iteration"], row["tasks"]) for row in rows(means)] == [(1, 4), (3, 8)]


def test_a_sweep_ends_in_a_table_of_its_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fewshot(monkeypatch, "-m", *TINY, "iterations=1", "learner=fomaml,anil", "seed=0,1") == 0
    table = next((tmp_path / "runs" / "sweeps").rglob("comparison.md")).read_text()
    assert table in capsys.readouterr().out
    learners = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    assert learners == [
        [f"{name} (transductive)", seed]
        for name in ("fomaml", "anil")
        for seed in ("0", "1", "all 2")
    ]


def test_a_sweep_makes_the_table_of_the_runs_that_did_not_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        fewshot(
            monkeypatch, "-m", *TINY, "iterations=1", "learner=fomaml", "shots=1,500", "seed=0,1"
        )
        == 1
    )
    text = next((tmp_path / "runs" / "sweeps").rglob("comparison.md")).read_text()
    table, _, failed = text.partition("\nFailed:\n")
    assert "need 515 pictures of a class" in failed
    shown = capsys.readouterr()
    assert (
        table in shown.out and len([line for line in table.splitlines() if "fomaml" in line]) == 3
    )  # two and "all"
    assert (
        "error: 2 runs of the sweep failed:" in shown.err
        and shown.err.count("need 515 pictures") == 4
    )


def test_commands_say_which_of_them_a_checkpoint_is_for(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    assert fewshot(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 0
    capsys.readouterr()
    for main, word in ((train_command.main, "resume"), (evaluate_command.main, "checkpoint")):
        assert command(main, monkeypatch, f"{word}={folder}") == 2
        assert (
            "is of few-shot learning, whose evaluation is the end of its training: python scripts/fewshot.py resume="
            in capsys.readouterr().err
        )
    assert command(evaluate_command.main, monkeypatch, "checkpoint=zoo:sinusoid/maml") == 2
    assert "metarl.load('sinusoid/maml').evaluate() in Python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ways=30", "ways=30: the test split of digits has only 5 classes"),
        ("shots=500", "shots=500 and queries=15 need 515 pictures of a class"),
        ("evaluation.split=validation", "digits has no validation split"),
        ("evaluation.num_tasks=0", "num_tasks=0"),
        (
            "evaluation.ways=5",
            "evaluation.ways=5: this learner can only answer for the ways=3 of its training",
        ),
        ("log_every=3", "log_every=3: expected a divisor of checkpoint_every=2"),
        ("queries=0", "queries=0: expected an integer, 1 or more"),
        ("backbone=conv4", "pictures of 8 x 8 vanish"),
        ("experiment=point_navigation_2d_maml", "is of another command"),
    ],
)
def test_what_cannot_be_done_ends_with_a_message(tmp_path, monkeypatch, capsys, override, message):
    words = (
        TINY
        if not override.startswith("backbone")
        else [word for word in TINY if "backbone" not in word]
    )
    assert fewshot(monkeypatch, *words, "iterations=1", f"run_dir={tmp_path}/run", override) == 2
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ways=6"], "ways=6: the test split of digits has only 5 classes"),
        (["evaluation.shots=500"], "shots=500 and queries=15 need 515"),
        (["evaluation.split=validation"], "digits has no validation split; it has train, test"),
        (
            ["dataset=sinusoid", "ways=1", "evaluation.split=later"],
            "evaluation.split=later: expected train, validation or test",
        ),
        (["log_every=3"], "log_every=3: expected a divisor of checkpoint_every=2"),
        (["evaluation.num_tasks=0"], "num_tasks=0: expected an integer, 1 or more"),
        (["evaluation.num_updates=-1"], "num_updates=-1: expected an integer, 0 or more, or null"),
        (
            ["learner=protonet", "learner.train_ways=30"],
            "ways=30: the train split of digits has only 20 classes",
        ),
        (
            ["learner=reptile", "learner.train_shots=500"],
            "shots=500 and queries=1 need 501 pictures of a class",
        ),
        (
            ["learner=reptile", "learner.train_shots=500"],
            "this learner trains with learner.train_shots=500",
        ),
        (
            ["learner=mann", "learner.instances=500"],
            "shots=500 and queries=1 need 501 pictures of a class",
        ),
        (
            ["learner=mann", "learner.instances=500"],
            "this learner trains with learner.instances=500",
        ),
        (
            ["learner=mann", "learner.instances=0"],
            "learner.instances=0: expected an integer, 1 or more",
        ),
    ],
)
def test_tasks_that_cannot_be_are_refused_before_the_training(
    tmp_path, monkeypatch, capsys, words, message
):
    assert fewshot(monkeypatch, *TINY, *words, f"run_dir={tmp_path}/run") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("dataset", "best"), [("digits", 0.3), ("sinusoid", 0.1)])
def test_plain_steps_beside_a_learned_optimizer_have_the_best_rate_of_training_tasks(
    monkeypatch, dataset, best
):
    asked = []

    class Tuned(MetaLstm):
        fine_tuning_lrs = (0.1, 0.2, 0.3, 9.0)

        def __init__(self):
            pass

        def fine_tuning(self, lr):
            return SimpleNamespace(lr=lr, num_updates=3)

    def measures(adapter, source, size, *, split, num_updates, **_):
        asked.append((split, num_updates))
        last = torch.inf if adapter.lr == 9.0 else adapter.lr
        return torch.tensor([[9 - adapter.lr, last], [9 - adapter.lr, last]])

    monkeypatch.setattr(fewshot_report, "adaptation_measures", measures)
    words = [f"dataset={dataset}", "learner=meta_lstm", "device=cpu"]
    config = OmegaConf.create(configs.composed("fewshot", words, [configs.CONFIGS])[0])
    source = {"digits": digits, "sinusoid": Sinusoid}[dataset]()
    found = fewshot_report.best_lr(config, Tuned(), source, torch.device("cpu"))
    assert found == best and asked == [("train", 3)] * 4


def test_what_stands_beside_a_learner_is_the_same_learner_before_any_training():
    config = OmegaConf.create(
        configs.composed("fewshot", [*TINY, "learner=maml"], [configs.CONFIGS])[0]
    )
    source, cpu = digits(), torch.device("cpu")
    make = lambda: fewshot_build.learner(config, source, Generators(config.seed), cpu)
    trained = make()
    trained.step()
    beside = fewshot_report.references(config, trained, source, cpu)["random initialisation"]
    size, generator = TaskSize(ways=3, shots=1, queries=2), torch.Generator().manual_seed(0)
    episodes = source.sample(2, size, generator, "test")
    found, expected, other = (
        list(predictions(adapter, episodes, 1))[1]
        for adapter in (beside, make().adapter(), trained.adapter())
    )
    assert torch.equal(found, expected) and not torch.allclose(found, other)
