"""Every experiment can be begun: the command takes its settings, and those of reinforcement
learning fit their environment, learner and evaluation."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.meta_world import use_stand_in

from metarl.cli import checkpoints, configs, evaluation
from metarl.cli.overrides import check_overrides

FOLDERS = [configs.CONFIGS]


@pytest.mark.parametrize("name", configs.choices("experiment", FOLDERS, "train"))
def test_an_experiment_can_be_begun(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_in(monkeypatch)
    plain, _ = configs.composed("train", [f"experiment={name}"], FOLDERS)
    config = OmegaConf.create(plain)
    checkpoints.untrained(config, Path(f"configs/experiment/{name}.yaml"))
    evaluation.check(config, **config.evaluation)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command in ("train", "fewshot")
        for name in configs.choices("experiment", FOLDERS, command)
    ],
)
def test_the_command_takes_an_experiment_as_it_is(command: str, name: str) -> None:
    assert check_overrides(command, [f"experiment={name}"], FOLDERS) == [f"experiment={name}"]
