"""What is checked and said before a training makes anything."""

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from metarl.cli import start, strangers
from metarl.cli.configs import CONFIGS, composed
from metarl.cli.run_folder import AskedRun
from metarl.errors import UserError


def asked(*words: str, resume_from: dict[str, Any] | None = None) -> AskedRun:
    def take() -> Any:
        raise AssertionError("nothing is to be made yet")

    config = OmegaConf.create(composed("train", ["device=cpu", *words], [CONFIGS])[0])
    return AskedRun(config, {}, take, resume_from)


def test_the_simulator_is_settled_and_the_device_found(capsys: pytest.CaptureFixture[str]) -> None:
    run = asked("sim=auto", "algo.outer_lr_half_life=1", "iterations=9")
    assert start.prepare(run) == torch.device("cpu")
    assert run.config.sim.backend == "cpu"
    said = capsys.readouterr().err
    assert "sim=auto: cpu" in said and "algo.outer_lr_half_life=1: with iterations=9" in said


def test_what_cannot_be_evaluated_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="num_tasks=0: expected 1 or more"):
        start.prepare(asked("evaluation.num_tasks=0"))


@pytest.mark.parametrize("resume_from", [None, {"iteration": 3}])
def test_what_is_called_of_the_users_own_is_said_of_a_new_run(
    resume_from: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(strangers, "say_what_is_called", said.append)
    # An old run's file was looked at when it was read.
    start.prepare(asked(resume_from=resume_from))
    assert len(said) == (resume_from is None)
