"""Inner rules: hand arithmetic, and the same for one task and for stacked ones."""

import math

import pytest
import torch
from support.type_checks import WrongType  # raised in place of ours

from metarl.core import params as P
from metarl.core.rules import LearnedRates, Only, PerStepRates, Sgd, moved_by, named_rule

PARAMS = {
    "body.weight": torch.tensor([[1.0, 2.0]]),
    "head.weight": torch.tensor([3.0]),
    "head2.weight": torch.tensor(4.0),
}
GRADS = {
    "body.weight": torch.tensor([[10.0, 20.0]]),
    "head.weight": torch.tensor([30.0]),
    "head2.weight": torch.tensor(40.0),
}


def test_sgd_subtracts_the_rate_times_the_gradient():
    updated = Sgd(0.1)(PARAMS, GRADS, {}, 0)
    assert {name: leaf.flatten().tolist() for name, leaf in updated.items()} == {
        "body.weight": [0.0, 0.0],
        "head.weight": [0.0],
        "head2.weight": [0.0],
    }


def test_later_rate_holds_from_the_second_step():
    rule = Sgd(0.1, later_lr=0.05)
    # 3 − .1 · 30 = 0, then 3 − .05 · 30 = 1.5
    assert [rule(PARAMS, GRADS, {}, k)["head.weight"].item() for k in range(3)] == pytest.approx(
        [0.0, 1.5, 1.5]
    )


def test_learned_rates_act_entry_by_entry():
    rates = LearnedRates(0.1).init(PARAMS)
    rates["body.weight"] = torch.tensor([[0.1, 0.01]])
    # 1 − .1 · 10 = 0 and 2 − .01 · 20 = 1.8
    assert LearnedRates(0.1)(PARAMS, GRADS, rates, 0)["body.weight"].tolist() == [
        [0.0, pytest.approx(1.8)]
    ]


def test_per_step_rates_keep_the_last_rate_past_the_trained_steps():
    rule = PerStepRates(0.1, 2)
    rates = rule.init(PARAMS)
    rates["head.weight"] = torch.tensor([0.1, 0.02])
    # 3 − .1 · 30 = 0, then 3 − .02 · 30 = 2.4
    assert [rule(PARAMS, GRADS, rates, k)["head.weight"].item() for k in range(4)] == pytest.approx(
        [0, 2.4, 2.4, 2.4]
    )


def test_per_step_rates_begin_with_one_that_decays():
    rates = PerStepRates(0.4, 3, decay=0.5).init(PARAMS)
    assert rates["head.weight"].tolist() == pytest.approx([0.4, 0.2, 0.1])


def test_named_rules_have_the_numbers_of_the_settings():
    assert named_rule("sgd", 0.1, decay=0.5) == Sgd(0.1, later_lr=0.05)
    assert named_rule("sgd", 0.1) == Sgd(0.1, later_lr=0.1)
    assert named_rule("learned_rates", 0.1) == LearnedRates(0.1)
    assert named_rule("per_step_rates", 0.1, decay=0.5, num_steps=3) == PerStepRates(0.1, 3, 0.5)
    assert named_rule("per_step_rates", 0.1) == PerStepRates(0.1, 1, 1.0)
    only = named_rule("sgd", 0.1, adapt_only=["head"])
    assert only == Only(Sgd(0.1, later_lr=0.1), ("head",))
    assert moved_by(only, PARAMS) == ["head.weight"] and moved_by(Sgd(0.1), PARAMS) == [*PARAMS]
    with pytest.raises(ValueError, match="inner_lr_decay 0.5: learned_rates has one rate"):
        named_rule("learned_rates", 0.1, decay=0.5)
    with pytest.raises(ValueError, match="non-empty sequence of names"):
        named_rule("sgd", 0.1, adapt_only=[])


def test_only_changes_what_lies_under_the_prefix():
    updated = Only(Sgd(0.1), ("head",))(PARAMS, GRADS, {}, 0)
    assert updated["head.weight"].item() == pytest.approx(0.0)
    assert updated["body.weight"] is PARAMS["body.weight"]
    assert (
        updated["head2.weight"] is PARAMS["head2.weight"]
    )  # `head` isn't a path above `head2.weight`
    assert list(Only(LearnedRates(0.1), ("head", "body.")).init(PARAMS)) == [
        "body.weight",
        "head.weight",
    ]


@pytest.mark.parametrize(
    "rule",
    [Sgd(0.1), LearnedRates(0.1), PerStepRates(0.1, 3), Only(LearnedRates(0.2), ("head",))],
    ids=str,
)
def test_stacked_parameters_update_as_each_task_alone(rule):
    params = P.stack([PARAMS, P.scaled(PARAMS, 2.0), P.scaled(PARAMS, -1.0)])
    grads = P.stack([P.scaled(GRADS, 0.5), GRADS, GRADS])
    rule_params = {name: leaf * 1.5 for name, leaf in rule.init(PARAMS).items()}
    stacked = rule(params, grads, rule_params, 1)
    for i in range(3):
        alone = rule(P.task(params, i), P.task(grads, i), rule_params, 1)
        for name in PARAMS:
            assert torch.equal(stacked[name][i], alone[name])


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize(
    "make", [Sgd, LearnedRates, lambda lr: PerStepRates(lr, 2), lambda lr: Sgd(0.1, later_lr=lr)]
)
def test_a_rate_out_of_range_is_refused(make, lr):
    with pytest.raises(ValueError, match=f"lr {lr}: expected 0 or more"):
        make(lr)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="'hed'"):
        Only(Sgd(0.1), ("hed",)).init(PARAMS)
    with pytest.raises((ValueError, WrongType), match="'head'"):
        Only(Sgd(0.1), "head")
    with pytest.raises(ValueError, match="num_steps 0: expected 1 or more"):
        PerStepRates(0.1, 0)
