"""Collection against an environment whose every number can be told in advance."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import envs
from envs.mujoco.env import MujocoEnv
from metarl.noise import Noise
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.algorithms.shared import rollout_metrics
from metarl.rl.data.collect import Streams, collect
from metarl.rl.data.record import Record
from metarl.rl.data.rounds import Rollouts, gather
from metarl.rl.spec import EnvSpec
from metarl.rl.types import Act, RLAdapter, Step, Trajectories
from metarl.struct import map_tensors, replace, struct

HORIZON = 5


@struct
class Lengths:
    length: Tensor  # [N] steps after which an episode terminates


class Counter:
    """obs = [world, steps so far]; reward = 10 * world + step; terminates after the task's length,
    truncates at HORIZON."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    num_uniforms = 0
    spec = EnvSpec(
        name="counter", family="counter", variant="default", horizon=HORIZON, definition={}
    )

    def __init__(self, num_worlds: int, solved_at: list[int] | None = None):
        """solved_at: the step of each world at which it has success; None: it doesn't say."""
        self.num_worlds, self.solved_at = num_worlds, solved_at
        self.rested: list[list[bool]] = []

    def set_tasks(self, tasks: Lengths) -> None:
        self.length = tasks.length

    def reset(self, uniform, worlds=None) -> Tensor:
        self.count = torch.zeros(self.num_worlds)
        return self._obs()

    def step(self, action: Tensor) -> Step:
        self.count += 1
        worlds = torch.arange(self.num_worlds)
        terminated = self.count >= self.length
        return Step(
            next_obs=self._obs(),
            reward=10.0 * worlds + self.count,
            terminated=terminated,
            truncated=(self.count >= HORIZON) & ~terminated,
            diverged=torch.zeros(self.num_worlds, dtype=torch.bool),
            terms={}
            if self.solved_at is None
            else {"success": (self.count == torch.tensor(self.solved_at)).float()},
        )

    def check(self) -> None:
        return

    def rest(self, worlds: Tensor) -> None:
        self.rested.append(worlds.tolist())

    def _obs(self) -> Tensor:
        return torch.stack([torch.arange(self.num_worlds).float(), self.count], dim=1)


class Memory(RLAdapter[dict[str, int]]):
    """An adapter whose state counts the steps it has observed; acts with its number of updates."""

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return {"steps": 0, "updates": 0}

    def act(self, state, obs, noise):
        return Act(action=torch.full((len(obs), 1), float(state["updates"])), log_prob=-obs[:, 1])

    def observe(self, state, obs, act, step):
        return {**state, "steps": state["steps"] + 1}

    def update(self, state, data, noise=None):
        return {**state, "updates": state["updates"] + 1}


@pytest.fixture
def streams():
    return Streams(
        tasks=torch.Generator(), reset=Noise(torch.Generator()), policy=Noise(torch.Generator())
    )


def test_steps_land_at_their_task_episode_and_time(streams):
    tasks = Lengths(length=torch.tensor([99, 99, 3]))
    trajectories, state = collect(
        Counter(6), Memory(), Memory().begin(3), tasks, streams, episodes_per_task=2
    )
    assert trajectories.obs.shape == (3, 2, HORIZON + 1, 2)
    assert trajectories.step_obs.data_ptr() == trajectories.obs.data_ptr()  # views, not copies
    assert trajectories.next_obs.data_ptr() == trajectories.obs[:, :, 1:].data_ptr()
    world = torch.tensor([[0, 1], [2, 3], [4, 5]])
    assert (trajectories.obs[:2, ..., 0] == world[:2, :, None]).all()
    assert trajectories.step_obs[0, 1, :, 1].tolist() == [0, 1, 2, 3, 4]
    assert trajectories.next_obs[0, 1, :, 1].tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]  # the successor, also at the time limit
    assert trajectories.reward[1, 1].tolist() == [31, 32, 33, 34, 35]
    assert trajectories.log_prob[0, 0].tolist() == [0, -1, -2, -3, -4]
    assert state["steps"] == HORIZON


def test_nothing_after_an_episodes_end_counts(streams):
    tasks = Lengths(length=torch.tensor([99, 99, 3]))
    trajectories, _ = collect(
        Counter(6), Memory(), Memory().begin(3), tasks, streams, episodes_per_task=2
    )
    assert trajectories.mask[2].tolist() == [[True, True, True, False, False]] * 2
    assert trajectories.terminated[2, 0].tolist() == [False, False, True, False, False]
    assert trajectories.truncated[0, 0].tolist() == [False, False, False, False, True]
    assert not trajectories.truncated[2].any()
    assert trajectories.returns[2].tolist() == [41 + 42 + 43, 51 + 52 + 53]
    assert (trajectories.reward[2, :, 3:] == 0).all() and (trajectories.obs[2, :, 4:] == 0).all()
    assert trajectories.next_obs[2, :, 2, 1].tolist() == [3, 3]
    assert trajectories.num_steps == 4 * HORIZON + 2 * 3


def test_what_was_recorded_may_be_written_over():
    """With one step and one world, too, whose rows need no new order."""
    record, obs = Record(1, torch.ones(1, 2)), torch.full((1, 2), 2.0)
    flag, running = torch.zeros(1, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    step = Step(
        next_obs=obs, reward=obs[:, 0], terminated=flag, truncated=flag, diverged=flag, terms={}
    )
    record.add(0, Act(action=obs), step, running, {"error": obs[:, 0]})
    found = record.trajectories(1, 1)
    kept = map_tensors(torch.clone, found)
    record.add(0, Act(action=0 * obs), replace(step, next_obs=0 * obs), ~running, {})
    assert found.obs.tolist() == kept.obs.tolist() == [[[[1, 1], [2, 2]]]]
    assert torch.equal(found.action, kept.action) and found.mask.all()


def test_collection_ends_when_every_episode_has_ended(streams):
    tasks = Lengths(length=torch.tensor([2, 1]))
    env = Counter(2)
    trajectories, state = collect(
        env, Memory(), Memory().begin(2), tasks, streams, episodes_per_task=1
    )
    assert state["steps"] == 2
    # Whose episode has ended need not be simulated.
    assert env.rested == [[False, True], [True, True]]
    assert trajectories.mask.shape == (2, 1, HORIZON)


def test_success_at_any_step_counts_but_not_after_the_episodes_end(streams):
    tasks = Lengths(length=torch.tensor([99, 3]))
    env = Counter(4, solved_at=[2, HORIZON + 1, 3, 4])
    trajectories, _ = collect(env, Memory(), Memory().begin(2), tasks, streams, episodes_per_task=2)
    assert trajectories.success.tolist() == [[True, False], [True, False]]
    silent, _ = collect(
        Counter(4), Memory(), Memory().begin(2), tasks, streams, episodes_per_task=2
    )
    assert silent.success is None
    none_solved, _ = collect(
        Counter(4, solved_at=[99] * 4),
        Memory(),
        Memory().begin(2),
        tasks,
        streams,
        episodes_per_task=2,
    )
    metrics = rollout_metrics(Rollouts(support=(none_solved,), query=trajectories))
    assert (metrics["success_before"], metrics["success_after"]) == (0.0, 0.5)
    assert not any(
        "success" in name for name in rollout_metrics(Rollouts(support=(silent,), query=silent))
    )


def test_gather_collects_before_each_update_and_after_the_last(streams):
    tasks = Lengths(length=torch.tensor([99, 99]))
    rollouts = gather(
        Counter(4), Memory(), tasks, streams, num_tasks=2, num_updates=2, device="cpu"
    )
    assert [t.action.unique().tolist() for t in (*rollouts.support, rollouts.query)] == [
        [0.0],
        [1.0],
        [2.0],
    ]
    assert rollouts.num_steps == 3 * 4 * HORIZON
    assert rollouts.traces == (None, None)


class Traced(Memory):
    """Tells what each update has learned from."""

    def traced_update(self, state, data, noise=None):
        return self.update(state, data), data.action.unique().item()


def test_gather_keeps_what_each_update_worked_out(streams):
    tasks = Lengths(length=torch.tensor([99, 99]))
    rollouts = gather(
        Counter(4), Traced(), tasks, streams, num_tasks=2, num_updates=2, device="cpu"
    )
    assert rollouts.traces == (0.0, 1.0)


def test_worlds_that_do_not_fit_the_episodes_are_refused(streams):
    with pytest.raises(ValueError, match="5 worlds.*2 episodes per task"):
        collect(
            Counter(5), Memory(), {}, Lengths(length=torch.ones(2)), streams, episodes_per_task=2
        )


class Holding(RLAdapter[Tensor]):
    """Draws a number for each world before every episode and does nothing but repeat it."""

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return self._draw(num_tasks * episodes_per_task, noise)

    def act(self, state, obs, noise):
        return Act(action=state)

    def update(self, state, data, noise=None):
        return self._draw(len(state), noise)

    def _draw(self, num_worlds, noise):
        return torch.zeros(num_worlds, 1) if noise is None else noise.normal(num_worlds, 1)


def test_what_a_policy_draws_for_an_episode_is_held_until_the_next(streams):
    sizes = {"num_tasks": 2, "num_updates": 1, "device": "cpu"}
    rollouts = gather(
        Counter(4), Holding(), Lengths(length=torch.tensor([99, 99])), streams, **sizes
    )
    first, second = rollouts.support[0].action[..., 0], rollouts.query.action[..., 0]
    assert (first == first[..., :1]).all() and (second == second[..., :1]).all()
    drawn = torch.cat([first[..., 0].flatten(), second[..., 0].flatten()])
    assert len(drawn.unique()) == 8
    assert (rollouts.query.log_prob == 0).all()  # it has no density


def test_worlds_that_rest_change_no_number(monkeypatch):
    """Neither of an episode nor of the next one, in other physics."""

    def played() -> list[Trajectories]:
        env = envs.make("hopper_rand_params", 12, horizon=60, num_threads=1)
        adapter, generator = UniformActions(env.action_space), torch.Generator().manual_seed(0)
        of = Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator))
        return [
            collect(env, adapter, None, env.prior.sample(4, generator), of, episodes_per_task=3)[0]
            for _ in range(2)
        ]

    resting = played()
    monkeypatch.setattr(MujocoEnv, "rest", lambda env, worlds: None)
    for found, expected in zip(resting, played(), strict=True):
        lengths = expected.mask.sum(-1)
        assert lengths.min() < lengths.max() < 60
        assert torch.equal(found.mask, expected.mask)
        for name in ("obs", "action", "reward", "terminated"):
            own, other = (getattr(of, name) for of in (found, expected))
            if name == "obs":
                own, other = own[:, :, :-1], other[:, :, :-1]
            assert torch.equal(own[found.mask], other[expected.mask]), name
        assert torch.equal(found.next_obs[found.mask], expected.next_obs[found.mask])
