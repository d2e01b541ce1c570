"""An expert of Stable-Baselines3 for each task, from scratch: what the adaptation data alone are
worth, or many times as much of them, to who knows nothing of other tasks."""

from collections.abc import Mapping
from typing import Any

import torch

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts
from metarl.rl.adapters.fine_tuning import FineTuningAdapter, of_task, one_task
from metarl.rl.algorithms.multitask import (
    MakeExpert,
    Multitask,
    as_state,
    empty_replay,
    fine_tuning,
    from_state,
    roomy,
)
from metarl.rl.algorithms.shared import (
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    rollout_metrics,
)
from metarl.rl.types import Sizes
from metarl.struct import replace, split_rows
from metarl.types import Params


class Scratch(GatheringLearner):
    """An adaptation begins with an untrained expert for each task, all with the same weights, so
    nothing of a training reaches it.

    A training shows on training tasks how experts come along: it draws N of them once, and one
    iteration is a round of each task's expert on E episodes. The held-out tasks stay unseen.

    Args: see configs/algo/scratch_ppo.yaml.
    Raises: SettingError, naming it, for a number out of range or a model of another kind.
    """

    @staticmethod
    def sizes(*, meta_batch_size: int, episodes_per_task: int, **others: Any) -> Sizes:
        """Raises: SettingError unless there are tasks and episodes."""
        return Multitask.sizes(meta_batch_size=meta_batch_size, episodes_per_task=episodes_per_task)

    def __init__(
        self,
        *,
        setting: Setting,
        expert: MakeExpert,
        meta_batch_size: int,
        episodes_per_task: int,
        rounds_per_update: int,
        replay_capacity: int | None = None,
    ) -> None:
        sizes = self.sizes(meta_batch_size=meta_batch_size, episodes_per_task=episodes_per_task)
        check_counts({"rounds_per_update": rounds_per_update, "replay_capacity": replay_capacity})
        self.source = replace(
            Source.of(setting, replace(sizes, num_updates=0)), keeps_its_tasks=True
        )
        self._setting = setting
        self._expert = expert(setting.model, setting.device)
        self._rounds_per_update = rounds_per_update
        self._start = self._expert.initial()
        self._experts: list[Params] = []
        """The experts of the training's tasks, once there are any."""
        self._num_tasks = meta_batch_size
        self._memory = None
        if self._expert.keeps_data:
            capacity = roomy(replay_capacity, episodes_per_task * setting.env.spec.horizon)
            self._memory = empty_replay(setting, capacity=capacity, num_tasks=meta_batch_size)
        self.experience = self._memory

    def adapter(self) -> FineTuningAdapter:
        return fine_tuning(
            self._expert, self._setting, self._start, rounds_per_update=self._rounds_per_update
        )

    def iteration(self) -> Iteration:
        experts = self._experts or [self._start] * self._num_tasks
        ranks, noise = self.source.ranks, self._setting.streams.policy
        own = split_rows(P.stack(experts), ranks.num)[ranks.rank]
        rollouts = yield FineTuningAdapter(
            self._expert, lambda _: own, replay=None, rounds_per_update=1
        )
        rollouts = ranks.whole(rollouts)
        episodes = rollouts.query
        if self._memory is not None:
            self._memory.add(torch.arange(self._num_tasks), episodes)
        learned = [
            self._expert.learn(
                numbers,
                one_task(episodes, task),
                None if self._memory is None else of_task(self._memory, task, noise.whole),
                noise,
            )
            for task, numbers in enumerate(experts)
        ]
        self._experts = [numbers for numbers, _ in learned]
        means = {
            name: sum(metrics[name] for _, metrics in learned) / len(learned)
            for name in learned[0][1]
        }
        return {**rollout_metrics(rollouts), **means}

    def state_dict(self) -> dict[str, Any]:
        return {"start": as_state(self._start), "experts": [as_state(one) for one in self._experts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = self.state_dict()
        saved.check(state, own, apart=("experts",))
        found = state["experts"]
        if found != []:
            saved.check(found, [own["start"]] * self._num_tasks, "experts")
        device = self._setting.device
        self._start = from_state(state["start"], device)
        self._experts = [from_state(one, device) for one in found]
