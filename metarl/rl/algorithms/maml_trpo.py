"""MAML with TRPO as its outer update, as in the original experiments.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2015 (arXiv:1502.05477).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.linearize import DifferentiatedLoss, LinearizedAdaptation, adapt_tasks, linearize_adaptation
from metarl.core.threads import map_in_threads
from metarl.core.trust_region import trust_region_step
from metarl.nn.heads import Outputs
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.algorithms.shared import (
    Source,
    WithOld,
    as_state,
    check_positive,
    checked_mode,
    gradient_sizes,
    join,
    memoryless_policy,
    meta_params,
    rollout_metrics,
    split,
)
from metarl.rl.batches import PolicyBatch
from metarl.rl.collect import Streams
from metarl.rl.gradient_adapter import GradientAdapter, chunks, inner_update, take
from metarl.rl.losses import lvc, masked_mean
from metarl.rl.types import BatchedEnv
from metarl.types import Metrics, Params


@dataclass(frozen=True)
class _Chunk:
    """A few tasks, linearised at the present meta-parameters."""

    support: tuple[PolicyBatch, ...]
    adaptation: LinearizedAdaptation
    surrogate: DifferentiatedLoss  # at the adapted parameters, on the query data
    kl: DifferentiatedLoss  # there too: KL to the policy that is being left, zero with zero gradient
    query: WithOld


class MamlTRPO:
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each, then take the step

        min over θ of 1/N Σᵢ −E[π_φᵢ(θ) / π_old Aᵢ; query]   subject to   1/N Σᵢ E[KL(π_φᵢ(θ_old) ‖ π_φᵢ(θ)); query] ≤ max_kl

    by conjugate gradient and a line search that adapts anew, from the trial's θ, at every trial. Both the gradient and the
    curvature go through the inner steps; as the KL's gradient is zero where it starts, its curvature is exactly
    Jᵀ F J, F the Fisher information of the adapted policies' outputs and J their Jacobian in θ.

    Args: see configs/algo/maml_trpo.yaml, which also says where each number comes from; `inner` are those of
      `inner_update`: num_inner_steps, inner_lr, ....
    Raises: ValueError, naming it, for a number out of range or a model that isn't a policy without memory.
    """

    sizes = staticmethod(gradient_sizes)

    def __init__(
        self,
        *,
        env: BatchedEnv,
        model: nn.Module,
        streams: Streams,
        device: torch.device,
        meta_batch_size: int,
        episodes_per_task: int,
        num_inner_steps: int,
        gradient_mode: str,
        max_kl: float,
        cg_iterations: int,
        cg_damping: float,
        line_search_ratio: float,
        line_search_steps: int,
        **inner: Any,
    ) -> None:
        check_positive({"max_kl": max_kl, "cg_iterations": cg_iterations, "line_search_steps": line_search_steps})
        if cg_damping < 0:
            raise ValueError(f"cg_damping {cg_damping}: expected 0 or more")
        if not 0 < line_search_ratio < 1:
            raise ValueError(f"line_search_ratio {line_search_ratio}: expected a number between 0 and 1")
        policy = memoryless_policy(model)
        sizes = self.sizes(
            meta_batch_size=meta_batch_size, episodes_per_task=episodes_per_task, num_inner_steps=num_inner_steps
        )
        self._source = Source(env=env, streams=streams, device=device, sizes=sizes)
        self._policy, self._mode = policy, checked_mode(gradient_mode)
        self._inner = inner_update(policy, num_inner_steps=num_inner_steps, horizon=env.spec.horizon, **inner)
        self._params = meta_params(policy, self._inner.rule)
        self._trust_region: dict[str, Any] = {
            "max_constraint": max_kl,
            "cg_iterations": cg_iterations,
            "damping": cg_damping,
            "backtrack_ratio": line_search_ratio,
            "max_backtracks": line_search_steps,
        }
        self._differentiate_query = differentiator(policy, self._surrogate)

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self._params.policy, self._params.rule, self._inner)

    def step(self) -> Metrics:
        rollouts = self._source.gather(self.adapter())
        support = tuple(self._inner.batch(t) for t in rollouts.support)
        parts = self._linearize(support, self._inner.batch(rollouts.query))
        params, info = trust_region_step(
            {name: leaf.detach() for name, leaf in self._params.joined.items()},
            gradient=self._gradient(parts),
            curvature_product=lambda v: self._curvature_product(parts, v),
            evaluate=lambda trial: self._evaluate(parts, trial),
            **self._trust_region,
        )
        self._params.assign(params)
        return {
            **rollout_metrics(rollouts),
            "loss_before": info.objective_before,
            "loss_after": info.objective,
            "kl": info.constraint,
            "step_fraction": info.step_fraction,
            "accepted": float(info.accepted),
        }

    def _surrogate(self, outputs: Outputs, batch: PolicyBatch) -> Tensor:
        return lvc(self._policy.log_prob(outputs, batch.action), batch.log_prob, batch.advantage, batch.mask)

    def _kl(self, outputs: Outputs, data: WithOld) -> Tensor:
        return masked_mean(self._policy.kl(data.old, outputs), data.batch.mask)

    def _linearize(self, support: tuple[PolicyBatch, ...], query: PolicyBatch) -> list[_Chunk]:
        def linearized(chosen: slice) -> _Chunk:
            batches = tuple(take(batch, chosen) for batch in support)
            theta, rates = self._params.policy, self._params.rule
            adaptation = linearize_adaptation(
                self._inner.differentiate, theta, batches, self._inner.rule, rates, self._mode
            )
            surrogate = self._differentiate_query(adaptation.adapted, take(query, chosen))
            leaving = WithOld(batch=take(query, chosen), old=surrogate.outputs)
            kl = surrogate.of(self._kl, leaving)
            return _Chunk(support=batches, adaptation=adaptation, surrogate=surrogate, kl=kl, query=leaving)

        return map_in_threads(
            linearized, list(chunks(self._source.sizes.num_tasks, self._inner.chunk)), self._source.device
        )

    def _gradient(self, parts: list[_Chunk]) -> Params:
        def of_chunk(part: _Chunk) -> Params:
            return join(*part.adaptation.pullback(part.surrogate.gradient))

        return self._mean(map_in_threads(of_chunk, parts, self._source.device))

    def _curvature_product(self, parts: list[_Chunk], v: Params) -> Params:
        def of_chunk(part: _Chunk) -> Params:
            moved = part.adaptation.pushforward(*split(v))
            return join(*part.adaptation.pullback(part.kl.gauss_newton_product(moved)))

        return self._mean(map_in_threads(of_chunk, parts, self._source.device))

    @torch.no_grad()
    def _evaluate(self, parts: list[_Chunk], trial: Params) -> tuple[float, float]:
        """(surrogate, mean KL) of the policies adapted anew from the trial's parameters, on the query data."""
        theta, rates = split(trial)

        def of_chunk(part: _Chunk) -> tuple[float, float]:
            adapted = adapt_tasks(self._inner.differentiate, theta, part.support, self._inner.rule, rates)
            outputs = self._policy.with_params(adapted, part.query.obs)
            loss = self._surrogate(outputs, part.query.batch).sum().item()
            return loss, self._kl(outputs, part.query).sum().item()

        losses, kls = zip(*map_in_threads(of_chunk, parts, self._source.device), strict=True)
        return sum(losses) / self._source.sizes.num_tasks, sum(kls) / self._source.sizes.num_tasks

    def _mean(self, sums: list[Params]) -> Params:
        """The mean over tasks of what each chunk has summed."""
        return P.scaled(P.sum_all(sums), 1 / self._source.sizes.num_tasks)

    def state_dict(self) -> dict[str, Any]:
        return as_state(self._params)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._params.assign(state["params"])
