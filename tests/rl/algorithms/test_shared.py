"""What learners share: an iteration of one's own is told what it does wrong."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import nn

import envs
from metarl.errors import SettingError
from metarl.nn.heads import GaussianPolicy
from metarl.noise import Noise
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.algorithms.shared import GatheringLearner, Setting
from metarl.rl.data.collect import Streams


class Own(GatheringLearner):
    """Iterates as a test says."""

    def __init__(self, iteration: Callable[["Own"], Any]) -> None:
        self._iteration = iteration

    def iteration(self) -> Any:
        return self._iteration(self)

    def adapter(self) -> Any:
        return UniformActions(Discrete(2))


def yields(what: Any) -> Callable[[Own], Any]:
    def iteration(learner: Own) -> Any:
        yield what
        return {}

    return iteration


@pytest.mark.parametrize(
    ("iteration", "said"),
    [
        (lambda learner: {"return": 1.0}, "Own.iteration returned {'return': 1.0} without a yield"),
        (lambda learner: None, "Own.iteration returned None without a yield; expected a generator"),
        (yields(nn.Linear(1, 1)), "Own.iteration yielded a Linear; expected an adapter, which"),
        (yields(None), "Own.iteration yielded None; expected an adapter"),
        (yields(UniformActions), "Own.iteration yielded the class UniformActions; expected"),
    ],
)
def test_an_iteration_that_asks_for_nothing_that_acts_is_told_so(
    iteration: Callable[[Own], Any], said: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        list(Own(iteration).asking())


def test_an_iteration_is_thrown_what_came_in_place_of_its_episodes() -> None:
    seen: list[str] = []

    def iteration(learner: Own) -> Any:
        try:
            yield learner.adapter()
        except FloatingPointError as error:
            seen.append(str(error))
        got = yield learner.adapter()
        return {"got": got}

    asking = Own(iteration).asking()
    next(asking)
    asking.throw(FloatingPointError("NaN"))
    with pytest.raises(StopIteration) as end:
        asking.send(3)
    assert seen == ["NaN"] and end.value.value == {"got": 3}


class ForwardAlone(GaussianPolicy):
    def forward(self, obs: Any) -> Any:
        outputs = super().forward(obs)
        return outputs | {"mean": outputs["mean"] + 1}


def test_a_policy_that_acts_otherwise_than_it_is_differentiated_is_refused() -> None:
    env = envs.make("point_navigation_2d", 2)
    model = ForwardAlone(2, 2, (4,), generator=torch.Generator().manual_seed(0))
    noises = [Noise(torch.Generator()) for _ in range(2)]
    streams = Streams(tasks=torch.Generator(), reset=noises[0], policy=noises[1])
    with pytest.raises(SettingError, match="ForwardAlone.with_params gives other actions than"):
        Setting(env=env, model=model, streams=streams, device=torch.device("cpu"))
