"""An expert of Stable-Baselines3 that is told its task: what could be had by knowing it, beside
which a meta-learner's returns are read."""

from collections.abc import Mapping
from typing import Any

from metarl.errors import SettingError
from metarl.rl.adapters.fine_tuning import FineTuningAdapter
from metarl.rl.algorithms.multitask import Multitask
from metarl.rl.algorithms.shared import GatheringLearner, Iteration, Setting, episode_sizes


class Oracle(GatheringLearner):
    """`Multitask` where the observation holds the task (envs/shows_task.py), without fine-tuning: a
    trial is one episode.

    Args: see configs/algo/oracle_ppo.yaml.
    Raises: SettingError, naming it, for a number out of range, a model of another kind, or an
      environment that doesn't show its task.
    """

    sizes = staticmethod(episode_sizes)

    def __init__(self, *, setting: Setting, **numbers: Any) -> None:
        """Args: numbers: those of `Multitask` but rounds_per_update."""
        spec = setting.env.spec
        if not spec.definition.get("shows_task"):
            raise SettingError(
                f"{spec.name} doesn't show its task, which an oracle is told; expected "
                "env.shows_task=true"
            )
        self._trained = Multitask(setting=setting, rounds_per_update=0, **numbers)
        self.source, self.experience = self._trained.source, self._trained.experience

    def adapter(self) -> FineTuningAdapter:
        return self._trained.adapter()

    def iteration(self) -> Iteration:
        return self._trained.iteration()

    def state_dict(self) -> dict[str, Any]:
        return self._trained.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._trained.load_state_dict(state)
