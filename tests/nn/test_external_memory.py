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


def steered(memory, *, key, written):
    """Whatever it takes in, its one head looks for `key`, very sharply, and writes `written` to the
    least used slot."""
    with torch.no_grad():
        memory.heads.weight.zero_()
        # The gate is shut, and softplus(50) / log 2 = 72 times as strong a key as at first.
        raw = [*map(math.atanh, (*key, *written)), -50.0, 50.0]
        memory.heads.bias.copy_(torch.tensor(raw, dtype=torch.float64))
    return memory


@torch.no_grad()
def test_a_slot_that_is_read_is_not_taken_next():
    """By hand, of two slots: step 1 writes to slot 0 and reads it; step 2 writes to slot 1, the
    other one, and reads slot 0, which still has what is looked for; so step 3 takes slot 1, which
    was written later but never read."""
    memory = cell(num_heads=1, num_slots=2, slot_size=2)
    state, x = memory.initial(1), inputs(1)[0, :1]
    found = []
    for written in ([0.5, -0.5], [0.5, 0.5], [-0.5, -0.5]):
        state = steered(memory, key=[0.5, -0.5], written=written)(x, state)[1]
        found.append((state.usage[0].tolist(), state.slots[0].tolist()))
    usage, slots = zip(*found, strict=True)
    # What was used decays by 0.9; a write and a read add 1 each.
    expected = [[2, 0], [0.9 * 2 + 1, 1], [0.9 * 2.8 + 1, 0.9 * 1 + 1]]
    for one, other in zip(usage, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-9)
    assert slots[1] == [pytest.approx([0.5, -0.5]), pytest.approx([0.5, 0.5])]
    assert slots[2] == [pytest.approx([0.5, -0.5]), pytest.approx([-0.5, -0.5])]


@torch.no_grad()
def test_what_is_written_to_a_full_slot_stands_there_alone():
    """Five writes to four slots. The key is at right angles to all that is written, so that all
    slots are read alike and the oldest one is taken."""
    memory = cell(num_heads=1, num_slots=4, slot_size=2)
    state, x = memory.initial(1), inputs(1)[0, :1]
    for size in (0.1, 0.2, 0.3, 0.4, 0.5):
        state = steered(memory, key=[0.5, -0.5], written=[size, size])(x, state)[1]
    expected = torch.tensor([0.5, 0.2, 0.3, 0.4], dtype=torch.float64)[:, None].expand(4, 2)
    torch.testing.assert_close(state.slots[0], expected, rtol=1e-12, atol=1e-12)


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
