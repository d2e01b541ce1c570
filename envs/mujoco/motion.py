"""Parts of the rewards for moving. They take few and quick torch operations, because every control
step pays for them."""

import torch
from torch import Tensor


def mean_velocity(before: Tensor, now: Tensor, seconds: float) -> Tensor:
    """[W] float32 in m/s, from x [W] in m at both ends of a control step. Only the difference needs
    the simulator's precision."""
    return ((now - before) / seconds).float()


def squared_norm(control: Tensor) -> Tensor:
    """[W] ‖a‖² of control [W, A]. By the norm, which takes half the time of a sum of squares."""
    return torch.linalg.vector_norm(control, dim=-1).square()
