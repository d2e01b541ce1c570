"""Stable-Baselines3's soft actor-critic on a replay of whole episodes.

Source: Haarnoja et al. 2018 (arXiv:1812.05905), as stable_baselines3.SAC has it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.checks import check_counts, check_positive, check_unit_interval
from metarl.errors import misfit
from metarl.nn.heads import Outputs
from metarl.noise import Noise
from metarl.rl.sb3.agents import SACAgent
from metarl.rl.sb3.expert import MOMENTS, AgentNumbers, Draw, adam_tensors, check_data, means
from metarl.rl.sb3.library import finite, library, seeded, without_environment
from metarl.rl.types import Trajectories
from metarl.types import Metrics, Params

_LOGGED = {
    "train/actor_loss": "policy_loss",
    "train/critic_loss": "critic_loss",
    "train/ent_coef": "temperature",
}


class SACExpert(AgentNumbers[SACAgent]):
    """Meets `metarl.rl.sb3.expert.Expert`. `learn` takes `updates_per_step` gradient steps for
    each new step, on steps drawn from all that were kept; the temperature is learned.

    How we differ: gradient steps come after whole episodes, as Stable-Baselines3's `train_freq=(1,
    "episode")` and `gradient_steps=-1` have them, not after each step.

    Args: agent: whose networks it works in; others: see configs/algo/_sac_expert.yaml.
    Raises: SettingError, naming it, for a number out of range or a model of another kind.
    """

    keeps_data = True

    def __init__(
        self,
        agent: nn.Module,
        device: torch.device,
        *,
        lr: float,
        batch_size: int,
        updates_per_step: float,
        target_rate: float,
        discount: float,
    ) -> None:
        check_counts({"batch_size": batch_size})
        check_positive({"lr": lr, "updates_per_step": updates_per_step})
        check_positive({"target_rate": target_rate})
        check_unit_interval({"discount": discount, "target_rate": target_rate})
        if not isinstance(agent, SACAgent):
            raise misfit(agent, SACAgent, "sb3_sac")
        self._device = device
        self._batch_size = batch_size
        self._updates_per_step = updates_per_step
        self._sac = without_environment(
            library().SAC,
            agent.policy,
            agent.spaces,
            device,
            learning_rate=lr,
            batch_size=batch_size,
            tau=target_rate,
            gamma=discount,
            buffer_size=1,  # Ours takes its place.
            target_entropy=-float(agent.actions.size),
        )
        policy, log = agent.policy, self._sac.log_ent_coef
        optimized = {
            "actor": (dict(policy.actor.named_parameters()), policy.actor.optimizer),
            "critic": (dict(policy.critic.named_parameters()), policy.critic.optimizer),
            "temperature": ({"log": log}, self._sac.ent_coef_optimizer),
        }
        moments = {name: adam_tensors(*pair) for name, pair in optimized.items()}
        temperature = {"log": log.detach()}
        super().__init__(agent, {"temperature": temperature, MOMENTS: P.joined(moments)})

    def act(self, outputs: Outputs, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        return self._agent.act(outputs, noise), None

    def log_prob(self, outputs: Outputs, action: Tensor) -> Tensor | None:
        return None

    def learn(
        self, numbers: Params, data: Trajectories, draw: Draw | None, noise: Noise | None
    ) -> tuple[Params, Metrics]:
        check_data(data)
        assert draw is not None, "it learns from all steps that were kept"
        self._put(numbers)
        num_updates = max(1, round(self._updates_per_step * data.num_steps))
        with finite(), seeded(noise, self._device):
            self._sac.replay_buffer = _Drawn(draw, self._agent)
            self._sac.train(num_updates, self._batch_size)
        metrics = means(self._sac.logger.name_to_value, _LOGGED)
        return self._copied(), metrics


class _Drawn:
    """Stands where Stable-Baselines3 expects its replay buffer."""

    def __init__(self, draw: Draw, agent: SACAgent) -> None:
        self._draw = draw
        self._agent = agent

    def sample(self, batch_size: int, env: Any = None) -> Any:
        from stable_baselines3.common.type_aliases import ReplayBufferSamples

        steps = self._draw(batch_size)
        return ReplayBufferSamples(
            observations=steps.obs[0],
            actions=self._agent.actions.to_unit(steps.action[0]),
            next_observations=steps.next_obs[0],
            dones=steps.terminated[0].float()[:, None],
            rewards=steps.reward[0][:, None],
        )
