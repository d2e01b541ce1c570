"""An inner loss of a user's own is what the step lowers, and is tried on its first episodes."""

import pickle
from typing import Any

import pytest
import torch
from support.gradient_learners import make
from torch import Tensor

from metarl.errors import SettingError
from metarl.rl.adapters.own_loss import OwnLoss
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.algorithms.maml_trpo import MamlTRPO
from metarl.rl.data.batches import PolicyBatch
from metarl.rl.losses import lvc


class Ratio:
    """What lvc is."""

    def __call__(self, log_prob: Tensor, batch: PolicyBatch) -> Tensor:
        return lvc(log_prob, batch.log_prob, batch.advantage, batch.weight)


def first_batch() -> PolicyBatch:
    learner = make(MamlPPO)
    return learner._inner.batch(learner.source.gather(learner.adapter()).support[0])


def in_place(log_prob: Tensor, batch: PolicyBatch) -> Tensor:
    batch.advantage.mul_(2)
    return (log_prob * batch.advantage).mean(-1)


@pytest.mark.parametrize("kind", [MamlPPO, MamlTRPO])
def test_a_loss_that_is_ours_learns_what_ours_does(kind: Any) -> None:
    ours, own = make(kind, inner_loss="lvc"), make(kind, inner_loss=Ratio())
    for _ in range(2):
        assert ours.step() == own.step()
    for name, leaf in ours.params.joined.items():
        assert torch.equal(leaf, own.params.joined[name]), name
    other = make(kind, inner_loss=lambda log_prob, batch: 2 * Ratio()(log_prob, batch))
    other.step()
    assert any(not torch.equal(v, other.params.joined[k]) for k, v in own.params.joined.items())
    pickle.dumps(own.adapter())


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda lp, b: -(lp * b.advantage).mean(), r"returned a tensor \[\] of float32; expected"),
        (lambda lp, b: -(lp * b.advantage), r"returned a tensor \[3, \d+\] of float32; expected"),
        (lambda lp, b: 0.0, "returned a float; expected one floating-point number for each"),
        (lambda lp, b: b.log_prob.mean(-1), "doesn't depend on the log-probabilities"),
        (lambda lp, b: lp.mean(-1).detach(), "doesn't depend on the log-probabilities"),
        (lambda lp, b: (lp - lp.detach()).sqrt().mean(-1), "or its gradient is NaN or infinite"),
        (in_place, r"in_place changed batch.advantage in place"),
        (
            lambda lp, b: -(lp * (b.advantage - lp.detach().mean())).mean(-1),
            "by themselves and .* beside others; expected the same",
        ),
    ],
)
def test_what_no_loss_may_do_is_told(loss: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        OwnLoss(loss).try_on(first_batch())


def test_it_is_tried_once_and_before_any_step() -> None:
    calls = []

    def loss(log_prob: Tensor, batch: PolicyBatch) -> Tensor:
        calls.append(len(log_prob))
        return Ratio()(log_prob, batch)

    own, batch = OwnLoss(loss), first_batch()
    own.try_on(batch)
    own.try_on(batch)
    assert calls == [3, 1, 1]
    learner = make(MamlPPO, inner_loss=lambda log_prob, batch: log_prob.mean())
    before = {name: leaf.clone() for name, leaf in learner.params.joined.items()}
    with pytest.raises(SettingError, match="expected one floating-point number for each"):
        learner.step()
    assert all(torch.equal(leaf, before[name]) for name, leaf in learner.params.joined.items())


def test_what_is_no_loss_is_told() -> None:
    with pytest.raises(SettingError, match="inner_loss is a int; expected lvc, reinforce or dice"):
        OwnLoss(3)
