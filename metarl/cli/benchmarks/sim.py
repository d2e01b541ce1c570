"""Compares the speed of a batched environment with the raw C loop and with the vector environments
that others use.

Every row is a name and a function that does one measurement and returns control steps per second.
Measurements are interleaved, one of each row a round, and a ratio is the median of the rounds'
ratios: it holds on a machine that is busy with other things.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import gymnasium
import torch

import envs
from envs.mujoco.env import MujocoEnv
from metarl.cli.benchmarks.raw_loop import PhysicsWork, cpu_simulator
from metarl.cli.benchmarks.vector_envs import async_vector_env, envpool
from metarl.noise import Noise
from metarl.threads import on_one_thread

Row = tuple[str, Callable[[], float]]

RAW_LOOP, RAW_STEPS, PHYSICS, ENV = (
    "raw C loop",
    "raw C loop, waiting",
    "CpuSimulator.step",
    "env.step",
)
SHARES = {RAW_LOOP: "share_of_raw_loop", RAW_STEPS: "share_of_waiting_loop"}
GYMNASIUM_IDS = {  # by the start of our names
    "half_cheetah": "HalfCheetah-v5",
    "ant": "Ant-v5",
    "humanoid": "Humanoid-v5",
    "swimmer": "Swimmer-v5",
    "walker2d": "Walker2d-v5",
    "hopper": "Hopper-v5",
    "reacher": "Reacher-v5",
}
ASYNC_SIZES = (2, 8, 16)
_STEPS_A_MEASUREMENT = (
    20_000  # of all worlds together: a quarter of a second of HalfCheetah on two cores
)


def run_sim(
    env_name: str = "half_cheetah_vel",
    num_worlds: int = 256,
    rounds: int = 7,
    *,
    num_threads: int | None = None,
    envpool_python: str | None = None,
    vector_envs: bool = True,
    extra_rows: Sequence[Row] = (),
) -> list[dict[str, Any]]:
    """Measures all rows that exist for the environment, prints a table, and returns it as JSON-able
    rows.

    Each has `name` and `steps_per_second` (median), and its shares of two raw C loops:
    `share_of_raw_loop`, of one that plays each world to its end, and `share_of_waiting_loop`, of
    one that waits after every control step until all worlds have taken it, as whoever chooses
    actions must. env.step also has `share_outside_physics`: observation, reward and bookkeeping.

    Args:
      envpool_python: a Python that has EnvPool (it needs a venv of its own).
      vector_envs: compare with Gymnasium's AsyncVectorEnv and EnvPool.
      extra_rows: of the caller, measured in the same rounds. They play whole episodes, and so do
        all rows then: the first steps of an episode, before the robot has fallen, are cheaper
        physics than the rest.
    """
    env = envs.make(env_name, num_worlds, num_threads=num_threads)
    num_steps = env.spec.horizon if extra_rows else max(20, _STEPS_A_MEASUREMENT // num_worlds)
    stepping = SteppedEnv(env, num_steps)
    with ExitStack() as stack:
        rows: list[Row] = []
        if isinstance(env, MujocoEnv):
            work = PhysicsWork(env, num_steps)
            work.check_same_states()
            rows += [
                (RAW_LOOP, work.raw_loop),
                (RAW_STEPS, partial(work.raw_loop, waits=True)),
                (PHYSICS, work.simulator),
            ]
        rows += [(ENV, stepping.measure), *extra_rows]
        gymnasium_id = next(
            (theirs for ours, theirs in GYMNASIUM_IDS.items() if env_name.startswith(ours)), None
        )
        if gymnasium_id is not None and vector_envs:
            for num_envs in ASYNC_SIZES:
                vector = stack.enter_context(
                    async_vector_env(gymnasium_id, num_envs, env.frame_skip)
                )
                rows.append((f"gymnasium AsyncVectorEnv n={num_envs}", vector))
            if envpool_python is not None:
                for num_envs, batch in ((64, 64), (64, 32)):
                    pool = stack.enter_context(
                        envpool(envpool_python, gymnasium_id, num_envs, batch, env.frame_skip)
                    )
                    rows.append((f"EnvPool n={num_envs} batch={batch}", pool))
        table = measure(rows, rounds)
    for row in table:
        if row["name"] == ENV and stepping.share_outside_physics is not None:
            row["share_outside_physics"] = stepping.share_outside_physics
        row |= {
            "env": env_name,
            "num_worlds": num_worlds,
            "num_threads": cpu_simulator(env).num_threads if isinstance(env, MujocoEnv) else None,
        }
    env.close()
    print_table(table)
    return table


def measure(rows: Sequence[Row], rounds: int) -> list[dict[str, Any]]:
    """One measurement of every row a round, after one that doesn't count. Shares are medians of the
    rounds' shares."""
    for _, once in rows:
        once()
    rates = [[once() for _, once in rows] for _ in range(rounds)]
    names = [name for name, _ in rows]
    table = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {
            "name": name,
            "steps_per_second": statistics.median(rate[i] for rate in rates),
        }
        for of, share in SHARES.items():
            if of in names:
                row[share] = statistics.median(rate[i] / rate[names.index(of)] for rate in rates)
        table.append(row)
    return table


def print_table(table: Sequence[dict[str, Any]]) -> None:
    head = {"control steps/s": 16, "of the C loop": 15, "of the waiting": 16, "outside physics": 17}
    print(" " * 32 + "".join(f"{name:>{width}}" for name, width in head.items()))
    for row in table:
        keys = (*SHARES.values(), "share_outside_physics")
        loop, waiting, outside = (f"{row[key]:.3f}" if key in row else "" for key in keys)
        print(
            f"{row['name']:32}{row['steps_per_second']:16,.0f}{loop:>15}{waiting:>16}{outside:>17}"
        )


class SteppedEnv:
    """Whole control steps of an environment under random actions, and how much of the time isn't
    physics."""

    def __init__(self, env: Any, num_steps: int) -> None:
        self._env = env
        self._num_steps = num_steps
        self._generator = torch.Generator().manual_seed(0)
        shape = (self._num_steps, env.num_worlds, *(env.action_space.shape or ()))
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            self._actions = torch.randint(int(env.action_space.n), shape, generator=self._generator)
        else:
            self._actions = torch.rand(shape, generator=self._generator) * 2 - 1
            self._actions *= torch.from_numpy(env.action_space.high)
        env.set_tasks(env.prior.sample(env.num_worlds, self._generator))
        self._shares: list[float] = []

    @on_one_thread  # as the training loop does
    def measure(self) -> float:
        self._env.reset(Noise(self._generator).starts(self._env))
        with physics_clock(self._env) as physics:
            begin = time.perf_counter()
            for action in self._actions:
                self._env.step(action)
            seconds = time.perf_counter() - begin
        if physics:
            self._shares.append(1 - sum(physics) / seconds)
        return self._num_steps * self._env.num_worlds / seconds

    @property
    def share_outside_physics(self) -> float | None:
        return statistics.median(self._shares) if self._shares else None


@contextmanager
def physics_clock(env: Any) -> Iterator[list[float]]:
    """The seconds of each call of the simulator's `step` inside the block; an empty list where
    there is no simulator."""
    seconds: list[float] = []
    if not isinstance(env, MujocoEnv):
        yield seconds
        return
    step = env.sim.step

    def timed(num_substeps: int) -> None:
        begin = time.perf_counter()
        step(num_substeps)
        seconds.append(time.perf_counter() - begin)

    env.sim.step = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        del env.sim.step  # type: ignore[attr-defined]


if __name__ == "__main__":
    for row in run_sim():
        print(json.dumps(row))
