"""Returns and advantages along the last dimension, time. Any leading dimensions; padded steps have
reward 0."""

import torch
from torch import Tensor
from torch.nn import functional


def discounted_returns(reward: Tensor, *, discount: float) -> Tensor:
    """The discounted sum of the rewards from each step to the end of its row.

        Rₜ = rₜ + γ Rₜ₊₁,     R_T = 0

    One row is one episode: nothing stops the sum at a boundary inside it.

    Args:
      reward: [..., T], 0 after the episode's end.
      discount: γ in [0, 1].
    Returns: [..., T].
    """
    if reward.device.type != "cpu":
        return summed_by_doubling(reward, torch.full_like(reward, discount))
    # Each in one piece of memory, which is faster to add up
    steps = reward.movedim(-1, 0).contiguous().unbind(0)
    running = torch.zeros_like(steps[0])
    returns = []
    for r in reversed(steps):
        running = torch.add(r, running, alpha=discount)
        returns.append(running)
    return torch.stack(returns[::-1], dim=-1)


def of_next_step(x: Tensor) -> Tensor:
    """x [..., T] of the step that follows each, and 0 or False after the last one."""
    return torch.cat([x[..., 1:], torch.zeros_like(x[..., :1])], dim=-1)


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    done: Tensor,
    *,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

        Aₜ = δₜ + γλ (1 − doneₜ) Aₜ₊₁,     δₜ = rₜ + γ (1 − terminatedₜ) V(s'ₜ) − V(sₜ)

    A time limit ends the sum but keeps the bootstrap; only `terminated` removes it.

    Args:
      reward, value, next_value: [..., T]; next_value is V of the true successor, before any reset.
      terminated, done: [..., T] bool; done = terminated or truncated.
    Returns: [..., T] advantages, not normalised. Gradients don't flow to `value`.
    Raises: ValueError if the shapes differ.
    """
    names = ("reward", "value", "next_value", "terminated", "done")
    tensors = (reward, value, next_value, terminated, done)
    shapes = {name: tuple(x.shape) for name, x in zip(names, tensors, strict=True)}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"gae needs tensors of one shape [..., T], got {shapes}")
    value, next_value = value.detach(), next_value.detach()
    delta = reward + discount * next_value * ~terminated - value
    # Converted first: a float times a bool is float32
    decay = discount * gae_lambda * (~done).to(reward.dtype)
    if delta.device.type != "cpu":
        return summed_by_doubling(delta, decay)
    running = torch.zeros_like(reward[..., 0])
    advantages = []
    for d, c in zip(reversed(delta.unbind(-1)), reversed(decay.unbind(-1)), strict=True):
        running = torch.addcmul(d, c, running)
        advantages.append(running)
    return torch.stack(advantages[::-1], dim=-1)


def summed_by_doubling(x: Tensor, decay: Tensor) -> Tensor:
    """The sums of a row from each step to its end, whose terms decay:

        yₜ = xₜ + cₜ yₜ₊₁,     y_T = 0

    In log₂ T rounds over all steps at once, each of which makes sums of twice as many terms: on a
    GPU every operation has a price, however small it is, and going from step to step takes T of
    them.

    Args: x, decay: [..., T]; decay is c.
    Returns: [..., T], up to rounding what going from step to step gives.
    """
    reach, num_steps = 1, x.shape[-1]
    while reach < num_steps:
        later, decay_later = (functional.pad(y[..., reach:], (0, reach)) for y in (x, decay))
        x, decay = torch.addcmul(x, decay, later), decay * decay_later
        reach *= 2
    return x
