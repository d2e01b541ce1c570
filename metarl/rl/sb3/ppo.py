"""Stable-Baselines3's PPO on whole episodes.

Source: Schulman et al. 2017 (arXiv:1707.06347), as stable_baselines3.PPO has it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metarl.core.checks import check_counts, check_not_negative, check_positive, check_unit_interval
from metarl.errors import SettingError, misfit
from metarl.nn.heads import Outputs
from metarl.noise import Noise
from metarl.rl.reward_scale import RewardScale
from metarl.rl.sb3.agents import PPOAgent
from metarl.rl.sb3.expert import MOMENTS, AgentNumbers, Draw, adam_tensors, check_data, means
from metarl.rl.sb3.library import finite, library, seeded, without_environment
from metarl.rl.types import Trajectories
from metarl.types import Metrics, Params

_LOGGED = {
    "train/policy_gradient_loss": "loss",
    "train/value_loss": "value_loss",
    "train/approx_kl": "kl",
    "train/clip_fraction": "clip_fraction",
}


class PPOExpert(AgentNumbers[PPOAgent]):
    """Meets `metarl.rl.sb3.expert.Expert`. `learn` is one rollout of PPO: the episodes fill its
    buffer one after the other, then come `num_epochs` passes over the steps.

    A time limit is bootstrapped as Stable-Baselines3 does, by adding the discounted value of the
    true last observation to the last reward. Where the agent normalises, rewards are divided as
    `metarl.rl.reward_scale.RewardScale` says.

    How we differ: a rollout ends with the last of its episodes, so none is cut in two; statistics
    of observations move after a rollout instead of after each step, so that log-probabilities are
    those of the policy that acted.

    Args: agent: whose networks it works in; others: see configs/algo/_ppo_expert.yaml.
    Raises: SettingError, naming it, for a number out of range or a model of another kind.
    """

    keeps_data = False

    def __init__(
        self,
        agent: nn.Module,
        device: torch.device,
        *,
        lr: float,
        num_epochs: int,
        batch_size: int,
        clip: float,
        value_coefficient: float,
        entropy_coefficient: float,
        max_grad_norm: float,
        discount: float,
        gae_lambda: float,
    ) -> None:
        check_counts({"num_epochs": num_epochs})
        check_positive({"lr": lr, "clip": clip})
        check_positive({"max_grad_norm": max_grad_norm})
        check_unit_interval({"discount": discount, "gae_lambda": gae_lambda})
        check_not_negative({"value_coefficient": value_coefficient})
        check_not_negative({"entropy_coefficient": entropy_coefficient})
        if batch_size < 2:
            raise SettingError(
                f"batch_size {batch_size}: expected 2 or more, as advantages are normalised in it"
            )
        if not isinstance(agent, PPOAgent):
            raise misfit(agent, PPOAgent, "sb3_ppo")
        self._device = device
        self._discount, self._gae_lambda = discount, gae_lambda
        self._ppo = without_environment(
            library().PPO,
            agent.policy,
            agent.spaces,
            device,
            learning_rate=lr,
            n_epochs=num_epochs,
            batch_size=batch_size,
            clip_range=clip,
            vf_coef=value_coefficient,
            ent_coef=entropy_coefficient,
            max_grad_norm=max_grad_norm,
            gamma=discount,
            gae_lambda=gae_lambda,
        )
        self._scale: RewardScale | None = None
        if agent.observations is not None:
            self._scale = RewardScale(discount=discount)
        moments = adam_tensors(dict(agent.policy.named_parameters()), agent.policy.optimizer)
        rewards = {} if self._scale is None else dict(self._scale.named_buffers())
        super().__init__(agent, {"rewards": rewards, MOMENTS: moments})

    def act(self, outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        return self._agent.head.act(outputs, noise)

    def log_prob(self, outputs: Outputs, action: Tensor) -> Tensor | None:
        return self._agent.head.log_prob(outputs, action)

    def learn(
        self, numbers: Params, data: Trajectories, draw: Draw | None, noise: Noise | None
    ) -> tuple[Params, Metrics]:
        check_data(data)
        self._put(numbers)
        with finite(), seeded(noise, self._device):
            self._ppo.rollout_buffer = self._buffer(data)
            self._ppo.train()
        if self._agent.observations is not None:
            self._agent.observations.update(data.step_obs[data.mask])
        metrics = means(self._ppo.logger.name_to_value, _LOGGED)
        return self._copied(), metrics

    @torch.no_grad()
    def _buffer(self, data: Trajectories) -> Any:
        """The rollout as Stable-Baselines3 keeps it, of one environment: the episodes one after
        the other. One whose physics blew up is cut before that step."""
        from stable_baselines3.common.buffers import RolloutBuffer

        mask, policy = data.learnable, self._agent.policy
        obs = self._agent.normalised(data.step_obs[mask])
        cut = ((data.truncated & ~data.terminated) | data.blows_up_next)[mask]
        reward = self._rewards(data)[mask]
        after = policy.predict_values(self._agent.normalised(data.next_obs[mask][cut]))
        reward[cut] += self._discount * after.flatten()
        buffer = RolloutBuffer(
            len(obs),
            *self._agent.spaces,
            self._device,
            gamma=self._discount,
            gae_lambda=self._gae_lambda,
        )
        filled = {
            "observations": obs,
            "actions": data.action[mask].reshape(len(obs), -1),
            "rewards": reward,
            "episode_starts": data.first[mask],
            "values": policy.predict_values(obs).flatten(),
            "log_probs": data.log_prob[mask],
        }
        for name, leaf in filled.items():
            getattr(buffer, name)[:, 0] = leaf.cpu().numpy()
        buffer.pos, buffer.full = len(obs), True
        # Its last step ends an episode, so nothing follows.
        buffer.compute_returns_and_advantage(torch.zeros(1), np.ones(1))
        return buffer

    def _rewards(self, data: Trajectories) -> Tensor:
        """[N, E, T] a copy, scaled if the agent normalises."""
        if self._scale is None:
            return data.reward.clone()
        rows, mask = (leaf.flatten(0, 1).T for leaf in (data.reward, data.mask))
        return self._scale(rows, mask).T.reshape(data.reward.shape)
