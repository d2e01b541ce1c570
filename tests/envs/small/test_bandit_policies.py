"""Facts about the agents that know how to learn about arms: their indices by hand, their worth by
enumerating every outcome."""

from functools import cache

import pytest
import torch

import envs
from envs.small.bandit_policies import (
    MOST_PULLS,
    Record,
    gittins_index,
    gittins_indices,
    reference_learners,
    thompson_index,
    ucb1_index,
)
from metarl.noise import Noise
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import adaptation_curve


def record(*arms: tuple[int, int]) -> Record:
    """One world whose arms have the given (successes, failures)."""
    successes, failures = torch.tensor(arms, dtype=torch.float32).T
    return Record(successes=successes[None], failures=failures[None])


def bayes_optimal_value(num_arms: int, num_pulls: int) -> float:
    """The best expected return on arms U[0, 1], by dynamic programming over everything that can be
    seen."""

    @cache
    def value(arms: tuple[tuple[int, int], ...], pulls: int) -> float:
        return (
            0.0
            if pulls == 0
            else max(after_pulling(arms, i, pulls, value) for i in range(num_arms))
        )

    return value(((0, 0),) * num_arms, num_pulls)


def gittins_value(num_arms: int, num_pulls: int) -> float:
    """The expected return of the Gittins policy, over everything that can be seen."""

    @cache
    def value(arms: tuple[tuple[int, int], ...], pulls: int) -> float:
        if pulls == 0:
            return 0.0
        return after_pulling(
            arms, int(gittins_index(record(*arms), num_pulls).argmax()), pulls, value
        )

    return value(((0, 0),) * num_arms, num_pulls)


def after_pulling(arms, i, pulls, value) -> float:
    successes, failures = arms[i]
    p = (1 + successes) / (2 + successes + failures)

    def then(*arm: int) -> float:
        return value((*arms[:i], arm, *arms[i + 1 :]), pulls - 1)

    return p * (1 + then(successes + 1, failures)) + (1 - p) * then(successes, failures + 1)


def test_indices_are_those_of_hand_arithmetic() -> None:
    tables = gittins_indices(3)
    # The last pull: the mean, (1 + s) / (2 + n).
    last = [tables[0][0, 0], tables[0][2, 0], tables[0][2, 1], tables[0][2, 2]]
    assert [x.item() for x in last] == pytest.approx([1 / 2, 1 / 4, 1 / 2, 3 / 4], abs=1e-5)
    # Two to go: λ = (½ + ½ · ⅔) / (1 + ½) = 5/9: after a success the arm pays ⅔ > λ, after a
    # failure one stops.
    assert tables[1][0, 0].item() == pytest.approx(5 / 9, abs=1e-5)
    # After one success, two to go: λ = (⅔ + ⅔ · ¾) / (1 + ⅔) = 7/10.
    assert tables[1][1, 1].item() == pytest.approx(0.7, abs=1e-5)
    # Three to go: go on after a success only, to (⅔ and 2 to go, which after a failure pays ½ < λ:
    # stop).
    # λ = (½ + ½ · ⅔ + ½ · ⅔ · ¾) / (1 + ½ + ½ · ⅔) = (13/12) / (11/6) = 13/22, and ½ < 13/22 < ⅔.
    assert tables[2][0, 0].item() == pytest.approx(13 / 22, abs=1e-5)
    assert [len(table) for table in tables] == [3, 2, 1]


PUBLISHED = {  # (successes, failures): index at discount 0.9, to four digits
    (0, 0): 0.7029,
    (1, 0): 0.8001,
    (2, 0): 0.8452,
    (9, 0): 0.9342,
    (0, 1): 0.5001,
    (1, 1): 0.6346,
    (9, 1): 0.8695,
    (0, 2): 0.3796,
    (1, 2): 0.5163,
    (2, 2): 0.6010,
}


def test_discounted_indices_are_those_of_the_published_table() -> None:
    """Gittins, Glazebrook & Weber 2011, Multi-armed Bandit Allocation Indices, table of the
    Bernoulli reward process."""
    endless = gittins_indices(100, num_levels=256, discount=0.9)[89]
    for (successes, failures), index in PUBLISHED.items():
        # Half a unit of the fourth digit, and what 89 more pulls and 256 levels leave out.
        assert endless[successes + failures, successes].item() == pytest.approx(index, abs=8e-5)


def exact_index(remaining: int, n: int, s: int) -> float:
    """By Dinkelbach's method: the best rule's ratio for a payment is the next payment, until it
    stays. In float64."""
    payment = 0.0
    while True:
        ahead = [(0.0, 0.0)] * (remaining + 1)  # (reward, pulls) by further successes
        for k in reversed(range(remaining)):
            go_on = [
                (reward, count) if reward > payment * count else (0.0, 0.0)
                for reward, count in ahead
            ]
            ahead = []
            for j in range(k + 1):
                p = (1 + s + j) / (2 + n + k)
                lost, won = go_on[j], go_on[j + 1]
                ahead.append(
                    (p + p * won[0] + (1 - p) * lost[0], 1 + p * won[1] + (1 - p) * lost[1])
                )
        better = ahead[0][0] / ahead[0][1]
        if better - payment < 1e-12:
            return better
        payment = better


def test_indices_are_as_near_as_they_say() -> None:
    tables = gittins_indices(100)
    # Where a coarse grid of levels errs most: arms that were pulled often, with many pulls to go.
    often = [(50, 50, 45), (34, 59, 48), (33, 66, 60), (33, 50, 48), (10, 82, 47), (45, 55, 25)]
    for remaining, n, s in [*often, (100, 0, 0), (90, 10, 9), (60, 30, 3), (1, 99, 50), (20, 1, 0)]:
        error = tables[remaining - 1][n, s].item() - exact_index(remaining, n, s)
        assert -1e-3 < error < 1e-6, (remaining, n, s)  # 10⁻⁶: float32


def test_indices_fall_to_the_mean_as_the_end_comes_near() -> None:
    at_start = [table[0, 0].item() for table in gittins_indices(40)]
    assert at_start == sorted(at_start)
    assert at_start[0] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(("num_arms", "num_pulls"), [(2, 1), (2, 2), (2, 5), (2, 10), (3, 5)])
def test_gittins_policy_is_within_a_thousandth_of_the_best_there_is(
    num_arms: int, num_pulls: int
) -> None:
    best = bayes_optimal_value(num_arms, num_pulls)
    worth = gittins_value(num_arms, num_pulls)
    assert worth <= best + 1e-12
    assert worth >= 0.999 * best


def test_best_value_of_two_pulls_is_that_of_hand_arithmetic() -> None:
    # ½, then after a success the same arm's ⅔, after a failure another's ½.
    assert bayes_optimal_value(2, 2) == pytest.approx(0.5 + 0.5 * 2 / 3 + 0.5 * 0.5)


def test_ucb1_adds_what_the_formula_adds_and_tries_every_arm_first() -> None:
    index = ucb1_index(record((3, 1), (1, 1), (0, 0)))[0].tolist()
    # ln 6 = 1.791759: 3/4 + √(2 · 1.791759 / 4) = 0.75 + 0.946509; 1/2 + √1.791759 = 0.5 + 1.338566
    assert index[:2] == pytest.approx([1.696509, 1.838566], abs=1e-5)
    assert index[2] == float("inf")


def test_thompson_sampling_draws_from_the_posterior() -> None:
    many = Record(successes=torch.full((20_000, 1), 2.0), failures=torch.full((20_000, 1), 1.0))
    draws = thompson_index(many, Noise(torch.Generator().manual_seed(0)))[:, 0]
    # Beta(3, 2): mean 0.6, variance 6 / (25 · 6) = 0.04; the mean of 20,000 has the standard
    # deviation 0.0014.
    assert draws.mean().item() == pytest.approx(0.6, abs=0.006)
    assert draws.var().item() == pytest.approx(0.04, abs=0.002)
    assert thompson_index(many, None)[0, 0].item() == pytest.approx(0.6)


def test_agents_keep_what_they_learnt_over_the_episodes_of_a_trial() -> None:
    env = envs.make("bandit", 200, horizon=20, num_arms=5)
    learners = env.references.learners(3)
    assert set(learners) == {"gittins", "thompson_sampling", "ucb1"}
    streams = Streams(
        tasks=torch.Generator().manual_seed(0),
        reset=Noise(torch.Generator().manual_seed(0)),
        policy=Noise(torch.Generator().manual_seed(0)),
    )
    tasks = env.prior.test_tasks(200)
    best = env.references.known_returns(tasks, 3)["oracle"].mean().item()
    for name, learner in learners.items():
        curve = adaptation_curve(learner, env, tasks, streams, num_tasks=200, num_updates=2)
        assert int(curve.states[2].pulls[0].sum()) == 40
        first, _, third = curve.returns.mean((0, 2)).tolist()
        # A random arm earns 10 of 20 pulls, the best 16.7; 200 episodes have a standard error of
        # 0.3.
        assert 10.9 < first < third < best, name


def test_indices_that_would_take_too_long_are_left_out_and_it_is_said(caplog) -> None:
    assert set(reference_learners(3, MOST_PULLS)) == {"gittins", "thompson_sampling", "ucb1"}
    assert caplog.text == ""
    assert set(reference_learners(3, MOST_PULLS + 1)) == {"thompson_sampling", "ucb1"}
    assert "without gittins beside the others: its indices for 601" in caplog.text
