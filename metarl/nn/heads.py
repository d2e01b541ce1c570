"""Policies: a network from observations to the parameters of an action distribution, and that
distribution's maths.

`forward` gives `Outputs`, a dict of tensors; act, log_prob, entropy and kl are functions of outputs
alone and work for any leading dimensions: [W, A], or [N, B, A] with parameters stacked over N
tasks.
"""

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from metarl.core.checks import check_layers
from metarl.errors import NonFiniteAction, SettingError
from metarl.nn.beside import beside, beside_parameters, with_beside
from metarl.nn.latent import (
    latent_outputs,
    latent_parameters,
    num_latent_inputs,
    with_products,
)
from metarl.nn.mlp import MLP, Activation, mlp
from metarl.noise import Noise
from metarl.types import Params

Outputs = dict[str, Tensor]

LOG_2PI = math.log(2 * math.pi)


class Policy(Protocol):
    """What learners ask of a policy module."""

    trunk: MLP
    # L: the last entries of an observation are the episode's latent (metarl/nn/latent.py)
    latent_size: int
    # the last entries of the observations are the episode's noise (metarl/nn/beside.py)
    noise_size: int

    @staticmethod
    def beside(params: Params, obs: Tensor) -> Tensor | None:
        """What the trunk sees beside the observations, as a function of parameters."""
        ...

    def trunk_input(self, obs: Tensor) -> Tensor:
        """What the trunk takes [..., I] for observations with their latent [..., O + L]."""
        ...

    def with_params(self, params: Params, obs: Tensor, parts: int = 1) -> Outputs:
        """The outputs under `params`, one task's or stacked: what `params.call(policy, params,
        obs)` gives, faster.

        Args: parts: see `metarl.nn.mlp.mlp`.
        """
        ...

    def head(self, params: Params, trunk_output: Tensor) -> Outputs:
        """The outputs as a function of the trunk's output and of the parameters that aren't the
        trunk's."""
        ...

    def act(self, outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Actions, samples or without noise the modes, and their log-probabilities. No gradient
        flows through either."""
        ...

    def log_prob(self, outputs: Outputs, action: Tensor) -> Tensor: ...

    def entropy(self, outputs: Outputs) -> Tensor: ...

    def kl(self, p: Outputs, q: Outputs) -> Tensor: ...


class GaussianPolicy(nn.Module):
    """a ~ N(μ(s), diag σ²): the mean an MLP of the observation, log σ a parameter that ignores it
    (as in MAML).

    Outputs: mean [..., A]; log_std [A], or [N, 1, A] with stacked parameters: it broadcasts against
    the mean.

    Args:
      init_std: σ at the start; min_std: σ never falls below it (log σ is clamped, and has no
        gradient there).
      unit: [A] the action for an output of 1, in whose units σ and the parameters are. Gradients by
        the parameters are then those of a policy whose actions are divided by `unit` on their way
        to the environment. None: 1.
      context_size, noise_size: how many entries of each the trunk sees, see metarl/nn/beside.py.
      latent_size: L, see `Policy`; latent_gain: factor on the first layer's weights of the latent
        at the start; latent_products: whether the trunk takes its products with the observation,
        too.
    Raises: ValueError unless init_std >= min_std > 0, and every unit is a positive number.
    """

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        *,
        activation: Activation = "tanh",
        init_std: float = 1.0,
        min_std: float = 1e-6,
        output_scale: float = 1.0,
        unit: Tensor | None = None,
        latent_size: int = 0,
        latent_gain: float = 1.0,
        latent_products: bool = False,
        context_size: int = 0,
        noise_size: int = 0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_layers({"hidden_sizes": hidden_sizes})
        if not 0 < min_std <= init_std < math.inf:
            raise SettingError(
                f"expected 0 < min_std <= init_std, got min_std {min_std} and init_std {init_std}"
            )
        if unit is not None and not bool(((unit > 0) & unit.isfinite()).all()):
            raise SettingError(f"unit is {unit.tolist()}: expected positive numbers")
        num_latent = num_latent_inputs(obs_size, latent_size, products=latent_products)
        seen = obs_size + num_latent + noise_size + context_size
        sizes = (seen, *hidden_sizes, action_size)
        self.trunk = MLP(sizes, activation, output_scale=output_scale, generator=generator)
        self.latent_size = latent_size
        self.latent_products = latent_products and latent_size > 0
        self.noise_size = noise_size
        _add_latent(self, obs_size, latent_gain)
        _add_beside(self, context_size=context_size, noise_size=noise_size)
        self.log_std = nn.Parameter(torch.full((action_size,), math.log(init_std)))
        self.min_log_std = math.log(min_std)
        self.unit: Tensor | None
        self.register_buffer("unit", unit, persistent=False)
        self.log_unit: Tensor | None
        self.register_buffer("log_unit", None if unit is None else unit.log(), persistent=False)

    def forward(self, obs: Tensor) -> Outputs:
        own: Params = dict(self.named_parameters(recurse=False))
        return self.head(own, self.trunk(_input(self, own, obs)))

    def with_params(self, params: Params, obs: Tensor, parts: int = 1) -> Outputs:
        x, weights = _input(self, params, obs), self.trunk.weights(params, "trunk.")
        return self.head(params, mlp(x, weights, self.trunk.activation, parts))

    def trunk_input(self, obs: Tensor) -> Tensor:
        return with_products(obs, self.latent_size) if self.latent_products else obs

    def head(self, params: Params, trunk_output: Tensor) -> Outputs:
        log_std = params["log_std"].clamp(min=self.min_log_std)
        if log_std.dim() == 2:
            log_std = log_std.reshape(
                log_std.shape[0], *(1,) * (trunk_output.dim() - 2), log_std.shape[1]
            )
        latent = latent_outputs(params) if self.latent_size else {}
        if self.unit is None or self.log_unit is None:
            return {"mean": trunk_output, "log_std": log_std, **latent}
        return {"mean": trunk_output * self.unit, "log_std": log_std + self.log_unit, **latent}

    beside = staticmethod(beside)

    @staticmethod
    def act(outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """μ + σ ε with ε ~ N(0, I), or μ without noise; the log-probability is that of ε."""
        mean, log_std = outputs["mean"].detach(), outputs["log_std"].detach()
        if noise is None:
            return mean, _log_density(torch.zeros_like(mean), log_std)
        drawn = noise.normal(*mean.shape, dtype=mean.dtype)
        return torch.addcmul(mean, log_std.exp(), drawn), _log_density(drawn, log_std)

    @staticmethod
    def log_prob(outputs: Outputs, action: Tensor) -> Tensor:
        """log N(a; μ, σ²) = −½ Σᵢ [ ((aᵢ − μᵢ)/σᵢ)² + 2 log σᵢ + log 2π ], summed over action
        dimensions: [...]."""
        log_std = outputs["log_std"]
        return _log_density((action - outputs["mean"]) * (-log_std).exp(), log_std)

    @staticmethod
    def entropy(outputs: Outputs) -> Tensor:
        """Σᵢ log σᵢ + ½ (1 + log 2π): [...] in nats, of the mean's leading dimensions."""
        log_std = outputs["log_std"].expand_as(outputs["mean"])
        return (log_std + 0.5 * (1 + LOG_2PI)).sum(-1)

    @staticmethod
    def kl(p: Outputs, q: Outputs) -> Tensor:
        """KL(p‖q) = Σᵢ log(σ_q/σ_p) + (σ_p² + (μ_p − μ_q)²) / 2σ_q² − ½: [...] in nats."""
        log_ratio = p["log_std"] - q["log_std"]
        z = (p["mean"] - q["mean"]) * (-q["log_std"]).exp()
        # The part without the mean is small ([A] or [N, 1, A]): summed apart, it costs nothing per
        # observation.
        of_std = (0.5 * (2 * log_ratio).exp() - log_ratio - 0.5).sum(-1)
        return 0.5 * (z * z).sum(-1) + of_std


def _log_density(z: Tensor, log_std: Tensor) -> Tensor:
    """Returns the Gaussian's log density [...] at z [..., A] standard deviations from its mean."""
    return -0.5 * LOG_2PI * log_std.shape[-1] - torch.addcmul(log_std, z, z, value=0.5).sum(-1)


class CategoricalPolicy(nn.Module):
    """a ~ Categorical(softmax(logits(s))). Outputs: logits [..., num_actions]; actions are int64
    [...]."""

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        hidden_sizes: Sequence[int],
        *,
        activation: Activation = "tanh",
        output_scale: float = 1.0,
        latent_size: int = 0,
        latent_gain: float = 1.0,
        latent_products: bool = False,
        context_size: int = 0,
        noise_size: int = 0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_layers({"hidden_sizes": hidden_sizes})
        num_latent = num_latent_inputs(obs_size, latent_size, products=latent_products)
        seen = obs_size + num_latent + noise_size + context_size
        sizes = (seen, *hidden_sizes, num_actions)
        self.trunk = MLP(sizes, activation, output_scale=output_scale, generator=generator)
        self.latent_size = latent_size
        self.latent_products = latent_products and latent_size > 0
        self.noise_size = noise_size
        _add_latent(self, obs_size, latent_gain)
        _add_beside(self, context_size=context_size, noise_size=noise_size)

    def forward(self, obs: Tensor) -> Outputs:
        own: Params = dict(self.named_parameters(recurse=False))
        return self.head(own, self.trunk(_input(self, own, obs)))

    def with_params(self, params: Params, obs: Tensor, parts: int = 1) -> Outputs:
        x, weights = _input(self, params, obs), self.trunk.weights(params, "trunk.")
        return self.head(params, mlp(x, weights, self.trunk.activation, parts))

    def trunk_input(self, obs: Tensor) -> Tensor:
        return with_products(obs, self.latent_size) if self.latent_products else obs

    def head(self, params: Params, trunk_output: Tensor) -> Outputs:
        return {"logits": trunk_output, **(latent_outputs(params) if self.latent_size else {})}

    beside = staticmethod(beside)

    @staticmethod
    def act(outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """argmaxᵢ pᵢ / eᵢ, which with eᵢ ~ Exp(1) is i with probability pᵢ (the exponential race);
        e = 1 without noise.

        Raises: NonFiniteAction on a CPU if a logit is NaN or infinite, which would choose action 0.
        """
        logits = outputs["logits"].detach()
        # On a GPU the question would wait for the device; there log_prob is NaN. And what is
        # exported asks nothing.
        asks = logits.device.type == "cpu" and not torch.compiler.is_compiling()
        if asks and not math.isfinite(logits.sum()):
            raise NonFiniteAction(
                "the policy's logits are NaN or infinite; expected finite numbers"
            )
        score = logits
        if noise is not None:
            probs = logits.softmax(-1)
            score = probs / noise.exponential(*probs.shape, dtype=probs.dtype)
        action = score.argmax(-1)
        return action, CategoricalPolicy.log_prob({"logits": logits}, action)

    @staticmethod
    def log_prob(outputs: Outputs, action: Tensor) -> Tensor:
        """log softmax(logits)ₐ: [...]."""
        return outputs["logits"].log_softmax(-1).gather(-1, action.long().unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def entropy(outputs: Outputs) -> Tensor:
        """−Σ p log p: [...] in nats."""
        log_p = outputs["logits"].log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)

    @staticmethod
    def kl(p: Outputs, q: Outputs) -> Tensor:
        """KL(p‖q) = Σ p (log p − log q): [...] in nats."""
        log_p, log_q = p["logits"].log_softmax(-1), q["logits"].log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)


def _add_latent(policy: "PolicyModule", obs_size: int, gain: float) -> None:
    """Gives a policy the parameters of its latent, whose own weights follow the observation's."""
    for name, parameter in latent_parameters(policy.latent_size).items():
        policy.register_parameter(name, parameter)
    first = cast(nn.Linear, policy.trunk.layers[0])
    with torch.no_grad():
        first.weight[:, obs_size : obs_size + policy.latent_size] *= gain


def _add_beside(policy: "PolicyModule", **sizes: int) -> None:
    """Gives a policy the parameters of what it sees beside the observation."""
    if policy.latent_size and sizes["noise_size"]:
        raise SettingError(
            f"latent_size {policy.latent_size} and noise_size {sizes['noise_size']}: expected 0 of "
            "one of them"
        )
    for name, parameter in beside_parameters(**sizes).items():
        policy.register_parameter(name, parameter)


def _input(policy: "PolicyModule", params: Params, obs: Tensor) -> Tensor:
    """All that the trunk takes: what `trunk_input` gives, and what is seen beside it."""
    x = policy.trunk_input(obs)
    tail = beside(params, x)
    if tail is None:
        return x
    return with_beside(x, tail, cast(nn.Linear, policy.trunk.layers[0]).in_features)


PolicyModule = GaussianPolicy | CategoricalPolicy
"""What learners take: a module that is a Policy."""
