"""The only place that steps an environment for training: one episode in each of W = N * E
worlds."""

from dataclasses import replace
from typing import TypeVar

import torch

from metarl.noise import Noise
from metarl.rl.adapters.own_adapter import check_state, checked_act
from metarl.rl.data.graphed import graphed
from metarl.rl.data.record import Record
from metarl.rl.data.transfer import Transfer
from metarl.rl.types import BatchedEnv, RLAdapter, Trajectories
from metarl.struct import map_tensors, struct
from metarl.threads import one_thread
from metarl.types import ALONE, Ranks

State = TypeVar("State")
TasksT = TypeVar("TasksT")


@struct
class Streams:
    """The random streams of gathering. They are apart, so that a change of the policy's noise
    leaves tasks and starts alone."""

    tasks: torch.Generator  # on the CPU
    reset: Noise  # on the CPU
    policy: Noise  # on the learner's device
    ranks: Ranks = ALONE  # with whom the tasks are shared out, and every draw of whose rows


def repeat_tasks(tasks: TasksT, episodes_per_task: int) -> TasksT:
    """Tasks [N, ...] -> [N * E, ...]: world w has task w // E."""
    return map_tensors(lambda leaf: leaf.repeat_interleave(episodes_per_task, dim=0), tasks)


def collect(
    env: BatchedEnv,
    adapter: RLAdapter[State],
    state: State,
    tasks: TasksT,
    streams: Streams,
    *,
    episodes_per_task: int,
    device: torch.device | str = "cpu",
    deterministic: bool = False,
) -> tuple[Trajectories, State]:
    """Plays E episodes of each of N tasks with the adapter in its present state.

    Args:
      tasks: leaves [N, ...]; N * episodes_per_task must be the environment's number of worlds.
      device: where the policy runs and the trajectories lie; the environment may be elsewhere.
      deterministic: act by the policy's mode instead of sampling.
    Returns: the trajectories [N, E, T, ...] and the adapter's state after the last step.
    Raises: ValueError if the number of worlds doesn't fit, or from the environment if an action is
    NaN.
    """
    num_worlds, horizon = env.num_worlds, env.spec.horizon
    num_tasks, remainder = divmod(num_worlds, episodes_per_task)
    if remainder:
        raise ValueError(
            f"{num_worlds} worlds can't be shared out into {episodes_per_task} episodes per task"
        )
    env.set_tasks(repeat_tasks(tasks, episodes_per_task))
    bring = Transfer(device)
    start = env.reset(streams.reset.starts(env))
    obs, latent = bring(start), adapter.episode_latent(state)
    noise = None if deterministic else streams.policy
    rollout = graphed(env, adapter, state, obs, noise) if start.device == obs.device else None
    with one_thread():  # the simulator has its own threads; torch's would fight them for the cores
        if rollout is not None:
            record, state = rollout.play(state, obs)
            t = horizon - 1
        else:
            record = Record(horizon, obs)
            running = torch.ones(num_worlds, dtype=torch.bool, device=device)
            for t in range(horizon):
                act = checked_act(adapter, adapter.act(state, obs, noise))
                there = env.step(act.action)
                env.rest(there.terminated | there.truncated)
                step = bring(there)
                record.add(t, act, step, running, adapter.measure(state, obs, act, step))
                before, state = state, adapter.observe(state, obs, act, step)
                check_state(adapter, "observe", state, before)
                obs = step.next_obs
                running = running & ~(step.terminated | step.truncated)
                # On a GPU the question would cost a synchronisation a step.
                if torch.device(device).type == "cpu":
                    if not running.any():
                        break
                    noise = noise and noise.while_running(running)
        if noise is not None:  # Elsewhere worlds may still run, for which streams go on.
            for _ in range(streams.ranks.largest(t) - t):
                adapter.act(state, obs, noise)
    env.check()
    return replace(record.trajectories(num_tasks, episodes_per_task), episode_latent=latent), state
