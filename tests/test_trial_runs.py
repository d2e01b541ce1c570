"""Learners whose trials have several episodes (by a memory, a belief or a replay) through the
commands: the same train, be killed, resume, evaluate and render as for gradient learners; what they
refuse, in a line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image
from support.commands import call, instead, numbers, refused

from metarl.cli import build, configs
from metarl.cli.commands import evaluate, render, train
from metarl.run import memory
from metarl.struct import struct

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parents[1]
HORIZON = 3
DRAWN = Figure.savefig

END = [
    *("evaluation.num_tasks=2", "evaluation.video=false", "device=cpu", "checkpoint_every=1"),
    f"env.horizon={HORIZON}",
]
MEMORY = [
    *("env=bandit", "algo=rl2_ppo", "algo.meta_batch_size=4", "algo.num_minibatches=2"),
    *("algo.episodes_per_trial=3", "model.memory.hidden_size=5", "model.head_sizes=[]", *END),
]
# An iteration has 27 steps, so that the replay is full in the second one.
BELIEF = [
    *("env=gridworld_5x5", "algo=varibad", "model=belief_map", "algo.meta_batch_size=3"),
    *("algo.num_minibatches=2", "algo.episodes_per_trial=3", "algo.replay_capacity=30"),
    *("algo.inference.num_gradient_steps=1", *END),
]
PEARL = [
    *("env=point_navigation_2d", "env.num_train_tasks=4", "algo=pearl"),
    *("algo.meta_batch_size=2", "algo.initial_steps=6", "algo.prior_steps=6"),
    *("algo.rl_steps=3", "algo.updates_per_iteration=2", "algo.batch_tasks=2"),
    *("algo.batch_size=4", "algo.context_size=4", "algo.replay_capacity=40"),
    *("model.encoder_sizes=[4]", "model.hidden_sizes=[4]", *END),
]
OFFPOLICY = [
    *("env=point_navigation_2d", "algo=rl2_offpolicy", "algo.meta_batch_size=2"),
    *("algo.initial_trials=2", "algo.updates_per_iteration=2", "algo.batch_size=3"),
    *("algo.replay_capacity=30", "model.memory.hidden_size=4", "model.head_sizes=[4]"),
    *("model.present_size=3", *END),
]


@struct
class Case:
    words: list[str]
    episodes: int  # of a trial
    iterations: int  # after which its rings are full, where it has any
    is_killed: bool = False  # when it is interrupted; resuming needs files of several ages then
    has_replay: bool = True
    films: frozenset[str] = frozenset({"task_0.mp4"})


BELIEVED = frozenset({"task_0.mp4", "task_0_belief.png"})
CASES = {
    "rl2_ppo": Case(words=MEMORY, episodes=3, iterations=3, has_replay=False),
    "varibad": Case(words=BELIEF, episodes=3, iterations=2, films=BELIEVED),
    "pearl": Case(words=PEARL, episodes=3, iterations=6, is_killed=True, films=BELIEVED),
    "rl2_offpolicy": Case(words=OFFPOLICY, episodes=2, iterations=6, is_killed=True),
}


def whole(monkeypatch, case, folder, iterations):
    words = (*case.words, f"iterations={iterations}", f"run_dir={folder}")
    assert call(monkeypatch, train, *words) == 0
    return folder


@pytest.fixture(scope="module", params=CASES)
def finished(request, tmp_path_factory):
    """(the folder of a whole run, its case)"""
    folder, case = tmp_path_factory.mktemp("runs") / "run", CASES[request.param]
    with pytest.MonkeyPatch.context() as monkeypatch:
        return whole(monkeypatch, case, folder, case.iterations), case


def test_an_update_of_the_evaluation_is_an_episode_of_the_trial(finished, tmp_path, monkeypatch):
    folder, case = finished
    report = json.loads((folder / "evaluation.json").read_text())
    assert [row["update"] for row in report["returns"]] == list(range(case.episodes))
    assert report["unit"] == "episode"
    assert report["env_steps"] == 2 * case.episodes * HORIZON  # of two tasks
    output = tmp_path / "modes.json"
    asked = [f"checkpoint={folder}", "num_tasks=2", "num_updates=3", "device=cpu"]
    assert call(monkeypatch, evaluate, *asked, "deterministic=true", f"output={output}") == 0
    assert len(json.loads(output.read_text())["returns"]) == 4


def test_the_first_episode_is_filmed_beside_the_last_and_what_is_believed_with_it(
    finished, monkeypatch
):
    folder, case = finished
    monkeypatch.setattr(Figure, "savefig", DRAWN)
    words = (f"checkpoint={folder}", "num_tasks=1", "width=160", "height=120", "device=cpu")
    assert call(monkeypatch, render, *words) == 0
    assert {path.name for path in (folder / "videos").iterdir()} == case.films
    for name in case.films - {"task_0.mp4"}:
        with Image.open(folder / "videos" / name) as picture:
            assert min(picture.size) > 100


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    folder, case = finished
    if case.is_killed:
        begun, expected = killed(case, tmp_path / "killed"), folder
        assert call(monkeypatch, train, f"resume={begun}") == 0
    else:
        begun, longer = shutil.copytree(folder, tmp_path / "stopped"), case.iterations + 2
        expected = whole(monkeypatch, case, tmp_path / "whole", longer)
        assert call(monkeypatch, train, f"resume={begun}", f"iterations={longer}") == 0
    assert any((begun / "checkpoints" / "experience").glob("*.pt")) == case.has_replay
    assert numbers(begun) == numbers(expected)


def killed(case, folder):
    """The folder of a run that was ended by kill −9 in the middle."""
    words = [*case.words, f"iterations={case.iterations}", f"run_dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "train.py", *words],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    log, deadline = folder / "metrics.jsonl", time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") >= case.iterations - 2):
        assert process.poll() is None and time.monotonic() < deadline, "it ended or hung"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert log.read_text().count("\n") < case.iterations
    return folder


def test_evaluations_may_see_as_much_as_training_did(finished, tmp_path, monkeypatch, capsys):
    folder, case = finished
    asked = [f"checkpoint={folder}", "num_tasks=2", "device=cpu", f"output={tmp_path / 'x.json'}"]
    done = call(monkeypatch, evaluate, *asked, "context_size=4")
    if case.words is PEARL:
        assert done == 0 and json.loads((tmp_path / "x.json").read_text())["context_size"] == 4
    else:
        assert done == 2
        assert re.search("context_size=4: .* infers no task", capsys.readouterr().err)


def test_a_replay_for_each_task_is_no_hindrance_where_tasks_are_drawn_anew(tmp_path, monkeypatch):
    folder = whole(monkeypatch, CASES["pearl"], tmp_path / "run", 1)
    asked = [f"checkpoint={folder}", "num_tasks=2", "device=cpu", f"output={tmp_path / 'x.json'}"]
    elsewhere = ["env=point_navigation_2d", "env.horizon=5"]
    assert call(monkeypatch, evaluate, *asked, *elsewhere) == 0
    assert json.loads((tmp_path / "x.json").read_text())["env_steps"] == 2 * 3 * 5


@pytest.mark.parametrize(
    ("base", "words", "message"),
    [
        (MEMORY, ["model=mlp"], "model is a CategoricalPolicy; expected one with a memory: gru, l"),
        (MEMORY, ["algo.episodes_per_trial=0"], "episodes_per_trial=0: expected an integer, 1 or"),
        (MEMORY, ["algo.trials_per_task=0"], "trials_per_task=0: expected an integer, 1 or more"),
        (
            MEMORY,
            ["model=transformer", "model.memory.context=9"],
            "a trial has 9 steps .* takes at most 8",
        ),
        (
            MEMORY,
            ["model=external_memory", "model.memory.num_heads=99"],
            "num_heads 99: expected at most num_slots, 32",
        ),
        (MEMORY, ["model.memory.hidden_size=0"], "hidden_size=0: expected an integer, 1 or more"),
        (MEMORY, ["model.memory.layers=2"], "model.memory.layers: there is no such key"),
        (
            MEMORY,
            ["algo=maml_ppo", "model=gru"],
            "model is a MemoryModel; expected a policy without memory",
        ),
        (
            MEMORY,
            ["algo=memoryless_ppo", "model=gru"],
            "model has a GRU, which can know its task; expected model=memoryless",
        ),
        (
            MEMORY,
            ["algo=memoryless_ppo", "model.has_feedback=true"],
            "model.has_feedback is True",
        ),
        (BELIEF, ["model=mlp"], "model is a CategoricalPolicy; expected one with a belief: belief"),
        (BELIEF, ["algo.replay_capacity=26"], "replay_capacity 26: expected 27 or more, the steps"),
        (BELIEF, ["algo.replay_capacity=1000000000"], "replay_capacity 1000000000: .* are free th"),
        (
            BELIEF,
            ["algo.inference.kl_weight_executed=-1"],
            "algo.inference.kl_weight_executed=-1: expected a finite number",
        ),
        (BELIEF, ["model.decodes=[task]"], r"model.decodes=\[task\]: expected"),
        (BELIEF, ["model.encoder.reward_embedding=0"], "reward_embedding=0: expected an integer, "),
        (BELIEF, ["algo=rl2_ppo"], "model is a BeliefModel; expected one with a memory"),
        (PEARL, ["algo.context_size=7"], "context_size 7: expected at most 6, the steps that"),
        (PEARL, ["env.num_train_tasks=null"], "expected a fixed number of them, for instance env."),
        (PEARL, ["algo.cost=height"], "cost height: expected a term of .*'s steps: distance"),
        (PEARL, ["algo.rl_steps=0"], "posterior_steps 0 and rl_steps 0: expected 1 or more"),
        (PEARL, ["algo.batch_tasks=0"], "algo.batch_tasks=0: expected an integer, 1 or more"),
        (PEARL, ["model=mlp"], "model is a GaussianPolicy; expected a PearlModel, as model=pearl"),
        (PEARL, ["env=bandit"], r"action space is Discrete\(5\): expected a flat Box"),
        (OFFPOLICY, ["env=bandit"], r"action space is Discrete\(5\): expected a flat Box"),
        (OFFPOLICY, ["algo.replay_capacity=11"], "replay_capacity 11: expected 12 or more"),
    ],
)
def test_mistakes_are_answered_in_a_line(base, words, message, monkeypatch, capsys, tmp_path):
    asked = [*instead(base, words), "iterations=1", f"run_dir={tmp_path / 'run'}"]
    assert re.search(message, refused(monkeypatch, capsys, train, *asked))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "of"),
    [
        ([], "recurrent.GRU"),
        (["model=lstm"], "recurrent.LSTM"),
        (["model=transformer"], "transformer.Transformer"),
        (["experiment=half_cheetah_vel_memoryless"], "recurrent.NoMemory"),
    ],
)
def test_the_algorithm_brings_its_model_and_the_user_may_choose_another(words, of):
    composed, chosen = configs.composed("train", ["algo=rl2_ppo", *words], [configs.CONFIGS])
    assert composed["model"]["memory"]["_target_"] == f"metarl.nn.{of}"
    size = "width" if of.startswith("transformer") else "hidden_size"
    assert configs.comments("train", chosen, [configs.CONFIGS])[f"model.memory.{size}"]


def test_a_gradient_learner_keeps_the_perceptron():
    assert (
        configs.composed("train", ["algo=maml_ppo"], [configs.CONFIGS])[1]["model"] == "latent_mlp"
    )


def test_the_policy_without_adaptation_is_one_command(monkeypatch, tmp_path):
    sizes = ["algo.meta_batch_size=3", "algo.num_minibatches=2", "model.head_sizes=[]"]
    words = ["env=point_navigation_2d", "algo=memoryless_ppo", *sizes, *END, "iterations=1"]
    assert call(monkeypatch, train, *words, f"run_dir={tmp_path / 'run'}") == 0
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [row["update"] for row in report["returns"]] == [0]
    assert report["env_steps"] == 2 * 2 * HORIZON  # 2 tasks x 2 episodes


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
    composed, chosen = configs.composed("train", [f"experiment={experiment}"], [configs.CONFIGS])
    algo = composed["algo"]
    trial = algo["episodes_per_trial"] * composed["env"]["horizon"]
    assert algo["replay_capacity"] >= 10 * trial * algo["meta_batch_size"]
    comments = configs.comments("train", chosen, [configs.CONFIGS])
    assert comments["algo.inference.kl_weight_executed"]


def test_more_worlds_than_memory_holds_are_refused_before_they_are_made(monkeypatch, capsys):
    """A step of a point has 2 numbers that are seen and 2 that are done, of 4 bytes each."""
    words = ["env=point_navigation_2d", "algo=rl2_ppo", "algo.meta_batch_size=100000"]
    for free, fits in ((100_000 * 100 * 16 - 1, False), (100_000 * 100 * 16, True)):
        monkeypatch.setattr(memory, "available", lambda device, free=free: free)
        config = OmegaConf.create(configs.composed("train", words, [configs.CONFIGS])[0])
        if fits:
            build.check_memory(config, 100_000)
            continue
        shown = refused(monkeypatch, capsys, train, *words)
        assert "100000 worlds of point_navigation_2d, one for each episode of each task" in shown
        assert "with 100 steps of 4 numbers: 152.6 MiB of memory, but 152.6 MiB are free" in shown


def test_replays_of_several_seeds_must_fit_together(monkeypatch, capsys, tmp_path):
    words = [*BELIEF, "num_seeds=2", f"run_dir={tmp_path / 'refused'}"]
    monkeypatch.setattr(memory, "available", lambda device: 2 * 30 * 214 - 1)
    shown = refused(monkeypatch, capsys, train, *words)
    stated = (
        "2 seeds, each with replay_capacity 30: 1 tasks × 30 transitions of 214 bytes: 12.5 KiB"
    )
    assert f"{stated} of memory on cpu, but 12.5 KiB are free there; expected fewer seeds" in shown
    assert not (tmp_path / "refused").exists()
    # A seed that is done takes no memory, when its sibling goes on.
    begun = tmp_path / "begun"
    monkeypatch.setattr(memory, "available", lambda device: 2 * 30 * 214)
    assert not call(monkeypatch, train, *BELIEF, "num_seeds=2", "iterations=1", f"run_dir={begun}")
    max((begun / "seed1" / "checkpoints").glob("iteration_*.pt")).unlink()
    monkeypatch.setattr(memory, "available", lambda device: 2 * 30 * 214 - 1)
    assert not call(monkeypatch, train, f"resume={begun}")


def test_a_replay_is_stated_before_training_and_refused_when_it_does_not_fit(
    monkeypatch, capsys, tmp_path
):
    """A step of a point has 2 + 2 + 1 + 2 numbers of 4 bytes and two flags: 30 bytes."""
    words = [*PEARL, "iterations=1"]
    monkeypatch.setattr(memory, "available", lambda device: 4799)
    shown = refused(monkeypatch, capsys, train, *words, f"run_dir={tmp_path / 'refused'}")
    stated = r"replay_capacity 40: 4 tasks × 40 transitions of 30 bytes: 4\.7 KiB of memory on cpu"
    assert re.search(stated + ", but 4.7 KiB are free there; expected a smaller capacity", shown)
    assert not (tmp_path / "refused").exists()
    monkeypatch.setattr(memory, "available", lambda device: 4800)
    assert call(monkeypatch, train, *words, f"run_dir={tmp_path / 'fits'}") == 0
    assert re.search(stated, capsys.readouterr().err)
