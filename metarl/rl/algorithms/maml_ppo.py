"""MAML with PPO as its outer update; with the likelihood-ratio inner loss and the inner KL penalty it is ProMP.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2017 (arXiv:1707.06347); Rothfuss et al. 2019 (arXiv:1810.06784).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.linearize import linearize_adaptation
from metarl.core.threads import map_in_threads
from metarl.nn.heads import Outputs
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.algorithms.shared import (
    Source,
    WithOld,
    as_state,
    check_positive,
    checked_mode,
    follow_kl,
    gradient_sizes,
    join,
    memoryless_policy,
    meta_params,
    rollout_metrics,
)
from metarl.rl.batches import PolicyBatch
from metarl.rl.collect import Streams
from metarl.rl.gradient_adapter import GradientAdapter, chunks, inner_update, take
from metarl.rl.losses import masked_mean, ppo_clip
from metarl.rl.types import BatchedEnv
from metarl.struct import map_tensors
from metarl.types import Metrics, Params


@dataclass(frozen=True)
class _Epoch:
    gradient: Params  # of the objective, at the parameters before the epoch's step
    loss: float
    kl: float  # of the adapted policies, from those that gathered the query to the present ones
    inner_kl: float  # of the unadapted policy, from the one that gathered the support


class MamlPPO:
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each, then take
    `num_epochs` Adam steps on

        1/N Σᵢ  L_clip(φᵢ(θ); query)  +  c · KL(π_old ‖ π_θ; first support batch)

    where φᵢ(θ) are K inner steps, taken anew from the present θ in every epoch on the stored support data. The ratio's
    denominator is the log-probability stored when the *adapted* policy acted; the penalty holds the unadapted policy near
    the one that gathered the support, for which its inner gradient is valid. Clipping bounds what a step can gain but not how
    far it leads, and adaptation amplifies it: with a `kl_target` the rate follows the KL of the adapted policies, and a step
    that leads beyond three times the target is taken back.

    Args: see configs/algo/maml_ppo.yaml, which also says where each number comes from; `inner` are those of
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
        outer_lr: float,
        num_epochs: int,
        clip: float,
        kl_target: float | None,
        inner_kl_coefficient: float,
        inner_kl_target: float | None,
        max_grad_norm: float | None,
        **inner: Any,
    ) -> None:
        check_positive({"outer_lr": outer_lr, "num_epochs": num_epochs, "clip": clip})
        check_positive({"kl_target": kl_target, "inner_kl_target": inner_kl_target, "max_grad_norm": max_grad_norm})
        if inner_kl_coefficient < 0:
            raise ValueError(f"inner_kl_coefficient {inner_kl_coefficient}: expected 0 or more")
        policy = memoryless_policy(model)
        sizes = self.sizes(
            meta_batch_size=meta_batch_size, episodes_per_task=episodes_per_task, num_inner_steps=num_inner_steps
        )
        self._source = Source(env=env, streams=streams, device=device, sizes=sizes)
        self._policy, self._mode = policy, checked_mode(gradient_mode)
        self._inner = inner_update(policy, num_inner_steps=num_inner_steps, horizon=env.spec.horizon, **inner)
        self._params = meta_params(policy, self._inner.rule)
        self._num_epochs, self._max_grad_norm = num_epochs, max_grad_norm
        self._kl_target, self._max_lr = kl_target, outer_lr
        self._inner_kl_target, self._kl_coefficient = inner_kl_target, inner_kl_coefficient
        self._optimizer = torch.optim.Adam(list(self._params.joined.values()), lr=outer_lr)

        def outer_loss(outputs: Outputs, batch: PolicyBatch) -> Tensor:
            log_prob = policy.log_prob(outputs, batch.action)
            return ppo_clip(log_prob, batch.log_prob, batch.advantage, batch.mask, clip=clip)

        def kl_to_old(outputs: Outputs, data: WithOld) -> Tensor:
            return masked_mean(policy.kl(data.old, outputs), data.batch.mask)

        self._differentiate_query = differentiator(policy, outer_loss)
        self._kl_to_old = kl_to_old

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self._params.policy, self._params.rule, self._inner)

    def step(self) -> Metrics:
        rollouts = self._source.gather(self.adapter())
        support = tuple(self._inner.batch(t) for t in rollouts.support)
        query = self._inner.batch(rollouts.query)
        with torch.no_grad():
            old = self._policy.with_params(P.expand(self._params.policy, self._source.sizes.num_tasks), support[0].obs)
        epochs = self._epochs(support, query, WithOld(batch=support[0], old=old))
        self._adapt_kl_coefficient(epochs[-1].inner_kl)
        self._adapt_lr(epochs[-1].kl)
        return {
            **rollout_metrics(rollouts),
            "loss": epochs[-1].loss,
            "kl": epochs[-1].kl,
            "inner_kl": epochs[-1].inner_kl,
            "inner_kl_coefficient": self._kl_coefficient,
            "outer_lr": self._lr,
            "num_epochs": len(epochs),
            "meta_gradient_norm": P.norm(epochs[0].gradient).item(),
        }

    def _epochs(self, support: tuple[PolicyBatch, ...], query: PolicyBatch, unadapted: WithOld) -> list["_Epoch"]:
        """Adam steps on the same data until there were enough, or one has led too far: that one is taken back."""
        leaving: dict[int, Outputs] = {}
        epochs = [self._epoch(support, query, unadapted, leaving)]
        while True:
            before = map_tensors(torch.clone, {k: leaf.detach() for k, leaf in self._params.joined.items()})
            self._descend(epochs[-1].gradient)
            if len(epochs) == self._num_epochs:
                return epochs
            epochs.append(self._epoch(support, query, unadapted, leaving))
            if self._kl_target is not None and epochs[-1].kl > 3 * self._kl_target:
                self._params.assign(before)
                return epochs

    def _epoch(
        self,
        support: tuple[PolicyBatch, ...],
        query: PolicyBatch,
        unadapted: WithOld,
        leaving: dict[int, Outputs],
    ) -> "_Epoch":
        """The objective and its gradient at the present parameters, on all tasks' data, summed up chunk by chunk.

        Args: leaving: first task of a chunk -> outputs of the adapted policies that gathered the query; filled by the
          first epoch, whose policies they are.
        """
        theta, rates = self._params.policy, self._params.rule

        def differentiated(chosen: slice) -> tuple[Params, float, float, float]:
            batches = tuple(take(batch, chosen) for batch in support)
            adaptation = linearize_adaptation(
                self._inner.differentiate, theta, batches, self._inner.rule, rates, self._mode
            )
            point = self._differentiate_query(adaptation.adapted, take(query, chosen))
            of_theta, of_rates = adaptation.pullback(point.gradient)
            # At coefficient 0 the penalty is still evaluated: it is worth watching.
            penalty = adaptation.start.of(self._kl_to_old, take(unadapted, chosen))
            of_theta = P.add(of_theta, P.sum_tasks(penalty.gradient), self._kl_coefficient)
            old = leaving.setdefault(chosen.start, point.outputs)
            kl = masked_mean(self._policy.kl(old, point.outputs), query.mask[chosen])
            return join(of_theta, of_rates), point.value.sum().item(), kl.sum().item(), penalty.value.sum().item()

        parts = map_in_threads(
            differentiated, list(chunks(self._source.sizes.num_tasks, self._inner.chunk)), self._source.device
        )
        gradients, *sums = zip(*parts, strict=True)
        loss, kl, inner_kl = (float(sum(values)) / self._source.sizes.num_tasks for values in sums)
        gradient = P.scaled(P.sum_all(gradients), 1 / self._source.sizes.num_tasks)
        return _Epoch(gradient=gradient, loss=loss, kl=kl, inner_kl=inner_kl)

    def _descend(self, gradient: Params) -> None:
        """One Adam step."""
        norm = P.norm(gradient).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"meta-gradient {P.first_non_finite(gradient)} holds NaN or infinity")
        scale = 1.0 if self._max_grad_norm is None else min(1.0, self._max_grad_norm / (norm + 1e-12))
        for name, leaf in self._params.joined.items():
            leaf.grad = gradient[name] * scale
        self._optimizer.step()

    @property
    def _lr(self) -> float:
        return self._optimizer.param_groups[0]["lr"]

    def _adapt_lr(self, kl: float) -> None:
        if self._kl_target is not None:
            follow_kl(self._optimizer, kl, target=self._kl_target, max_lr=self._max_lr)

    def _adapt_kl_coefficient(self, kl: float) -> None:
        """Doubles the penalty when the KL is above 1.5 times its target, halves it below target / 1.5 (Schulman et al. 2017)."""
        if self._inner_kl_target is None:
            return
        if kl > 1.5 * self._inner_kl_target:
            self._kl_coefficient *= 2
        elif kl < self._inner_kl_target / 1.5:
            self._kl_coefficient /= 2

    def state_dict(self) -> dict[str, Any]:
        return as_state(self._params, optimizer=self._optimizer.state_dict(), kl_coefficient=self._kl_coefficient)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._params.assign(state["params"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._kl_coefficient = state["kl_coefficient"]
