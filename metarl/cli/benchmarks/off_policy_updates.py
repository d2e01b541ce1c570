"""PEARL's update on made-up data, and the bare matrix products that it can't do without.

16 tasks with 256 steps each and a context of 100, of half_cheetah's sizes. The products are those
of every layer forwards, and backwards by its weights and by its input where a gradient has to go
there.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.sim.process import tune_process
from metarl.noise import Noise
from metarl.rl.algorithms.pearl import Batch, Pearl
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.data.replay import Steps
from metarl.rl.models.pearl import PearlModel
from metarl.threads import map_in_threads, on_one_thread

TASKS, STEPS, CONTEXT = 16, 256, 100
OBS_SIZE, ACTION_SIZE, LATENT_SIZE = 20, 6, 5
ENCODER_SIZES, HIDDEN_SIZES = (200, 200, 200), (300, 300, 300)
CHUNK = 8


def ours() -> Callable[[], Any]:
    """One update: critics and encoder, then policy and value."""
    tune_process()
    learner, batch = _learner(), _batch()
    return on_one_thread(lambda: learner.update(batch))


def products() -> Callable[[], Any]:
    """The products of an update on as many rows, in as many threads, and nothing else."""
    tune_process()
    rows, seen = CHUNK * STEPS, OBS_SIZE + LATENT_SIZE
    critic, value = (seen + ACTION_SIZE, *HIDDEN_SIZES, 1), (seen, *HIDDEN_SIZES, 1)
    policy = (seen, *HIDDEN_SIZES, 2 * ACTION_SIZE)
    encoder = (OBS_SIZE + ACTION_SIZE + 1, *ENCODER_SIZES, 2 * LATENT_SIZE)
    found = [
        *_of(encoder, CHUNK * CONTEXT, by_weights=True, by_input=False),
        *_of(value, rows, by_weights=False, by_input=None),  # the target
        *2 * _of(critic, rows, by_weights=True, by_input=True),  # the input holds z
        *_of(policy, rows, by_weights=True, by_input=False),
        *2 * _of(critic, rows, by_weights=False, by_input=True),  # the input holds the action
        *_of(value, rows, by_weights=True, by_input=False),
    ]
    chunks = TASKS // CHUNK

    def multiply(results: list[Tensor]) -> None:
        for (a, b, _), out in zip(found, results, strict=True):
            torch.mm(a, b, out=out)

    results = [[torch.empty_like(out) for *_, out in found] for _ in range(chunks)]
    return on_one_thread(lambda: map_in_threads(multiply, results))


Product = tuple[Tensor, Tensor, Tensor]
"""Two factors and where their product goes."""


def _of(
    sizes: tuple[int, ...], rows: int, *, by_weights: bool, by_input: bool | None
) -> list[Product]:
    """The products of a perceptron on `rows` rows.

    Args:
      by_weights: whether a gradient goes to the weights.
      by_input: whether one goes to the input; None where none comes in at all.
    """
    found = list[Product]()
    for i, (width, units) in enumerate(pairwise(sizes)):
        x, weight, g = torch.randn(rows, width), torch.randn(width, units), torch.randn(rows, units)
        found.append((x, weight, torch.empty(rows, units)))
        if by_weights:
            found.append((x.T, g, torch.empty(width, units)))
        if by_input is not None and (i > 0 or by_input):
            found.append((g, weight.T, torch.empty(rows, width)))
    return found


def _learner() -> Pearl:
    generator = torch.Generator().manual_seed(0)
    observations = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32)
    actions = gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
    model = PearlModel(
        observations,
        actions,
        latent_size=LATENT_SIZE,
        encoder_sizes=ENCODER_SIZES,
        hidden_sizes=HIDDEN_SIZES,
        context_has_next_obs=False,
        generator=generator,
    )
    setting = Setting(
        env=_Nowhere(observations, actions),  # type: ignore[arg-type]
        model=model,
        streams=Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator)),
        device=torch.device("cpu"),
    )
    return Pearl(
        setting=setting,
        meta_batch_size=5,
        initial_steps=2000,
        prior_steps=400,
        posterior_steps=0,
        rl_steps=600,
        replay_capacity=1,
        updates_per_iteration=1,
        batch_tasks=TASKS,
        batch_size=STEPS,
        context_size=CONTEXT,
        cost=None,
        kl_weight_executed=1.6,
        lr=3e-4,
        discount=0.99,
        reward_scale=5.0,
        target_rate=0.005,
        output_penalty=1e-3,
        exploration_episodes=2,
        evaluated_episodes=3,
        evaluated_context=None,
        chunk=CHUNK,
    )


class _Nowhere:
    """All that a learner asks of an environment before it plays."""

    num_train = None

    def __init__(self, observations: gymnasium.Space, actions: gymnasium.Space) -> None:
        self.prior = self
        self.observation_space = observations
        self.action_space = actions

    def train_tasks(self) -> None:
        return None


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        context=_steps(CONTEXT, generator),
        steps=_steps(STEPS, generator),
        z_noise=torch.randn(TASKS, LATENT_SIZE, generator=generator),
        action_noise=torch.randn(TASKS, STEPS, ACTION_SIZE, generator=generator),
    )


def _steps(num: int, generator: torch.Generator) -> Steps:
    def normal(*shape: int) -> Tensor:
        return torch.randn(TASKS, num, *shape, generator=generator)

    flags = torch.zeros(TASKS, num, dtype=torch.bool)
    return Steps(
        obs=normal(OBS_SIZE),
        action=normal(ACTION_SIZE).tanh(),
        reward=normal(),
        next_obs=normal(OBS_SIZE),
        terminated=flags,
        first=flags,
        mask=~flags,
    )
