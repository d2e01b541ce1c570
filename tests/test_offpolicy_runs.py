"""Learners that keep a replay through the commands: train, be killed, resume, evaluate, render;
what they refuse, in a line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import call

from metarl.cli.commands import evaluate, render, train
from metarl.run import memory
from metarl.run.logging import read_metrics
from metarl.run.timing import without_timing

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parents[1]

END = ["evaluation.num_tasks=2", "evaluation.video=false", "device=cpu", "checkpoint_every=1"]
PEARL = [
    *("env=point_navigation_2d", "env.horizon=3", "env.num_train_tasks=4", "algo=pearl"),
    *("algo.meta_batch_size=2", "algo.initial_steps=6", "algo.prior_steps=6"),
    *("algo.rl_steps=3", "algo.updates_per_iteration=2", "algo.batch_tasks=2"),
    *("algo.batch_size=4", "algo.context_size=4", "algo.replay_capacity=40"),
    *("model.encoder_sizes=[4]", "model.hidden_sizes=[4]", *END),
]
RL2 = [
    *("env=point_navigation_2d", "env.horizon=3", "algo=rl2_offpolicy", "algo.meta_batch_size=2"),
    *("algo.initial_trials=2", "algo.updates_per_iteration=2", "algo.batch_size=3"),
    *("algo.replay_capacity=30", "model.memory.hidden_size=4", "model.head_sizes=[4]"),
    *("model.present_size=3", *END),
]
LEARNERS = {"pearl": PEARL, "rl2_offpolicy": RL2}


def metrics(folder) -> list[dict]:
    return [without_timing(row) for row in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module", params=LEARNERS)
def finished(request, tmp_path_factory):
    """(folder of a whole run of six iterations, the words that it was called with)"""
    folder, words = tmp_path_factory.mktemp("runs") / "run", LEARNERS[request.param]
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert call(monkeypatch, train, *words, "iterations=6", f"run_dir={folder}") == 0
    return folder, words


def test_killed_in_the_middle_it_resumes_to_the_same_numbers(finished, tmp_path, monkeypatch):
    """With kill −9. The rings are full by then, so that resuming needs files of several ages."""
    whole, words = finished
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [
            *(sys.executable, ROOT / "scripts" / "train.py", *words, "iterations=6"),
            f"run_dir={killed}",
        ],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    log, deadline = killed / "metrics.jsonl", time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") >= 4):
        assert process.poll() is None and time.monotonic() < deadline, "it ended or hung"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert log.read_text().count("\n") < 6
    assert call(monkeypatch, train, f"resume={killed}") == 0
    assert metrics(killed) == metrics(whole)


def test_an_update_of_the_evaluation_is_an_episode_of_the_trial(finished, tmp_path, monkeypatch):
    folder, words = finished
    report = json.loads((folder / "evaluation.json").read_text())
    episodes = 3 if words is PEARL else 2
    assert [row["update"] for row in report["returns"]] == list(range(episodes))
    assert report["unit"] == "episode" and report["env_steps"] == 2 * episodes * 3
    output = tmp_path / "modes.json"
    asked = [f"checkpoint={folder}", "num_tasks=2", "num_updates=3", "device=cpu"]
    assert call(monkeypatch, evaluate, *asked, "deterministic=true", f"output={output}") == 0
    assert len(json.loads(output.read_text())["returns"]) == 4


def test_evaluations_may_see_as_much_as_training_did(finished, tmp_path, monkeypatch, capsys):
    folder, words = finished
    asked = [f"checkpoint={folder}", "num_tasks=2", "device=cpu", f"output={tmp_path / 'x.json'}"]
    done = call(monkeypatch, evaluate, *asked, "context_size=4")
    if words is PEARL:
        assert done == 0 and json.loads((tmp_path / "x.json").read_text())["context_size"] == 4
    else:
        assert done == 2
        assert "context_size=4: rl2_offpolicy infers no task" in capsys.readouterr().err


def test_a_replay_for_each_task_is_no_hindrance_where_tasks_are_drawn_anew(
    finished, tmp_path, monkeypatch
):
    folder, words = finished
    asked = [f"checkpoint={folder}", "num_tasks=2", "device=cpu", f"output={tmp_path / 'x.json'}"]
    elsewhere = ["env=point_navigation_2d", "env.horizon=5"]
    assert call(monkeypatch, evaluate, *asked, *elsewhere) == 0
    episodes = 3 if words is PEARL else 2
    assert json.loads((tmp_path / "x.json").read_text())["env_steps"] == 2 * episodes * 5


def test_the_first_episode_is_filmed_beside_the_last(finished, monkeypatch):
    folder, _ = finished
    words = ("num_tasks=1", "width=160", "height=120", "device=cpu")
    assert call(monkeypatch, render, f"checkpoint={folder}", *words) == 0
    assert (folder / "videos" / "task_0.mp4").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*PEARL, "algo.context_size=7"], "context_size 7: expected at most 6, the steps that"),
        (
            [*PEARL, "env.num_train_tasks=null"],
            "expected a fixed number of them, for instance env.",
        ),
        ([*PEARL, "algo.cost=height"], "cost height: expected a term of .*'s steps: distance"),
        ([*PEARL, "algo.rl_steps=0"], "posterior_steps 0 and rl_steps 0: expected 1 or more"),
        ([*PEARL, "algo.batch_tasks=0"], "algo.batch_tasks=0: expected an integer, 1 or more"),
        ([*PEARL, "model=mlp"], "model is a GaussianPolicy; expected a PearlModel, as model=pearl"),
        (["env=bandit", "algo=pearl"], r"action space is Discrete\(5\): expected a flat Box"),
        (
            ["env=bandit", "algo=rl2_offpolicy"],
            r"action space is Discrete\(5\): expected a flat Box",
        ),
        ([*RL2, "algo.replay_capacity=11"], "replay_capacity 11: expected 12 or more"),
    ],
)
def test_mistakes_are_answered_in_a_line(words, message, monkeypatch, capsys, tmp_path):
    words = [word for word in words if word != "model.hidden_sizes=[4]" or "model=mlp" not in words]
    if "model=mlp" in words:
        words = [word for word in words if not word.startswith("model.")]
    run = tmp_path / "run"
    assert call(monkeypatch, train, *words, "iterations=1", f"run_dir={run}") == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown and re.search(message, shown), shown
    assert not run.exists()


def test_a_replay_is_stated_before_training_and_refused_when_it_does_not_fit(
    monkeypatch, capsys, tmp_path
):
    """A step of a point has 2 + 2 + 1 + 2 numbers of 4 bytes and two flags: 30 bytes."""
    words = [*PEARL, "iterations=1"]
    monkeypatch.setattr(memory, "available", lambda device: 4799)
    assert call(monkeypatch, train, *words, f"run_dir={tmp_path / 'refused'}") == 2
    stated = r"replay_capacity 40: 4 tasks × 40 transitions of 30 bytes: 4\.7 KiB of memory on cpu"
    shown = capsys.readouterr().err
    assert re.search(stated + ", but 4.7 KiB are free there; expected a smaller capacity", shown)
    assert not (tmp_path / "refused").exists()
    monkeypatch.setattr(memory, "available", lambda device: 4800)
    assert call(monkeypatch, train, *words, f"run_dir={tmp_path / 'fits'}") == 0
    assert re.search(stated, capsys.readouterr().err)
