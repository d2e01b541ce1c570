"""VariBAD: an agent that knows what it believes of its task, and explores where the belief pays to
be better.

An encoder makes a belief of the steps of a trial so far, N(μ, σ²) over a few numbers that stand for
the task. It learns with decoders to tell what all of a trial was like from any part of it. The
policy sees the observation and the belief, and learns by PPO. The two losses share nothing.

Source: Zintgraf et al. 2020 (arXiv:1910.08348; lmzintgraf/varibad). How we differ, and which faults
of the published code ours doesn't have: docs/task_inference.md.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import saved
from metarl.core.checks import check_counts, check_not_negative, check_positive
from metarl.core.descent import Descent, clipped_as_torch
from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.adapters.belief import BeliefAdapter
from metarl.rl.algorithms.ppo import PPO
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    rollout_metrics,
    trial_sizes,
)
from metarl.rl.data.replay import Replay, Steps
from metarl.rl.data.trials import Trials, join_episodes, trial_steps
from metarl.rl.elbo import Terms, all_terms, divergence_chain, drawn_terms, reconstruction, taken
from metarl.rl.models.belief import BeliefModel
from metarl.struct import map_tensors, struct
from metarl.types import Params, as_metrics


class VariBAD(GatheringLearner):
    """One iteration: sample N tasks, play M trials of K episodes on each, take PPO's steps on
    (observation, belief) with the beliefs as they were while acting, and then steps of the encoder
    and the decoders on trials of the replay.

    Args: see configs/algo/varibad.yaml, which also says where each number comes from.
      inference: numbers of `Inference`.
      ppo: numbers of `metarl.rl.algorithms.ppo.PPO`.
    Raises: ValueError, naming it, for a number out of range, a model without a belief, or a replay
      that hasn't room for the steps of an iteration.
    """

    sizes = staticmethod(trial_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        trials_per_task: int,
        episodes_per_trial: int,
        replay_capacity: int,
        inference: Mapping[str, Any],
        **ppo: Any,
    ) -> None:
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            trials_per_task=trials_per_task,
            episodes_per_trial=episodes_per_trial,
        )
        self._model = with_belief(setting.model)
        self.source = Source.of(setting, sizes)
        heads, trial = self._model.heads, episodes_per_trial * setting.env.spec.horizon
        self._ppo = PPO(
            heads,
            dict(heads.named_parameters()),
            num_trials=sizes.num_worlds,
            mixed_steps=trial,
            streams=setting.streams,
            device=setting.device,
            **ppo,
        )
        if replay_capacity < trial * sizes.num_worlds:
            raise SettingError(
                f"replay_capacity {replay_capacity}: expected {trial * sizes.num_worlds} or more, "
                "the steps of an iteration"
            )
        self.experience = self._replay = Replay(
            num_tasks=1,
            capacity=replay_capacity,
            obs_size=heads.observations.mean.numel(),
            action_space=setting.env.action_space,
            device=setting.device,
        )
        self.inference = Inference(self._model, longest=trial, **inference)
        self._noise = setting.streams.policy.whole

    def adapter(self) -> BeliefAdapter:
        return BeliefAdapter(self._model)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        rollouts = self.source.ranks.whole(rollouts)  # Every process keeps and learns from all.
        episodes = (*rollouts.support, rollouts.query)
        self._replay.add(torch.zeros(self.source.sizes.num_tasks, dtype=torch.int64), *episodes)
        found = self._improve(join_episodes(episodes), trial_steps(episodes))
        inferred = self.inference.update(self._replay, self._noise)
        return {**rollout_metrics(rollouts), **as_metrics({**found, **inferred})}

    def _improve(self, trials: Trials, steps: Steps) -> dict[str, Tensor]:
        """PPO's steps. The statistics of observations and beliefs follow after, because the
        log-probabilities of the actions belong to inputs normalised as they were while acting."""
        heads = self._model.heads
        with torch.no_grad():
            belief = map_tensors(lambda x: x.transpose(0, 1), self._model.beliefs(steps))
            inputs = heads.inputs(trials.obs, belief)
        found = self._ppo.update(trials, inputs)
        before = map_tensors(lambda x: x[:-1][trials.mask], belief)
        heads.take_in(trials.obs[:-1][trials.mask], before)
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "ppo": self._ppo.state_dict(),
            "inference": self.inference.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts: saved.Parts = {
            "model": self._model,
            "ppo": self._ppo,
            "inference": self.inference,
        }
        saved.load_parts(state, self.state_dict(), parts)


@struct
class Elbo:
    """The evidence bound of B trials: the loss, and what is reported beside it."""

    loss: Tensor  # [] to be minimised: the mean over trials
    errors: dict[str, Tensor]  # [] each: the mean error of a prediction, by decoder
    divergence: Tensor  # [] in nats: the sum of a trial's divergences, the mean over trials


class Inference:
    """Takes `num_gradient_steps` steps of Adam in an iteration, each on `batch_size` trials of the
    replay, on the mean over trials of

        Σ_{t = 0…H} [ Σ_{k = 1…H} error(z_t, step k)  +  w KL(q_t ‖ q_{t−1}) ],     z_t ~ q_t

    with q_t the belief after t of the trial's H steps, and q₋₁ = N(0, I). Every belief has to tell
    all steps, past and future, so that before anything is known it has to hold what may come. Each
    belief should say no more than the one before unless that pays.

    Of the double sum `num_beliefs` × `num_decoded` terms are drawn, which estimate it without bias,
    so that the weight w means the same whatever is drawn. Trials may have any lengths: each counts
    by its own.

    Args:
      kl_weight_executed: w, beside errors that are sums over the trial.
      num_beliefs, num_decoded: drawn from a trial; None: all of them.
      truncation: steps after which the gradient stops on its way back through the encoder; None: it
        goes to the first step.
      max_grad_norm: of the encoder's gradient, and of each decoder's; None: any.
      halve_every: gradient steps after which Adam's rate is halved, again and again; None: never.
      longest: the most steps that a trial can have.
    Raises: ValueError, naming it, for a number out of range.
    """

    def __init__(
        self,
        model: BeliefModel,
        *,
        longest: int,
        lr: float,
        num_gradient_steps: int,
        batch_size: int,
        kl_weight_executed: float,
        num_beliefs: int | None,
        num_decoded: int | None,
        truncation: int | None,
        max_grad_norm: float | None,
        halve_every: int | None = None,
    ) -> None:
        check_positive({"inference.lr": lr, "inference.max_grad_norm": max_grad_norm})
        check_counts({"num_gradient_steps": num_gradient_steps, "batch_size": batch_size})
        check_counts({"num_beliefs": num_beliefs, "num_decoded": num_decoded})
        check_counts({"truncation": truncation})
        check_not_negative({"kl_weight_executed": kl_weight_executed})
        self._model = model
        self._longest = longest
        self._num_gradient_steps = num_gradient_steps
        self._batch_size = batch_size
        self._kl_weight = kl_weight_executed
        self._truncation = truncation
        self._num_beliefs = num_beliefs
        self._num_decoded = num_decoded
        parameters = model.inference_parameters()
        self._descent = Descent(
            parameters,
            lr=lr,
            max_norm=max_grad_norm,
            clip=_clipped_by_part,
            halve_every=halve_every,
        )

    def update(self, replay: Replay, noise: Noise) -> dict[str, Tensor]:
        """The steps of one iteration. Returns: metrics [], their means."""
        found = []
        for _ in range(self._num_gradient_steps):
            ids = torch.zeros(self._batch_size, dtype=torch.int64)
            steps = replay.sequences(ids, self._longest, noise).until_the_longest()
            found.append(_named(self.descend(steps, noise)))
        return {name: torch.stack([row[name] for row in found]).mean() for name in found[0]}

    def descend(self, steps: Steps, noise: Noise) -> Elbo:
        """Takes one step on trials [B, T, ...]."""
        elbo = self.elbo(steps, noise)
        self._descent.down(elbo.loss)
        return elbo

    def elbo(self, steps: Steps, noise: Noise) -> Elbo:
        """Computes the bound of trials [B, T, ...], padded at their ends."""
        model, lengths = self._model, steps.mask.sum(1)
        beliefs = model.beliefs(steps, truncation=self._truncation)
        standard = noise.normal(*beliefs.mean.shape, dtype=beliefs.mean.dtype)
        samples = _terms(lengths + 1, self._num_beliefs, noise)
        decoded = _terms(lengths, self._num_decoded, noise)
        latent = taken(beliefs.at(standard), samples)
        errors = model.errors(latent, map_tensors(lambda leaf: taken(leaf, decoded), steps))
        sums = {name: reconstruction(x, samples, decoded) for name, x in errors.items()}
        divergence = divergence_chain(beliefs, lengths)
        loss = sum(sums.values(), self._kl_weight * divergence).mean()
        num_pairs = (lengths * (lengths + 1)).sum()
        return Elbo(
            loss=loss,
            errors={name: x.detach().sum() / num_pairs for name, x in sums.items()},
            divergence=divergence.detach().mean(),
        )

    def state_dict(self) -> dict[str, Any]:
        return self._descent.state_dict()

    def check(self, found: Mapping[str, Any], name: str = "") -> None:
        """Raises: ValueError naming what doesn't fit, with `name` before it."""
        self._descent.check(found, name)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._descent.load_state_dict(state)


def _clipped_by_part(gradient: Params, max_norm: float | None) -> tuple[Params, Tensor]:
    """Scales down the gradient of the encoder, and that of each decoder, to `max_norm`, so that
    none of them holds back the others. Returns also the norm [] of all of it, before."""
    parts = dict[str, Params]()
    for name, leaf in gradient.items():
        first, second, *_ = name.split(".")
        owner = second if first == "decoders" else first
        parts.setdefault(owner, {})[name] = leaf
    found = [clipped_as_torch(part, max_norm) for part in parts.values()]
    limited = {name: leaf for part, _ in found for name, leaf in part.items()}
    return limited, torch.stack([norm for _, norm in found]).norm()


def _named(elbo: Elbo) -> dict[str, Tensor]:
    """Returns the numbers under the names of metrics; `kl` is the policy's."""
    errors = {f"{name}_error": value for name, value in elbo.errors.items()}
    return {"inference_loss": elbo.loss.detach(), **errors, "belief_divergence": elbo.divergence}


def _terms(counts: Tensor, num: int | None, noise: Noise) -> Terms:
    return all_terms(counts) if num is None else drawn_terms(counts, num, noise)


def with_belief(model: nn.Module) -> BeliefModel:
    """`model` itself, if it has a belief. Raises: ValueError."""
    if not isinstance(model, BeliefModel):
        raise SettingError(
            f"model is a {type(model).__name__}; expected one with a belief: belief or belief_map"
        )
    return model
