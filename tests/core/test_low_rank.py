"""Low-rank adaptation is the same function as adaptation with the weights formed: values and
meta-gradients, float64."""

import pytest
import torch
from torch.nn import functional

from metarl.core import params as P
from metarl.core.adapt import adapt, grad_over_tasks
from metarl.core.low_rank import adapt_low_rank, low_rank_pays
from metarl.core.rules import Sgd
from metarl.nn.features import PerceptronFeatures, WithHead

NUM_TASKS, WAYS = 4, 3


def problem(batch_norm):
    generator = torch.Generator().manual_seed(0)
    embed = PerceptronFeatures((9,), sizes=(7, 6), batch_norm=batch_norm, generator=generator)
    network = WithHead(embed, WAYS, generator).double()

    def loss(params, batch):
        return functional.cross_entropy(P.call(network, params, batch[0]), batch[1])

    def tasks(size):
        x = torch.randn(NUM_TASKS, size, 9, generator=generator, dtype=torch.float64)
        return x, torch.randint(WAYS, (NUM_TASKS, size), generator=generator)

    return network, loss, tasks(5), tasks(8)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("mode", ["through", "first_order"])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_low_rank_adaptation_equals_adaptation(num_steps, mode, batch_norm):
    network, loss, support, query = problem(batch_norm)
    params = P.of(network)
    rule = Sgd(0.3, later_lr=0.1)

    def formed(theta, one, judged_on):
        return loss(adapt(loss, theta, (one,) * num_steps, rule, mode=mode), judged_on)

    def low_rank(theta, one, judged_on):
        adapted = adapt_low_rank(network, loss, theta, (one,) * num_steps, rule, mode)
        with adapted.installed(network):
            return loss(adapted.params, judged_on)

    values, gradient = grad_over_tasks(formed, params, support, query, backend="loop")
    for settings in ({"backend": "joint"}, {"backend": "joint", "chunk": 3}, {"backend": "loop"}):
        same_values, same_gradient = grad_over_tasks(low_rank, params, support, query, **settings)
        torch.testing.assert_close(same_values, values, rtol=1e-12, atol=0)
        # Biases before a batch norm have a gradient of 0, hence the absolute part.
        torch.testing.assert_close(same_gradient, gradient, rtol=1e-11, atol=1e-14)


def test_joint_backend_passes_on_what_tasks_return_besides():
    network, loss, support, query = problem(batch_norm=True)
    params = P.of(network)

    def task(theta, one, judged_on):
        value = loss(adapt(loss, theta, (one,), Sgd(0.1)), judged_on)
        return value, 2 * value

    values, _, doubled = grad_over_tasks(
        task, params, support, query, backend="joint", chunk=3, has_aux=True
    )
    torch.testing.assert_close(doubled, 2 * values, rtol=0, atol=0)


class Twice(torch.nn.Module):
    """A layer that is called twice, or one of two layers that share their weight."""

    def __init__(self, shares):
        super().__init__()
        self.first = torch.nn.Linear(2, 2)
        self.second = torch.nn.Linear(2, 2) if shares else self.first
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("shares", [False, True])
def test_weight_of_two_layers_is_refused(shares):
    network = Twice(shares)

    def loss(params, x):
        return P.call(network, params, x).sum()

    with pytest.raises(ValueError, match="weight is used twice"):
        adapt_low_rank(network, loss, P.of(network), (torch.ones(3, 2),), Sgd(0.1))
    assert not any(module._forward_hooks for module in network.modules())


def test_low_rank_pays_for_few_examples_of_wide_layers():
    omniglot = {
        f"{i}.weight": torch.empty(o, i)
        for i, o in ((784, 256), (256, 128), (128, 64), (64, 64), (64, 5))
    }
    sinusoid = {f"{i}.{o}.weight": torch.empty(o, i) for i, o in ((1, 40), (40, 40), (40, 1))}
    assert low_rank_pays(omniglot, rank=5)
    assert not low_rank_pays(omniglot, rank=100)
    assert not low_rank_pays(sinusoid, rank=10)
