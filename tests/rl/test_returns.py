import pytest
import torch

from metarl.rl.returns import discounted_returns, gae, summed_by_doubling


def test_discounted_returns_by_hand():
    reward = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 8.0]])
    # 4; 2 + .5 * 4 = 4; 1 + .5 * 4 = 3   and   8; 4; 2
    assert discounted_returns(reward, discount=0.5).tolist() == [[3.0, 4.0, 4.0], [2.0, 4.0, 8.0]]


def test_gae_by_hand():
    reward, value = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0])
    next_value = torch.tensor([1.0, 2.0, 7.0])
    none = torch.zeros(3, dtype=torch.bool)
    # δ = (1 + .5·1 − .5, 2 + .5·2 − 1, 3 + .5·7 − 2) = (1, 2, 4.5); decay .5·.5 = .25
    # A₂ = 4.5; A₁ = 2 + .25·4.5 = 3.125; A₀ = 1 + .25·3.125 = 1.78125
    advantage = gae(reward, value, next_value, none, none, discount=0.5, gae_lambda=0.5)
    assert advantage.tolist() == [1.78125, 3.125, 4.5]


def test_truncated_step_still_bootstraps_and_terminated_does_not():
    reward, value, next_value = torch.ones(2, 2), torch.zeros(2, 2), torch.full((2, 2), 10.0)
    terminated = torch.tensor([[False, False], [True, False]])
    done = torch.tensor([[True, False], [True, False]])
    advantage = gae(reward, value, next_value, terminated, done, discount=0.9, gae_lambda=1.0)
    # Both rows end at their first step, so the second step (1 + 9) doesn't flow back; only a time
    # limit keeps 0.9 · 10.
    torch.testing.assert_close(advantage, torch.tensor([[10.0, 10.0], [1.0, 10.0]]))


def test_gae_with_lambda_one_is_return_minus_value():
    generator = torch.Generator().manual_seed(3)
    reward, value = (
        torch.randn(4, 9, generator=generator, dtype=torch.float64),
        torch.randn(4, 9, dtype=torch.float64),
    )
    next_value = torch.cat([value[:, 1:], torch.zeros(4, 1, dtype=torch.float64)], dim=1)
    none = torch.zeros(4, 9, dtype=torch.bool)
    advantage = gae(reward, value, next_value, none, none, discount=0.97, gae_lambda=1.0)
    torch.testing.assert_close(advantage, discounted_returns(reward, discount=0.97) - value)


def test_time_is_the_last_dimension_of_however_many():
    reward, value, next_value = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    done = torch.rand(2, 3, 4) < 0.3
    factors = {"discount": 0.9, "gae_lambda": 0.8}
    found = gae(reward, value, next_value, done, done, **factors)
    returns = discounted_returns(reward, discount=0.9)
    for i in range(2):
        for j in range(3):
            row = [x[i, j] for x in (reward, value, next_value, done, done)]
            torch.testing.assert_close(found[i, j], gae(*row, **factors))
            torch.testing.assert_close(returns[i, j], discounted_returns(row[0], discount=0.9))


def test_no_gradient_flows_to_the_values():
    reward, value, next_value = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(5, dtype=torch.bool)
    advantage = gae(reward, value, next_value, none, none, discount=0.9, gae_lambda=0.8)
    leaves = (reward, value, next_value)
    found = torch.autograd.grad(advantage.sum(), leaves, allow_unused=True)
    assert found[0] is not None and found[1:] == (None, None)


def test_gae_names_the_shapes_that_differ():
    x, flag = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"next_value.*\(2,\)"):
        gae(x, x, torch.zeros(2), flag, flag, discount=0.9, gae_lambda=0.9)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 8, 200])
def test_doubling_sums_up_what_going_from_step_to_step_does(num_steps):
    stream = torch.Generator().manual_seed(num_steps)
    reward, value, next_value = torch.randn(3, 5, num_steps, generator=stream, dtype=torch.float64)
    done = torch.rand(5, num_steps, generator=stream) < 0.2
    expected = gae(reward, value, next_value, done, done, discount=0.97, gae_lambda=0.9)
    delta = reward + 0.97 * next_value * ~done - value
    found = summed_by_doubling(delta, 0.97 * 0.9 * (~done).double())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        summed_by_doubling(reward, torch.full_like(reward, 0.99)),
        discounted_returns(reward, discount=0.99),
    )
