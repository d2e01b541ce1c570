"""Whole runs through the commands, as a user starts them: what they leave behind, and what happens
when things go wrong."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.commands import command, numbers

from metarl.cli import outputs
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import render as render_command
from metarl.cli.commands import train as train_command
from metarl.run import checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "env=point_navigation_2d",
    "env.horizon=20",
    "algo.meta_batch_size=3",
    "algo.episodes_per_task=2",
    "algo.num_epochs=2",
    "model.hidden_sizes=[8]",
    "evaluation.num_tasks=3",
    "evaluation.video=false",
    "device=cpu",
]


def train(monkeypatch, *arguments) -> int:
    return command(train_command.main, monkeypatch, *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Never written to."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert train(monkeypatch, *TINY, "iterations=2", f"run_dir={folder}") == 0
    return folder


@pytest.fixture
def finished(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_leaves_what_the_readme_promises(finished):
    assert {
        "config.yaml",
        "metrics.jsonl",
        "checkpoints",
        "evaluation.json",
        "adaptation_curve.png",
    } <= {path.name for path in finished.iterdir()}
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [0, 1]
    assert {"env_steps", "return_before", "return_after", "seconds", "env_steps_per_second"} <= set(
        rows[0]
    )
    report = json.loads((finished / "evaluation.json").read_text())
    assert (
        report["env"] == "point_navigation_2d"
        and report["variant"] == "default"
        and report["spec_hash"]
    )
    assert [row["update"] for row in report["returns"]] == [0, 1, 2, 3]
    assert {"mean", "iqm", "ci_low", "ci_high"} <= set(report["returns"][0]) & set(
        report["adaptation_gain"]
    )
    assert {"random_initialisation", "stand_still", "command", "commit", "versions", "seed"} <= set(
        report
    )
    assert {"mean", "iqm", "ci_low", "ci_high"} <= set(report["references"]["oracle"])


def test_evaluate_reads_a_run_folder_and_a_file(finished, tmp_path, monkeypatch, capsys):
    file = checkpoint.list_checkpoints(finished / "checkpoints")[-1]
    reports = []
    for number, location in enumerate((finished, file)):
        output = tmp_path / f"evaluation{number}"
        sizes = ("num_tasks=4", "num_updates=2", "episodes_per_task=2", "device=cpu")
        assert (
            command(
                evaluate_command.main,
                monkeypatch,
                f"checkpoint={location}",
                f"output={output}",
                *sizes,
            )
            == 0
        )
        reports.append(json.loads((output / "evaluation.json").read_text()))
    assert reports[0]["returns"] == reports[1]["returns"] and len(reports[0]["returns"]) == 3
    printed = capsys.readouterr().out
    assert "gain of 1 update" in printed
    assert "oracle" in printed


def test_killed_in_the_middle_it_resumes_to_the_same_metrics(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sizes = [
        *TINY,
        "checkpoint_every=2",
        "evaluation.num_updates=0",
        "algo.num_inner_steps=1",
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / "scripts" / "train.py",
            *sizes,
            "iterations=1000",
            f"run_dir={killed}",
        ],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    metrics = killed / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_text().count("\n") >= 5):
        assert process.poll() is None and time.monotonic() < deadline, (
            "the run ended or hung before it could be killed"
        )
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    more = f"iterations={len(numbers(killed)) + 2}"
    assert train(monkeypatch, f"resume={killed}", more) == 0
    assert train(monkeypatch, *sizes, more, f"run_dir={whole}") == 0
    assert numbers(killed) == numbers(whole)


def test_a_sweep_ends_in_a_table_of_the_runs_that_did_not_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        train(monkeypatch, "-m", *TINY, "iterations=1", "seed=0,1", "algo.inner_lr=0.1,1e30") == 1
    )
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    table = (sweep / "comparison.md").read_text()
    shown = capsys.readouterr()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
        if line.startswith("| point_nav")
    ]
    assert [(row[1], row[2]) for row in rows] == [("seed=0", "0"), ("seed=1", "1")]
    assert all((Path(row[6]) / "evaluation.json").exists() for row in rows)
    table, _, failed = table.partition("\nFailed:\n")
    assert table in shown.out and "after 3 updates" in table and "diverged" in failed
    assert "error: 2 runs of the sweep failed:" in shown.err
    # The two seeds are one learner.
    assert (
        "\n| maml_ppo | 0, 1 |" in table and "maml_ppo,0 1,2," in (sweep / "table.csv").read_text()
    )
    assert "maml\\_ppo & 0, 1" in (sweep / "table.tex").read_text()
    assert f"report.py runs=[{sweep.relative_to(tmp_path)}]" in shown.err


def test_resume_with_more_iterations_goes_on_and_refuses_other_settings(
    finished, monkeypatch, capsys
):
    assert train(monkeypatch, f"resume={finished}", "iterations=3") == 0
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 3
    assert train(monkeypatch, f"resume={finished}", "iterations=1") == 0
    assert (
        "iterations=1: 3 are done, so only the evaluation is made again" in capsys.readouterr().err
    )
    assert train(monkeypatch, f"resume={finished}", "algo.inner_lr=0.2") == 2
    assert "algo.inner_lr can't be changed with resume" in capsys.readouterr().err
    # what the default learner doesn't have, another one may
    assert train(monkeypatch, f"resume={finished}", "algo.entropy_coefficient=0.2") == 2
    assert "algo.entropy_coefficient can't be changed with resume" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_not_written_over(finished, monkeypatch, capsys):
    assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={finished}") == 2
    assert "holds a run already" in capsys.readouterr().err


def test_a_folder_of_runs_is_no_run_folder(finished, monkeypatch, capsys):
    """Comparisons of what lies there would take it for one of them."""
    for folder in (finished.parent, finished.parents[1]):
        assert train(monkeypatch, *TINY, "iterations=1", f"run_dir={folder}") == 2
        assert f"run_dir={folder}: holds runs already, such as " in capsys.readouterr().err


def test_a_policy_that_outputs_nan_stops_with_a_checkpoint_from_before(
    tmp_path, monkeypatch, capsys
):
    from metarl.rl.algorithms.maml_ppo import MamlPPO

    real, calls = MamlPPO.step, []

    def step(learner):
        calls.append(1)
        if len(calls) == 3:
            learner.params.theta["log_std"].fill_(float("nan"))
        return real(learner)

    monkeypatch.setattr(MamlPPO, "step", step)
    folder = tmp_path / "run"
    assert train(monkeypatch, *TINY, "iterations=5", f"run_dir={folder}") == 2
    message = capsys.readouterr().err
    assert (
        "diverged in iteration 2" in message
        and "iteration_00000002.pt" in message
        and "nan" in message
    )
    assert "Traceback" not in message
    saved = checkpoint.load_newest(folder / "checkpoints")[1]
    assert saved["learner"]["params"]["policy.log_std"].isfinite().all()


def test_a_world_that_blows_up_ends_its_episode_and_neither_the_run_nor_the_metrics(
    tmp_path, monkeypatch, capsys
):
    from envs.mujoco.env import MujocoEnv

    real, calls = MujocoEnv.step, []

    def step(env, action):
        calls.append(1)
        if len(calls) == 12:  # step 2 of iteration 1; an iteration has 2 x 5
            env.sim.qvel[1, 3] = float("nan")
        return real(env, action)

    monkeypatch.setattr(MujocoEnv, "step", step)
    sizes = [
        *("env=half_cheetah_vel", "env.horizon=5", *TINY[2:], "algo.num_inner_steps=1"),
        *("evaluation.num_updates=0", "sim.num_threads=1"),
    ]
    assert train(monkeypatch, *sizes, "iterations=3", f"run_dir={tmp_path}/run") == 0
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["diverged_episodes"] for row in rows] == [0, 1, 0]
    assert (
        rows[1]["env_steps"] - rows[0]["env_steps"] == rows[0]["env_steps"] - 3
    )  # of 5 steps, 2 count
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert "1 episode broke off" in capsys.readouterr().err


def test_a_checkpoint_of_another_definition_of_the_environment_is_refused(
    finished, monkeypatch, capsys
):
    path = checkpoint.list_checkpoints(finished / "checkpoints")[-1]
    content = checkpoint.load(path)
    checkpoint.save(path.parent, content | {"spec_hash": "0123456789ab"}, keep=3)
    assert command(evaluate_command.main, monkeypatch, f"checkpoint={finished}") == 2
    message = capsys.readouterr().err
    assert "0123456789ab" in message and "definition has changed" in message


def test_evaluating_where_the_learner_cannot_see_is_refused(finished, monkeypatch, capsys):
    arguments = (f"checkpoint={finished}", "env=half_cheetah_vel")
    assert command(evaluate_command.main, monkeypatch, *arguments) == 2
    assert "the learner was trained with" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_named_and_the_one_before_used(finished, monkeypatch, capsys):
    newest = checkpoint.list_checkpoints(finished / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert train(monkeypatch, f"resume={finished}") == 0
    assert f"{newest} is damaged" in capsys.readouterr().err
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_file_that_is_no_checkpoint_is_named(tmp_path, monkeypatch, capsys):
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(3)}, file)
    assert command(evaluate_command.main, monkeypatch, f"checkpoint={file}") == 2
    assert "weights.pt is damaged" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert train(monkeypatch, *TINY, f"run_dir={tmp_path}/file/run") == 2
    assert f"folder {tmp_path}/file/run" in capsys.readouterr().err


def test_an_evaluation_that_cannot_be_written_is_shown_all_the_same(
    finished, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("not a folder")
    capsys.readouterr()
    monkeypatch.setattr(outputs, "folder", Path)  # It could be written when the work began.
    sizes = (
        f"checkpoint={finished}",
        f"output={tmp_path}/file/here",
        "num_tasks=2",
        "num_updates=0",
        "device=cpu",
    )
    assert command(evaluate_command.main, monkeypatch, *sizes) == 2
    shown = capsys.readouterr()
    assert (
        f"can't write the evaluation to {tmp_path}/file/here" in shown.err
        and "Traceback" not in shown.err
    )
    assert "before adaptation" in shown.out


def test_a_disk_that_fills_up_stops_with_a_message_and_keeps_the_last_checkpoint(
    tmp_path, monkeypatch, capsys
):
    folder, real = tmp_path / "run", os.fsync

    def full(descriptor):
        if (folder / "metrics.jsonl").exists() and len(
            (folder / "metrics.jsonl").read_text().splitlines()
        ) >= 3:
            raise OSError(28, "No space left on device")
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert train(monkeypatch, *TINY, "iterations=5", "checkpoint_every=1", f"run_dir={folder}") == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message and "Traceback" not in message
    monkeypatch.setattr(os, "fsync", real)
    assert train(monkeypatch, f"resume={folder}") == 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algo.meta_batch_size=0", "meta_batch_size"),
        ("algo.outer_lr=-1", "algo.outer_lr=-1: expected"),
        ("algo.outer_lr=inf", "algo.outer_lr=inf: expected a finite number above 0"),
        ("run_dir=''", "run_dir=: expected a folder"),
        ("env.horizon=0", "horizon"),
        ("seed=-1", "seed=-1"),
        ("iterations=-5", "iterations=-5"),
        ("device=tpu", "device=tpu: expected cpu, cuda"),
        ("evaluation.num_tasks=0", "num_tasks=0"),
        ("model.hidden_sizes=[]", "hidden_sizes"),
        ("sim.num_threads=0", "num_threads"),
    ],
)
def test_numbers_out_of_range_end_with_a_message(tmp_path, monkeypatch, capsys, override, message):
    sizes = [word for word in TINY if word.split("=")[0] != override.split("=")[0]]
    env = ["env=half_cheetah_vel"] if override.startswith("sim.") else []
    assert (
        train(monkeypatch, *sizes, *env, "iterations=1", f"run_dir={tmp_path}/run", override) == 2
    )
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
    assert not (tmp_path / "run").exists()  # so that the corrected command finds nothing in its way


@pytest.mark.parametrize(
    ("algo", "few"),
    [
        ("grbal", ["algo.num_gradient_steps=2", "algo.num_past=2", "algo.num_future=2"]),
        ("recurrent_mbrl", ["algo.num_sweeps=1"]),
    ],
)
def test_a_model_based_run_resumes_evaluates_and_is_filmed(
    tmp_path, monkeypatch, capsys, algo, few
):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    sizes = [
        "env=point_navigation_2d",
        "env.horizon=5",
        f"algo={algo}",
        *few,
        "algo.meta_batch_size=2",
    ]
    sizes += [
        "algo.planner.num_candidates=20",
        "model.hidden_sizes=[8]",
        "evaluation.num_tasks=2",
        "device=cpu",
    ]
    assert train(monkeypatch, *sizes, "iterations=2", f"run_dir={folder}") == 0
    assert train(monkeypatch, f"resume={folder}", "iterations=3") == 0
    assert train(monkeypatch, *sizes, "iterations=3", f"run_dir={whole}") == 0
    assert numbers(folder) == numbers(whole)
    assert (
        command(
            evaluate_command.main, monkeypatch, f"checkpoint={folder}", "num_tasks=2", "device=cpu"
        )
        == 0
    )
    assert "episode 1" in capsys.readouterr().out
    sizes = ("num_tasks=1", "width=160", "height=120", "device=cpu")
    assert command(render_command.main, monkeypatch, f"checkpoint={folder}", *sizes) == 0
    assert (folder / "videos" / "task_0.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env=bandit", "algo=grbal"], "action space Discrete(5)"),
        (["env=bandit", "algo=recurrent_mbrl"], "action space Discrete(5)"),
        (
            ["algo=grbal", "model=mlp"],
            "model is a GaussianPolicy; expected a FeedForwardDynamics, as "
            "model=feed_forward_dynamics",
        ),
        (
            ["algo=recurrent_mbrl", "model=feed_forward_dynamics"],
            "expected a RecurrentDynamics, as model=recurrent_dynamics",
        ),
        (
            ["algo=maml_ppo", "model=recurrent_dynamics"],
            "model is a RecurrentDynamics; expected a policy",
        ),
        (["algo=grbal", "env.horizon=20"], "a window of 32 steps doesn't fit into a trial of 20"),
        (
            ["algo=grbal", "algo.planner.method=shooting"],
            "algo.planner.method=shooting: expected mppi or cem",
        ),
    ],
)
def test_what_a_planner_or_a_model_cannot_do_ends_with_a_message(
    tmp_path, monkeypatch, capsys, words, message
):
    env = [] if any(word.startswith("env=") for word in words) else ["env=point_navigation_2d"]
    assert (
        train(monkeypatch, *env, *words, "iterations=1", "device=cpu", f"run_dir={tmp_path}/run")
        == 2
    )
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
