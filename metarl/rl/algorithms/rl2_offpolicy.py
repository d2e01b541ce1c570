"""RL² off-policy: soft actor-critic on whole trials from a replay, by an actor and critics with a
memory each.

Sources: Ni et al. 2022 (arXiv:2110.05038); Duan et al. 2016 (arXiv:1611.02779) for trials; Haarnoja
  et al. 2018 (arXiv:1812.05905) for the losses and the temperature.
"""

import math
from collections.abc import Generator, Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts, check_positive, check_unit_interval
from metarl.core.chunks import ChunkSums, TaskMeans, mean_over_chunks, take
from metarl.core.descent import Descent
from metarl.errors import SettingError, misfit
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Question,
    Setting,
    Source,
    check_remembers,
    rollout_metrics,
    trial_sizes,
)
from metarl.rl.data.replay import Replay, Steps
from metarl.rl.models.recurrent_actor_critic import RecurrentActor, RecurrentActorCritic
from metarl.rl.soft_actor_critic import bellman_error, bellman_target, follow, soft_value
from metarl.rl.types import RLAdapter
from metarl.struct import struct
from metarl.types import Params, as_metrics


@struct
class Batch:
    """n whole trials of up to T steps, and the noise of the actions that are drawn at them."""

    steps: Steps  # [n, T]
    noise: Tensor  # [n, T + 1, A]
    weight: Tensor  # [n, T] of each step in the mean over all of them; 0 on padding


class RL2OffPolicy(GatheringLearner):
    """One iteration: play a trial of K episodes on each of N tasks, then take
    `updates_per_iteration` steps on trials drawn from all that are kept,

        critics:  E[Σᵢ (Qᵢ(hₜ, oₜ, aₜ) − rₜ − γ (min Q'(h'ₜ₊₁, oₜ₊₁, a') − α log π(a')))²],  a' ~ π
        actor:    E[α log π(a | hₜ, oₜ) − min Q(hₜ, oₜ, a)],  a ~ π
        α:        log α moves against α (−log π − H̄), where H̄ is the entropy that is wanted

    The memories' states are computed from each trial's first step with the present parameters, the
    critics' from the same inputs as the actor's. Inside a trial the end of an episode is a step as
    any other: what an early episode finds out is paid for by later ones. A trial's end by the time
    limit is bootstrapped with the true successor, as if the episode went on. Trials whose beginning
    had to make room aren't drawn.

    How we differ from the authors' code: each memory takes its input as it is, without a layer for
    every part of it; after an episode inside a trial the agent sees how the next one begins, where
    theirs acts once more on the last observation, in a world that has been reset.

    Args: see configs/algo/rl2_offpolicy.yaml.
    Raises: SettingError, naming it, for a number out of range or a model of another kind.
    """

    sizes = staticmethod(trial_sizes)

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        trials_per_task: int,
        episodes_per_trial: int,
        initial_trials: int,
        replay_capacity: int,
        updates_per_iteration: int,
        batch_size: int,
        lr: float,
        discount: float,
        target_rate: float,
        chunk: int,
        target_entropy: float | None = None,
        temperature: float | None = None,
        temperature_lr: float | None = None,
    ) -> None:
        check_counts(
            {"updates_per_iteration": updates_per_iteration, "initial_trials": initial_trials}
        )
        check_counts({"batch_size": batch_size, "chunk": chunk})
        check_positive({"lr": lr, "target_rate": target_rate})
        check_positive({"temperature": temperature, "temperature_lr": temperature_lr})
        check_unit_interval({"discount": discount, "target_rate": target_rate})
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            trials_per_task=trials_per_task,
            episodes_per_trial=episodes_per_trial,
        )
        if not isinstance(setting.model, RecurrentActorCritic):
            raise misfit(setting.model, RecurrentActorCritic, "recurrent_actor_critic")
        model = self._model = setting.model
        self._trial_steps = episodes_per_trial * setting.env.spec.horizon
        most = self._trial_steps * sizes.num_worlds
        if replay_capacity < most:
            raise SettingError(
                f"replay_capacity {replay_capacity}: expected {most} or more, the steps that an "
                "iteration's trials may have"
            )
        for memory in (model.actor.memory, model.critics.memory):
            check_remembers(memory, self._trial_steps)
        self.source = Source.of(setting, sizes)
        self._streams = setting.streams
        self._device = setting.device
        self._initial_trials = initial_trials
        self._has_begun = False
        self._updates_per_iteration = updates_per_iteration
        self._batch_size = batch_size
        self._discount = discount
        self._target_rate = target_rate
        self._learns_temperature = temperature is None
        if temperature is not None:
            model.log_temperature.data.fill_(math.log(temperature))
        self._target_entropy = _target_entropy(target_entropy, model.actor.actions.size)
        self._chunk = chunk
        self._replay = self.experience = Replay(
            num_tasks=1,  # Trials stand for themselves, whichever task they are of.
            capacity=replay_capacity,
            obs_size=setting.env.observation_space.shape[0],
            action_space=setting.env.action_space,
            device=setting.device,
        )
        self._critic_params: Params = dict(model.critics.named_parameters())
        self._actor_params: Params = dict(model.actor.named_parameters())
        self._descents = {
            "critics": Descent(self._critic_params, lr=lr, fused=True),
            "actor": Descent(self._actor_params, lr=lr, fused=True),
            "temperature": Descent(
                {"log_temperature": model.log_temperature},
                lr=lr if temperature_lr is None else temperature_lr,
            ),
        }

    def adapter(self) -> MemoryAdapter:
        return MemoryAdapter(self._model.actor)

    def iteration(self) -> Iteration:
        first_steps = yield from self._begin()
        metrics = yield from self._gather(self.adapter())
        metrics["env_steps"] += first_steps
        losses = [self.update(self.batch()) for _ in range(self._updates_per_iteration)]
        means = {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}
        return metrics | as_metrics(means)

    def _begin(self) -> Generator[RLAdapter[Any] | Question, Any, float]:
        """Prepares the first iteration: plays at least `initial_trials` by random actions. Returns
        how many steps that took."""
        num_steps, num_trials = 0.0, 0
        while not self._has_begun and num_trials < self._initial_trials:
            at_random = UniformActions(self.source.env.action_space)
            num_steps += (yield from self._gather(at_random))["env_steps"]
            num_trials += self.source.sizes.num_worlds
        self._has_begun = True
        return num_steps

    def _gather(self, adapter: RLAdapter[Any]) -> Iteration:
        rollouts = yield adapter
        rollouts = self.source.ranks.whole(rollouts)  # Every process keeps and learns from all.
        ids = torch.zeros(self.source.sizes.num_tasks, dtype=torch.int64)
        self._replay.add(ids, *rollouts.support, rollouts.query)
        return rollout_metrics(rollouts)

    def batch(self) -> Batch:
        """Draws what the next update learns from."""
        ids, noise = torch.zeros(self._batch_size, dtype=torch.int64), self._streams.policy.whole
        steps = self._replay.sequences(ids, self._trial_steps, noise).until_the_longest()
        shape = (self._batch_size, steps.mask.shape[1] + 1, self._model.actor.actions.size)
        return batch_of(steps, noise.normal(*shape))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a step of the critics, then one of the actor, which the new critics judge, and one
        of the temperature. Returns the losses [] before them."""
        model = self._model
        found = self.critic_gradient(batch)
        self._descents["critics"].against(found.gradient)
        judged = self.actor_gradient(batch)
        self._descents["actor"].against(judged.gradient)
        follow(
            dict(model.target_critics.named_parameters()), self._critic_params, self._target_rate
        )
        temperature = model.log_temperature.detach().exp()
        if self._learns_temperature:
            surplus = judged.numbers["entropy"].to(temperature) - self._target_entropy
            self._descents["temperature"].against({"log_temperature": temperature * surplus})
        return found.numbers | judged.numbers | {"temperature": temperature}

    def critic_gradient(self, batch: Batch) -> TaskMeans:
        """The gradient of the critics' loss by their parameters."""
        model = self._model
        temperature = model.log_temperature.detach().exp()

        def of_chunk(trials: slice) -> ChunkSums:
            part = take(batch, trials)
            obs, inputs = sequences(model.actor, part.steps)
            unit = model.actor.actions.to_unit(part.steps.action).transpose(0, 1)
            with torch.no_grad():
                outputs = model.actor.policy(model.actor.memory.sequence(inputs))
                action, log_prob = model.actor.policy.policy.sample(
                    outputs, part.noise.transpose(0, 1)
                )
                value = soft_value(model.target_critics(inputs, obs, action), log_prob, temperature)
                target = bellman_target(
                    part.steps.reward.T,
                    last_terminated(part.steps).T,
                    value[1:],
                    discount=self._discount,
                )
            q = model.critics(inputs[:-1], obs[:-1], unit)
            error = (bellman_error(q, target).T * part.weight).sum(-1)
            return ChunkSums(
                gradient=P.gradient(error.sum(), self._critic_params),
                numbers={"critic_loss": error.detach().sum()},
            )

        return mean_over_chunks(of_chunk, len(batch.weight), self._chunk, self._device)

    def actor_gradient(self, batch: Batch) -> TaskMeans:
        """The gradient of the actor's loss by its parameters."""
        model = self._model
        temperature = model.log_temperature.detach().exp()

        def of_chunk(trials: slice) -> ChunkSums:
            part = take(batch, trials)
            obs, inputs = (x[:-1] for x in sequences(model.actor, part.steps))
            outputs = model.actor.policy(model.actor.memory.sequence(inputs))
            action, log_prob = model.actor.policy.policy.sample(
                outputs, part.noise[:, :-1].transpose(0, 1)
            )
            with torch.no_grad():
                remembered = model.critics.memory.sequence(inputs)
            worth = soft_value(model.critics.judge(remembered, obs, action), log_prob, temperature)
            loss, entropy = (-(x.T * part.weight).sum(-1) for x in (worth, log_prob))
            return ChunkSums(
                gradient=P.gradient(loss.sum(), self._actor_params),
                numbers={"policy_loss": loss.detach().sum(), "entropy": entropy.detach().sum()},
            )

        return mean_over_chunks(of_chunk, len(batch.weight), self._chunk, self._device)

    def state_dict(self) -> dict[str, Any]:
        descents = {name: descent.state_dict() for name, descent in self._descents.items()}
        return {"model": self._model.state_dict(), "has_begun": self._has_begun, **descents}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.load_parts(state, self.state_dict(), {"model": self._model, **self._descents})
        self._has_begun = state["has_begun"]


def _target_entropy(value: float | None, num_actions: int) -> float:
    if value is None:
        return -float(num_actions)
    most = num_actions * math.log(2)
    if not -math.inf < value < most:
        raise SettingError(
            f"target_entropy {value}: expected less than {most:.3g} nats, which uniform actions have"
        )
    return value


def batch_of(steps: Steps, noise: Tensor) -> Batch:
    """Steps [n, T] of whole trials with their noise; each real step counts as much in the mean."""
    num = steps.mask.sum()
    return Batch(steps=steps, noise=noise, weight=steps.mask * (len(steps.mask) / num))


def last_terminated(steps: Steps) -> Tensor:
    """[n, T] bool: the trial failed here. Episodes before the last one of a trial don't end it."""
    following = torch.cat([steps.mask[:, 1:], torch.zeros_like(steps.mask[:, :1])], dim=1)
    return steps.terminated & ~following


def sequences(actor: RecurrentActor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Observations [T + 1, n, O] and what the memories take in [T + 1, n, I], of whole trials [n,
    T]: an episode's first step follows the last one of the episode before. After a trial's last
    step comes its true successor, which doesn't say that the episode has ended: within a trial such
    a step shows how the next one begins, and the critics never learn what this one would be worth.
    """
    rows, length = torch.arange(len(steps.mask), device=steps.mask.device), steps.mask.sum(1)
    obs = torch.cat([steps.obs, torch.zeros_like(steps.obs[:, :1])], dim=1)
    obs[rows, length] = steps.next_obs[rows, length - 1]
    ended = torch.cat([steps.first[:, 1:], torch.zeros_like(steps.first[:, :1])], dim=1)
    feedback = actor.feedback(steps.obs, steps.action, steps.reward, ended, ended)
    before = torch.cat([torch.zeros_like(feedback[:, :1]), feedback], dim=1)
    return obs.transpose(0, 1), actor.inputs(obs, before).transpose(0, 1)
