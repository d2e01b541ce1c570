import pytest
import torch

from metarl.rl import baselines
from metarl.rl.baselines import RIDGE, linear_feature_baseline, linear_features

# On a CPU task by task, on a GPU all at once.
both_ways = pytest.mark.parametrize("fit", [linear_feature_baseline, baselines._all_at_once])


def test_features_by_hand():
    features = linear_features(
        torch.tensor([[[2.0, -30.0]], [[0.5, 3.0]]])
    )  # [2 episodes, 1 step, 2]
    assert features[0, 0].tolist() == [2.0, -10.0, 4.0, 100.0, 0.0, 0.0, 0.0, 1.0]
    later = linear_features(torch.zeros(51, 1))[50]  # τ = 0.5
    torch.testing.assert_close(
        later, torch.tensor([0, 0, 0.5, 0.25, 0.125, 1], dtype=torch.float64)
    )


@both_ways
def test_returns_that_are_linear_in_the_features_are_fitted_exactly(fit):
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(3, 5, 40, 4, generator=generator)
    weights = torch.randn(
        3, 1, 12, 1, generator=generator, dtype=torch.float64
    )  # another function in each task
    returns = (linear_features(obs) @ weights).squeeze(-1).float()
    fitted = fit(obs, returns, torch.ones(3, 5, 40, dtype=torch.bool))
    # The ridge of 1e-5 beside a Gram matrix of 200 steps shrinks the weights by about 1e-6.
    torch.testing.assert_close(fitted, returns, rtol=1e-3, atol=1e-3)


@both_ways
def test_fit_equals_a_ridge_regression_by_qr_task_by_task_and_ignores_padding(fit):
    generator = torch.Generator().manual_seed(1)
    obs, returns = (
        torch.randn(2, 3, 30, 2, generator=generator),
        torch.randn(2, 3, 30, generator=generator),
    )
    mask = torch.ones(2, 3, 30, dtype=torch.bool)
    mask[:, 1, 20:] = False
    fitted = fit(obs, returns.masked_fill(~mask, 1e6), mask)
    for task in range(2):
        rows, target = linear_features(obs[task])[mask[task]], returns[task][mask[task]].double()
        # Ridge regression is least squares with one more row √ρ e_i -> 0 for every weight.
        penalty = RIDGE**0.5 * torch.eye(rows.shape[1], dtype=torch.float64)
        target_and_zeros = torch.cat([target, torch.zeros(rows.shape[1], dtype=torch.float64)])
        weights = torch.linalg.lstsq(
            torch.cat([rows, penalty]), target_and_zeros[:, None]
        ).solution[:, 0]
        torch.testing.assert_close(
            fitted[task][mask[task]].double(), rows @ weights, rtol=0, atol=1e-6
        )
    assert (fitted[~mask] == 0).all()


@both_ways
def test_a_task_is_fitted_to_its_whole_episodes_and_kept_within_their_returns(fit):
    """The second episode of the first task broke off at states like no other; both of the third."""
    generator = torch.Generator().manual_seed(2)
    obs = torch.randn(3, 3, 30, 2, generator=generator)
    obs[0, 1, 10:] *= 9
    returns = torch.randn(3, 3, 30, generator=generator)
    mask = torch.ones(3, 3, 30, dtype=torch.bool)
    mask[0, 1, 15:] = False
    whole = torch.tensor([[True, False, True], [True] * 3, [False] * 3])
    found = fit(obs, returns, mask, whole)
    plain = fit(obs, returns, mask)
    assert torch.equal(found[1:], plain[1:])  # where none is whole, all there are
    alone = fit(obs[:1, [0, 2]], returns[:1, [0, 2]], mask[:1, [0, 2]])[0]
    low, high = (of(returns[0, [0, 2]], dim=0).values for of in (torch.min, torch.max))
    torch.testing.assert_close(found[0, [0, 2]], alone.clamp(low, high), rtol=1e-6, atol=1e-6)
    broken = found[0, 1, :15]
    assert (broken >= low[:15]).all() and (broken <= high[:15]).all()
    assert not found[0, 1, 15:].any()


@both_ways
def test_constant_observations_are_no_problem(fit):
    obs = torch.ones(1, 4, 10, 3)  # features that are all collinear
    fitted = fit(obs, torch.full((1, 4, 10), 5.0), torch.ones(1, 4, 10, dtype=torch.bool))
    torch.testing.assert_close(fitted, torch.full((1, 4, 10), 5.0), rtol=1e-4, atol=1e-4)


@both_ways
def test_nan_returns_are_named(fit):
    with pytest.raises(FloatingPointError, match="returns"):
        fit(
            torch.zeros(1, 1, 2, 1),
            torch.tensor([[[1.0, float("nan")]]]),
            torch.ones(1, 1, 2, dtype=torch.bool),
        )


def test_all_at_once_takes_the_same_ridge_as_one_by_one(monkeypatch):
    """Of tasks whose system needs another one, too: the first ridges fail here in the second."""
    generator = torch.Generator().manual_seed(2)
    obs, returns = torch.randn(3, 2, 9, 2, generator=generator), torch.randn(3, 2, 9)
    mask, real = torch.ones(3, 2, 9, dtype=torch.bool), torch.linalg.cholesky_ex
    of_second = linear_features(obs[1]).flatten(0, 1).square().sum()

    def failing(system):
        factor, failed = real(system)
        trace = system.diagonal(dim1=-2, dim2=-1).sum(-1)
        is_second = (trace - of_second).abs() < 1e-2
        return factor, failed | (is_second & (trace - of_second < 8 * 0.9 * 1e-3)).int()

    monkeypatch.setattr(torch.linalg, "cholesky_ex", failing)
    expected = linear_feature_baseline(obs, returns, mask)
    torch.testing.assert_close(baselines._all_at_once(obs, returns, mask), expected)
    monkeypatch.setattr(
        torch.linalg, "cholesky_ex", lambda system: (system, torch.ones(system.shape[:-2]).int())
    )
    for fit in (linear_feature_baseline, baselines._all_at_once):
        with pytest.raises(
            FloatingPointError, match=r"of tasks \[0, 1, 2\] isn't positive definite"
        ):
            fit(obs, returns, mask)


@both_ways
def test_few_steps_are_fitted_by_time_alone_task_by_task(fit):
    """Eight features: 15 steps are too few for them, 16 are enough."""
    generator = torch.Generator().manual_seed(3)
    obs, returns = torch.randn(2, 2, 8, 2, generator=generator), torch.randn(2, 2, 8)
    mask = torch.ones(2, 2, 8, dtype=torch.bool)
    mask[0, 1, 7] = False
    fitted = fit(obs, returns, mask)
    for task, first in ((0, 4), (1, 0)):
        rows = linear_features(obs[task])[mask[task]][:, first:]
        target = returns[task][mask[task]].double()[:, None]
        gram = rows.T @ rows + RIDGE * torch.eye(rows.shape[1], dtype=torch.float64)
        expected = rows @ torch.linalg.solve(gram, rows.T @ target)
        found = fitted[task][mask[task]].double()
        torch.testing.assert_close(found, expected[:, 0], rtol=0, atol=1e-5)
    assert fitted[0, 1, 7] == 0
