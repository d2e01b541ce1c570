"""Facts about the gridworld: moves and rewards by hand, the best search by trying everything, the
agents by playing them."""

from functools import cache

import pytest
import torch

import envs
from envs.small.gridworld import GoalCell
from envs.small.gridworld_optima import (
    bayes_optimal_returns,
    best_search,
    oracle_returns,
    possible_goals,
)
from metarl.noise import Noise
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import adaptation_curve


def cell(x: int, y: int) -> int:
    return 5 * x + y


def walk(
    env: envs.small.gridworld.Gridworld, goal: tuple[int, int], moves: list[int]
) -> list[tuple[int, float]]:
    """(cell, reward) after each move of the only world."""
    env.set_tasks(GoalCell(goal=torch.tensor([goal])))
    assert env.reset(Noise(torch.Generator()).starts(env)).argmax().item() == cell(0, 0)
    steps = [env.step(torch.tensor([move])) for move in moves]
    return [(int(step.next_obs.argmax()), round(step.reward.item(), 6)) for step in steps]


def test_moves_and_rewards_are_those_of_the_publication() -> None:
    env = envs.make("gridworld_5x5", 1)
    stay, up, right, down, left = range(5)
    found = walk(env, (1, 2), [left, down, up, up, right, stay, down, left])
    places = [(0, 0), (0, 0), (0, 1), (0, 2), (1, 2), (1, 2), (1, 1), (0, 1)]
    assert found == [(cell(*p), 1.0 if p == (1, 2) else -0.1) for p in places]
    assert walk(env, (4, 4), [right] * 5)[-1] == (cell(4, 0), -0.1)
    assert walk(env, (4, 4), [up] * 5)[-1] == (cell(0, 4), -0.1)


def test_goals_are_the_cells_away_from_the_start_and_the_last_step_terminates() -> None:
    env = envs.make("gridworld_5x5", 1)
    goals = {tuple(goal) for goal in env.prior.test_tasks().goal.tolist()}
    near = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert goals == {(x, y) for x in range(5) for y in range(5)} - near
    with pytest.raises(ValueError, match=r"goal is \[1, 1\]; expected one of \[0, 2\], \[0, 3\]"):
        env.set_tasks(GoalCell(goal=torch.tensor([[1, 1]])))
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    assert [env.step(torch.tensor([0])).terminated.item() for _ in range(15)] == [False] * 14 + [
        True
    ]


def test_oracle_goes_straight_to_the_goal() -> None:
    env = envs.make("gridworld_5x5", 1)
    tasks = GoalCell(goal=torch.tensor([[2, 0], [4, 4]]))
    # Two steps: −0.1 + 14; eight: −0.7 + 8.
    assert env.references.known_returns(tasks, 1)["oracle"].tolist() == pytest.approx([13.9, 7.3])
    assert sum(reward for _, reward in walk(env, (2, 0), [2, 2] + 13 * [0])) == pytest.approx(13.9)
    assert oracle_returns(5, 7)[cell(4, 4)].item() == pytest.approx(-0.7)  # too far: never


def best_value(size: int, horizon: int, num_episodes: int) -> float:
    """The Bayes-optimal value of a trial by dynamic programming over everything that can be known,
    without any bound."""
    goals = frozenset((x, y) for x in range(size) for y in range(size) if max(x, y) > 1)
    moves = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))

    def moved(place, move):
        return tuple(min(max(p + m, 0), size - 1) for p, m in zip(place, move, strict=True))

    @cache
    def known(place, goal, step) -> float:  # the rest of the trial, if one knows the goal
        if step == horizon * num_episodes:
            return 0.0
        place = (0, 0) if step % horizon == 0 else place
        return max(
            (1.0 if to == goal else -0.1) + known(to, goal, step + 1)
            for to in (moved(place, m) for m in moves)
        )

    @cache
    def searching(place, possible, step) -> float:
        if step == horizon * num_episodes:
            return 0.0
        place = (0, 0) if step % horizon == 0 else place
        return max(after(moved(place, m), possible, step + 1) for m in moves)

    def after(place, possible, step) -> float:
        rest = possible - {place}
        missed = (-0.1 + searching(place, rest, step)) * len(rest) / len(possible) if rest else 0.0
        hit = (1.0 + known(place, place, step)) / len(possible) if place in possible else 0.0
        return missed + hit

    return searching((0, 0), goals, 0)


@pytest.mark.parametrize(
    ("size", "horizon", "num_episodes"), [(3, 3, 1), (3, 5, 2), (3, 3, 4), (3, 8, 2), (4, 6, 2)]
)
def test_best_search_is_as_good_as_the_best_of_all_strategies(
    size: int, horizon: int, num_episodes: int
) -> None:
    returns = bayes_optimal_returns(size, horizon, num_episodes)[possible_goals(size)]
    assert returns.sum(1).mean().item() == pytest.approx(
        best_value(size, horizon, num_episodes), abs=1e-9
    )


def test_playing_the_best_search_earns_what_is_said() -> None:
    env = envs.make("gridworld_5x5", 21)
    tasks = env.prior.test_tasks()
    said = env.references.known_returns(tasks, 4)["bayes_optimal"]
    route, goal = best_search(5, 15, 4), 5 * tasks.goal[:, 0] + tasks.goal[:, 1]
    knows, earned = torch.zeros(21, dtype=torch.bool), torch.zeros(21, 4, dtype=torch.float64)
    env.set_tasks(tasks)
    for episode in range(4):
        here = env.reset(Noise(torch.Generator()).starts(env)).argmax(-1)
        for step in range(15):
            t = 15 * episode + step
            target = torch.where(knows, goal, route[t] if t < len(route) else 0)
            # One step towards the target: the move that comes nearest.
            place = torch.stack([here // 5, here % 5], 1)
            to = (place[:, None] + torch.tensor([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])).clamp(
                0, 4
            )
            aim = torch.stack([target // 5, target % 5], 1)
            taken = env.step((to - aim[:, None]).abs().sum(-1).argmin(-1))
            here, knows = taken.next_obs.argmax(-1), knows | (taken.reward > 0)
            earned[:, episode] += taken.reward.double()
    assert knows.all()
    assert earned.numpy() == pytest.approx(said.numpy(), abs=1e-5)  # float32 rewards
    # Ten of 21 goals' worth is lost in the first episode; from the second on all are found on the
    # way or known.
    assert said.mean(0).tolist() == pytest.approx(
        [4.0, 11.0714286, 11.0714286, 11.0714286], abs=1e-6
    )


def test_posterior_sampling_learns_but_less_well_than_the_best_search() -> None:
    env = envs.make("gridworld_5x5", 21 * 40)
    streams = Streams(
        tasks=torch.Generator().manual_seed(0),
        reset=Noise(torch.Generator().manual_seed(0)),
        policy=Noise(torch.Generator().manual_seed(0)),
    )
    tasks = env.prior.test_tasks()
    learner = env.references.learners(4)["posterior_sampling"]
    curve = adaptation_curve(learner, env, tasks, streams, num_tasks=21, num_updates=3)
    returns = curve.returns.mean((0, 2))
    known = env.references.known_returns(tasks, 4)
    assert (returns.diff() > 0).all()
    assert returns.sum() < known["bayes_optimal"].sum(1).mean()
    # Who has found the goal goes straight to it from then on.
    found = curve.states[3].possible.sum(1) == 1
    last = curve.returns[:, 3].flatten()[found]
    assert last.numpy() == pytest.approx(
        known["oracle"].repeat_interleave(40)[found].numpy(), abs=1e-5
    )
    # Who hasn't found it at the end of an episode knows that it isn't where one believed it to be,
    # nor on the way there.
    lost = curve.states[1].possible.sum(1) > 1
    assert not curve.states[1].possible[lost, curve.states[0].target[lost]].any()
    assert (curve.states[1].possible.sum(1)[lost] < 20).any()
    # A route to a random goal, 4.67 steps away in the mean, passes by as many cells of 21, the
    # first one or two excepted.
    assert 0.1 < (curve.states[1].possible.sum(1) == 1).float().mean() < 0.25


def test_picture_shows_goal_agent_and_visited_cells() -> None:
    env = envs.make("gridworld_5x5", 1)
    walk(env, (4, 4), [2, 2])
    picture = env.render(0, width=150, height=110)
    # Cells of 20 pixels, 25 pixels from the left and 5 from the top; y is upwards: (2, 0) is in the
    # bottom row.
    assert picture[95, 75].tolist() == [40, 80, 200]
    assert picture[95, 55].tolist() == [205, 222, 245]
    assert picture[15, 115].tolist() == [60, 170, 80]
    assert picture[55, 55].tolist() == [255, 255, 255]
    assert (
        picture[55, 65].tolist() == picture[55, 25].tolist() == [170, 170, 170]
    )  # between cells, and the border
    assert picture[55, 15].tolist() == [255, 255, 255]


def test_bayes_optimal_return_is_left_out_where_goals_are_out_of_reach():
    tasks = envs.make("gridworld_5x5", 1).prior.test_tasks(2)
    known = {
        horizon: envs.make("gridworld_5x5", 2, horizon=horizon).references.known_returns(tasks, 1)
        for horizon in (7, 8)
    }
    assert set(known[7]) == {"oracle"} and set(known[8]) == {"oracle", "bayes_optimal"}


def test_a_few_of_the_goals_are_not_all_of_one_edge() -> None:
    prior = envs.make("gridworld_5x5", 1).prior
    few, every = prior.test_tasks(3).goal, prior.test_tasks().goal
    assert len(few) == 3 and len(few.unique(dim=0)) == 3 and len(few[:, 0].unique()) > 1
    assert len(every) == 21 and torch.equal(prior.test_tasks(22).goal[:21], every)
