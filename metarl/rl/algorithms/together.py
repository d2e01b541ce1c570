"""Several learners gather together and learn apart: one simulation holds the worlds of all.

Each learner gets the rollouts that it would have gathered alone, on a CPU bit for bit: it has its
own tasks and random streams, and neither policies nor worlds see each other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from metarl.noise import Noise
from metarl.rl.adapters.together import TogetherAdapter
from metarl.rl.algorithms.shared import Question, Source
from metarl.rl.data.collect import Streams
from metarl.rl.data.rounds import Rollouts, gather
from metarl.rl.types import BatchedEnv, RLAdapter
from metarl.struct import join_rows, replace, split_rows

Gathered = dict[int, Any]
"""What each learner asked for, by its number: rollouts or the answer to a question, or the
FloatingPointError that came instead."""


class TogetherSource:
    """Gathers for several learners in one environment with the worlds of all.

    Args:
      sources: where each would gather alone, all of the same sizes; their environments only lend
        their prior.
      make_env: makes an environment as theirs with so many worlds.
    """

    def __init__(
        self, sources: Sequence[Source], make_env: Callable[[int], BatchedEnv[Any]]
    ) -> None:
        self._sources = sources
        self._make_env = make_env
        self._env: BatchedEnv[Any] | None = None

    def gather(self, asked: Mapping[int, RLAdapter[Any] | Question]) -> Gathered:
        """The rollouts of the adapters of those learners that ask for some, and the answers to the
        questions of others.

        A number that isn't finite is the fault of one learner, and the others mustn't suffer: each
        gathers apart then, from where its random streams were.
        """
        found: Gathered = {}
        # Some may still act at random, as model-based learners do at first.
        for kind in dict.fromkeys(type(one) for one in asked.values()):
            group: dict[int, Any] = {n: one for n, one in asked.items() if type(one) is kind}
            first, *_ = group.values()
            if isinstance(first, Question):
                answers = first.answers(list(group.values()))
                found |= dict(zip(group, answers, strict=True))
                continue
            streams = [g for number in group for g in _generators(self._sources[number].streams)]
            before = [generator.get_state() for generator in streams]
            try:
                found |= self._gathered(group)
            except FloatingPointError:
                for generator, state in zip(streams, before, strict=True):
                    generator.set_state(state)
                found |= {number: self._apart(number, a) for number, a in group.items()}
        return found

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None

    def _apart(self, number: int, adapter: RLAdapter[Any]) -> Rollouts | FloatingPointError:
        try:
            return self._gathered({number: adapter})[number]
        except FloatingPointError as error:
            return error

    def _gathered(self, group: Mapping[int, RLAdapter[Any]]) -> dict[int, Rollouts]:
        sources = [self._sources[number] for number in group]
        tasks = [source.tasks() for source in sources]
        sizes, num = sources[0].sizes, len(sources)
        rollouts = gather(
            self._environment(num * sizes.num_worlds),
            TogetherAdapter(list(group.values())),
            join_rows(tasks),
            _together([source.streams for source in sources]),
            num_tasks=num * sizes.num_tasks,
            num_updates=sizes.num_updates,
            device=sources[0].device,
        )
        parts = zip(group, sources, _of_each(rollouts, num), tasks, strict=True)
        return {number: source.with_oracle(own, of) for number, source, own, of in parts}

    def _environment(self, num_worlds: int) -> BatchedEnv[Any]:
        if self._env is None or self._env.num_worlds != num_worlds:
            self.close()
            self._env = self._make_env(num_worlds)
        return self._env


def _of_each(rollouts: Rollouts, num: int) -> list[Rollouts]:
    """Splits what was gathered among `num` learners, whose adapters met their tasks in a `TogetherAdapter`."""
    episodes = split_rows(replace(rollouts, traces=()), num)
    return [
        replace(own, traces=tuple(of_all[number] for of_all in rollouts.traces))
        for number, own in enumerate(episodes)
    ]


def _together(streams: Sequence[Streams]) -> Streams:
    return Streams(
        tasks=streams[0].tasks,  # Each has drawn its tasks already.
        reset=Noise(*(own.reset.alone for own in streams), device=streams[0].reset.device),
        policy=Noise(*(own.policy.alone for own in streams), device=streams[0].policy.device),
    )


def _generators(streams: Streams) -> tuple[torch.Generator, ...]:
    return (streams.tasks, *streams.reset.generators, *streams.policy.generators)
