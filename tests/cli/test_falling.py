"""What a training says of steps that become too small to learn from."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support.commands import command

from metarl.cli import falling
from metarl.cli.commands import train as train_command


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_training_says_it_once(
    seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["env=point_navigation_2d", "algo.outer_lr_half_life=0.1", f"num_seeds={seeds}"]
    words += ["algo.meta_batch_size=2", "algo.episodes_per_task=2", "evaluation.num_tasks=2"]
    words += ["evaluation.video=false", "device=cpu", f"run_dir={tmp_path}/run", "iterations=1"]
    assert command(train_command.main, monkeypatch, *words) == 0
    said = "algo.outer_lr_half_life=0.1: with iterations=1 0.001 of outer_lr is left"
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize(
    ("algo", "iterations", "said"),
    [
        (
            {"outer_lr_half_life": 5},
            40,
            ["algo.outer_lr_half_life=5: with iterations=40 0.004 of outer_lr is left"],
        ),
        ({"outer_lr_half_life": 5}, 30, []),
        ({"outer_lr_half_life": None}, 40, []),
        ({"entropy_half_life": 5}, 40, []),  # of which nothing need be left
        ({"max_kl_half_life": 0.5}, 9, ["algo.max_kl_half_life=0.5: with iterations=9 4e-06"]),
        ({}, 10**6, []),
    ],
)
def test_only_what_falls_too_far_is_named(
    algo: dict[str, float | None],
    iterations: int,
    said: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    falling.say_how_far(OmegaConf.create({"algo": algo, "iterations": iterations}))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
