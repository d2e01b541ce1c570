"""Saved state coming back in parts: what doesn't fit is named with its part, and nothing is written
then. What doesn't fit in files of every learner is tested in tests/cli/test_strangers.py."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metarl.core import saved
from metarl.core.descent import Descent
from metarl.struct import map_tensors


def parts() -> dict[str, Any]:
    torch.manual_seed(0)
    module = nn.Linear(2, 1)
    found = {"module": module, "actor": Descent(dict(module.named_parameters()), lr=0.1)}
    found["critic"] = Descent({"weight": nn.Parameter(torch.ones(3))}, lr=0.1, halve_every=1)
    return found


def whole(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()} | {"has_begun": True}


def after_a_step() -> dict[str, Any]:
    made = parts()
    made["actor"].down(made["module"](torch.ones(4, 2)).sum())
    made["critic"].against({"weight": torch.tensor([1.0, 2.0, 3.0])})
    return made


def moment(parts: dict[str, Any]) -> Tensor:
    return parts["critic"].state_dict()["optimizer"]["state"][0]["exp_avg"]


def test_all_parts_come_back() -> None:
    made, state = parts(), map_tensors(torch.clone, whole(after_a_step()))
    saved.load_parts(state, whole(made), {name: made[name] for name in made})
    assert torch.equal(made["module"].weight, state["module"]["weight"])
    # Adam's mean of the gradients after one of them: (1 − 0.9) times it.
    torch.testing.assert_close(moment(made), torch.tensor([0.1, 0.2, 0.3]))
    assert made["critic"].lr == 0.05  # halved once


CUT = torch.zeros(2)
CASES: list[tuple[tuple[Any, ...], Any, str]] = [
    (("module", "weight"), CUT, "module.weight is a tensor (2,)"),
    (("actor",), 3, "actor is a int; expected a dict"),
    (("actor", "surplus"), 3, "actor.surplus isn't known here"),
    (("actor", "optimizer", "state", 1, "exp_avg"), CUT, "actor.optimizer.state.1.exp_avg is"),
    (("critic", "optimizer", "param_groups"), [], "critic.optimizer.param_groups is a list of 0"),
    (("critic", "schedule", "last_epoch"), "one", "critic.schedule.last_epoch is a str"),
    (("surplus",), 3, "surplus isn't known here"),
    (("has_begun",), 3, "has_begun is a int; expected a bool"),
]


@pytest.mark.parametrize(("place", "value", "said"), CASES, ids=lambda x: str(x)[:40])
def test_what_does_not_fit_is_named_with_its_part(
    place: tuple[Any, ...], value: Any, said: str
) -> None:
    made, state = parts(), whole(after_a_step())
    entry: Any = state
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    weight = made["module"].weight.clone()
    with pytest.raises(ValueError) as refused:
        saved.load_parts(state, whole(made), {name: made[name] for name in made})
    assert said in str(refused.value)
    assert torch.equal(made["module"].weight, weight)
    assert not made["critic"].state_dict()["optimizer"]["state"]


@pytest.mark.parametrize("name", ["module", "critic", "has_begun"])
def test_what_is_missing_is_named(name: str) -> None:
    made, state = parts(), whole(after_a_step())
    del state[name]
    with pytest.raises(ValueError, match=f"^{name} is missing$"):
        saved.load_parts(state, whole(made), {name: made[name] for name in made})
