"""A rollout whose control steps are replayed: two CUDA graphs and the simulator's own, instead of
some fifty kernels that Python launches one by one.

A step is a function from where the rollout stands to where it stands next. It becomes a recording
by letting both lie in the same memory: a rollout begins by writing its start there, and from then
on each replay finds what the last one has left.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.noise import Noise
from metarl.rl.data.cuda_graphs import CudaGraphs
from metarl.rl.data.record import Record
from metarl.rl.types import Act, BatchedEnv, NotSteady, RLAdapter, Steady, StepsInParts
from metarl.struct import map_tensors, struct

State = TypeVar("State")

MOST = 4
"""How many recordings an environment keeps: of who acts in turn, the newest ones."""


def graphed(
    env: BatchedEnv[Any], adapter: RLAdapter[State], state: State, obs: Tensor, noise: Noise | None
) -> "GraphedRollout[State] | None":
    """The recorded rollout of who acts like this in this environment, new if there is none yet; None
    where steps can't be recorded. If that is the adapter's doing, a line in the log says so once.

    Args: obs: the first observations [W, O]; noise: None for acting by the policy's mode.
    """
    # An environment that meets the protocol without inheriting from it may not know the word.
    graphs: list[Any] | None = getattr(env, "graphs", None)
    if graphs is None:
        return None
    try:
        steady = adapter.steady(state, obs)
    except NotSteady as reason:
        _say(f"control steps aren't recorded as CUDA graphs, which would be faster: {reason}")
        return None
    who = (type(adapter), _shape(steady.state), _draws(noise), *map(id, steady.reads))
    for rollout in graphs:
        if rollout.who == who:
            return cast("GraphedRollout[State]", rollout)
    if len(graphs) >= MOST:
        del graphs[0]
    try:
        made = GraphedRollout(cast("StepsInParts[Any]", env), adapter, steady, obs, noise, who)
    except torch.OutOfMemoryError as error:
        _give_up(env, error)
        return None
    graphs.append(made)
    return made


@struct
class _Standing:
    """Where a rollout stands between two control steps."""

    t: Tensor  # [1] int64, the number of the next step
    obs: Tensor  # [W, O]
    running: Tensor  # [W] bool
    state: Any  # the adapter's, steady
    env: Any  # what the environment remembers


class GraphedRollout(Generic[State]):
    """Plays episodes of W worlds that start together, as `collect` does, with its numbers.

    The first step runs as it is, which warms up all that the recording needs; the second is
    recorded. If that fails, a line in the log says why, steps go on one kernel after the other, and
    the environment is asked for no recording again. Places and buffers stay on the device, as much
    memory as one more rollout.
    """

    def __init__(
        self,
        env: StepsInParts[Any],
        adapter: RLAdapter[State],
        steady: Steady[State],
        obs: Tensor,
        noise: Noise | None,
        who: tuple[Any, ...],
    ) -> None:
        self.who = who
        self._kept = steady.reads  # As long as they live, none has the id of another.
        self._env = env
        self._adapter = adapter
        self._noise = noise
        self._now = map_tensors(torch.clone, _start(steady.state, obs, env.remembered))
        self._record = Record(env.spec.horizon, obs)
        self._act: Act | None = None  # between `_begin_step` and `_end_step`
        self._moves = False  # whether the adapter's state changes within an episode
        self._graphs = CudaGraphs(obs.device, () if noise is None else noise.generators)
        self._parts: tuple[Callable[[], None], Callable[[], None]] | None = None

    def play(self, state: State, obs: Tensor) -> tuple[Record, State]:
        """Plays one episode in each world. Waits for nothing, once it is recorded.

        Args: state: the adapter's own; obs: the first observations, of a reset just now.
        Returns: the steps, in buffers that the next call writes anew, and the adapter's state after
        them.
        """
        self._begin(state, obs)
        for t in range(self._env.spec.horizon):
            if self._parts is not None:
                self._step(*self._parts)
            elif t == 0:
                with self._graphs.warming_up():
                    self._step(self._begin_step, self._end_step)
            else:
                self._parts = self._recorded()
                self._step(*self._parts)
        return self._record, map_tensors(torch.clone, self._now.state) if self._moves else state

    def _begin(self, state: State, obs: Tensor) -> None:
        """Puts the start of a rollout where steps look for it."""
        steady = self._adapter.steady(state, obs).state
        _write(self._now, _start(steady, obs, self._env.remembered))
        self._env.remembered = self._now.env
        self._record.obs[0] = obs

    def _step(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        self._env.simulate()
        end()

    @torch.no_grad()
    def _begin_step(self) -> None:
        self._act = self._adapter.act(self._now.state, self._now.obs, self._noise)
        self._env.apply(self._act.action)

    @torch.no_grad()
    def _end_step(self) -> None:
        now, act, step = self._now, cast(Act, self._act), self._env.outcome()
        happened = (now.state, now.obs, act, step)
        self._record.add(now.t, act, step, now.running, self._adapter.measure(*happened))
        state = self._adapter.observe(*happened)
        self._moves = state is not now.state
        then = _Standing(
            t=now.t + 1,
            obs=step.next_obs,
            running=now.running & ~(step.terminated | step.truncated),
            state=state,
            env=self._env.remembered,
        )
        _write(now, then)
        self._env.remembered = now.env

    def _recorded(self) -> tuple[Callable[[], None], Callable[[], None]]:
        try:
            begin = self._graphs.recorded(self._begin_step, draws=True)
            return begin, self._graphs.recorded(self._end_step, draws=False)
        except RuntimeError as error:
            self._env.remembered = self._now.env
            _give_up(self._env, error)
            return self._begin_step, self._end_step


def _start(state: Any, obs: Tensor, env: Any) -> _Standing:
    running = torch.ones(len(obs), dtype=torch.bool, device=obs.device)
    t = torch.zeros(1, dtype=torch.int64, device=obs.device)
    return _Standing(t=t, obs=obs, running=running, state=state, env=env)


def _write(places: _Standing, values: _Standing) -> None:
    """Copies the tensors of `values` into those of `places`.

    Raises: ValueError if they differ in anything but values: a recording would be of something
    else.
    """
    if _shape(places) != _shape(values):
        raise ValueError("what a step leaves differs in types or shapes from what it began with")
    theirs = pytree.tree_leaves(places)
    known = {id(place) for place in theirs}
    pairs = [
        # A value that is another's place (an observation that is remembered) is read before that
        # one is written.
        (place, value.clone() if id(value) in known else value)
        for place, value in zip(theirs, pytree.tree_leaves(values), strict=True)
        if isinstance(place, Tensor) and value is not place
    ]
    for place, value in pairs:
        place.copy_(value)


def _shape(tree: Any) -> tuple[Any, ...]:
    """All of a pytree but the values of its tensors."""
    leaves, structure = pytree.tree_flatten(tree)
    return structure, *(
        (leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves
    )


def _draws(noise: Noise | None) -> tuple[Any, ...]:
    """What tells one noise from another."""
    return () if noise is None else (noise.share, *noise.generators)


def _give_up(env: BatchedEnv[Any], error: BaseException) -> None:
    """Lets all rollouts of this environment go on without recordings. Says why: what went wrong
    first, as the end of a recording that has broken off fails, too."""
    env.graphs = None
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    reason, *_ = str(error).splitlines() or [type(error).__name__]
    _say(
        "control steps can't be recorded as CUDA graphs, so their kernels are launched one by one, "
        f"which is slower: {reason}"
    )


@functools.cache
def _say(line: str) -> None:
    logging.getLogger("metarl").warning("%s", line)
