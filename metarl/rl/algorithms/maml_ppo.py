"""MAML with PPO as its outer update. With the likelihood-ratio inner loss and the inner KL penalty
it is ProMP, with DiCE inside and a single outer step DiCE-MAML.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2017 (arXiv:1707.06347); Rothfuss et
al. 2019 (arXiv:1810.06784).
"""

from collections.abc import Generator, Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.choices import check_choice
from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts, check_not_negative, check_positive
from metarl.core.descent import APART, Descent, FollowedRate, follow_penalty
from metarl.core.differentiated import OutputLoss
from metarl.core.judged import check_judged_updates
from metarl.core.whose import is_ours
from metarl.errors import SettingError
from metarl.nn.heads import Outputs
from metarl.nn.latent import latent_log_prob
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.adapters.gradient import GradientAdapter, InnerStep, inner_update, plus
from metarl.rl.algorithms.ppo_epoch import AskedEpoch, Data, Epoch, Objective, epochs_of
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
    kl_on_steps,
    memoryless_policy,
    meta_params,
    rollout_metrics,
    run_alone,
)
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.losses import ppo_clip
from metarl.struct import map_tensors
from metarl.types import as_metrics

INNER_KL_STEPS = ("first", "all")


class MamlPPO(GatheringLearner):
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each,
    then take `num_epochs` Adam steps on

        1/N Σᵢ  L_clip(φᵢ(θ); query)  +  c · KL(π_old ‖ π_θ; first support batch)

    (or with `judged_updates` all: the mean of L_clip after 1, ..., K inner steps, each on the batch
    that the policy gathered then), where φᵢ(θ) are K inner steps, taken anew from the present θ in
    every epoch on the stored support data. The ratio's denominator is the log-probability stored
    when the *adapted* policy acted; the penalty holds the unadapted policy near the one that
    gathered the support, for which its inner gradient is valid. With `inner_kl_steps` all, as in
    ProMP, it is 1/K Σₖ cₖ · KL(π_old,ₖ ‖ π_φₖ; support batch k): each policy that an inner step
    starts from is held near the one that gathered the step's data, each with its own weight, which
    follows its own KL if there is an `inner_kl_target`. Clipping bounds what a step can
    gain but not how far it leads, and adaptation amplifies it: with a `kl_target` the rate follows
    the KL of the adapted policies, and a step that leads beyond three times the target is taken
    back. An epoch finds the KLs that the steps before its own have led to, so that the last step's
    stay unknown. With an `inner_kl_target`, or if it is the only step, one more epoch without a
    step finds them. A policy with a latent (metarl/nn/latent.py) adapts it, too; L_clip is then
    also that of the latents, as actions that were judged by the episodes' returns, times
    `latent_coefficient`.

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
        inner_kl_steps: str = "first",
        judged_updates: str = "last",
        latent_coefficient: float = 0.0,
        outer_lr_half_life: float | None = None,
        **inner: Any,
    ) -> None:
        check_counts({"num_epochs": num_epochs})
        check_positive({"outer_lr": outer_lr, "clip": clip})
        check_positive(
            {
                "inner_kl_target": inner_kl_target,
                "max_grad_norm": max_grad_norm,
            }
        )
        check_not_negative({"inner_kl_coefficient": inner_kl_coefficient})
        check_not_negative({"latent_coefficient": latent_coefficient})
        if inner_kl_target is not None and inner_kl_coefficient == 0:
            raise SettingError(
                f"inner_kl_coefficient 0 with inner_kl_target {inner_kl_target}: expected more than "
                "0, for the target doubles or halves the coefficient"
            )
        check_choice("inner_kl_steps", inner_kl_steps, INNER_KL_STEPS)
        policy = memoryless_policy(setting.model)
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_inner_steps=num_inner_steps,
        )
        check_tells(sizes, setting.env.spec.horizon, policy)
        self.source = Source.of(setting, sizes)
        self._policy = policy
        mode = checked_mode(gradient_mode, inner["inner_loss"])
        self._inner = inner_update(
            policy, num_inner_steps=num_inner_steps, horizon=setting.env.spec.horizon, **inner
        )
        self.params = meta_params(policy, self._inner.rule)
        self._clip = clip
        self._num_epochs = num_epochs
        self._kl_target = kl_target
        self._inner_kl_target = inner_kl_target
        self._inner_kl_coefficient = inner_kl_coefficient
        self._looks_again = inner_kl_target is not None or (
            kl_target is not None and num_epochs == 1
        )
        self.num_penalised = num_inner_steps if inner_kl_steps == "all" else 1
        self._kl_coefficients = torch.full(
            (self.num_penalised,), inner_kl_coefficient, dtype=torch.float64
        )
        self._descent = Descent(self.params.joined, lr=outer_lr, max_norm=max_grad_norm)
        self._rate = FollowedRate(
            self._descent, max_lr=outer_lr, kl_target=kl_target, half_life=outer_lr_half_life
        )

        def kl_to_old(outputs: Outputs, data: WithOld) -> Tensor:
            return kl_on_steps(policy, data.old, outputs, data.batch.weight)

        def latent_loss(outputs: Outputs, batch: PolicyBatch) -> Tensor:
            assert batch.episode_latent is not None and batch.episode_advantage is not None
            log_prob = latent_log_prob(outputs, batch.episode_latent.value)
            all_count = torch.ones_like(batch.episode_latent.log_prob)
            return ppo_clip(
                log_prob,
                batch.episode_latent.log_prob,
                batch.episode_advantage,
                all_count,
                clip=clip,
            )

        loss: OutputLoss = self.outer_loss
        if policy.latent_size:
            loss = plus(loss, latent_loss, latent_coefficient)
        self._objective = Objective(
            policy=policy,
            inner=self._inner,
            mode=mode,
            judged_updates=check_judged_updates(judged_updates),
            loss=loss,
            differentiate=differentiator(policy, loss),
            kl_to_old=kl_to_old,
        )

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self.params.theta, self.params.rule, self._inner)

    def outer_loss(self, outputs: Outputs, batch: PolicyBatch) -> Tensor:
        """L_clip [n] of adapted policies with these outputs [n, B, ...] on their batches. A subclass
        may ask for another one."""
        log_prob = self._policy.log_prob(outputs, batch.action)
        clip = self._clip
        return ppo_clip(log_prob, batch.log_prob, batch.advantage, batch.weight, clip=clip)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        metrics = rollout_metrics(rollouts, self.source.ranks)
        steps: tuple[InnerStep, ...] = rollouts.traces
        with self.source.ranks.failing_together():
            query = self._inner.batch(rollouts.query)
        del rollouts  # whose observations the batches have copied
        support = tuple(step.batch for step in steps)
        data = Data(support=support, query=query, penalised=self.penalised(steps))
        epochs = yield from self.descending(data)
        self._follow(epochs[-1])
        self._inner.latent_bound.keep(self.params.theta)
        found: dict[str, Tensor | float] = {
            "loss": epochs[-1].loss,
            "kl": epochs[-1].kl,
            "inner_kl": epochs[-1].inner_kl.mean(),
            "inner_kl_coefficient": self._kl_coefficients.mean(),
            "outer_lr": self._descent.lr,
            "num_epochs": self._num_kept(epochs),
            "meta_gradient_norm": P.norm(epochs[0].gradient),
        }
        return {**metrics, **as_metrics(found)}

    def _num_kept(self, epochs: list[Epoch]) -> int:
        """How many of the Adam steps stand that `descending` took."""
        if len(epochs) > 1 and self._went_too_far(epochs[-1]):
            return len(epochs) - 2
        return min(len(epochs), self._num_epochs)

    def _went_too_far(self, epoch: Epoch) -> bool:
        return self._kl_target is not None and bool(epoch.kl > 3 * self._kl_target)

    @torch.no_grad()
    def penalised(self, steps: tuple[InnerStep, ...]) -> tuple[WithOld, ...]:
        """The support batches whose policies are latent, with the outputs of those that gathered
        them.

        Args: steps: the inner steps from the present meta-parameters, before any outer step.
        """
        start, found = P.expand(self.params.theta, len(steps[0].batch.mask)), []
        for step in steps[: self.num_penalised]:
            old = self._policy.with_params(start, step.batch.obs)
            found.append(WithOld(batch=step.batch, old=old))
            start = step.adapted
        return tuple(found)

    def descend(
        self,
        support: tuple[PolicyBatch, ...],
        query: PolicyBatch,
        penalised: tuple[WithOld, ...],
    ) -> list[Epoch]:
        """Takes Adam steps on the same data until there were enough, or one has led too far: that
        one is taken back. A training asks `descending` itself."""
        data = Data(support=support, query=query, penalised=penalised)
        return run_alone(self.descending(data))

    def descending(self, data: Data) -> Generator[AskedEpoch, Epoch, list[Epoch]]:
        """Takes the Adam steps of `descend`, but asks for each epoch instead of computing it: several
        learners' are then computed side by side."""
        cut: dict[Any, Data] = {}
        epochs = [(yield self._asked(data, None, cut))]
        left = epochs[0].outputs
        while True:
            before = map_tensors(lambda leaf: leaf.detach().clone(), self.params.joined)
            self._descent.against(epochs[-1].gradient)
            was_last = len(epochs) == self._num_epochs
            if was_last and not self._looks_again:
                return epochs
            epochs.append((yield self._asked(data, left, cut)))
            if self._went_too_far(epochs[-1]):
                self.params.assign(before)
                return epochs
            if was_last:
                return epochs

    def meta_gradient(
        self,
        support: tuple[PolicyBatch, ...],
        query: PolicyBatch,
        penalised: tuple[WithOld, ...],
        left: Outputs | None = None,
    ) -> Epoch:
        """The objective and its gradient at the present parameters, on the data of N tasks.

        Args:
          support: K batches, one for each inner step.
          penalised: see `penalised`.
          left: outputs [N, ...] on the query of the adapted policies that gathered it; None: the
            present ones did.
        """
        data = Data(support=support, query=query, penalised=penalised)
        (epoch,) = epochs_of([self._asked(data, left, {})])
        return epoch

    def _asked(self, data: Data, left: Outputs | None, cut: dict[Any, Data]) -> AskedEpoch:
        return AskedEpoch(
            objective=self._objective,
            params=self.params,
            coefficients=self._kl_coefficients,
            data=data,
            left=left,
            cut=cut,
            ranks=self.source.ranks,
            alone=not is_ours(type(self)),
        )

    def _follow(self, last: Epoch) -> None:
        """Moves the rate and the penalties' weights where the KLs of the last epoch ask for it."""
        self._rate.follow(last.kl)
        if self._inner_kl_target is not None:
            self._kl_coefficients = follow_penalty(
                self._kl_coefficients,
                last.inner_kl.cpu(),
                target=self._inner_kl_target,
                start=self._inner_kl_coefficient,
            )

    def state_dict(self) -> dict[str, Any]:
        # A single one is a number, as in files of older versions.
        coefficients = self._kl_coefficients.squeeze().tolist()
        own = {"kl_coefficient": coefficients, **self._rate.state_dict()}
        return as_state(self.params, **own, **self._descent.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict(), apart=APART)
        self.params.assign(state["params"])
        self._descent.load_state_dict(state)
        coefficients = torch.tensor(state["kl_coefficient"], dtype=torch.float64)
        self._kl_coefficients = coefficients.reshape(-1)
        self._rate.load_state_dict(state)
