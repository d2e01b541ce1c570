"""Experts that are fine-tuned: each by its own task's data, on as many rounds as an update has."""

from typing import Any

import pytest
import torch
from support.played import trajectories
from torch import Tensor, nn

import envs
from metarl.noise import Noise
from metarl.rl.adapters.fine_tuning import FineTuningAdapter
from metarl.rl.data.collect import Streams
from metarl.rl.data.replay import Replay
from metarl.rl.data.rounds import gather, rounds
from metarl.rl.evaluation.curve import adaptation_curve
from metarl.rl.types import Trajectories

N, E, T = 3, 2, 4


class Sums:
    """Its only number grows by the sum of the rewards that it learns from; it always walks by the
    number."""

    def __init__(self, *, keeps_data: bool = False) -> None:
        self.keeps_data = keeps_data
        self.learned: list[tuple[Trajectories, Any]] = []

    def outputs(self, numbers: Any, obs: Tensor) -> Any:
        return {"mean": numbers["sum"][:, None, None].expand(*obs.shape[:-1], 2)}

    def act(self, outputs: Any, noise: Any) -> Any:
        return outputs["mean"].clone(), None

    def log_prob(self, outputs: Any, action: Tensor) -> Any:
        return None

    def learn(self, numbers: Any, data: Trajectories, draw: Any, noise: Any) -> Any:
        self.learned.append((data, None if draw is None else draw(200)))
        return {"sum": numbers["sum"] + data.reward.sum()}, {}

    def greedy(self, numbers: Any) -> nn.Module:
        return nn.Identity()


def adapter_of(expert: Sums, *, rounds_per_update: int = 1) -> FineTuningAdapter:
    def replay(capacity: int) -> Replay:
        space = envs.make("point_navigation_2d", num_worlds=1).action_space
        return Replay(
            num_tasks=1,
            capacity=capacity,
            obs_size=2,
            action_space=space,
            device=torch.device("cpu"),
        )

    return FineTuningAdapter(
        expert,  # type: ignore[arg-type]
        lambda num: {"sum": torch.zeros(num)},
        replay=replay if expert.keeps_data else None,
        rounds_per_update=rounds_per_update,
    )


def streams() -> Streams:
    drawn = [torch.Generator().manual_seed(seed) for seed in range(3)]
    return Streams(tasks=drawn[0], reset=Noise(drawn[1]), policy=Noise(drawn[2]))


def test_each_tasks_expert_learns_from_its_own_episodes() -> None:
    adapter = adapter_of(Sums())
    data = trajectories(torch.Generator().manual_seed(0), N, E, T)
    state = adapter.update(adapter.begin(N, E), data, None)
    torch.testing.assert_close(state.numbers["sum"], data.reward.sum((1, 2)))
    action = adapter.act(state, torch.zeros(N * E, 2), None).action
    torch.testing.assert_close(action[:, 0], state.numbers["sum"].repeat_interleave(E))


def test_what_learns_from_old_data_draws_from_all_of_its_tasks_episodes_and_from_no_others() -> (
    None
):
    expert = Sums(keeps_data=True)
    adapter = adapter_of(expert)
    state = adapter.begin(N, E)
    # The second update may have other episodes than the first.
    batches = [trajectories(torch.Generator().manual_seed(i), N, E + i, T) for i in range(2)]
    for data in batches:
        state = adapter.update(state, data, Noise(torch.Generator().manual_seed(0)))
    new, drawn = expert.learned[-1]
    assert torch.equal(new.reward, batches[1].reward[-1:])
    own = torch.cat([data.reward[-1].flatten() for data in batches])
    # Of 20 steps, 200 draws miss one with a chance of 20 · 0.95^200 = 7e-4.
    assert set(drawn.reward.flatten().tolist()) == set(own.tolist())


@pytest.mark.parametrize(("each", "learns"), [(1, 1), (3, 3), (0, 0)])
def test_an_update_takes_as_many_rounds_as_it_is_told_and_shows_the_first_of_each(
    each: int, learns: int
) -> None:
    expert = Sums()
    env = envs.make("point_navigation_2d", num_worlds=N * E, horizon=T)
    tasks, adapter = env.prior.test_tasks(N), adapter_of(expert, rounds_per_update=each)
    curve = adaptation_curve(adapter, env, tasks, streams(), num_tasks=N, num_updates=2)
    assert len(expert.learned) == 2 * learns * N
    assert curve.returns.shape == (N, 3, E)
    # Standing at the start, nobody arrives: what isn't shown is counted, too.
    steps = [played.num_steps for played in again(env, adapter, tasks)]
    assert curve.env_steps == sum(steps)
    if each == 3:
        assert steps[0] < steps[1]
    numbers = [state.numbers["sum"] for state in curve.states]
    if each == 1:
        torch.testing.assert_close(numbers[1], curve.returns[:, 0].sum(-1))
    assert torch.equal(numbers[0], numbers[2]) == (each == 0)


def again(env: Any, adapter: FineTuningAdapter, tasks: Any) -> list[Any]:
    return list(rounds(env, adapter, tasks, streams(), num_tasks=N, num_updates=2))


def test_a_meta_batch_has_the_shown_episodes_alone() -> None:
    env = envs.make("point_navigation_2d", num_worlds=N * E, horizon=T)
    adapter, tasks = adapter_of(Sums(), rounds_per_update=2), env.prior.test_tasks(N)
    found = gather(env, adapter, tasks, streams(), num_tasks=N, num_updates=1, device="cpu")
    assert len(found.support) == 1
