"""Steps of descent: Adam, limited norms, rates and penalties that follow a KL, and what isn't
finite is named."""

import math

import pytest
import torch

from metarl.core.descent import Descent, clipped, clipped_as_torch, follow_kl, follow_penalty
from metarl.struct import map_tensors


def parameters():
    return {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([[3.0], [0.5]])}


GRADIENT = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[0.0], [4.0]])}  # of norm 5


def test_adams_first_step_is_the_rate_against_each_sign():
    params = parameters()
    assert Descent(params, lr=0.1).against(GRADIENT) == 5.0
    # m̂ / (√v̂ + ε) is the sign of g at the first step, up to ε.
    torch.testing.assert_close(params["a"], torch.tensor([0.9, -2.0]))
    torch.testing.assert_close(params["b"], torch.tensor([[3.0], [0.4]]))


@pytest.mark.parametrize("clip", [clipped, clipped_as_torch])
def test_a_gradient_is_scaled_down_to_the_largest_norm_and_never_up(clip):
    limited, norm = clip(GRADIENT, 2.0)
    assert norm == 5.0
    torch.testing.assert_close(limited, map_tensors(lambda g: 0.4 * g, GRADIENT))
    for max_norm in (None, 7.0):
        torch.testing.assert_close(
            clip(GRADIENT, max_norm), (GRADIENT, torch.tensor(5.0)), rtol=0, atol=0
        )


def test_torchs_clipping_has_its_bits():
    leaves = [torch.randn(3, 2).requires_grad_() for _ in range(3)]
    gradient = {str(i): torch.randn(3, 2) for i in range(3)}
    for leaf, g in zip(leaves, gradient.values(), strict=True):
        leaf.grad = g.clone()
    expected = torch.nn.utils.clip_grad_norm_(leaves, 0.3)
    limited, norm = clipped_as_torch(gradient, 0.3)
    assert norm == expected
    assert all(torch.equal(leaf.grad, g) for leaf, g in zip(leaves, limited.values(), strict=True))


def test_a_loss_is_descended_and_what_it_doesnt_reach_stays():
    params = map_tensors(lambda leaf: leaf.requires_grad_(), parameters())
    norm = Descent(params, lr=0.1).down(params["a"].square().sum())
    assert norm == pytest.approx(math.hypot(2.0, 4.0))
    torch.testing.assert_close(params["a"].detach(), torch.tensor([0.9, -1.9]))
    assert torch.equal(params["b"], parameters()["b"])


def test_the_rate_is_halved_every_so_often_also_after_a_resume():
    params, rates = parameters(), []
    descent = Descent(params, lr=0.8, halve_every=3)
    for _ in range(4):
        descent.against(GRADIENT)
        rates.append(descent.lr.item())
    other = Descent(parameters(), lr=0.8, halve_every=3)
    other.load_state_dict(descent.state_dict())
    for _ in range(2):
        other.against(GRADIENT)
        rates.append(other.lr.item())
    assert rates == [0.8, 0.8, 0.4, 0.4, 0.4, 0.2]


def test_what_isnt_finite_is_named_and_nothing_moves():
    params = parameters()
    bad = {**GRADIENT, "b": torch.tensor([[0.0], [math.inf]])}
    with pytest.raises(FloatingPointError, match="the gradient of b holds NaN or infinity"):
        Descent(params, lr=0.1).against(bad)
    huge = {**GRADIENT, "a": torch.tensor([1e30, 1e30])}  # finite, but its square isn't, in float32
    with pytest.raises(FloatingPointError, match="norm is inf"):
        Descent(params, lr=0.1).against(huge)
    leaves = map_tensors(lambda leaf: leaf.requires_grad_(), parameters())
    with pytest.raises(
        FloatingPointError, match="gradient of a holds NaN or infinity; the loss is nan"
    ):
        Descent(leaves, lr=0.1).down((leaves["a"] * math.nan).sum())
    torch.testing.assert_close(params, parameters(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "setting", [{"lr": 0.0}, {"lr": 1.0, "max_norm": -1.0}, {"lr": 1.0, "halve_every": 0}]
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match="outer_lr 0.0|max_grad_norm -1.0|halve_every 0"):
        Descent(parameters(), **setting)


def test_rates_and_penalties_follow_their_targets_one_by_one():
    kl = torch.tensor([0.03, 0.02, 0.01, 0.005, 0.004, 0.004], dtype=torch.float64)
    lr = torch.tensor([0.3, 0.3, 0.3, 0.3, 0.3, 0.8], dtype=torch.float64)
    # Above twice 0.01 slower, below half of it faster, up to 1.
    assert follow_kl(lr, kl, target=0.01, max_lr=1.0).tolist() == pytest.approx(
        [0.2, 0.3, 0.3, 0.3, 0.45, 1.0]
    )
    kl = torch.tensor([0.016, 0.012, 0.006], dtype=torch.float64)
    coefficient = torch.full_like(kl, 0.7)
    followed = follow_penalty(coefficient, kl, target=0.01, start=0.7)
    assert followed.tolist() == pytest.approx([1.4, 0.7, 0.35])


def test_what_follows_a_kl_is_back_soon_after_a_long_quiet():
    """A weight that is halved without end becomes 0, which no doubling changes."""
    weight = lr = torch.tensor(0.5, dtype=torch.float64)
    none, much = torch.zeros(()), torch.tensor(1.0)
    for _ in range(1200):
        weight = follow_penalty(weight, none, target=0.01, start=0.5)
        lr = follow_kl(lr, much, target=0.01, max_lr=2.0)
    assert (weight.item(), lr.item()) == pytest.approx((5e-4, 2e-3))
    for _ in range(10):
        weight = follow_penalty(weight, much, target=0.01, start=0.5)
    for _ in range(18):
        lr = follow_kl(lr, none, target=0.01, max_lr=2.0)
    assert weight > 0.5 and lr == 2.0
    for _ in range(1200):
        weight = follow_penalty(weight, much, target=0.01, start=0.5)
    assert weight == 500.0


def test_a_rate_below_the_least_stays_there():
    """For what a schedule has brought down further, max_lr with it, or a file of before says so."""
    lr = torch.tensor(1e-5, dtype=torch.float64)
    assert follow_kl(lr, torch.tensor(1.0), target=0.01, max_lr=1.0).item() == pytest.approx(1e-5)
