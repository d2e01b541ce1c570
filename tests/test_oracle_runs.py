"""Oracles through the commands: any algorithm trains where the task is shown, and no policy is
judged where it sees something else."""

import json
import re

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import call

from metarl.cli import build, configs
from metarl.cli.commands import evaluate, render, train
from metarl.run import checkpoint
from metarl.run.seeding import Generators

pytestmark = pytest.mark.usefixtures("undrawn")

GRADIENT = ["model.hidden_sizes=[4]", "algo.meta_batch_size=2", "algo.episodes_per_task=2"]
TRIALS = [
    "model.head_sizes=[]",
    "model.memory.hidden_size=4",
    "algo.meta_batch_size=2",
    "algo.num_minibatches=1",
]
PLANNER = ["algo.planner.horizon=2", "algo.planner.num_candidates=4", "algo.planner.num_elites=2"]
LEARNERS = {
    "maml_ppo": ["env=point_navigation_2d", *GRADIENT],
    "maml_trpo": ["env=half_cheetah_dir", *GRADIENT],
    "rl2_ppo": ["env=tabular_mdp", *TRIALS],
    "memoryless_ppo": ["env=arm_grasp", *TRIALS],
    "varibad": [
        *("env=tabular_mdp", "model=belief_map", "algo.meta_batch_size=2"),
        *("algo.num_minibatches=1", "algo.replay_capacity=100"),
    ],
    "grbal": [
        *(
            "env=half_cheetah_cripple",
            "model.hidden_sizes=[4]",
            "algo.meta_batch_size=2",
            "algo.num_past=2",
        ),
        *("algo.num_future=2", "algo.num_gradient_steps=1", "algo.batch_size=2", *PLANNER),
        "evaluation.num_tasks=1",  # there is no other held-out one
    ],
    "recurrent_mbrl": [
        *(
            "env=hopper_rand_params",
            "model.hidden_sizes=[4]",
            "model.memory_size=4",
            "algo.meta_batch_size=2",
        ),
        *("algo.num_sweeps=1", "algo.batch_size=2", *PLANNER),
    ],
}
REST = [
    *("env.horizon=6", "iterations=1", "device=cpu", "sim.num_threads=1"),
    *("evaluation.num_tasks=2", "evaluation.num_updates=0", "evaluation.video=false"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of maml_ppo, where the task is shown (True) and where it isn't (False)."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for shows_task in (True, False):
            words = ["algo=maml_ppo", *LEARNERS["maml_ppo"], *REST, f"env.shows_task={shows_task}"]
            assert call(monkeypatch, train, *words, f"run_dir={folder / str(shows_task)}") == 0
    return {shows_task: folder / str(shows_task) for shows_task in (True, False)}


@pytest.mark.parametrize("algo", LEARNERS)
def test_any_algorithm_trains_an_oracle(algo, monkeypatch, tmp_path):
    words = [f"algo={algo}", *REST, *LEARNERS[algo], "env.shows_task=true"]
    assert call(monkeypatch, train, *words, f"run_dir={tmp_path / 'run'}") == 0
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["variant"] == "default, task shown"


def test_an_oracle_has_a_spec_hash_of_its_own_and_the_same_held_out_tasks(runs):
    oracle, other = (
        json.loads((folder / "evaluation.json").read_text()) for folder in runs.values()
    )
    assert oracle["spec_hash"] != other["spec_hash"]
    assert [task["task"] for task in oracle["tasks"]] == [task["task"] for task in other["tasks"]]


@pytest.mark.parametrize("shows_task", [True, False])
def test_an_evaluation_is_that_of_the_training_whether_or_not_its_environment_is_named(
    shows_task, runs, monkeypatch, tmp_path
):
    words = [f"checkpoint={runs[shows_task]}", "num_tasks=2", "num_updates=0", "device=cpu"]
    named = ["env=point_navigation_2d", "env.horizon=6", f"env.shows_task={shows_task}"]
    trained = json.loads((runs[shows_task] / "evaluation.json").read_text())
    for number, more in enumerate(([], [f"env.shows_task={shows_task}"], named)):
        file = tmp_path / f"{number}.json"
        assert call(monkeypatch, evaluate, *words, f"output={file}", *more) == 0
        assert json.loads(file.read_text())["spec_hash"] == trained["spec_hash"]


@pytest.mark.parametrize("command", [evaluate, render])
@pytest.mark.parametrize(
    ("trained", "words", "message"),
    [
        (
            True,
            ["env.shows_task=false"],
            "env.shows_task=false: the policy in .* sees the task; expected true",
        ),
        (
            True,
            ["env=point_navigation_2d", "env.horizon=6"],
            "env.shows_task=false: .* sees the task; expected true",
        ),
        (
            False,
            ["env.shows_task=true"],
            "env.shows_task=true: .* does not see the task; expected false",
        ),
        (
            False,
            ["env=point_navigation_2d", "env.shows_task=true"],
            "env.shows_task=true: .* does not see the task",
        ),
    ],
)
def test_a_policy_is_refused_where_it_would_see_something_else(
    command, trained, words, message, runs, monkeypatch, capsys
):
    assert (
        call(
            monkeypatch, command, f"checkpoint={runs[trained]}", "num_tasks=1", "device=cpu", *words
        )
        == 2
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert re.search(message, line)


def test_a_checkpoint_from_before_there_were_oracles_is_of_a_policy_that_is_none(
    runs, monkeypatch, tmp_path
):
    (path,) = (runs[False] / "checkpoints").glob("*1.pt")
    content = checkpoint.load(path)
    del content["config"]["env"]["shows_task"]
    old = checkpoint.save(tmp_path, content, keep=1)
    words = [
        f"checkpoint={old}",
        "num_tasks=2",
        "num_updates=0",
        "device=cpu",
        f"output={tmp_path / 'new'}",
    ]
    assert call(monkeypatch, evaluate, *words, "env=point_navigation_2d", "env.horizon=6") == 0
    assert call(monkeypatch, evaluate, *words, "env.shows_task=true") == 2


def test_an_oracle_earns_what_who_must_guess_cannot():
    """Of two arms that pay with probabilities U[0, 1] the better one pays 2/3, either of them
    1/2."""
    words = [
        "algo=memoryless_ppo",
        "env=bandit",
        "env.num_arms=2",
        "env.horizon=1",
        "algo.episodes_per_task=20",
    ]
    found = {}
    for shows_task in (True, False):
        composed, _ = configs.composed(
            "train", [*words, f"env.shows_task={shows_task}"], [configs.CONFIGS]
        )
        config, generators = OmegaConf.create(composed), Generators(0)
        learner = build.learner(
            config, build.training_environment(config), generators, torch.device("cpu")
        )
        returns = [learner.step()["return"] for _ in range(25)]
        found[shows_task] = sum(returns[-5:]) / 5
    # Five means over 100 tasks, between which the better arm's probability has a deviation of 0.24
    # and the other's of 0.29: three standard errors are 0.04. The oracle is still learning where
    # the arms are nearly as good.
    assert found[False] == pytest.approx(1 / 2, abs=0.04)
    assert 0.6 < found[True] < 2 / 3 + 0.04
