"""Sweeps by Hydra's launchers: runs in processes of their own end in the same table."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import call

from metarl import threads
from metarl.cli import launchers, sweep
from metarl.cli.commands import train
from metarl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("env=point_navigation_2d", "env.horizon=5", "device=cpu", "algo.num_epochs=1"),
    *("algo.meta_batch_size=2", "algo.episodes_per_task=2", "algo.num_inner_steps=1"),
    *("model.hidden_sizes=[4]", "evaluation.num_tasks=2", "evaluation.num_updates=0"),
    *("evaluation.video=false", "iterations=1"),
]


def started(folder, *words):
    """The process of a sweep. Not in this one, whose types are checked by wrappers that can't be
    sent to another."""
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "train.py", "-m", *TINY, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def ended(process, folder):
    """The exit code and stderr of a sweep, and its folder."""
    _, said = process.communicate()
    (place,) = (folder / "runs" / "sweeps").iterdir()
    return process.returncode, said, place


def the_run_of(place):
    (file,) = (place / "done").iterdir()
    return Path(json.loads(file.read_text())["folder"])


def check_that_one_of_two_runs_fails(folder, *words, num_threads):
    """The other is in the table, and took so many threads."""
    code, said, place = ended(started(folder, *words, "algo.inner_lr=0.1,1e30"), folder)
    assert code == 1 and "error: 1 run of the sweep failed:" in said, said
    (failed,) = (place / "failed").iterdir()
    assert "training diverged" in json.loads(failed.read_text())["error"]
    assert "| point_navigation_2d |" in (place / "comparison.md").read_text()
    run = the_run_of(place)
    assert run.is_relative_to(folder / "runs")
    assert OmegaConf.load(run / "config.yaml").sim.num_threads == num_threads
    command = json.loads((run / "evaluation.json").read_text())["command"]
    assert "algo.inner_lr=0.1,1e30" in command


def test_joblib_runs_a_sweep_in_processes_that_share_the_cores(tmp_path):
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    share = max(1, launchers.num_cores() // 2)
    check_that_one_of_two_runs_fails(tmp_path, *words, num_threads=share)


def has_slurm():
    if shutil.which("sinfo") is None or shutil.which("srun") is None:
        return False
    found = subprocess.run(["sinfo", "-h"], capture_output=True, text=True)
    return found.returncode == 0 and "idle" in found.stdout


@pytest.mark.slow
def test_slurm_runs_a_sweep_in_its_jobs(tmp_path):
    if not has_slurm():
        pytest.skip("there is no Slurm cluster with an idle machine here")
    words = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10")
    words = (*words, "hydra.launcher.cpus_per_task=1")
    check_that_one_of_two_runs_fails(tmp_path, *words, num_threads=1)


@pytest.mark.slow
def test_ray_runs_a_sweep_in_its_tasks(tmp_path):
    if find_spec("hydra_plugins.hydra_ray_launcher") is None:
        pytest.skip("hydra-ray-launcher isn't installed")
    """Ray starts here, or is the cluster that RAY_ADDRESS names."""
    check_that_one_of_two_runs_fails(tmp_path, "hydra/launcher=ray", num_threads=1)


@pytest.mark.slow
def test_a_job_that_is_started_again_goes_on_in_its_folder(tmp_path):
    """Its time is over: submitit's signal lets the training save, and the new job resumes it."""
    words = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=30", "seed=1")
    process = started(tmp_path, *words, "iterations=600", "checkpoint_every=1000")
    runs = tmp_path / "runs" / "point_navigation_2d" / "maml_ppo"
    metrics = wait_for(lambda: next(runs.glob("*/metrics.jsonl"), None))
    wait_for(lambda: len(metrics.read_text().splitlines()) > 2)
    pid = json.loads((metrics.parent / "run.lock").read_text())["pid"]
    os.kill(pid, signal.SIGUSR2)
    wait_for(lambda: sorted((metrics.parent / "checkpoints").glob("*.pt"))[-1].stem > ZERO)
    code, said, place = ended(process, tmp_path)
    assert code == 0, said
    assert the_run_of(place) == metrics.parent
    done = [json.loads(line)["iteration"] for line in metrics.read_text().splitlines()]
    assert done == list(range(600))
    (out,) = (place / ".submitit").glob("*/*_0_log.err")
    assert "stopping after this iteration" in out.read_text()
    assert "it was begun before, and goes on:" in out.read_text()


@pytest.mark.parametrize("words", [["seed=3", "num_seeds=2"], ["run_dir=mine"]])
def test_a_job_that_is_started_again_when_all_is_done_makes_no_second_run(
    tmp_path, monkeypatch, capsys, words
):
    """The sweep is called twice, and the second time doesn't clear what the first one has noted."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert call(monkeypatch, train, "-m", *TINY, *words, "hydra.sweep.dir=sweep") == 0
        monkeypatch.setattr(sweep.End, "on_multirun_start", lambda *_, **__: None)
    assert "it is done: " in capsys.readouterr().err
    (file,) = Path("sweep/done").iterdir()
    (row,) = Path("sweep/comparison.md").read_text().partition("The runs:")[2].splitlines()[4:]
    assert json.loads(file.read_text())["folder"] in row


ZERO = "iteration_00000000"


def wait_for(found, seconds=120.0):
    """What it finds, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (it := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return it


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"_target_": "a.JoblibLauncher", "n_jobs": 4}, 2),
        ({"_target_": "a.JoblibLauncher", "n_jobs": -1}, 1),
        ({"_target_": "a.JoblibLauncher", "n_jobs": -7}, 4),
        ({"_target_": "a.JoblibLauncher", "n_jobs": 100}, 1),
        ({"_target_": "a.LocalLauncher", "cpus_per_task": 3}, 3),
        ({"_target_": "a.LocalLauncher", "cpus_per_task": None}, 1),
        ({"_target_": "a.SlurmLauncher", "cpus_per_task": 3}, None),  # Slurm says it: see below.
        ({"_target_": "a.RayLauncher", "ray": {"remote": {}}}, 1),
        ({"_target_": "a.RayLauncher", "ray": {"remote": {"num_cpus": 3}}}, 3),
        ({"_target_": "a.RayAWSLauncher", "ray": {"remote": {"num_cpus": 0.5}}}, 1),
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
        (["-m", "hydra/launcher=slurm"], "hydra/launcher=slurm: expected one of basic, joblib, "),
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


def test_a_run_takes_the_cores_that_slurm_gives_its_job(monkeypatch):
    launcher = {"launcher": {"_target_": "a.SlurmLauncher", "cpus_per_task": None}}
    monkeypatch.setattr(launchers.HydraConfig, "get", lambda: OmegaConf.create(launcher))
    monkeypatch.setattr(launchers, "num_cores", lambda: 8)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert launchers._share() == 3
    monkeypatch.setattr(launchers, "num_cores", lambda: 2)
    assert launchers._share() == 2


def test_slurm_is_missed_in_a_line(monkeypatch):
    monkeypatch.setattr(launchers.shutil, "which", lambda name: None)
    monkeypatch.setattr(launchers, "is_installed", lambda package: True)
    with pytest.raises(UserError, match="submitit_slurm: there is no srun; expected a machine of"):
        launchers.check("submitit_slurm", multirun=True)


def test_ray_may_be_a_cluster_that_runs_unless_the_user_gives_it_memory():
    """Beside a size, which its launcher sets otherwise, a cluster refuses the connection."""
    key = "hydra.launcher.ray.init.object_store_memory"
    assert launchers.settings("ray", ["seed=0"]) == [f"++{key}=null"]
    assert launchers.settings("ray", [f"+{key}=100000000"]) == []
    assert launchers.settings("joblib", ["seed=0"]) == []
