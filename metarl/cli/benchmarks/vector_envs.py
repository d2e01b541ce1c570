"""The vector environments that others use, stepped with random actions: Gymnasium's and EnvPool's."""

import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gymnasium
import numpy as np


@contextmanager
def async_vector_env(
    gymnasium_id: str, num_envs: int, frame_skip: int, num_steps: int = 200
) -> Iterator[Callable[[], float]]:
    """Gymnasium's worker processes with shared memory. They are forked, so their timer callback is
    cleared as ours is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vector = gymnasium.make_vec(
            gymnasium_id,
            num_envs,
            vectorization_mode="async",
            vector_kwargs={"shared_memory": True},
            frame_skip=frame_skip,
        )
    assert vector.action_space.shape is not None  # It is a Box.
    actions = (
        np.random.default_rng(0)
        .uniform(-1, 1, (num_steps, *vector.action_space.shape))
        .astype(np.float32)
    )

    def once() -> float:
        vector.reset(seed=0)
        begin = time.perf_counter()
        for action in actions:
            vector.step(action)
        return num_steps * num_envs / (time.perf_counter() - begin)

    try:
        yield once
    finally:
        vector.close()


_ENVPOOL = """
import sys, time, envpool, numpy as np
name, num_envs, batch, frame_skip = sys.argv[1], *map(int, sys.argv[2:])
pool = envpool.make_gymnasium(name, num_envs=num_envs, batch_size=batch, frame_skip=frame_skip)
steps = 8000 // batch
actions = np.random.default_rng(0).uniform(-1, 1, (steps, batch, *pool.action_space.shape))
pool.async_reset()
ids = pool.recv()[-1]["env_id"]
for line in sys.stdin:
    begin = time.perf_counter()
    for action in actions:
        pool.send(action, ids)
        ids = pool.recv()[-1]["env_id"]
    print(steps * batch / (time.perf_counter() - begin), flush=True)
"""


@contextmanager
def envpool(
    python: str, gymnasium_id: str, num_envs: int, batch: int, frame_skip: int
) -> Iterator[Callable[[], float]]:
    """EnvPool in another Python, asked line by line. Its HalfCheetah is the v4, with the same
    physics."""
    name = gymnasium_id.replace("-v5", "-v4")
    arguments = [python, "-c", _ENVPOOL, name, *map(str, (num_envs, batch, frame_skip))]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    ask, answer = process.stdin, process.stdout

    def once() -> float:
        ask.write("\n")
        ask.flush()
        line = answer.readline()
        if not line:
            raise RuntimeError(f"EnvPool in {python} ended with code {process.wait()}")
        return float(line)

    try:
        yield once
    finally:
        ask.close()
        process.wait()
