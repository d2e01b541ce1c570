"""A GRU's states over a sequence, and their derivatives, against torch's layer and finite
differences."""

import pytest
import torch

from metarl.nn.gru_sequence import gru_sequence
from metarl.nn.recurrent import GRU

INPUT, SIZE = 4, 3


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def layer():
    made = torch.nn.GRU(INPUT, SIZE).double()
    for i, parameter in enumerate(made.parameters()):
        parameter.data = drawn(*parameter.shape, seed=10 + i).detach()
    return made


@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (1, 3), (6, 1), (7, 5)])
def test_states_and_gradients_are_those_of_torch(steps, rows):
    theirs, x, initial = layer(), drawn(steps, rows, INPUT), drawn(rows, SIZE, seed=1)
    weighed = drawn(steps, rows, SIZE, seed=2).detach()

    def of(states):
        towards = [x, initial, *theirs.parameters()]
        return states, *torch.autograd.grad((states * weighed).sum(), towards)

    found = of(gru_sequence(x, initial, theirs.all_weights[0]))
    expected = of(theirs(x, initial[None])[0])
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)


def test_gradients_agree_with_finite_differences():
    x, initial, weights = drawn(5, 2, INPUT), drawn(2, SIZE, seed=1), layer().all_weights[0]
    assert torch.autograd.gradcheck(
        lambda x, initial, *weights: gru_sequence(x, initial, list(weights)),
        (x, initial, *weights),
    )


def test_inputs_may_lie_in_any_order():
    """As those that come by trials, [B, T, I], turned around; and gradients of parts of states."""
    x, initial, weights = drawn(5, 6, INPUT), drawn(5, SIZE, seed=1), layer().all_weights[0]
    turned, straight = x.transpose(0, 1), x.transpose(0, 1).contiguous()
    found, expected = (gru_sequence(each, initial, weights) for each in (turned, straight))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    found, expected = (
        torch.autograd.grad(states.transpose(0, 1)[:, 2:].square().sum(), x)[0]
        for states in (found, expected)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_two_passes_back_give_the_same():
    weights = layer().all_weights[0]
    states = gru_sequence(drawn(4, 2, INPUT), drawn(2, SIZE, seed=1), weights)
    one = torch.autograd.grad(states.sum(), weights, retain_graph=True)
    for first, second in zip(one, torch.autograd.grad(states.sum(), weights), strict=True):
        assert torch.equal(first, second)


def test_second_derivatives_are_refused():
    weights = layer().all_weights[0]
    states = gru_sequence(drawn(4, 2, INPUT), drawn(2, SIZE, seed=1), weights)
    (grad,) = torch.autograd.grad(states.square().sum(), weights[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        grad.sum().backward()


def test_a_memory_goes_on_from_a_state():
    memory = GRU(INPUT, SIZE, generator=torch.Generator().manual_seed(0)).double()
    x = drawn(7, 2, INPUT)
    whole = memory.sequence(x)
    first = memory.sequence(x[:3])
    torch.testing.assert_close(memory.sequence(x[3:], first[-1]), whole[3:], rtol=1e-12, atol=0)


def test_a_memory_of_many_rows_has_the_same_states():
    """Those that torch's layer gives."""
    memory = GRU(INPUT, SIZE, generator=torch.Generator().manual_seed(0)).double()
    x, initial = drawn(4, 2000, INPUT), drawn(2000, SIZE, seed=1)
    whole = memory.layer(x, initial[None])[0]
    torch.testing.assert_close(memory.sequence(x, initial), whole, rtol=0, atol=0)
    few = memory.sequence(x[:, :5], initial[:5])
    torch.testing.assert_close(few, whole[:, :5], rtol=1e-12, atol=1e-14)
