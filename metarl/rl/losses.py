"""Policy-gradient losses, to be minimised: log-probabilities and advantages of each task's steps ->
one number a task.

Shapes: [..., B] steps of each task (B = E * T), reduced to [...]; `mask` is False on padding, or a
weight of each step, 0 on padding. A task all of whose steps are padding has a loss of 0. Advantages
are constants. What differs is the *second* derivative, that is what MAML's meta-gradient sees when
it goes through the inner step.
"""

import torch
from torch import Tensor
from torch.nn import functional


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of x [..., B] over the steps where mask [..., B] is True, or weighted by it; 0 where
    there is no such step."""
    count = mask.sum(-1)
    return (x * mask).sum(-1) / (count + (count == 0))


def log_ratio(log_prob: Tensor, log_prob_old: Tensor, mask: Tensor) -> Tensor:
    """log π / π_old [..., B]; 0 on padding, whose actions nobody took: under a policy of little noise
    they may have a density whose exponential is infinite, and 0 times that is NaN."""
    return (log_prob - log_prob_old).where(mask != 0, 0.0)


def reinforce(log_prob: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """−E[log π(a|s) A] (Williams 1992). Its derivative differentiated again misses the term through
    the sampling of the data: the meta-gradient of the original MAML implementation, biased
    (Rothfuss et al. 2019, arXiv:1810.06784, section 4)."""
    return -masked_mean(log_prob * advantage, mask)


def lvc(log_prob: Tensor, log_prob_old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """−E[π(a|s) / π_old(a|s) A]: low variance curvature (Rothfuss et al. 2019, arXiv:1810.06784,
    eq. 11).

    The gradient at π = π_old is `reinforce`'s; the Hessian also holds ∇log π ∇log πᵀ A, the
    sampling's part.
    """
    return -masked_mean(log_ratio(log_prob, log_prob_old, mask).exp() * advantage, mask)


def dice(log_prob: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """DiCE for advantages (Foerster et al. 2018, arXiv:1802.05098; Farquhar et al. 2019,
    arXiv:1909.10549).

        −1/n Σ (□ₜ − □ₜ₋₁) Aₜ,     □ₜ = exp(x − stop_gradient(x)),  x = Σ_{s ≤ t} log π_s,  □₋₁ = 1

    The gradient is `reinforce`'s. Unbiased at every order, at the price of a variance that grows
    with the horizon. □ₜ Aₜ would count an advantage for all steps before it: that form is for
    rewards, which add up to the same as returns do here.

    Args: log_prob, advantage, mask: [..., E, T]: here time must be a dimension of its own.
    Returns: [...], of value 0.
    """
    cumulative = (log_prob * (mask != 0)).cumsum(-1)
    magic_box = torch.exp(cumulative - cumulative.detach())
    before = torch.cat([torch.ones_like(magic_box[..., :1]), magic_box[..., :-1]], dim=-1)
    return -masked_mean(((magic_box - before) * advantage).flatten(-2), mask.flatten(-2))


def e_maml(log_prob: Tensor, later_return: Tensor, mask: Tensor) -> Tensor:
    """−Σ log π(a|s) R: E-MAML's term (Stadie et al. 2018, arXiv:1803.01118), the sampling's credit
    for what it leads to.

    Added to the outer loss of a learner whose inner loss is `reinforce`, it makes the meta-gradient
    that of the return after updates on sampled episodes, without bias. A sum, for the probability
    of all the steps is their product: with many steps its variance is large, and a baseline of R is
    worth much.

    Args:
      log_prob: [..., B] of the steps of one update's data, under the policy that sampled them: a
        function of θ, through the updates before. mask: [..., B].
      later_return: [...] mean return after all updates, perhaps less a baseline that doesn't depend
        on the data. A constant.
    Returns: [...].
    """
    return -(log_prob * mask).sum(-1) * later_return.detach()


def ppo_clip(
    log_prob: Tensor, log_prob_old: Tensor, advantage: Tensor, mask: Tensor, *, clip: float
) -> Tensor:
    """−E[min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)], ρ = π / π_old (Schulman et al. 2017, arXiv:1707.06347,
    eq. 7)."""
    ratio = log_ratio(log_prob, log_prob_old, mask).exp()
    return -masked_mean(
        torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage), mask
    )


def clipped_huber(value: Tensor, target: Tensor, before: Tensor, *, clip: float) -> Tensor:
    """½ max(h(V − target), h(V_before + clip(V − V_before, ±ε) − target)), elementwise, with
    Huber's h(x) = ½ x² up to |x| = 1 and |x| − ½ beyond.

    A value that has moved by more than ε earns nothing by going on in its direction. The published
    VariBAD and RL² learn by it; the ½ before it is theirs, beside Huber's own.

    Args: before: the value as it was while acting, a constant.
    """
    moved = before + (value - before).clamp(-clip, clip)
    losses = (functional.smooth_l1_loss(x, target, reduction="none") for x in (value, moved))
    return 0.5 * torch.maximum(*losses)
