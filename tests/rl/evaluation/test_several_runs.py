"""Several runs together, held to hand arithmetic and to simulation: seeds are clusters, and tasks
are the same for all of them."""

import pytest
import torch

from metarl.rl.evaluation.proportions import exact_interval, proportion_interval
from metarl.rl.evaluation.several_runs import (
    across_runs,
    difference_of_means,
    interval_over_seeds,
    made_worse_across_runs,
    normalised_across_runs,
    optimality_gap,
    over,
    paired_differences,
    performance_profile,
    probability_of_improvement,
    success_across_runs,
)
from metarl.rl.evaluation.statistics import iqm, made_worse


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_statistics_of_two_seeds_by_hand():
    """Scores 0 2 | 4 10: mean 4, median (2 + 4) / 2 = 3, the middle half (2 + 4) / 2 = 3, missing
    to 5: (5 + 3 + 1 + 0) / 4."""
    found = across_runs(torch.tensor([[0.0, 2.0], [4.0, 10.0]]), seeded(), optimum=5)
    assert {name: row["value"] for name, row in found.items() if name != "over"} == {
        "mean": 4.0,
        "median": 3.0,
        "iqm": 3.0,
        "optimality_gap": 2.25,
    }
    assert found["over"] == "over 2 seeds and 2 tasks"
    assert optimality_gap(torch.tensor([1.5, 0.0]), 1.0, 0).item() == 0.5


def test_what_an_interval_is_over_is_said():
    assert over(1, 30) == "over 30 tasks, one seed"
    assert over(5, 1) == "over 5 seeds and one task"


def test_an_interval_of_seeds_alone_is_students():
    """Seeds 1, 2, 6 on two equal tasks: mean 3, standard deviation √7, t = 4.303 with two degrees
    of freedom: ± 6.572."""
    found = across_runs(torch.tensor([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]), seeded())["mean"]
    assert found["value"] == 3.0
    # 2000 resamples know a standard error within 1/√4000 = 1.6 %.
    assert found["ci_high"] - 3 == pytest.approx(4.30265 * (7 / 3) ** 0.5, rel=0.05)
    assert found["ci_low"] - 3 == pytest.approx(-4.30265 * (7 / 3) ** 0.5, rel=0.05)


def test_seeds_that_agree_on_hard_tasks_are_no_more_tasks():
    """Five seeds with the same scores say as much of tasks as one: ± t₂₉ s / √30, not a √5 less."""
    tasks = torch.randn(1, 30, generator=seeded(3), dtype=torch.float64)
    one, five = (across_runs(tasks.expand(seeds, 30), seeded())["mean"] for seeds in (1, 5))
    expected = 2.04523 * tasks.std().item() / 30**0.5
    for found in (one, five):
        assert found["ci_high"] - found["value"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("num_seeds", "seeds", "tasks"), [(1, 0.0, 2.0), (3, 2.0, 0.5), (3, 0.1, 2.0), (5, 1.0, 3.0)]
)
def test_interval_holds_the_truth_as_often_as_it_says(num_seeds, seeds, tasks):
    """Normal effects of seeds, tasks and both together, and noise of episodes; the mean of the
    population is 0. Nominal 95 %."""
    generator, trials, held = seeded(num_seeds), 100, {"mean": 0, "iqm": 0, "median": 0}

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for _ in range(trials):
        scores = seeds * normal(num_seeds, 1, 1) + tasks * normal(1, 20, 1)
        scores = scores + 0.5 * normal(num_seeds, 20, 1) + normal(num_seeds, 20, 2)
        found = across_runs(scores, generator, num_resamples=100)
        for name in held:
            held[name] += found[name]["ci_low"] <= 0 <= found[name]["ci_high"]
    # Three standard errors √(.95 · .05 / 100) = .022. Seeds and tasks as 60 independent scores
    # would hold it in about .5.
    assert all(count / trials >= 0.95 - 3 * 0.022 for count in held.values()), held


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize(
    ("seeds", "tasks", "is_skewed"),
    [(2.0, 0.5, False), (1.0, 3.0, False), (0.1, 2.0, False), (1.0, 3.0, True)],
)
def test_intervals_of_thirty_tasks_hold_the_truth(seeds, tasks, is_skewed, num_seeds):
    """The table of docs/reports.md: 5 episodes of each of 30 tasks. The truth of the IQM is that of
    a seed and a task drawn anew for each score."""
    generator, trials, held = seeded(1), 600, {"mean": 0, "iqm": 0}

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def of_tasks(*shape):
        drawn = torch.empty(*shape, dtype=torch.float64).exponential_(generator=generator)
        return 1 - drawn if is_skewed else normal(*shape)

    size = 4_000_000
    scores = seeds * normal(size) + tasks * of_tasks(size) + 0.5 * normal(size) + normal(size)
    truth = {"mean": 0.0, "iqm": iqm(scores).item()}
    for _ in range(trials):
        scores = seeds * normal(num_seeds, 1, 1) + tasks * of_tasks(1, 30, 1)
        scores = scores + 0.5 * normal(num_seeds, 30, 1) + normal(num_seeds, 30, 5)
        found = across_runs(scores, generator, num_resamples=200)
        for name in held:
            held[name] += found[name]["ci_low"] <= truth[name] <= found[name]["ci_high"]
    # .92 is what is stated of the least; two standard errors of 600 trials are .02.
    assert all(count / trials >= 0.90 for count in held.values()), held


def test_paired_differences_by_hand():
    """Differences 1, −1 | 3, 0 where the tasks themselves are worth hundreds: better in 1, 3 and
    half of the tie."""
    second = torch.tensor([[100.0, 900.0], [200.0, 800.0]])
    first = second + torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    found = paired_differences(first, second, seeded())
    assert found["mean"]["value"] == 0.75
    assert found["median"]["value"] == 0.5
    assert found["first_better"]["value"] == 2.5 / 4
    assert found["mean"]["ci_high"] < 20  # unpaired: hundreds
    assert found["over"] == "over 2 seeds and 2 tasks"


def test_probability_of_improvement_by_hand():
    """Task 1: 3 and 1 against 2 and 2, two wins of four. Task 2: 5 and 4 against 4 and 0, 3 wins
    and a tie, 3.5 of four."""
    first, second = torch.tensor([[3.0, 5.0], [1.0, 4.0]]), torch.tensor([[2.0, 4.0], [2.0, 0.0]])
    assert probability_of_improvement(first, second)["value"] == (0.5 + 3.5 / 4) / 2
    reverse = probability_of_improvement(second, first)
    assert reverse["value"] == 1 - (0.5 + 3.5 / 4) / 2
    # Numbers of seeds may differ: 3 and 5 beat 1 and 1 of one more seed, too.
    assert probability_of_improvement(first[:1], torch.ones(3, 2))["value"] == 1.0


def test_difference_of_learners_with_other_seeds_by_hand():
    """First: seeds 4 and 2, variance 2 / 2 = 1 of their mean; second: 3, 1 and 2, 1 / 3. Tasks
    differ by 0 and 2: 2 / 2 = 1. √(1 + 1/3 + 1) = 1.5275, and (7/3)² / (1 + 1/18 + 1) = 2.649
    degrees, of which t is 3.435 (4.303 of 2, 3.182 of 3)."""
    first = torch.tensor([[3.0, 5.0], [1.0, 3.0]])
    second = torch.tensor([[2.0, 4.0], [2.0, 0.0], [2.0, 2.0]])
    found = difference_of_means(first, second)
    reach = 3.435 * 1.5275
    assert found["value"] == 1.0
    assert found["ci_low"] == pytest.approx(1.0 - reach, abs=0.01)
    assert found["ci_high"] == pytest.approx(1.0 + reach, abs=0.01)
    alone = difference_of_means(first[:, :1], first[:, :1] * 0)
    assert alone["value"] == 2.0 and alone["ci_low"] < 2.0


@pytest.mark.parametrize(("num_first", "num_second"), [(3, 5), (1, 5)])
def test_interval_of_the_difference_holds_it(num_first, num_second):
    """Of one seed it is that of tasks and of the other learner's seeds; here its seed is a mean
    one."""
    generator, trials, held = seeded(num_first), 120, 0
    for _ in range(trials):
        task = torch.randn(30, generator=generator)
        first, second = (
            torch.randn(seeds, 1, generator=generator) * (seeds > 1)
            + torch.randn(seeds, 30, generator=generator)
            for seeds in (num_first, num_second)
        )
        found = difference_of_means(first + task + 2.0, second + task * 0.5)
        held += found["ci_low"] <= 2.0 <= found["ci_high"]
    assert held / trials >= 0.95 - 3 * 0.02  # √(.95 · .05 / 120)


def test_one_seed_of_each_on_one_task_are_compared_by_their_episodes():
    """3 and 5 beat 1, 2 and 4 in five of six pairs; their means differ by 4 − 7 / 3."""
    first, second = torch.tensor([[[3.0, 5.0]]]), torch.tensor([[[1.0, 2.0, 4.0]]])
    assert probability_of_improvement(first, second)["value"] == pytest.approx(5 / 6)
    found = difference_of_means(first, second)
    assert found["value"] == pytest.approx(5 / 3) and found["ci_low"] < 0 < found["ci_high"]
    # Two seeds differ by themselves: their episodes are averaged.
    both = torch.tensor([[[1.0, 2.0, 4.0]], [[4.5, 4.5, 6.0]]])
    assert probability_of_improvement(first, both)["value"] == 0.5
    with pytest.raises(ValueError, match="one seed of each on one task: episodes aren't pairs"):
        paired_differences(first, second, seeded())


def test_learners_are_compared_by_the_means_of_their_episodes():
    first, second = torch.randn(2, 3, 4, 5, generator=seeded(), dtype=torch.float64)
    means = [scores.mean(2) for scores in (first, second)]
    paired = [paired_differences(*two, seeded()) for two in ((first, second), means)]
    assert paired[0] == paired[1] and paired[0]["over"] == "over 3 seeds and 4 tasks"
    assert difference_of_means(first, second) == difference_of_means(*means)
    assert probability_of_improvement(first, second) == probability_of_improvement(*means)


def test_a_learner_that_always_wins_might_not_next_time():
    """Three seeds of each on 30 tasks: as from 1 / (1/3 + 1/3 + 1/30) = 1.43 trials; .025^(1/1.43)
    = .076."""
    found = probability_of_improvement(torch.ones(3, 30), torch.zeros(3, 30))
    assert found == {
        "value": 1.0,
        "ci_low": pytest.approx(0.025 ** (1 / 3 + 1 / 3 + 1 / 30), abs=1e-9),
        "ci_high": 1.0,
    }


@pytest.mark.parametrize(
    ("num_seeds", "seeds", "shift"), [(3, 2.0, 0.0), (3, 0.5, 3.0), (5, 1.0, 3.0), (10, 0.3, 1.5)]
)
def test_interval_of_the_probability_of_improvement_holds_it(num_seeds, seeds, shift):
    """x − y is normal with variance 2 s² (seeds) + .09 (tasks) + 2 (noise): P(x > y) = Φ(shift /
    √(2 s² + 2.09))."""
    generator, trials, held = seeded(num_seeds), 60, 0
    truth = torch.special.ndtr(torch.tensor(shift / (2 * seeds**2 + 2.09) ** 0.5)).item()
    for _ in range(trials):
        first, second = (
            seeds * torch.randn(num_seeds, 1, generator=generator)
            + torch.randn(num_seeds, 30, generator=generator)
            for _ in range(2)
        )
        found = probability_of_improvement(
            first + 0.3 * torch.randn(30, generator=generator) + shift, second
        )
        held += found["ci_low"] <= truth <= found["ci_high"]
    assert held / trials >= 0.95 - 3 * 0.028  # √(.95 · .05 / 60)


def test_performance_profile_by_hand():
    scores = torch.tensor(
        [[[1.0, 3.0], [4.0, 4.0]], [[0.0, 0.0], [8.0, 8.0]]]
    )  # episodes' means 2, 4 | 0, 8
    found = performance_profile(scores, [-1.0, 2.0, 5.0, 9.0])
    assert [row["value"] for row in found] == [1.0, 0.5, 0.25, 0.0]
    assert found[0]["ci_low"] < 1 and found[-1]["ci_high"] > 0


def test_the_interval_of_a_share_is_as_wide_as_few_seeds_make_it():
    """Shares 1, 1, 0: s² = 1/3, (2/9) / (s²/3) = 2 trials, but no fewer than the 3 seeds; times
    (z / t)², with 1.9600 for z and 4.3027 for t of two degrees."""
    (found,) = performance_profile(torch.tensor([[1.0], [1.0], [0.0]]), [0.5])
    trials = 3 * (1.959964 / 4.302653) ** 2
    low, high = exact_interval(2 / 3 * trials, trials, confidence=0.95)
    assert found["value"] == pytest.approx(2 / 3)
    assert [found["ci_low"], found["ci_high"]] == pytest.approx([low, high], abs=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(3,\); expected \[S, N, E\]"):
        across_runs(torch.ones(3), seeded())
    with pytest.raises(ValueError, match="2 tasks beside 3"):
        probability_of_improvement(torch.ones(2, 2), torch.ones(2, 3))
    with pytest.raises(ValueError, match="2 seeds beside 3"):
        paired_differences(torch.ones(2, 2), torch.ones(3, 2), seeded())
    with pytest.raises(ValueError, match="nan among 2 values"):
        across_runs(torch.tensor([[1.0, float("nan")]]), seeded())
    with pytest.raises(ValueError, match="confidence is 95"):
        across_runs(torch.ones(2, 2), seeded(), confidence=95)
    with pytest.raises(ValueError, match="confidence is 95"):
        probability_of_improvement(torch.ones(2, 2), torch.ones(2, 2), confidence=95)
    with pytest.raises(ValueError, match="num_resamples is 1; expected 2 or more"):
        across_runs(torch.ones(2, 2), seeded(), num_resamples=1)


def test_scores_may_be_arrays_of_numpy():
    scores = torch.rand(3, 4, 2, generator=seeded())
    for statistic in (
        lambda x: across_runs(x, seeded()),
        lambda x: paired_differences(x, x + 1, seeded()),
        lambda x: probability_of_improvement(x, 1 - x),
    ):
        assert statistic(scores.numpy()) == statistic(scores)


def test_interval_over_seeds_is_students():
    """1 2 6: mean 3, s² = (4 + 1 + 9) / 2 = 7, √(7 / 3) = 1.5275; t of two degrees is 4.3027."""
    low, high = interval_over_seeds(torch.tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]]))
    assert low.tolist() == pytest.approx([3 - 4.3027 * 1.5275, 5.0], abs=1e-3)
    assert high.tolist() == pytest.approx([3 + 4.3027 * 1.5275, 5.0], abs=1e-3)
    with pytest.raises(ValueError, match="expected 2 seeds or more"):
        interval_over_seeds(torch.ones(1, 4))


def test_tasks_made_worse_are_counted_over_all_seeds():
    """Of 2 seeds × 2 tasks the first update lowers one, the second two; episodes are averaged."""
    returns = torch.tensor(
        [
            [[[1.0, 3.0], [2.0, 4.0], [2.0, 2.0]], [[5.0, 5.0], [4.0, 4.0], [6.0, 6.0]]],
            [[[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [[7.0, 7.0], [7.0, 8.0], [9.0, 9.0]]],
        ]
    )
    found = made_worse_across_runs(returns)
    assert [row["value"] for row in found] == [0.25, 0.5]
    assert all(row["ci_low"] < row["value"] < row["ci_high"] for row in found)
    assert made_worse_across_runs(returns[:, :, :1]) == []
    (alone, _) = made_worse_across_runs(returns[:1])
    (row, _) = made_worse(returns[0])
    assert [alone[end] for end in ("ci_low", "ci_high")] == [row["ci_low"], row["ci_high"]]
    with pytest.raises(ValueError, match=r"shape \(2, 2, 3\); expected \[S, N, K \+ 1, E\]"):
        made_worse_across_runs(returns[..., 0])


def test_success_of_one_seed_is_as_that_seed_alone_says():
    success = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) < 0.6
    found = success_across_runs(success[None])
    assert (found["ci_low"], found["ci_high"]) == proportion_interval(success)
    assert found["value"] == pytest.approx(success.double().mean().item())
    with pytest.raises(ValueError, match=r"shape \(7, 3\); expected \[S, N, E\]"):
        success_across_runs(success)


@pytest.mark.parametrize(
    ("seeds", "tasks", "widest"),
    [(0.0, 0.0, 0.22), (0.5, 0.5, 0.5), (1.0, 0.2, 0.8), (0.2, 1.5, 0.36)],
)
def test_the_interval_of_successes_holds_their_rate(seeds, tasks, widest):
    """3 seeds on 20 tasks, 5 episodes each, whose log-odds vary by seed and by task. All episodes
    count where they differ alone; where seeds differ most, they are what counts."""
    generator, held, width, draws = torch.Generator().manual_seed(0), 0, 0.0, 200

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    for _ in range(draws):
        rates = torch.sigmoid(seeds * normal(3, 1) + tasks * normal(1, 20))
        success = torch.rand(3, 20, 5, generator=generator) < rates[..., None]
        found = success_across_runs(success)
        held += found["ci_low"] <= 0.5 <= found["ci_high"]  # by symmetry
        width += (found["ci_high"] - found["ci_low"]) / draws
    assert held / draws >= 0.91 and width < widest


def test_the_interval_of_a_rate_near_one_holds_it_nearly_as_often():
    """5 seeds on 40 tasks, 5 episodes each, with a rate of .95 that differs by seed and by task."""
    generator, held, draws = torch.Generator().manual_seed(0), 0, 200

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    threshold = torch.special.ndtri(torch.tensor(0.95)) * 3**0.5  # of a sum of three normal numbers
    for _ in range(draws):
        ability = normal(5, 1, 1) + normal(1, 40, 1)
        found = success_across_runs(ability + normal(5, 40, 5) > -threshold)
        held += found["ci_low"] <= 0.95 <= found["ci_high"]
    assert 0.86 <= held / draws < 0.96


def test_a_score_is_the_ratio_of_means_and_varies_with_what_it_does_not_explain():
    """Standing still has -10 and -30, the best 0: (-8 + 20) / 20 = .6. Seeds that differ alone make
    the interval of .5 .6 .7, which is .6 ± 4.30 · .1 / √3; tasks that differ by their scale alone
    make none."""
    zero, one = torch.tensor([-10.0, -30.0]), torch.tensor([0.0, 0.0])
    scores = torch.stack([zero * (1 - share) for share in (0.5, 0.6, 0.7)])
    found = normalised_across_runs(scores, zero, one, seeded())
    assert found["value"] == pytest.approx(0.6)
    # The standard error is a bootstrap's of 2000 resamples, which is off by some 2 %.
    assert found["ci_high"] - 0.6 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=0.1)
    alone = normalised_across_runs(scores[1:2], zero, one, seeded())
    assert alone == pytest.approx({"value": 0.6, "ci_low": 0.6, "ci_high": 0.6})
    with pytest.raises(ValueError, match="-20 scores 1 and 0 scores 0; expected more of 1"):
        normalised_across_runs(scores, one, zero, seeded())


def test_an_update_that_changes_nothing_makes_no_task_worse():
    same = torch.ones(2, 5, 2, 3)
    for runs in (same, same[:1]):
        assert made_worse_across_runs(runs)[0]["value"] == 0.0
