"""Memories step by step against whole sequences, and against torch's own layers; what a row sits
out leaves no trace."""

import math

import pytest
import torch

from metarl.nn.recurrent import GRU, LSTM, ExternalRecall, NoMemory
from metarl.nn.transformer import RECENT_SLOTS, Transformer
from metarl.struct import map_tensors

BATCH, INPUT, STEPS = 3, 4, RECENT_SLOTS + 5  # the transformer's old slots are used, too
MEMORIES = {
    "gru": lambda generator: GRU(INPUT, 6, generator=generator),
    "lstm": lambda generator: LSTM(INPUT, 6, generator=generator),
    "transformer": lambda generator: Transformer(
        INPUT, width=8, num_layers=2, num_heads=2, context=STEPS, generator=generator
    ),
    "external_memory": lambda generator: ExternalRecall(
        INPUT,
        6,
        num_slots=4,
        slot_size=3,
        num_heads=2,
        usage_decay=0.9,
        key_strength=5.0,
        generator=generator,
    ),
    "none": lambda generator: NoMemory(INPUT, 6, generator=generator),
}


def make(name, seed=0):
    return MEMORIES[name](torch.Generator().manual_seed(seed)).double()


def inputs(num_steps=STEPS):
    return torch.randn(
        num_steps, BATCH, INPUT, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


@torch.no_grad()
def stepped(memory, xs, active=None):
    state, outputs = memory.initial(xs.shape[1]), []
    for t, x in enumerate(xs):
        output, state = memory.step(x, state, None if active is None else active[t])
        outputs.append(output)
    return torch.stack(outputs), state


@pytest.mark.parametrize("name", MEMORIES)
def test_steps_give_what_the_whole_sequence_gives(name):
    memory, xs = make(name), inputs()
    torch.testing.assert_close(stepped(memory, xs)[0], memory.sequence(xs), rtol=1e-12, atol=1e-12)
    assert memory.sequence(xs).shape == (STEPS, BATCH, memory.output_size)


@pytest.mark.parametrize("name", MEMORIES)
def test_the_present_does_not_depend_on_the_future(name):
    memory, xs = make(name), inputs()
    other = xs.clone()
    other[5:] += 1
    torch.testing.assert_close(
        memory.sequence(other)[:5], memory.sequence(xs)[:5], rtol=1e-12, atol=1e-12
    )
    assert (memory.sequence(other)[5:] - memory.sequence(xs)[5:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in MEMORIES if name != "none"])
def test_the_first_input_is_remembered_to_the_end(name):
    memory, xs = make(name), inputs()
    other = xs.clone()
    other[0] += 1
    assert (memory.sequence(other)[-1] - memory.sequence(xs)[-1]).abs().min() > 1e-9


@pytest.mark.parametrize("name", MEMORIES)
def test_what_a_row_sits_out_leaves_no_trace(name):
    """Row 1 sits out steps 2 to 4: at its other steps it gives what it gives without them."""
    memory, xs = make(name), inputs()
    active = torch.ones(STEPS, BATCH, dtype=torch.bool)
    active[2:5, 1] = False
    found = stepped(memory, xs, active)[0]
    everywhere = stepped(memory, xs)[0]
    torch.testing.assert_close(found[:, [0, 2]], everywhere[:, [0, 2]], rtol=1e-12, atol=1e-12)
    without = stepped(memory, xs[active[:, 1], 1:2])[0]
    torch.testing.assert_close(found[active[:, 1], 1], without[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_step_does_not_write_to_the_state_it_starts_from(name):
    memory, xs = make(name), inputs()
    state = stepped(memory, xs[:3])[1]
    before = map_tensors(torch.clone, state)
    first = memory.step(xs[3], state)[0]
    memory.step(xs[4], state)
    torch.testing.assert_close(memory.step(xs[3], before)[0], first, rtol=0, atol=0)
    torch.testing.assert_close(memory.step(xs[3], state)[0], first, rtol=0, atol=0)


@pytest.mark.parametrize("name", MEMORIES)
def test_the_generator_alone_draws_the_weights(name):
    one, same, other = ([*make(name, seed).parameters()] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_step_of_the_transformer_adds_one_slot_a_layer():
    """So its cost, one row of attention, grows linearly with the trial."""
    memory = make("transformer")
    for num_steps in (1, 2, STEPS):
        state = stepped(memory, inputs(num_steps))[1]
        for parts in ("keys", "values"):
            old, recent = getattr(state.old, parts), getattr(state.recent, parts)
            assert len(old) == len(recent) == 2
            sizes = [a.shape[2] + b.shape[2] for a, b in zip(old, recent, strict=True)]
            assert sizes == [num_steps] * 2


def test_positions_are_sines_and_cosines_of_wavelengths_up_to_10000():
    """Vaswani et al. 2017, section 3.5, all sines before all cosines."""
    positions = Transformer(INPUT, width=8, num_layers=1, num_heads=2, context=5).positions
    angles = [3 / 10000 ** (2 * i / 8) for i in range(4)]
    expected = [*map(math.sin, angles), *map(math.cos, angles)]
    assert positions[3].tolist() == pytest.approx(expected, rel=1e-6)  # float32


def test_a_sequence_beyond_the_context_is_refused():
    memory = make("transformer")
    refused = f"a sequence of {STEPS + 1} steps is longer than the transformer's context {STEPS}"
    with pytest.raises(ValueError, match=refused):
        memory.sequence(inputs(STEPS + 1))
    with pytest.raises(ValueError, match=refused):
        stepped(memory, inputs(STEPS + 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRU(2, 0), "hidden_size 0: expected 1 or more"),
        (
            lambda: Transformer(2, width=9, num_layers=1, num_heads=3, context=4),
            "width 9: expected an even multiple",
        ),
        (
            lambda: Transformer(2, width=8, num_layers=0, num_heads=2, context=4),
            "num_layers 0: expected 1 or more",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_transformer_is_torchs_own_layers():
    """Those whose norms come first, on embedded inputs with their positions."""
    memory, xs, generator = make("transformer"), inputs(), torch.Generator().manual_seed(2)
    for leaf in memory.parameters():  # Else norms have no scales and biases of their own.
        leaf.data += 0.1 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
    x = memory.embed(xs) + memory.positions[:STEPS, None]
    causal = torch.ones(STEPS, STEPS, dtype=torch.bool).triu(1)
    names = {
        "norm_attention": "norm1",
        "norm_perceptron": "norm2",
        "mix": "self_attn.out_proj",
        "widen": "linear1",
        "narrow": "linear2",
    }
    for layer in memory.layers:
        own = torch.nn.TransformerEncoderLayer(
            8, 2, dim_feedforward=32, dropout=0.0, norm_first=True, dtype=torch.float64
        )
        weights = {
            f"self_attn.in_proj_{part}": getattr(layer.project, part) for part in ("weight", "bias")
        }
        for name, theirs in names.items():
            part = getattr(layer, name)
            weights |= {f"{theirs}.weight": part.weight, f"{theirs}.bias": part.bias}
        own.load_state_dict(weights)
        x = own(x, src_mask=causal)
    torch.testing.assert_close(memory.sequence(xs), memory.norm(x), rtol=1e-10, atol=1e-12)
