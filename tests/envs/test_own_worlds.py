"""The page's environment of one's own that computes all its worlds at once: it is held to what holds
of ours, trains, and is Gymnasium's by an id of its own."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import call
from support.pages import code_blocks

from metarl.cli.commands import evaluate, train
from tests.envs import test_environments as facts

PAGE = "docs/own_environment.md"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where my_cars.py and its config lie, on Python's path."""
    made = tmp_path_factory.mktemp("cars")
    (code,) = code_blocks(PAGE, 'python title="my_cars.py"')
    (config,) = (block for block in code_blocks(PAGE, "yaml") if "my_cars:cars" in block)
    (made / "my_cars.py").write_text(code)
    (made / "my_configs/env").mkdir(parents=True)
    (made / config.partition("\n")[0].removeprefix("# ")).write_text(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(made))
        patch.delitem(sys.modules, "my_cars", raising=False)
        yield made


@pytest.mark.parametrize("fact", facts.OF_ONES_OWN, ids=lambda fact: fact.__name__)
def test_facts_of_every_environment_hold(fact: Any) -> None:
    fact("my_cars:cars")


def test_pedal_and_gravity_are_those_of_each_worlds_task() -> None:
    env, _ = facts.started("my_cars:cars", 2)
    task = type(env.prior.test_tasks(2))
    env.set_tasks(task(gravity=torch.tensor([0.002, 0.003]), power=torch.tensor([0.004, -0.004])))
    env.reset(torch.full((2, 1), 0.5, dtype=torch.float64))  # at x = -0.5, without speed
    step = env.step(torch.tensor([[0.5], [2.0]]))  # actions are clipped to 1
    slope = torch.tensor(-1.5).cos()
    speed = torch.stack([0.5 * 0.004 - slope * 0.002, -0.004 - slope * 0.003])
    expected = torch.stack([-0.5 + speed, 10 * speed], dim=-1)
    torch.testing.assert_close(step.next_obs, expected, rtol=1e-5, atol=1e-7)  # float32


def test_it_trains_and_is_evaluated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    own = ("--config-dir", "my_configs")
    words = (
        *("env=cars", "env.horizon=6", "algo=rl2_ppo", "algo.meta_batch_size=3", "iterations=1"),
        *("model.memory.hidden_size=4", "evaluation.num_tasks=2", "evaluation.video=false"),
    )
    assert call(monkeypatch, train, *own, *words, "device=cpu", "run_dir=run") == 0
    sizes = ("num_tasks=1", "device=cpu", "output=x.json")
    assert call(monkeypatch, evaluate, *own, "checkpoint=run", *sizes) == 0
