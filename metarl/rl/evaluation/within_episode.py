"""What changes within an episode: for learners that adapt at every step, and whose trial may be a
single episode, that is all there is.

Values are [N, E, T], `running` [N, E, T] says which steps were taken.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.struct import struct

SHARE = 10  # the first and the last tenth are compared
MOST_STRETCHES = 20  # that a profile tells apart


@struct
class Steps:
    """The steps of episodes, leaves [..., T]; zeros where `running` is False."""

    reward: Tensor
    running: Tensor  # bool
    # By name, what the learner measures of its steps, for instance its model's error
    measured: dict[str, Tensor]


def stacked(steps: Sequence[Steps]) -> Steps:
    """K + 1 times leaves [N, E, T] -> leaves [N, K + 1, E, T]; of what is measured, what is
    measured every time."""
    names = [name for name in steps[0].measured if all(name in part.measured for part in steps)]
    return Steps(
        reward=torch.stack([part.reward for part in steps], dim=1),
        running=torch.stack([part.running for part in steps], dim=1),
        measured={
            name: torch.stack([part.measured[name] for part in steps], dim=1) for name in names
        },
    )


def first_and_last_tenth(values: Tensor, running: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sums [N, E] over the first and over the last ⌈L / 10⌉ steps of every episode,
    with L its own length. Both have as many steps, so that they can be compared even where episodes
    end early."""
    length = running.sum(-1, keepdim=True)
    tenth = (length + SHARE - 1) // SHARE
    step = torch.arange(values.shape[-1], device=values.device)
    first = values.masked_fill(step >= tenth, 0).sum(-1)
    last = values.masked_fill((step < length - tenth) | (step >= length), 0).sum(-1)
    return first, last


def mean_in_tenths(values: Tensor, running: Tensor) -> tuple[float, float]:
    """Means per step in the first and the last tenth, over all episodes; 0 where there is no
    step."""
    steps, _ = first_and_last_tenth(running.to(values), running)
    first, last = first_and_last_tenth(values, running)
    count = steps.sum().clamp(min=1)
    return (first.sum() / count).item(), (last.sum() / count).item()


def profile(values: Tensor, running: Tensor) -> tuple[list[int], Tensor]:
    """The mean per step in up to 20 stretches of the horizon, and the number of the step that each
    of them ends with.

    Returns: the ends, and [N, stretches], NaN for a task none of whose episodes came so far.
    """
    horizon = values.shape[-1]
    ends = [
        horizon * (i + 1) // min(horizon, MOST_STRETCHES)
        for i in range(min(horizon, MOST_STRETCHES))
    ]
    sizes = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    sums, counts = (
        torch.stack([part.sum((1, 2)) for part in x.double().split(sizes, dim=-1)], dim=1)
        for x in (values, running)
    )
    return ends, sums / counts
