"""Intervals of success rates: closed forms, how many trials episodes of a task are worth, and how
often the truth is inside."""

import pytest
import torch

from metarl.rl.evaluation.proportions import (
    effective_size,
    exact_interval,
    proportion_interval,
    success_summary,
)


def test_four_failures_do_not_prove_that_it_is_impossible():
    """P(no success in four) = (1 − p)⁴ is 2.5 % at p = 1 − .025^¼ = .602, however often each of the
    tasks was played."""
    for num_episodes in (1, 9):
        low, high = proportion_interval(torch.zeros(4, num_episodes, dtype=torch.bool))
        assert low == 0
        assert high == pytest.approx(1 - 0.025**0.25, abs=1e-9)
    found = success_summary(torch.ones(4, 3, dtype=torch.bool))
    assert found == {
        "success_rate": 1.0,
        "success_ci_low": pytest.approx(0.025**0.25, abs=1e-9),
        "success_ci_high": 1.0,
    }


def test_one_task_says_hardly_anything_of_the_next():
    assert proportion_interval(torch.ones(1, 50)) == (pytest.approx(0.025), 1.0)


def test_exact_interval_agrees_with_published_numbers():
    """Clopper & Pearson as every table has it: 8 of 10 is [.4439, .9748], 1 of 20 is [.0013,
    .2487]."""
    assert exact_interval(8, 10, confidence=0.95) == (
        pytest.approx(0.4439, abs=5e-5),
        pytest.approx(0.9748, abs=5e-5),
    )
    assert exact_interval(1, 20, confidence=0.95) == (
        pytest.approx(0.0013, abs=5e-5),
        pytest.approx(0.2487, abs=5e-5),
    )
    stats = pytest.importorskip("scipy.stats")
    low, high = exact_interval(27, 30, confidence=0.8)
    other = stats.binomtest(27, 30).proportion_ci(0.8, method="exact")
    assert (low, high) == (pytest.approx(other.low, rel=1e-8), pytest.approx(other.high, rel=1e-8))


def test_tasks_that_are_each_always_or_never_solved_count_once():
    solved = torch.tensor([True] * 6 + [False] * 4)[:, None].expand(10, 50)
    assert effective_size(solved) == pytest.approx(10)
    assert proportion_interval(solved) == exact_interval(6, 10, confidence=0.95)


def test_tasks_that_are_alike_count_nearly_as_often_as_they_are_played():
    """Each of 100 tasks is solved in 5 of 10 episodes: ρ̂ = 0, with 100 tasks to say so beside 2 of
    doubt, ρ = 2/102."""
    solved = torch.tensor([True, False]).repeat(100, 5)
    assert effective_size(solved) == pytest.approx(1000 / (1 + 9 * 2 / 102))


def test_the_variance_of_rates_is_that_of_a_sample_of_tasks():
    """Rates 1, .5 and 0: s² = .25, the design effect is .25 · 2 / .25 = 2, ρ̂ = 1 and ρ with it:
    6 / 2 trials."""
    solved = torch.tensor([[True, True], [True, False], [False, False]])
    assert effective_size(solved) == pytest.approx(3)


def drawn(rate, num_tasks, num_episodes, correlation, generator):
    """Beta-binomial: each task has a rate of its own, with mean `rate`, so that two of its episodes
    are correlated."""
    if correlation == 1:
        return (torch.rand(num_tasks, 1, generator=generator) < rate).expand(
            num_tasks, num_episodes
        )
    of_task = torch.full((num_tasks, 1), rate)
    if correlation > 0 and rate < 1:
        strength = (1 - correlation) / correlation
        # Beta(a, b) as a ratio of gammas. torch's gamma sampler draws from the global stream.
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            a = torch.distributions.Gamma(rate * strength, 1.0).sample((num_tasks, 1))
            b = torch.distributions.Gamma((1 - rate) * strength, 1.0).sample((num_tasks, 1))
        of_task = a / (a + b).clamp(min=1e-30)
    return torch.rand(num_tasks, num_episodes, generator=generator) < of_task


def share_held(rate, num_tasks, num_episodes, correlation, trials):
    """How often the 95 % interval holds the rate."""
    generator, held = torch.Generator().manual_seed(num_tasks), 0
    for _ in range(trials):
        low, high = proportion_interval(
            drawn(rate, num_tasks, num_episodes, correlation, generator)
        )
        held += low <= rate <= high
    return held / trials


@pytest.mark.parametrize("rate", [0.5, 0.98])
@pytest.mark.parametrize(("num_episodes", "correlation"), [(1, 0.0), (20, 0.0), (20, 1.0)])
def test_interval_holds_the_true_rate_as_often_as_it_says(rate, num_episodes, correlation):
    # Three standard errors of a share of .95, √(.95 · .05 / 60) = .028, below it. A bootstrap holds
    # .98 in .34.
    assert share_held(rate, 10, num_episodes, correlation, trials=60) >= 0.95 - 3 * 0.028


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98, 1.0])
@pytest.mark.parametrize("num_tasks", [10, 30, 100])
def test_interval_holds_the_true_rate_for_any_number_of_tasks(rate, num_tasks):
    for num_episodes in (1, 4, 20):
        for correlation in (0.0, 0.1, 0.3, 0.6, 1.0):
            held = share_held(rate, num_tasks, num_episodes, correlation, trials=400)
            print(
                f"rate {rate}, {num_tasks} tasks x {num_episodes}, correlation {correlation}: "
                f"{held:.3f}"
            )
            assert held >= 0.95 - 3 * 0.011, (
                num_episodes,
                correlation,
            )  # √(.95 · .05 / 400) = .011


def test_more_episodes_of_tasks_that_are_alike_narrow_the_interval():
    """It is no interval that takes each task for one trial, whatever it holds: 30 × 20 at .9 are
    [.80, .98] then."""
    solved = torch.rand(30, 20, generator=torch.Generator().manual_seed(0)) < 0.9
    low, high = proportion_interval(solved)
    assert high - low < 0.1


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\); expected \[N, E\]"):
        proportion_interval(torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match=r"\(0, 3\); expected"):
        proportion_interval(torch.ones(0, 3))
    with pytest.raises(ValueError, match="confidence is 95"):
        proportion_interval(torch.ones(2, 3), confidence=95)
