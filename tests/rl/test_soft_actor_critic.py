"""Soft actor-critic's targets by hand, and the slow copy."""

import pytest
import torch

from metarl.rl.soft_actor_critic import bellman_error, bellman_target, follow, soft_value


def test_targets_by_hand():
    """3 + 0.5 · 4 = 5; where the episode failed, nothing comes after the reward."""
    found = bellman_target(
        torch.tensor([3.0, 3.0]),
        torch.tensor([False, True]),
        torch.tensor([4.0, 4.0]),
        discount=0.5,
    )
    assert found.tolist() == [5.0, 3.0]


def test_errors_of_both_critics_are_added_and_targets_are_constants():
    q = torch.tensor([[1.0], [4.0]], requires_grad=True)
    target = torch.tensor([2.0], requires_grad=True)
    found = bellman_error(q, target)
    assert found.tolist() == [1.0 + 4.0]
    found.sum().backward()
    assert q.grad.tolist() == [[-2.0], [4.0]] and target.grad is None


def test_soft_value_takes_the_smaller_critic_and_pays_for_entropy():
    q = torch.tensor([[1.0, 7.0], [3.0, 5.0]])
    assert soft_value(q, torch.tensor([-2.0, 1.0]), 0.5).tolist() == [2.0, 4.5]


def test_the_copy_follows_by_its_share():
    target, source = {"a": torch.tensor([0.0, 10.0])}, {"a": torch.tensor([1.0, 0.0])}
    for _ in range(3):
        follow(target, source, 0.25)
    assert target["a"].tolist() == pytest.approx([1 - 0.75**3, 10 * 0.75**3])
    assert source["a"].tolist() == [1.0, 0.0]
