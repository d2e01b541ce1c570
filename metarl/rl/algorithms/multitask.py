"""An expert of Stable-Baselines3 that is trained on all tasks of the prior at once, without
meta-learning, and fine-tuned on a new task by the algorithm that trained it.

What it earns is what plain training and fine-tuning are worth, from as many steps and from the
same adaptation data as a meta-learner has.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from metarl.core import params as P
from metarl.core import saved
from metarl.core.checks import check_counts, check_not_negative
from metarl.errors import SettingError
from metarl.rl.adapters.fine_tuning import FineTuningAdapter, of_task
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.algorithms.shared import (
    EVALUATED_UPDATES,
    GatheringLearner,
    Iteration,
    Setting,
    Source,
    rollout_metrics,
)
from metarl.rl.data.replay import Replay
from metarl.rl.sb3.expert import MOMENTS, Expert
from metarl.rl.types import RLAdapter, Sizes
from metarl.struct import replace
from metarl.types import Params

MakeExpert = Callable[..., Expert]
"""(agent, device) -> the algorithm with its settings, which works in the agent's networks."""


class Multitask(GatheringLearner):
    """One iteration: play E episodes on each of N sampled tasks, all by the same policy, and let
    the algorithm learn from them as from one task. Off-policy, the first iteration's actions are
    uniformly random.

    Update k of an adaptation is k times `rounds_per_update` rounds of the algorithm's own learning,
    on E episodes of the new task each; the optimizer goes on from where training left it.

    Args: see configs/algo/multitask_ppo.yaml.
    Raises: SettingError, naming it, for a number out of range or a model of another kind.
    """

    @staticmethod
    def sizes(*, meta_batch_size: int, episodes_per_task: int, **others: Any) -> Sizes:
        """Raises: SettingError unless there are tasks and episodes."""
        check_counts({"meta_batch_size": meta_batch_size, "episodes_per_task": episodes_per_task})
        return Sizes(
            num_tasks=meta_batch_size,
            episodes_per_task=episodes_per_task,
            num_updates=1,
            evaluated_updates=EVALUATED_UPDATES,
            unit="update",
        )

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
        check_counts({"replay_capacity": replay_capacity})
        check_not_negative({"rounds_per_update": rounds_per_update})
        # Training plays each task once and adapts to none.
        self.source = Source.of(setting, replace(sizes, num_updates=0))
        self._setting = setting
        self._expert = expert(setting.model, setting.device)
        self._rounds_per_update = rounds_per_update
        self._numbers = self._expert.initial()
        self._has_begun = False
        self._memory: Replay | None = None
        if self._expert.keeps_data:
            capacity = roomy(replay_capacity, sizes.num_worlds * setting.env.spec.horizon)
            self._memory = empty_replay(setting, capacity=capacity)
        self.experience = self._memory

    def adapter(self) -> FineTuningAdapter:
        return fine_tuning(
            self._expert, self._setting, self._numbers, rounds_per_update=self._rounds_per_update
        )

    def iteration(self) -> Iteration:
        explores = self._memory is not None and not self._has_begun
        adapter: RLAdapter[Any] = (
            UniformActions(self._setting.env.action_space) if explores else self.adapter()
        )
        rollouts = yield adapter
        rollouts = self.source.ranks.whole(rollouts)
        episodes, noise, draw = rollouts.query, self._setting.streams.policy, None
        if self._memory is not None:
            self._memory.add(torch.zeros(len(episodes.mask), dtype=torch.int64), episodes)
            draw = of_task(self._memory, 0, noise.whole)
        self._numbers, learned = self._expert.learn(self._numbers, episodes, draw, noise)
        self._has_begun = True
        return {**rollout_metrics(rollouts), **learned}

    def state_dict(self) -> dict[str, Any]:
        return {**as_state(self._numbers), "has_begun": self._has_begun}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved.check(state, self.state_dict())
        self._numbers = from_state(state, self._setting.device)
        self._has_begun = state["has_begun"]


def fine_tuning(
    expert: Expert, setting: Setting, numbers: Params, *, rounds_per_update: int
) -> FineTuningAdapter:
    """Adapts a copy of one expert to each task."""

    def replay(capacity: int) -> Replay:
        return empty_replay(setting, capacity=capacity)

    return FineTuningAdapter(
        expert,
        lambda num_tasks: P.expand(numbers, num_tasks),
        replay=replay if expert.keeps_data else None,
        rounds_per_update=rounds_per_update,
    )


def roomy(replay_capacity: int | None, most: int) -> int:
    """The capacity, if a task's steps of an iteration find room, `most` of them. Raises:
    SettingError."""
    if replay_capacity is None or replay_capacity < most:
        given = "null" if replay_capacity is None else replay_capacity
        raise SettingError(
            f"replay_capacity {given}: expected {most} or more, the steps that an iteration may have"
        )
    return replay_capacity


def empty_replay(setting: Setting, *, capacity: int, num_tasks: int = 1) -> Replay:
    return Replay(
        num_tasks=num_tasks,
        capacity=capacity,
        obs_size=setting.env.observation_space.shape[0],
        action_space=setting.env.action_space,
        device=setting.device,
    )


def as_state(numbers: Params) -> dict[str, Any]:
    """An expert's part of a learner's state. The optimizer's moments are apart, because a zoo
    leaves them out."""
    moments = P.group(numbers, MOMENTS)
    kept = {name: leaf for name, leaf in numbers.items() if not name.startswith(f"{MOMENTS}.")}
    return {"expert": kept, "moments": moments}


def from_state(state: Mapping[str, Any], device: torch.device) -> Params:
    """The inverse of `as_state`, in copies on a device; the counts of Adam's steps stay on the CPU,
    as torch has them."""
    found = {**state["expert"], **P.joined({MOMENTS: state["moments"]})}
    return {
        name: leaf.detach().clone().to("cpu" if name.endswith(".step") else device)
        for name, leaf in found.items()
    }
