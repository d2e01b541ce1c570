import pytest
import torch

from metarl.rl.evaluation import statistics
from metarl.rl.evaluation.statistics import (
    adaptation_gain,
    iqm,
    made_worse,
    normalised_score,
    stratified_bootstrap_interval,
    summary,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_iqm_by_hand():
    # Sorted -9 1 2 3 5 8 100: ⌊7/4⌋ = 1 goes at either end, (1 + 2 + 3 + 5 + 8) / 5 = 3.8
    assert iqm(torch.tensor([5.0, 100.0, 2.0, -9.0, 8.0, 1.0, 3.0])).item() == pytest.approx(
        3.8, abs=1e-12
    )
    # Pooled over tasks and episodes: sorted 0 1 2 3 4 5 6 70 without two at either end, (2 + 3 + 4
    # + 5) / 4
    assert iqm(torch.tensor([[6.0, 1.0, 4.0, 3.0], [2.0, 70.0, 0.0, 5.0]])).item() == 3.5
    # Along a dimension: per column, four values without one at either end.
    columns = torch.tensor([[9.0, 0.0], [1.0, 4.0], [3.0, 2.0], [2.0, 50.0]])
    assert iqm(columns, dim=0).tolist() == [2.5, 3.0]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 11, 40])
def test_iqm_agrees_with_scipy(count):
    stats = pytest.importorskip("scipy.stats")
    values = torch.randn(count, generator=seeded(count), dtype=torch.float64).exp()
    assert iqm(values).item() == pytest.approx(stats.trim_mean(values.numpy(), 0.25), rel=1e-12)


def test_interval_of_two_certain_tasks_by_hand():
    # Two tasks without noise, 0 and 1: a resample's mean is 0, ½, ½ or 1, a quarter each.
    returns = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert stratified_bootstrap_interval(returns, torch.mean, seeded()) == (0.0, 1.0)
    assert stratified_bootstrap_interval(returns, torch.mean, seeded(), confidence=0.3) == (
        0.5,
        0.5,
    )


def test_episodes_are_resampled_within_their_task():
    # One task: only its episodes can vary. Two equal episodes of each: only tasks can.
    low, high = stratified_bootstrap_interval(torch.tensor([[0.0, 1.0]]), torch.mean, seeded())
    assert (low, high) == (0.0, 1.0)

    def between_tasks(
        values: torch.Tensor, dim: int
    ) -> torch.Tensor:  # [R, N * E], E = 2: is a pair ever torn apart?
        return (values[:, 0::2] != values[:, 1::2]).any(dim).double()

    returns = torch.arange(5.0)[:, None].expand(5, 2)
    assert stratified_bootstrap_interval(returns, between_tasks, seeded()) == (0.0, 0.0)


@pytest.mark.parametrize("statistic", [torch.mean, iqm])
def test_interval_covers_the_value_of_the_population(statistic):
    """Tasks N(3, 2²), episodes with noise N(0, 1): mean and IQM of the population are 3. Nominal 90
    %."""
    generator, trials, covered = seeded(1), 300, 0
    for _ in range(trials):
        task = 3 + 2 * torch.randn(20, 1, generator=generator, dtype=torch.float64)
        returns = task + torch.randn(20, 4, generator=generator, dtype=torch.float64)
        low, high = stratified_bootstrap_interval(
            returns, statistic, generator, confidence=0.9, num_resamples=300
        )
        covered += low <= 3 <= high
    # Standard error of the share √(.9 · .1 / 300) = .017. Without resampling tasks it would be
    # about .4.
    assert 0.85 <= covered / trials <= 0.96


def test_summary_gives_the_interval_of_the_iqm():
    returns = torch.randn(
        30, 5, generator=seeded(2), dtype=torch.float64
    ).exp()  # skewed: mean and IQM are far apart
    row = summary(returns, seeded(3))
    assert row["mean"] == pytest.approx(returns.mean().item())
    assert row["ci_low"] < row["iqm"] < row["ci_high"] < row["mean"]
    assert (row["ci_low"], row["ci_high"]) == stratified_bootstrap_interval(returns, iqm, seeded(3))


def test_adaptation_gain_is_paired_by_task():
    """Tasks worth 0 to 900 that all gain 7 ± 1 / 2: unpaired, the interval would span hundreds."""
    worth = 100 * torch.arange(10.0)[:, None]
    before = worth + torch.tensor([[-1.0, 1.0]])
    returns = torch.stack(
        [before, before + 7, before - 500], dim=1
    )  # the second update doesn't count
    gain = adaptation_gain(returns, seeded())
    assert gain["mean"] == pytest.approx(7)
    assert gain["iqm"] == pytest.approx(7)
    assert 5 < gain["ci_low"] < 7 < gain["ci_high"] < 9


def test_tasks_made_worse_by_hand():
    """Means over episodes: 5 → 4 → 6, 1 → 1 → 0, 0 → 9 → 8: the first update harms one task of
    three, the second two."""
    returns = torch.tensor(
        [
            [[4.0, 6.0], [4.0, 4.0], [7.0, 5.0]],
            [[1.0] * 2, [1.0] * 2, [0.0] * 2],
            [[0.0] * 2, [9.0] * 2, [8.0] * 2],
        ]
    )
    found = made_worse(returns)
    assert [(row["update"], row["share"]) for row in found] == [
        (1, pytest.approx(1 / 3)),
        (2, pytest.approx(2 / 3)),
    ]
    assert all(0 <= row["ci_low"] < row["share"] < row["ci_high"] <= 1 for row in found)
    # Beside the first: 5 → 6 is better, 1 → 0 worse, 0 → 8 better.
    assert [row["share_below_unadapted"] for row in found] == pytest.approx([1 / 3, 1 / 3])
    assert made_worse(returns[:, :1]) == []


def test_normalised_score_is_a_ratio_of_means():
    """Still −1 and −9, oracle 0 and −1, returns −.8 and −5: gained .2 + 4 of 1 + 8, 4.2 / 9.

    The mean of ratios would be (.2 + .5) / 2. Resamples of two tasks are the first twice, both, or
    the second twice.
    """
    still, oracle = torch.tensor([-1.0, -9.0]), torch.tensor([[0.0], [-1.0]])
    found = normalised_score(torch.tensor([[-0.7, -0.9], [-5.0, -5.0]]), still, oracle, seeded())
    assert found["mean"] == pytest.approx(4.2 / 9)
    assert (found["ci_low"], found["ci_high"]) == (pytest.approx(0.2), pytest.approx(0.5))
    with pytest.raises(
        ValueError, match="the oracle has -5, standing still -5; expected more of the oracle"
    ):
        normalised_score(still, still, still, seeded())


def test_same_generator_gives_the_same_interval():
    returns = torch.randn(6, 3, generator=seeded())
    assert summary(returns, seeded(5)) == summary(returns, seeded(5)) != summary(returns, seeded(6))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_statistics_of_values_that_are_not_finite_raise(bad):
    returns = torch.ones(8, 2, 2)
    returns[3, 1, 0] = bad
    for call in (
        lambda: iqm(returns),
        lambda: summary(returns[:, 1], seeded()),
        lambda: adaptation_gain(returns, seeded()),
    ):
        with pytest.raises(ValueError, match=f"{bad} among .* values"):
            call()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\); expected \[N, E\]"):
        summary(torch.ones(2, 3, 4), seeded())
    with pytest.raises(ValueError, match=r"\(2, 1, 4\); expected \[N, K \+ 1, E\]"):
        adaptation_gain(torch.ones(2, 1, 4), seeded())
    with pytest.raises(ValueError, match="confidence is 95.0"):
        summary(torch.ones(2, 3), seeded(), confidence=95.0)


def test_resampling_some_at_a_time_has_the_same_numbers(monkeypatch):
    returns = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for block in (statistics.BLOCK, 50):
        monkeypatch.setattr(statistics, "BLOCK", block)
        generator = torch.Generator().manual_seed(2)
        found.append((summary(returns[:, 0], generator), adaptation_gain(returns, generator)))
    assert found[0] == found[1]
