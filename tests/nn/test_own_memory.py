"""A memory of a user's own whose steps and whose sequence differ is refused, and so is one that
isn't a function of its state."""

import gymnasium
import pytest
import torch
from torch import nn

from metarl.errors import SettingError
from metarl.nn.own_memory import try_memory
from metarl.nn.recurrent import GRU, LSTM
from metarl.nn.transformer import Transformer
from metarl.rl.models.memory import MemoryModel


class MinGRU(nn.Module):
    """h ← (1 − z) h + z tanh(V x), z = σ(W x) (Feng et al. 2024, arXiv:2410.01201)."""

    max_steps = None

    def __init__(self, input_size, hidden_size, *, generator=None):
        super().__init__()
        self.output_size = hidden_size
        self.gate, self.value = (
            nn.Linear(input_size, hidden_size),
            nn.Linear(input_size, hidden_size),
        )
        for leaf in self.parameters():
            nn.init.uniform_(leaf, -0.5, 0.5, generator=generator)

    def initial(self, batch_size):
        return torch.zeros(batch_size, self.output_size)

    def step(self, x, state, active=None):
        z = self.gate(x).sigmoid()
        after = (1 - z) * state + z * self.value(x).tanh()
        return after, after if active is None else after.where(active[:, None], state)

    def sequence(self, x):
        state, found = self.initial(x.shape[1]), []
        for row in x:
            output, state = self.step(row, state)
            found.append(output)
        return torch.stack(found)


class Backwards(MinGRU):
    def sequence(self, x):
        return super().sequence(x).flip(0)


class BatchFirst(MinGRU):
    def sequence(self, x):
        return super().sequence(x.transpose(0, 1)).transpose(0, 1)


class BesideTheMean(MinGRU):
    def step(self, x, state, active=None):
        output, after = super().step(x, state, active)
        return output - output.mean(0), after


class OnItself(MinGRU):
    def initial(self, batch_size):
        self.kept = super().initial(batch_size)
        return self.kept

    def step(self, x, state, active=None):
        output, self.kept = super().step(x, self.kept[: len(x)], active)
        return output, state


class InPlace(MinGRU):
    def step(self, x, state, active=None):
        output, after = super().step(x, state, active)
        return output, state.copy_(after)


class AlwaysActive(MinGRU):
    def step(self, x, state, active=None):
        return super().step(x, state)


class NoBatch(MinGRU):
    def initial(self, batch_size):
        return torch.zeros(self.output_size)


class OutputAlone(MinGRU):
    def step(self, x, state, active=None):
        return super().step(x, state, active)[0]


class NoSequence(MinGRU):
    sequence = property()


class Wider(MinGRU):
    def __init__(self, *sizes, **settings):
        super().__init__(*sizes, **settings)
        self.output_size += 1

    def initial(self, batch_size):
        return torch.zeros(batch_size, self.output_size - 1)


@pytest.mark.parametrize("memory", [MinGRU(4, 6), GRU(4, 6), LSTM(4, 6)])
def test_one_that_is_a_memory_passes(memory):
    try_memory(memory, 4)


def test_one_that_looks_back_so_far_passes():
    generator = torch.Generator().manual_seed(0)
    sizes = {"width": 8, "num_layers": 1, "num_heads": 2, "context": 3}
    try_memory(Transformer(4, **sizes, generator=generator), 4)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Backwards, "Backwards.sequence gives other outputs than its steps one after the other"),
        (BatchFirst, "BatchFirst.sequence gives other outputs than its steps"),
        (BesideTheMean, "BesideTheMean.sequence gives a row other outputs beside other rows"),
        (OnItself, "OnItself.step"),
        (InPlace, "InPlace.step gives another output the second time"),
        (AlwaysActive, "AlwaysActive.step with active changes the state where it is False"),
        (NoBatch, r"NoBatch.initial\(3\) holds a tensor \[6\] of float32; expected tensors \[3, "),
        (OutputAlone, r"OutputAlone.step returned a tensor \[3, 6\] of float32; expected the outp"),
        (NoSequence, "NoSequence has no sequence; expected a memory as those of metarl.nn.recur"),
        (Wider, r"Wider.step returned an output of shape \[3, 6\]; expected \[B, H\] = \[3, 7\]"),
    ],
)
def test_one_that_is_none_is_told(made, message):
    with pytest.raises(SettingError, match=message):
        try_memory(made(4, 6), 4)


def model(memory):
    return MemoryModel(
        observation_space=gymnasium.spaces.Box(-1, 1, (2,)),
        action_space=gymnasium.spaces.Box(-1, 1, (2,)),
        memory=memory,
        has_feedback=True,
        head_sizes=[],
        activation="tanh",
        init_std=1.0,
        min_std=1e-6,
        generator=torch.Generator().manual_seed(0),
    )


def test_a_model_tries_its_memory_out_and_tells_of_its_constructor():
    own = lambda made: lambda *, input_size, generator: made(input_size, 6, generator=generator)
    model(own(MinGRU))
    with pytest.raises(SettingError, match="BatchFirst.sequence"):
        model(own(BatchFirst))
    with pytest.raises(SettingError, match="model.memory: .*'generator'.*; expected a constructor"):
        model(lambda input_size: MinGRU(input_size, 6))
