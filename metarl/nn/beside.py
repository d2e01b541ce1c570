"""What a policy sees beside the observation, and that depends on its parameters: [..., L] for
observations [..., O].

A *context* is parameters themselves: zeros before adaptation, and the same at every step. CAVIA
adapts nothing else. *Noise made a latent* is z = μ + σ ε, with ε ~ N(0, I) drawn when an episode
begins and held to its end. The gradient by μ and log σ comes through z and the actions that it led
to (MAESN). A policy takes ε as the last entries of its observation.

metarl/nn/latent.py holds another latent. There z itself is drawn, as if it were one more action,
and the gradient is that of its density times the episode's return; the inner step is a natural
gradient and narrows σ by a fixed factor. Here a step moves z only where the network knows already
what to do with it, but it is every single action that gets the credit.

Sources: Zintgraf et al. 2019 (arXiv:1810.03642, CAVIA); Gupta et al. 2018 (arXiv:1802.07245,
MAESN). How we differ from MAESN: theirs keeps a μ and a σ for each training task and begins a new
task at N(0, I). Ours begins every task at one learned N(μ, σ²), because training may draw tasks
without end. Their code takes the inner step from the density of z, and only the outer gradient
through z.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metarl.core.checks import check_not_negative
from metarl.core.differentiated import grads
from metarl.nn.latent import gaussian_kl
from metarl.types import Params

Beside = Callable[[Params, Tensor], Tensor | None]
"""`beside` below, as a network has it."""

CONTEXT = "context"
NOISE_MEAN, NOISE_LOG_STD = "noise_mean", "noise_log_std"
"""The names of the context, of μ and of log σ among a policy's parameters."""


def beside_parameters(context_size: int, noise_size: int) -> dict[str, nn.Parameter]:
    """Returns the context [context_size], μ and log σ [noise_size] each, all zeros; {} for sizes of
    0.

    Raises: SettingError for a negative size.
    """
    check_not_negative({"context_size": context_size, "noise_size": noise_size})
    sizes = {CONTEXT: context_size, NOISE_MEAN: noise_size, NOISE_LOG_STD: noise_size}
    return {name: nn.Parameter(torch.zeros(size)) for name, size in sizes.items() if size}


def beside(params: Params, obs: Tensor) -> Tensor | None:
    """Returns what is seen beside observations [..., O]: z from the noise at their end, then the
    context, [..., L]. None if the parameters hold neither.

    Args: params: of one task, or stacked over the N of obs [N, ..., O].
    """
    parts = []
    if NOISE_MEAN in params:
        mean, log_std = (_rows(params[name], obs) for name in (NOISE_MEAN, NOISE_LOG_STD))
        parts.append(mean + log_std.exp() * obs[..., obs.shape[-1] - mean.shape[-1] :])
    if CONTEXT in params:
        parts.append(_rows(params[CONTEXT], obs).expand(*obs.shape[:-1], -1))
    return torch.cat(parts, dim=-1) if parts else None


def with_beside(obs: Tensor, tail: Tensor | None, input_size: int) -> Tensor:
    """Returns the network's input [..., I]: the observations without their noise, then what is seen
    beside them."""
    return (
        obs if tail is None else torch.cat([obs[..., : input_size - tail.shape[-1]], tail], dim=-1)
    )


def prior_kl(params: Params) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) of the noise made a latent: []."""
    mean, log_std = params[NOISE_MEAN], params[NOISE_LOG_STD]
    return gaussian_kl(mean, log_std, torch.zeros_like(mean), torch.zeros_like(mean))


class Tail:
    """What n tasks see beside their observations, t(p) [n, ..., L], with derivatives by autograd.

    Rows B are all dimensions between task and feature. Cotangents are [n, B, L], tangents and
    gradients lists in the order of the parameters.
    """

    def __init__(self, beside: Beside, params: Params, obs: Tensor):
        with torch.enable_grad():
            leaves = {name: leaf.detach().requires_grad_() for name, leaf in params.items()}
            seen = beside(leaves, obs)
        assert seen is not None
        self.value = seen.detach()
        self.size = seen.shape[-1]
        self._leaves = list(leaves.values())
        self._graph = seen.flatten(1, -2)

    @classmethod
    def of(cls, beside: Beside | None, params: Params, obs: Tensor) -> "Tail | None":
        """Returns None where nothing is seen beside the observation."""
        names = {CONTEXT, NOISE_MEAN} & params.keys()
        return cls(beside, params, obs) if beside is not None and names else None

    def jvp(self, v: list[Tensor]) -> Tensor:
        """Returns how t moves as the parameters move along v."""
        with torch.enable_grad():
            dual = torch.zeros_like(self._graph, requires_grad=True)
            pulled = grads([self._graph], self._leaves, [dual], create_graph=True)
        return grads(pulled, [dual], v)[0]

    def vjp(self, u: Tensor) -> list[Tensor]:
        """Returns the gradient of ⟨u, t⟩ by the parameters."""
        return grads([self._graph], self._leaves, [u])

    def bend(self, u: Tensor, v: list[Tensor]) -> list[Tensor]:
        """Returns how `vjp` of the same u moves as the parameters move along v."""
        with torch.enable_grad():
            pulled = grads([self._graph], self._leaves, [u], create_graph=True)
        return grads(pulled, self._leaves, v)


def _rows(leaf: Tensor, obs: Tensor) -> Tensor:
    """[L] as it is; [N, L] as [N, 1, ..., L], to broadcast against obs [N, ..., O]."""
    return leaf if leaf.dim() == 1 else leaf.reshape(len(leaf), *(1,) * (obs.dim() - 2), -1)
