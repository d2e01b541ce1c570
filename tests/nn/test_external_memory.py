"""The external memory cell: one step by hand, its gradients by finite differences, and that it
recalls by content."""

import math

import pytest
import torch

from metarl.nn.external_memory import ExternalMemory
from metarl.struct import map_tensors

BATCH, INPUT = 3, 4


def cell(**changes):
    sizes = {
        "num_slots": 5,
        "slot_size": 3,
        "num_heads": 2,
        "usage_decay": 0.9,
        "key_strength": 4.0,
    } | changes
    return ExternalMemory(INPUT, 6, **sizes, generator=torch.Generator().manual_seed(0)).double()


def run(memory, inputs):
    state, outputs = memory.initial(inputs.shape[1]), []
    for x in inputs:
        output, state = memory(x, state)
        outputs.append(output)
    return torch.stack(outputs), state


def inputs(num_steps=4):
    return torch.randn(
        num_steps, BATCH, INPUT, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def test_the_first_write_fills_the_first_slots_and_is_read_back():
    memory = cell()
    with torch.no_grad():
        output, state = run(memory, inputs(1))
    assert output.shape == (1, BATCH, memory.output_size) == (1, BATCH, 6 + 2 * 3)
    raw = memory.heads(state.hidden).detach().reshape(BATCH, 2, 8)
    key, written, gate = raw[..., :3].tanh(), raw[..., 3:6].tanh(), raw[..., 6].sigmoid()
    strength = 4 * torch.log1p(raw[..., 7].exp()) / math.log(2)
    # Nothing has been read: head i writes (1 − gate) a to slot i, the i-th of equally unused ones;
    # the rest is empty.
    expected = torch.zeros(BATCH, 5, 3, dtype=torch.float64)
    expected[:, :2] = (1 - gate)[..., None] * written
    torch.testing.assert_close(state.slots, expected, rtol=1e-12, atol=1e-12)
    for b in range(BATCH):
        for head in range(2):
            cosine = [
                torch.cosine_similarity(key[b, head], slot, dim=0) for slot in expected[b, :2]
            ] + [0.0] * 3
            weights = torch.tensor(
                [math.exp(float(strength[b, head]) * float(c)) for c in cosine]
            ).double()
            # The norms' epsilon of 1e-8 shows in the 6th digit of short slots.
            torch.testing.assert_close(
                state.read_weights[b, head], weights / weights.sum(), rtol=1e-4, atol=1e-6
            )


def test_slots_are_taken_in_turn_before_any_is_written_over():
    memory = cell(num_heads=1, num_slots=4)
    with torch.no_grad():
        memory.heads.bias[6] = -50.0  # the gate: always to the least used slot
    state, filled = memory.initial(BATCH), []
    for x in inputs(4):
        state = memory(x, state)[1]
        filled.append((state.slots.norm(dim=-1) > 1e-6).sum(-1).tolist())
    assert filled == [[n] * BATCH for n in (1, 2, 3, 4)]


def test_gradients_match_finite_differences():
    memory = cell()
    torch.manual_seed(0)
    names = [name for name, _ in memory.named_parameters()]
    x = inputs(3).requires_grad_()

    def outputs(x, *leaves):
        def step(x, state):
            return torch.func.functional_call(
                memory, dict(zip(names, leaves, strict=True)), (x, state)
            )

        state, found = memory.initial(BATCH), []
        for row in x:
            output, state = step(row, state)
            found.append(output)
        return torch.stack(found)

    leaves = [parameter.detach().clone().requires_grad_() for parameter in memory.parameters()]
    # fast_mode projects the Jacobian on random vectors: float64 agrees to about 1e-7 there.
    assert torch.autograd.gradcheck(outputs, (x, *leaves), fast_mode=True)


def test_rows_of_a_batch_do_not_see_each_other():
    memory, x = cell(), inputs()
    together, state = run(memory, x)
    alone, alone_state = run(memory, x[:, 1:2])
    torch.testing.assert_close(alone[:, 0], together[:, 1], rtol=1e-12, atol=1e-12)
    one_row = map_tensors(lambda leaf: leaf[1:2], state)
    torch.testing.assert_close(alone_state.slots, one_row.slots, rtol=1e-12, atol=1e-12)


def test_a_state_is_left_as_it_was():
    memory, x = cell(), inputs(2)
    _, state = memory(x[0], memory.initial(BATCH))
    before = map_tensors(torch.clone, state)
    memory(x[1], state)
    for name, leaf in vars(before).items():
        assert torch.equal(leaf, getattr(state, name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 6}, "num_heads 6: expected at most num_slots, 5"),
        ({"num_slots": 0}, "num_slots 0: expected 1 or more"),
        ({"usage_decay": 1.5}, "usage_decay 1.5: expected a number from 0 to 1"),
        ({"key_strength": 0.0}, "key_strength 0.0: expected a number above 0"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        cell(**changes)
