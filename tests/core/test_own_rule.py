"""An inner rule of a user's own is tried out, and told what it does that no rule may."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.core.own_rule import OwnRule
from metarl.core.rules import Only, named_rule
from metarl.errors import SettingError

PARAMS = {"w": torch.ones(3, 2), "b": torch.zeros(2)}


class Rule:
    """Steps by what it learned, unless a test says otherwise."""

    def __init__(self, step: Callable[..., Any] | None = None, init: Any = None) -> None:
        self.step, self.learned = step, init

    def init(self, params: Any) -> Any:
        return {"rate": torch.tensor(0.1)} if self.learned is None else self.learned

    def __call__(self, params: Any, grads: Any, rule_params: Any, step: int) -> Any:
        if self.step is not None:
            return self.step(params, grads)
        return {n: leaf - rule_params["rate"] * grads[n] for n, leaf in params.items()}


def stepped(params: dict[str, Tensor], grads: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: leaf - grads[name] for name, leaf in params.items()}


def in_place(params: Any, grads: Any) -> Any:
    params["w"] -= grads["w"]
    return dict(params)


def test_a_rule_that_is_one_does_what_it_does() -> None:
    rule = named_rule(Rule(), 0.5)
    learned = rule.init(PARAMS)
    assert isinstance(rule, OwnRule) and learned["rate"] == 0.1
    found = rule(PARAMS, {"w": torch.ones(3, 2), "b": torch.ones(2)}, learned, 0)
    torch.testing.assert_close(found, {"w": torch.full((3, 2), 0.9), "b": torch.full((2,), -0.1)})
    assert PARAMS["w"].unique().tolist() == [1.0]  # No trial has changed them.
    partly = named_rule(Rule(), 0.5, adapt_only=["b"])
    assert isinstance(partly, Only) and partly.init(PARAMS)["rate"] == 0.1


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule(init=3), "Rule.init returned a int; expected the rule's learned parameters"),
        (Rule(init={"r": 0.1}), "Rule.init returned a float as r; expected the rule's learned"),
        (Rule(init={"r": torch.tensor(1)}), "Rule.init returned a tensor [] of int64 as r"),
        (Rule(lambda p, g: None), "Rule returned None; expected the updated parameters by name"),
        (Rule(lambda p, g: {"b": p["b"]}), "Rule returned no w; expected the parameters that it"),
        (Rule(lambda p, g: p | {"c": p["b"]}), "Rule returned also c; expected the parameters"),
        (
            Rule(lambda p, g: p | {"w": p["w"].sum(-1)}),
            "Rule returned a tensor [3] of float32 as w; expected a tensor [3, 2] of float32",
        ),
        (Rule(lambda p, g: p | {"w": p["w"].double()}), "as w; expected a tensor [3, 2] of float"),
        (Rule(lambda p, g: p | {"b": p["b"] / 0}), "Rule returned NaN or infinity in b for a"),
        (Rule(in_place), "Rule changed w in place; expected new tensors, so that gradients flow"),
        (
            Rule(lambda p, g: stepped(p, {n: leaf - leaf.mean(0) for n, leaf in g.items()})),
            "Rule isn't elementwise: with the parameters of two tasks stacked, [N, ...], it gives",
        ),
    ],
)
def test_what_no_rule_may_do_is_told(rule: Rule, said: str) -> None:
    with pytest.raises(SettingError, match=re.escape(said)):
        named_rule(rule, 0.5).init(PARAMS)


def test_a_rule_that_remembers_between_calls_is_told() -> None:
    speed: dict[str, torch.Tensor] = {}

    def with_momentum(params: dict[str, torch.Tensor], grads: dict[str, torch.Tensor]) -> Any:
        speed.update({n: 0.9 * speed.get(n, torch.zeros(())) + leaf for n, leaf in grads.items()})
        return stepped(params, speed)

    with pytest.raises(SettingError, match="another w when it is called again.* keeps nothing"):
        named_rule(Rule(with_momentum), 0.5).init(PARAMS)


def test_what_is_no_rule_is_told() -> None:
    with pytest.raises(SettingError, match="inner_rule function has no init: expected sgd, "):
        named_rule(lambda params: params, 0.5)
    with pytest.raises(SettingError, match="expected sgd, learned_rates, per_step_rates, or an In"):
        named_rule(3, 0.5)
