"""Agents with a memory through the commands: the same train, resume, evaluate and render as for
gradient learners."""

import json
import re
import shutil

import pytest
from support.commands import call

from metarl.cli import configs
from metarl.cli.commands import evaluate, render, train
from metarl.run.logging import read_metrics
from metarl.run.timing import without_timing

pytestmark = pytest.mark.usefixtures("undrawn")

TINY = [
    *(
        "env=bandit",
        "env.horizon=3",
        "algo=rl2_ppo",
        "algo.meta_batch_size=4",
        "algo.num_minibatches=2",
    ),
    *("algo.episodes_per_trial=3", "model.memory.hidden_size=5", "model.head_sizes=[]"),
    *("evaluation.num_tasks=2", "evaluation.video=false", "device=cpu"),
]


def metrics(folder) -> list[dict]:
    return [without_timing(row) for row in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert call(monkeypatch, train, *TINY, "iterations=3", f"run_dir={folder}") == 0
    return folder


@pytest.mark.parametrize(
    ("words", "memory"),
    [
        ([], "recurrent.GRU"),
        (["model=lstm"], "recurrent.LSTM"),
        (["model=transformer"], "transformer.Transformer"),
        (["experiment=half_cheetah_vel_memoryless"], "recurrent.NoMemory"),
    ],
)
def test_the_algorithm_brings_its_model_and_the_user_may_choose_another(words, memory):
    composed, chosen = configs.composed("train", ["algo=rl2_ppo", *words], [configs.CONFIGS])
    assert composed["model"]["memory"]["_target_"] == f"metarl.nn.{memory}"
    size = "width" if memory.startswith("transformer") else "hidden_size"
    assert configs.comments("train", chosen, [configs.CONFIGS])[f"model.memory.{size}"]


def test_the_policy_without_adaptation_is_one_command(monkeypatch, tmp_path):
    sizes = [
        "algo.meta_batch_size=3",
        "algo.num_minibatches=2",
        "model.memory.hidden_size=5",
        "model.head_sizes=[]",
    ]
    words = ["env=point_navigation_2d", "env.horizon=4", "algo=memoryless_ppo", *sizes, *TINY[-3:]]
    assert call(monkeypatch, train, *words, "iterations=1", f"run_dir={tmp_path / 'run'}") == 0
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [row["update"] for row in report["returns"]] == [0]
    assert report["env_steps"] == 2 * 2 * 4  # 2 tasks x 2 episodes x 4 steps


def test_a_gradient_learner_keeps_the_perceptron():
    assert (
        configs.composed("train", ["algo=maml_ppo"], [configs.CONFIGS])[1]["model"] == "latent_mlp"
    )


def test_an_update_of_the_evaluation_is_an_episode_of_the_trial(finished, monkeypatch, tmp_path):
    report = json.loads((finished / "evaluation.json").read_text())
    assert [row["update"] for row in report["returns"]] == [0, 1, 2]
    assert report["env_steps"] == 2 * 3 * 3  # 2 tasks x 1 trial x 3 episodes x 3 steps
    words = (
        f"checkpoint={finished}",
        "num_tasks=3",
        "num_updates=4",
        f"output={tmp_path / 'longer'}",
        "device=cpu",
    )
    assert call(monkeypatch, evaluate, *words) == 0
    assert len(json.loads((tmp_path / "longer" / "evaluation.json").read_text())["returns"]) == 5


def test_the_first_episode_is_filmed_beside_the_last(finished, monkeypatch):
    words = (f"checkpoint={finished}", "num_tasks=1", "width=160", "height=120", "device=cpu")
    assert call(monkeypatch, render, *words) == 0
    assert (finished / "videos" / "task_0.mp4").exists()


def test_a_stopped_run_goes_on_bit_for_bit(finished, monkeypatch, tmp_path):
    stopped = shutil.copytree(finished, tmp_path / "stopped")
    assert call(monkeypatch, train, f"resume={stopped}", "iterations=5") == 0
    assert call(monkeypatch, train, *TINY, "iterations=5", f"run_dir={tmp_path / 'whole'}") == 0
    assert metrics(stopped) == metrics(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=mlp"], "model is a CategoricalPolicy; expected one with a memory: gru, lstm"),
        (
            ["algo.episodes_per_trial=0"],
            "algo.episodes_per_trial=0: expected an integer, 1 or more",
        ),
        (["algo.trials_per_task=0"], "algo.trials_per_task=0: expected an integer, 1 or more"),
        (["model=transformer", "model.memory.context=9"], "a trial has 9 steps .* takes at most 8"),
        (
            ["model=external_memory", "model.memory.num_heads=99"],
            "num_heads 99: expected at most num_slots, 32",
        ),
        (
            ["model.memory.hidden_size=0"],
            "model.memory.hidden_size=0: expected an integer, 1 or more",
        ),
        (["model.memory.layers=2"], "model.memory.layers: there is no such key"),
        (
            ["algo=maml_ppo", "model=gru"],
            "model is a MemoryModel; expected a policy without memory",
        ),
        (
            ["algo=memoryless_ppo", "model=gru"],
            "model has a GRU, which can know its task; expected model=memoryless",
        ),
        (["algo=memoryless_ppo", "model.has_feedback=true"], "model.has_feedback is True"),
    ],
)
def test_mistakes_are_answered_in_a_line(words, message, monkeypatch, capsys, tmp_path):
    given = {
        word.split("=")[0].split(".")[0]
        for word in words
        if "=" in word and "." not in word.split("=")[0]
    }
    rest = [
        word for word in TINY if word.split(".")[0] not in given and word.split("=")[0] not in given
    ]
    assert (
        call(monkeypatch, train, *rest, *words, "iterations=1", f"run_dir={tmp_path / 'run'}") == 2
    )
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert re.search(message, shown)
