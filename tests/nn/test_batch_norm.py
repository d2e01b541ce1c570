"""Batch norm's two ways of computing the same: torch's fused one, and the one written out for
torch.func's transforms."""

import pytest
import torch
from torch import nn

from metarl.core import params as P
from metarl.core.adapt import adapt, grad_over_tasks
from metarl.core.rules import Sgd
from metarl.nn.batch_norm import BatchNorm

NETWORKS = {
    "pictures": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), BatchNorm(2), nn.Tanh(), nn.Flatten()),
    "vectors": lambda: nn.Sequential(nn.Flatten(), nn.Linear(25, 3), BatchNorm(3), nn.Tanh()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_meta_gradient_is_the_same_fused_and_written_out(name):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    params = P.of(network)
    support, query = torch.randn(2, 3, 4, 1, 5, 5, generator=generator, dtype=torch.float64)

    def loss(phi, x):
        return P.call(network, phi, x).square().mean() + P.call(network, phi, x[:2]).sum()

    task = lambda theta, s, q: loss(adapt(loss, theta, (s, s), Sgd(0.1)), q)
    fused, written = (
        grad_over_tasks(task, params, support, query, backend=name)[1] for name in ("loop", "vmap")
    )
    # Rounding in float64 of statistics over 12 to 108 values.
    torch.testing.assert_close(fused, written, rtol=1e-11, atol=1e-12)


def test_a_single_value_a_feature_is_its_own_mean():
    norm = BatchNorm(3)
    torch.nn.init.constant_(norm.bias, 0.5)
    assert norm(torch.randn(1, 3, generator=torch.Generator().manual_seed(0))).tolist() == [
        [0.5, 0.5, 0.5]
    ]


def test_the_whole_batch_as_reference_is_no_reference():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1
    norm = BatchNorm(3).double()
    torch.testing.assert_close(norm(x), norm(x, num_reference=6), rtol=0, atol=1e-14)
    by_definition = (x - x.mean(0)) / (x.var(0, correction=0) + norm.epsilon).sqrt()
    torch.testing.assert_close(norm(x), by_definition, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(7, 3), (3, 3, 4, 2)])
def test_both_derivatives_of_the_fused_norm_match_finite_differences(shape):
    generator = torch.Generator().manual_seed(0)
    norm = BatchNorm(3).double()
    inputs = [
        torch.randn(*size, generator=generator, dtype=torch.float64) for size in (shape, (3,), (3,))
    ]
    inputs[0] = 3 * inputs[0] + 1
    function = lambda x, weight, bias: P.call(norm, {"weight": weight, "bias": bias}, x)
    inputs = tuple(leaf.requires_grad_() for leaf in inputs)
    assert torch.autograd.gradcheck(function, inputs) and torch.autograd.gradgradcheck(
        function, inputs
    )


def test_a_third_derivative_of_the_fused_norm_is_refused():
    # Its second derivative takes mean and deviation for constants, so that a third one would be
    # silently wrong.
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    first = torch.autograd.grad(BatchNorm(3)(x).square().mul(x).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()
