"""Facts about the bandit, by hand arithmetic and counting."""

import pytest
import torch

import envs
from envs.small.bandit import Arms
from metarl.noise import Noise


def pulls(env: envs.small.bandit.Bandit, arm: int, num: int) -> torch.Tensor:
    """[W, num] rewards of pulling one arm again and again."""
    action = torch.full((env.num_worlds,), arm)
    return torch.stack([env.step(action).reward for _ in range(num)], dim=1)


def test_rewards_are_bernoulli_with_the_probability_of_the_arm() -> None:
    env = envs.make("bandit", 200, horizon=100, num_arms=3)
    env.set_tasks(Arms(probability=torch.tensor([[0.0, 0.3, 1.0]]).repeat(200, 1)))
    for arm, probability in ((0, 0.0), (1, 0.3), (2, 1.0)):
        env.reset(Noise(torch.Generator().manual_seed(arm)).starts(env))
        rewards = pulls(env, arm, 100)
        assert set(rewards.unique().tolist()) <= {0.0, 1.0}
        # 20,000 draws: standard deviation √(.3 · .7 / 20,000) = 0.0032; five times that.
        assert float(rewards.mean()) == pytest.approx(probability, abs=0.016)
    # Pulls don't depend on the one before: P(both 1) is 0.09.
    env.reset(Noise(torch.Generator().manual_seed(7)).starts(env))
    rewards = pulls(env, 1, 100)
    assert float((rewards[:, 1:] * rewards[:, :-1]).mean()) == pytest.approx(0.09, abs=0.015)


def test_observation_is_the_share_of_pulls_and_the_last_pull_terminates() -> None:
    env = envs.make("bandit", 2, horizon=4, num_arms=2)
    env.set_tasks(env.prior.test_tasks(2))
    assert env.reset(Noise(torch.Generator()).starts(env)).tolist() == [[0.0], [0.0]]
    steps = [env.step(torch.tensor([0, 1])) for _ in range(4)]
    assert [step.next_obs[1, 0].item() for step in steps] == [0.25, 0.5, 0.75, 1.0]
    assert [step.terminated[0].item() for step in steps] == [False, False, False, True]
    assert not any(step.truncated.any() for step in steps)


def test_regret_is_the_loss_against_the_best_arm() -> None:
    env = envs.make("bandit", 2, num_arms=3)
    env.set_tasks(Arms(probability=torch.tensor([[0.25, 0.5, 0.75], [0.5, 0.25, 0.0]])))
    env.reset(Noise(torch.Generator()).starts(env))
    assert env.step(torch.tensor([1, 0])).terms["regret"].tolist() == [0.25, 0.0]


def test_oracle_pulls_the_best_arm() -> None:
    env = envs.make("bandit", 1, horizon=20, num_arms=3)
    tasks = Arms(probability=torch.tensor([[0.25, 0.5, 0.75], [0.5, 0.25, 0.0]]))
    assert env.references.known_returns(tasks, 1)["oracle"].tolist() == [15.0, 10.0]


def test_picture_shows_probabilities_and_shares_of_the_pulls() -> None:
    env = envs.make("bandit", 1, num_arms=2)
    env.set_tasks(Arms(probability=torch.tensor([[0.75, 0.25]])))
    env.reset(Noise(torch.Generator()).starts(env))
    for arm in (0, 0, 1, 1):
        env.step(torch.tensor([arm]))
    picture = env.render(0, width=200, height=101)
    # Arms are 100 wide; both dark bars are 50 high, the light ones 75 and 25. The second arm was
    # pulled last.
    assert picture[30, 50].tolist() == picture[60, 20].tolist() == [185, 205, 240]
    assert picture[60, 50].tolist() == [40, 80, 200]
    assert picture[60, 150].tolist() == [230, 140, 30]
    assert picture[80, 120].tolist() == [245, 205, 160]
    assert picture[60, 120].tolist() == [255, 255, 255]
    env.reset(Noise(torch.Generator()).starts(env))
    assert env.render(0, width=200, height=101)[60, 50].tolist() == [185, 205, 240]  # no pulls yet
