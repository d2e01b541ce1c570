"""MAML with PPO as its outer update; with the likelihood-ratio inner loss and the inner KL penalty it is ProMP.

Sources: Finn et al. 2017 (arXiv:1703.03400); Schulman et al. 2017 (arXiv:1707.06347); Rothfuss et al. 2019 (arXiv:1810.06784).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core.linearize import linearize_adaptation
from metarl.core.threads import map_in_threads
from metarl.nn.heads import Outputs, PolicyModule
from metarl.nn.mlp_derivatives import differentiator
from metarl.rl.algorithms.shared import (
    Source,
    WithOld,
    as_state,
    check_positive,
    checked_mode,
    join,
    meta_params,
    rollout_metrics,
)
from metarl.rl.batches import PolicyBatch
from metarl.rl.collect import Streams
from metarl.rl.gradient_adapter import GradientAdapter, chunks, inner_update, take
from metarl.rl.losses import masked_mean, ppo_clip
from metarl.rl.types import BatchedEnv
from metarl.types import Metrics, Params


class MamlPPO:
    """One iteration: sample N tasks, gather K support batches and a query batch of E episodes each, then take
    `num_epochs` Adam steps on

        1/N Σᵢ  L_clip(φᵢ(θ); query)  +  c · KL(π_old ‖ π_θ; first support batch)

    where φᵢ(θ) are K inner steps, taken anew from the present θ in every epoch on the stored support data. The ratio's
    denominator is the log-probability stored when the *adapted* policy acted; the penalty holds the unadapted policy near
    the one that gathered the support, for which its inner gradient is valid.

    Args: see configs/algo/maml_ppo.yaml, which also says where each number comes from; `inner` are those of
      `inner_update`: num_inner_steps, inner_lr, ....
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        *,
        env: BatchedEnv,
        policy: PolicyModule,
        streams: Streams,
        device: torch.device,
        meta_batch_size: int,
        episodes_per_task: int,
        num_inner_steps: int,
        gradient_mode: str,
        outer_lr: float,
        num_epochs: int,
        clip: float,
        inner_kl_coefficient: float,
        inner_kl_target: float | None,
        max_grad_norm: float | None,
        **inner: Any,
    ) -> None:
        check_positive({"outer_lr": outer_lr, "num_epochs": num_epochs, "clip": clip})
        check_positive({"inner_kl_target": inner_kl_target, "max_grad_norm": max_grad_norm})
        if inner_kl_coefficient < 0:
            raise ValueError(f"inner_kl_coefficient {inner_kl_coefficient}: expected 0 or more")
        self._source = Source(
            env=env,
            streams=streams,
            device=device,
            num_tasks=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_updates=num_inner_steps,
        )
        self._policy, self._mode = policy, checked_mode(gradient_mode)
        self._inner = inner_update(policy, num_inner_steps=num_inner_steps, horizon=env.spec.horizon, **inner)
        self._params = meta_params(policy, self._inner.rule)
        self._num_epochs, self._kl_target, self._max_grad_norm = num_epochs, inner_kl_target, max_grad_norm
        self._kl_coefficient = inner_kl_coefficient
        self._optimizer = torch.optim.Adam(list(self._params.joined.values()), lr=outer_lr)

        def outer_loss(outputs: Outputs, batch: PolicyBatch) -> Tensor:
            log_prob = policy.log_prob(outputs, batch.action)
            return ppo_clip(log_prob, batch.log_prob, batch.advantage, batch.mask, clip=clip)

        def kl_to_old(outputs: Outputs, data: WithOld) -> Tensor:
            return masked_mean(policy.kl(data.old, outputs), data.batch.mask)

        self._differentiate_query = differentiator(policy, outer_loss)
        self._differentiate_kl = differentiator(policy, kl_to_old)

    def adapter(self) -> GradientAdapter:
        return GradientAdapter(self._policy, self._params.policy, self._params.rule, self._inner)

    def step(self) -> Metrics:
        rollouts = self._source.gather(self.adapter())
        support = tuple(self._inner.batch(t) for t in rollouts.support)
        query = self._inner.batch(rollouts.query)
        with torch.no_grad():
            old = self._policy.with_params(P.expand(self._params.policy, self._source.num_tasks), support[0].obs)
        unadapted = WithOld(batch=support[0], old=old)
        epochs = [self._epoch(support, query, unadapted) for _ in range(self._num_epochs)]
        self._adapt_kl_coefficient(epochs[-1]["inner_kl"])
        return {
            **rollout_metrics(rollouts),
            "loss_first": epochs[0]["loss"],
            "loss_last": epochs[-1]["loss"],
            "inner_kl": epochs[-1]["inner_kl"],
            "inner_kl_coefficient": self._kl_coefficient,
            "meta_gradient_norm": epochs[0]["meta_gradient_norm"],
        }

    def _epoch(self, support: tuple[PolicyBatch, ...], query: PolicyBatch, unadapted: WithOld) -> Metrics:
        """One Adam step on all tasks' data, its gradient summed up chunk by chunk."""
        theta, rates = self._params.policy, self._params.rule

        def differentiated(chosen: slice) -> tuple[Params, float, float]:
            """Of a chunk of tasks, summed: gradient, loss and KL."""
            batches = tuple(take(batch, chosen) for batch in support)
            adaptation = linearize_adaptation(
                self._inner.differentiate, theta, batches, self._inner.rule, rates, self._mode
            )
            point = self._differentiate_query(adaptation.adapted, take(query, chosen))
            of_theta, of_rates = adaptation.pullback(point.gradient)
            # At coefficient 0 the penalty is still evaluated: it is worth watching.
            penalty = self._differentiate_kl(P.expand(theta, chosen.stop - chosen.start), take(unadapted, chosen))
            of_theta = P.add(of_theta, P.sum_tasks(penalty.gradient), self._kl_coefficient)
            return join(of_theta, of_rates), point.value.sum().item(), penalty.value.sum().item()

        parts = map_in_threads(
            differentiated, list(chunks(self._source.num_tasks, self._inner.chunk)), self._source.device
        )
        gradients, losses, kls = zip(*parts, strict=True)
        norm = self._descend(P.scaled(P.sum_all(gradients), 1 / self._source.num_tasks))
        return {
            "loss": sum(losses) / self._source.num_tasks,
            "inner_kl": sum(kls) / self._source.num_tasks,
            "meta_gradient_norm": norm,
        }

    def _descend(self, gradient: Params) -> float:
        """One Adam step; returns the gradient's norm before clipping."""
        norm = P.norm(gradient).item()
        if not math.isfinite(norm):
            raise FloatingPointError(f"meta-gradient {P.first_non_finite(gradient)} holds NaN or infinity")
        scale = 1.0 if self._max_grad_norm is None else min(1.0, self._max_grad_norm / (norm + 1e-12))
        for name, leaf in self._params.joined.items():
            leaf.grad = gradient[name] * scale
        self._optimizer.step()
        return norm

    def _adapt_kl_coefficient(self, kl: float) -> None:
        """Doubles the penalty when the KL is above 1.5 times its target, halves it below target / 1.5 (Schulman et al. 2017)."""
        if self._kl_target is None:
            return
        if kl > 1.5 * self._kl_target:
            self._kl_coefficient *= 2
        elif kl < self._kl_target / 1.5:
            self._kl_coefficient /= 2

    def state_dict(self) -> dict[str, Any]:
        return as_state(self._params, optimizer=self._optimizer.state_dict(), kl_coefficient=self._kl_coefficient)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._params.assign(state["params"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._kl_coefficient = state["kl_coefficient"]
