"""MAML with TRPO as its outer update, as in the original experiments.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2015 (arXiv:1502.05477).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import (
    check_between_zero_and_one,
    check_counts,
    check_not_negative,
    check_positive,
)
from metarl.core.chunks import ChunkSums, TaskMeans, mean_over_chunks, over_chunks, take
from metarl.core.descent import halving
from metarl.core.differentiated import OutputLoss
from metarl.core.judged import Judged, added, check_judged_updates, judge, pulled_back
from metarl.core.linearize import linearize_adaptation, path_of_tasks
from metarl.core.trust_region import trust_region_step
from metarl.errors import SettingError
from metarl.nn.beside import prior_kl
from metarl.nn.heads import Outputs
from metarl.nn.latent import latent_log_prob
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.adapters.gradient import GradientAdapter, InnerStep, inner_update, plus
from metarl.rl.adapters.latent_bound import without
from metarl.rl.algorithms.exploration import (
    Credited,
    check_exploration,
    exploration_loss,
    worth_of_steps,
)
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    WithOld,
    as_state,
    check_tells,
    checked_mode,
    gradient_sizes,
    join,
    kl_on_steps,
    memoryless_policy,
    meta_params,
    outer_gradient,
    rollout_metrics,
    split,
)
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.losses import lvc
from metarl.struct import split_rows
from metarl.types import Params, Ranks, as_metrics


@dataclass(frozen=True)
class _Chunk:
    """A few tasks, linearised at the present meta-parameters."""

    support: tuple[PolicyBatch, ...]
    credited: tuple[Credited, ...]
    """The same with what each led to; () without E-MAML's term."""
    surrogate: Judged
    data: dict[int, WithOld]
    """k -> what φₖ is judged on, and the outputs of the policy that is being left."""
    kl: Judged
    """To the policies that are being left: zero with zero gradient."""


@dataclass(frozen=True, kw_only=True)
class Linearized:
    """The tasks of an iteration, of several processes this one's, linearised at the same
    meta-parameters."""

    parts: list[_Chunk]
    num_tasks: int
    chunk: int
    device: torch.device
    ranks: Ranks

    def mean(self, function: Callable[[_Chunk], ChunkSums]) -> TaskMeans:
        """The mean over tasks of what `function` sums over those of a chunk."""
        of_chunk = lambda tasks: function(self.parts[tasks.start // self.chunk])
        return mean_over_chunks(of_chunk, self.num_tasks, self.chunk, self.device, self.ranks)


class MamlTRPO(GatheringLearner):
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each,
    then take the step

        min over θ of  1/N Σᵢ −E[π_φᵢ(θ) / π_old Aᵢ; query]
        subject to     1/N Σᵢ E[KL(π_φᵢ(θ_old) ‖ π_φᵢ(θ)); query] ≤ max_kl

    by conjugate gradient and a line search that adapts anew, from the trial's θ, at every trial.
    Both the gradient and the curvature go through the inner steps; as the KL's gradient is zero
    where it starts, its curvature is exactly Jᵀ F J, F the Fisher information of the adapted
    policies' outputs and J their Jacobian in θ. With `judged_updates` all both sides are the means
    over the policies after 1, ..., K inner steps, each on the batch that it gathered.

    A policy with a latent (metarl/nn/latent.py) adapts it, too. The surrogate is then also that of
    the latents, as actions that were judged by the episodes' returns, times `latent_coefficient`;
    and the KL of the latents' distributions counts in full, as that of one more action.

    With inner_loss=dice J holds what DiCE adds to the inner gradient's derivative, while the trials
    of the line search take the inner steps alone: the curvature is then only near that of their KL.

    With an `exploration_coefficient` it is E-MAML (metarl/rl/algorithms/exploration.py). A
    `prior_coefficient` adds that many times KL(N(μ, σ²) ‖ N(0, I)) of a policy's noise made a
    latent (metarl/nn/beside.py), as in MAESN.

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
        max_kl_half_life: float | None = None,
        judged_updates: str = "last",
        latent_coefficient: float = 0.0,
        exploration_coefficient: float = 0.0,
        prior_coefficient: float = 0.0,
        **inner: Any,
    ) -> None:
        check_counts({"cg_iterations": cg_iterations, "line_search_steps": line_search_steps})
        check_positive({"max_kl": max_kl, "max_kl_half_life": max_kl_half_life})
        check_not_negative({"cg_damping": cg_damping, "latent_coefficient": latent_coefficient})
        check_not_negative({"prior_coefficient": prior_coefficient})
        check_between_zero_and_one({"line_search_ratio": line_search_ratio})
        policy = memoryless_policy(setting.model)
        if prior_coefficient > 0 and not policy.noise_size:
            raise SettingError(
                f"prior_coefficient {prior_coefficient}: the model's noise_size is 0, so it has no "
                "latent with a prior; expected 0, or model=noise_mlp"
            )
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_inner_steps=num_inner_steps,
        )
        check_exploration(exploration_coefficient, meta_batch_size)
        check_tells(sizes, setting.env.spec.horizon, policy)
        self.source = Source.of(setting, sizes)
        self._policy = policy
        self._mode = checked_mode(gradient_mode, inner["inner_loss"])
        self._inner = inner_update(
            policy, num_inner_steps=num_inner_steps, horizon=setting.env.spec.horizon, **inner
        )
        self.params = meta_params(policy, self._inner.rule)
        self._max_kl = max_kl  # of the next step
        self._max_kl_half_life = max_kl_half_life
        self._trust_region: dict[str, Any] = {
            "cg_iterations": cg_iterations,
            "damping": cg_damping,
            "backtrack_ratio": line_search_ratio,
            "max_backtracks": line_search_steps,
        }
        self._num_refused = 0
        self._exploration_coefficient = exploration_coefficient
        self._prior_coefficient = prior_coefficient
        self._exploration = exploration_loss(policy)
        self._judged_updates = check_judged_updates(judged_updates)
        self._surrogate: OutputLoss = self._of_actions
        if policy.latent_size:
            self._surrogate = plus(self._of_actions, _of_latents, latent_coefficient)
        self._differentiate_query = differentiator(policy, self._surrogate)

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self.params.theta, self.params.rule, self._inner)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        metrics = rollout_metrics(rollouts, self.source.ranks)
        steps: tuple[InnerStep, ...] = rollouts.traces
        support = tuple(step.batch for step in steps)
        with self.source.ranks.failing_together():
            query = self._inner.batch(rollouts.query)
        worth = None
        if self._exploration_coefficient > 0:
            num_steps = len(support)
            every = range(1, num_steps + 1)
            judged = every if self._judged_updates == "all" else [num_steps]
            returns = [
                t.returns.masked_fill(t.diverged.any(-1), torch.nan)
                for t in (*rollouts.support, rollouts.query)
            ]
            ranks = self.source.ranks  # A step is judged beside those of all tasks.
            worth = split_rows(worth_of_steps(ranks.whole(returns), judged), ranks.num)[ranks.rank]
        around = self.linearize(support, query, worth)
        del rollouts  # whose observations the batches have copied
        gradient = self.meta_gradient(around)
        bound, theta = self._inner.latent_bound, self.params.theta
        stays = bound.stays(theta, split(gradient)[0])

        def moving(v: Params) -> Params:
            """v, but for what of the latent stays where it is."""
            of_theta, of_rates = split(v)
            return v if stays is None else join(without(of_theta, stays), of_rates)

        params, info = trust_region_step(
            {name: leaf.detach() for name, leaf in self.params.joined.items()},
            gradient=moving(gradient),
            curvature_product=lambda v: moving(self.curvature_product(around, moving(v))),
            evaluate=lambda trial: self._evaluate(around, trial),
            max_constraint=self._max_kl,
            **self._trust_region,
        )
        self.params.assign(params)
        bound.keep(theta)
        if self._max_kl_half_life is not None:
            metrics["max_kl"] = self._max_kl
            self._max_kl *= halving(self._max_kl_half_life)
        found = {
            "loss_before": info.objective_before,
            "loss_after": info.objective,
            "kl": info.constraint,
            "step_fraction": info.step_fraction,
            "accepted": info.accepted.double(),
        }
        of_step = as_metrics(found)
        self._tell_if_refused(bool(of_step["accepted"]))
        return {**metrics, **of_step}

    def _tell_if_refused(self, is_accepted: bool) -> None:
        """Says once where nothing has been learned for many iterations in a row: the returns alone
        look like those of a slow run."""
        if self._num_refused == TOLD_AFTER:
            return
        self._num_refused = 0 if is_accepted else self._num_refused + 1
        if self._num_refused == TOLD_AFTER and self.source.ranks.rank == 0:
            logging.getLogger("metarl").warning(
                "%d iterations in a row changed nothing: the line search found no step that lowers the "
                "loss with a KL of at most max_kl (metric accepted). Where returns differ at all, more "
                "line_search_steps, a larger cg_damping, a smaller max_kl, or more tasks and episodes "
                "may help",
                TOLD_AFTER,
            )

    def _of_actions(self, outputs: Outputs, batch: PolicyBatch) -> Tensor:
        return lvc(
            self._policy.log_prob(outputs, batch.action),
            batch.log_prob,
            batch.advantage,
            batch.weight,
        )

    def _kl(self, outputs: Outputs, data: WithOld) -> Tensor:
        return kl_on_steps(self._policy, data.old, outputs, data.batch.weight)

    def linearize(
        self,
        support: tuple[PolicyBatch, ...],
        query: PolicyBatch,
        worth: Sequence[Tensor] | None = None,
    ) -> Linearized:
        """The data of N tasks, linearised at the present meta-parameters.

        Args: worth: of each inner step, [N] each, see `worth_of_steps`; None without E-MAML's term.
        """
        credited: tuple[Credited, ...] = ()
        if worth is not None:
            credited = tuple(
                Credited(batch=batch, worth=self._exploration_coefficient * value)
                for batch, value in zip(support, worth, strict=True)
            )

        def of_chunk(tasks: slice) -> _Chunk:
            batches = tuple(take(batch, tasks) for batch in support)
            theta, rates = self.params.theta, self.params.rule
            adaptation = linearize_adaptation(
                self._inner.differentiate, theta, batches, self._inner.rule, rates, self._mode
            )
            surrogate = judge(
                adaptation,
                self._differentiate_query,
                self._surrogate,
                batches,
                take(query, tasks),
                self._judged_updates,
            )
            judged_on = (*batches, take(query, tasks))
            data = {
                k: WithOld(batch=judged_on[k], old=point.outputs)
                for k, point in surrogate.points.items()
            }
            return _Chunk(
                support=batches,
                credited=take(credited, tasks),
                surrogate=surrogate,
                data=data,
                kl=surrogate.of(self._kl, data),
            )

        chunk = self._inner.tasks_together(query.mask)
        parts = over_chunks(of_chunk, len(query.mask), chunk, query.mask.device)
        return Linearized(
            parts=parts,
            num_tasks=len(query.mask),
            chunk=chunk,
            device=query.mask.device,
            ranks=self.source.ranks,
        )

    def meta_gradient(self, around: Linearized) -> Params:
        """The gradient of the surrogate by the meta-parameters, by the names of
        `MetaParams.joined`."""

        def of_chunk(part: _Chunk) -> ChunkSums:
            adaptation, cotangents = part.surrogate.adaptation, part.surrogate.cotangents
            for k, data in enumerate(part.credited):
                sampling = adaptation.points[k].of(self._exploration, data)
                cotangents = added(cotangents, k, sampling.gradient)
            return ChunkSums(gradient=outer_gradient(*pulled_back(adaptation, cotangents)))

        gradient = around.mean(of_chunk).gradient
        if self._prior_coefficient == 0:
            return gradient
        of_prior = torch.func.grad(prior_kl)(self.params.theta)
        no_rates = P.zeros_like(self.params.rule)
        return P.add(gradient, join(of_prior, no_rates), self._prior_coefficient)

    def curvature_product(self, around: Linearized, v: Params) -> Params:
        """The Hessian of the mean KL, times v."""

        def of_chunk(part: _Chunk) -> ChunkSums:
            return ChunkSums(gradient=outer_gradient(*part.kl.gauss_newton_product(*split(v))))

        return around.mean(of_chunk).gradient

    @torch.no_grad()
    def _evaluate(self, around: Linearized, trial: Params) -> tuple[Tensor, Tensor]:
        """(surrogate, mean KL) of the policies adapted anew from the trial's parameters, on what
        they are judged on."""
        theta, rates = split(trial)

        def of_chunk(part: _Chunk) -> ChunkSums:
            path = path_of_tasks(
                self._inner.differentiate, theta, part.support, self._inner.rule, rates
            )
            losses, kls = [], []
            for k, data in part.data.items():
                outputs = self._policy.with_params(path[k], data.obs)
                losses.append(self._surrogate(outputs, data.batch).sum())
                kls.append(self._kl(outputs, data).sum())
            loss, kl = (torch.stack(sums).mean() for sums in (losses, kls))
            for k, credited in enumerate(part.credited):
                outputs = self._policy.with_params(path[k], credited.batch.obs)
                loss = loss + self._exploration(outputs, credited).sum()
            return ChunkSums(numbers={"loss": loss, "kl": kl})

        numbers = around.mean(of_chunk).numbers
        loss = numbers["loss"]
        if self._prior_coefficient > 0:
            loss = loss + self._prior_coefficient * prior_kl(theta)
        return loss, numbers["kl"]

    def state_dict(self) -> dict[str, Any]:
        # Learners whose trust region stays, earlier checkpoints among them, have no need to say it.
        falls = {} if self._max_kl_half_life is None else {"max_kl": self._max_kl}
        return as_state(self.params, **falls)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict())
        self.params.assign(state["params"])
        if self._max_kl_half_life is not None:
            self._max_kl = state["max_kl"]


TOLD_AFTER = 10
"""Iterations in a row without a step after which that is said."""


def _of_latents(outputs: Outputs, batch: PolicyBatch) -> Tensor:
    """The surrogate of the episodes' latents, judged by the episodes' returns: [n]."""
    assert batch.episode_latent is not None and batch.episode_advantage is not None
    log_prob = latent_log_prob(outputs, batch.episode_latent.value)
    all_count = torch.ones_like(batch.episode_latent.log_prob)
    return lvc(log_prob, batch.episode_latent.log_prob, batch.episode_advantage, all_count)
