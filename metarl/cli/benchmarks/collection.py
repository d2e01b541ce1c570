"""The speed of collection: environment, per-task policies, storage, all that lies between physics
and a learner."""

import time
from unittest import mock

import torch

import envs
from metarl.cli.benchmarks.sim import Row
from metarl.core import params as P
from metarl.noise import Noise
from metarl.rl.adapters.gradient import Adapted, GradientAdapter, inner_update
from metarl.rl.data.collect import Streams, collect
from metarl.rl.models.policies import mlp_policy
from metarl.run.seeding import Generators

NUM_TASKS, EPISODES_PER_TASK = 40, 20


def collect_rows(env_name: str, *, num_threads: int | None) -> list[Row]:
    """`collect` of 40 tasks x 20 episodes with another 64-64 policy for each task, as after an
    inner step. Where episodes end early also with physics that goes on in all worlds: steps beyond
    an end aren't counted."""
    generators = Generators(0)
    env = envs.make(env_name, NUM_TASKS * EPISODES_PER_TASK, num_threads=num_threads)
    policy = mlp_policy(
        env.observation_space,
        env.action_space,
        hidden_sizes=(64, 64),
        activation="tanh",
        init_std=1.0,
        min_std=1e-6,
        generator=generators("init"),
    )
    spread = generators("noise")
    adapted = {
        name: leaf + 0.01 * torch.randn(leaf.shape, generator=spread)
        for name, leaf in P.expand(P.of(policy), NUM_TASKS).items()
    }
    update = inner_update(
        policy,
        inner_rule="sgd",
        inner_lr=0.1,
        inner_lr_decay=1.0,
        num_inner_steps=1,
        adapt_only=None,
        inner_loss="reinforce",
        horizon=env.spec.horizon,
        discount=0.99,
        gae_lambda=1.0,
        chunk=1,
    )
    adapter = GradientAdapter(policy, P.of(policy), {}, update)
    state = Adapted(params=adapted, num_updates=1)
    streams = Streams(
        tasks=generators("tasks"),
        reset=Noise(generators("reset")),
        policy=Noise(generators("policy")),
    )
    tasks = env.prior.sample(NUM_TASKS, streams.tasks)

    def played() -> int:
        trajectories, _ = collect(
            env, adapter, state, tasks, streams, episodes_per_task=EPISODES_PER_TASK
        )
        return trajectories.num_steps

    def once() -> float:
        start = time.perf_counter()
        return played() / (time.perf_counter() - start)

    def without_rest() -> float:
        with mock.patch.object(env, "rest"):
            return once()

    name = f"collect {NUM_TASKS} x {EPISODES_PER_TASK} x {env.spec.horizon}"
    if played() == env.num_worlds * env.spec.horizon:
        return [(name, once)]
    return [(name, once), ("collect, no world rests", without_rest)]
