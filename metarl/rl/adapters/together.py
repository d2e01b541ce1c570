"""How several learners of one kind meet their tasks in one simulation: an adapter over theirs.

Of S learners with N tasks each, block s of the S · N tasks, and of their worlds, is learner s's.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from metarl.nn.parts import placed_alone
from metarl.noise import Noise
from metarl.rl.adapters.own_adapter import check_state, checked_act
from metarl.rl.types import Act, EpisodeLatent, RLAdapter, Steady, Step, Trajectories
from metarl.struct import join_rows, map_tensors, replace, split_rows, struct
from metarl.threads import map_in_threads

T = TypeVar("T")


@struct
class Together:
    """Where S learners stand."""

    each: tuple[Any, ...]
    """The states of their own adapters."""
    joint: Any = None
    """One state of all their tasks, where there is such a one; see `RLAdapter.joined`."""


class TogetherAdapter(RLAdapter[Together]):
    """Gives each learner the numbers that its own adapter gives it alone: that one sees the
    learner's own worlds, and stream s of a noise is learner s's. Where they can, all act in the
    same operations (`RLAdapter.joined`).

    Args: adapters: of S learners, all of one class and with the same settings.
    """

    def __init__(self, adapters: Sequence[RLAdapter[Any]]) -> None:
        self._adapters = tuple(adapters)
        self.rounds_per_update = self._adapters[0].rounds_per_update

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Together:
        own = num_tasks // len(self._adapters)
        return self._standing(
            adapter.begin(own, episodes_per_task, stream)
            for adapter, stream in self._with_each(self._streams(noise))
        )

    def act(self, state: Together, obs: Tensor, noise: Noise | None) -> Act:
        if state.joint is not None:
            return self._adapters[0].act(state.joint, obs, noise)
        parts = self._with_each(state.each, self._blocks(obs), self._streams(noise))
        acts = [checked_act(adapter, adapter.act(*own)) for adapter, *own in parts]
        log_probs = [act.log_prob for act in acts if act.log_prob is not None]
        return Act(
            action=torch.cat([act.action for act in acts]),
            log_prob=torch.cat(log_probs) if log_probs else None,
            carry=tuple(act.carry for act in acts),
        )

    def observe(self, state: Together, obs: Tensor, act: Act, step: Step) -> Together:
        if state.joint is not None:
            return state
        each = []
        for adapter, before, *happened in self._own(state, obs, act, step):
            each.append(adapter.observe(before, *happened))
            check_state(adapter, "observe", each[-1], before)
        return Together(each=tuple(each))

    def update(self, state: Together, data: Trajectories, noise: Noise | None = None) -> Together:
        return self.traced_update(state, data, noise)[0]

    def traced_update(
        self, state: Together, data: Trajectories, noise: Noise | None = None
    ) -> tuple[Together, tuple[Any, ...]]:
        """The trace is that of each learner's update. Learners update side by side, on a CPU each in
        a thread."""
        parts = self._with_each(state.each, self._blocks(data), self._streams(noise))
        found = map_in_threads(_traced_update, list(parts), data.reward.device)
        states, traces = zip(*found, strict=True)
        return self._standing(states), traces

    def steady(self, state: Together, obs: Tensor) -> Steady[Together]:
        if state.joint is not None:
            joint = self._adapters[0].steady(state.joint, obs)
            return Steady(state=Together(each=(), joint=joint.state), reads=joint.reads)
        parts = self._with_each(state.each, self._blocks(obs))
        found = [adapter.steady(*own) for adapter, *own in parts]
        return Steady(
            state=Together(each=tuple(one.state for one in found)),
            reads=tuple(leaf for one in found for leaf in one.reads),
        )

    def episode_latent(self, state: Together) -> EpisodeLatent | None:
        latents = [adapter.episode_latent(own) for adapter, own in self._with_each(state.each)]
        return None if latents[0] is None else join_rows(latents)

    def most_likely(self, state: Together) -> Together:
        each = [adapter.most_likely(own) for adapter, own in self._with_each(state.each)]
        return self._standing(each)

    def measure(self, state: Together, obs: Tensor, act: Act, step: Step) -> dict[str, Tensor]:
        if state.joint is not None:
            return {}
        return join_rows([a.measure(*own) for a, *own in self._own(state, obs, act, step)])

    def _standing(self, each: Iterable[Any]) -> Together:
        states = tuple(each)
        return Together(each=states, joint=self._adapters[0].joined(states))

    def _own(self, state: Together, obs: Tensor, act: Act, step: Step) -> Iterator[tuple[Any, ...]]:
        """Yields for each learner its adapter and what happened in its worlds: state, obs, act,
        step."""
        carries = [None] * len(self._adapters) if act.carry is None else act.carry
        acts = [
            replace(own, carry=carry)
            for own, carry in zip(self._blocks(replace(act, carry=None)), carries, strict=True)
        ]
        return self._with_each(state.each, self._blocks(obs), acts, self._blocks(step))

    def _with_each(self, *parts: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        return zip(self._adapters, *parts, strict=True)

    def _streams(self, noise: Noise | None) -> Sequence[Noise | None]:
        return [None] * len(self._adapters) if noise is None else noise.each()

    def _blocks(self, tree: T) -> list[T]:
        blocks = split_rows(tree, len(self._adapters))
        return [map_tensors(placed_alone, block) for block in blocks]


def one_of(adapter: RLAdapter[Any]) -> RLAdapter[Any]:
    """One of the adapters that a `TogetherAdapter` asks, all of one class; another one itself."""
    return adapter._adapters[0] if isinstance(adapter, TogetherAdapter) else adapter


def _traced_update(own: tuple[Any, ...]) -> tuple[Any, Any]:
    adapter, before, *of = own
    found: tuple[Any, Any] = adapter.traced_update(before, *of)
    check_state(adapter, "update", found[0], before)
    return found
