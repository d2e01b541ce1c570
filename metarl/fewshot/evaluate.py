"""Measures how well an adapter answers on tasks it has never seen: accuracy or squared error after
0, 1, ..., K updates, with intervals.

Tasks are drawn and answered a few at a time, so that memory doesn't grow with their number.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from metarl.core.quantiles import t_quantile
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import Episodes, FewShotAdapter, Split, TaskSize, TaskSource
from metarl.struct import map_tensors, struct

TASKS_AT_A_TIME = 20  # Fixed, because it decides which numbers the generator gives to which task.


@struct
class Interval:
    """A mean over tasks and its 95 % interval, mean ± 1.96 · standard deviation / √N, as the papers
    report it."""

    mean: float
    half_width: float  # 0 for a single task
    num_tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.half_width:.4f}"


def interval(values: Tensor) -> Interval:
    """Returns the mean of one value a task, [N], and its interval. Raises: ValueError for no
    values, or one that isn't finite."""
    values = values.double()
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(
            f"values have the shape {tuple(values.shape)}; expected [N] with at least one task"
        )
    if not values.isfinite().all():
        raise ValueError(
            f"{values[~values.isfinite()][0].item()} among {len(values)} values; expected finite "
            "numbers"
        )
    spread = values.std().item() if len(values) > 1 else 0.0
    return Interval(
        mean=values.mean().item(),
        half_width=1.96 * spread / len(values) ** 0.5,
        num_tasks=len(values),
    )


def interval_over_seeds_and_tasks(values: Tensor) -> Interval:
    """Returns mean and interval of what another seed reaches on other tasks, from S ≥ 2 trainings
    that differ by their seed, measured on the same N tasks: [S, N].

        half-width² = t² · var(means of the seeds) / S + 1.96² · var(means of the tasks) / N

    Seeds are clusters: a seed's tasks have its network in common. They meet the same tasks, which
    say no more about tasks in general for being met again. t is Student's for S − 1 degrees of
    freedom: 12.7 for two seeds, 4.3 for three.
    """
    seeds, tasks = interval(values.double().mean(1)), interval(values.double().mean(0))
    of_seeds = seeds.half_width * t_quantile(0.95, len(values) - 1) / 1.96
    return Interval(
        mean=tasks.mean,
        half_width=math.hypot(of_seeds, tasks.half_width),
        num_tasks=tasks.num_tasks,
    )


def adaptation_measures(
    adapter: FewShotAdapter[Any],
    source: TaskSource,
    size: TaskSize,
    *,
    num_tasks: int,
    num_updates: int,
    generator: torch.Generator,
    split: Split = "test",
    device: torch.device | str = "cpu",
    on_tasks: Callable[[int], Any] = lambda count: None,
) -> Tensor:
    """Returns [N, K + 1]: for each task the accuracy (or squared error) on its query after k
    updates.

    Equal generators give the same tasks to every adapter, and a longer list of tasks starts with
    the shorter one.

    Args: on_tasks: called with the number of tasks that were just done, for a progress bar.
    """
    measure = OBJECTIVES[source.spec.kind].measure
    rows = []
    for count in at_a_time(num_tasks):
        episodes = draw(source, count, size, generator, split, device)
        rows.append(
            torch.stack(
                [measure(p, episodes.query.y) for p in predictions(adapter, episodes, num_updates)],
                1,
            )
        )
        on_tasks(count)
    return torch.cat(rows).cpu()


def draw(
    source: TaskSource,
    num: int,
    size: TaskSize,
    generator: torch.Generator,
    split: Split,
    device: torch.device | str = "cpu",
) -> Episodes:
    """Returns `num` tasks on the device. It always draws TASKS_AT_A_TIME of them, so that the tasks
    don't depend on their number."""
    episodes = source.sample(max(num, TASKS_AT_A_TIME), size, generator, split)
    return map_tensors(lambda leaf: leaf[:num].to(device), episodes)


def predictions(
    adapter: FewShotAdapter[Any], episodes: Episodes, num_updates: int
) -> Iterator[Tensor]:
    """What the adapter answers to the query before and after each update: K + 1 times [N, B,
    ...]."""
    state = adapter.begin(len(episodes.query.y))
    yield adapter.predict(state, episodes.query.x)
    for _ in range(num_updates):
        state = adapter.update(state, episodes.support)
        yield adapter.predict(state, episodes.query.x)


def at_a_time(num_tasks: int) -> Iterator[int]:
    """Yields how many tasks to draw and answer together, one such number after the other."""
    for start in range(0, num_tasks, TASKS_AT_A_TIME):
        yield min(TASKS_AT_A_TIME, num_tasks - start)
