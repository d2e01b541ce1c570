"""Facts about point navigation, by hand arithmetic."""

import pytest
import torch

import envs
from envs.point import Goal


def test_step_reward_and_end_are_those_of_the_publication() -> None:
    env = envs.make("point_navigation_2d", 4)
    env.set_tasks(Goal(goal=torch.tensor([[0.03, 0.04], [0.055, -0.005], [0.5, 0.5], [-0.2, 0.1]])))
    assert env.reset(torch.Generator()).tolist() == [[0.0, 0.0]] * 4
    step = env.step(torch.tensor([[0.0, 0.0], [0.5, 0.0], [7.0, -3.0], [0.2, 0.4]]))
    # 0.1 a, clipped to ±0.1 along each axis.
    moved = [[0.0, 0.0], [0.05, 0.0], [0.1, -0.1], [0.02, 0.04]]
    assert step.next_obs == pytest.approx(torch.tensor(moved), abs=1e-7)
    # √(.03² + .04²) = .05; √(.005² + .005²) = .0070711; √(.4² + .6²) = .7211103; √(.22² + .06²) = .2280351
    assert step.reward.tolist() == pytest.approx([-0.05, -0.0070711, -0.7211103, -0.2280351], abs=1e-6)
    # Only the second is within 0.01 along both axes; the first is 0.03 and 0.04 away.
    assert step.terminated.tolist() == [False, True, False, False]


def test_arrival_needs_both_axes() -> None:
    env = envs.make("point_navigation_2d", 2)
    env.set_tasks(Goal(goal=torch.tensor([[0.009, 0.009], [0.009, 0.011]])))
    env.reset(torch.Generator())
    step = env.step(torch.zeros(2, 2))
    assert step.terminated.tolist() == [True, False]


def test_action_scale_divides_the_action() -> None:
    env = envs.make("point_navigation_2d", 1, action_scale=10.0)
    env.set_tasks(env.tasks.test_tasks(1))
    env.reset(torch.Generator())
    # 5 / 10 · 0.1 = 0.05;  −20 / 10 is clipped to −1.
    assert env.step(torch.tensor([[5.0, -20.0]])).next_obs[0].tolist() == pytest.approx([0.05, -0.1], abs=1e-7)


def test_goals_fill_the_square() -> None:
    goal = envs.make("point_navigation_2d", 1).tasks.sample(10_000, torch.Generator().manual_seed(0)).goal
    assert float(goal.min()) >= -0.5
    assert float(goal.max()) <= 0.5
    # Variance 1/12; the mean of 10,000 has standard deviation 0.0029; five times that.
    assert goal.mean(0).abs().max() < 0.015
    assert torch.cov(goal.T) == pytest.approx(torch.eye(2) / 12, abs=0.004)


def test_oracle_return_is_that_of_going_straight_to_the_goal() -> None:
    env = envs.make("point_navigation_2d", 40)
    tasks = env.tasks.test_tasks(40)
    env.set_tasks(tasks)
    obs, returns, running = env.reset(torch.Generator()), torch.zeros(40), torch.ones(40, dtype=torch.bool)
    for _ in range(6):
        step = env.step(10 * (tasks.goal - obs))
        obs, returns, running = step.next_obs, returns + step.reward * running, running & ~step.terminated
    assert not running.any()
    assert env.known_returns(tasks, 1)["oracle"] == pytest.approx(returns, abs=1e-5)  # float32 sums of six
    # (0.25, 0): 0.15 and 0.05 are left after two steps.
    assert env.known_returns(Goal(goal=torch.tensor([[0.25, 0.0]])), 1)["oracle"].item() == pytest.approx(
        -0.2, abs=1e-6
    )


def test_picture_has_goal_and_point_where_they_are() -> None:
    env = envs.make("point_navigation_2d", 1)
    env.set_tasks(Goal(goal=torch.tensor([[0.3, 0.45]])))
    env.reset(torch.Generator())
    picture = env.render(0, width=240, height=240)
    # 1.2 m over 240 pixels: the goal is 60 right of and 90 above the centre.
    assert picture[120 - 90, 120 + 60].tolist() == [60, 170, 80]
    assert picture[120, 120].tolist() == [40, 80, 200]
