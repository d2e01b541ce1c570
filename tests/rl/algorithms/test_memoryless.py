"""The policy that can't adapt: it finds the best that can be had without knowing the task, episode
by episode."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.nn.recurrent import GRU, NoMemory
from metarl.noise import Noise
from metarl.rl.algorithms.memoryless_ppo import MemorylessPPO
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.models.memory import MemoryModel
from metarl.rl.spec import EnvSpec
from metarl.rl.types import References, Step
from metarl.run.seeding import Generators
from metarl.struct import replace, struct

SETTINGS = {
    "meta_batch_size": 20,
    "episodes_per_task": 5,
    "outer_lr": 1e-2,
    "num_epochs": 3,
    "num_minibatches": 2,
    "clip": 0.2,
    "kl_target": None,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.0,
    "entropy_half_life": None,
    "max_grad_norm": 0.5,
    "discount": 0.7,
    "gae_lambda": 0.95,
}


@struct
class Door:
    right: Tensor  # [N] int64: the door of two that pays


class Doors:
    """Door 0 pays 1 in three tasks of four, door 1 in the others; choice 2 waits. A door ends the
    episode, waiting pays 0.3 a step.

    Who doesn't know the task earns most by waiting for two steps and then taking door 0: 0.6 + 0.75
    = 1.35. Discounted by 0.7 it is 0.3 + 0.7 (0.3 + 0.7 · 0.75) = 0.88, more than the 0.75 of door
    0 at once. If an episode's end led on to the next episode, that would be worth more: 0.75 + 0.7
    · 0.88 = 1.36, and waiting for a step first 0.3 + 0.7 · 1.36 = 1.25.
    """

    observation_space = gymnasium.spaces.Box(0, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)
    spec = EnvSpec(name="doors", family="doors", variant="default", horizon=3, definition={})

    def __init__(self, num_worlds: int) -> None:
        self.num_worlds, self.num_uniforms, self.prior = num_worlds, 0, self

    def sample(self, num, generator) -> Door:
        return Door(right=(torch.rand(num, generator=generator) > 0.75).long())

    def set_tasks(self, tasks: Door) -> None:
        self.right = tasks.right

    def reset(self, uniform, worlds=None) -> Tensor:
        self.count = 0
        return self.observe()

    @property
    def references(self) -> References[Door]:
        # The oracle waits for two steps, then takes the right door.
        return References(
            known_returns=lambda tasks, _: {"oracle": torch.full((len(tasks.right),), 1.6)}
        )

    def observe(self) -> Tensor:
        return torch.eye(3)[self.count % 3].expand(self.num_worlds, 3)

    def check(self) -> None:
        return

    def rest(self, worlds: Tensor) -> None:
        return

    def step(self, action: Tensor) -> Step:
        self.count += 1
        waits = action == 2
        return Step(
            next_obs=self.observe(),
            reward=torch.where(waits, torch.tensor(0.3), (action == self.right).float()),
            terminated=~waits | torch.tensor(self.count == 3),
            truncated=torch.zeros(self.num_worlds, dtype=torch.bool),
            diverged=torch.zeros(self.num_worlds, dtype=torch.bool),
            terms={},
        )


class Trapdoors(Doors):
    """Every step costs 1, but choice 0 blows the physics up, which ends the episode."""

    def step(self, action: Tensor) -> Step:
        step, blows_up = super().step(action), action == 0
        return replace(
            step,
            reward=-(~blows_up).float(),
            terminated=blows_up | torch.tensor(self.count == 3),
            diverged=blows_up,
        )


def make(
    *, env: type[Doors] = Doors, memory=NoMemory, has_feedback=False, **changes
) -> MemorylessPPO:
    settings, generators = SETTINGS | changes, Generators(0)
    env = env(settings["meta_batch_size"] * settings["episodes_per_task"])
    model = MemoryModel(
        env.observation_space,
        env.action_space,
        memory=lambda **sizes: memory(hidden_size=8, **sizes),
        has_feedback=has_feedback,
        head_sizes=(),
        activation="tanh",
        init_std=0.5,
        min_std=1e-3,
        generator=generators("init"),
    )
    streams = Streams(
        tasks=generators("tasks"),
        reset=Noise(generators("reset")),
        policy=Noise(generators("policy")),
    )
    return MemorylessPPO(
        setting=Setting(env=env, model=model, streams=streams, device=torch.device("cpu")),
        **settings,
    )


def test_it_learns_the_best_that_can_be_had_without_knowing_the_task():
    learner = make()
    metrics = [learner.step() for _ in range(60)]
    returns = [row["return"] for row in metrics]
    # A return has a deviation below 0.5; the mean of 10 x 100 of them one of 0.02. What is left is
    # exploration.
    assert sum(returns[-10:]) / 10 == pytest.approx(1.35, abs=0.07)
    assert metrics[-1]["regret"] == pytest.approx(1.6 - returns[-1])


def test_it_does_not_learn_to_blow_the_physics_up():
    learner = make(env=Trapdoors)
    metrics = [learner.step() for _ in range(60)]
    # By chance a third of the steps blow up, of three in a row 70 %.
    assert metrics[0]["diverged_episodes"] == pytest.approx(70, abs=20)
    assert sum(row["diverged_episodes"] for row in metrics[-10:]) / 10 < 85


class Broken(Doors):
    """The physics blows up at once, whatever one does."""

    def step(self, action: Tensor) -> Step:
        step, all_worlds = super().step(action), torch.ones(self.num_worlds, dtype=torch.bool)
        return replace(
            step, reward=torch.zeros(self.num_worlds), terminated=all_worlds, diverged=all_worlds
        )


def test_where_all_worlds_blow_up_at_once_it_says_so():
    with pytest.raises(FloatingPointError, match="all worlds diverged at their first step"):
        make(env=Broken).step()


def test_there_is_no_update_between_its_episodes():
    sizes = MemorylessPPO.sizes(**SETTINGS)
    assert (
        sizes.num_tasks,
        sizes.episodes_per_task,
        sizes.num_updates,
        sizes.evaluated_updates,
    ) == (20, 5, 0, 0)


def test_a_saved_learner_goes_on_bit_for_bit():
    learner, other = make(), make()
    learner.step()
    other.load_state_dict(learner.state_dict())
    assert torch.equal(
        other.state_dict()["model"]["memory.layer.weight"],
        learner.state_dict()["model"]["memory.layer.weight"],
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"memory": GRU}, "model has a GRU, which can know its task; expected model=memoryless"),
        ({"has_feedback": True}, "model.has_feedback is True"),
        ({"episodes_per_task": 0}, "episodes_per_task 0: expected 1 or more"),
        ({"num_minibatches": 101}, "num_minibatches 101: expected 1 to 100"),
    ],
)
def test_what_could_know_its_task_or_is_out_of_range_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)
