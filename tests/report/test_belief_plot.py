"""The picture of a belief over a trial: that it is of the right world, step by step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.drifting import Drifting, Lengths

from envs import make
from envs.small.gridworld import GoalCell
from metarl.noise import Noise
from metarl.report import belief_plot
from metarl.report.belief_plot import BelievedEpisode, belief_png, belief_pngs
from metarl.rl.data.collect import Streams
from metarl.rl.types import Act, Belief, RLAdapter


class Counting(RLAdapter[torch.Tensor]):
    """Believes how many steps it has seen, in its first number, and in its second which world it is
    in."""

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return torch.zeros(num_tasks * episodes_per_task)

    def act(self, state, obs, noise):
        return Act(action=torch.zeros(len(obs), 2))

    def observe(self, state, obs, act, step):
        return state + 1

    def belief(self, state):
        worlds = torch.arange(len(state)).float()
        return Belief(mean=torch.stack([state, worlds], 1), deviation=torch.ones(len(state), 2))


def test_beliefs_are_those_of_the_tasks_first_world_before_and_after_each_step(
    tmp_path, monkeypatch
) -> None:
    drawn = {}
    monkeypatch.setattr(
        belief_plot, "belief_png", lambda path, episodes, title: drawn.update({title: episodes})
    )
    generator = torch.Generator().manual_seed(0)
    streams = Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator))
    tasks = Lengths(length=torch.tensor([3, 9]))
    sizes = {"num_tasks": 2, "num_updates": 1, "titles": ["a", "b"]}
    belief_pngs({1: tmp_path / "b.png"}, Drifting(4), Counting(), tasks, streams, **sizes)
    assert list(drawn) == ["b"]
    first, second = drawn["b"]
    assert first.mean[:, 1].tolist() == [2.0] * 6  # two worlds a task; an episode has five steps
    assert first.mean[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert second.mean[:, 0].tolist() == [5, 6, 7, 8, 9, 10]
    assert first.maps is None and len(first.paid) == 5


def test_the_state_that_pays_in_truth_is_framed(tmp_path, monkeypatch) -> None:
    class Guessing(Counting):
        def act(self, state, obs, noise):
            return Act(action=torch.zeros(len(obs), dtype=torch.int64))

        def belief(self, state):
            return replace(super().belief(state), chances=torch.full((len(state), 25), 0.5))

    drawn = {}
    monkeypatch.setattr(
        belief_plot, "belief_png", lambda path, episodes, title: drawn.update({title: episodes})
    )
    generator = torch.Generator().manual_seed(0)
    streams = Streams(tasks=generator, reset=Noise(generator), policy=Noise(generator))
    tasks = GoalCell(goal=torch.tensor([[4, 4], [1, 3]]))
    sizes = {"num_tasks": 2, "num_updates": 0, "titles": ["a", "b"]}
    env = make("gridworld_5x5", 2)
    belief_pngs({1: tmp_path / "b.png"}, env, Guessing(), tasks, streams, **sizes)
    assert drawn["b"][0].paying.tolist() == [[1, 3]]


@pytest.mark.parametrize("has_maps", [False, True])
def test_a_picture_is_written(has_maps, tmp_path) -> None:
    def episode(num_steps: int) -> BelievedEpisode:
        rows = num_steps + 1
        return BelievedEpisode(
            mean=np.zeros((rows, 2)),
            deviation=np.ones((rows, 2)),
            maps=np.full((rows, 2, 3), 0.5) if has_maps else None,
            places=np.zeros((rows, 2), int),
            paid=np.zeros(num_steps, bool),
            paying=np.array([[1, 2]]) if has_maps else np.zeros((0, 2), int),
        )

    belief_png(tmp_path / "belief.png", [episode(3), episode(2)], title="a task")
    with Image.open(tmp_path / "belief.png") as picture:
        assert min(picture.size) > 100
