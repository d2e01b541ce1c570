"""Agents with a belief through the commands: the same train, resume, evaluate and render as for the
others."""

import json
import re
import shutil

import pytest
from PIL import Image
from support.commands import call

from metarl.cli import configs
from metarl.cli.commands import evaluate, render, train
from metarl.run.logging import read_metrics
from metarl.run.timing import without_timing

TINY = [
    *("env=gridworld_5x5", "env.horizon=3", "algo=varibad", "model=belief_map"),
    *("algo.meta_batch_size=3", "algo.num_minibatches=2", "algo.episodes_per_trial=3"),
    *("algo.replay_capacity=30", "algo.inference.num_gradient_steps=1", "checkpoint_every=1"),
    *("evaluation.num_tasks=2", "evaluation.video=false", "device=cpu"),
]
"""An iteration has 27 steps, so that the replay is full in the second one."""


def metrics(folder) -> list[dict]:
    return [without_timing(row) for row in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert call(monkeypatch, train, *TINY, "iterations=2", f"run_dir={folder}") == 0
    return folder


@pytest.mark.parametrize(
    "experiment",
    [
        "gridworld_5x5_varibad",
        "half_cheetah_vel_wide_varibad",
        "half_cheetah_vel_wide_varibad_as_published",
        "point_navigation_2d_sparse_varibad",
        "walker2d_rand_params_varibad",
    ],
)
def test_an_experiments_replay_has_room_for_its_iterations(experiment):
    composed, _ = configs.composed("train", [f"experiment={experiment}"], [configs.CONFIGS])
    algo = composed["algo"]
    trial = algo["episodes_per_trial"] * composed["env"]["horizon"]
    assert algo["replay_capacity"] >= 10 * trial * algo["meta_batch_size"]
    assert configs.comments("train", _, [configs.CONFIGS])["algo.inference.kl_weight_executed"]


def test_an_update_of_the_evaluation_is_an_episode_of_the_trial(finished, monkeypatch, tmp_path):
    report = json.loads((finished / "evaluation.json").read_text())
    assert [row["update"] for row in report["returns"]] == [0, 1, 2]
    words = (f"checkpoint={finished}", "num_tasks=3", "num_updates=3", "device=cpu")
    assert call(monkeypatch, evaluate, *words, f"output={tmp_path / 'longer'}") == 0
    longer = json.loads((tmp_path / "longer" / "evaluation.json").read_text())
    assert len(longer["returns"]) == 4


def test_films_and_pictures_show_what_is_believed(finished, monkeypatch):
    words = (f"checkpoint={finished}", "num_tasks=1", "width=160", "height=120", "device=cpu")
    assert call(monkeypatch, render, *words) == 0
    found = {path.name for path in (finished / "videos").iterdir()}
    assert found == {"task_0.mp4", "task_0_belief.png"}
    with Image.open(finished / "videos" / "task_0_belief.png") as picture:
        assert min(picture.size) > 100


def test_a_stopped_run_goes_on_bit_for_bit(finished, monkeypatch, tmp_path):
    stopped = shutil.copytree(finished, tmp_path / "stopped")
    # As after a kill: what was written after the last checkpoint isn't there.
    assert list((stopped / "checkpoints" / "experience").glob("*.pt"))
    assert call(monkeypatch, train, f"resume={stopped}", "iterations=4") == 0
    assert call(monkeypatch, train, *TINY, "iterations=4", f"run_dir={tmp_path / 'whole'}") == 0
    assert metrics(stopped) == metrics(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=mlp"], "model is a CategoricalPolicy; expected one with a belief: belief or"),
        (
            ["algo.replay_capacity=26"],
            "replay_capacity 26: expected 27 or more, the steps of an it",
        ),
        (["algo.replay_capacity=1000000000"], "replay_capacity 1000000000: .* are free there"),
        (
            ["algo.inference.kl_weight_executed=-1"],
            "algo.inference.kl_weight_executed=-1: expected a finite number",
        ),
        (["model.decodes=[task]"], r"model.decodes=\[task\]: expected"),
        (["model.encoder.reward_embedding=0"], "reward_embedding=0: expected an integer, 1 or"),
        (["algo=rl2_ppo"], "model is a BeliefModel; expected one with a memory"),
    ],
)
def test_mistakes_are_answered_in_a_line(words, message, monkeypatch, capsys, tmp_path):
    given = {word.split("=")[0] for word in words}
    rest = [word for word in TINY if word.split("=")[0] not in given]
    if words == ["algo=rl2_ppo"]:
        rest = ["env=gridworld_5x5", "model=belief", "device=cpu"]
    if words == ["model=mlp"]:
        rest = [word for word in rest if not word.startswith("model")]
    assert call(monkeypatch, train, *rest, *words, f"run_dir={tmp_path / 'run'}") == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert re.search(message, shown), shown
