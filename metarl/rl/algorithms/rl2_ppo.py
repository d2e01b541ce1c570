"""RL² with PPO: an agent whose memory is carried through several episodes on one task learns to
learn within them.

Sources: Duan et al. 2016 (arXiv:1611.02779); Wang et al. 2016 (arXiv:1611.05763); Schulman et al.
2017 (arXiv:1707.06347).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import saved
from metarl.core.checks import check_positive, check_unit_interval
from metarl.core.descent import APART, Descent, clipped_as_torch, follow_kl
from metarl.errors import SettingError
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    rollout_metrics,
    trial_sizes,
)
from metarl.rl.data.batches import normalise
from metarl.rl.data.trials import Trials, join_episodes, take_trials, trial_advantages
from metarl.rl.losses import masked_mean, ppo_clip
from metarl.rl.models.memory import MemoryModel
from metarl.struct import struct
from metarl.types import as_metrics


@struct
class _Batch:
    """Trials with what stays as it is while the parameters change; all but `inputs` are [T, B]."""

    inputs: Tensor  # [T, B, I] of the memory
    trials: Trials
    advantage: Tensor  # normalised over all trials' steps
    target: Tensor  # of the value head: returns as deviations of the running statistics


@dataclass(frozen=True)
class _Losses:
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor


class RL2PPO(GatheringLearner):
    """One iteration: sample N tasks, play M trials of K episodes on each, the memory reset between
    trials only, then take PPO's steps over `num_epochs` x `num_minibatches` of whole trials on

        L_clip  +  c_v ½ E[(V − V_target)²]  −  c_e E[entropy]

    The memory's states are recomputed from each trial's first step with the present parameters, and
    gradients go back through the whole trial. Advantages run over the trial, across the ends of its
    episodes: what an early episode finds out is paid for by later ones. A trial's end by the time
    limit is bootstrapped with the value of the true successor.

    Args: see configs/algo/rl2_ppo.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range, a model without memory, or a trial
      that is longer than the model's memory can take.
    """

    sizes = staticmethod(trial_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        trials_per_task: int,
        episodes_per_trial: int,
        outer_lr: float,
        num_epochs: int,
        num_minibatches: int,
        clip: float,
        kl_target: float | None,
        value_coefficient: float,
        entropy_coefficient: float,
        entropy_half_life: float | None,
        max_grad_norm: float | None,
        discount: float,
        gae_lambda: float,
    ) -> None:
        check_positive({"outer_lr": outer_lr, "num_epochs": num_epochs, "clip": clip})
        check_positive(
            {
                "kl_target": kl_target,
                "max_grad_norm": max_grad_norm,
                "entropy_half_life": entropy_half_life,
            }
        )
        check_unit_interval({"discount": discount, "gae_lambda": gae_lambda})
        for name, value in {
            "value_coefficient": value_coefficient,
            "entropy_coefficient": entropy_coefficient,
        }.items():
            if not value >= 0:
                raise SettingError(f"{name} {value}: expected 0 or more")
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            trials_per_task=trials_per_task,
            episodes_per_trial=episodes_per_trial,
        )
        if not 1 <= num_minibatches <= sizes.num_worlds:
            raise SettingError(
                f"num_minibatches {num_minibatches}: expected 1 to {sizes.num_worlds}, the trials "
                "in all"
            )
        smallest = len(torch.arange(sizes.num_worlds).chunk(num_minibatches)[-1])
        if smallest < setting.streams.ranks.num:
            raise SettingError(
                f"num_minibatches {num_minibatches}: the smallest has {smallest} trials, too few for "
                f"{setting.streams.ranks.num} processes; expected fewer minibatches"
            )
        self._model = with_memory(
            setting.model, steps=episodes_per_trial * setting.env.spec.horizon
        )
        self.source = Source.of(setting, sizes)
        self._streams, self._device = setting.streams, setting.device
        self._num_epochs, self._num_minibatches, self._clip = num_epochs, num_minibatches, clip
        self._kl_target, self._max_lr = kl_target, outer_lr
        self._value_coefficient, self._entropy_coefficient = value_coefficient, entropy_coefficient
        self._entropy_decay = 1.0 if entropy_half_life is None else 0.5 ** (1 / entropy_half_life)
        self._discount, self._gae_lambda = discount, gae_lambda
        self._descent = Descent(
            dict(self._model.named_parameters()),
            lr=outer_lr,
            max_norm=max_grad_norm,
            epsilon=1e-5,
            clip=clipped_as_torch,
        )

    def adapter(self) -> MemoryAdapter:
        return MemoryAdapter(self._model)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        # Statistics are over all trials, so every process has them all; it differentiates a part.
        rollouts = self.source.ranks.whole(rollouts)
        trials = join_episodes((*rollouts.support, rollouts.query))
        batch = self._batch(trials)
        losses = [
            self._descend(batch, columns) for columns in self._minibatches(trials.mask.shape[1])
        ]
        self._observe(trials)
        last = losses[-self._num_minibatches :]
        kl = _mean(x.kl for x in last)
        if self._kl_target is not None:
            self._descent.lr = follow_kl(
                self._descent.lr, kl, target=self._kl_target, max_lr=self._max_lr
            )
        self._entropy_coefficient *= self._entropy_decay
        found = {
            "loss": _mean(x.policy for x in last),
            "value_loss": _mean(x.value for x in last),
            "entropy": _mean(x.entropy for x in last),
            "kl": kl,
            "outer_lr": self._descent.lr,
        }
        return {**rollout_metrics(rollouts), **as_metrics(found)}

    @torch.no_grad()
    def _batch(self, trials: Trials) -> _Batch:
        model = self._model
        inputs = trial_inputs(model, trials)
        normalised_value = model.heads(model.memory.sequence(inputs))[1]
        value = model.returns.inverse(normalised_value)
        advantage = trial_advantages(
            trials, value, discount=self._discount, gae_lambda=self._gae_lambda
        )
        returns = advantage + value[:-1]
        model.rescale_returns(returns[trials.mask][:, None])
        flat, mask = advantage.flatten(), trials.mask.flatten()
        return _Batch(
            inputs=inputs[:-1],
            trials=trials,
            advantage=normalise(flat, mask).reshape(advantage.shape),
            target=model.returns(returns[..., None]).squeeze(-1),
        )

    def _minibatches(self, num_trials: int) -> list[Tensor]:
        """The trials' numbers, shuffled anew for every epoch."""
        return [
            part
            for _ in range(self._num_epochs)
            for part in torch.randperm(
                num_trials, generator=self._streams.policy.alone, device=self._device
            ).chunk(self._num_minibatches)
        ]

    def _losses(self, batch: _Batch) -> _Losses:
        outputs, value = self._model.heads(self._model.memory.sequence(batch.inputs))
        trials, policy = batch.trials, self._model.policy
        mask, advantage, old = (
            trials.mask.flatten(),
            batch.advantage.flatten(),
            trials.log_prob.flatten(),
        )
        log_prob = policy.log_prob(outputs, trials.action).flatten()
        log_ratio = log_prob - old
        return _Losses(
            policy=ppo_clip(log_prob, old, advantage, mask, clip=self._clip),
            value=masked_mean(0.5 * (value - batch.target).square().flatten(), mask),
            entropy=masked_mean(policy.entropy(outputs).flatten(), mask),
            # E[ρ − 1 − log ρ]: the KL from the policy that acted, always positive (Schulman 2020).
            kl=masked_mean(log_ratio.exp() - 1 - log_ratio, mask).detach(),
        )

    def _descend(self, batch: _Batch, columns: Tensor) -> _Losses:
        """One Adam step on the trials of these numbers; of several processes each takes some."""
        ranks = self.source.ranks
        own = take_trials(batch, columns.tensor_split(ranks.num)[ranks.rank])
        losses = self._losses(own)
        if ranks.num > 1:  # Means over all steps are those over the own ones times their share.
            share = own.trials.mask.sum() / batch.trials.mask[:, columns].sum()
            losses = _Losses(**{name: share * mean for name, mean in vars(losses).items()})
        loss = (
            losses.policy
            + self._value_coefficient * losses.value
            - self._entropy_coefficient * losses.entropy
        )
        self._descent.down(loss, ranks)
        return _Losses(**ranks.total({name: part.detach() for name, part in vars(losses).items()}))

    def _observe(self, trials: Trials) -> None:
        """Takes the iteration's observations and rewards into the running statistics: after the
        update, for its log-probabilities belong to inputs normalised as they were while acting."""
        self._model.observations.update(trials.obs[:-1][trials.mask])
        self._model.rewards.update(trials.reward[trials.mask][:, None])

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            **self._descent.state_dict(),
            "entropy_coefficient": self._entropy_coefficient,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict() | {"entropy_coefficient": 0.0}, apart=APART)
        self._model.load_state_dict(state["model"])
        self._descent.load_state_dict(state)
        self._entropy_coefficient = state["entropy_coefficient"]


def with_memory(model: nn.Module, *, steps: int) -> MemoryModel:
    """`model` itself, if it can remember a trial of so many steps. Raises: ValueError."""
    if not isinstance(model, MemoryModel):
        raise SettingError(
            f"model is a {type(model).__name__}; expected one with a memory: gru, lstm, "
            "transformer or external_memory"
        )
    longest = model.memory.max_steps
    if (
        longest is not None and steps + 1 > longest
    ):  # 1: the observation after the last step has a value, too
        raise SettingError(
            f"a trial has {steps} steps (horizon x episodes_per_trial); "
            f"the model's context of {longest} takes at most {longest - 1}"
        )
    return model


def trial_inputs(model: MemoryModel, trials: Trials) -> Tensor:
    """What the memory took in at each step of the trials, and would take in after the last: [T + 1,
    B, I]."""
    feedback = model.feedback(
        trials.obs[:-1], trials.action, trials.reward, trials.terminated, trials.truncated
    )
    return model.inputs(trials.obs, torch.cat([torch.zeros_like(feedback[:1]), feedback]))


def _mean(values: Iterable[Tensor]) -> Tensor:
    """[] in float64, as rates and their targets are."""
    return torch.stack(list(values)).mean().detach().double()
