"""What agents could earn on velocity tasks that don't adapt, or adapt no further than to choose one
of few speeds."""

import torch
from torch import Tensor


def best_speeds(targets: Tensor, num_speeds: int) -> Tensor:
    """The k speeds [k], rising, with the least mean distance from the targets [N] to the nearest of
    them: their k-medians.

    Exact, by dynamic programming: sorted targets fall into k stretches, and a stretch is served
    best by its median. Raises: ValueError unless 1 ≤ num_speeds ≤ N.
    """
    if not 1 <= num_speeds <= len(targets):
        raise ValueError(
            f"num_speeds is {num_speeds}; expected 1 to {len(targets)}, the number of targets"
        )
    ordered = targets.detach().to("cpu", torch.float64).sort().values
    cost = _costs(ordered)
    # Of the first `end` targets, with so many stretches
    least = torch.full((len(cost),), torch.inf, dtype=torch.float64)
    least[0] = 0.0
    starts = []
    for _ in range(num_speeds):
        least, start = (least[:, None] + cost).min(0)
        starts.append(start)
    end, speeds = len(ordered), []
    for start in reversed(starts):
        begin = int(start[end])
        speeds.append(ordered[(begin + end) // 2])
        end = begin
    return torch.stack(speeds[::-1])


def mean_miss(targets: Tensor, speeds: Tensor) -> float:
    """The mean distance of the targets [N] from the nearest of the speeds [k]."""
    return (targets.double().cpu()[:, None] - speeds).abs().amin(1).mean().item()


def _costs(ordered: Tensor) -> Tensor:
    """[N + 1, N + 1]: the distances of the targets start, ..., end − 1 from their median, summed;
    infinite where there are none."""
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    start, end = (
        torch.arange(len(sums))[shape] for shape in ((slice(None), None), (None, slice(None)))
    )
    middle = (start + end) // 2
    above = sums[end] - sums[middle] - (end - middle) * ordered[middle.clamp(max=len(ordered) - 1)]
    below = (middle - start) * ordered[middle.clamp(max=len(ordered) - 1)] - (
        sums[middle] - sums[start]
    )
    return (above + below).masked_fill(end <= start, torch.inf)
