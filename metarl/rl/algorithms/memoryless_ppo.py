"""PPO without adaptation: a policy that sees the present observation alone, trained on the same
prior as a meta-learner.

What it earns is what can be had without knowing the task, the row that every meta-learner must
beat. An episode stands for itself: nothing goes on from one to the next, and an end by failure is
worth nothing afterwards, not the next episode's start.

Source: Schulman et al. 2017 (arXiv:1707.06347).
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from metarl.errors import SettingError
from metarl.nn.recurrent import NoMemory
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.algorithms.rl2_ppo import RL2PPO
from metarl.rl.algorithms.shared import GatheringLearner, Iteration, Setting, episode_sizes
from metarl.rl.models.memory import MemoryModel


class MemorylessPPO(GatheringLearner):
    """The updates of `RL2PPO` on trials of a single episode.

    Args: see configs/algo/memoryless_ppo.yaml.
    Raises: ValueError, naming it, for a number out of range, or a model that could come to know its
    task.
    """

    sizes = staticmethod(episode_sizes)

    def __init__(
        self, *, setting: Setting, meta_batch_size: int, episodes_per_task: int, **numbers: Any
    ) -> None:
        """Args: numbers: those of PPO, as `RL2PPO` takes them."""
        # Named as they are here
        self.sizes(meta_batch_size=meta_batch_size, episodes_per_task=episodes_per_task)
        _check_memoryless(setting.model)
        self._ppo = RL2PPO(
            setting=setting,
            meta_batch_size=meta_batch_size,
            trials_per_task=episodes_per_task,
            episodes_per_trial=1,
            **numbers,
        )
        self.source = self._ppo.source

    def adapter(self) -> MemoryAdapter:
        return self._ppo.adapter()

    def iteration(self) -> Iteration:
        return self._ppo.iteration()

    def state_dict(self) -> dict[str, Any]:
        return self._ppo.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._ppo.load_state_dict(state)


def _check_memoryless(model: nn.Module) -> None:
    if not isinstance(model, MemoryModel):
        raise SettingError(f"model is a {type(model).__name__}; expected model=memoryless")
    if not isinstance(model.memory, NoMemory):
        raise SettingError(
            f"model has a {type(model.memory).__name__}, which can know its task; expected "
            "model=memoryless"
        )
    if model.has_feedback:
        raise SettingError(
            "model.has_feedback is True, so it is told its last reward; expected False, as "
            "model=memoryless"
        )
