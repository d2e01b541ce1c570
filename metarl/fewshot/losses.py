"""What a prediction is trained by and judged by: cross-entropy and accuracy for classes, squared
error for values.

All take one task, [B, W] and [B] or [B, O] and [B, O], or N tasks with a leading dimension, and
give one number for each.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from metarl.errors import SettingError
from metarl.struct import struct


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """−log softmax(logits)[y], mean over examples: [..., B, W], [..., B] -> [...]."""
    _check(logits, y, logits.shape[:-1] == y.shape, "answers [..., B, W] to labels [..., B]")
    return -functional.log_softmax(logits, -1).gather(-1, y.unsqueeze(-1)).squeeze(-1).mean(-1)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The share of examples whose largest logit is the right one: [..., B, W], [..., B] -> [...].

    Where k logits share the largest value and the right one is among them, that example counts 1/k,
    as a fair draw would on average: a learner that knows nothing yet scores 1/W, not all or nothing
    by the order of the labels. NaN for a task with answers that are NaN or infinite: those of a
    network that has diverged, and not just wrong; a logit of −∞ is an answer.
    """
    best = logits == logits.amax(-1, keepdim=True)
    right = best.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    share = right / best.sum(-1).clamp(min=1)
    return share.masked_fill((logits < torch.inf).all(-1).logical_not(), torch.nan).mean(-1)


def mean_squared_error(values: Tensor, y: Tensor) -> Tensor:
    """Mean of (values − y)² over examples and outputs: [..., B, O] twice -> [...]."""
    # Else they would be broadcast against each other, to other numbers.
    _check(values, y, values.shape == y.shape, "answers [..., B, O] to values of the same shape")
    return (values - y).square().mean((-2, -1))


def _check(answers: Tensor, y: Tensor, is_right: bool, expected: str) -> None:
    if not is_right:
        raise SettingError(
            f"answers {list(answers.shape)} to questions whose right ones are {list(y.shape)}; "
            f"expected {expected}"
        )


@struct
class Objective:
    """What to lower, and what to report under which name."""

    loss: Callable[[Tensor, Tensor], Tensor]
    measure: Callable[[Tensor, Tensor], Tensor]
    measure_name: str
    best: Callable[[Iterable[Any]], Any]  # of several measures


OBJECTIVES: dict[Literal["classification", "regression"], Objective] = {
    "classification": Objective(
        loss=cross_entropy, measure=accuracy, measure_name="accuracy", best=max
    ),
    "regression": Objective(
        loss=mean_squared_error, measure=mean_squared_error, measure_name="mse", best=min
    ),
}
