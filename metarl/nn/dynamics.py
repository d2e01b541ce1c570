"""Models of what an action does: the change of the observation and the reward, predicted in
normalised units.

A feed-forward model, and an ensemble of recurrent ones whose memory carries what a trial has shown.
Both give `Layers`, on which `imagined_returns` plays action sequences for all worlds, candidates
and models at once.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from metarl.choices import check_choice
from metarl.core.checks import check_counts, check_layers
from metarl.nn.mlp import ACTIVATIONS, IN_PLACE, MLP, Activation
from metarl.struct import map_tensors, struct
from metarl.types import Params

Layers = list[tuple[Tensor, Tensor]]
"""(weight [G, i, o], bias [G, B, o]) of each layer of G networks in physical units. Each bias row
serves as many rows of the input as come to it: one bias for all (B = 1), or one for the candidates
of each world (B = W)."""


@struct
class Transitions:
    """What a model learns from; any leading dimensions."""

    obs: Tensor  # [..., O]
    action: Tensor  # [..., A] as the environment took it
    next_obs: Tensor  # [..., O] the true successor
    reward: Tensor  # [...]
    mask: Tensor  # [...] bool; the other entries mean nothing

    def steps(self, chosen: slice) -> "Transitions":
        """Returns some of the steps of [B, T, ...], as views."""
        return map_tensors(lambda leaf: leaf[:, chosen], self)


class TransitionNormaliser(nn.Module):
    """Zero mean and unit deviation for what a model takes, (s, a), and for what it predicts, (s' −
    s, r).

    The numbers are buffers: saved with the model, unseen by optimizers. As made it changes nothing.
    """

    input_mean: Tensor  # [O + A]
    input_std: Tensor
    output_mean: Tensor  # [O + 1]
    output_std: Tensor

    def __init__(self, obs_size: int, action_size: int) -> None:
        super().__init__()
        for name, size in (("input", obs_size + action_size), ("output", obs_size + 1)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    @torch.no_grad()
    def fit(self, data: Transitions) -> None:
        """Takes mean and deviation of each column from the unmasked transitions. A column that
        never changes keeps unit scale."""
        for name, rows in (("input", _inputs(data.obs, data.action)), ("output", _outputs(data))):
            std, mean = torch.std_mean(rows[data.mask].double(), dim=0, correction=0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_(torch.where(std > 1e-6, std, 1.0))

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Returns the network's inputs [..., O + A], normalised."""
        return (_inputs(obs, action) - self.input_mean) / self.input_std

    def targets(self, data: Transitions) -> Tensor:
        """Returns what the network learns, [..., O + 1]: the change of the observation, and the
        reward, normalised."""
        return (_outputs(data) - self.output_mean) / self.output_std

    def prediction(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `targets`: (change of the observation [..., O], reward [...])."""
        physical = output * self.output_std + self.output_mean
        return physical[..., :-1], physical[..., -1]

    def folded(self, weights: Sequence[tuple[Tensor, Tensor]]) -> Layers:
        """The layers of a perceptron on normalised numbers as layers on physical ones, so that a
        rollout needn't convert.

        Args: weights: (weight [G, o, i], bias [G, o]) of each layer; the first may take more
        columns than (s, a), which stay.
        """
        layers = [(weight.mT, bias.unsqueeze(1)) for weight, bias in weights]
        first, bias = layers[0]
        size = len(self.input_mean)
        known = first[:, :size] / self.input_std[:, None]
        layers[0] = (
            torch.cat([known, first[:, size:]], dim=1),
            bias - self.input_mean @ known.unsqueeze(1),
        )
        last, bias = layers[-1]
        layers[-1] = (
            last * self.output_std,
            torch.addcmul(self.output_mean, bias, self.output_std),
        )
        return layers


def _inputs(obs: Tensor, action: Tensor) -> Tensor:
    return torch.cat([obs, action], dim=-1)


def _outputs(data: Transitions) -> Tensor:
    return torch.cat([data.next_obs - data.obs, data.reward.unsqueeze(-1)], dim=-1)


class FeedForwardDynamics(nn.Module):
    """(s, a) ↦ (s' − s, r) by one perceptron: a model without memory, for learners that adapt its
    parameters."""

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        *,
        activation: Activation,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_layers({"hidden_sizes": hidden_sizes})
        self.normaliser = TransitionNormaliser(obs_size, action_size)
        self.trunk = MLP(
            (obs_size + action_size, *hidden_sizes, obs_size + 1), activation, generator=generator
        )

    @property
    def activation(self) -> Activation:
        return self.trunk.activation

    def layers(self, params: Params) -> Layers:
        """Returns the layers of G networks, with the normaliser folded into the first. Args:
        params: the trunk's, leaves [G, ...]."""
        return self.normaliser.folded(self.trunk.weights(params))


class RecurrentDynamics(nn.Module):
    """M models with a memory each: a GRU takes in every transition of the trial, a perceptron
    predicts the next one from it.

        hₜ = GRU(hₜ₋₁, [s, a, s' − s, r]ₜ₋₁),     [s' − s, r]ₜ = f([s, a]ₜ, hₜ)

    Only what really happened enters the memory. An imagined step tells nothing new about the task,
    so that a plan is scored with the memory held: by perceptrons alone, whose first layer takes in
    h once for all candidates.

    The parameters of the M models are stacked [M, ...]; every layer is one batched product over
    them.

    Args:
      memory_size: K, of each model's h.
      hidden_sizes: of the perceptrons f.
    """

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        num_models: int,
        memory_size: int,
        hidden_sizes: Sequence[int],
        activation: Activation,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts({"num_models": num_models, "memory_size": memory_size})
        check_layers({"hidden_sizes": hidden_sizes})
        check_choice("activation", activation, ACTIVATIONS)
        self.normaliser = TransitionNormaliser(obs_size, action_size)
        self.num_models = num_models
        self.memory_size = memory_size
        self.activation = activation
        evidence = obs_size + action_size + obs_size + 1

        def uniform(*shape: int, bound: float) -> nn.Parameter:
            return nn.Parameter(
                bound * (2 * torch.rand(num_models, *shape, generator=generator) - 1)
            )

        # As torch.nn.GRU starts, and as our MLP does: Xavier (Glorot & Bengio 2010), biases zero.
        bound = memory_size**-0.5
        self.evidence_weight = uniform(evidence, 3 * memory_size, bound=bound)
        self.evidence_bias = uniform(3 * memory_size, bound=bound)
        self.memory_weight = uniform(memory_size, 3 * memory_size, bound=bound)
        self.memory_bias = uniform(3 * memory_size, bound=bound)
        sizes = (obs_size + action_size + memory_size, *hidden_sizes, obs_size + 1)
        self.weights = nn.ParameterList(
            uniform(o, i, bound=math.sqrt(6 / (i + o))) for i, o in pairwise(sizes)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(num_models, o)) for o in sizes[1:])

    def empty_memory(self, num_worlds: int) -> Tensor:
        """Returns the memory [M, W, K] before anything has been seen."""
        return self.memory_weight.new_zeros(self.num_models, num_worlds, self.memory_size)

    def remember(self, memory: Tensor, evidence: Tensor) -> Tensor:
        """The memory [M, W, K] after one more transition of each world, evidence [W, I]."""
        return self._step(memory, self._seen(evidence))

    def memories(self, memory: Tensor, evidence: Tensor, mask: Tensor) -> Tensor:
        """The memory before each transition of B trials and after the last: evidence [B, T, I] ->
        [M, B, T + 1, K].

        Args: memory: [M, B, K] to begin with; mask: [B, T] bool, False where nothing is remembered.
        """
        seen = self._seen(evidence.flatten(0, 1)).unflatten(1, evidence.shape[:2])
        along, whole = [memory], bool(mask.all())
        # Unbound at once: an index in each step would cost a gradient of the whole each time.
        for now, kept in zip(seen.unbind(2), mask.unsqueeze(-1).unbind(1), strict=True):
            after = self._step(along[-1], now)
            along.append(after if whole else torch.where(kept, after, along[-1]))
        return torch.stack(along, dim=2)

    def evidence(self, data: Transitions) -> Tensor:
        """Returns what a transition tells the memory, [..., I]: all of it, normalised."""
        return torch.cat(
            [self.normaliser.inputs(data.obs, data.action), self.normaliser.targets(data)], dim=-1
        )

    def predict(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """Normalised predictions [M, R, O + 1] from normalised inputs [R, O + A] and each model's
        memory [M, R, K]."""
        x = torch.cat([inputs.expand(self.num_models, *inputs.shape), memory], dim=-1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
            if layer + 1 < len(self.weights):
                x = ACTIVATIONS[self.activation](x)
        return x

    def layers(self, memory: Tensor) -> Layers:
        """The perceptrons with the memory [M, W, K] in their first bias, so that world w has bias
        row w."""
        layers = self.normaliser.folded(list(zip(self.weights, self.biases, strict=True)))
        first, bias = layers[0]
        size = first.shape[1] - self.memory_size
        layers[0] = (first[:, :size], torch.baddbmm(bias, memory, first[:, size:]))
        return layers

    def _seen(self, evidence: Tensor) -> Tensor:
        """The evidence's part of the gates [M, R, 3 K], for all rows in one product."""
        rows = evidence.expand(self.num_models, *evidence.shape)
        return torch.baddbmm(self.evidence_bias.unsqueeze(1), rows, self.evidence_weight)

    def _step(self, memory: Tensor, seen: Tensor) -> Tensor:
        """One GRU step (Cho et al. 2014, arXiv:1406.1078) in the form of torch.nn.GRU, [M, R,
        K]."""
        kept = torch.baddbmm(self.memory_bias.unsqueeze(1), memory, self.memory_weight)
        reset_seen, update_seen, new_seen = seen.chunk(3, dim=-1)
        reset_kept, update_kept, new_kept = kept.chunk(3, dim=-1)
        update = torch.sigmoid(update_seen + update_kept)
        new = torch.tanh(torch.addcmul(new_seen, torch.sigmoid(reset_seen + reset_kept), new_kept))
        return torch.lerp(new, memory, update)


@torch.no_grad()
def imagined_returns(
    layers: Layers, obs: Tensor, actions: Tensor, activation: Activation
) -> Tensor:
    """The sum of predicted rewards along imagined trajectories [G, R], undiscounted. None of them
    ends early: where falling ends an episode, a plan doesn't know what that costs.

    Every step is one batched product a layer, for all worlds, candidates and models, into memory
    that is used again.

    Args:
      layers: of G networks, in physical units.
      obs: [G, R, O] where they start.
      actions: [H, G, R, A] as the environment takes them.
    """
    obs_size = obs.shape[-1]
    x = torch.cat([obs, actions[0]], dim=-1)
    state, action_now = x[..., :obs_size], x[..., obs_size:]
    total = x.new_zeros(x.shape[:2])
    outs = [x.new_empty(*x.shape[:2], weight.shape[-1]) for weight, _ in layers]
    phi = IN_PLACE[activation]
    for action in actions:
        action_now.copy_(action)
        out = x
        for layer, (weight, bias) in enumerate(layers):
            into = outs[layer]
            into.unflatten(1, (bias.shape[1], -1)).copy_(bias.unsqueeze(2))
            out = into.baddbmm_(out, weight)
            if layer + 1 < len(layers):
                out = phi(out)
        state += out[..., :-1]
        total += out[..., -1]
    return total
