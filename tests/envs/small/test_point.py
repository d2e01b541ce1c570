"""Facts about point navigation, by hand arithmetic."""

import math

import numpy as np
import pytest
import torch

import envs
from envs.small.point_navigation import Goal, corner_bound
from envs.small.point_sparse import GoalAngle
from metarl.noise import Noise


def test_step_reward_and_end_are_those_of_the_publication() -> None:
    env = envs.make("point_navigation_2d", 4)
    env.set_tasks(Goal(goal=torch.tensor([[0.03, 0.04], [0.055, -0.005], [0.5, 0.5], [-0.2, 0.1]])))
    assert env.reset(Noise(torch.Generator()).starts(env)).tolist() == [[0.0, 0.0]] * 4
    step = env.step(torch.tensor([[0.0, 0.0], [0.5, 0.0], [7.0, -3.0], [0.2, 0.4]]))
    # 0.1 a, clipped to ±0.1 along each axis.
    moved = [[0.0, 0.0], [0.05, 0.0], [0.1, -0.1], [0.02, 0.04]]
    assert step.next_obs == pytest.approx(torch.tensor(moved), abs=1e-7)
    # √(.03² + .04²) = .05; √(.005² + .005²) = .0070711; √(.4² + .6²) = .7211103; √(.22² + .06²) =
    # .2280351
    assert step.reward.tolist() == pytest.approx(
        [-0.05, -0.0070711, -0.7211103, -0.2280351], abs=1e-6
    )
    # Only the second is within 0.01 along both axes; the first is 0.03 and 0.04 away.
    assert step.terminated.tolist() == [False, True, False, False]


def test_arrival_needs_both_axes() -> None:
    env = envs.make("point_navigation_2d", 2)
    env.set_tasks(Goal(goal=torch.tensor([[0.009, 0.009], [0.009, 0.011]])))
    env.reset(Noise(torch.Generator()).starts(env))
    step = env.step(torch.zeros(2, 2))
    assert step.terminated.tolist() == [True, False]


def test_action_scale_divides_the_action() -> None:
    env = envs.make("point_navigation_2d", 1, action_scale=10.0)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    # 5 / 10 · 0.1 = 0.05;  −20 / 10 is clipped to −1.
    assert env.step(torch.tensor([[5.0, -20.0]])).next_obs[0].tolist() == pytest.approx(
        [0.05, -0.1], abs=1e-7
    )


def test_goals_fill_the_square() -> None:
    goal = (
        envs.make("point_navigation_2d", 1)
        .prior.sample(10_000, torch.Generator().manual_seed(0))
        .goal
    )
    assert float(goal.min()) >= -0.5
    assert float(goal.max()) <= 0.5
    # Variance 1/12; the mean of 10,000 has standard deviation 0.0029; five times that.
    assert goal.mean(0).abs().max() < 0.015
    assert torch.cov(goal.T) == pytest.approx(torch.eye(2) / 12, abs=0.004)


def test_oracle_return_is_that_of_going_straight_to_the_goal() -> None:
    env = envs.make("point_navigation_2d", 40)
    tasks = env.prior.test_tasks(40)
    env.set_tasks(tasks)
    obs, returns, running = (
        env.reset(Noise(torch.Generator()).starts(env)),
        torch.zeros(40),
        torch.ones(40, dtype=torch.bool),
    )
    for _ in range(6):
        step = env.step(10 * (tasks.goal - obs))
        obs, returns, running = (
            step.next_obs,
            returns + step.reward * running,
            running & ~step.terminated,
        )
    assert not running.any()
    assert env.references.known_returns(tasks, 1)["oracle"] == pytest.approx(
        returns, abs=1e-5
    )  # float32 sums of six
    # (0.25, 0): 0.15 and 0.05 are left after two steps.
    assert env.references.known_returns(Goal(goal=torch.tensor([[0.25, 0.0]])), 1)[
        "oracle"
    ].item() == pytest.approx(-0.2, abs=1e-6)


def test_picture_has_goal_and_point_where_they_are() -> None:
    env = envs.make("point_navigation_2d", 1)
    env.set_tasks(Goal(goal=torch.tensor([[0.3, 0.45]])))
    env.reset(Noise(torch.Generator()).starts(env))
    picture = env.render(0, width=240, height=240)
    # 1.2 m over 240 pixels: the goal is 60 right of and 90 above the centre.
    assert picture[120 - 90, 120 + 60].tolist() == [60, 170, 80]
    assert picture[120, 120].tolist() == [40, 80, 200]


def test_sparse_picture_has_the_circle_that_goals_lie_on_and_the_place_that_pays() -> None:
    env = envs.make("point_navigation_2d_sparse", 1)
    env.set_tasks(GoalAngle(angle=torch.zeros(1)))
    env.reset(Noise(torch.Generator()).starts(env))
    picture = env.render(0, width=260, height=260)  # 2.6 m: 100 pixels for a metre
    assert picture[130, 230].tolist() == picture[130 - 18, 230].tolist() == [60, 170, 80]
    assert picture[130 - 22, 225].tolist() == [255, 255, 255]
    assert picture[130 - 71, 130 - 71].tolist() == [200, 200, 200]


def test_raw_variant_clips_the_action_itself() -> None:
    env = envs.make("point_navigation_2d_raw", 1)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    assert env.step(torch.tensor([[0.03, -0.8]])).next_obs[0].tolist() == pytest.approx(
        [0.03, -0.1], abs=1e-7
    )


def corner_worlds(*positions: tuple[float, float]) -> envs.small.point.PointWorld[Goal]:
    """Worlds with the goal (2, −2) at the given positions."""
    env = envs.make("point_navigation_2d_corner", len(positions))
    env.set_tasks(Goal(goal=torch.tensor([[2.0, -2.0]] * len(positions))))
    env.reset(Noise(torch.Generator()).starts(env))
    env._position = torch.tensor(positions)
    return env


def test_corner_pays_progress_outside_the_start_and_in_the_quadrant_of_the_goal() -> None:
    env = corner_worlds((1.0, -2.0), (2.0, -1.9), (0.1, -0.1), (-0.5, -0.5), (-0.1, -2.0))
    step = env.step(torch.tensor([[0.2, 0.0], [0.0, 0.1], [0.1, -0.2], [0.1, -0.2], [0.2, 0.0]]))
    # 1 − 0.8; 0.1 − 0.2; |0.2| + |0.3| is .5: √(1.9² + 1.9²) − √(1.8² + 1.7²) = 2.6870058 −
    # 2.4758837;
    # another quadrant: nothing; into the quadrant: 2.1 − 1.9.
    assert step.reward.tolist() == pytest.approx([0.2, -0.1, 0.2111220, 0.0, 0.2], abs=1e-6)
    assert not step.terminated.any()
    inside = corner_worlds((0.1, -0.1)).step(torch.tensor([[0.19, -0.19]]))  # |0.29| + |0.29| = .58
    assert inside.reward.item() > 0
    assert corner_worlds((0.1, -0.1)).step(torch.tensor([[0.1, -0.1]])).reward.item() == 0  # .4


def test_going_back_and_forth_over_the_border_of_a_quadrant_is_paid_more_than_arriving() -> None:
    env = corner_worlds((-0.1, -2.0))
    returns = sum(
        env.step(torch.tensor([[0.2 if t % 2 == 0 else -0.2, 0.0]])).reward.item()
        for t in range(100)
    )
    assert returns == pytest.approx(50 * 0.2, abs=1e-3)  # float32
    straight = envs.make("point_navigation_2d_corner", 4)
    straight.set_tasks(straight.prior.test_tasks(4))
    straight.reset(Noise(torch.Generator().manual_seed(0)).starts(straight))
    paid = torch.stack(
        [straight.step(straight.references.scripted()).reward for _ in range(100)]
    ).sum(0)
    # From outside |p|₁ = 0.5 on: at most the 2.83 m from 0, 0 to the corner, at least 2.83 − 0.5 −
    # a step's 0.28.
    assert ((paid > 2.0) & (paid < 2.83)).all()
    assert straight.step(straight.references.scripted()).terms["distance"].max() < 1e-6


def test_no_way_of_going_is_paid_more_than_the_bound_of_the_corner() -> None:
    env = envs.make("point_navigation_2d_corner", 500)
    assert env.references.known_returns(env.prior.test_tasks(4), 1).keys() == {"upper_bound"}
    # A step is 0.2 √2 = 0.2828427 m, the furthest start 2.2 √2 = 3.1112698 m away: (3.1112698 +
    # 28.28427) / 2.
    assert env.references.known_returns(env.prior.test_tasks(4), 1)[
        "upper_bound"
    ].tolist() == pytest.approx([15.69777] * 4)
    bounds = {
        horizon: corner_bound(torch.tensor([[2.0, -2.0]]), horizon).item()
        for horizon in (1, 2, 3, 20)
    }
    assert bounds[3] == pytest.approx(3 * 0.2828427)
    # From where the first step is paid in full, straight to the goal: the bound is reached.
    straight = corner_worlds((0.2, -0.2), (0.2, -0.2))
    returns = sum(straight.step(torch.tensor([[0.2, -0.2]] * 2)).reward for _ in range(2))
    assert returns.tolist() == pytest.approx([bounds[2]] * 2)
    env.set_tasks(env.prior.test_tasks(500))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    walk = 0.2 * torch.randn(20, 500, 2, generator=torch.Generator().manual_seed(1)).sign()
    paid = torch.stack([env.step(action).reward for action in walk]).cumsum(0)
    assert paid[0].max() <= bounds[1] + 1e-6
    assert 0.8 < paid[-1].max() <= bounds[20]


def test_corner_starts_fill_their_square_and_all_four_corners_come() -> None:
    env = envs.make("point_navigation_2d_corner", 2000)
    env.set_tasks(env.prior.sample(2000, torch.Generator()))
    start = env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    assert start.abs().max() <= 0.2
    # Variance 0.04 / 3 = 0.01333; its estimate from 2000 has the standard deviation 0.0003.
    assert torch.cov(start.T) == pytest.approx(torch.eye(2) * 0.04 / 3, abs=0.0013)
    assert {tuple(goal) for goal in env.prior.test_tasks().goal.tolist()} == {
        (a, b) for a in (2, -2) for b in (2, -2)
    }


def test_sparse_reward_is_one_minus_the_distance_near_the_goal_and_nothing_elsewhere() -> None:
    env = envs.make("point_navigation_2d_sparse", 3)
    env.set_tasks(GoalAngle(angle=torch.tensor([0.0, math.pi / 2, math.pi])))
    env.reset(Noise(torch.Generator()).starts(env))
    env._position = torch.tensor([[0.9, 0.0], [0.0, 0.7], [1.0, 0.0]])
    step = env.step(torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0]]))
    # 0.95 is 0.05 away; 0.75 is 0.25 away, more than 0.2; the third is at the other end.
    assert step.reward.tolist() == pytest.approx([0.95, 0.0, 0.0], abs=1e-6)
    assert step.terms["distance"].tolist() == pytest.approx([0.05, 0.25, 2.0], abs=1e-6)


def test_sparse_oracle_is_that_of_going_there_and_staying() -> None:
    env = envs.make("point_navigation_2d_sparse", 40, horizon=15)
    tasks = env.prior.test_tasks(40)
    env.set_tasks(tasks)
    position, returns = env.reset(Noise(torch.Generator()).starts(env)), torch.zeros(40)
    goal = torch.stack([tasks.angle.cos(), tasks.angle.sin()], 1)
    for _ in range(15):
        step = env.step(10 * (goal - position))
        position, returns = step.next_obs, returns + step.reward
    assert env.references.known_returns(tasks, 1)["oracle"] == pytest.approx(returns, abs=1e-5)
    # Angle 0: nothing for seven steps, .8, .9 and 1 six times. The eighth step's 0.2 is within the
    # radius or not by rounding.
    assert env.references.known_returns(GoalAngle(angle=torch.zeros(1)), 1)["oracle"].item() in (
        pytest.approx(7.7, abs=1e-5),
        pytest.approx(6.9, abs=1e-5),
    )


def test_published_goals_are_those_of_pearl() -> None:
    tasks = envs.make("point_navigation_2d_sparse_pearl", 1).prior
    angles = np.linspace(0, np.pi, num=100)
    goals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    np.random.RandomState(1337).shuffle(goals)  # As published: the rows, after seed(1337).
    ours = np.concatenate([tasks.train_tasks().angle, tasks.test_tasks().angle])
    np.testing.assert_allclose(
        np.stack([np.cos(ours), np.sin(ours)], 1), goals, atol=1e-6
    )  # float32


def test_an_action_that_is_not_finite_is_a_diverged_world_where_nobody_looks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU that would take a wait in each step."""
    env = envs.make("point_navigation_2d", 2)
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator()).starts(env))
    monkeypatch.setattr(type(env._episodes), "checked", lambda self, action: action)
    step = env.step(torch.tensor([[math.nan, 0.0], [0.1, 0.0]]))
    assert step.diverged.tolist() == step.terminated.tolist() == [True, False]
    assert step.next_obs[0].tolist() == [0.0, 0.0] and step.reward[0] == 0.0
