"""A policy network of a user's own, tried out before any training: gradient learners act by its
`forward` and differentiate its `with_params`, and would train in silence if the two differed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.described import described
from metarl.errors import SettingError
from metarl.nn.heads import Outputs, PolicyModule
from metarl.types import Params

_NUM = 4  # observations
_CLOSE = 1e-4


def try_policy(policy: PolicyModule, obs_size: int) -> None:
    """Asks both ways for what the policy does at random observations, whose last entries are its
    latents, under two sets of parameters, one by one and stacked.

    Args: obs_size: of what the environment shows.
    Raises: SettingError naming the policy and what it gives.
    """
    name, like = type(policy).__name__, next(policy.parameters())
    generator = torch.Generator().manual_seed(0)
    drawn = lambda *shape: torch.randn(shape, generator=generator).to(like)
    obs = drawn(_NUM, obs_size + policy.latent_size + policy.noise_size)
    own = {key: leaf.detach().clone() for key, leaf in policy.named_parameters()}
    others = {key: leaf + 0.1 * drawn(*leaf.shape) for key, leaf in own.items()}
    by_forward = [P.call(policy, params, obs) for params in (own, others)]
    for outputs in by_forward:
        _check_outputs(f"{name}.forward", outputs, like)
    action = policy.act(by_forward[0], None)[0]

    def told(outputs: Outputs, *stacked: int) -> tuple[Tensor, Tensor]:
        taken = action.expand(*stacked, *action.shape)
        return policy.act(outputs, None)[0].double(), policy.log_prob(outputs, taken).double()

    def check(found: Any, expected: list[Outputs], which: str) -> None:
        _check_outputs(f"{name}.with_params", found, like)
        if found.keys() != expected[0].keys():
            raise SettingError(
                f"{name}.with_params gives {', '.join(found)}, {name}.forward "
                f"{', '.join(expected[0])}; expected the same outputs"
            )
        parts = zip(*map(told, expected), strict=True)
        here = [torch.stack(part) if len(expected) > 1 else part[0] for part in parts]
        try:
            there = told(found, *([len(expected)] if len(expected) > 1 else []))
        except RuntimeError as error:
            raise SettingError(
                f"{name}.with_params gives outputs under {which} that don't fit: {error}"
            ) from error
        for what, ours, theirs in zip(("actions", "probabilities"), there, here, strict=True):
            _check_alike(name, what, which, ours, theirs)

    def slopes(function: Callable[[Params], Outputs]) -> Params:
        return torch.func.grad(lambda params: policy.log_prob(function(params), action + 1).sum())(
            own
        )

    for params, expected in zip((own, others), by_forward, strict=True):
        check(policy.with_params(params, obs), [expected], "the parameters of a task")
    both = policy.with_params(P.stack([own, others]), torch.stack([obs, obs]))
    check(both, by_forward, "stacked parameters")
    if action.is_floating_point():
        theirs = slopes(lambda params: P.call(policy, params, obs))
        for key, slope in slopes(lambda params: policy.with_params(params, obs)).items():
            _check_alike(name, "slopes", f"a change of {key}", slope, theirs[key])


def _check_alike(name: str, what: str, which: str, found: Tensor, expected: Tensor) -> None:
    if found.shape != expected.shape or not torch.allclose(found, expected, _CLOSE, _CLOSE):
        raise SettingError(
            f"{name}.with_params gives other {what} than {name}.forward under {which}; expected the "
            "same function of parameters and observations, for one acts and the other is "
            "differentiated: override both"
        )


def _check_outputs(of: str, outputs: Any, like: Tensor) -> None:
    if not isinstance(outputs, dict):
        raise SettingError(f"{of} returned {described(outputs)}; expected tensors by name")
    for key, leaf in outputs.items():
        if not isinstance(leaf, Tensor) or leaf.dtype != like.dtype:
            raise SettingError(
                f"{of} gives {described(leaf)} as {key}; expected a tensor of {like.dtype}, as its "
                "parameters are"
            )
