"""How training went, as numbers: the smoothed curve of several seeds, their mean, and a band around
it."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from metarl.rl.evaluation.several_runs import interval_over_seeds
from metarl.struct import replace, struct

Row = Mapping[str, float]

FEWEST_SEEDS = 3  # whose mean gets an interval
_STEPS = ("env_steps", "tasks")  # what rows count besides time
_MOST_POINTS = 50  # that a running mean leaves to tell apart


@struct
class TrainingCurve:
    """A number of S seeds at T counts, as far as all of them have come."""

    x: np.ndarray  # [T]
    raw: np.ndarray  # [S, T]
    smooth: np.ndarray  # [S, T] running means
    mean: np.ndarray  # [T] of the smooth ones
    low: np.ndarray  # [T] the 95 % interval of the mean, of two seeds from one to the other
    high: np.ndarray  # [T]
    window: int  # of how many points each one of `smooth` is the mean


def training_curve(runs: Sequence[Sequence[Row]], key: str, count: str) -> TrainingCurve:
    """The number `key` of the runs of one setting over the number `count`.

    It begins and ends where all of them tell that number. Over `time` the seeds are put together at
    the same steps, at the median of their times: they needn't have gone on machines that were
    equally busy.

    Args: runs: the rows of metrics.jsonl of each seed.
    """
    steps = next(
        (name for name in _STEPS if all(name in row for rows in runs for row in rows)), None
    )
    if count == "time" and steps is not None:
        curve = training_curve(runs, key, steps)
        column = lambda rows, name: np.array([row[name] for row in rows], dtype=float)
        times = [np.interp(curve.x, column(rows, steps), column(rows, "time")) for rows in runs]
        return replace(curve, x=np.median(times, axis=0))
    x = _common_counts(
        [np.array([row[count] for row in _told(rows, key)], dtype=float) for rows in runs]
    )
    window = max(1, len(x) // _MOST_POINTS)
    raw = np.stack([_values(rows, key, x, count) for rows in runs])
    smooth = np.stack([_running_mean(row, window) for row in raw])
    low, high = _band(smooth)
    return TrainingCurve(
        x=x, raw=raw, smooth=smooth, mean=smooth.mean(0), low=low, high=high, window=window
    )


def _told(rows: Sequence[Row], key: str) -> Sequence[Row]:
    """The rows from the first to the last one that tells the number; all where none does."""
    places = [i for i, row in enumerate(rows) if math.isfinite(row.get(key, math.nan))]
    return rows[places[0] : places[-1] + 1] if places else rows


def what_bands_are(num_seeds: Collection[int]) -> str:
    """What the bands around the means of several learners' curves are, in words; "" if there is
    none. Args: num_seeds: of each learner."""
    parts = ["the 95 % interval of the mean"] * (max(num_seeds, default=0) >= FEWEST_SEEDS)
    if any(1 < count < FEWEST_SEEDS for count in num_seeds):
        parts.append("of two seeds their range" if parts else "the range of two seeds")
    return ", ".join(parts)


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[S, T] of S seeds -> the ends [T] of the band around their mean. The interval of two seeds
    would be twelve times as wide as they are apart: then it is from one to the other."""
    if len(values) < FEWEST_SEEDS:
        return values.min(0), values.max(0)
    low, high = interval_over_seeds(torch.from_numpy(values))
    return low.numpy(), high.numpy()


def _common_counts(counts: Sequence[np.ndarray]) -> np.ndarray:
    """The counts of the shortest run within the range that all runs cover, and the begin of that."""
    shortest, begin = min(counts, key=lambda x: x[-1]), max(x[0] for x in counts)
    inside = shortest[shortest > begin]
    return np.concatenate([[min(begin, shortest[-1])], inside])


def _values(rows: Sequence[Row], key: str, x: np.ndarray, count: str) -> np.ndarray:
    """The numbers `key` of a run at the counts `x`; runs whose episodes end early have their rows
    at other steps. What isn't finite is bridged, for a running mean would hand it on to the end."""
    told = [row for row in rows if math.isfinite(row.get(key, math.nan))]
    if not told:
        return np.full(len(x), np.nan)
    return np.interp(x, [row[count] for row in told], [row[key] for row in told])


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of up to `window` values that end at each one: it never looks ahead."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
