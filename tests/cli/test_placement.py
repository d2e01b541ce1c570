"""Facts about where a training computes, and what is said of it; and a training on MuJoCo Warp."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from support.commands import command

from envs.sim import warp_device
from metarl.cli import build, placement
from metarl.cli.commands import train as train_command
from metarl.cli.configs import CONFIGS, composed
from metarl.errors import SettingError
from metarl.run import checkpoint

GPU = torch.device("cuda")


def settled(monkeypatch, *words: str, gpu: bool) -> tuple[str, torch.device]:
    """The simulator and the device that a training with these words has."""
    found = lambda name: GPU if gpu and name != "cpu" else torch.device("cpu")
    monkeypatch.setattr(build, "device", found)
    monkeypatch.setattr(warp_device, "warp_device", lambda device: None)
    config = OmegaConf.create(composed("train", list(words), [CONFIGS])[0])
    device = placement.settle(config)
    return config.sim.backend, device


@pytest.mark.parametrize(
    ("words", "gpu", "expected", "said"),
    [
        (["sim=auto"], False, ("cpu", "cpu"), "sim=auto: cpu, as the learner is on no GPU"),
        # 40 tasks x 20 episodes: for a GPU few worlds, but 160 000 steps to learn from.
        (
            ["sim=auto", "algo.meta_batch_size=40", "algo.episodes_per_task=20"],
            True,
            ("cpu", "cuda"),
            "sim=auto: cpu, as 800 worlds are few; a GPU pays from 4096 on",
        ),
        (
            ["sim=auto", "algo.meta_batch_size=100", "algo.episodes_per_task=80"],
            True,
            ("warp", "cuda"),
            "sim=auto: warp, as 8000 worlds step faster on the GPU",
        ),
        (
            ["algo.meta_batch_size=2", "algo.episodes_per_task=2"],
            True,
            ("cpu", "cpu"),
            "device=auto: cpu, as a rollout has 800 steps; a GPU pays from 20000 on",
        ),
        (
            ["algo.meta_batch_size=2", "algo.episodes_per_task=2", "device=cuda"],
            True,
            ("cpu", "cuda"),
            "",
        ),
        (["sim=warp"], True, ("warp", "cuda"), ""),
        (["sim=warp"], False, ("warp", "cpu"), "sim=warp device=cpu is for tests"),
        (
            ["sim=auto", "env=bandit", "algo.meta_batch_size=100", "algo.episodes_per_task=80"],
            True,
            ("cpu", "cuda"),
            "sim=auto: cpu, as bandit has no physics",
        ),
    ],
)
def test_auto_is_what_is_faster_for_the_sizes(
    words, gpu, expected, said, monkeypatch, capsys
) -> None:
    backend, device = settled(monkeypatch, *words, gpu=gpu)
    assert (backend, device.type) == expected
    assert said in capsys.readouterr().err if said else capsys.readouterr().err == ""


def test_auto_is_the_c_engine_where_warp_cannot_use_the_gpu(monkeypatch, capsys) -> None:
    def too_old(device: torch.device) -> None:
        raise SettingError("the NVIDIA driver is too old")

    words = ("algo.meta_batch_size=100", "algo.episodes_per_task=80", "sim=auto")
    assert settled(monkeypatch, *words, gpu=True)[0] == "warp"
    monkeypatch.setattr(warp_device, "warp_device", too_old)
    config = OmegaConf.create(composed("train", list(words), [CONFIGS])[0])
    placement.settle(config)
    assert config.sim.backend == "cpu"
    assert "sim=auto: cpu, as the NVIDIA driver is too old" in capsys.readouterr().err


def test_a_buffer_that_is_too_small_undoes_the_iteration_and_can_be_given_anew(
    tmp_path, monkeypatch, capsys
) -> None:
    words = [
        *("env=half_cheetah_vel", "sim=warp", "sim.num_threads=1", "device=cpu", "iterations=1"),
        *("env.horizon=12", "algo.meta_batch_size=2", "algo.episodes_per_task=2"),
        *("model.hidden_sizes=[4]", "evaluation.num_tasks=2", "evaluation.num_updates=0"),
        *("evaluation.video=false", "sim.max_contacts=1", f"run_dir={tmp_path}/run"),
    ]
    assert command(train_command.main, monkeypatch, *words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: training diverged in iteration 0: ")
    assert "more contacts than MuJoCo Warp's buffers hold" in error and "is saved in" in error
    again = (f"resume={tmp_path}/run", "sim=warp", "sim.max_contacts=null", "sim.graphs=false")
    assert command(train_command.main, monkeypatch, *again) == 0
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["returns"]
    sim = OmegaConf.load(tmp_path / "run" / "config.yaml").sim
    assert (sim.max_contacts, sim.graphs, sim.num_threads) == (None, False, 1)
    assert command(train_command.main, monkeypatch, f"resume={tmp_path}/run", "sim=cpu") == 2
    assert "sim can't be changed with resume" in capsys.readouterr().err


def test_a_training_on_mujoco_warp_says_so_and_is_evaluated(tmp_path, monkeypatch, capsys) -> None:
    words = [
        *("env=half_cheetah_vel", "sim=warp", "sim.num_threads=1", "device=cpu", "iterations=2"),
        *("env.horizon=4", "algo.meta_batch_size=2", "algo.episodes_per_task=2"),
        *("model.hidden_sizes=[4]", "evaluation.num_tasks=2", "evaluation.num_updates=1"),
        *("evaluation.video=false", f"run_dir={tmp_path}/run"),
    ]
    assert command(train_command.main, monkeypatch, *words) == 0
    said = capsys.readouterr().err
    assert "sim=warp device=cpu is for tests" in said and "sim warp, device cpu" in said
    content = checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]
    assert (content["sim"], content["device"]) == ("warp", "cpu")
    assert {"mujoco-warp", "warp-lang"} <= content["versions"].keys()
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["returns"]
    assert command(train_command.main, monkeypatch, f"resume={tmp_path}/run", "iterations=3") == 0
    assert "sim warp, device cpu" in capsys.readouterr().err
