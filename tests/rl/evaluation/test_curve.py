"""How the episodes are played whose returns stand on an adaptation curve."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.drifting import Drifting, Lengths
from support.gradient_learners import make

import envs
from metarl.errors import SettingError
from metarl.nn.heads import GaussianPolicy
from metarl.noise import Noise
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import Acting, adaptation_curve, check_num_tasks, held_out_tasks
from metarl.rl.types import Step
from metarl.struct import replace

NUM_TASKS, EPISODES = 2, 4
LATENT: dict[str, Any] = {"latent_lr": 0.8, "latent_shrink": 0.5, "latent_coefficient": 0.4}


def returns(acting: Acting, *, latent_size: int) -> torch.Tensor:
    """[N, K + 1, E] before and after an update; every episode begins in the same place."""
    policy = GaussianPolicy(
        *(2, 2, (5,)),
        init_std=0.8,
        latent_size=latent_size,
        generator=torch.Generator().manual_seed(0),
    )
    settings = {"inner_rule": "sgd", **(LATENT if latent_size else {})}
    adapter = make(MamlPPO, model=policy, **settings).adapter()
    env = envs.make("point_navigation_2d", NUM_TASKS * EPISODES, horizon=6)
    tasks, reset, drawn = (torch.Generator().manual_seed(seed) for seed in range(3))
    return adaptation_curve(
        *(adapter, env, env.prior.test_tasks(NUM_TASKS)),
        Streams(tasks=tasks, reset=Noise(reset), policy=Noise(drawn)),
        num_tasks=NUM_TASKS,
        num_updates=1,
        acting=acting,
    ).returns


@pytest.mark.parametrize("latent_size", [0, 1])
def test_by_its_mode_a_policy_plays_one_episode_again_and_again(latent_size: int) -> None:
    """So does one that holds a latent, though it learns from episodes of drawn ones."""
    sampled = returns("sampled", latent_size=latent_size)
    beside = returns("mode_beside", latent_size=latent_size)
    assert sampled.std(-1).min() > 1e-3
    torch.testing.assert_close(beside, beside[..., :1].expand_as(beside))
    before = returns("mode", latent_size=latent_size)[:, 0]
    torch.testing.assert_close(beside[:, 0], before)


class BlowingUp(Drifting):
    """The physics of the first two worlds blows up at the second step."""

    def step(self, action: torch.Tensor) -> Step:
        step = super().step(action)
        blown = (torch.arange(self.num_worlds) < 2) & (self.count == 2)
        return replace(step, terminated=step.terminated | blown, diverged=blown)


def test_each_episode_whose_physics_blew_up_counts() -> None:
    """Both episodes of the first of two tasks."""
    env = BlowingUp(4)
    tasks, reset, drawn = (torch.Generator().manual_seed(seed) for seed in range(3))
    curve = adaptation_curve(
        *(UniformActions(env.action_space), env, Lengths(length=torch.tensor([5, 5]))),
        Streams(tasks=tasks, reset=Noise(reset), policy=Noise(drawn)),
        num_tasks=2,
        num_updates=0,
    )
    assert curve.diverged == 2


def test_a_held_out_task_counts_once() -> None:
    """Twenty goals of which each was played five times would pass for a hundred."""
    with pytest.raises(SettingError, match="num_tasks 21: expected at most 20, for there are no"):
        check_num_tasks(envs.make("point_navigation_2d_sparse_pearl", 1).prior, 21)
    with pytest.raises(SettingError, match="num_tasks 2: expected at most 1"):
        check_num_tasks(envs.make("half_cheetah_cripple", 1).prior, 2)
    for name in ("half_cheetah_dir", "half_cheetah_vel"):  # the same as in training; any number
        check_num_tasks(envs.make(name, 1).prior, 10_000)


def test_tasks_that_another_evaluation_has_are_passed_over():
    """Who was chosen by some held-out tasks is judged by others."""
    prior = SimpleNamespace(
        num_held_out=None,
        split="infinite",
        test_tasks=lambda num: torch.arange(num),
        is_held_out=lambda tasks: torch.ones(len(tasks), dtype=torch.bool),
    )
    assert held_out_tasks(prior, 3, skip=4).tolist() == [4, 5, 6]
