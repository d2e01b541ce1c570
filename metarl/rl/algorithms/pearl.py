"""PEARL: an encoder infers the task from some of its steps, and soft actor-critic learns off-policy
what to do about it.

Sources: Rakelly et al. 2019 (arXiv:1903.08254); Haarnoja et al. 2018 (arXiv:1801.01290) for the
  actor and its critics. The settings are those that the authors' code (katerakelly/oyster) runs
  with.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts, check_not_negative, check_positive, check_unit_interval
from metarl.core.chunks import ChunkSums, TaskMeans, mean_over_chunks, take
from metarl.core.descent import Descent
from metarl.errors import misfit
from metarl.rl.adapters.posterior import PosteriorAdapter
from metarl.rl.algorithms.pearl_play import Play
from metarl.rl.algorithms.shared import Setting, rollout_metrics
from metarl.rl.data.replay import Steps
from metarl.rl.models.pearl import PearlModel
from metarl.rl.soft_actor_critic import bellman_error, bellman_target, follow, soft_value
from metarl.rl.types import Sizes
from metarl.struct import struct
from metarl.types import MetaLearner, Metrics, as_metrics


@struct
class Batch:
    """What an update learns from: n training tasks, each with a context of C steps and B others."""

    context: Steps  # [n, C]
    steps: Steps  # [n, B]
    z_noise: Tensor  # [n, L]
    action_noise: Tensor  # [n, B, A]


class Pearl(MetaLearner):
    """One iteration: play a few of the training tasks, under guesses z of the task from the prior
    and then from the posterior; then take `updates_per_iteration` steps, on tasks and steps drawn
    from all that was ever played, on

        critics, encoder:  E[Σᵢ (Qᵢ(o, a, z) − c r − γ V'(o', z))²]  +  w KL(q(z | C) ‖ N(0, 1))
        policy:            E[log π(a | o, z) − minᵢ Qᵢ(o, a, z)]  +  λ (E[μ²] + E[log² σ]),  a ~ π
        value:             E[(V(o, z) − minᵢ Qᵢ(o, a, z) + log π(a | o, z))²]

    with z ~ q(z | C), one for each task of an update, given a context C. The encoder learns from
    the critics and the KL alone: for policy and value z is a constant. V' follows V slowly. There
    is no temperature: what entropy is worth is said by c, the reward's scale. Before the first
    iteration every training task is played under the prior.

    The context of a task is what was played last on it, and few tasks are played: with 5 of 100 in
    an iteration most contexts are of policies of long ago.

    w is `kl_weight_executed`, the weight that the authors' code applies: it sums the KL over the
    tasks of an update but averages the critics' loss, so its λ counts as many times as there are
    tasks.

    How we differ from that code: log π is right where tanh is flat; z is of the posterior from the
    first episode after those of the prior on, not from the second; a task comes once into an
    iteration, where it could come twice and lose its context.

    Args: see configs/algo/pearl.yaml.
    Raises: SettingError, naming it, for a number out of range or a model of another kind.
    """

    @staticmethod
    def sizes(*, meta_batch_size: int, evaluated_episodes: int, **others: Any) -> Sizes:
        """Update k is episode k of a trial. Raises: SettingError for zero tasks or episodes."""
        check_counts({"meta_batch_size": meta_batch_size, "evaluated_episodes": evaluated_episodes})
        return Sizes(
            num_tasks=meta_batch_size,
            episodes_per_task=1,
            num_updates=evaluated_episodes - 1,
            evaluated_updates=evaluated_episodes - 1,
            unit="episode",
        )

    def __init__(
        self,
        *,
        setting: Setting,
        meta_batch_size: int,
        updates_per_iteration: int,
        batch_tasks: int,
        batch_size: int,
        kl_weight_executed: float,
        lr: float,
        discount: float,
        reward_scale: float,
        target_rate: float,
        output_penalty: float,
        exploration_episodes: int,
        evaluated_episodes: int,
        evaluated_context: int | None,
        chunk: int,
        **play: Any,
    ) -> None:
        """Args: play: the numbers of `Play`."""
        self.sizes(meta_batch_size=meta_batch_size, evaluated_episodes=evaluated_episodes)
        check_counts({"updates_per_iteration": updates_per_iteration, "batch_tasks": batch_tasks})
        check_counts({"batch_size": batch_size, "exploration_episodes": exploration_episodes})
        check_counts({"evaluated_context": evaluated_context, "chunk": chunk})
        check_positive({"lr": lr, "reward_scale": reward_scale, "target_rate": target_rate})
        check_unit_interval({"discount": discount, "target_rate": target_rate})
        check_not_negative(
            {"kl_weight_executed": kl_weight_executed, "output_penalty": output_penalty}
        )
        if not isinstance(setting.model, PearlModel):
            raise misfit(setting.model, PearlModel, "pearl")
        model = self._model = setting.model
        self._play = Play(model, setting, num_tasks=meta_batch_size, **play)
        self.experience = self._play.replay
        self._streams = setting.streams
        self._device = setting.device
        self._updates_per_iteration = updates_per_iteration
        self._batch_tasks = batch_tasks
        self._batch_size = batch_size
        self._kl_weight_executed = kl_weight_executed
        self._discount = discount
        self._reward_scale = reward_scale
        self._target_rate = target_rate
        self._output_penalty = output_penalty
        self._exploration_episodes = exploration_episodes
        self._evaluated_context = evaluated_context
        self._chunk = chunk
        self._critic_params = P.named(critics=model.critics, encoder=model.encoder)
        self._actor_params = P.named(policy=model.policy, value=model.value)
        self._critic_descent = Descent(self._critic_params, lr=lr, fused=True)
        self._actor_descent = Descent(self._actor_params, lr=lr, fused=True)

    def check_trainable(self) -> None:
        self._play.check()

    def adapter(self) -> PosteriorAdapter:
        return PosteriorAdapter(
            self._model,
            exploration_episodes=self._exploration_episodes,
            context_size=self._evaluated_context,
            is_watched=True,
        )

    def step(self) -> Metrics:
        first_steps = self._play.begin()
        metrics = rollout_metrics(self._play.gather())
        metrics["env_steps"] += first_steps
        losses = [self.update(self.batch()) for _ in range(self._updates_per_iteration)]
        means = {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}
        return metrics | as_metrics(means)

    def batch(self) -> Batch:
        """Draws what the next update learns from."""
        noise, shape = self._streams.policy, (self._batch_tasks, self._batch_size)
        ids = torch.randint(self._play.num_train, shape[:1], generator=self._streams.tasks)
        return Batch(
            context=self._play.context(ids),
            steps=self._play.kept.transitions(ids, self._batch_size, noise),
            z_noise=noise.normal(self._batch_tasks, self._model.latent_size),
            action_noise=noise.normal(*shape, self._model.actions.size),
        )

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a step of critics and encoder, then one of policy and value, which the new critics
        judge. Returns the losses [] before them."""
        inferred = self.critic_gradient(batch)
        self._critic_descent.against(inferred.gradient)
        judged = self.actor_gradient(batch, inferred.each)
        self._actor_descent.against(judged.gradient)
        target, value = self._model.target_value, self._model.value
        follow(dict(target.named_parameters()), dict(value.named_parameters()), self._target_rate)
        return inferred.numbers | judged.numbers

    def critic_gradient(self, batch: Batch) -> TaskMeans:
        """The gradient of the first loss by the parameters of critics and encoder. `each` is z [n,
        L]."""
        model = self._model

        def of_chunk(tasks: slice) -> ChunkSums:
            part = take(batch, tasks)
            steps, posterior = part.steps, self._play.posterior(part.context)
            z = posterior.at(part.z_noise)
            beside = _beside(z, steps)
            with torch.no_grad():
                reward = self._reward_scale * (steps.reward if steps.cost is None else -steps.cost)
                following = model.target_v(steps.next_obs, beside)
                target = bellman_target(
                    reward, steps.terminated, following, discount=self._discount
                )
            q = model.q(steps.obs, model.actions.to_unit(steps.action), beside)
            error, kl = bellman_error(q, target).mean(-1), posterior.kl_to_standard()
            numbers = {
                "critic_loss": error,
                "kl": kl,
                "z_deviation": posterior.variance.sqrt().mean(-1),
            }
            return ChunkSums(
                gradient=P.gradient(
                    (error + self._kl_weight_executed * kl).sum(), self._critic_params
                ),
                numbers={name: x.detach().sum() for name, x in numbers.items()},
                each=z.detach(),
            )

        return mean_over_chunks(of_chunk, len(batch.z_noise), self._chunk, self._device)

    def actor_gradient(self, batch: Batch, z: Tensor) -> TaskMeans:
        """The gradient of the losses of policy and value by the parameters of both, for z [n,
        L]."""
        model = self._model
        critics = P.detached(dict(model.critics.named_parameters()))

        def of_chunk(tasks: slice) -> ChunkSums:
            part = take(batch, tasks)
            obs, beside = part.steps.obs, _beside(z[tasks], part.steps)
            outputs = model.outputs(obs, beside)
            action, log_prob = model.policy.sample(outputs, part.action_noise)
            worth = soft_value(model.q(obs, action, beside, critics), log_prob)
            of_policy = -worth.mean(-1)
            penalty = sum(outputs[name].square().mean((-2, -1)) for name in ("mean", "log_std"))
            of_value = (model.v(obs, beside) - worth.detach()).square().mean(-1)
            numbers = {
                "policy_loss": of_policy,
                "value_loss": of_value,
                "entropy": -log_prob.mean(-1),
            }
            total = of_policy + self._output_penalty * penalty + of_value
            return ChunkSums(
                gradient=P.gradient(total.sum(), self._actor_params),
                numbers={name: x.detach().sum() for name, x in numbers.items()},
            )

        return mean_over_chunks(of_chunk, len(batch.z_noise), self._chunk, self._device)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "has_begun": self._play.has_begun,
            "critics": self._critic_descent.state_dict(),
            "actor": self._actor_descent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts: saved.Parts = {
            "model": self._model,
            "critics": self._critic_descent,
            "actor": self._actor_descent,
        }
        saved.load_parts(state, self.state_dict(), parts)
        self._play.has_begun = state["has_begun"]


def _beside(z: Tensor, steps: Steps) -> Tensor:
    """Each task's z [n, L] for all of its steps, [n, B, L]."""
    return z.unsqueeze(1).expand(-1, steps.reward.shape[1], -1)
