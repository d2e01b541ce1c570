"""MAML with PPO as its outer update; with the likelihood-ratio inner loss and the inner KL penalty
it is ProMP.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2017 (arXiv:1707.06347); Rothfuss et
al. 2019 (arXiv:1810.06784).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core import saved
from metarl.core.chunks import Found, mean_over_chunks, take
from metarl.core.descent import APART, Descent, follow_kl, follow_penalty
from metarl.core.linearize import linearize_adaptation
from metarl.errors import SettingError
from metarl.nn.heads import Outputs
from metarl.nn.latent import latent_log_prob
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.adapters.gradient import GradientAdapter, inner_update, plus
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
)
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.losses import masked_mean, ppo_clip
from metarl.struct import map_tensors, struct
from metarl.types import Params, as_metrics

JUDGED_UPDATES = ("last", "all")


@struct
class Epoch:
    """What one pass over an iteration's data finds, at the parameters before the epoch's step."""

    gradient: Params
    """Of the objective, by the names of `MetaParams.joined`."""
    loss: Tensor
    """[] without the penalty."""
    kl: Tensor
    """[] of the adapted policies, from those that gathered the query to the present ones."""
    inner_kl: Tensor
    """[] of the unadapted policy, from the one that gathered the support."""
    outputs: Outputs
    """[N, ...] of the present adapted policies on the query."""


class MamlPPO(GatheringLearner):
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each,
    then take `num_epochs` Adam steps on

        1/N Σᵢ  L_clip(φᵢ(θ); query)  +  c · KL(π_old ‖ π_θ; first support batch)

    (or with `judged_updates` all: the mean of L_clip after 1, ..., K inner steps, each on the batch
    that the policy gathered then), where φᵢ(θ) are K inner steps, taken anew from the present θ in
    every epoch on the stored support data. The ratio's denominator is the log-probability stored
    when the *adapted* policy acted; the penalty holds the unadapted policy near the one that
    gathered the support, for which its inner gradient is valid. Clipping bounds what a step can
    gain but not how far it leads, and adaptation amplifies it: with a `kl_target` the rate follows
    the KL of the adapted policies, and a step that leads beyond three times the target is taken
    back. A policy with a latent (metarl/nn/latent.py) adapts it, too; L_clip is then also that of
    the latents, as actions that were judged by the episodes' returns, times `latent_coefficient`.

    Args: see configs/algo/maml_ppo.yaml, which also says where each number comes from; `inner` are
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
        outer_lr: float,
        num_epochs: int,
        clip: float,
        kl_target: float | None,
        inner_kl_coefficient: float,
        inner_kl_target: float | None,
        max_grad_norm: float | None,
        judged_updates: str = "last",
        latent_coefficient: float = 0.0,
        **inner: Any,
    ) -> None:
        check_positive({"outer_lr": outer_lr, "num_epochs": num_epochs, "clip": clip})
        check_positive(
            {
                "kl_target": kl_target,
                "inner_kl_target": inner_kl_target,
                "max_grad_norm": max_grad_norm,
            }
        )
        if inner_kl_coefficient < 0:
            raise SettingError(f"inner_kl_coefficient {inner_kl_coefficient}: expected 0 or more")
        if judged_updates not in JUDGED_UPDATES:
            raise SettingError(
                f"judged_updates {judged_updates!r}: expected one of {', '.join(JUDGED_UPDATES)}"
            )
        if latent_coefficient < 0:
            raise SettingError(f"latent_coefficient {latent_coefficient}: expected 0 or more")
        policy = memoryless_policy(setting.model)
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_inner_steps=num_inner_steps,
        )
        self.source = Source.of(setting, sizes)
        self._policy, self._mode, self._judges_all = (
            policy,
            checked_mode(gradient_mode),
            judged_updates == "all",
        )
        self._inner = inner_update(
            policy, num_inner_steps=num_inner_steps, horizon=setting.env.spec.horizon, **inner
        )
        self.params = meta_params(policy, self._inner.rule)
        self._num_epochs = num_epochs
        self._kl_target, self._max_lr, self._inner_kl_target = kl_target, outer_lr, inner_kl_target
        self._kl_coefficient = torch.tensor(inner_kl_coefficient, dtype=torch.float64)
        self._descent = Descent(self.params.joined, lr=outer_lr, max_norm=max_grad_norm)

        def outer_loss(outputs: Outputs, batch: PolicyBatch) -> Tensor:
            log_prob = policy.log_prob(outputs, batch.action)
            return ppo_clip(log_prob, batch.log_prob, batch.advantage, batch.mask, clip=clip)

        def kl_to_old(outputs: Outputs, data: WithOld) -> Tensor:
            return masked_mean(policy.kl(data.old, outputs), data.batch.mask)

        def latent_loss(outputs: Outputs, batch: PolicyBatch) -> Tensor:
            assert batch.held is not None and batch.episode_advantage is not None
            log_prob, all_count = (
                latent_log_prob(outputs, batch.held.latent),
                torch.ones_like(batch.held.log_prob),
            )
            return ppo_clip(
                log_prob, batch.held.log_prob, batch.episode_advantage, all_count, clip=clip
            )

        loss = (
            plus(outer_loss, latent_loss, latent_coefficient) if policy.latent_size else outer_loss
        )
        self._differentiate_query = differentiator(policy, loss)
        self._kl_to_old = kl_to_old

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self.params.theta, self.params.rule, self._inner)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        metrics = rollout_metrics(rollouts)
        support = tuple(self._inner.batch(t) for t in rollouts.support)
        query = self._inner.batch(rollouts.query)
        del rollouts  # whose observations the batches have copied
        with torch.no_grad():
            old = self._policy.with_params(
                P.expand(self.params.theta, self.source.sizes.num_tasks), support[0].obs
            )
        epochs = self.descend(support, query, WithOld(batch=support[0], old=old))
        self._follow(epochs[-1])
        found: dict[str, Tensor | float] = {
            "loss": epochs[-1].loss,
            "kl": epochs[-1].kl,
            "inner_kl": epochs[-1].inner_kl,
            "inner_kl_coefficient": self._kl_coefficient,
            "outer_lr": self._descent.lr,
            "num_epochs": len(epochs),
            "meta_gradient_norm": P.norm(epochs[0].gradient),
        }
        return {**metrics, **as_metrics(found)}

    def descend(
        self, support: tuple[PolicyBatch, ...], query: PolicyBatch, unadapted: WithOld
    ) -> list[Epoch]:
        """Takes Adam steps on the same data until there were enough, or one has led too far: that
        one is taken back."""
        epochs = [self.meta_gradient(support, query, unadapted)]
        left = epochs[0].outputs
        while True:
            before = map_tensors(lambda leaf: leaf.detach().clone(), self.params.joined)
            self._descent.against(epochs[-1].gradient)
            if len(epochs) == self._num_epochs:
                return epochs
            epochs.append(self.meta_gradient(support, query, unadapted, left))
            if self._kl_target is not None and epochs[-1].kl > 3 * self._kl_target:
                self.params.assign(before)
                return epochs

    def meta_gradient(
        self,
        support: tuple[PolicyBatch, ...],
        query: PolicyBatch,
        unadapted: WithOld,
        left: Outputs | None = None,
    ) -> Epoch:
        """The objective and its gradient at the present parameters, on the data of N tasks.

        Args:
          support: K batches, one for each inner step.
          unadapted: the first of them, with the outputs of the policy that gathered it.
          left: outputs [N, ...] on the query of the adapted policies that gathered it; None: the
            present ones did.
        """

        def of_chunk(tasks: slice) -> Found:
            batches = tuple(take(batch, tasks) for batch in support)
            adaptation = linearize_adaptation(
                self._inner.differentiate,
                self.params.theta,
                batches,
                self._inner.rule,
                self.params.rule,
                self._mode,
            )
            point = self._differentiate_query(adaptation.adapted, take(query, tasks))
            value, gradient, earlier = point.value, point.gradient, {}
            if self._judges_all and len(batches) > 1:
                share = 1 / len(batches)
                on_the_way = {
                    k: self._differentiate_query(adaptation.visited[k], batches[k])
                    for k in range(1, len(batches))
                }
                earlier = {k: P.scaled(there.gradient, share) for k, there in on_the_way.items()}
                value = share * torch.stack(
                    [value, *(there.value for there in on_the_way.values())]
                ).sum(0)
                gradient = P.scaled(gradient, share)
            of_theta, of_rates = adaptation.pullback(gradient, earlier)
            # At coefficient 0 the penalty is still evaluated: it is worth watching.
            penalty = adaptation.start.of(self._kl_to_old, take(unadapted, tasks))
            of_theta = P.add(of_theta, P.sum_tasks(penalty.gradient), self._kl_coefficient)
            old = point.outputs if left is None else take(left, tasks)
            kl = masked_mean(self._policy.kl(old, point.outputs), query.mask[tasks])
            sums = {"loss": value.sum(), "kl": kl.sum(), "inner_kl": penalty.value.sum()}
            return Found(gradient=join(of_theta, of_rates), numbers=sums, each=point.outputs)

        found = mean_over_chunks(of_chunk, len(query.mask), self._inner.chunk, query.mask.device)
        return Epoch(gradient=found.gradient, outputs=found.each, **found.numbers)

    def _follow(self, last: Epoch) -> None:
        """Moves the rate and the penalty's coefficient where the KLs of the last epoch ask for
        it."""
        if self._kl_target is not None:
            self._descent.lr = follow_kl(
                self._descent.lr, last.kl, target=self._kl_target, max_lr=self._max_lr
            )
        if self._inner_kl_target is not None:
            self._kl_coefficient = follow_penalty(
                self._kl_coefficient, last.inner_kl, target=self._inner_kl_target
            )

    def state_dict(self) -> dict[str, Any]:
        return as_state(
            self.params, kl_coefficient=self._kl_coefficient.item(), **self._descent.state_dict()
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict(), apart=APART)
        self.params.assign(state["params"])
        self._descent.load_state_dict(state)
        self._kl_coefficient = torch.tensor(state["kl_coefficient"], dtype=torch.float64)
