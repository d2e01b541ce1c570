"""Every experiment of reinforcement learning can be begun: its settings fit its environment, its
learner and its evaluation."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from metarl.cli import checkpoints, configs, evaluation

FOLDERS = [configs.CONFIGS]


@pytest.mark.parametrize("name", configs.choices("experiment", FOLDERS, "train"))
def test_an_experiment_can_be_begun(name: str) -> None:
    plain, _ = configs.composed("train", [f"experiment={name}"], FOLDERS)
    config = OmegaConf.create(plain)
    checkpoints.untrained(config, Path(f"configs/experiment/{name}.yaml"))
    evaluation.check(config, **config.evaluation)
