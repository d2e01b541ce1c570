"""An inner step moves the distribution of an episode's latent (metarl/nn/latent.py) beside the
policy's other parameters."""

import math
from dataclasses import dataclass

import torch

from metarl.core.checks import check_positive, check_shares
from metarl.core.rules import InnerRule
from metarl.nn.latent import LOG_STD, MEAN
from metarl.types import Params


@dataclass(frozen=True)
class LatentRule:
    """Applies `rule` to the policy's own parameters, and to those of the latent

        μ ← μ − αₖ σ² g_μ,     σ ← ω σ,     αₖ = α · decayᵏ in step k = 0, 1, ...

    σ² makes it the natural gradient: with the score (z − μ) / σ² in g_μ, the step is αₖ times the
    mean of (z − μ) A, hence in the units of z and of the same share of σ however small σ has
    become. Since σ shrinks by fixed factors ω, K steps are a search whose range becomes smaller and
    smaller; its own gradient says little from a handful of episodes.

    Where no latent did better than another, as in a single episode, g_μ is 0, and σ stays, too: the
    search has seen nothing to close in on.
    """

    rule: InnerRule
    lr: float
    decay: float
    shrink: float
    first_shrink: float | None = None
    """ω of the first step; None: as of the others."""

    def __post_init__(self) -> None:
        check_positive({"latent_lr": self.lr})
        check_shares({"latent_shrink": self.shrink, "latent_first_shrink": self.first_shrink})

    def init(self, params: Params) -> Params:
        return self.rule.init(_own(params))

    def __call__(self, params: Params, grads: Params, rule_params: Params, step: int) -> Params:
        own = self.rule(_own(params), _own(grads), rule_params, step)
        natural = (2 * params[LOG_STD]).exp() * grads[MEAN]
        mean = params[MEAN] - self.lr * self.decay**step * natural
        of_first = self.shrink if self.first_shrink is None else self.first_shrink
        # Episodes that can be told apart; all numbers of their latents are, but with probability 0.
        tells = (grads[MEAN] != 0).any(-1, keepdim=True)
        closer = params[LOG_STD] + math.log(of_first if step == 0 else self.shrink)
        log_std = torch.where(tells, closer, params[LOG_STD])
        return {name: own.get(name, leaf) for name, leaf in params.items()} | {
            MEAN: mean,
            LOG_STD: log_std,
        }


def _own(params: Params) -> Params:
    return {name: leaf for name, leaf in params.items() if name not in (MEAN, LOG_STD)}
