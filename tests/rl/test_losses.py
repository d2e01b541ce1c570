"""Estimators against exhaustive enumeration: expectations over all trajectories of a tiny MDP, no
sampling."""

import itertools

import pytest
import torch
from torch import Tensor

from metarl.rl.losses import clipped_huber, dice, e_maml, lvc, ppo_clip, reinforce

HORIZON = 2
REWARD = torch.tensor(
    [[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64
)  # of action a at step t: [t][a]
BONUS = 4.0  # for taking action 1 twice: makes the steps depend on each other


def all_trajectories() -> tuple[Tensor, Tensor]:
    """Every action sequence [M, T] and its rewards [M, T]."""
    action = torch.tensor(list(itertools.product(range(2), repeat=HORIZON)))
    reward = torch.stack([REWARD[t, action[:, t]] for t in range(HORIZON)], dim=1)
    reward[:, -1] += BONUS * (action == 1).all(1)
    return action, reward


def step_log_probs(theta: Tensor, action: Tensor) -> Tensor:
    """log π(a_t) [M, T] of a policy with its own logit θ_t at every step."""
    return torch.nn.functional.logsigmoid(torch.where(action == 1, theta, -theta))


def expected_derivatives(estimator, theta: Tensor) -> tuple[Tensor, Tensor]:
    """E_τ[∇ L(τ)] and E_τ[∇² L(τ)] with the trajectories' probabilities held constant, as sampling
    holds them."""
    action, reward = all_trajectories()
    probability = step_log_probs(theta, action).sum(1).exp().detach()

    def mean_loss(theta: Tensor) -> Tensor:
        losses = estimator(
            step_log_probs(theta, action), step_log_probs(theta, action).detach(), reward
        )
        return (probability * losses).sum()

    return torch.autograd.functional.jacobian(mean_loss, theta), torch.autograd.functional.hessian(
        mean_loss, theta
    )


def true_derivatives(theta: Tensor) -> tuple[Tensor, Tensor]:
    action, reward = all_trajectories()

    def expected_return(theta: Tensor) -> Tensor:
        return (step_log_probs(theta, action).sum(1).exp() * reward.sum(1)).sum()

    return (
        torch.autograd.functional.jacobian(expected_return, theta),
        torch.autograd.functional.hessian(expected_return, theta),
    )


def reward_to_go(reward: Tensor) -> Tensor:
    return reward.flip(1).cumsum(1).flip(1)


def everything(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool)


THETA = torch.tensor([0.3, -0.7], dtype=torch.float64)
# The losses are means over steps and negative: −T times them is the return's scale.
SCALE = -HORIZON


def dice_on_returns(log_prob: Tensor, log_prob_old: Tensor, reward: Tensor) -> Tensor:
    rows = zip(log_prob, reward_to_go(reward), strict=True)
    return torch.stack([dice(lp[None], r[None], everything(r)[None]) for lp, r in rows])


def lvc_on_returns(log_prob: Tensor, log_prob_old: Tensor, reward: Tensor) -> Tensor:
    return lvc(log_prob, log_prob_old, reward_to_go(reward), everything(reward))


def reinforce_on_returns(log_prob: Tensor, log_prob_old: Tensor, reward: Tensor) -> Tensor:
    return reinforce(log_prob, reward_to_go(reward), everything(reward))


@pytest.mark.parametrize("estimator", [dice_on_returns, lvc_on_returns, reinforce_on_returns])
def test_expected_gradient_is_the_gradient_of_the_expected_return(estimator):
    gradient, _ = expected_derivatives(estimator, THETA)
    torch.testing.assert_close(SCALE * gradient, true_derivatives(THETA)[0], rtol=1e-12, atol=1e-12)


def test_dice_has_the_exact_expected_hessian():
    _, hessian = expected_derivatives(dice_on_returns, THETA)
    torch.testing.assert_close(SCALE * hessian, true_derivatives(THETA)[1], rtol=1e-12, atol=1e-12)


def test_an_advantage_counts_for_its_own_step_and_not_for_those_before():
    log_prob = torch.tensor(
        [[-0.3, -0.9, -0.1], [-0.5, -0.2, -7.0]], dtype=torch.float64, requires_grad=True
    )
    advantage = torch.tensor([[1.0, -2.0, 0.7], [0.5, 3.0, -9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    (gradient,) = torch.autograd.grad(dice(log_prob, advantage, mask), log_prob)
    # -A / n over the five steps.
    expected = torch.tensor([[-0.2, 0.4, -0.14], [-0.1, -0.6, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected)


def test_lvc_has_the_exact_hessian_within_a_step_and_reinforce_has_not():
    truth = true_derivatives(THETA)[1].diagonal()
    _, of_lvc = expected_derivatives(lvc_on_returns, THETA)
    _, of_reinforce = expected_derivatives(reinforce_on_returns, THETA)
    torch.testing.assert_close(SCALE * of_lvc.diagonal(), truth, rtol=1e-12, atol=1e-12)
    assert (
        SCALE * of_reinforce.diagonal() - truth
    ).abs().max() > 0.1  # the bias that algorithms must know of


def test_losses_ignore_padding():
    log_prob = torch.tensor([[-0.3, -0.9, -0.1], [-0.5, -0.2, -7.0]])
    advantage = torch.tensor([[1.0, -2.0, 99.0], [0.5, 3.0, -99.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    old = log_prob - 0.1
    for loss in (
        lambda lp, o, a, m: reinforce(lp, a, m),
        lvc,
        lambda lp, o, a, m: ppo_clip(lp, o, a, m, clip=0.2),
        lambda lp, o, a, m: dice(lp[:, None], a[:, None], m[:, None]),
    ):
        padded = loss(log_prob, old, advantage, mask)
        short = loss(log_prob[:, :2], old[:, :2], advantage[:, :2], mask[:, :2])
        torch.testing.assert_close(padded, short)


@pytest.mark.parametrize("loss", [lvc, lambda *given: ppo_clip(*given, clip=0.2)])
def test_padding_that_a_sure_policy_would_never_do_is_no_nan(loss):
    """The density of an action that nobody took may be too large for float32: 0 times infinity."""
    log_prob = torch.tensor([[-0.3, 200.0]], requires_grad=True)
    old, mask = torch.tensor([[-0.3, 0.0]]), torch.tensor([[1.0, 0.0]])
    found = loss(log_prob, old, torch.tensor([[2.0, 1.0]]), mask)
    (slope,) = torch.autograd.grad(found.sum(), log_prob)
    assert found.item() == -2.0 and slope.tolist() == [[-2.0, 0.0]]


def test_ppo_clip_by_hand():
    # Ratios 2, 0.5, 2, 0.5 at clip .2 with advantages 3, 5, −4, −2: min(6, 3.6), min(2.5, 4),
    # min(−8, −4.8), min(−1, −1.6)
    ratio, old = torch.tensor([2.0, 0.5, 2.0, 0.5]), torch.tensor([-0.1, -0.4, -2.0, -3.0])
    advantage = torch.tensor([3.0, 5.0, -4.0, -2.0])
    loss = ppo_clip(old + ratio.log(), old, advantage, everything(ratio), clip=0.2)
    torch.testing.assert_close(loss, torch.tensor(-(3.6 + 2.5 - 8.0 - 1.6) / 4))


def test_e_maml_by_hand():
    log_prob = torch.tensor([[-1.0, -2.0, 9.0], [-3.0, -4.0, -5.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    later_return = torch.tensor([10.0, 0.5], requires_grad=True)
    loss = e_maml(log_prob, later_return, mask)
    assert loss.tolist() == [30.0, 6.0]
    of_steps, of_returns = torch.autograd.grad(
        loss.sum(), (log_prob, later_return), allow_unused=True
    )
    assert of_steps.tolist() == [[-10.0, -10.0, 0.0], [-0.5, -0.5, -0.5]] and of_returns is None


def test_dice_of_many_tasks_is_that_of_each():
    log_prob, advantage = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mask = torch.rand(3, 4, 5) < 0.8
    log_prob.requires_grad_()
    rows = zip(log_prob, advantage, mask, strict=True)
    found, each = dice(log_prob, advantage, mask), torch.stack([dice(*row) for row in rows])
    for loss in (found, each):
        assert loss.shape == (3,)
    of_all, of_each = (
        torch.autograd.grad((loss * torch.arange(3.0)).sum(), log_prob)[0] for loss in (found, each)
    )
    torch.testing.assert_close(of_all, of_each)


@pytest.mark.parametrize(
    ("value", "target", "before", "expected", "slope"),
    [
        # Within the clip: half of Huber's ½ · .3².
        (1.3, 1.0, 1.25, 0.0225, 0.15),
        # Beyond 1 Huber's is |x| − ½: half of 2 − ½; V has hardly moved.
        (3.0, 1.0, 2.95, 0.75, 0.5),
        # V went from 2 to 1.5, towards 1: what counts is 2 − .1, half of ½ · .9². No slope is left.
        (1.5, 1.0, 2.0, 0.2025, 0.0),
        # V went too far, from 1.5 to .2: its own error is the larger, half of ½ · .8².
        (0.2, 1.0, 1.5, 0.16, -0.4),
    ],
)
def test_a_clipped_value_by_hand(value, target, before, expected, slope):
    now = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    others = torch.tensor([target, before], dtype=torch.float64)
    loss = clipped_huber(now, *others, clip=0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.grad(loss, now)[0].item() == pytest.approx(slope, abs=1e-12)
