"""RL² with PPO: an agent whose memory is carried through several episodes on one task learns to
learn within them.

Sources: Duan et al. 2016 (arXiv:1611.02779); Wang et al. 2016 (arXiv:1611.05763); Schulman et al.
2017 (arXiv:1707.06347).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import saved
from metarl.errors import SettingError
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.algorithms.ppo import PPO
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    check_remembers,
    rollout_metrics,
    trial_sizes,
)
from metarl.rl.data.trials import Trials, join_episodes
from metarl.rl.models.memory import MemoryModel
from metarl.types import as_metrics


class RL2PPO(GatheringLearner):
    """One iteration: sample N tasks, play M trials of K episodes on each, the memory reset between
    trials only, then take PPO's steps on whole trials, see `metarl.rl.algorithms.ppo.PPO`.

    The memory's states are recomputed from each trial's first step with the present parameters, and
    gradients go back through the whole trial.

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
        **numbers: Any,
    ) -> None:
        """Args: numbers: those of `metarl.rl.algorithms.ppo.PPO`."""
        sizes = self.sizes(
            meta_batch_size=meta_batch_size,
            trials_per_task=trials_per_task,
            episodes_per_trial=episodes_per_trial,
        )
        self._model = with_memory(
            setting.model, steps=episodes_per_trial * setting.env.spec.horizon
        )
        self.source = Source.of(setting, sizes)
        self.ppo = PPO(
            self._model,
            dict(self._model.named_parameters()),
            num_trials=sizes.num_worlds,
            streams=setting.streams,
            device=setting.device,
            **numbers,
        )

    def adapter(self) -> MemoryAdapter:
        return MemoryAdapter(self._model)

    def iteration(self) -> Iteration:
        rollouts = yield self.adapter()
        # Statistics are over all trials, so every process has them all; it differentiates a part.
        rollouts = self.source.ranks.whole(rollouts)
        trials = join_episodes((*rollouts.support, rollouts.query))
        found = self.ppo.update(trials, self.inputs(trials))
        self._observe(trials)
        return {**rollout_metrics(rollouts), **as_metrics(found)}

    @torch.no_grad()
    def inputs(self, trials: Trials) -> Tensor:
        """[T + 1, B, I], see `trial_inputs`."""
        return trial_inputs(self._model, trials)

    def _observe(self, trials: Trials) -> None:
        """Takes the iteration's observations and rewards into the running statistics: after the
        update, for its log-probabilities belong to inputs normalised as they were while acting."""
        self._model.observations.update(trials.obs[:-1][trials.mask])
        self._model.rewards.update(trials.reward[trials.mask][:, None])

    def state_dict(self) -> dict[str, Any]:
        return {"model": self._model.state_dict(), **self.ppo.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = {"model": self._model.state_dict()}
        saved.check(state, own, apart=self.ppo.names)
        self.ppo.load_state_dict({name: state[name] for name in state if name != "model"})
        self._model.load_state_dict(state["model"])


def with_memory(model: nn.Module, *, steps: int) -> MemoryModel:
    """`model` itself, if it can remember a trial of so many steps. Raises: ValueError."""
    if not isinstance(model, MemoryModel):
        raise SettingError(
            f"model is a {type(model).__name__}; expected one with a memory: gru, lstm, "
            "transformer or external_memory"
        )
    check_remembers(model.memory, steps)
    return model


def trial_inputs(model: MemoryModel, trials: Trials) -> Tensor:
    """What the memory took in at each step of the trials, and would take in after the last: [T + 1,
    B, I]."""
    feedback = model.feedback(
        trials.obs[:-1], trials.action, trials.reward, trials.terminated, trials.truncated
    )
    return model.inputs(trials.obs, torch.cat([torch.zeros_like(feedback[:1]), feedback]))
