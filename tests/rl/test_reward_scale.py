"""Scaled rewards: by hand, and what padding changes (nothing)."""

import math

import pytest
import torch

from metarl.rl.reward_scale import RewardScale


def test_rewards_are_divided_by_the_deviation_of_their_discounted_sums_so_far() -> None:
    """γ = ½. The sums of the two trials are 2, 4 after a step and −1 + 1 = 0, 6 + 2 = 8 after two.

    After one step their mean is 3 and their variance 1. After two they are 2, 4, 0, 8: the mean is
    3.5, the variance (2.25 + .25 + 12.25 + 20.25) / 4 = 8.75.
    """
    scale = RewardScale(discount=0.5)
    reward = torch.tensor([[2.0, 4.0], [-1.0, 6.0]])
    found = scale(reward, torch.ones(2, 2, dtype=torch.bool))
    expected = [[2.0, 4.0], [-1 / math.sqrt(8.75), 6 / math.sqrt(8.75)]]
    torch.testing.assert_close(found, torch.tensor(expected))
    # A new iteration's trials begin at 0: the sums are 1, 3; with those before, the mean of six is
    # 3, the variance (1 + 1 + 9 + 25 + 4 + 0) / 6 = 20 / 3.
    again = scale(torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(again, torch.tensor([[1.0, 3.0]]) / math.sqrt(20 / 3))


def test_what_is_far_out_is_clipped() -> None:
    scale = RewardScale(discount=0.0)
    real = torch.ones(2, 100, dtype=torch.bool)
    reward = torch.cat([torch.ones(1, 50), -torch.ones(1, 50)], dim=1).repeat(2, 1)
    reward[1, 0] = 1000.0  # one of 200: the deviation is about 71
    assert scale(reward, real)[1, 0].item() == 10.0


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    reward = torch.randn(5, 3)
    mask = torch.arange(5)[:, None] < torch.tensor([5, 2, 5])
    filled = torch.where(mask, reward, 99.0)
    one, other = (RewardScale(discount=0.9) for _ in range(2))
    found, again = one(torch.where(mask, reward, 0.0), mask), other(filled, mask)
    torch.testing.assert_close(found[mask], again[mask])
    torch.testing.assert_close(one.sums.variance, other.sums.variance)
    assert one.sums.count == mask.sum()


def test_a_row_of_padding_alone_is_left_as_it_is() -> None:
    scale = RewardScale(discount=0.9)
    mask = torch.tensor([[True, True], [False, False]])
    found = scale(torch.tensor([[1.0, 3.0], [7.0, 7.0]]), mask)
    assert found[1].tolist() == [7.0, 7.0]
    assert scale.sums.variance.item() == pytest.approx(1.0)
