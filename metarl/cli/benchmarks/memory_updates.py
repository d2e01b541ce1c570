"""RL²'s update and acting on made-up data: ours, and the plain way to compare it with.

The plain way to train is a loop of GRU cells over time; the plain way to act with a transformer is
to run the whole trial so far through it at every step.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

import envs
from envs.sim.process import tune_process
from metarl.nn.recurrent import GRU
from metarl.nn.transformer import Transformer
from metarl.noise import Noise
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.algorithms.rl2_ppo import RL2PPO
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.data.trials import Trials
from metarl.rl.models.memory import MemoryModel
from metarl.threads import on_one_thread

NUM_TRIALS, HIDDEN_SIZE = 40, 128
OBS_SIZE, ACTION_SIZE = 17, 6
TRANSFORMER = {"width": 64, "num_layers": 2, "num_heads": 4}
NUM_WORLDS = 64
NUM_STEPS_TIMED = 20


class CellLoop(nn.Module):
    """A GRU as one writes it first: a cell, called in a Python loop over time."""

    max_steps = None

    def __init__(
        self, input_size: int, hidden_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.cell = nn.GRUCell(input_size, hidden_size)

    def sequence(self, x: torch.Tensor) -> torch.Tensor:
        hidden, outputs = x.new_zeros(x.shape[1], self.output_size), []
        for row in x:
            hidden = self.cell(row, hidden)
            outputs.append(hidden)
        return torch.stack(outputs)


def epoch_plain(num_steps: int) -> Callable[[], Any]:
    return _epoch(CellLoop, num_steps)


def epoch_ours(num_steps: int) -> Callable[[], Any]:
    return _epoch(GRU, num_steps)


def _epoch(memory: Callable[..., nn.Module], num_steps: int) -> Callable[[], Any]:
    """One PPO epoch, a single minibatch, over 40 trials, back through all of their steps."""
    tune_process()
    learner = _learner(memory, num_steps)
    trials = _trials(num_steps)
    batch = learner.ppo.batch(trials, learner.inputs(trials))
    return lambda: learner.ppo.descend(batch, torch.arange(batch.inputs.shape[1]))


def _learner(memory: Callable[..., nn.Module], horizon: int) -> RL2PPO:
    generator = torch.Generator().manual_seed(0)
    observations = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32)
    actions = gymnasium.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
    setting = Setting(
        env=_Nowhere(horizon),  # type: ignore[arg-type]
        model=_model(memory, observations, actions, generator),
        streams=Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator)),
        device=torch.device("cpu"),
    )
    return RL2PPO(
        setting=setting,
        meta_batch_size=NUM_TRIALS,
        trials_per_task=1,
        episodes_per_trial=1,
        outer_lr=1e-3,
        num_epochs=1,
        num_minibatches=1,
        clip=0.2,
        kl_target=None,
        value_coefficient=0.5,
        entropy_coefficient=0.01,
        entropy_half_life=None,
        max_grad_norm=0.5,
        discount=0.99,
        gae_lambda=0.95,
    )


def _model(
    memory: Callable[..., nn.Module],
    observations: gymnasium.spaces.Box,
    actions: gymnasium.Space,
    generator: torch.Generator,
) -> MemoryModel:
    return MemoryModel(
        observations,
        actions,
        memory=lambda **sizes: memory(hidden_size=HIDDEN_SIZE, **sizes),
        has_feedback=True,
        head_sizes=(64,),
        activation="tanh",
        init_std=0.5,
        min_std=0.01,
        generator=generator,
    )


class _Nowhere:
    """All that a learner asks of an environment before it gathers."""

    def __init__(self, horizon: int) -> None:
        self.spec = type("Spec", (), {"horizon": horizon})


def _trials(num_steps: int) -> Trials:
    generator = torch.Generator().manual_seed(1)
    size = (num_steps, NUM_TRIALS)
    flags = torch.zeros(size, dtype=torch.bool)
    return Trials(
        obs=torch.randn(num_steps + 1, NUM_TRIALS, OBS_SIZE, generator=generator),
        action=torch.randn(*size, ACTION_SIZE, generator=generator),
        reward=torch.randn(size, generator=generator),
        log_prob=torch.full(size, -8.0),
        terminated=flags,
        truncated=flags,
        diverged=flags,
        mask=~flags,
    )


def gru_of_torch(num_steps: int, num_trials: int) -> Callable[[], Any]:
    memory, x = _gru(num_steps, num_trials)
    return lambda: memory.layer(x)[0].sum().backward()


def gru_ours(num_steps: int, num_trials: int) -> Callable[[], Any]:
    memory, x = _gru(num_steps, num_trials)
    return lambda: memory.sequence(x).sum().backward()


def _gru(num_steps: int, num_trials: int) -> tuple[GRU, torch.Tensor]:
    """A GRU as VariBAD's encoder and RL² have it, and what goes into it."""
    generator = torch.Generator().manual_seed(0)
    memory = GRU(OBS_SIZE + ACTION_SIZE + 1, 64, generator=generator)
    return memory, torch.randn(num_steps, num_trials, memory.layer.input_size, generator=generator)


def transformer_plain(num_steps: int) -> Callable[[], Any]:
    """20 steps of 64 worlds in a trial that is `num_steps` long already, by running all of it each
    time."""
    memory, past = _transformer(num_steps)

    @torch.no_grad()
    def steps() -> None:
        for _ in range(NUM_STEPS_TIMED):
            memory.sequence(past)

    return steps


def transformer_ours(num_steps: int) -> Callable[[], Any]:
    """20 steps of 64 worlds in a trial that is `num_steps` long already, with the keys and values
    of the past kept."""
    memory, past = _transformer(num_steps)
    with torch.no_grad():
        state = memory.initial(NUM_WORLDS)
        for x in past[:-1]:
            state = memory.step(x, state)[1]

    @torch.no_grad()
    def steps() -> None:
        for _ in range(NUM_STEPS_TIMED):
            memory.step(past[-1], state)

    return steps


def twice(factory: Callable[..., Callable[[], Any]], *args: Any) -> Callable[[], Any]:
    """What `factory` makes, done two times: what twice the length may cost if cost is linear."""
    step = factory(*args)

    def both() -> None:
        step()
        step()

    return both


def acting_with_env() -> Callable[[], Any]:
    """20 control steps of 64 worlds of half_cheetah_vel, policy and environment, as `collect` takes
    them."""
    env, adapter, state, obs, generator = _acting()

    @on_one_thread
    def steps() -> None:
        present, seen = state, obs
        for _ in range(NUM_STEPS_TIMED):
            act = adapter.act(present, seen, Noise(generator))
            step = env.step(act.action)
            present, seen = adapter.observe(present, seen, act, step), step.next_obs

    return steps


def acting_alone() -> Callable[[], Any]:
    """The policy's part of the same: GRU-128, heads, sampling, log-probabilities, and taking in
    what happened."""
    env, adapter, state, obs, generator = _acting()
    step = env.step(adapter.act(state, obs, Noise(generator)).action)

    @on_one_thread
    def steps() -> None:
        present = state
        for _ in range(NUM_STEPS_TIMED):
            act = adapter.act(present, obs, Noise(generator))
            present = adapter.observe(present, obs, act, step)

    return steps


def _acting() -> tuple[Any, MemoryAdapter, Any, torch.Tensor, torch.Generator]:
    tune_process()
    env, generator = envs.make("half_cheetah_vel", NUM_WORLDS), torch.Generator().manual_seed(0)
    model = _model(GRU, env.observation_space, env.action_space, generator)
    adapter = MemoryAdapter(model)
    env.set_tasks(env.prior.sample(NUM_WORLDS, generator))
    return (
        env,
        adapter,
        adapter.begin(NUM_WORLDS),
        env.reset(Noise(generator).starts(env)),
        generator,
    )


def _transformer(num_steps: int) -> tuple[Transformer, torch.Tensor]:
    tune_process()
    generator = torch.Generator().manual_seed(0)
    size = OBS_SIZE + ACTION_SIZE + 3
    memory = Transformer(size, context=num_steps + 1, generator=generator, **TRANSFORMER)
    return memory, torch.randn(num_steps, NUM_WORLDS, size, generator=generator)
