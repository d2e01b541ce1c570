"""Sweeps by Hydra's launchers: runs in processes of their own end in the same table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import call

from metarl import threads
from metarl.cli import launchers
from metarl.cli.commands import train

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("env=point_navigation_2d", "env.horizon=5", "device=cpu", "algo.num_epochs=1"),
    *("algo.meta_batch_size=2", "algo.episodes_per_task=2", "algo.num_inner_steps=1"),
    *("model.hidden_sizes=[4]", "evaluation.num_tasks=2", "evaluation.num_updates=0"),
    *("evaluation.video=false", "iterations=1"),
]


def sweep_of(folder, *words):
    """The finished process of a sweep, and the sweep's folder. Not in this process, whose types are
    checked by wrappers that can't be sent to another."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "train.py", "-m", *TINY, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    (sweep,) = (folder / "runs" / "sweeps").iterdir()
    return done, sweep


def the_run_of(sweep):
    (line,) = (sweep / "runs.jsonl").read_text().splitlines()
    return Path(json.loads(line)["folder"])


def test_joblib_runs_a_sweep_in_processes_that_share_the_cores(tmp_path):
    """One run of it fails; the other is in the table."""
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "algo.inner_lr=0.1,1e30")
    done, sweep = sweep_of(tmp_path, *words)
    assert done.returncode == 1 and "error: 1 run of the sweep failed:" in done.stderr
    (failed,) = (sweep / "failed.jsonl").read_text().splitlines()
    assert "training diverged" in json.loads(failed)["error"]
    assert "| point_navigation_2d |" in (sweep / "comparison.md").read_text()
    folder = the_run_of(sweep)
    share = max(1, launchers.num_cores() // 2)
    assert OmegaConf.load(folder / "config.yaml").sim.num_threads == share
    assert words[-1] in json.loads((folder / "evaluation.json").read_text())["command"]


@pytest.mark.slow
def test_submitit_runs_a_sweep_in_jobs_of_this_machine(tmp_path):
    words = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", "seed=1")
    done, sweep = sweep_of(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    config = OmegaConf.load(the_run_of(sweep) / "config.yaml")
    assert (config.seed, config.sim.num_threads) == (1, 1)
    assert "| point_navigation_2d |" in (sweep / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"_target_": "a.JoblibLauncher", "n_jobs": 4}, 2),
        ({"_target_": "a.JoblibLauncher", "n_jobs": -1}, 1),
        ({"_target_": "a.JoblibLauncher", "n_jobs": -7}, 4),
        ({"_target_": "a.JoblibLauncher", "n_jobs": 100}, 1),
        ({"_target_": "a.LocalLauncher", "cpus_per_task": 3}, 3),
        ({"_target_": "a.LocalLauncher", "cpus_per_task": None}, 1),
        ({"_target_": "a.SlurmLauncher", "cpus_per_task": 3}, None),  # Slurm keeps jobs apart.
        ({"_target_": "a.BasicLauncher"}, None),
    ],
)
def test_a_run_takes_its_share_of_eight_cores(monkeypatch, launcher, expected):
    class Sweep:
        @staticmethod
        def get():
            return OmegaConf.create({"launcher": launcher})

    monkeypatch.setattr(launchers, "HydraConfig", Sweep)
    monkeypatch.setattr(launchers, "is_sweep", lambda: True)
    monkeypatch.setattr(launchers, "num_cores", lambda: 8)
    monkeypatch.setattr(threads, "WORKERS", 7)
    found, own = (OmegaConf.create({"sim": {"num_threads": number}}) for number in (None, 5))
    try:
        launchers.share_cores(found)
        launchers.share_cores(own)
        assert torch.get_num_threads() == (expected or 1)
    finally:
        torch.set_num_threads(1)
    assert (expected or 7) == threads.WORKERS
    assert (found.sim.num_threads, own.sim.num_threads) == (expected, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: launchers start the runs of a sweep;"),
        (["-m", "hydra/launcher=slurm"], "hydra/launcher=slurm: there is no such launcher;"),
        (
            ["-m", "hydra/launcher=ray"],
            "hydra/launcher=ray isn't installed: pip install hydra-ray-",
        ),
    ],
)
def test_what_a_launcher_needs_is_said_in_a_line(monkeypatch, capsys, words, message):
    monkeypatch.setitem(launchers.NEEDS, "ray", ("hydra-ray-launcher", "hydra_plugins.none_such"))
    assert call(monkeypatch, train, *words, "seed=0") == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
