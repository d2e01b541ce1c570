"""MAML with TRPO as its outer update, as in the original experiments.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2015 (arXiv:1502.05477).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.core import saved
from metarl.core.chunks import Found, mean_over_chunks, over_chunks, take
from metarl.core.linearize import (
    DifferentiatedLoss,
    LinearizedAdaptation,
    adapt_tasks,
    linearize_adaptation,
)
from metarl.core.trust_region import trust_region_step
from metarl.errors import SettingError
from metarl.nn.heads import Outputs
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.adapters.gradient import GradientAdapter, inner_update
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
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
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.losses import lvc, masked_mean
from metarl.types import Params, as_metrics


@dataclass(frozen=True)
class _Chunk:
    """A few tasks, linearised at the present meta-parameters."""

    support: tuple[PolicyBatch, ...]
    adaptation: LinearizedAdaptation
    surrogate: DifferentiatedLoss  # at the adapted parameters, on the query data
    # there too: KL to the policy that is being left, zero with zero gradient
    kl: DifferentiatedLoss
    query: WithOld


@dataclass(frozen=True, kw_only=True)
class Linearized:
    """All tasks of an iteration, linearised at the same meta-parameters."""

    parts: list[_Chunk]
    num_tasks: int
    chunk: int
    device: torch.device

    def mean(self, function: Callable[[_Chunk], Found]) -> Found:
        """The mean over tasks of what `function` sums over those of a chunk."""
        of_chunk = lambda tasks: function(self.parts[tasks.start // self.chunk])
        return mean_over_chunks(of_chunk, self.num_tasks, self.chunk, self.device)


class MamlTRPO(GatheringLearner):
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each,
    then take the step

        min over θ of 1/N Σᵢ −E[π_φᵢ(θ) / π_old Aᵢ; query]   subject to   1/N Σᵢ E[KL(π_φᵢ(θ_old) ‖ π_φᵢ(θ)); query] ≤ max_kl

    by conjugate gradient and a line search that adapts anew, from the trial's θ, at every trial.
    Both the gradient and the curvature go through the inner steps; as the KL's gradient is zero
    where it starts, its curvature is exactly Jᵀ F J, F the Fisher information of the adapted
    policies' outputs and J their Jacobian in θ.

    Args: see configs/algo/maml_trpo.yaml, which also says where each number comes from; `inner` are
      those of `inner_update`: num_inner_steps, inner_lr, ....
    Raises: ValueError, naming it, for a number out of range or a model that isn't a policy without
    memory.
    """

    sizes = staticmethod(gradient_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
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
        check_positive(
            {
                "max_kl": max_kl,
                "cg_iterations": cg_iterations,
                "line_search_steps": line_search_steps,
            }
        )
        if cg_damping < 0:
            raise SettingError(f"cg_damping {cg_damping}: expected 0 or more")
        if not 0 < line_search_ratio < 1:
            raise SettingError(
                f"line_search_ratio {line_search_ratio}: expected a number between 0 and 1"
            )
        policy = memoryless_policy(setting.model)
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_inner_steps=num_inner_steps,
        )
        self.source = Source.of(setting, sizes)
        self._policy, self._mode = policy, checked_mode(gradient_mode)
        self._inner = inner_update(
            policy, num_inner_steps=num_inner_steps, horizon=setting.env.spec.horizon, **inner
        )
        self.params = meta_params(policy, self._inner.rule)
        self._trust_region: dict[str, Any] = {
            "max_constraint": max_kl,
            "cg_iterations": cg_iterations,
            "damping": cg_damping,
            "backtrack_ratio": line_search_ratio,
            "max_backtracks": line_search_steps,
        }
        self._differentiate_query = differentiator(policy, self._surrogate)

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self.params.theta, self.params.rule, self._inner)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        metrics = rollout_metrics(rollouts)
        support = tuple(self._inner.batch(t) for t in rollouts.support)
        around = self.linearize(support, self._inner.batch(rollouts.query))
        del rollouts  # whose observations the batches have copied
        params, info = trust_region_step(
            {name: leaf.detach() for name, leaf in self.params.joined.items()},
            gradient=self.meta_gradient(around),
            curvature_product=lambda v: self.curvature_product(around, v),
            evaluate=lambda trial: self._evaluate(around, trial),
            **self._trust_region,
        )
        self.params.assign(params)
        found = {
            "loss_before": info.objective_before,
            "loss_after": info.objective,
            "kl": info.constraint,
            "step_fraction": info.step_fraction,
            "accepted": info.accepted.double(),
        }
        return {**metrics, **as_metrics(found)}

    def _surrogate(self, outputs: Outputs, batch: PolicyBatch) -> Tensor:
        return lvc(
            self._policy.log_prob(outputs, batch.action),
            batch.log_prob,
            batch.advantage,
            batch.mask,
        )

    def _kl(self, outputs: Outputs, data: WithOld) -> Tensor:
        return masked_mean(self._policy.kl(data.old, outputs), data.batch.mask)

    def linearize(self, support: tuple[PolicyBatch, ...], query: PolicyBatch) -> Linearized:
        """The data of N tasks, linearised at the present meta-parameters."""

        def of_chunk(tasks: slice) -> _Chunk:
            batches = tuple(take(batch, tasks) for batch in support)
            theta, rates = self.params.theta, self.params.rule
            adaptation = linearize_adaptation(
                self._inner.differentiate, theta, batches, self._inner.rule, rates, self._mode
            )
            surrogate = self._differentiate_query(adaptation.adapted, take(query, tasks))
            leaving = WithOld(batch=take(query, tasks), old=surrogate.outputs)
            kl = surrogate.of(self._kl, leaving)
            return _Chunk(
                support=batches, adaptation=adaptation, surrogate=surrogate, kl=kl, query=leaving
            )

        parts = over_chunks(of_chunk, len(query.mask), self._inner.chunk, query.mask.device)
        return Linearized(
            parts=parts,
            num_tasks=len(query.mask),
            chunk=self._inner.chunk,
            device=query.mask.device,
        )

    def meta_gradient(self, around: Linearized) -> Params:
        """The gradient of the surrogate by the meta-parameters, by the names of
        `MetaParams.joined`."""

        def of_chunk(part: _Chunk) -> Found:
            return Found(gradient=join(*part.adaptation.pullback(part.surrogate.gradient)))

        return around.mean(of_chunk).gradient

    def curvature_product(self, around: Linearized, v: Params) -> Params:
        """The Hessian of the mean KL, times v."""

        def of_chunk(part: _Chunk) -> Found:
            moved = part.adaptation.pushforward(*split(v))
            return Found(
                gradient=join(*part.adaptation.pullback(part.kl.gauss_newton_product(moved)))
            )

        return around.mean(of_chunk).gradient

    @torch.no_grad()
    def _evaluate(self, around: Linearized, trial: Params) -> tuple[Tensor, Tensor]:
        """(surrogate, mean KL) of the policies adapted anew from the trial's parameters, on the
        query data."""
        theta, rates = split(trial)

        def of_chunk(part: _Chunk) -> Found:
            adapted = adapt_tasks(
                self._inner.differentiate, theta, part.support, self._inner.rule, rates
            )
            outputs = self._policy.with_params(adapted, part.query.obs)
            loss, kl = self._surrogate(outputs, part.query.batch), self._kl(outputs, part.query)
            return Found(numbers={"loss": loss.sum(), "kl": kl.sum()})

        numbers = around.mean(of_chunk).numbers
        return numbers["loss"], numbers["kl"]

    def state_dict(self) -> dict[str, Any]:
        return as_state(self.params)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict())
        self.params.assign(state["params"])
