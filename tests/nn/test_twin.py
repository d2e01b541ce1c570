"""Two critics in one pass give what each gives alone."""

import torch
from torch import nn

from metarl.core import params as P
from metarl.nn.twin import TwinCritics


def alone(critics: TwinCritics, critic: int) -> nn.Sequential:
    """The same network made of torch's layers."""
    layers = []
    for i in range(3):
        weight, bias = (
            getattr(critics, f"weight_{i}")[critic],
            getattr(critics, f"bias_{i}")[critic],
        )
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        layer.weight.data, layer.bias.data = weight.detach(), bias.detach()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_each_critic_is_a_perceptron_of_its_own(generator):
    critics = TwinCritics(5, (7, 6), generator=generator).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=generator)
    found = critics(x)
    assert found.shape == (2, 2, 3)
    for critic in range(2):
        torch.testing.assert_close(found[critic], alone(critics, critic)(x).squeeze(-1))
    assert not torch.allclose(found[0], found[1])


def test_no_gradient_goes_to_parameters_that_are_given_detached(generator):
    critics = TwinCritics(4, (6, 6), generator=generator)
    x = torch.randn(3, 4, generator=generator).requires_grad_()
    critics.with_params(P.detached(dict(critics.named_parameters())), x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(leaf.grad is None for leaf in critics.parameters())


def test_first_outputs_are_small(generator):
    critics = TwinCritics(4, (50, 50), generator=generator)
    assert critics(torch.randn(100, 4, generator=generator)).abs().max() < 0.2
    assert critics.bias_0.unique().tolist() == [torch.tensor(0.1).item()]
    assert critics.weight_2.abs().max() <= 3e-3
