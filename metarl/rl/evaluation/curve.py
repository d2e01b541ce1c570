"""Measures how well an adapter adapts: returns after 0, 1, ..., K updates on held-out tasks. Every
episode counts, and counts once."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.data.collect import Streams, collect, repeat_tasks
from metarl.rl.data.rounds import rounds
from metarl.rl.evaluation.within_episode import Steps, stacked
from metarl.rl.types import BatchedEnv, RLAdapter, TaskDistribution
from metarl.struct import map_tensors, struct

State = TypeVar("State")

Acting = Literal["sampled", "mode", "mode_beside"]


@struct
class Outcomes:
    """What E episodes of N tasks came to, [N, E]; [N, K + 1, E] where they differ after 0, 1, ...,
    K updates."""

    returns: Tensor
    success: Tensor | None = (
        None  # bool: solved at some step; None where the environment doesn't say
    )
    steps: Steps | None = None  # [..., T]; None where only returns are known


@struct
class AdaptationCurve:
    returns: Tensor  # [N, K + 1, E] return of each episode after k updates
    # [N, K + 1, E] bool: solved at some step; None where the environment doesn't say
    success: Tensor | None
    steps: Steps  # [N, K + 1, E, T]
    states: list[Any]  # the adapter's state before and after each update, K + 1 of them
    diverged: int  # how many episodes ended because the physics blew up
    env_steps: int

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes(returns=self.returns, success=self.success, steps=self.steps)


def adaptation_curve(
    adapter: RLAdapter[State],
    env: BatchedEnv,
    tasks: Any,
    streams: Streams,
    *,
    num_tasks: int,
    num_updates: int,
    device: torch.device | str = "cpu",
    on_update: Callable[[int], None] = lambda update: None,
    acting: Acting = "sampled",
) -> AdaptationCurve:
    """Plays E episodes of each task, updates, plays again, ..., K updates and K + 1 times E
    episodes in all.

    The episodes that are counted after k updates are also those that update k + 1 learns from. For
    a memory learner, update k is episode k of the trial.

    Args:
      env: num_tasks * E worlds; tasks: leaves [num_tasks, ...].
      on_update: called with k after the episodes that follow update k, for a progress bar.
      acting: by sampled actions, by the policy's mode, or by the mode in episodes of their own
        beside the sampled ones, from which alone it learns.
    """
    returns, success, steps, states, diverged, env_steps = [], [], [], [], 0, 0
    of = rounds(
        *(env, adapter, tasks, streams),
        num_tasks=num_tasks,
        num_updates=num_updates,
        device=device,
        deterministic=acting == "mode",
    )
    for update, played in enumerate(of):
        state, trajectories = played.state, played.episodes
        if acting == "mode_beside":
            trajectories, _ = collect(
                *(env, adapter, adapter.most_likely(state), tasks, streams),
                episodes_per_task=env.num_worlds // num_tasks,
                device=device,
                deterministic=True,
            )
        states.append(state)
        returns.append(trajectories.returns.cpu())
        if trajectories.success is not None:
            success.append(trajectories.success.cpu())
        steps.append(
            Steps(
                reward=trajectories.reward.cpu(),
                running=trajectories.mask.cpu(),
                measured={name: values.cpu() for name, values in trajectories.measured.items()},
            )
        )
        diverged += int(trajectories.diverged.any(-1).sum())
        env_steps += played.num_steps
        on_update(update)
    return AdaptationCurve(
        returns=torch.stack(returns, dim=1),
        success=torch.stack(success, dim=1) if success else None,
        steps=stacked(steps),
        states=states,
        diverged=diverged,
        env_steps=env_steps,
    )


def controller_outcomes(
    env: BatchedEnv, tasks: Any, act: Callable[[], Tensor], noise: Noise, *, num_tasks: int
) -> Outcomes:
    """Plays episodes with a fixed controller; `act()` returns the current actions. Args: tasks:
    leaves [N, ...]."""
    episodes_per_task = env.num_worlds // num_tasks
    env.set_tasks(repeat_tasks(tasks, episodes_per_task))
    env.reset(noise.starts(env))
    running = torch.ones(env.num_worlds, dtype=torch.bool)
    returns = torch.zeros(env.num_worlds)
    rewards = torch.zeros(env.spec.horizon, env.num_worlds)
    taken = torch.zeros(env.spec.horizon, env.num_worlds, dtype=torch.bool)
    success: Tensor | None = None
    for t in range(env.spec.horizon):
        step = env.step(act())
        rewards[t], taken[t] = step.reward.cpu() * running, running
        returns += rewards[t]
        if "success" in step.terms:
            solved = running & (step.terms["success"] > 0).cpu()
            success = solved if success is None else success | solved
        ended = step.terminated | step.truncated
        env.rest(ended)
        running &= ~ended.cpu()
    shape = (num_tasks, episodes_per_task)
    return Outcomes(
        returns=returns.reshape(shape),
        success=None if success is None else success.reshape(shape),
        steps=Steps(
            reward=rewards.T.reshape(*shape, -1), running=taken.T.reshape(*shape, -1), measured={}
        ),
    )


def held_out_tasks(distribution: TaskDistribution, num_tasks: int, skip: int = 0) -> Any:
    """The held-out tasks behind the first `skip`, leaves [num_tasks, ...]; where a list ends before
    so many, those at its beginning follow. Raises: SettingError for more tasks than are held out,
    or if training could have seen one of them."""
    check_num_tasks(distribution, num_tasks)
    tasks = distribution.test_tasks(skip + num_tasks)
    tasks = map_tensors(lambda leaf: leaf[skip:], tasks)
    assert_held_out(distribution, tasks)
    return tasks


def check_num_tasks(distribution: TaskDistribution, num_tasks: int) -> None:
    """Raises: SettingError for more tasks than are held out: one that comes twice would count as two
    in intervals over tasks."""
    most = distribution.num_held_out
    if most is not None and num_tasks > most:
        raise SettingError(
            f"num_tasks {num_tasks}: expected at most {most}, for there are no more held-out tasks; "
            "more episodes of each are played with episodes_per_task"
        )


def assert_held_out(distribution: TaskDistribution, tasks: Any) -> None:
    """Raises: SettingError if training could have seen any of the tasks. Distributions with split
    `none` declare that training and test tasks are the same; they pass, and every report says
    so."""
    if distribution.split == "none":
        return
    seen = ~distribution.is_held_out(tasks)
    if seen.any():
        raise SettingError(
            f"test tasks {seen.nonzero().flatten().tolist()} are training tasks: not a held-out "
            "evaluation"
        )
