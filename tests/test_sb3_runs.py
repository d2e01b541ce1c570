"""Baselines by Stable-Baselines3 through the commands: train, go on, evaluate, compare, film, and
adapt from Python; what is missing or doesn't fit, in a line."""

import json
import re
import sys

import gymnasium
import numpy as np
import pytest
import torch
from support.commands import call, instead, numbers, refused

pytest.importorskip("stable_baselines3")

import metarl
from metarl.cli.commands import compare, evaluate, render, train
from metarl.errors import UserError

SMALL = [
    *("env=point_navigation_2d", "env.horizon=6", "device=cpu", "sim.num_threads=1"),
    *("algo.meta_batch_size=2", "algo.episodes_per_task=2", "algo.expert.batch_size=8"),
    *("model.hidden_sizes=[4]", "checkpoint_every=1"),
    *("evaluation.num_tasks=2", "evaluation.num_updates=1", "evaluation.video=false"),
]


def report_of(folder) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of multitask_ppo after three iterations, and of scratch_ppo, which trains on nothing."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for algo, more in {"multitask_ppo": ["iterations=3"], "scratch_ppo": []}.items():
            words = [f"algo={algo}", *SMALL, *more, f"run_dir={folder / algo}"]
            assert call(monkeypatch, train, *words) == 0
    return folder


def test_it_goes_on_from_a_checkpoint_to_the_same_numbers(runs, tmp_path, monkeypatch):
    part = tmp_path / "part"
    words = ["algo=multitask_ppo", *SMALL, "iterations=1", f"run_dir={part}"]
    assert call(monkeypatch, train, *words) == 0
    assert call(monkeypatch, train, f"resume={part}", "iterations=3") == 0
    first, second = numbers(runs / "multitask_ppo"), numbers(part)
    assert len(first) == 3 and first == second
    assert report_of(part)["returns"] == report_of(runs / "multitask_ppo")["returns"]


def test_an_update_is_a_round_on_as_many_episodes_and_from_scratch_needs_no_training(runs):
    report = report_of(runs / "scratch_ppo")
    assert report["algo"] == "scratch_ppo" and report["unit"] == "update"
    assert report["iteration"] == 0 and report["trained_env_steps"] == 0
    assert [row["update"] for row in report["returns"]] == [0, 1]
    assert report["env_steps"] <= 2 * 2 * 2 * 6  # Tasks, episodes, before and after, steps.


def test_more_rounds_are_a_setting_and_their_steps_are_counted(runs, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = ["algo=scratch_sac", *SMALL, "algo.rounds_per_update=3", f"run_dir={run}"]
    assert call(monkeypatch, train, *words) == 0
    once = report_of(runs / "scratch_ppo")["env_steps"]
    assert 1.5 * once < report_of(run)["env_steps"] <= 2 * once + 48


def test_an_oracle_is_told_its_task_without_being_asked(tmp_path, monkeypatch):
    run, words = tmp_path / "run", [word for word in SMALL if "num_updates" not in word]
    assert (
        call(monkeypatch, train, "algo=oracle_ppo", *words, "iterations=1", f"run_dir={run}") == 0
    )
    report = report_of(run)
    assert report["variant"] == "default, task shown" and report["num_updates"] == 0


def test_runs_are_evaluated_compared_and_filmed_as_any_others(runs, tmp_path, monkeypatch):
    checkpoint = f"checkpoint={runs / 'multitask_ppo'}"
    output = tmp_path / "more.json"
    words = ["num_tasks=2", "num_updates=2", "device=cpu", "deterministic=true"]
    assert call(monkeypatch, evaluate, checkpoint, *words, f"output={output}") == 0
    assert len(json.loads(output.read_text())["returns"]) == 3
    assert call(monkeypatch, compare, f"runs=[{runs}]", f"output={tmp_path / 'both'}") == 0
    text = "".join(file.read_text() for file in (tmp_path / "both").rglob("*.md"))
    assert "multitask_ppo" in text and "scratch_ppo" in text
    size = ("num_tasks=1", "width=64", "height=48", "device=cpu")
    assert call(monkeypatch, render, checkpoint, *size) == 0
    assert (runs / "multitask_ppo" / "videos" / "task_0.mp4").exists()


def test_an_agent_adapts_in_any_environment_and_its_policy_is_a_file(runs, tmp_path):
    agent = metarl.load(runs / "multitask_ppo")
    env = gymnasium.make("metarl/PointNavigation2d-v0", horizon=6)
    policy, obs = agent.adapt(env, episodes=4), np.array([0.1, -0.2], np.float32)
    assert not np.array_equal(policy(obs), agent.unadapted(obs))
    exported = torch.jit.load(policy.export(tmp_path / "policy.pt"))
    np.testing.assert_allclose(exported(torch.from_numpy(obs)), policy(obs), rtol=1e-5)
    for nothing, said in (
        (0, "episodes=0: expected a whole number, 1 or more"),
        ([], "episodes is empty: there is nothing to learn from; expected 1 or more"),
    ):
        with pytest.raises(UserError, match=said):
            agent.adapt(None if nothing == [] else env, episodes=nothing)


def test_missing_library_is_one_line_and_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    run = tmp_path / "run"
    assert call(monkeypatch, train, "algo=scratch_ppo", *SMALL, f"run_dir={run}") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and "pip install 'metarl[sb3]'" in lines[0]
    assert not run.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algo=oracle_ppo", "env.shows_task=false"], "expected env.shows_task=true"),
        (["algo=scratch_ppo", "algo.rounds_per_update=0"], "expected an integer, 1 or more"),
        (["algo=multitask_ppo", "algo.expert.batch_size=1"], "expected an integer, 2 or more"),
        (["algo=scratch_ppo", "evaluation.inner_lr_decay=0.5"], "has no update with a rate"),
    ],
)
def test_mistakes_are_answered_in_a_line(words, message, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shown = refused(monkeypatch, capsys, train, *instead(SMALL, words), f"run_dir={run}")
    assert re.search(message, shown), shown
    assert not run.exists()
