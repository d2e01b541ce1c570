"""What an evaluation says of success: how many episodes solved the task after each update, where
the environment can tell."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

import envs
from envs.small.bandit import Bandit
from metarl.noise import Noise
from metarl.report import evaluation
from metarl.report.facts import fixed_speed_bounds
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.data.collect import Streams
from metarl.rl.types import Act, FixedSpeeds, RLAdapter


class Learner(RLAdapter[int]):
    """Stands still until its first update, then does as the environment's scripted controller; its
    state counts updates."""

    def __init__(self, env, *, learns: bool) -> None:
        self.env, self.learns = env, learns

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return 0

    def act(self, state, obs, noise):
        known = self.env.references
        return Act(action=known.scripted() if state else known.stand_still())

    def update(self, state, data, noise=None):
        return state + self.learns


def evaluated(
    name: str,
    *,
    num_updates: int,
    learns: bool = True,
    num_tasks: int = 4,
    horizon: int = 30,  # of the arm 1.2 s, enough to reach a place
    unit: str = "update",
    adapter=None,
) -> dict:
    env = envs.make(name, num_tasks, horizon=horizon)
    streams = Streams(
        tasks=torch.Generator().manual_seed(0),
        reset=Noise(torch.Generator().manual_seed(0)),
        policy=Noise(torch.Generator().manual_seed(0)),
    )
    return evaluation.evaluate(
        Learner(env, learns=learns) if adapter is None else adapter(env.action_space),
        env,
        random_adapter=Learner(env, learns=False) if adapter is None else adapter(env.action_space),
        num_tasks=num_tasks,
        num_updates=num_updates,
        unit=unit,
        streams=streams,
        device=torch.device("cpu"),
    ).report


def test_success_rate_stands_beside_the_returns_of_each_update() -> None:
    found = evaluated("arm_reach", num_updates=1)
    assert [row["success_rate"] for row in found["returns"]] == [0.0, 1.0]
    assert [row["success_rate"] for row in found["random_initialisation"]] == [0.0, 0.0]
    assert found["references"]["scripted"]["success_rate"] == 1.0
    assert found["stand_still"]["success_rate"] == 0.0
    lines = evaluation.table(found).splitlines()
    told = [line.split("success ")[1] for line in lines if "success" in line]
    assert [task["solved"] for task in found["tasks"]] == 4 * [[[False], [True]]]
    # Four tasks of one episode: 1 − .025^¼ = .60, see test_proportions.py.
    solved, not_yet = "100 % [40, 100]", "0 % [0, 60]"
    assert told == [
        not_yet,
        solved,
        not_yet,
        not_yet,
        not_yet,
        solved,
    ]  # learner, random, standing still, scripted


def test_what_a_learner_is_set_beside_does_not_depend_on_what_was_played_before() -> None:
    few, more = (evaluated("arm_reach", num_updates=k) for k in (0, 2))
    for beside in (lambda found: found, lambda found: found["references"]):
        for name in ("stand_still", "scripted"):
            if name in beside(few):
                assert beside(few)[name]["mean"] == beside(more)[name]["mean"]
    first, other = (found["random_initialisation"][0]["mean"] for found in (few, more))
    assert first == other and first != more["returns"][0]["mean"]


def test_environments_that_do_not_tell_success_have_no_success_rate() -> None:
    found = evaluated("point_navigation_2d", num_updates=0)
    assert "success" not in str(found["returns"]) and "solved" not in str(found["tasks"])
    assert "success" not in evaluation.table(found)


def test_a_single_number_has_no_interval() -> None:
    one = evaluation.table(
        evaluated("half_cheetah_vel", num_updates=1, num_tasks=1, adapter=UniformActions)
    )
    assert "one episode of one task has no interval" in one
    assert "[" not in one and "0 still, 1 best" in one
    # Its tasks are said apart, too.
    of_one = evaluation.table(
        evaluated("gridworld_5x5", num_updates=1, num_tasks=1, horizon=15, adapter=UniformActions)
    )
    assert "goal on cell" in of_one and "[" not in of_one
    two = evaluation.table(
        evaluated("half_cheetah_vel", num_updates=1, num_tasks=2, adapter=UniformActions)
    )
    assert "95 % interval of the IQM, over 2 tasks, one seed" in two and two.count("[") > 5


def test_a_gradient_learner_has_updates_and_a_memory_has_episodes() -> None:
    assert [evaluation.stage("update", k) for k in range(3)] == [
        "before adaptation",
        "after 1 update",
        "after 2 updates",
    ]
    assert [evaluation.stage("episode", k) for k in range(2)] == ["episode 1", "episode 2"]
    found = evaluated("point_navigation_2d", num_updates=1, learns=False)
    updates, episodes = (evaluation.table(found | {"unit": unit}) for unit in ("update", "episode"))
    assert (
        "before adaptation" in updates
        and "random init, 1 upd." in updates
        and "gain of 1 update" in updates
    )
    assert (
        "update" not in episodes
        and "random init, ep. 2" in episodes
        and "episode 2 - episode 1" in episodes
    )


def test_velocity_tasks_have_the_bounds_of_fixed_speeds_and_a_scale() -> None:
    """Two targets g, of which one speed meets one or comes between: |g₁ − g₂| / 2 on average, two
    speeds miss nothing."""
    env = envs.make("half_cheetah_vel", 2, horizon=20)
    first, second = env.prior.test_tasks(2).target_velocity.tolist()
    found = evaluated("half_cheetah_vel", num_updates=0, num_tasks=2, learns=False, horizon=20)
    bounds = found["fixed_speeds"]["bounds"]
    assert [row["mean"] for row in bounds] == pytest.approx([-20 * abs(first - second) / 2, 0.0])
    assert found["fixed_speeds"]["allowance"] == 0  # it is known for whole episodes
    assert "a bound: no run-up, no control" in evaluation.table(found)
    assert found["normalised_score"][0]["mean"] == pytest.approx(
        0, abs=0.1
    )  # it stands still, from other starts


def test_who_holds_a_speed_gets_the_bonus_less_the_distance_and_the_allowance() -> None:
    """Targets 0, 1 and 3, ten steps, a bonus of 2: the speed 1 is off by (1 + 0 + 2) / 3, two speeds
    by 1 / 3."""
    speeds = FixedSpeeds(bonus=2.0, allowance=5.0)
    rows = fixed_speed_bounds(speeds, torch.tensor([0.0, 1.0, 3.0]), 10)["bounds"]
    assert [row["mean"] for row in rows] == pytest.approx([10, 50 / 3, 20])
    assert [row["mean_with_allowance"] for row in rows] == pytest.approx([5, 35 / 3, 15])


def test_the_best_of_a_velocity_task_has_the_bonus_of_every_step() -> None:
    found = evaluated("walker2d_vel", num_updates=0, num_tasks=2, learns=False, horizon=20)
    assert found["scale"]["one"] == [20 * 15.0] * 2


def test_one_episode_shows_what_happens_within_it_and_the_regret() -> None:
    found = evaluated(
        "bandit", num_updates=0, num_tasks=8, unit="episode", horizon=20, adapter=UniformActions
    )
    within = found["within_episode"]
    assert {"learner", "random_initialisation", "gittins", "thompson_sampling", "ucb1"} <= set(
        within
    )
    of_learner = within["learner"]["reward"]
    returns = [task["returns"][0] for task in found["tasks"]]
    assert sum(of_learner["mean"]) / 20 == pytest.approx(sum(returns) / len(returns) / 20)
    oracle = found["references"]["oracle"]["mean"]
    assert found["regret"][0]["mean"] == pytest.approx(
        oracle - found["returns"][0]["mean"], abs=1e-5
    )
    lines = evaluation.table(found)
    assert "first 10th" in lines and "mean regret" in lines and "update" not in lines
    assert "adaptation_gain" not in found


def test_updates_that_harm_are_counted() -> None:
    found = evaluated("arm_reach", num_updates=1)
    (row,) = found["tasks_made_worse"]
    worse = [task["returns"][1] < task["returns"][0] for task in found["tasks"]]
    assert row["share"] == sum(worse) / 4
    assert f"{25 * sum(worse)} % by update 1" in evaluation.table(found)


def test_every_play_moves_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    totals: list[int] = []
    moves: list[int] = []

    @contextmanager
    def counted(title: str, total: int) -> Iterator[Callable[..., None]]:
        titles.append(title)
        totals.append(total)
        yield lambda *_: moves.append(1)

    monkeypatch.setattr(evaluation, "counted", counted)
    evaluated("arm_reach", num_updates=1)
    # Two episodes each of learner and random initialisation, standing still, the scripted one.
    assert (titles, totals, len(moves)) == (["evaluating on 4 held-out tasks"], [6], 6)


def test_a_log_says_what_takes_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    evaluated("arm_reach", num_updates=1)
    assert capsys.readouterr().err == "evaluating on 4 held-out tasks ...\n"


def test_an_oracle_may_know_another_return_for_each_episode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regret and score are measured by its return in the same episode."""
    by_episode = torch.tensor([30.0, 40.0, 50.0])
    monkeypatch.setattr(
        Bandit,
        "_oracle",
        lambda env, tasks, num_episodes: {"oracle": by_episode.expand(4, num_episodes)},
    )
    found = evaluated("bandit", num_updates=2, adapter=UniformActions)
    means = [row["mean"] for row in found["returns"]]
    assert [row["mean"] for row in found["regret"]] == pytest.approx(
        [one - mean for one, mean in zip(by_episode.tolist(), means, strict=True)]
    )
    assert [row["mean"] for row in found["references"]["oracle"]] == by_episode.tolist()
