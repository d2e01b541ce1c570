"""Proximal policy optimisation on trials: what learners do alike that act by a policy and a value
on known inputs.

Source: Schulman et al. 2017 (arXiv:1707.06347).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.choices import check_choice
from metarl.core import saved
from metarl.core.checks import check_counts, check_not_negative, check_positive, check_unit_interval
from metarl.core.descent import APART, Descent, FollowedRate, clipped_as_torch, halving
from metarl.errors import NothingLearnable, SettingError
from metarl.nn.heads import Outputs, PolicyModule
from metarl.nn.normaliser import Normaliser
from metarl.rl.data.batches import normalise
from metarl.rl.data.collect import Streams
from metarl.rl.data.trials import ALL_DIVERGED, Trials, take_trials, trial_advantages
from metarl.rl.losses import clipped_huber, log_ratio, masked_mean, ppo_clip
from metarl.rl.reward_scale import RewardScale
from metarl.struct import map_tensors, replace, struct

VALUE_LOSSES = ("squared", "clipped_huber")
NORMALISED = ("returns", "rewards")


class ActorCritic(Protocol):
    """What PPO asks of an agent. Values are deviations of `returns`, which gives them in units of
    reward (`inverse`)."""

    policy: PolicyModule
    returns: Normaliser

    def evaluate(self, inputs: Tensor) -> tuple[Outputs, Tensor]:
        """The policy's outputs and the values [T, B] for inputs [T, B, I] of trials, from their
        first step on."""
        ...

    def rescale_returns(self, returns: Tensor) -> None:
        """Takes returns [n, 1] into the statistics; values in units of reward stay what they
        were."""
        ...


@struct
class PolicyTrials:
    """Trials with what stays as it is while the parameters change; all but `inputs` and `action`
    are [T, B]."""

    inputs: Tensor  # [T, B, I] of the agent
    action: Tensor  # [T, B, A] or [T, B]
    log_prob: Tensor  # of the policy that acted
    mask: Tensor  # bool, False on padding and where the physics blew up
    advantage: Tensor  # normalised over all trials' steps
    old_value: Tensor  # of the value head as it was while acting, in the units of now
    target: Tensor  # of the value head: returns, if they are normalised as deviations

    def apart(self) -> "PolicyTrials":
        """Each step as a trial of its own, [1, n], without padding."""
        return map_tensors(lambda leaf: leaf[self.mask].unsqueeze(0), self)


@dataclass(frozen=True)
class Losses:
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor


class PPO:
    """Takes Adam's steps over `num_epochs` × `num_minibatches` parts of the trials of an iteration
    on

        L_clip  +  c_v L_value  −  c_e E[entropy],     L_value = ½ E[(V − V_target)²]

    Advantages run over the trial, across the ends of its episodes: what an early episode finds out
    is paid for by later ones. A trial's end by the time limit is bootstrapped with the value of the
    true successor.

    Args:
      agent: whose parameters change; those of them that the loss has no gradient for stay.
      params: the parameters, by name.
      num_trials: in an iteration.
      mixed_steps: the most that a trial has, of an agent whose outputs depend on the inputs of the
        present step alone: parts are then of single steps instead of whole trials.
      value_loss: `squared`, L_value as above; or `clipped_huber`, see
        `metarl.rl.losses.clipped_huber`, with the clip of the ratios.
      normalises: `returns`, by running statistics, so that V and V_target are deviations; or
        `rewards`, see `metarl.rl.reward_scale.RewardScale`, with V and V_target in their units.
      adam_epsilon: Adam's ε.
      streams: the policy's shuffles the trials, which several processes may share.
      Others: see configs/algo/rl2_ppo.yaml, which also says where each number comes from.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        agent: ActorCritic,
        params: Mapping[str, Tensor],
        *,
        num_trials: int,
        mixed_steps: int | None = None,
        streams: Streams,
        device: torch.device,
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
        value_loss: str = "squared",
        normalises: str = "returns",
        adam_epsilon: float = 1e-5,
        outer_lr_half_life: float | None = None,
    ) -> None:
        check_counts({"num_epochs": num_epochs})
        check_positive({"outer_lr": outer_lr, "clip": clip})
        check_positive({"max_grad_norm": max_grad_norm})
        check_positive({"entropy_half_life": entropy_half_life})
        check_positive({"adam_epsilon": adam_epsilon})
        check_unit_interval({"discount": discount, "gae_lambda": gae_lambda})
        check_choice("value_loss", value_loss, VALUE_LOSSES)
        check_choice("normalises", normalises, NORMALISED)
        check_not_negative({"value_coefficient": value_coefficient})
        check_not_negative({"entropy_coefficient": entropy_coefficient})
        parted, unit = num_trials * (mixed_steps or 1), "steps" if mixed_steps else "trials"
        if not 1 <= num_minibatches <= parted:
            raise SettingError(
                f"num_minibatches {num_minibatches}: expected 1 to {parted}, the {unit} in all"
            )
        self._agent = agent
        self._mixes_steps = mixed_steps is not None
        smallest = parted // num_minibatches
        if smallest < streams.ranks.num:
            raise SettingError(
                f"num_minibatches {num_minibatches}: the smallest has {smallest} {unit}, too few "
                f"for {streams.ranks.num} processes; expected fewer minibatches"
            )
        self._streams = streams
        self._device = device
        self._num_epochs = num_epochs
        self._num_minibatches = num_minibatches
        self._clip = clip
        self._value_coefficient = value_coefficient
        self._entropy_coefficient = entropy_coefficient
        self._entropy_decay = halving(entropy_half_life)
        self._discount = discount
        self._gae_lambda = gae_lambda
        self._value_loss = value_loss
        self._reward_scale: RewardScale | None = None
        if normalises == "rewards":
            self._reward_scale = RewardScale(discount=discount)
        self._descent = Descent(
            params,
            lr=outer_lr,
            max_norm=max_grad_norm,
            epsilon=adam_epsilon,
            clip=clipped_as_torch,
        )
        self._rate = FollowedRate(
            self._descent, max_lr=outer_lr, kl_target=kl_target, half_life=outer_lr_half_life
        )

    def update(self, trials: Trials, inputs: Tensor) -> dict[str, Tensor]:
        """The steps of one iteration. Args: inputs: [T + 1, B, I], the last row for the value after
        a trial.

        Returns: metrics [], float64.
        """
        batch = self.batch(trials, inputs)
        if self._mixes_steps:
            batch = batch.apart()
        parts = self._parts(batch.mask.shape[1])
        losses = [self.descend(batch, columns) for columns in parts]
        last = losses[-self._num_minibatches :]
        kl = _mean(x.kl for x in last)
        if len(parts) == 1 and self._rate.follows_kl:  # Before the only step there was none.
            with torch.no_grad():
                kl = self._total(self._own_losses(batch, parts[0])).kl.double()
        self._rate.follow(kl)
        self._entropy_coefficient *= self._entropy_decay
        return {
            "loss": _mean(x.policy for x in last),
            "value_loss": _mean(x.value for x in last),
            "entropy": _mean(x.entropy for x in last),
            "kl": kl,
            "outer_lr": self._descent.lr,
        }

    @torch.no_grad()
    def batch(self, trials: Trials, inputs: Tensor) -> PolicyTrials:
        agent = self._agent
        if self._reward_scale is not None:
            trials = replace(trials, reward=self._reward_scale(trials.reward, trials.mask))
        value = agent.returns.inverse(agent.evaluate(inputs)[1])
        factors = {"discount": self._discount, "gae_lambda": self._gae_lambda}
        advantage = trial_advantages(trials, value, **factors)
        returns, mask = advantage + value[:-1], trials.learnable
        learnt = returns[mask]
        if not len(learnt):
            raise NothingLearnable(ALL_DIVERGED)
        before, target = value[:-1], returns
        if self._reward_scale is None:
            agent.rescale_returns(learnt[:, None])
            before, target = (agent.returns(x[..., None]).squeeze(-1) for x in (before, target))
        return PolicyTrials(
            inputs=inputs[:-1],
            action=trials.action,
            log_prob=trials.log_prob,
            mask=mask,
            advantage=normalise(advantage.flatten(), mask.flatten()).reshape(advantage.shape),
            old_value=before,
            target=target,
        )

    def losses(self, batch: PolicyTrials) -> Losses:
        outputs, value = self._agent.evaluate(batch.inputs)
        policy, mask = self._agent.policy, batch.mask.flatten()
        advantage, old = batch.advantage.flatten(), batch.log_prob.flatten()
        log_prob = policy.log_prob(outputs, batch.action).flatten()
        moved = log_ratio(log_prob, old, mask)
        return Losses(
            policy=ppo_clip(log_prob, old, advantage, mask, clip=self._clip),
            value=masked_mean(self._value_errors(value, batch).flatten(), mask),
            entropy=masked_mean(policy.entropy(outputs).flatten(), mask),
            # E[ρ − 1 − log ρ]: the KL from the policy that acted, always positive (Schulman 2020).
            kl=masked_mean(moved.exp() - 1 - moved, mask).detach(),
        )

    def _value_errors(self, value: Tensor, batch: PolicyTrials) -> Tensor:
        """[T, B], of the values [T, B] of now."""
        if self._value_loss == "squared":
            return 0.5 * (value - batch.target).square()
        return clipped_huber(value, batch.target, batch.old_value, clip=self._clip)

    def _parts(self, num: int) -> list[Tensor]:
        """The numbers of the trials (or steps), shuffled anew for every epoch."""
        return [
            part
            for _ in range(self._num_epochs)
            for part in torch.randperm(
                num, generator=self._streams.policy.alone, device=self._device
            ).tensor_split(min(self._num_minibatches, num))  # Early falls leave few steps.
        ]

    def descend(self, batch: PolicyTrials, columns: Tensor) -> Losses:
        """One Adam step on the trials of these numbers."""
        losses = self._own_losses(batch, columns)
        loss = losses.policy + self._value_coefficient * losses.value
        self._descent.down(loss - self._entropy_coefficient * losses.entropy, self._streams.ranks)
        return self._total(losses)

    def _own_losses(self, batch: PolicyTrials, columns: Tensor) -> Losses:
        """The losses on the trials of these numbers; of several processes each takes some, and has
        their part of the means."""
        ranks = self._streams.ranks
        own = take_trials(batch, columns.tensor_split(ranks.num)[ranks.rank])
        losses = self.losses(own)
        if ranks.num == 1:
            return losses
        # Means over all steps are those over the own ones times their share.
        share = own.mask.sum() / batch.mask[:, columns].sum().clamp(min=1)
        return Losses(**{name: share * mean for name, mean in vars(losses).items()})

    def _total(self, own: Losses) -> Losses:
        """The losses over all processes."""
        parts = {name: part.detach() for name, part in vars(own).items()}
        return Losses(**self._streams.ranks.total(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what its state may hold."""
        scale = () if self._reward_scale is None else ("reward_scale",)
        return (*APART, "entropy_coefficient", *self._rate.state_dict(), *scale)

    def state_dict(self) -> dict[str, Any]:
        state = self._descent.state_dict() | {"entropy_coefficient": self._entropy_coefficient}
        state |= self._rate.state_dict()
        if self._reward_scale is not None:
            state["reward_scale"] = self._reward_scale.state_dict()
        return state

    def check(self, found: Mapping[str, Any], name: str = "") -> None:
        """Raises: ValueError naming what doesn't fit, with `name` before it."""
        like = self.state_dict() | {"entropy_coefficient": 0.0}
        saved.check(found, like, name, apart=APART)
        self._descent.check(found, name)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises: ValueError naming what doesn't fit."""
        self.check(state)
        self._descent.load_state_dict(state)
        self._entropy_coefficient = state["entropy_coefficient"]
        self._rate.load_state_dict(state)
        if self._reward_scale is not None:
            self._reward_scale.load_state_dict(state["reward_scale"])


def _mean(values: Iterable[Tensor]) -> Tensor:
    """[] in float64, as rates and their targets are."""
    return torch.stack(list(values)).mean().detach().double()
