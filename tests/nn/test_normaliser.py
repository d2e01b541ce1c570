"""Running statistics against those of all data at once."""

import torch

from metarl.nn.mlp import MLP
from metarl.nn.normaliser import RETURNS_DIFFER, Normaliser, update_beneath


def test_batches_of_any_size_add_up_to_the_statistics_of_all():
    data = 5 + 3 * torch.randn(
        100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    normaliser = Normaliser(2).double()
    torch.testing.assert_close(
        normaliser(data[:3]), data[:3], rtol=1e-8, atol=0
    )  # the identity before any data
    for part in data.split([1, 9, 60, 30]):
        normaliser.update(part)
    torch.testing.assert_close(normaliser.mean, data.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        normaliser.variance, data.var(0, correction=0), rtol=1e-12, atol=1e-12
    )
    # The epsilon of the variance, 1e-8 beside 9, is seen in the 10th digit.
    expected = (data - data.mean(0)) / data.std(0, correction=0)
    torch.testing.assert_close(normaliser(data), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(normaliser.inverse(normaliser(data)), data, rtol=1e-8, atol=1e-8)


def test_a_feature_that_never_changes_becomes_zero_and_accidents_are_bounded():
    normaliser = Normaliser(1)
    normaliser.update(torch.full((5, 1), 7.0))
    assert normaliser(torch.tensor([[7.0], [7.1], [-1e9]])).flatten().tolist() == [0, 10, -10]


def test_statistics_are_part_of_the_state():
    normaliser, other = Normaliser(1), Normaliser(1)
    normaliser.update(torch.tensor([[1.0], [5.0]]))
    other.load_state_dict(normaliser.state_dict())
    assert other(torch.tensor([[7.0]])).item() == 2.0  # (7 − 3) / 2
    other.update(torch.tensor([[3.0]]))
    assert other.mean.item() == 3.0


def test_returns_that_are_all_the_same_leave_the_values_weights_as_they_are():
    """Their deviation is nearly 0, and the weights would be multiplied by ten thousand."""
    network = MLP([2, 1], generator=torch.Generator().manual_seed(0))
    before, x = network.layers[-1].weight.clone(), torch.randn(4, 2)
    returns = Normaliser(1, least_variance=RETURNS_DIFFER)
    values = returns.inverse(network(x))
    update_beneath(network, returns, torch.full((50, 1), -0.1))
    torch.testing.assert_close(network.layers[-1].weight, before)
    update_beneath(network, returns, torch.tensor([[3.0], [5.0]]))
    torch.testing.assert_close(returns.inverse(network(x)), values)  # They mean what they meant.
    assert returns.deviation.item() > 0.5
