"""num_seeds: several seeds in one process through the command, as a user starts them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.commands import call, numbers

from metarl.cli import run_folder, several
from metarl.cli.commands import evaluate, fewshot, train
from metarl.errors import NonFiniteAction, UserError
from metarl.report import plots
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.run import checkpoint
from metarl.run.lock import FolderLock
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("env=point_navigation_2d", "env.horizon=10", "device=cpu", "algo.num_epochs=1"),
    *("algo.meta_batch_size=2", "algo.episodes_per_task=2", "algo.num_inner_steps=1"),
    *("model.hidden_sizes=[4]", "evaluation.num_tasks=2", "evaluation.num_updates=1"),
    "evaluation.video=false",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Seeds 3 and 4, never written to."""
    folder = tmp_path_factory.mktemp("several") / "run"
    with pytest.MonkeyPatch.context() as patch:
        words = ("iterations=2", "seed=3", "num_seeds=2", f"run_dir={folder}")
        assert call(patch, train, *TINY, *words) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_each_seed_has_what_it_has_alone(finished, tmp_path, monkeypatch):
    alone = tmp_path / "alone"
    assert call(monkeypatch, train, *TINY, "iterations=2", "seed=4", f"run_dir={alone}") == 0
    seed = finished / "seed4"
    assert numbers(seed) == numbers(alone) and len(numbers(seed)) == 2
    reports = [json.loads((run / "evaluation.json").read_text()) for run in (seed, alone)]
    for report in reports:
        del report["command"]
    assert reports[0] == reports[1]
    names = {path.name for path in alone.iterdir() if "tfevents" not in path.name}
    names.remove("run.log")  # That of all seeds is in the folder above.
    assert {path.name for path in seed.iterdir() if "tfevents" not in path.name} == names
    saved = [checkpoint.load_newest(run / "checkpoints")[1] for run in (seed, alone)]
    assert str(saved[0]["learner"]) == str(saved[1]["learner"])


def test_the_folder_above_says_what_they_say_together(finished):
    report = json.loads((finished / "evaluation.json").read_text())
    assert (report["seed"], report["over"]) == ("3, 4", "over 2 seeds and 2 tasks")
    own = [json.loads((finished / f"seed{s}" / "evaluation.json").read_text()) for s in (3, 4)]
    for update, row in enumerate(report["returns"]):
        assert row["mean"] == pytest.approx(sum(x["returns"][update]["mean"] for x in own) / 2)
        assert row["ci_low"] <= row["iqm"] <= row["ci_high"]
    assert [row["num_seeds"] for row in numbers(finished)] == [2, 2]
    assert (finished / "learning_curve.png").stat().st_size > 0


def test_pictures_give_each_seed_its_share_of_the_time(copied, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        plots, "learning_curve_png", lambda path, runs, **_: drawn.append((path.parent.name, runs))
    )
    for seed in ("seed3", "seed4"):
        (copied / seed / "evaluation.json").unlink()
    assert call(monkeypatch, train, f"resume={copied}") == 0
    assert sorted(name for name, _ in drawn) == ["run", "seed3", "seed4"]
    for name, runs in drawn:
        written = read_rows(copied / name.replace("run", "seed3") / "metrics.jsonl")
        shares = [row["seconds"] / 2 for row in written]
        assert [row["seconds"] for row in runs[0]] == pytest.approx(shares)


def test_a_seed_is_a_run_of_its_own_and_the_folder_above_names_its_seeds(
    finished, copied, monkeypatch, capsys
):
    assert call(monkeypatch, train, f"resume={copied / 'seed4'}", "iterations=3") == 0
    assert len(numbers(copied / "seed4")) == 3
    sizes = ("num_tasks=2", "num_updates=0", "device=cpu", f"output={copied / 'x.json'}")
    assert call(monkeypatch, evaluate, f"checkpoint={copied / 'seed3'}", *sizes) == 0
    assert call(monkeypatch, evaluate, f"checkpoint={finished}") == 2
    expected = f"error: {finished} holds 2 seeds; expected one of its folders: seed3, seed4"
    assert expected in capsys.readouterr().err


def test_killed_in_the_middle_all_resume_to_the_same_numbers(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = [*TINY, "num_seeds=2", "checkpoint_every=2", "env.horizon=5"]
    endless = [*words, "iterations=1000", f"run_dir={killed}"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "train.py", *endless],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    metrics = killed / "seed1" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text().count("\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline, "it ended or hung"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # As if it had been killed between the checkpoints of the two, and those of one were lost.
    checkpoint.list_checkpoints(killed / "seed1" / "checkpoints")[-1].unlink()
    more = f"iterations={len(numbers(killed / 'seed1')) + 2}"
    assert call(monkeypatch, train, f"resume={killed}", "num_seeds=2", more) == 0
    assert call(monkeypatch, train, *words, more, f"run_dir={whole}") == 0
    for seed in ("seed0", "seed1", ""):
        assert numbers(killed / seed) == numbers(whole / seed)


def test_a_seed_that_diverges_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    real = MamlPPO.iteration

    def iteration(learner):
        if learner.source.streams.tasks.initial_seed() == spoilt[0]:
            raise FloatingPointError("metric loss is nan")
        return (yield from real(learner))

    spoilt = [Generators(1)("tasks").initial_seed()]
    monkeypatch.setattr(MamlPPO, "iteration", iteration)
    done = []
    monkeypatch.setattr(several.comparison, "note", done.append)
    words = ("iterations=1", "num_seeds=3", f"run_dir={tmp_path / 'run'}")
    assert call(monkeypatch, train, *TINY, *words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: 1 of 3 seeds diverged: training diverged in iteration 0: metric"
    )
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["seeds_diverged"] == [1]
    assert report["seeds"] == [0, 2] and not (tmp_path / "run/seed1/evaluation.json").exists()
    assert not done  # A sweep of it has failed.


def test_a_seed_that_cannot_be_evaluated_does_not_cost_the_others_their_reports(
    copied, monkeypatch, capsys
):
    real = several.evaluation.evaluate_run

    def evaluate_run(config, *others):
        if config.seed == 3:
            raise NonFiniteAction("action is nan")
        return real(config, *others)

    monkeypatch.setattr(several.evaluation, "evaluate_run", evaluate_run)
    for seed in ("seed3", "seed4"):
        (copied / seed / "evaluation.json").unlink()
    assert call(monkeypatch, train, f"resume={copied}") == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].endswith("seed 3 can't be evaluated: action is nan")
    report = json.loads((copied / "evaluation.json").read_text())
    assert report["seeds"] == [4] and report["seeds_diverged"] == [3]
    assert "seed 3 diverged and is left out" in said.out
    assert (copied / "seed4/evaluation.json").exists()


def test_a_folder_that_holds_a_run_in_a_seeds_place_is_refused_as_it_is(
    tmp_path, monkeypatch, capsys
):
    """Else it would look like a run of two seeds, and go on as one."""
    folder, words = tmp_path / "x", (*TINY, "iterations=1")
    assert call(monkeypatch, train, *words, f"run_dir={folder / 'seed1'}", "env.horizon=5") == 0
    assert call(monkeypatch, train, *words, f"run_dir={folder}", "num_seeds=2") == 2
    assert f"holds runs already, such as {folder / 'seed1'}" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["seed1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=4", "env.horizon=5"], "has env.horizon=5, the folder above 10; expected runs of"),
        (["seed=5"], "has seed=5; expected 4, as its name says"),
    ],
)
def test_a_run_of_another_configuration_in_a_seeds_place_is_named(
    copied, monkeypatch, capsys, words, said
):
    shutil.rmtree(copied / "seed4")
    other = [*TINY, "iterations=1", *words, f"run_dir={copied / 'seed4'}"]
    assert call(monkeypatch, train, *other) == 0
    assert call(monkeypatch, train, f"resume={copied}") == 2
    assert f"{copied / 'seed4'} {said}" in capsys.readouterr().err


def test_a_change_that_was_killed_on_its_way_reaches_all_seeds(copied, monkeypatch):
    """The folder above is told first, a seed's checkpoint when its training is opened."""
    file = copied / "config.yaml"
    file.write_text(file.read_text().replace("iterations: 2", "iterations: 3"))
    assert call(monkeypatch, train, f"resume={copied}") == 0
    assert [len(numbers(copied / seed)) for seed in ("seed3", "seed4", "")] == [3, 3, 3]


def test_a_folder_of_several_seeds_is_no_run_of_one(copied):
    for seed in ("seed3", "seed4"):
        shutil.rmtree(copied / seed)
    (copied / "metrics.jsonl").unlink()
    said = rf"resume={copied}: it holds 2 seeds, .* expected the folder of one of them, as .*seed3"
    with ExitStack() as held, pytest.raises(UserError, match=said):
        run_folder.resumed(str(copied), {}, held)


def test_a_folder_of_several_seeds_has_one_writer(copied, monkeypatch, capsys):
    for place in (copied, copied / "seed4"):
        with FolderLock(place):
            assert call(monkeypatch, train, f"resume={copied}", "iterations=3") == 2
        assert f"error: the folder {place} is in use by process" in capsys.readouterr().err
    assert len(numbers(copied)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_seeds=0"], "num_seeds=0: expected an integer, 1 or more; the default is 1"),
        (["num_seeds=2.5"], "num_seeds=2.5: expected an integer, 1 or more"),
        (["num_seeds=1000000001"], "num_seeds=1000000001: expected an integer, 1000000000 or less"),
        (["num_seeds=100000000"], "5000000000 worlds of half_cheetah_vel, one for each episode"),
        (["resume={}", "num_seeds=3"], "num_seeds can't be changed with resume; what can:"),
        (["resume={}", "seed=0"], "seed can't be changed with resume; what can:"),
        (["resume={}/seed3", "num_seeds=2"], "num_seeds can't be changed with resume; what can:"),
        (["resume={}", "algo.clip=0.1"], "algo.clip can't be changed with resume; what can:"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(finished, monkeypatch, capsys, words, message):
    assert call(monkeypatch, train, *(word.format(finished) for word in words)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"error: {message}")


def test_few_shot_says_what_there_is_instead(monkeypatch, capsys):
    assert call(monkeypatch, fewshot, "dataset=digits", "learner=maml", "num_seeds=2") == 2
    expected = "error: num_seeds=2: few-shot seeds have no simulation to share; a run for each"
    assert capsys.readouterr().err.startswith(expected)
